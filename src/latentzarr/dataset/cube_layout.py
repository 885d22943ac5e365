"""Where the parts of a cube lie in its zarr group, and the few reads and writes of them.

Everything that is not latents or coordinates is in the hidden group ``.latentzarr/cube``, in stock dtypes and codecs, so that the
group opens without this package. `docs/reference/cube.md`, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec

from latentzarr.cube.bundle import length_of, pack_bundle, read_bundle
from latentzarr.cube.field import OVERHEAD
from latentzarr.dataset.carried import HIDDEN
from latentzarr.dataset.cube_header import CubeHeader, CubeVariable
from latentzarr.dataset.storage import quiet
from latentzarr.errors import CorruptFrameError, LatentzarrError, StoreError

__all__ = [
    "add_refinement",
    "append_times",
    "drop_refinement",
    "read_blob",
    "read_bundle_at",
    "read_masks",
    "read_statics",
    "refinement_array",
    "write_blob",
    "write_bundles",
    "write_masks",
    "write_statics",
]

_PLACE = f"{HIDDEN}/cube"
_SPARE = 4096
_LONGEST_LENGTH = 5
_TIMES_IN_SHARD = 8
_LARGEST_SHARD = 2**30
_MAX_BLOB = 2**30


def _path(*parts: str) -> str:
    return "/".join((_PLACE, *parts))


def _byte_array(group: zarr.Group, *parts: str) -> zarr.Array[Any] | None:
    """A part of the cube, or None if it is not there or holds anything but bytes."""
    array = group.get(_path(*parts))
    return array if isinstance(array, zarr.Array) and array.dtype == np.uint8 else None


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
    array = _byte_array(group, name)
    if array is None or array.ndim != 1 or array.size > _MAX_BLOB:
        raise StoreError(f"the cube's part {name!r} is missing or not an array of bytes", place=str(group.store_path))
    with _damage(f"the cube's part {name!r}"):
        return np.asarray(array[:]).tobytes()


def write_masks(group: zarr.Group, masks: npt.NDArray[np.uint8], tile: tuple[int, int]) -> None:
    """Store static masks, shape (masks, rows, columns), a chunk for each tile; 1 where values are missing."""
    with quiet():
        array = group.create_array(
            _path("masks"), shape=masks.shape, dtype="uint8", chunks=(1, *tile), compressors=[ZstdCodec(level=9)],
            dimension_names=("mask", "rows", "columns"), overwrite=True,
        )  # fmt: skip
    array[:] = masks


def read_masks(group: zarr.Group, header: CubeHeader, index: int, tile: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The part of a static mask that lies in a tile.

    Raises
    ------
    StoreError
        If it is not there.
    FormatError
        If it is damaged.
    """
    array = _byte_array(group, "masks")
    if array is None or array.shape[1:] != header.shape or index >= array.shape[0]:
        raise StoreError(f"the cube's mask {index} is missing or of another shape", place=str(group.store_path))
    with _damage(f"mask {index}, tile {tile}"):
        return np.asarray(array[(index, *header.tile_slices(tile))])


def write_statics(group: zarr.Group, header: CubeHeader, tiles: Mapping[tuple[int, int], bytes]) -> None:
    """Store the static fields: for each tile a bundle with an entry for each channel."""
    longest = max(len(bundle) for bundle in tiles.values())
    block = np.zeros((*header.grid, longest), np.uint8)
    for tile, bundle in tiles.items():
        block[(*tile, slice(0, len(bundle)))] = np.frombuffer(bundle, np.uint8)
    with quiet():
        array = group.create_array(
            _path("statics"), shape=block.shape, dtype="uint8", chunks=(1, 1, longest), shards=block.shape,
            compressors=[ZstdCodec(level=1)], dimension_names=("tile_row", "tile_column", "byte"), overwrite=True,
        )  # fmt: skip
    array[:] = block


def read_statics(group: zarr.Group, header: CubeHeader, tile: tuple[int, int]) -> tuple[bytes, ...]:
    """The frames of the static fields of a tile, one for each channel, empty where there is none.

    Raises
    ------
    StoreError
        If they are not there.
    FormatError
        If they are damaged.
    """
    array = _byte_array(group, "statics")
    if array is None or array.shape[:-1] != header.grid or array.shape[-1] > _MAX_BLOB:
        raise StoreError("the cube's static fields are missing or of another shape", place=str(group.store_path))
    with _damage(f"static fields, tile {tile}"):
        return read_bundle(_used(np.asarray(array[tile])), header.channels)


@contextmanager
def _damage(place: str) -> Iterator[None]:
    """What goes wrong with bytes under us (a shard's index, zstd) is damage too, and all of it says where.

    Raises
    ------
    FormatError
    """
    try:
        yield
    except LatentzarrError as error:
        raise error.at(place) from error
    except (ValueError, RuntimeError, IndexError) as error:
        raise CorruptFrameError(f"the store was damaged: {error}", place=place) from error


def _used(chunk: npt.NDArray[np.uint8]) -> bytes:
    """The bytes of a bundle without the padding behind it."""
    return chunk[: length_of(chunk[:16].tobytes(), len(chunk))].tobytes()


def capacity_of(header: CubeHeader, variable: CubeVariable) -> int:
    """Bytes a chunk of a refinement array has room for: a field is never longer than its values and `OVERHEAD` bytes."""
    size = math.prod(header.tile) * np.dtype(variable.dtype).itemsize
    return (size + OVERHEAD + _LONGEST_LENGTH) * variable.channels + _SPARE


def shards_of(header: CubeHeader, capacity: int, block: int) -> tuple[int, int, int]:
    """Times, tile rows and tile columns in a shard: whole blocks, eight times or more, and at most 1 GiB before compression."""
    times = block * max(1, _TIMES_IN_SHARD // block)
    rows, columns = header.grid
    most = max(1, _LARGEST_SHARD // (times * capacity))
    columns = min(columns, most)
    return times, max(1, min(rows, most // columns)), columns


def add_refinement(group: zarr.Group, header: CubeHeader, variable: CubeVariable) -> zarr.Array[Any]:
    """An empty refinement array: uint8, shape (time, tile row, tile column, byte), one bundle in a chunk, padded with zeros."""
    capacity = capacity_of(header, variable)
    with quiet():
        return group.create_array(
            _path("refinement", variable.refinement),
            shape=(header.times, *header.grid, capacity),
            dtype="uint8",
            chunks=(1, 1, 1, capacity),
            shards=(*shards_of(header, capacity, header.blocks[0][0]), capacity),
            compressors=[ZstdCodec(level=1)],
            dimension_names=("time", "tile_row", "tile_column", "byte"),
            overwrite=True,
        )


def refinement_array(group: zarr.Group, header: CubeHeader, variable: CubeVariable) -> zarr.Array[Any]:
    """The refinement array of a variable.

    Raises
    ------
    StoreError
        If it is not there or not what it should be.
    """
    array = _byte_array(group, "refinement", variable.refinement) if variable.refinement else None
    shape = (header.times, *header.grid)
    if array is None or array.shape[:-1] != shape or array.shape[-1] > capacity_of(header, variable) + _SPARE:
        raise StoreError(
            f"the refinement {variable.refinement!r} is missing or of another shape; copy a cube with all that is below "
            f"{HIDDEN!r}, or write it again",
            place=str(group.store_path),
        )
    return array


def drop_refinement(group: zarr.Group, name: str) -> None:
    """Remove a refinement array."""
    del group[_path("refinement", name)]


def append_times(group: zarr.Group, header: CubeHeader, variable: CubeVariable, times: int) -> None:
    """Make room for as many times in all."""
    array = refinement_array(group, header, variable)
    array.resize((times, *array.shape[1:]))


def write_bundles(array: zarr.Array[Any], time: int, bundles: Sequence[Mapping[tuple[int, int], Sequence[bytes]]]) -> None:
    """Store the fields of consecutive times from ``time`` on: for each time, by tile, one entry a channel."""
    capacity = array.shape[3]
    _, down, across = (array.shards or array.chunks)[:3]
    for top in range(0, array.shape[1], down):
        for left in range(0, array.shape[2], across):
            rows, columns = min(down, array.shape[1] - top), min(across, array.shape[2] - left)
            block = np.zeros((len(bundles), rows, columns, capacity), np.uint8)
            for i, tiles in enumerate(bundles):
                for r, c in np.ndindex(rows, columns):
                    packed = np.frombuffer(pack_bundle(tiles[top + r, left + c]), np.uint8)
                    if len(packed) > capacity:
                        raise StoreError(f"a bundle of {len(packed)} bytes where {capacity} were foreseen; please report")
                    block[i, r, c, : len(packed)] = packed
            array[time : time + len(bundles), top : top + rows, left : left + columns] = block


def read_bundle_at(array: zarr.Array[Any], time: int, tile: tuple[int, int], channels: int) -> tuple[bytes, ...]:
    """The coded fields of a variable at one time in one tile.

    Raises
    ------
    FormatError
        If they are damaged.
    """
    with _damage(f"{array.name.rsplit('/', 1)[-1]}, time {time}, tile {tile}"):
        return read_bundle(_used(np.asarray(array[(time, *tile)])), channels)
