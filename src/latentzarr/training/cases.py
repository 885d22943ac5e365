"""What the network is trained on: cut-outs of fields at drawn bounds, as the codec itself would put them on a lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError
from latentzarr.scaling import FRACTION, LATTICE_LIMIT

__all__ = ["Case", "CaseSource", "TrainingField"]

_DYADIC_SHARE = 0.6
_SIZES = (48, 64, 128, 256, 400)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One cut-out at one bound.

    Attributes
    ----------
    target : float64 array, shape (slices, rows, columns)
        Lattice units; 0 where missing.
    missing : bool array, same shape
    snap, half_open, dyadic : bool
        See `latentzarr.codec.hierarchy.encode_walk`.
    price : float
        Bits a value costs in what the case is a part of, so that the parts count by their bytes; 0: what it costs itself.
    """

    target: npt.NDArray[np.float64]
    missing: npt.NDArray[np.bool_]
    snap: bool
    half_open: bool
    dyadic: bool = False
    price: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TrainingField:
    """A variable to learn from.

    Attributes
    ----------
    name : str
    values : array, shape (slices, rows, columns)
        Floats (NaN is missing) or integers.
    missing_value : float or None
        A code that stands for missing.
    """

    name: str
    values: npt.NDArray[Any]
    missing_value: float | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or min(self.values.shape) < 1:
            raise InvalidConfigError(f"training field {self.name} must be (slices, rows, columns), is {self.values.shape}")


@dataclass(frozen=True, slots=True, eq=False)
class CaseSource:
    """Draws cases from fields.

    Attributes
    ----------
    fields : sequence of TrainingField
    log_bounds : pair of float
        log10 of the smallest and largest bound, as a fraction of the range of the slices drawn.
    integer_share : float
        How often an integer field is drawn where there are both kinds.
    """

    fields: Sequence[TrainingField]
    log_bounds: tuple[float, float] = (-4.1, -1.2)
    integer_share: float = 0.16

    def draw(self, rng: np.random.Generator) -> Case:
        """A case with something to code in it.

        Raises
        ------
        InvalidConfigError
            If a hundred tries found only constant or missing data.
        """
        for _ in range(100):
            case = self._try(rng)
            if case is not None:
                return case
        raise InvalidConfigError("the training data are constant or missing everywhere that was looked at")

    def _try(self, rng: np.random.Generator) -> Case | None:
        whole = [f for f in self.fields if f.values.dtype.kind in "iu"]
        real = [f for f in self.fields if f.values.dtype.kind == "f"]
        kind = whole if whole and (not real or rng.random() < self.integer_share) else real
        field = kind[int(rng.integers(len(kind)))]
        values = _slices(field, rng)
        if not np.isfinite(values).any():
            return None
        extent = float(np.nanmax(values) - np.nanmin(values))
        if not extent > 0:
            return None
        step, snap = self._step(extent, rng, whole=field.values.dtype.kind in "iu")
        case = _on_lattice(_cut(values, rng), step, snap=snap, half_open=snap or field.values.dtype.kind in "iu")
        return None if case is None else replace(case, dyadic=bool(rng.random() < _DYADIC_SHARE))

    def _step(self, extent: float, rng: np.random.Generator, *, whole: bool) -> tuple[float, bool]:
        relative = 10.0 ** rng.uniform(*self.log_bounds)
        if whole:
            bound = 0 if rng.random() < 0.6 else int(extent * relative)
            return 2.0 * bound + 1.0, bound == 0
        return 2.0 * extent * relative, rng.random() < 0.08


def _slices(field: TrainingField, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """One slice, or two to eight in a row, now and then three apart."""
    available = len(field.values)
    count = 1 if rng.random() < 0.5 else min(available, int(rng.integers(2, 9)))
    apart = 3 if available >= 3 * count and rng.random() < 0.15 else 1
    first = int(rng.integers(0, available - apart * (count - 1)))
    values = np.array(field.values[first : first + apart * (count - 1) + 1 : apart], np.float64)
    if field.missing_value is not None:
        values[values == field.missing_value] = np.nan
    return values


def _cut(values: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A cut-out of one of a few sizes, flipped at random."""
    height, width = (min(n, int(rng.choice(_SIZES))) for n in values.shape[1:])
    y, x = (int(rng.integers(0, n - m + 1)) for n, m in zip(values.shape[1:], (height, width), strict=True))
    cut = values[:, y : y + height, x : x + width]
    for axis, chance in ((1, 0.5), (2, 0.5), (0, 0.3)):
        if rng.random() < chance:
            cut = np.flip(cut, axis)
    return cut


def _on_lattice(values: npt.NDArray[np.float64], step: float, *, snap: bool, half_open: bool) -> Case | None:
    missing = ~np.isfinite(values)
    if missing.all():
        return None
    target = np.where(missing, 0.0, (values / step - np.round(np.nanmean(values) / step)) * FRACTION)
    if snap:
        target = FRACTION * np.rint(target / FRACTION)
    if np.abs(target).max() >= LATTICE_LIMIT / 2:
        return None
    return Case(np.ascontiguousarray(target), missing, snap, half_open)
