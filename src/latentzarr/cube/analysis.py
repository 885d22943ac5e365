"""Fields to integer latents: projection on the base, or least squares where channels are missing; floating point, free to change.

The common latents are found first; the specific ones code what they leave, so that errors of one are mended by the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentzarr.cube.arrays import MODE_BITS, BasisArrays, BlockLatents
from latentzarr.cube.lapped import WEIGHT_BITS, mirror_half, to_patches
from latentzarr.cube.quantise import chosen
from latentzarr.cube.time_split import at_times
from latentzarr.errors import InvalidConfigError

__all__ = ["analyse", "area_of_patches", "latents_of", "spatial_modes"]

Floats = npt.NDArray[np.float64]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]

_ONE = 2.0**-WEIGHT_BITS


def analyse(
    arrays: BasisArrays, fields: Floats, present: tuple[int, ...], area: Floats | None, *, exact: bool, periodic: bool
) -> BlockLatents:
    """The latents of a block.

    Parameters
    ----------
    fields : float64 array, shape (times, channels, rows, columns)
        1 to ``block`` times; channels that are not present may hold anything.
    present : tuple of int
    area : float64 array, shape (rows,), optional
        Proportional to what an error in a row counts.
    exact : bool
        Whether the columns of the rows are orthonormal, as they are for the channels of a fit.
    periodic : bool

    Raises
    ------
    InvalidConfigError
        If shapes or channels are not of this base, none is present, or a value of one that is present is not finite.
    """
    block = len(arrays.time_modes)
    if fields.ndim != 4 or fields.shape[1] != len(arrays.kept) or not 1 <= len(fields) <= block:
        raise InvalidConfigError(f"a block has 1 to {block} times of {len(arrays.kept)} channels, got {fields.shape}")
    there = tuple(sorted(set(present)))
    if not there or there[0] < 0 or there[-1] >= len(arrays.kept):
        raise InvalidConfigError(f"the channels present are among 0 to {len(arrays.kept) - 1} and at least one, got {present}")
    modes = spatial_modes(arrays, fields, there, periodic=periodic)
    weights = area_of_patches(area, fields.shape[2], len(arrays.turn))
    complete = exact and len(there) == len(arrays.kept)
    common, specific, _ = latents_of(arrays, modes, there, weights, exact=complete)
    return BlockLatents(common, specific, there)


def latents_of(
    arrays: BasisArrays, modes: Floats, there: tuple[int, ...], area: Floats, *, exact: bool
) -> tuple[Int32, Int32, Floats]:
    """Latents of a block that is already in spatial modes, and what they leave.

    Parameters
    ----------
    modes : float64 array, shape (times, sum of kept over the channels there, y, x)
    there : tuple of int
    area : float64 array, shape (y,)
    exact : bool
        Whether components are found by transposing the rows.

    Returns
    -------
    common : int32 array, shape (Kc, y, x)
    specific : int32 array, shape (times, Ks, y, x)
    left : float64 array, shape of ``modes``
    """
    times, _, *grid = modes.shape
    step, block, noise = arrays.step_size, len(arrays.time_modes), arrays.step_size**2 / 12
    flat = modes.reshape(times, modes.shape[1], -1)
    padded = np.concatenate([flat, np.repeat(flat[-1:], block - times, 0)])
    rows = arrays.common_rows[_rows_present(arrays, there)]
    components = _project(rows, padded, arrays.common_variance, noise, exact=exact)
    time_modes = arrays.time_modes.astype(np.float64) * 2.0**-MODE_BITS
    k, j = arrays.common_index.T
    slow = np.einsum("it,tip->ip", time_modes[j], components[:, k], optimize=True)
    common = chosen(slow.reshape(1, len(k), *grid) / step, area)[0]
    known = at_times(common.reshape(len(k), -1) * step, arrays.common_index, time_modes, rows.shape[1])
    left = flat - (rows.astype(np.float64) * _ONE) @ known[:times]
    specific = np.zeros((times, arrays.specific_slice(arrays.groups - 1).stop, *grid), np.int32)
    owner = np.repeat(arrays.group[list(there)], arrays.kept[list(there)])
    for group, (part, variance) in enumerate(zip(arrays.specific_rows, arrays.specific_variance, strict=True)):
        inside = np.flatnonzero(owner == group)
        if len(inside):
            mine = part[_rows_present(arrays, there, group)]
            found = _project(mine, left[:, inside], variance, noise, exact=exact)
            whole = chosen(found.reshape(times, -1, *grid) / step, area)
            specific[:, arrays.specific_slice(group)] = whole
            left[:, inside] -= (mine.astype(np.float64) * (_ONE * step)) @ whole.reshape(times, len(found[0]), -1)
    return common, specific, left.reshape(modes.shape)


def area_of_patches(area: Floats | None, rows: int, patch: int) -> Floats:
    """Mean weight of each row of patches, mean 1 over them."""
    down = -(-rows // patch)
    given = np.ones(rows) if area is None else np.asarray(area, np.float64)
    if given.shape != (rows,) or not (np.isfinite(given) & (given > 0)).all():
        raise InvalidConfigError(f"the weights of {rows} rows are as many positive numbers, got shape {given.shape}")
    found = np.pad(given, (0, down * patch - rows), mode="edge").reshape(down, patch).mean(1)
    return np.asarray(found / found.mean())


def spatial_modes(arrays: BasisArrays, fields: Floats, channels: tuple[int, ...], *, periodic: bool) -> Floats:
    """Normalised fields in the modes of their channels: shape (times, sum of kept, y, x)."""
    turn, spatial = arrays.turn.astype(np.float64) * _ONE, arrays.spatial.astype(np.float64) * _ONE
    found = []
    for channel in channels:
        anomaly = (np.asarray(fields[:, channel], np.float64) - arrays.mean[channel]) / arrays.scale[channel]
        if not np.isfinite(anomaly).all():
            raise InvalidConfigError(f"channel {channel} holds values that are not finite; fill them first or leave it out")
        patches = to_patches(anomaly, turn, periodic=periodic)
        patches = mirror_half(patches, int(arrays.mirrored[0]), odd=bool(arrays.odd[channel]))
        found.append(np.einsum("ms,tmyx->tsyx", spatial[:, : int(arrays.kept[channel])], patches, optimize=True))
    return np.concatenate(found, 1)


def _rows_present(arrays: BasisArrays, there: tuple[int, ...], group: int | None = None) -> npt.NDArray[np.intp]:
    """Indices of the rows of the channels that are there: of the common part, or within a group's part."""
    owner = np.repeat(np.arange(len(arrays.kept)), arrays.kept)
    if group is not None:
        owner = owner[arrays.group[owner] == group]
    return np.flatnonzero(np.isin(owner, there))


def _project(rows: Int16, values: Floats, variance: Floats, noise: float, *, exact: bool) -> Floats:
    """Components of values (times, rows, places): by transposing where the columns are orthonormal, else most likely ones."""
    weights = rows.astype(np.float64) * _ONE
    if exact:
        return np.asarray(weights.T @ values)
    normal = weights.T @ weights + np.diag(noise / variance)
    return np.asarray(np.linalg.solve(normal, weights.T) @ values)
