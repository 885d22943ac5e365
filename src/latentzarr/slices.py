"""The order in which the slices of a chunk are visited, and which decoded slices each of them may look at.

One after the other, each slice looks at the one before it. In dyadic order the last slice follows the first, and then the
middle ones, so that most slices lie between two that are known (as in the hierarchical B pictures of video coding; Schwarz,
Marpe and Wiegand 2006, doi:10.1109/ICME.2006.262611). `docs/reference/format.md`, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Visit", "visits"]


@dataclass(frozen=True, slots=True)
class Visit:
    """A slice and what it looks at.

    Attributes
    ----------
    slice : int
    before, after : int
        Slices decoded earlier; -1: none. Only a slice with ``before`` can have ``after``.
    """

    slice: int
    before: int = -1
    after: int = -1

    @property
    def references(self) -> int:
        """0, 1 or 2."""
        return (self.before >= 0) + (self.after >= 0)


@lru_cache(maxsize=64)
def visits(slices: int, *, dyadic: bool) -> tuple[Visit, ...]:
    """Every slice once, none before those it looks at.

    Parameters
    ----------
    slices : int
    dyadic : bool
        The first, the last, then always the middle (rounded down) of the earliest gap at half the distance; else in order.
    """
    if not dyadic:
        return tuple(Visit(t, t - 1) for t in range(slices))
    ends = [Visit(0)] if slices == 1 else [Visit(0), Visit(slices - 1, 0)]
    return (*ends, *_between([(0, slices - 1)]))


def _between(gaps: list[tuple[int, int]]) -> Iterator[Visit]:
    """The middle of each gap, then those of the halves that are left, from left to right."""
    while gaps := [gap for gap in gaps if gap[1] - gap[0] > 1]:
        halves = []
        for a, b in gaps:
            middle = (a + b) // 2
            yield Visit(middle, a, b)
            halves += [(a, middle), (middle, b)]
        gaps = halves
