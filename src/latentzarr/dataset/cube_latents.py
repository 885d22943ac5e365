"""The latents of a cube in its store: ordinary integer arrays with labelled dimensions, and the fields they stand for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from latentzarr.cube.basis import BlockLatents, JointBasis
from latentzarr.cube.basis_file import read_basis
from latentzarr.cube.synthesis import LIMIT
from latentzarr.cube.table import ReferenceTable
from latentzarr.dataset.cube_header import LATENTS, BlockPlace, CubeHeader
from latentzarr.dataset.cube_layout import read_blob, write_blob
from latentzarr.dataset.storage import quiet
from latentzarr.errors import StoreError
from latentzarr.scaling import FRACTION

__all__ = ["COMMON", "SPECIFIC", "Base", "LatentArrays", "as_dtype", "create_latents", "matched_channels"]

COMMON, SPECIFIC = LATENTS
_HELD_BYTES = 64 * 2**20
_SHARD_TIMES = 16

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]


def create_latents(root: zarr.Group, ds: xr.Dataset, header: CubeHeader, basis: JointBasis) -> None:
    """Empty arrays for latents, their coordinates, and the base itself."""
    write_blob(root, "basis", basis.blob)
    y, x = basis.latent_grid(*header.shape)
    blocks = sum(count for _, count in header.blocks)
    codec = [BloscCodec(cname="zstd", clevel=9, shuffle="bitshuffle", typesize=2)]
    time = header.time or "latent_time"
    arrays = (
        (COMMON, (blocks, basis.common_count, y, x), 1, ("latent_block", "latent_common_channel", "latent_y", "latent_x")),
        (SPECIFIC, (header.times, basis.specific_count, y, x), _SHARD_TIMES, (time, "latent_channel", "latent_y", "latent_x")),
    )
    with quiet():
        for name, shape, together, dims in arrays:
            if min(shape) == 0:
                continue
            array = root.create_array(
                name, shape=shape, dtype="int16", chunks=(1, *shape[1:]), shards=(together, *shape[1:]) if together > 1 else None,
                compressors=codec, dimension_names=dims, fill_value=0,
            )  # fmt: skip
            array.attrs["long_name"] = "latents of a joint base, integers in units of its quantum"
            array.attrs["quantum"] = float(basis.step)
        for name, size, dim in (("latent_y", y, header.rows), ("latent_x", x, header.columns)):
            values = _centres(ds, dim, size, basis.patch)
            axis = root.create_array(name, shape=values.shape, dtype=values.dtype, chunks=values.shape, dimension_names=(name,))
            axis[:] = values
            axis.attrs["long_name"] = f"centres of patches along {dim}"
        groups = np.repeat(np.arange(basis.groups), [_length(basis.specific_slice(g)) for g in range(basis.groups)]).astype(
            "int32"
        )
        if len(groups):
            axis = root.create_array(
                "latent_group", shape=groups.shape, dtype="int32", chunks=groups.shape, dimension_names=("latent_channel",)
            )
            axis[:] = groups
            axis.attrs["meaning"] = [sorted({c.variable for i, c in enumerate(basis.channels.channels) if basis.group_of(i) == g})
                                     for g in range(basis.groups)]  # fmt: skip


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _centres(ds: xr.Dataset, dim: str, size: int, patch: int) -> npt.NDArray[np.float64]:
    """Coordinates of the middle of each patch, or indices."""
    count = ds.sizes[dim]
    middles = np.minimum((np.arange(size) + 0.5) * patch - 0.5, count - 1.0)
    if dim in ds.coords and ds[dim].ndim == 1 and ds[dim].dtype.kind in "fiu":
        return np.interp(middles, np.arange(count), ds[dim].values.astype(np.float64))
    return middles


class LatentArrays:
    """The latents' arrays of an opened cube."""

    def __init__(self, root: zarr.Group, basis: JointBasis, header: CubeHeader) -> None:
        self.basis, self.header = basis, header
        self._common, self._specific = (root.get(name) for name in (COMMON, SPECIFIC))
        for found, count, name in ((self._common, basis.common_count, COMMON), (self._specific, basis.specific_count, SPECIFIC)):
            if count and (
                not isinstance(found, zarr.Array) or found.ndim != 4 or found.shape[1] != count or found.dtype.kind != "i"
            ):
                raise StoreError(f"the latents {name!r} are missing or not those of the cube's base", place=str(root.store_path))

    def write(self, index: int, place: BlockPlace, latents: BlockLatents) -> None:
        """Store the latents of a block."""
        if isinstance(self._common, zarr.Array):
            self._common[index] = latents.common.astype(np.int16)
        if isinstance(self._specific, zarr.Array):
            self._specific[place.first : place.first + place.length] = latents.specific.astype(np.int16)

    def common(self, index: int) -> Int32:
        """Common latents of a block, shape (Kc, y, x)."""
        if not isinstance(self._common, zarr.Array):
            return np.zeros((0, *self.basis.latent_grid(*self.header.shape)), np.int32)
        return np.asarray(self._common[index]).astype(np.int32)

    def specific(self, time: int) -> Int32:
        """Specific latents of a time, shape (Ks, y, x)."""
        if not isinstance(self._specific, zarr.Array):
            return np.zeros((0, *self.basis.latent_grid(*self.header.shape)), np.int32)
        return np.asarray(self._specific[time]).astype(np.int32)


class Base:
    """What the latents say of fields, decoded as they are asked for; a bounded number of whole fields is held.

    Parameters
    ----------
    root : zarr.Group
    header : CubeHeader
    """

    def __init__(self, root: zarr.Group, header: CubeHeader) -> None:
        self.header = header
        self.basis = read_basis(read_blob(root, "basis"), header.basis)
        if len(header.latent_channels) != header.channels or max(header.latent_channels) >= len(self.basis.channels):
            raise StoreError(f"a cube of {header.channels} channels whose base has {len(self.basis.channels)}")
        self.arrays = LatentArrays(root, self.basis, header)
        self._held: OrderedDict[tuple[str, int, int], Int32] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def _remember(self, key: tuple[str, int, int], make: Any) -> Int32:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made: Int32 = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = made
                self._bytes += made.nbytes
            while self._bytes > _HELD_BYTES and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return made

    def field(self, time: int, channel: int) -> Int32:
        """A whole field in 1/1024 of the channel's scale; ``channel`` is the cube's."""
        index, place = self.header.block_of(time)

        def make() -> Int32:
            common = self._remember(("common", index, 0), lambda: self.arrays.common(index))
            specific = self._remember(("specific", time, 0), lambda: self.arrays.specific(time))
            of_base = self.header.latent_channels[channel]
            return self.basis.decode(common, specific, [of_base], *self.header.shape, time=time - place.first)[0]

        return self._remember(("field", time, channel), make)

    def values(self, time: int, channel: int) -> npt.NDArray[np.float64]:
        """A whole field in the channel's units."""
        return self.basis.values(self.field(time, channel)[None], [self.header.latent_channels[channel]])[0]

    def nominal(self, time: int, channel: int, table: ReferenceTable, where: tuple[slice, slice]) -> Int32:
        """A part of a field on the channel's nominal lattice, as references look at it."""
        return on_nominal(self.values(time, channel)[where], channel, table)


def as_dtype(values: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Values in a variable's own dtype: integers and booleans the nearest there is."""
    if dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        values = np.clip(np.rint(values), low, high)
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def on_nominal(values: npt.NDArray[np.float64], channel: int, table: ReferenceTable) -> Int32:
    """Values on a channel's nominal lattice."""
    on = np.floor((values - table.origin[channel]) / table.step[channel] * FRACTION + 0.5)
    return np.clip(on, -LIMIT, LIMIT).astype(np.int32)


def matched_channels(header: CubeHeader, basis: JointBasis, levels: Mapping[str, Sequence[float]]) -> tuple[int, ...] | None:
    """For each channel of a cube the channel of a base: the same variable, and the same level where there are several.

    None where the base lacks a channel.
    """
    found = []
    for v in header.variables:
        own = basis.channels.of_variable(v.name)
        wanted = levels.get(v.name, ())
        for c in range(v.channels):
            if v.channels == len(own) == 1:
                found.append(own[0])
                continue
            near = [i for i in own if c < len(wanted) and np.isclose(basis.channels[i].level, wanted[c], rtol=1e-5)]
            if not near and c < len(wanted) and len(own) == v.channels and not any(basis.channels[i].level for i in own):
                near = [own[c]]
            if not near:
                return None
            found.append(near[0])
    return tuple(found)
