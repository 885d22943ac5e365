"""What fields hold that smoothness does not: the error of cubic interpolation at the values each stride adds (encoder only)."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from latentzarr.cube.synthesis import Stencil

__all__ = ["innovations", "seen_through"]

Fields = TypeVar("Fields", npt.NDArray[np.float64], npt.NDArray[np.float32])


def seen_through(fields: Fields, stencil: Stencil, factor: npt.NDArray[Any] | None, *, periodic: bool) -> Fields:
    """Fields as a term looks at them, shape (.., rows, columns); see `latentzarr.cube.synthesis.Stencil`."""
    if stencil.kind == 0:
        seen = fields
    elif stencil.kind == 1:
        lower = np.concatenate([fields[..., 1:, :], fields[..., -1:, :]], axis=-2)
        upper = np.concatenate([fields[..., :1, :], fields[..., :-1, :]], axis=-2)
        seen = lower - upper
    else:
        right = np.concatenate([fields[..., 1:], fields[..., :1] if periodic else fields[..., -1:]], axis=-1)
        left = np.concatenate([fields[..., -1:] if periodic else fields[..., :1], fields[..., :-1]], axis=-1)
        seen = right - left
    return seen * factor[:, None] if stencil.turning and factor is not None else seen


def innovations(fields: Fields) -> Fields:
    """Errors of interpolation at the values that stride 1 adds to stride 2.

    Parameters
    ----------
    fields : float64 or float32 array, shape (fields, rows, columns), at least 2 x 2

    Returns
    -------
    array of the same dtype, shape (fields, values)
        New rows, new columns, then crossings.
    """
    old_columns, old_rows = fields[:, :, ::2], fields[:, ::2, :]
    rows = old_columns[:, 1::2] - _cubic(old_columns, 1)
    columns = old_rows[:, :, 1::2] - _cubic(old_rows, 2)
    crossings = fields[:, 1::2, 1::2] - (_cubic(fields[:, :, 1::2], 1) + _cubic(fields[:, 1::2, :], 2)) / 2
    return np.concatenate([part.reshape(len(fields), -1) for part in (rows, columns, crossings)], axis=1)


def _cubic(fields: Fields, axis: int) -> Fields:
    """The odd places along an axis, interpolated from the even ones, mirrored at the edges."""
    count = fields.shape[axis] // 2
    even = np.take(fields, np.arange(0, fields.shape[axis], 2), axis)
    last = even.shape[axis] - 1
    i = np.arange(count)

    def at(index: npt.NDArray[np.int64]) -> Fields:
        mirrored = np.abs(index)
        return np.take(even, np.clip(np.where(mirrored > last, 2 * last - mirrored, mirrored), 0, last), axis)

    near = at(i) + np.take(even, np.minimum(i + 1, last), axis)
    return (9 * near - (at(i - 1) + at(i + 2))) / 16
