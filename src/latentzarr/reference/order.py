"""The order of values (section 5): which slice, row and column comes when, what lies around it and what its slice looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COLUMNS", "CROSSINGS", "ROWS", "Site", "activity", "reference_of", "sites", "visits"]

Ints = npt.NDArray[np.int64]
Part = tuple[slice, slice]
Looks = tuple[int, ...]

ROWS, COLUMNS, CROSSINGS = range(3)
_AROUND = (
    "-1,0 1,0 -3,0 3,0 -1,-2 -1,2 1,-2 1,2 -3,-2 -3,2 3,-2 3,2 -1,-4 -1,4 1,-4 1,4",
    "0,-1 0,1 0,-3 0,3 -1,-1 -1,1 1,-1 1,1 -2,-1 -2,1 2,-1 2,1 -1,-3 -1,3 1,-3 1,3",
    "0,-1 0,1 -1,0 1,0 -1,-1 -1,1 1,-1 1,1 0,-3 0,3 -3,0 3,0 -2,-1 -2,1 2,-1 2,1",
)
"""The page's table of neighbours, row by row."""


def visits(slices: int, dyadic: bool) -> Iterator[tuple[int, Looks]]:
    """Every slice in its turn, and the slices it looks at: none, one or two."""
    if not dyadic:
        yield from ((t, (t - 1,) if t else ()) for t in range(slices))
        return
    yield 0, ()
    if slices > 1:
        yield slices - 1, (0,)
    known = [0, slices - 1]
    while len(known) < slices:  # a round over all gaps between neighbours in `known`
        middles = [((a + b) // 2, (a, b)) for a, b in pairwise(known) if b - a > 1]
        yield from middles
        known = sorted([*known, *(m for m, _ in middles)])


def reference_of(a: npt.NDArray[Any], looks_at: Looks) -> npt.NDArray[Any]:
    """What a slice looks at in ``a``, (slices, ..): the values of one slice, or those between two."""
    if len(looks_at) == 1:
        return a[looks_at[0]]
    first, second = looks_at
    return (a[first] + a[second] + 1) >> 1


def _inside(i: int, d: int, stride: int, size: int) -> int:
    sign = 1 if d > 0 else -1
    steps = (d, -d, -sign, sign) if d % 2 else (d, -d)
    return next((i + k * stride for k in steps if 0 <= i + k * stride < size), i)


def _part(s: int, kind: int, order: int) -> Part:
    known, new = slice(0, None, 2 * s), slice(s, None, 2 * s)
    if kind == COLUMNS:
        return (slice(0, None, s) if order == 1 else known), new
    return new, (known if kind == ROWS else new)


@lru_cache(maxsize=64)
def _neighbours(s: int, kind: int, order: int, shape: tuple[int, int]) -> tuple[Ints, Ints]:
    """Rows and columns of the neighbours of all values of a pass: two arrays that index a plane together."""
    offsets, here = [tuple(map(int, pair.split(","))) for pair in _AROUND[kind].split()], _part(s, kind, order)
    rows = [[_inside(i, d, s, shape[0]) for i in range(shape[0])[here[0]]] for d, _ in offsets]
    columns = [[_inside(j, d, s, shape[1]) for j in range(shape[1])[here[1]]] for _, d in offsets]
    return np.array(rows)[:, :, None], np.array(columns)[:, None, :]


_GRADES = (16, 13, 11, 10, 9, 8)


@dataclass(frozen=True, slots=True)
class Site:
    """A pass over one slice: which values it visits. The arrays of a frame are (slices, rows, columns).

    Attributes
    ----------
    number : int
        The slice.
    looks_at : tuple of int
        Slices that its reference is made of.
    stride, kind, order : int
    snap : bool
    shape : tuple of int
        Rows and columns of a slice.
    """

    number: int
    looks_at: Looks
    stride: int
    kind: int
    order: int
    snap: bool
    shape: tuple[int, int]

    @property
    def level(self) -> int:
        """log2 of the stride."""
        return self.stride.bit_length() - 1

    @property
    def grade(self) -> int:
        """Size of a quantum in lattice units (end of section 7)."""
        return 16 if self.order == 1 or self.snap else _GRADES[self.level]

    @property
    def here(self) -> Part:
        """Rows and columns of the pass."""
        return _part(self.stride, self.kind, self.order)

    def at(self, plane: npt.NDArray[Any]) -> Ints:
        """Values of ``plane`` at the places of the pass."""
        return plane[self.here].ravel().astype(np.int64)

    def neighbours(self, plane: npt.NDArray[Any]) -> Ints:
        """Values of ``plane`` at the 16 neighbours, (16, values of the pass)."""
        return plane[_neighbours(self.stride, self.kind, self.order, self.shape)].reshape(16, -1).astype(np.int64)


def sites(coded: tuple[int, int, int], order: int, dyadic: bool, snap: bool) -> Iterator[Site]:
    """All passes over all slices after the root, in their order."""
    slices, rows, columns = coded
    for s in (32, 16, 8, 4, 2, 1):
        present = (s < rows, s < columns, order == 2 and s < rows and s < columns)
        for kind in (ROWS, COLUMNS, CROSSINGS):
            if present[kind]:
                for number, looks_at in visits(slices, dyadic):
                    yield Site(number, looks_at, s, kind, order, snap, (rows, columns))


def activity(q: Ints, grade: int) -> Ints:
    """Activity of values with quanta ``q`` of a grade."""
    m = np.minimum((abs(q) * grade + 8) >> 4, 511)
    e = np.frexp(np.maximum(m, 1).astype(np.float64))[1].astype(np.int64) - 1  # floor(log2 m)
    h = np.where(e > 0, m >> np.maximum(e - 1, 0) & 1, 0)
    return np.where(m == 0, 0, np.minimum(15, 1 + 2 * e + h))
