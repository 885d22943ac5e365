"""The seam between the hierarchy and whatever predicts: decoded neighbours in, centre and class out, integers both ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import Mode
from latentzarr.codec import kernels
from latentzarr.geometry import ChunkGeometry, Order, Pass, PassKind
from latentzarr.models.network import LEVELS, IntegerNetwork
from latentzarr.models.weights import Model
from latentzarr.slices import Visit

__all__ = ["CUBIC_CONTEXTS", "CubicPredictor", "NeuralPredictor", "Prediction", "Predictor", "SliceStates"]

CUBIC_CONTEXTS = 16
RECIPROCALS = ((1 << 24) // np.arange(2048, 4096)).astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class SliceStates:
    """What is decoded so far, of all slices.

    Attributes
    ----------
    geometry : ChunkGeometry
    n : int32 array, shape (slices, rows * columns)
        Lattice units.
    activity : uint8 array, same shape
        How large each quantum was, in half octaves.
    missing : uint8 array, same shape
        1 where a value is not coded.
    any_missing : bool
    snap : bool
        Values are put on whole quanta (exact integers).
    """

    geometry: ChunkGeometry
    n: npt.NDArray[np.int32]
    activity: npt.NDArray[np.uint8]
    missing: npt.NDArray[np.uint8]
    any_missing: bool
    snap: bool = False

    @classmethod
    def empty(cls, geometry: ChunkGeometry, missing: npt.NDArray[np.uint8] | None, *, snap: bool = False) -> SliceStates:
        """Nothing decoded yet."""
        shape = geometry.slices, geometry.rows * geometry.columns
        nothing = np.zeros((geometry.slices, 1), np.uint8)
        return cls(
            geometry,
            np.zeros(shape, np.int32),
            np.zeros(shape, np.uint8),
            nothing if missing is None else missing.reshape(shape),
            missing is not None,
            snap,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a predictor says about the values of one pass over one slice, in the pass's C order.

    Attributes
    ----------
    centre : int32 array, shape (values,)
        Lattice units; ``|centre| <= 2**29``. For missing values the stand-in that later passes will see, below ``2**30``.
    classes : uint8 array, shape (values,)
        Below the predictor's number of classes.
    """

    centre: npt.NDArray[np.int32]
    classes: npt.NDArray[np.uint8]


class Predictor(Protocol):
    """Anything deterministic that predicts a pass from what is decoded. Wrong predictions cost bytes, never correctness."""

    @property
    def mode(self) -> Mode:
        """How frames coded with it are marked."""
        ...

    @property
    def order(self) -> Order:
        """The order of passes it predicts."""
        ...

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """Predict the values that ``step`` adds to a slice; the slices it may look at have this step already."""
        ...


@dataclass(frozen=True, eq=False)
class NeuralPredictor:
    """The integer network of a model.

    Attributes
    ----------
    model : Model
    reference : bool
        Whether slices look at those decoded before them.
    """

    model: Model
    reference: bool = True

    @property
    def mode(self) -> Mode:
        """See `Predictor.mode`."""
        return Mode.NEURAL if self.reference else Mode.INDEPENDENT

    @property
    def order(self) -> Order:
        """See `Predictor.order`."""
        return self.model.order

    @cached_property
    def weights(self) -> dict[tuple[PassKind, bool], tuple[npt.NDArray[np.float32], ...]]:
        """``w1, b1, w2, b2, w3, b3`` of each network, by kind of pass and whether there is a slice to look at."""
        networks = self.model.networks
        return {
            (kind, reference): _as_float(networks.choose(kind, reference=reference))
            for kind in list(PassKind)[: self.order.kinds]
            for reference in (False, True)
        }

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `Predictor.predict`."""
        centre = np.empty(step.size, np.int32)
        classes = np.empty(step.size, np.uint8)
        t, references = visit.slice, visit.references if self.reference else 0
        before, after = max(visit.before, 0), max(visit.after, 0)
        kernels.predict_pass(
            states.n[t], states.activity[t], states.missing[t], states.any_missing,
            states.n[before], states.activity[before], states.n[after], states.activity[after], references,
            states.geometry.columns, step.rows, step.columns, step.neighbour_rows, step.neighbour_columns,
            step.level + LEVELS * states.snap, step.grade(snap=states.snap)[1], RECIPROCALS,
            *self.weights[step.kind, references > 0], centre, classes,
        )  # fmt: skip
        return Prediction(centre, classes)


def _as_float(network: IntegerNetwork) -> tuple[npt.NDArray[np.float32], ...]:
    arrays: tuple[npt.NDArray[Any], ...] = (network.w1, network.b1, network.w2, network.b2, network.w3, network.b3)
    return tuple(np.ascontiguousarray(a, np.float32) for a in arrays)


@lru_cache(maxsize=16)
def neural_predictor(model: Model, *, reference: bool = True) -> NeuralPredictor:
    """One predictor for each model and process."""
    return NeuralPredictor(model, reference)


@dataclass(frozen=True, slots=True)
class CubicPredictor:
    """Cubic interpolation, with a context of 16 sizes of the quanta around: what codes data unlike any training data."""

    order: Order = Order.THREE_PASSES
    mode: Mode = Mode.CUBIC

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `Predictor.predict`."""
        centre = np.empty(step.size, np.int32)
        classes = np.empty(step.size, np.uint8)
        kernels.cubic_pass(
            states.n[visit.slice], states.activity[visit.slice], states.missing[visit.slice], states.any_missing,
            states.geometry.columns, step.rows, step.columns, step.neighbour_rows, step.neighbour_columns,
            step.kind is PassKind.CROSSINGS, centre, classes,
        )  # fmt: skip
        return Prediction(centre, classes)
