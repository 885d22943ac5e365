"""Rows of a base for channels it was not fitted to, made from their metadata: a linear hypernetwork in closed form.

Rows are a linear function of a channel's embedding, found by ridge regression on the channels of the fit. Written out, the rows
of a new channel are a blend of the rows of known ones, with weights that depend on embeddings alone: a level between two others
gets a bit of each. The blend is made once, by whoever encodes, and its whole numbers travel in the bytes of the new base; nothing
is generated when a store is read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentzarr.cube.arrays import BasisArrays
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.basis_file import build_basis
from latentzarr.cube.channels import Channel, ChannelTable, odd_channels
from latentzarr.cube.embedding import embedding

__all__ = ["adapted", "blend_weights"]

Floats = npt.NDArray[np.float64]

_RIDGE = 1e-3


def adapted(basis: JointBasis, channels: ChannelTable) -> JointBasis:
    """The base for another set of channels: known ones keep their rows, new ones get rows made from their metadata.

    Channels of the fit that are not asked for are left out. A new channel joins the group of the channel it is most like. Means
    and scales are those of ``channels`` for new channels and of the base for known ones.
    """
    known = {_key(c): i for i, c in enumerate(basis.channels.channels)}
    arrays, every = basis.arrays, np.arange(len(basis.channels))
    weights = np.zeros((len(channels), len(every)))
    for place, channel in enumerate(channels.channels):
        index = known.get(_key(channel))
        weights[place] = np.eye(len(every))[index] if index is not None else blend_weights(channel, basis.channels)
    group = arrays.group[np.abs(weights).argmax(1)]
    numbers, group = np.unique(group, return_inverse=True)
    old = [known.get(_key(c)) for c in channels.channels]
    kept = np.array(
        [arrays.kept[i] if i is not None else _most_kept(arrays, w) for i, w in zip(old, weights, strict=True)], np.int32
    )
    common = np.concatenate([_blended(arrays, w, int(k), None) for w, k in zip(weights, kept, strict=True)])
    specific = []
    for place, number in enumerate(numbers):
        inside = np.flatnonzero(group == place)
        specific.append(np.concatenate([_blended(arrays, weights[c], int(kept[c]), int(number)) for c in inside]))
    scale = np.array([arrays.scale[i] if i is not None else c.std for i, c in zip(old, channels.channels, strict=True)])
    mean = np.array([arrays.mean[i] if i is not None else c.mean for i, c in zip(old, channels.channels, strict=True)])
    made = BasisArrays(
        turn=arrays.turn, spatial=arrays.spatial, kept=kept, group=group.astype(np.int32), time_modes=arrays.time_modes,
        common_rows=common, common_index=arrays.common_index, specific_rows=tuple(specific),
        common_variance=arrays.common_variance, specific_variance=tuple(arrays.specific_variance[int(n)] for n in numbers),
        scale=scale, mean=mean, odd=odd_channels(channels), mirrored=arrays.mirrored, step=arrays.step,
    )  # fmt: skip
    same = basis.exact and old == list(range(len(every)))
    return build_basis(made, channels, quality=basis.quality, periodic=basis.periodic, exact=same)


def blend_weights(channel: Channel, known: ChannelTable) -> Floats:
    """What share of each known channel's rows a channel gets, shape (len(known),); may be negative."""
    table = np.stack([embedding(c) for c in known.channels])
    likeness = table @ table.T + _RIDGE * np.eye(len(table))
    return np.asarray(np.linalg.solve(likeness, table @ embedding(channel)), np.float64)


def _key(channel: Channel) -> tuple[str, str, float]:
    return channel.standard_name or channel.variable, str(channel.kind), channel.level


def _most_kept(arrays: BasisArrays, weights: Floats) -> int:
    """Spatial modes of a new channel: as many as any of those it mainly consists of."""
    return int(arrays.kept[np.abs(weights) > 0.2 * np.abs(weights).max()].max())


def _blended(arrays: BasisArrays, weights: Floats, kept: int, group: int | None) -> npt.NDArray[np.int16]:
    """Rows (kept, components) of a channel, of the common part or of a group's."""
    source = arrays.common_rows if group is None else arrays.specific_rows[group]
    total = np.zeros((kept, source.shape[1]))
    for channel in np.flatnonzero(np.abs(weights) > 1e-6):
        if group is not None and arrays.group[channel] != group:
            continue
        rows = source[arrays.rows_of(int(channel))[0 if group is None else 1]]
        count = min(kept, len(rows))
        total[:count] += weights[channel] * rows[:count]
    return np.clip(np.rint(total), -(2**15) + 1, 2**15 - 1).astype(np.int16)
