"""Encoder only: put a chunk on the lattice of its bound, special values split off, repeated rows and columns taken once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.hierarchy_header import LatticeHeader
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.geometry import SMALLEST_SLICE, ChunkGeometry, default_geometry
from latentzarr.mask import SpecialValues, split_special
from latentzarr.packing import find_packing
from latentzarr.repetition import NO_REPETITION, Repetition, find_repetition
from latentzarr.scaling import (
    FRACTION,
    LATTICE_LIMIT,
    LinearLattice,
    LogLattice,
    integer_lattice,
    linear_lattice,
    log_lattice,
    packed_lattice,
)
from latentzarr.slices import visits

__all__ = ["LatticeChunk", "prepare", "with_step"]

_PAIRS = 4
_FEW_ROWS = 16
_SMOOTH = 1.15  # measured: the noise of quanta averages out between two, so dyadic order wins before this says so
_ALIKE = 1.1  # of unrelated slices the detail of the difference is 1.4 times the detail
_PACKING_REACH = 8  # packing is looked for where its spacing could be a bound / this


@dataclass(frozen=True, slots=True, eq=False)
class LatticeChunk:
    """A chunk ready for the walk.

    Attributes
    ----------
    target : float64 array, shape (slices, rows * columns)
        Lattice units; anything where missing.
    missing : uint8 array, same shape, or None
    geometry : ChunkGeometry
        Of the whole chunk.
    coded : ChunkGeometry
        Of ``target``: one value for each run of ``repetition``.
    repetition : Repetition
    snap : bool
        Decoded values are put on whole quanta.
    half_open : bool
        Round so that ``-8 <= decoded - target < 8`` (integers, whole quanta).
    special : SpecialValues
        Of the coded geometry.
    lattice : LinearLattice or LogLattice
    described : LatticeHeader
        The lattice as the frame will say it.
    """

    target: npt.NDArray[np.float64]
    missing: npt.NDArray[np.uint8] | None
    geometry: ChunkGeometry
    coded: ChunkGeometry
    repetition: Repetition
    snap: bool
    half_open: bool
    special: SpecialValues
    lattice: LinearLattice | LogLattice
    described: LatticeHeader

    def slices_are_alike(self) -> bool:
        """Whether the detail of one slice tells of the next: true of a single slice; else measured along rows, on a few pairs."""
        slices, columns = self.coded.slices, self.coded.columns
        if slices == 1 or columns == 1:
            return True
        pairs = range(1, slices, max(1, slices // _PAIRS))
        detail = change = 0.0
        for t in pairs:
            now, before = (np.diff(self.target[i].reshape(-1, columns), axis=1) for i in (t, t - 1))
            detail += float(np.abs(now).sum())
            change += float(np.abs(now - before).sum())
        return change <= _ALIKE * detail

    def slices_change_smoothly(self) -> bool:
        """Whether the mean of two slices tells more of those between them than each slice tells of the next.

        Measured on the detail along rows, on a few rows, over all slices in both orders.
        """
        slices, rows, columns = self.coded.shape
        if slices < 3 or columns == 1:
            return False
        few = self.target.reshape(slices, rows, columns)[:, :: max(1, rows // _FEW_ROWS)]
        detail = np.diff(few, axis=2)
        change = [
            sum(float(np.abs(detail[v.slice] - (detail[v.before] + detail[max(v.after, v.before)]) / 2).sum()) for v in plan[1:])
            for plan in (visits(slices, dyadic=False), visits(slices, dyadic=True))
        ]
        return change[1] < _SMOOTH * change[0]


@dataclass(frozen=True, slots=True)
class _Choice:
    lattice: LinearLattice | LogLattice
    described: LatticeHeader
    snap: bool = False


def prepare(flat: npt.NDArray[Any], bound: ErrorBound, shape: tuple[int, ...], fill_value: Any) -> LatticeChunk | None:
    """Put a chunk on the lattice of its bound.

    Parameters
    ----------
    flat : native-endian array, shape (values,), at least one
    bound : ErrorBound
        As resolved for this dtype.
    shape : tuple of int
        Of the chunk.
    fill_value : scalar or None

    Returns
    -------
    LatticeChunk or None
        None where there is no such lattice: exact floats that are not packed, a bound below the dtype's resolution, a range
        too wide for the format.
    """
    if flat.dtype == np.bool_:
        flat = flat.view(np.uint8)
    geometry = default_geometry(shape)
    bits = flat.view(np.dtype(f"u{flat.dtype.itemsize}")).reshape(geometry.shape)
    repetition = find_repetition(bits) or NO_REPETITION
    if geometry.slices > 1 and repetition.small(geometry).size < SMALLEST_SLICE * geometry.slices:
        repetition = NO_REPETITION  # many tiny slices cost more time than repeated values cost bytes
    if repetition != NO_REPETITION:
        flat = repetition.collapse(flat.reshape(geometry.shape)).reshape(-1)
    coded = repetition.small(geometry)
    special = split_special(flat, fill_value, logarithmic=bound.kind is BoundKind.RELATIVE, zeros=bound.zeros)
    numbers = flat[special.missing == 0] if special.any_missing else flat
    choice = _choose(numbers if numbers.size else np.ones(1, flat.dtype), bound)
    if choice is None:
        return None
    grid = (coded.slices, coded.rows * coded.columns)
    target = _target(choice.lattice, flat, special).reshape(grid)
    if choice.snap:
        target = FRACTION * np.rint(target / FRACTION)  # the whole quantum a value belongs to is what must come back
    return LatticeChunk(
        target,
        special.missing.reshape(grid) if special.any_missing else None,
        geometry,
        coded,
        repetition,
        choice.snap,
        choice.snap or flat.dtype.kind in "iu",
        special,
        choice.lattice,
        choice.described,
    )


def with_step(chunk: LatticeChunk, flat: npt.NDArray[Any], step: float) -> LatticeChunk:
    """The same chunk on a linear lattice with another step (for ``bound=none``), unless it would leave the format's range."""
    old = chunk.lattice
    assert isinstance(old, LinearLattice)
    if not (np.isfinite(step) and np.isfinite(old.offset * old.step)):
        return chunk
    lattice = LinearLattice(step, round(old.offset * old.step / step))
    if chunk.repetition != NO_REPETITION:
        flat = chunk.repetition.collapse(flat.reshape(chunk.geometry.shape)).reshape(-1)
    target = _target(lattice, flat, chunk.special).reshape(chunk.target.shape)
    if not np.abs(target).max() < LATTICE_LIMIT:
        return chunk
    return LatticeChunk(
        target,
        chunk.missing,
        chunk.geometry,
        chunk.coded,
        chunk.repetition,
        False,
        False,
        chunk.special,
        lattice,
        LatticeHeader(step=step),
    )


def _target(lattice: LinearLattice | LogLattice, flat: npt.NDArray[Any], special: SpecialValues) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        target = lattice.coordinates(flat.astype(np.float64))
    if special.any_missing:
        target[special.missing != 0] = 0.0
    return target


def _choose(numbers: npt.NDArray[Any], bound: ErrorBound) -> _Choice | None:
    low, high = numbers.min(), numbers.max()
    if numbers.dtype.kind in "iu":
        integers = integer_lattice(bound.value, int(low), int(high))
        return _Choice(integers, LatticeHeader(), snap=integers.step == 1.0) if integers else None
    bottom, top = float(low), float(high)
    largest = max(abs(bottom), abs(top))
    if bound.kind is BoundKind.RELATIVE:
        log = log_lattice(bound.value, float(np.abs(numbers).min()), largest, numbers.dtype)
        return _Choice(log, LatticeHeader(log_step=log.log_step)) if log else None
    packed = _packed(numbers, bound, bottom, top) if bound.kind is not BoundKind.NONE else None
    if packed is not None or bound.kind is BoundKind.LOSSLESS:
        return packed
    value = bound.value * np.sqrt(3.0) if bound.kind is BoundKind.NONE else bound.value
    found = linear_lattice(float(value), largest, bottom, top, numbers.dtype)
    if found is None:
        return None
    lattice, slack = found
    return _Choice(lattice, LatticeHeader(step=lattice.step) if bound.kind is BoundKind.NONE else LatticeHeader(slack=slack))


def _packed(numbers: npt.NDArray[Any], bound: ErrorBound, low: float, high: float) -> _Choice | None:
    packing = find_packing(numbers.astype(np.float64), bound.value / _PACKING_REACH)
    if packing is None:
        return None
    lattice = packed_lattice(bound.value, packing, low, high, numbers.dtype)
    return _Choice(lattice, LatticeHeader(step=lattice.step, origin=lattice.origin), snap=True) if lattice else None
