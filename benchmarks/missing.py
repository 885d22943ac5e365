"""Missing values for codecs that know none: a smooth fill for the holes, and the bytes of the mask that says where they were.

Peers are measured as a careful user would run them: a jump at every coast would cost them bytes that are not theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

__all__ = ["Filled", "fill", "smooth_fill"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Filled:
    """An array without holes, where the holes were, and what storing that costs.

    Attributes
    ----------
    values : array, or None where nothing at all is present
    present : bool array, same shape
    mask_bytes : int
        0 where nothing is missing.
    raw_bytes : int
        Of the array, holes included.
    """

    values: Array | None
    present: Mask
    mask_bytes: int
    raw_bytes: int


def fill(values: Array, code: float | None = None) -> Filled:
    """Split ``values`` into a filled array and a mask; NaN, infinities and ``code`` are missing."""
    present = np.isfinite(values)
    if code is not None:
        present &= values != code
    if present.all():
        return Filled(values, present, 0, values.nbytes)
    cost = len(imagecodecs.zstd_encode(np.packbits(present).tobytes(), level=19))
    if not present.any():
        return Filled(None, present, cost, values.nbytes)
    maps = values.reshape(-1, *values.shape[-2:]) if values.ndim > 2 else values.reshape(1, *np.atleast_2d(values).shape)
    masks = present.reshape(maps.shape)
    filled = np.stack([smooth_fill(m, k) for m, k in zip(maps, masks, strict=True)]).reshape(values.shape)
    if values.dtype.kind in "iu":
        filled = np.rint(filled)
    return Filled(np.where(present, values, filled.astype(values.dtype)), present, cost, values.nbytes)


def smooth_fill(values: Array, present: Mask) -> npt.NDArray[np.float64]:
    """Fill the holes of one map from coarse to fine: means of 2 x 2 blocks downwards, relaxed averages upwards."""
    data = np.where(present, values, 0).astype(np.float64)
    if present.all() or not present.any():
        return data
    rows, columns = data.shape
    pad = ((0, rows % 2), (0, columns % 2))
    blocks = (-(-rows // 2), 2, -(-columns // 2), 2)
    count = np.pad(present, pad).reshape(blocks).sum(axis=(1, 3))
    total = np.pad(data, pad).reshape(blocks).sum(axis=(1, 3))
    coarse = smooth_fill(total / np.maximum(count, 1), count > 0)
    data = np.where(present, data, coarse.repeat(2, 0).repeat(2, 1)[:rows, :columns])
    for _ in range(12):
        around = np.pad(data, 1, mode="edge")
        mean = (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]) / 4
        data = np.where(present, data, mean)
    return data
