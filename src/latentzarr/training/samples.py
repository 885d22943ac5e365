"""Training samples from the true closed loop: the codec walks a case with the network of the moment, and we look on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentzarr.codec import kernels
from latentzarr.codec.hierarchy import Walk, encode_walk, tables_group
from latentzarr.codec.predictor import RECIPROCALS, Prediction, Predictor, SliceStates
from latentzarr.geometry import ChunkGeometry, Order, Pass, PassKind
from latentzarr.models.network import LEVELS, REFERENCE_INPUTS, SPATIAL_INPUTS
from latentzarr.slices import Visit
from latentzarr.training.cases import Case

__all__ = ["Samples", "collect", "walk_case"]

_MOST_OF_A_PASS = 2500
_LEAST_BITS = 0.06


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples of one kind of pass, as tensors of equal length.

    Attributes
    ----------
    inputs : int16, (n, 25, 37 or 39)
    target : float32, (n,)
        True value minus middle, in quanta.
    spread, logs : float32, (n,)
    bias_row, group : int64, (n,)
    weight : float32, (n,)
        How many values a sample stands for, over the bits its whole case costs (or its `Case.price`): cases count alike, whatever
        their bound.
    """

    inputs: Tensor
    target: Tensor
    spread: Tensor
    logs: Tensor
    bias_row: Tensor
    group: Tensor
    weight: Tensor

    def batch(self, size: int) -> Samples:
        """A random batch."""
        pick = torch.randint(0, len(self.target), (min(size, len(self.target)),))
        return Samples(*(getattr(self, name)[pick] for name in self.__slots__))


class _Watching:
    """A predictor that keeps samples of what another one is asked."""

    def __init__(self, inner: Predictor, case: Case, rng: np.random.Generator) -> None:
        self.inner, self.mode, self.rng = inner, inner.mode, rng
        self.target = case.target.reshape(len(case.target), -1)
        self.snap = case.snap
        self.seen: list[tuple[tuple[PassKind, bool], tuple[npt.NDArray[Any], ...]]] = []

    @property
    def order(self) -> Order:
        return self.inner.order

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        width, index, reference = states.geometry.columns, visit.slice, visit.references > 0
        before, after = max(visit.before, 0), max(visit.after, 0)
        inputs = np.empty((step.size, REFERENCE_INPUTS[self.order] if reference else SPATIAL_INPUTS), np.int16)
        base, spread, logs = (np.empty(step.size, np.int32) for _ in range(3))
        kernels.inputs_of_pass(
            states.n[index], states.activity[index], states.missing[index], states.any_missing,
            states.n[before], states.activity[before], states.n[after], states.activity[after], visit.references, width,
            step.rows, step.columns, step.neighbour_rows, step.neighbour_columns, RECIPROCALS, inputs, base, spread, logs,
        )  # fmt: skip
        at = (step.rows[:, None] * width + step.columns).ravel()
        pick = np.flatnonzero(states.missing[index][at] == 0) if states.any_missing else np.arange(len(at))
        total = len(pick)
        most = _MOST_OF_A_PASS if step.level < 2 else _MOST_OF_A_PASS // 2
        if total > most:
            pick = self.rng.choice(pick, most, replace=False)
        if total:
            group = tables_group(step.group, self.order, snap=self.snap) + 4 * self.order.kinds * reference
            columns = (
                inputs[pick],
                ((self.target[index][at[pick]] - base[pick]) / 16).astype(np.float32),
                spread[pick].astype(np.float32),
                logs[pick].astype(np.float32),
                np.full(len(pick), step.level + LEVELS * self.snap),
                np.full(len(pick), group),
                np.full(len(pick), total / len(pick), np.float32),
            )
            self.seen.append(((step.kind, reference), columns))
        return self.inner.predict(states, step, visit)


def _bits_per_value(walk: Walk) -> float:
    """A rough price of a case: the entropy of its quanta, pass by pass, and a sign for each that is not 0."""
    bits = 0.0
    for group in range(walk.groups.max(initial=0)):
        quanta = np.minimum(np.abs(walk.quanta[walk.groups == group]), 300)
        if len(quanta):
            share = np.bincount(quanta) / len(quanta)
            share = share[share > 0]
            bits += len(quanta) * float(-(share * np.log2(share)).sum() + (quanta > 0).mean())
    return bits / max(1, len(walk.quanta))


def walk_case(case: Case, predictor: Predictor) -> Walk | None:
    """A case as the codec walks a chunk; None where it leaves the format's range."""
    shape = ChunkGeometry(*case.target.shape)
    missing = case.missing.reshape(shape.slices, -1).astype(np.uint8) if case.missing.any() else None
    target = case.target.reshape(shape.slices, -1)
    return encode_walk(target, missing, shape, predictor, snap=case.snap, half_open=case.half_open, dyadic=case.dyadic)


def collect(
    cases: Sequence[Case],
    predictor: Predictor,
    rng: np.random.Generator,
    walk: Callable[[Any, Predictor], Walk | None] = walk_case,
) -> dict[tuple[PassKind, bool], Samples]:
    """Walk cases and gather samples by kind of pass, without and with a reference; ``walk`` says how a case is walked."""
    pool: dict[tuple[PassKind, bool], list[tuple[npt.NDArray[Any], ...]]] = {}
    for case in cases:
        watching = _Watching(predictor, case, rng)
        walked = walk(case, watching)
        if walked is None or len(walked.quanta) == 0:
            continue
        price = len(walked.quanta) * (case.price or _bits_per_value(walked) + _LEAST_BITS)
        for key, columns in watching.seen:
            pool.setdefault(key, []).append((*columns[:-1], (columns[-1] / price).astype(np.float32)))
    return {
        key: Samples(*(torch.from_numpy(np.ascontiguousarray(np.concatenate(column))) for column in zip(*rows, strict=True)))
        for key, rows in pool.items()
    }
