"""A base fitted in closed form: spatial modes, joint modes, the split in time, and the quantum at which a wanted error is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from latentzarr.cube.analysis import area_of_patches, latents_of
from latentzarr.cube.arrays import MODE_BITS, BasisArrays
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.basis_file import build_basis
from latentzarr.cube.channels import ChannelTable, odd_channels
from latentzarr.cube.klt import principal
from latentzarr.cube.lapped import WEIGHT_BITS
from latentzarr.cube.spatial_fit import fit_spatial
from latentzarr.cube.time_split import at_times, cosine_modes, modes_in_common, water_level
from latentzarr.errors import InvalidConfigError

__all__ = ["fit_basis", "step_pair"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

_RARE = 0.2  # components of less variance than this share of the water level are not used
_MOST = 4096
_TRIALS = 6
_BLOCKS_TRIED = 6


def fit_basis(
    fields: npt.NDArray[np.floating],
    channels: ChannelTable,
    block: int,
    quality: float,
    latitude_weights: Floats | None = None,
    *,
    groups: Sequence[Sequence[int]] | None = None,
    scale: Floats | None = None,
    patch: int = 8,
    periodic: bool = False,
    mirrored: int = 0,
    access: float = 1.0,
    background: npt.NDArray[np.floating] | None = None,
) -> JointBasis:
    """Fit a base to fields.

    Parameters
    ----------
    fields : float array, shape (times, channels, rows, columns)
        Finite, at least ``block`` times, in the channels' units.
    channels : ChannelTable
    block : int
        Time steps that are coded together.
    quality : float
        Mean square error wanted, in squared scales, averaged over channels (and by area).
    latitude_weights : float64 array, shape (rows,), optional
        Proportional to the area of a cell; one where not given.
    groups : sequence of sequences of int, optional
        Channels that share specific latents; all in one group where not given.
    scale : float64 array, shape (channels,), optional
        What an error of one means in each channel; its standard deviation where not given.
    patch : int
        Even.
    periodic : bool
        Whether the last column is a neighbour of the first.
    mirrored : int
        Which half of the rows lies south of the equator, of grids over both hemispheres: 0 neither, 1 the first, 2 the last.
    access : float
        What the bits that one time needs count beside the bits of the whole block: 0 for the fewest bits, large for cheap access.
    background : float array, shape (more times, channels, rows, columns), optional
        Further fields for the joint modes; what is slow is learned from ``fields`` alone.

    Raises
    ------
    InvalidConfigError
        If shapes disagree, values are not finite, or a parameter is out of range.
    """
    table = _checked(fields, channels, block, quality, groups, patch)
    scale = channels.deviations if scale is None else np.asarray(scale, np.float64)
    area = area_of_patches(latitude_weights, fields.shape[2], patch)
    every = fields if background is None else np.concatenate([fields, background])
    odd = odd_channels(channels)
    found = fit_spatial(every, channels.means, scale, area, patch, quality, mirrored, odd, periodic=periodic)
    times, (dimensions, down, across) = len(fields), found.modes.shape[1:]
    flat = found.modes.reshape(len(every), dimensions, -1)
    cells = np.repeat(area, across) / (len(every) * down * across)  # what a place at a time counts
    allowed = max(quality - found.lost, 0.2 * quality) * len(channels) * patch**2

    _, joint = principal(_samples(flat, cells), 0.02 * quality, _MOST)
    flat, cells = flat[:times], cells * (len(every) / times)
    parts = np.stack([joint.T @ f for f in flat])
    variance = np.maximum((parts**2 @ cells).sum(0), 1e-12)
    outside = max(float((np.square(flat, dtype=np.float64) @ cells).sum() - variance.sum()), 0.0)
    time_modes = cosine_modes(block)
    blocks = [slice(s, s + block) for s in range(0, times - block + 1, block)]
    spectrum = np.mean([np.tensordot(time_modes, parts[b], 1) ** 2 @ (cells * times) for b in blocks], 0).T
    level = water_level(spectrum, access, max(allowed - outside, 0.2 * allowed))
    index = _common_index(spectrum, level, access)
    used, index[:, 0] = np.unique(index[:, 0], return_inverse=True)

    rest = np.concatenate([_left(parts[b][:, used], flat[b], joint[:, used], index, time_modes) for b in blocks])
    owner = np.repeat(table, found.kept)
    specific = [principal(_samples(rest[:, owner == g], cells), _RARE * level, _MOST) for g in range(int(table.max()) + 1)]
    arrays = BasisArrays(
        turn=_whole(found.turn, WEIGHT_BITS), spatial=_whole(found.spatial, WEIGHT_BITS), kept=found.kept, group=table,
        time_modes=_whole(time_modes, MODE_BITS), common_rows=_whole(joint[:, used], WEIGHT_BITS),
        common_index=index.astype(np.int32), specific_rows=tuple(_whole(d, WEIGHT_BITS) for _, d in specific),
        common_variance=variance[used], specific_variance=tuple(v for v, _ in specific),
        scale=scale, mean=channels.means, odd=odd, mirrored=np.array([mirrored], np.int32),
        step=step_pair(float(np.sqrt(10.0 * level))),
    )  # fmt: skip
    tried = blocks[:: max(len(blocks) // _BLOCKS_TRIED, 1)]

    def error(step: float) -> float:
        total, trial = 0.0, replace(arrays, step=step_pair(step))
        for b in tried:
            modes = found.modes[b].astype(np.float64)
            _, _, left = latents_of(trial, modes, tuple(range(len(channels))), area, exact=True)
            total += float((left.reshape(block, dimensions, -1) ** 2 @ cells).sum()) * times / (block * len(tried))
        return total / (len(channels) * patch**2) + found.lost

    arrays = replace(arrays, step=step_pair(_met(error, arrays.step_size, quality)))
    return build_basis(arrays, channels, quality=float(quality), periodic=periodic, exact=True)


def _common_index(spectrum: Floats, level: float, access: float) -> npt.NDArray[np.intp]:
    """Component and time mode of every common latent, shape (Kc, 2)."""
    block = spectrum.shape[1]
    counts = modes_in_common(spectrum, level, access)[0] if block > 1 else np.ones(len(spectrum), np.intp)
    index = np.argwhere((np.arange(block) < counts[:, None]) & (spectrum > _RARE * level))
    if not len(index):
        return np.zeros((1, 2), np.intp)
    return index[np.argsort(-spectrum[index[:, 0], index[:, 1]], kind="stable")]


def _checked(
    fields: npt.NDArray[np.floating],
    channels: ChannelTable,
    block: int,
    quality: float,
    groups: Sequence[Sequence[int]] | None,
    patch: int,
) -> npt.NDArray[np.int32]:
    """The group of each channel."""
    if fields.ndim != 4 or fields.shape[1] != len(channels) or len(fields) < block:
        raise InvalidConfigError(f"a fit takes at least {block} times of {len(channels)} channels, got shape {fields.shape}")
    if not 1 <= block <= 64 or not 0 < quality < 1 or patch % 2 or not 2 <= patch <= 32:
        raise InvalidConfigError(
            f"block is 1 to 64, quality between 0 and 1, patch even up to 32; got {block}, {quality}, {patch}"
        )
    if not np.isfinite(fields).all():
        raise InvalidConfigError("the fields of a fit hold values that are not finite; fill them first")
    table = np.zeros(len(channels), np.int32)
    if groups is not None:
        if sorted(c for g in groups for c in g) != list(range(len(channels))) or not all(map(len, groups)):
            raise InvalidConfigError("the groups do not hold every channel once")
        for number, group in enumerate(groups):
            table[list(group)] = number
    return table


def _samples(flat: Singles, cells: Floats) -> Singles:
    """Weighted samples (n, dimensions) of modes (times, dimensions, places)."""
    root = np.sqrt(cells).astype(np.float32)
    return np.ascontiguousarray((flat * root).transpose(0, 2, 1)).reshape(-1, flat.shape[1])


def _left(parts: Floats, flat: Singles, joint: Floats, index: npt.NDArray[np.intp], time_modes: Floats) -> Singles:
    """What the common latents of a block would leave if they were not quantised."""
    k, j = index.T
    latents = np.einsum("it,tip->ip", time_modes[j], parts[:, k], optimize=True)
    known = at_times(latents, index, time_modes, parts.shape[1])
    left: Singles = flat - np.matmul(joint.astype(np.float32), known.astype(np.float32))
    return left


def _met(error: Callable[[float], float], step: float, quality: float) -> float:
    """The step at which ``error`` is ``quality``: secant steps on logarithms."""
    slope, before = 1.4, None
    for _ in range(_TRIALS):
        off = float(np.log(error(step) / quality))
        if abs(off) < 0.01:
            break
        if before is not None and abs(np.log(step) - before[0]) > 1e-6:
            slope = float(np.clip((off - before[1]) / (np.log(step) - before[0]), 0.4, 2.2))
        before = float(np.log(step)), off
        step *= float(np.exp(-np.clip(off, -1.5, 1.5) / slope))
    return step


def _whole(values: Floats, bits: int) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(values * 2.0**bits), -(2**15) + 1, 2**15 - 1).astype(np.int16)


def step_pair(step: float) -> npt.NDArray[np.int32]:
    """The step as a whole number of 15 bits and a shift."""
    mantissa, exponent = np.frexp(step)
    whole = round(float(mantissa) * 2**15)
    return np.array([whole // 2, 14 - exponent] if whole == 2**15 else [whole, 15 - exponent], np.int32)
