"""The order in which the times of a block are decoded, and which decoded times each of them looks at.

The first time of a block stands alone. Every ``stride``-th after it looks back at the one before; what lies between looks at both
sides, halves first. What is left at the end looks back half as far, and so on. A block never looks at another, so that any time
can be read with its own block alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from latentzarr.cube.table import Role
from latentzarr.errors import InvalidConfigError
from latentzarr.slices import Visit

__all__ = ["LONGEST_BLOCK", "block_visits", "needed_times", "role_of", "roles_of"]

LONGEST_BLOCK = 64


@lru_cache(maxsize=256)
def block_visits(times: int, stride: int) -> tuple[Visit, ...]:
    """Every time of a block once, none before those it looks at.

    Parameters
    ----------
    times : int
        1 to 64.
    stride : int
        0: no time looks at another; else a power of two.

    Raises
    ------
    InvalidConfigError
    """
    if not 1 <= times <= LONGEST_BLOCK:
        raise InvalidConfigError(f"a block has 1 to {LONGEST_BLOCK} times, not {times}")
    if stride < 0 or stride & (stride - 1):
        raise InvalidConfigError(f"the stride of a block is 0 or a power of two, not {stride}")
    if stride == 0:
        return tuple(Visit(t) for t in range(times))
    return (Visit(0), *_after(0, times, stride))


def _after(known: int, times: int, stride: int) -> Iterator[Visit]:
    """All times after a known one."""
    while stride and known < times - 1:
        following = known + stride
        if following >= times:
            stride //= 2
            continue
        yield Visit(following, known)
        yield from _between(known, following)
        known = following


def _between(before: int, after: int) -> Iterator[Visit]:
    middle = (before + after) // 2
    if middle > before:
        yield Visit(middle, before, after)
        yield from _between(before, middle)
        yield from _between(middle, after)


def role_of(visit: Visit) -> Role:
    """How far away what a visit looks at is."""
    before = visit.slice - visit.before if visit.before >= 0 else 0
    return Role(before, visit.after - visit.slice if visit.after >= 0 else 0)


def roles_of(times: int, stride: int) -> tuple[Role, ...]:
    """All roles of a block, the one without times first."""
    return tuple(dict.fromkeys(role_of(v) for v in block_visits(times, stride)))


def needed_times(times: int, stride: int, wanted: Iterable[int]) -> tuple[Visit, ...]:
    """The visits that some times of a block need, in order."""
    needed = set(wanted)
    kept: list[Visit] = []
    for visit in reversed(block_visits(times, stride)):
        if visit.slice in needed:
            needed |= {t for t in (visit.before, visit.after) if t >= 0}
            kept.append(visit)
    return tuple(reversed(kept))
