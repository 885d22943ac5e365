"""Previews: a variable at a half, a quarter or an eighth of its resolution, from the front of every chunk.

``scale=4`` shows every fourth place along the last two dimensions of the variables that latentzarr coded; coordinates and
all else with these dimensions are thinned out the same way. The values are bit for bit those of the whole store at these
places. A chunk's size along such a dimension need not be a multiple of the scale: the finest grid that fits into every chunk
is read then (all of it, if sizes are odd), so only bytes are lost. The same holds where other codecs stand around ours.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from latentzarr.codec.preview import decode_prefix, prefix_size, preview_axes
from latentzarr.codec.runtime import working
from latentzarr.dataset.coded import Coded
from latentzarr.errors import CorruptFrameError, FormatError, FrameMismatchError, NewerVersionError

__all__ = ["PreviewArray", "thinned_dimensions"]

_HEAD_BYTES = 4096
_AT_ONCE = 8
_NOT_STORED = 2**64 - 1


def thinned_dimensions(arrays: Iterable[tuple[tuple[Hashable, ...], zarr.Array[Any]]]) -> frozenset[Any]:
    """The dimensions a preview thins out: the last two of every coded variable that has two.

    Parameters
    ----------
    arrays : iterable of (dimension names, zarr.Array)
        Those that latentzarr coded.
    """
    return frozenset(d for dims, array in arrays if array.ndim >= 2 for d in dims[-2:])


@dataclass(frozen=True, slots=True)
class _Part:
    """What a selection takes of one chunk along one axis: which places of the result, which values of the (thinned) chunk."""

    chunk: int
    result: npt.NDArray[np.int64]
    local: npt.NDArray[np.int64]


class PreviewArray(BackendArray):
    """A coded array seen at every ``2**level``-th place along some axes.

    Parameters
    ----------
    array : zarr.Array
    coded : Coded
    axes : tuple of int
        Axes that are thinned out.
    level : int
        1 to 3.
    """

    __slots__ = ("_array", "_axes", "_chunk_level", "_coded", "_level", "_thin", "dtype", "shape")

    def __init__(self, array: zarr.Array[Any], coded: Coded, axes: tuple[int, ...], level: int) -> None:
        self._array = array
        self._coded = coded
        self._axes = axes
        self._level = level
        self.dtype = array.dtype
        self.shape = tuple(-(-n >> level) if i in axes else n for i, n in enumerate(array.shape))
        self._thin = preview_axes(coded.chunk)
        self._chunk_level = self._fitting_level() if coded.bare else 0

    def _fitting_level(self) -> int:
        """The level of a chunk's hierarchy that holds every place we need, whichever chunk it is."""
        if not self._thin or not set(self._thin) <= set(self._axes):
            return 0
        level = self._level
        for axis in self._thin:
            size = self._coded.chunk[axis]
            if self._array.shape[axis] > size:
                level = min(level, (size & -size).bit_length() - 1)
        return level

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """What ``Dataset.load_async`` reads."""
        return await indexing.async_explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read_async)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        return sync(self._read_async(key))

    async def _read_async(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        picked = [np.atleast_1d(np.arange(n, dtype=np.int64)[k]) for k, n in zip(key, self.shape, strict=True)]
        result = np.empty([len(p) for p in picked], self.dtype)
        parts = [self._parts(axis, p) for axis, p in enumerate(picked)]
        turns = asyncio.Semaphore(_AT_ONCE)

        async def fill(wanted: tuple[_Part, ...]) -> None:
            async with turns:
                values = await self._chunk(tuple(p.chunk for p in wanted))
            result[np.ix_(*(p.result for p in wanted))] = values[np.ix_(*(p.local for p in wanted))]

        done = await asyncio.gather(*(fill(wanted) for wanted in itertools.product(*parts)), return_exceptions=True)
        for problem in done:
            if problem is not None:
                raise problem
        return result[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]

    def _parts(self, axis: int, picked: npt.NDArray[np.int64]) -> list[_Part]:
        """Sort the picked places of an axis into chunks."""
        source = picked << self._level if axis in self._axes else picked
        size = self._coded.chunk[axis]
        chunk, local = np.divmod(source, size)
        if axis in self._thin:
            local >>= self._chunk_level
        return [_Part(int(c), np.flatnonzero(chunk == c), local[chunk == c]) for c in np.unique(chunk)]

    async def _chunk(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """A chunk with its hierarchy's axes thinned out to the level that fits."""
        coded, level = self._coded, self._chunk_level
        if level == 0:
            return await self._whole(index)
        frame = await self._locate(index)
        head = await frame.front(_HEAD_BYTES) if frame is not None else None
        if frame is None or head is None:
            thin = [-(-n >> level) if i in self._thin else n for i, n in enumerate(coded.chunk)]
            fill = self._array.fill_value
            return np.full(thin, 0 if fill is None else fill, self.dtype)
        while True:
            try:
                needed = prefix_size(head, level, coded.chunk, self.dtype)
                break
            except (NewerVersionError, FrameMismatchError):
                raise
            except FormatError:  # the header may only be longer than what is here
                if frame.complete:
                    raise
                head = await frame.front(8 * len(head))
        data = await frame.front(needed)
        return await asyncio.to_thread(self._decode, data)

    def _decode(self, data: bytes) -> npt.NDArray[Any]:
        with working():
            return decode_prefix(data, self._chunk_level, self._coded.chunk, self.dtype, self._coded.config.model)

    async def _whole(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """A chunk read the ordinary way."""
        box = tuple(
            slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, self._coded.chunk, self._array.shape, strict=True)
        )
        return np.asarray(await self._array.async_array.getitem(box))

    async def _locate(self, index: tuple[int, ...]) -> _Frame | None:
        """Where the bytes of a chunk are; None if it is not stored."""
        array, coded = self._array, self._coded
        if coded.sharding is None or coded.shard is None:
            return _Frame(array.store_path / array.metadata.encode_chunk_key(index), 0, None)
        per_shard = tuple(s // c for s, c in zip(coded.shard, coded.chunk, strict=True))
        outer = tuple(i // n for i, n in zip(index, per_shard, strict=True))
        inner = tuple(i % n for i, n in zip(index, per_shard, strict=True))
        path = array.store_path / array.metadata.encode_chunk_key(outer)
        table = await _shard_index(path, per_shard, at_end="end" in str(coded.sharding.index_location))
        if table is None or int(table[inner][1]) == _NOT_STORED:
            return None
        return _Frame(path, int(table[inner][0]), int(table[inner][1]))


class _Frame:
    """The bytes of a frame in a store, read from the front as far as needed, each byte once."""

    def __init__(self, path: StorePath, start: int, size: int | None) -> None:
        self.path = path
        self.start = start
        self.size = size
        self.data = b""

    @property
    def complete(self) -> bool:
        """Whether all of it has been read."""
        return self.size is not None and len(self.data) >= self.size

    async def front(self, count: int | None) -> Any:
        """The first ``count`` bytes, or as many as there are (None: all); None if nothing is stored."""
        end = self.size if count is None else count if self.size is None else min(count, self.size)
        if end is None or end > len(self.data):
            last = 2**62 if end is None else end
            more = await self.path.get(
                default_buffer_prototype(), RangeByteRequest(self.start + len(self.data), self.start + last)
            )
            if more is None:
                return None
            self.data += more.to_bytes()
            if end is None or len(self.data) < end:
                self.size = len(self.data)
        return self.data


async def _shard_index(path: StorePath, per_shard: tuple[int, ...], *, at_end: bool) -> npt.NDArray[np.uint64] | None:
    """Offsets and sizes of the chunks in a shard, shape ``per_shard + (2,)``; None if the shard is not stored."""
    size = 16 * int(np.prod(per_shard)) + 4
    where = SuffixByteRequest(size) if at_end else RangeByteRequest(0, size)
    found = await path.get(default_buffer_prototype(), where)
    if found is None:
        return None
    data = found.to_bytes()
    if len(data) != size or int.from_bytes(data[-4:], "little") != google_crc32c.value(data[:-4]):
        raise CorruptFrameError(
            "the index of a shard does not carry its checksum; the shard was damaged or cut short", place=str(path)
        )
    return np.frombuffer(data[:-4], "<u8").reshape(*per_shard, 2)
