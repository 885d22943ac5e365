"""The order in which a chunk is visited: coarse to fine, and which decoded neighbours each new value sees.

A chunk is read as ``slices x rows x columns``. Every 64th row and column is the root. Each level halves the stride: first
the missing rows at the known columns, then the missing columns, all at once (order 1) or first in the old rows and then at
the crossings with the new ones, which so see all eight values around them (order 2). `docs/reference/format.md` section 5
is the normative text; this file and the reference decoder both follow it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError

__all__ = [
    "COARSEST_STRIDE",
    "COLUMN_NEIGHBOURS",
    "CROSSING_NEIGHBOURS",
    "GRADES",
    "NEIGHBOURS",
    "ROW_NEIGHBOURS",
    "ChunkGeometry",
    "Order",
    "SMALLEST_SLICE",
    "Pass",
    "PassKind",
    "default_geometry",
    "passes",
]

COARSEST_STRIDE = 64
SMALLEST_SLICE = 256
"""Several slices have at least as many values each."""
NEIGHBOURS = 16
_LARGEST_KEPT = 2**13
LEVELS = 6  # strides 32, 16, 8, 4, 2, 1

ROW_NEIGHBOURS = (
    (-1, 0), (1, 0), (-3, 0), (3, 0), (-1, -2), (-1, 2), (1, -2), (1, 2),
    (-3, -2), (-3, 2), (3, -2), (3, 2), (-1, -4), (-1, 4), (1, -4), (1, 4),
)  # fmt: skip
"""Offsets (row, column) in strides of the neighbours of a value in a new row, nearest first."""

COLUMN_NEIGHBOURS = (
    (0, -1), (0, 1), (0, -3), (0, 3), (-1, -1), (-1, 1), (1, -1), (1, 1),
    (-2, -1), (-2, 1), (2, -1), (2, 1), (-1, -3), (-1, 3), (1, -3), (1, 3),
)  # fmt: skip
"""Offsets (row, column) in strides of the neighbours of a value in a new column, nearest first."""

CROSSING_NEIGHBOURS = (
    (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1),
    (0, -3), (0, 3), (-3, 0), (3, 0), (-2, -1), (-2, 1), (2, -1), (2, 1),
)  # fmt: skip
"""Offsets (row, column) in strides of the neighbours of a value in a new row and a new column, nearest first."""


class Order(IntEnum):
    """How many kinds of passes a level has; frames of format version 1 have order 1, those of version 2 order 2."""

    TWO_PASSES = 1
    THREE_PASSES = 2

    @property
    def kinds(self) -> int:
        """Kinds of passes."""
        return self + 1

    @property
    def groups(self) -> int:
        """Groups of passes that share tables: stride 1, 2, or more, by kind."""
        return 3 * self.kinds


GRADES = ((16, 0), (13, 5), (11, 9), (10, 11), (9, 13), (8, 16))
"""Order 2: by level, the size of a quantum in sixteenths of a whole one, and 16 times log2 of how many times smaller it is."""


class PassKind(IntEnum):
    """Which values a pass adds."""

    ROWS = 0
    COLUMNS = 1
    CROSSINGS = 2


@dataclass(frozen=True, slots=True)
class ChunkGeometry:
    """How the values of a chunk, in C order, are read as ``slices x rows x columns``.

    Invariants, checked at construction: every size is at least 1; a slice has fewer than 2**31 values,
    the chunk fewer than 2**40.

    Raises
    ------
    InvalidConfigError
        If an invariant does not hold.
    """

    slices: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.rows * self.columns >= 2**31 or self.size >= 2**40:
            raise InvalidConfigError(
                f"a chunk needs sizes from 1, slices below 2**31 and in all below 2**40 values, got {self.shape}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(slices, rows, columns)``."""
        return self.slices, self.rows, self.columns

    @property
    def size(self) -> int:
        """Number of values."""
        return self.slices * self.rows * self.columns


def default_geometry(shape: Sequence[int]) -> ChunkGeometry:
    """Read a chunk shape as slices, rows and columns.

    Dimensions of size 1 are dropped; the last two of the rest are rows and columns, all before them are slices. A chunk
    with fewer than 256 values in a slice (long series of a few places) is read as one slice of ``leading x trailing``
    instead, so that the long axis is an axis of the hierarchy.

    Parameters
    ----------
    shape : sequence of int
        Shape of a chunk, all sizes at least 1.
    """
    sizes = [int(n) for n in shape if n != 1]
    rows, columns = (1, *sizes)[-2:] if sizes else (1, 1)
    slices = math.prod(sizes[:-2])
    if slices > 1 and rows * columns < SMALLEST_SLICE:
        return ChunkGeometry(1, slices, rows * columns)
    return ChunkGeometry(slices, rows, columns)


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """The values that one step of the hierarchy adds to a slice, and where their neighbours are.

    Attributes
    ----------
    level : int
        log2 of the stride, 5 to 0.
    kind : PassKind
        New rows at known columns; new columns at all known rows (order 1) or at those of the level above (order 2); new
        columns in new rows.
    order : Order
    rows : int32 array, shape (r,)
        Row index of each new row of values.
    columns : int32 array, shape (c,)
        Column index of each new column of values. The pass visits rows x columns in C order.
    neighbour_rows : int32 array, shape (16, r)
    neighbour_columns : int32 array, shape (16, c)
        Row and column of neighbour k of each value, mirrored at the edges on to values already decoded.
    """

    level: int
    kind: PassKind
    order: Order
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    neighbour_rows: npt.NDArray[np.int32]
    neighbour_columns: npt.NDArray[np.int32]

    @property
    def group(self) -> int:
        """Which group of frequency tables the pass uses: stride 1, 2, or more, by kind."""
        return self.order.kinds * min(self.level, 2) + self.kind

    def grade(self, *, snap: bool) -> tuple[int, int]:
        """Size of a quantum in lattice units, and 16 times log2 of how many times smaller than a whole one it is.

        Coarse levels have finer quanta, since what is wrong there is wrong in all that is predicted from it; exact integers
        and order 1 have whole quanta everywhere.
        """
        return GRADES[0] if snap or self.order is Order.TWO_PASSES else GRADES[self.level]

    @property
    def size(self) -> int:
        """Number of values the pass adds to a slice."""
        return len(self.rows) * len(self.columns)


def _mirrored(index: npt.NDArray[np.int64], offset: int, stride: int, size: int) -> npt.NDArray[np.int32]:
    """``index + offset * stride``, mirrored at the edges, else one stride the other way or this way, else unmoved."""
    candidates = [index + offset * stride, index - offset * stride]
    if offset % 2:  # one stride away is known only where the offset leaves the known grid's parity anyway
        sign = 1 if offset > 0 else -1
        candidates += [index - sign * stride, index + sign * stride]
    result = np.full_like(index, -1)
    for candidate in candidates:
        result = np.where((result < 0) & (candidate >= 0) & (candidate < size), candidate, result)
    return np.where(result < 0, index, result).astype(np.int32)


def _make(level: int, kind: PassKind, order: Order, height: int, width: int) -> Pass:
    stride = 1 << level
    if kind is PassKind.COLUMNS:
        rows = np.arange(0, height, stride if order is Order.TWO_PASSES else 2 * stride)
    else:
        rows = np.arange(stride, height, 2 * stride)
    columns = np.arange(0 if kind is PassKind.ROWS else stride, width, 2 * stride)
    offsets = (ROW_NEIGHBOURS, COLUMN_NEIGHBOURS, CROSSING_NEIGHBOURS)[kind]
    return Pass(
        level,
        kind,
        order,
        rows.astype(np.int32),
        columns.astype(np.int32),
        np.stack([_mirrored(rows, dy, stride, height) for dy, _ in offsets]),
        np.stack([_mirrored(columns, dx, stride, width) for _, dx in offsets]),
    )


def _made(height: int, width: int, order: Order, finest_level: int) -> Iterator[Pass]:
    for level in reversed(range(finest_level, LEVELS)):
        if 1 << level < height:
            yield _make(level, PassKind.ROWS, order, height, width)
        if 1 << level < width:
            yield _make(level, PassKind.COLUMNS, order, height, width)
        if order is Order.THREE_PASSES and 1 << level < min(height, width):
            yield _make(level, PassKind.CROSSINGS, order, height, width)


@lru_cache(maxsize=64)
def _kept(height: int, width: int, order: Order) -> tuple[Pass, ...]:
    return tuple(_made(height, width, order, 0))


def passes(height: int, width: int, order: Order = Order.THREE_PASSES, finest_level: int = 0) -> Iterator[Pass]:
    """The passes over a slice, coarse to fine, down to stride ``2**finest_level``.

    Parameters
    ----------
    height, width : int
        Rows and columns of a slice.
    order : Order
    finest_level : int
        0 decodes everything; ``k`` stops when every ``2**k``-th row and column is known.
    """
    if height + width > _LARGEST_KEPT:  # as large as the values themselves in long series: made one after the other
        return _made(height, width, order, finest_level)
    return (p for p in _kept(height, width, order) if p.level >= finest_level)
