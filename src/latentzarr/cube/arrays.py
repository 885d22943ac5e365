"""The numbers of a cube's base as a value, with the check, made once, that its arithmetic stays exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.cube.quantise import LATENT_TOP
from latentzarr.errors import UntrustedModelError

__all__ = ["MODE_BITS", "TIME_BITS", "BasisArrays", "BlockLatents"]

Floats = npt.NDArray[np.float64]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]

MAX_PATCH = 32
MAX_BLOCK = 64
MAX_COMPONENTS = 8192
TIME_BITS = 10
"""Fractional bits of a component's value at one time."""
MODE_BITS = 14
"""Fractional bits of the time modes."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockLatents:
    """What a block is stored as.

    Attributes
    ----------
    common : int32 array, shape (Kc, y, x)
    specific : int32 array, shape (times, Ks, y, x)
    present : tuple of int
        Channels that were there to be encoded; the others are decoded from these as well as they can be.
    """

    common: Int32
    specific: Int32
    present: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class BasisArrays:
    """The numbers of a base.

    Attributes
    ----------
    turn : int16 array, shape (patch, patch)
        Around the edges of patches, in units of 2**-15.
    spatial : int16 array, shape (patch * patch, patch * patch)
        Columns are shared spatial modes, strongest first; 2**-15.
    kept : int32 array, shape (channels,)
        How many of them a channel uses.
    group : int32 array, shape (channels,)
        Which group of specific latents a channel belongs to; every group from 0 on has a channel.
    time_modes : int16 array, shape (block, block)
        Rows are modes; 2**-14.
    common_rows : int16 array, shape (sum of kept, components)
        2**-15.
    common_index : int32 array, shape (Kc, 2)
        Component and time mode of every common latent.
    specific_rows : tuple of int16 arrays, each (sum of kept in the group, components of the group)
    common_variance, specific_variance : float64 array, tuple of float64 arrays
        Of the components in the fit, squared scales; used where channels are missing.
    scale, mean : float64 arrays, shape (channels,)
        A value is ``mean + scale * decoded / 1024``.
    odd : int32 array, shape (channels,)
        1 where a channel changes its sign when a field is turned upside down, as northward winds do; else 0.
    mirrored : int32 array, shape (1,)
        Which half of the rows lies in the other hemisphere, as in `latentzarr.cube.lapped.mirror_half`.
    step : int32 array, shape (2,)
        The quantum of all latents is ``step[0] * 2**-step[1]`` scales.

    Raises
    ------
    UntrustedModelError
        If shapes or dtypes disagree, or the numbers could leave the exact range of the arithmetic.
    """

    turn: Int16
    spatial: Int16
    kept: Int32
    group: Int32
    time_modes: Int16
    common_rows: Int16
    common_index: Int32
    specific_rows: tuple[Int16, ...]
    common_variance: Floats
    specific_variance: tuple[Floats, ...]
    scale: Floats
    mean: Floats
    odd: Int32
    mirrored: Int32
    step: Int32

    def __post_init__(self) -> None:
        patch, block, channels = len(self.turn), len(self.time_modes), len(self.kept)
        groups = len(self.specific_rows)
        _require(2 <= patch <= MAX_PATCH and patch % 2 == 0, f"a patch has an even side up to {MAX_PATCH}, this one {patch}")
        _require(1 <= block <= MAX_BLOCK, f"a block has up to {MAX_BLOCK} times, this one {block}")
        _same(self.turn, np.int16, (patch, patch), "turn")
        _same(self.spatial, np.int16, (patch * patch,) * 2, "spatial")
        _same(self.time_modes, np.int16, (block, block), "time_modes")
        for name in ("kept", "group", "odd"):
            _same(getattr(self, name), np.int32, (channels,), name)
        _require(bool(((self.kept >= 1) & (self.kept <= patch * patch)).all()), "a channel uses 1 to all spatial modes")
        _require(sorted(set(self.group.tolist())) == list(range(groups)), "the groups are not numbered from 0 on")
        for name in ("scale", "mean"):
            _same(getattr(self, name), np.float64, (channels,), name)
            _require(bool(np.isfinite(getattr(self, name)).all()), f"{name} is not finite")
        _require(bool((self.scale > 0).all()), "a scale is not positive")
        components = self.common_rows.shape[-1]
        _same(self.common_rows, np.int16, (int(self.kept.sum()), components), "common_rows")
        _same(self.common_variance, np.float64, (components,), "common_variance")
        _same(self.common_index, np.int32, (len(self.common_index), 2), "common_index")
        pairs = set(map(tuple, self.common_index.tolist()))
        within = all(0 <= k < components and 0 <= j < block for k, j in pairs)
        _require(1 <= len(self.common_index) == len(pairs) and within, "the common latents are not those of a basis")
        _require(len(self.specific_variance) == groups, "a group has no variances")
        for g, (rows, variance) in enumerate(zip(self.specific_rows, self.specific_variance, strict=True)):
            _same(rows, np.int16, (int(self.kept[self.group == g].sum()), rows.shape[-1]), f"specific_rows.{g}")
            _same(variance, np.float64, (rows.shape[-1],), f"specific_variance.{g}")
        for variance in (self.common_variance, *self.specific_variance):
            _require(bool((np.isfinite(variance) & (variance > 0)).all()), "a variance is not positive")
        for rows in (self.common_rows, *self.specific_rows):
            _require(1 <= rows.shape[1] <= MAX_COMPONENTS, f"a part has 1 to {MAX_COMPONENTS} components")
        _same(self.mirrored, np.int32, (1,), "mirrored")
        _require(0 <= int(self.mirrored[0]) <= 2 and set(self.odd.tolist()) <= {0, 1}, "mirrored or odd is out of range")
        _same(self.step, np.int32, (2,), "step")
        _require(2**14 <= int(self.step[0]) < 2**15 and 6 <= int(self.step[1]) <= 32, "the step is out of range")
        modes = np.abs(self.time_modes.astype(np.int64)).sum(0).max() * 2.0**-MODE_BITS
        most = sum(float(np.abs(r.astype(np.int64)).sum(1).max()) for r in self.specific_rows)
        most += float(np.abs(self.common_rows.astype(np.int64)).sum(1).max()) * (float(modes) + 1.0)
        _require(most * 2.0**TIME_BITS * LATENT_TOP < 2.0**53, "the weights could leave the exact range of the arithmetic")

    @property
    def step_size(self) -> float:
        """The quantum of the latents, in scales."""
        return float(self.step[0]) * 2.0 ** -float(self.step[1])

    @property
    def groups(self) -> int:
        """Number of groups of specific latents."""
        return len(self.specific_rows)

    def specific_slice(self, group: int) -> slice:
        """Where a group's latents lie among the specific ones."""
        sizes = [r.shape[1] for r in self.specific_rows]
        return slice(sum(sizes[:group]), sum(sizes[: group + 1]))

    def rows_of(self, channel: int) -> tuple[slice, slice]:
        """A channel's rows in ``common_rows`` and in its group's ``specific_rows``."""
        before = self.kept[:channel]
        start, within = int(before.sum()), int(before[self.group[:channel] == self.group[channel]].sum())
        kept = int(self.kept[channel])
        return slice(start, start + kept), slice(within, within + kept)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UntrustedModelError(f"a base that cannot be meant: {otherwise}")


def _same(array: object, dtype: type[np.generic], shape: tuple[int, ...], name: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UntrustedModelError(f"{name} should be {np.dtype(dtype)}{shape}, is {found}")
