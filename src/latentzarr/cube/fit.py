"""A base fitted in closed form: spatial modes, joint modes, the split in time, and the quantum at which a wanted error is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from latentzarr.cube.analysis import quantised
from latentzarr.cube.arrays import MODE_BITS, BasisArrays
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.basis_file import build_basis
from latentzarr.cube.channels import ChannelTable
from latentzarr.cube.klt import principal
from latentzarr.cube.lapped import WEIGHT_BITS, edge_turn, to_patches
from latentzarr.cube.time_split import at_times, cosine_modes, modes_in_common, water_level
from latentzarr.errors import InvalidConfigError

__all__ = ["fit_basis"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

_DROPPED = 0.1  # spatial modes of less variance than this share of the wanted error are not used
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
    access: float = 1.0,
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
    access : float
        What the bits that one time needs count beside the bits of the whole block: 0 for the fewest bits, large for cheap access.

    Raises
    ------
    InvalidConfigError
        If shapes disagree, values are not finite, or a parameter is out of range.
    """
    table = _checked(fields, channels, block, quality, groups, patch)
    scale = channels.deviations if scale is None else np.asarray(scale, np.float64)
    mean = channels.means
    turn, spatial, kept, modes, lost, area = _spatial(fields, mean, scale, latitude_weights, patch, quality, periodic=periodic)
    times, rows, _, _ = modes.shape
    allowed = max(quality - lost, 0.2 * quality) * len(channels) * patch**2
    root = np.sqrt(np.repeat(area, modes.shape[3])[None, :] / (times * area.size * modes.shape[3])).astype(np.float32)
    flat = modes.reshape(times, rows, -1)

    variance, joint = principal(_samples(flat, root), 0.02 * quality, _MOST)
    parts = np.stack([joint.T @ f for f in flat])
    time_modes = cosine_modes(block)
    starts = range(0, times - block + 1, block)
    spectrum = np.mean([((np.tensordot(time_modes, parts[s : s + block], 1)) ** 2 @ (root[0] ** 2)).T * times for s in starts], 0)
    outside = max(float((flat.astype(np.float64) ** 2 @ (root[0].astype(np.float64) ** 2)).sum() - variance.sum()), 0.0)
    level = water_level(spectrum, access, max(allowed - outside, 0.2 * allowed))
    counts, _ = modes_in_common(spectrum, level, access)
    chosen = np.arange(block) < (counts[:, None] if block > 1 else 1)
    index = np.argwhere(chosen & (spectrum > _RARE * level))
    index = index if len(index) else np.zeros((1, 2), np.intp)
    used, renumbered = np.unique(index[:, 0], return_inverse=True)
    index = np.stack([renumbered.reshape(-1), index[:, 1]], 1)
    joint, variance = joint[:, used], variance[used]

    step = float(np.sqrt(11.0 * level))
    owner = np.repeat(table, kept)
    specific: list[tuple[Floats, Floats]] = []
    rest = np.concatenate(
        [_left(parts[s : s + block][:, used], flat[s : s + block], joint, index, time_modes, 0.0) for s in starts]
    )
    for group in range(int(table.max()) + 1):
        inside = np.flatnonzero(owner == group)
        specific.append(principal(_samples(rest[:, inside], root), _RARE * level, _MOST))

    def error(step: float) -> float:
        total = 0.0
        chosen = list(starts)[:: max(len(starts) // _BLOCKS_TRIED, 1)]
        for s in chosen:
            left = _left(parts[s : s + block][:, used], flat[s : s + block], joint, index, time_modes, step)
            for group, (_, directions) in enumerate(specific):
                inside = np.flatnonzero(owner == group)
                mine = left[:, inside]
                latents = quantised(np.matmul(directions.T, mine), step)
                left[:, inside] = mine - directions @ (latents * step)
            total += (
                float((left.astype(np.float64) ** 2 @ (root[0].astype(np.float64) ** 2)).sum()) * times / (block * len(chosen))
            )
        return total / (len(channels) * patch**2) + lost

    step = _met(error, step, quality)
    arrays = BasisArrays(
        turn=_whole(turn, WEIGHT_BITS), spatial=_whole(spatial, WEIGHT_BITS), kept=kept, group=table,
        time_modes=_whole(time_modes, MODE_BITS), common_rows=_whole(joint, WEIGHT_BITS), common_index=index.astype(np.int32),
        specific_rows=tuple(_whole(d, WEIGHT_BITS) for _, d in specific),
        common_variance=variance, specific_variance=tuple(v for v, _ in specific),
        scale=scale, mean=mean, step=_step(step),
    )  # fmt: skip
    return build_basis(arrays, channels, quality=float(quality), periodic=periodic, exact=True)


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


def _spatial(
    fields: npt.NDArray[np.floating],
    mean: Floats,
    scale: Floats,
    weights: Floats | None,
    patch: int,
    quality: float,
    *,
    periodic: bool,
) -> tuple[Floats, Floats, npt.NDArray[np.int32], Singles, float, Floats]:
    """The turn, spatial modes, how many each channel uses, samples in them, the error that leaves, and area by row of patches."""
    turn = edge_turn(patch)
    cut = [to_patches((f.astype(np.float64) - mean[:, None, None]) / scale[:, None, None], turn, periodic=periodic).astype(np.float32)
           for f in fields]  # fmt: skip
    down = cut[0].shape[2]
    area = np.ones(fields.shape[2]) if weights is None else np.asarray(weights, np.float64)
    area = np.pad(area, (0, down * patch - len(area)), mode="edge").reshape(down, patch).mean(1)
    area /= area.mean()
    root = np.sqrt(area).astype(np.float32)[:, None]
    moment = np.zeros((patch**2,) * 2)
    for c in cut:
        part = np.moveaxis(c * root, 1, 0).reshape(patch**2, -1).astype(np.float64)
        moment += part @ part.T
    spatial = np.linalg.eigh(moment)[1][:, ::-1]
    spatial = spatial * np.where(spatial[np.abs(spatial).argmax(0), np.arange(patch**2)] < 0, -1.0, 1.0)
    turned = [np.einsum("ms,cmyx->csyx", spatial.astype(np.float32), c, optimize=True) for c in cut]
    variance = np.mean([((t * root) ** 2).mean((2, 3), dtype=np.float64) for t in turned], 0)
    above = variance > _DROPPED * quality
    kept = np.maximum(np.where(above.any(1), patch**2 - above[:, ::-1].argmax(1), 1), 1).astype(np.int32)
    lost = float(sum(variance[c, k:].sum() for c, k in enumerate(kept)) / variance.size)
    modes = np.stack([np.concatenate([t[c, :k] for c, k in enumerate(kept)]) for t in turned])
    return turn, spatial, kept, modes, lost, area


def _samples(flat: Singles, root: Singles) -> Singles:
    """Weighted samples (n, dimensions) of modes (times, dimensions, places)."""
    return np.ascontiguousarray((flat * root).transpose(0, 2, 1)).reshape(-1, flat.shape[1])


def _left(parts: Floats, flat: Singles, joint: Floats, index: npt.NDArray[np.intp], time_modes: Floats, step: float) -> Singles:
    """What the common latents of a block leave, not quantised where the step is 0."""
    k, j = index.T
    latents = np.einsum("it,tip->ip", time_modes[j], parts[:, k], optimize=True)
    if step:
        latents = quantised(latents, step) * step
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


def _step(step: float) -> npt.NDArray[np.int32]:
    """The step as a whole number of 15 bits and a shift."""
    mantissa, exponent = np.frexp(step)
    whole = round(float(mantissa) * 2**15)
    return np.array([whole // 2, 14 - exponent] if whole == 2**15 else [whole, 15 - exponent], np.int32)
