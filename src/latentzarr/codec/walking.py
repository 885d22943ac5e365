"""What coding and decoding a walk have in common: its root, predictions that are checked, states as kernels take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.tables import CLASSES
from latentzarr.codec import kernels
from latentzarr.codec.compiled import CompiledPredictor
from latentzarr.codec.predictor import Prediction, Predictor, SliceStates
from latentzarr.errors import GuaranteeBrokenError
from latentzarr.geometry import COARSEST_STRIDE, ChunkGeometry, Pass
from latentzarr.slices import Visit

__all__ = ["checked", "coded_only", "field_of", "root_of"]


def root_of(geometry: ChunkGeometry) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of the root."""
    return np.arange(0, geometry.rows, COARSEST_STRIDE), np.arange(0, geometry.columns, COARSEST_STRIDE)


def checked(predictor: Predictor, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
    """A prediction of the right shape and range, whoever made it."""
    found = predictor.predict(states, step, visit)
    sound = (
        found.centre.shape == found.classes.shape == (step.size,)
        and found.centre.dtype == np.int32
        and found.classes.dtype == np.uint8
        and bool((found.classes < CLASSES).all())
    )
    if not sound:
        raise GuaranteeBrokenError(f"predictor {type(predictor).__name__} returned arrays of a wrong shape, dtype or range")
    return found


def coded_only(classes: npt.NDArray[np.uint8], states: SliceStates, step: Pass, t: int) -> npt.NDArray[np.uint8]:
    """The classes of the values that are coded."""
    if not states.any_missing:
        return classes
    grid = states.missing[t].reshape(states.geometry.rows, states.geometry.columns)
    return classes[grid[np.ix_(step.rows, step.columns)].ravel() == 0]


def field_of(states: SliceStates, plan: tuple[Visit, ...], fast: CompiledPredictor) -> tuple[Any, ...]:
    """States as kernels take them, and beside them the means of the slices that others lie between, so far of the root."""
    between = [visit for visit in plan if visit.references == 2] if fast.looks else []
    means = np.zeros(states.n.shape if between else (1, 1), np.int32)
    rows, columns = (axis.astype(np.int32) for axis in root_of(states.geometry))
    for visit in between:
        kernels.average(states.n[visit.before], states.n[visit.after], rows, columns, states.geometry.columns, means[visit.slice])
    return states.n, states.activity, states.missing, states.any_missing, means
