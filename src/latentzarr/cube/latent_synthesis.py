"""Integer latents to fields, in whole numbers from end to end: the same bits on every machine, for any subset of channels.

Every product of matrices below holds whole numbers whose sums stay under 2**53 (`BasisArrays` has checked it), so float64 carries
them exactly in whatever order a library adds them. Only the rows of the channels that are asked for are multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from latentzarr.cube.arrays import MODE_BITS, TIME_BITS, BasisArrays
from latentzarr.cube.lapped import FRACTION, WEIGHT_BITS, from_patches, mirror_half, patch_grid, rounded_shift
from latentzarr.cube.quantise import LATENT_TOP
from latentzarr.errors import InvalidConfigError

__all__ = ["BASE_BITS", "common_at", "synthesise"]

Floats = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]

BASE_BITS = 10
"""Decoded fields are whole numbers of scale / 1024."""


def synthesise(
    arrays: BasisArrays,
    common: Int32,
    specific_t: Int32,
    channels: Sequence[int],
    rows: int,
    columns: int,
    time: int,
    *,
    periodic: bool,
) -> Int32:
    """Fields of some channels at one time; see `latentzarr.cube.basis.JointBasis.decode`."""
    grid = patch_grid(rows, columns, len(arrays.turn))
    wanted = (len(arrays.common_index), *grid), (arrays.specific_slice(arrays.groups - 1).stop, *grid)
    if (common.shape, specific_t.shape) != wanted:
        raise InvalidConfigError(
            f"latents of {rows} x {columns} have the shapes {wanted}, got {common.shape}, {specific_t.shape}"
        )
    if not 0 <= time < len(arrays.time_modes) or any(not 0 <= c < len(arrays.kept) for c in channels):
        raise InvalidConfigError(f"the base has {len(arrays.time_modes)} times and {len(arrays.kept)} channels")
    places = grid[0] * grid[1]
    whole = common_at(arrays, common, time).reshape(-1, places)
    parts: dict[int, Floats] = {}
    out = np.empty((len(channels), rows, columns), np.int32)
    for place, channel in enumerate(channels):
        group = int(arrays.group[channel])
        if group not in parts:
            parts[group] = _clipped(specific_t[arrays.specific_slice(group)].reshape(-1, places)) * 2.0**TIME_BITS
        values = _patches(arrays, channel, whole, parts[group]).reshape(1, -1, *grid)
        values = mirror_half(values, int(arrays.mirrored[0]), odd=bool(arrays.odd[channel]))
        field = from_patches(values, arrays.turn, rows, columns, periodic=periodic)
        out[place] = rounded_shift(field[0], FRACTION - BASE_BITS)
    return out


def common_at(arrays: BasisArrays, common: Int32, time: int) -> Floats:
    """Values of the common components at one time, whole numbers of 2**-10 quanta, shape (components, y, x)."""
    sums = np.zeros((arrays.common_rows.shape[1], *common.shape[1:]))
    component, mode = arrays.common_index.T
    for j in np.unique(mode):  # within a mode no component is there twice
        here = np.flatnonzero(mode == j)
        sums[component[here]] += _clipped(common[here]) * float(arrays.time_modes[j, time])
    return rounded_shift(sums, MODE_BITS - TIME_BITS)


def _patches(arrays: BasisArrays, channel: int, common: Floats, specific: Floats) -> Floats:
    """Turned patches of a channel, whole numbers of 2**-14 scales, shape (patch * patch, places)."""
    whole, part = arrays.rows_of(channel)
    sums = arrays.common_rows[whole].astype(np.float64) @ common
    sums += arrays.specific_rows[int(arrays.group[channel])][part].astype(np.float64) @ specific
    bounded = np.clip(sums, -(2.0**47), 2.0**47).astype(np.int64)
    shift = WEIGHT_BITS + TIME_BITS + int(arrays.step[1]) - FRACTION
    scaled = (bounded * int(arrays.step[0]) + (1 << (shift - 1))) >> shift
    modes = np.clip(scaled, -(2**26), 2**26).astype(np.float64)
    return rounded_shift(arrays.spatial[:, : int(arrays.kept[channel])].astype(np.float64) @ modes, WEIGHT_BITS)


def _clipped(latents: Int32) -> Floats:
    return np.clip(latents, -LATENT_TOP, LATENT_TOP).astype(np.float64)
