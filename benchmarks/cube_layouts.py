"""The shapes in which a block of a variable (times x levels x rows x columns) can be given to a codec of 2 to 4 dimensions.

Classical codecs see no more than the dimensions of one array, and which of them they profit from differs: wind likes time,
geopotential likes time and levels in one long stack. So every codec is tried in every shape it takes, and its best one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LAYOUTS", "Layout"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to cut a block into arrays, and back.

    Attributes
    ----------
    name : str
    deep : bool
        More than one time goes into an array: what it codes can only be had together.
    levels : bool
        It needs more than one level.
    cut : callable
        From a block of shape (times, levels, rows, columns) to a list of arrays.
    join : callable
        From such a list and the shape of the block to the block.
    """

    name: str
    deep: bool
    levels: bool
    cut: Callable[[Array], list[Array]]
    join: Callable[[Sequence[Array], tuple[int, ...]], Array]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a block of ``shape`` can be cut so, and not only as in a simpler layout."""
        return (shape[0] > 1) == self.deep and (shape[1] > 1 or not self.levels)


def _planes(block: Array) -> list[Array]:
    return list(block.reshape(-1, *block.shape[2:]))


def _by_time(block: Array) -> list[Array]:
    return list(block)


def _by_level(block: Array) -> list[Array]:
    return [np.ascontiguousarray(block[:, level]) for level in range(block.shape[1])]


def _from_levels(parts: Sequence[Array], shape: tuple[int, ...]) -> Array:
    return np.stack(parts, axis=1).reshape(shape)


def _snake(block: Array) -> Array:
    """All planes of a block, every second run of the inner axis backwards, so that neighbours in the stack are alike."""
    turned = block.copy()
    turned[1::2] = turned[1::2, ::-1]
    return turned.reshape(-1, *block.shape[2:])


def _unsnake(stack: Array, shape: tuple[int, ...]) -> Array:
    block = stack.reshape(shape).copy()
    block[1::2] = block[1::2, ::-1]
    return block


def _swapped(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[1], shape[0], *shape[2:])


LAYOUTS = (
    Layout("planes", False, False, _planes, lambda parts, shape: np.stack(parts).reshape(shape)),
    Layout("levels", False, True, _by_time, lambda parts, shape: np.stack(parts).reshape(shape)),
    Layout("times", True, False, _by_level, _from_levels),
    Layout(
        "level by level",
        True,
        True,
        lambda block: [_snake(block.swapaxes(0, 1))],
        lambda parts, shape: np.ascontiguousarray(_unsnake(parts[0], _swapped(shape)).swapaxes(0, 1)),
    ),
    Layout("time by time", True, True, lambda block: [_snake(block)], lambda parts, shape: _unsnake(parts[0], shape)),
    Layout("4-D", True, True, lambda block: [block], lambda parts, shape: parts[0].reshape(shape)),
)
"""``level by level`` stacks the times of one level after those of the other, ``time by time`` the levels."""
