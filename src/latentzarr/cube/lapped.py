"""Fields to patches and back: an orthogonal turn of the values on both sides of every patch edge, then patches.

Patches alone leave steps at their edges and code smooth fields badly there; turning each run of values around an edge first
(H. Malvar, "Signal Processing with Lapped Transforms", 1992; as a filter before and after the patches: T. Tran et al. 2003) lets
neighbouring patches overlap. There the way is floating point, back it is integers: sums of whole numbers below 2**53, exact in
float64 in any order, so that every machine decodes the same field.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "FRACTION", "WEIGHT_BITS", "edge_turn", "from_patches", "mirror_half", "patch_grid", "rounded_shift", "to_patches",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Integers16 = npt.NDArray[np.int16]
Real = TypeVar("Real", np.float32, np.float64)

WEIGHT_BITS = 15
"""Weights are whole numbers of 2**-15."""
FRACTION = 14
"""Decoded values are whole numbers of 2**-14 scales until the last rounding."""
_TOP = 2.0**28


def patch_grid(rows: int, columns: int, patch: int) -> tuple[int, int]:
    """Patches down and across; edges that are not full are padded."""
    return -(-rows // patch), -(-columns // patch)


def edge_turn(patch: int) -> Floats:
    """The orthogonal matrix (patch, patch) that is applied to the values around an edge between two patches.

    Butterflies of mirrored values around a turn of their differences: DCT-II by DCT-IV, Malvar's fast lapped transform.
    """
    half = patch // 2
    one, mirror = np.eye(half), np.eye(half)[::-1]
    butterfly = np.block([[one, mirror], [mirror, -one]]) / np.sqrt(2.0)
    k = np.arange(half)
    second = np.cos(np.pi * (2 * k[:, None] + 1) * k / (2 * half)) * np.sqrt(2.0 / half)
    second[:, 0] /= np.sqrt(2.0)
    fourth = np.cos(np.pi * (2 * k[:, None] + 1) * (2 * k + 1) / (4 * half)) * np.sqrt(2.0 / half)
    turn = np.block([[one, 0 * one], [0 * one, np.flip(second @ fourth)]])
    found: Floats = butterfly @ turn @ butterfly
    return found


def to_patches(fields: Floats, turn: Floats, *, periodic: bool) -> Floats:
    """Turned patches of fields.

    Parameters
    ----------
    fields : float64 array, shape (n, rows, columns)
        Finite; edges are padded by replication to full patches.
    turn : float64 array, shape (patch, patch)
    periodic : bool
        Whether the last column is a neighbour of the first; only where the columns are a multiple of the patch.

    Returns
    -------
    float64 array, shape (n, patch * patch, y, x)
    """
    patch = len(turn)
    rows, columns = fields.shape[1:]
    down, across = patch_grid(rows, columns, patch)
    padded = np.pad(fields, ((0, 0), (0, down * patch - rows), (0, across * patch - columns)), mode="edge")
    turned = _turn_edges(padded, turn.T, axis=1, wrap=False)
    turned = _turn_edges(turned, turn.T, axis=2, wrap=periodic and columns % patch == 0)
    cut = turned.reshape(-1, down, patch, across, patch).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(cut).reshape(len(fields), patch * patch, down, across)


def from_patches(patches: Floats, turn: Integers16, rows: int, columns: int, *, periodic: bool) -> Floats:
    """Whole numbers of shape (n, patch * patch, y, x), below 2**28, to fields (n, rows, columns): `to_patches` undone."""
    patch = len(turn)
    n, _, down, across = patches.shape
    whole = patches.reshape(n, patch, patch, down, across).transpose(0, 3, 1, 4, 2)
    fields = np.ascontiguousarray(whole).reshape(n, down * patch, across * patch)
    weights = turn.astype(np.float64)
    fields = _turn_edges(fields, weights, axis=2, wrap=periodic and columns % patch == 0, shift=WEIGHT_BITS)
    fields = _turn_edges(fields, weights, axis=1, wrap=False, shift=WEIGHT_BITS)
    return fields[:, :rows, :columns]


def mirror_half(patches: npt.NDArray[Real], half: int, *, odd: bool) -> npt.NDArray[Real]:
    """Turn the patches of one half of the rows upside down; done twice, nothing has changed.

    South of the equator the winds turn the other way around a low. Upside down, and with northward winds negated, the south obeys
    the relations of the north, and one basis serves both, in summer and winter.

    Parameters
    ----------
    patches : array, shape (n, patch * patch, y, x)
    half : int
        0: neither, 1: the first rows of patches, 2: the last; a middle one is left.
    odd : bool
        Whether values change their sign when turned.
    """
    if half == 0:
        return patches
    n, size, down, across = patches.shape
    patch, count = round(size**0.5), down // 2
    rows = slice(0, count) if half == 1 else slice(down - count, down)
    found = patches.copy()
    turned = patches[:, :, rows].reshape(n, patch, patch, count, across)[:, ::-1].reshape(n, size, count, across)
    found[:, :, rows] = -turned if odd else turned
    return found


def rounded_shift(values: Floats, bits: int) -> Floats:
    """``values / 2**bits`` to the nearest whole number, halves up, clipped to 2**28; exact for whole numbers below 2**52."""
    return np.clip(np.floor(values * 2.0**-bits + 0.5), -_TOP, _TOP)


def _turn_edges(fields: Floats, matrix: Floats, *, axis: int, wrap: bool, shift: int | None = None) -> Floats:
    """Apply a matrix (from the right) to every run of values around an inner edge; with ``shift`` in whole numbers."""
    patch = len(matrix)
    half = patch // 2
    moved = np.moveaxis(fields, axis, -1)
    length = moved.shape[-1]
    rolled = np.roll(moved, -half, -1) if wrap else moved[..., half : length - half]
    runs = np.ascontiguousarray(rolled).reshape(-1, patch) @ matrix
    if shift is not None:
        runs = rounded_shift(runs, shift)
    turned = runs.reshape(rolled.shape)
    ends = [moved[..., :half], turned, moved[..., length - half :]]
    whole = np.roll(turned, half, -1) if wrap else np.concatenate(ends, -1)
    return np.ascontiguousarray(np.moveaxis(whole, -1, axis))
