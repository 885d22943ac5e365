"""Where the parts of a cube lie in its zarr group, and the few reads and writes of them.

Everything that is not latents or coordinates is in the hidden group ``.latentzarr/cube``, in stock dtypes and codecs, so that the
group opens without this package. `docs/reference/cube.md`, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec

from latentzarr.cube.bundle import pack_bundle, read_bundle
from latentzarr.dataset.carried import HIDDEN
from latentzarr.dataset.cube_header import CubeHeader, CubeVariable
from latentzarr.dataset.storage import quiet
from latentzarr.errors import LatentzarrError, StoreError

__all__ = [
    "add_refinement",
    "append_times",
    "drop_refinement",
    "read_blob",
    "read_bundle_at",
    "read_masks",
    "refinement_array",
    "write_blob",
    "write_bundles",
    "write_masks",
]

_PLACE = f"{HIDDEN}/cube"
_SPARE = 4096
_MAX_BLOB = 2**30


def _path(*parts: str) -> str:
    return "/".join((_PLACE, *parts))


def write_blob(group: zarr.Group, name: str, data: bytes) -> None:
    """Store bytes as an array of uint8, in place of any before."""
    values = np.frombuffer(data, np.uint8)
    with quiet():
        array = group.create_array(
            _path(name), shape=values.shape, dtype="uint8", chunks=(max(1, len(values)),), compressors=None, overwrite=True
        )
    array[:] = values


def read_blob(group: zarr.Group, name: str) -> bytes:
    """Bytes stored by `write_blob`.

    Raises
    ------
    StoreError
        If they are not there.
    """
    array = group.get(_path(name))
    if not isinstance(array, zarr.Array) or array.dtype != np.uint8 or array.ndim != 1 or array.size > _MAX_BLOB:
        raise StoreError(f"the cube's part {name!r} is missing or not an array of bytes", place=str(group.store_path))
    return np.asarray(array[:]).tobytes()


def write_masks(group: zarr.Group, masks: npt.NDArray[np.uint8]) -> None:
    """Store static masks, shape (masks, rows, columns); 1 where values are missing."""
    with quiet():
        array = group.create_array(
            _path("masks"), shape=masks.shape, dtype="uint8", chunks=(1, *masks.shape[1:]), compressors=[ZstdCodec(level=9)],
            dimension_names=("mask", "rows", "columns"), overwrite=True,
        )  # fmt: skip
    array[:] = masks


def read_masks(group: zarr.Group, index: int, where: tuple[slice, slice]) -> npt.NDArray[np.uint8]:
    """A part of a static mask."""
    array = group.get(_path("masks"))
    if not isinstance(array, zarr.Array) or array.dtype != np.uint8 or array.ndim != 3 or not 0 <= index < array.shape[0]:
        raise StoreError(f"the cube's mask {index} is missing", place=str(group.store_path))
    return np.asarray(array[(index, *where)])


def capacity_of(header: CubeHeader, variable: CubeVariable) -> int:
    """Bytes a chunk of a refinement array has room for: a bundle is never longer."""
    return math.prod(header.tile) * np.dtype(variable.dtype).itemsize * variable.channels + _SPARE + 64 * variable.channels


def add_refinement(group: zarr.Group, header: CubeHeader, variable: CubeVariable, times_in_shard: int) -> zarr.Array[Any]:
    """An empty refinement array: uint8, shape (time, tile row, tile column, byte), one bundle in a chunk, padded with zeros."""
    capacity, tiles = capacity_of(header, variable), header.grid
    with quiet():
        return group.create_array(
            _path("refinement", variable.refinement),
            shape=(header.times, *tiles, capacity),
            dtype="uint8",
            chunks=(1, 1, 1, capacity),
            shards=(times_in_shard, *tiles, capacity),
            compressors=[ZstdCodec(level=1)],
            dimension_names=("time", "tile_row", "tile_column", "byte"),
            overwrite=True,
        )


def refinement_array(group: zarr.Group, variable: CubeVariable) -> zarr.Array[Any]:
    """The refinement array of a variable.

    Raises
    ------
    StoreError
        If it is not there or not what it should be.
    """
    array = group.get(_path("refinement", variable.refinement))
    if not isinstance(array, zarr.Array) or array.dtype != np.uint8 or array.ndim != 4:
        raise StoreError(f"the refinement {variable.refinement!r} is missing", place=str(group.store_path))
    return array


def drop_refinement(group: zarr.Group, name: str) -> None:
    """Remove a refinement array."""
    del group[_path("refinement", name)]


def append_times(group: zarr.Group, variable: CubeVariable, times: int) -> None:
    """Make room for as many times in all."""
    array = refinement_array(group, variable)
    array.resize((times, *array.shape[1:]))


def write_bundles(array: zarr.Array[Any], time: int, bundles: Sequence[dict[tuple[int, int], Sequence[bytes]]]) -> None:
    """Store the fields of consecutive times from ``time`` on: for each time, by tile, one entry a channel."""
    capacity = array.shape[3]
    block = np.zeros((len(bundles), *array.shape[1:]), np.uint8)
    for i, tiles in enumerate(bundles):
        for tile, fields in tiles.items():
            packed = np.frombuffer(pack_bundle(fields), np.uint8)
            if len(packed) > capacity:
                raise StoreError(f"a bundle of {len(packed)} bytes where {capacity} were foreseen; please report")
            block[(i, *tile, slice(0, len(packed)))] = packed
    array[time : time + len(bundles)] = block


def read_bundle_at(array: zarr.Array[Any], time: int, tile: tuple[int, int], channels: int) -> tuple[bytes, ...]:
    """The coded fields of a variable at one time in one tile.

    Raises
    ------
    FormatError
        If they are damaged.
    """
    data = np.asarray(array[(time, *tile)]).tobytes()
    try:
        return read_bundle(data, channels)
    except LatentzarrError as error:
        raise error.at(f"{array.name.rsplit('/', 1)[-1]}, time {time}, tile {tile}") from error
