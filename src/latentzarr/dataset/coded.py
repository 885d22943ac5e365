"""How an array of a store is coded: our configuration if it is ours, its smallest chunk, whether its bytes are bare frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import zarr
from zarr.codecs import ShardingCodec

from latentzarr.codec.config import CodecConfig
from latentzarr.codec.numcodecs_codec import LatentNumcodec
from latentzarr.codec.zarr_codec import LatentCodec

__all__ = ["Coded", "coded_array", "worthwhile_chunks"]

LARGEST_CHUNK_BYTES = 64 * 2**20
SMALL_CHUNK_BYTES = 2**20
WORTHWHILE_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Coded:
    """How an array is coded with latentzarr.

    Attributes
    ----------
    config : CodecConfig
    chunk : tuple of int
        Shape of the smallest unit that is decoded; inside a shard, the inner chunk.
    shard : tuple of int or None
        Shape of the unit that is written, where chunks lie in shards.
    sharding : ShardingCodec or None
    bare : bool
        Whether the stored bytes of a chunk are a frame: no other codec before or after ours, at most one level of shards.
    """

    config: CodecConfig
    chunk: tuple[int, ...]
    shard: tuple[int, ...] | None
    sharding: ShardingCodec | None
    bare: bool


def coded_array(array: zarr.Array[Any]) -> Coded | None:
    """How an array is coded, or None where latentzarr has no part in it (or its chunks are not a regular grid)."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        around = [*(metadata.filters or ()), *([metadata.compressor] if metadata.compressor is not None else [])]
        ours = next((c for c in around if isinstance(c, LatentNumcodec)), None)
        return None if ours is None else Coded(ours.config, tuple(metadata.chunks), None, None, len(around) == 1)
    outer = tuple(getattr(metadata.chunk_grid, "chunk_shape", ()))
    if len(outer) != len(array.shape):
        return None
    shard, sharding, depth = outer, None, 0
    codecs, chunk = metadata.codecs, outer
    while codecs and isinstance(first := codecs[0], ShardingCodec):
        sharding = first if depth == 0 and len(codecs) == 1 else sharding
        depth += 1
        codecs, chunk = first.codecs, tuple(first.chunk_shape)
    found = next((c for c in codecs if isinstance(c, LatentCodec)), None)
    if found is None:
        return None
    bare = len(codecs) == 1 and (depth == 0 or (depth == 1 and sharding is not None))
    return Coded(found.config, chunk, shard if depth else None, sharding, bare)


def worthwhile_chunks(shape: tuple[int, ...], itemsize: int, coded: Coded) -> tuple[int, ...]:
    """A chunk shape worth a task of its own: a shard, several small chunks, or a part of a very large shard.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    itemsize : int
        Bytes of a value.
    coded : Coded

    Returns
    -------
    tuple of int
        A multiple of ``coded.chunk`` along every axis. At most 64 MiB unless a single chunk is larger; units below 1 MiB are
        put together, along the last axes first, until they reach 8 MiB. (Not larger ones: xarray warns whoever asks for
        chunks that cut preferred ones.)
    """
    unit = list(coded.shard or coded.chunk)
    if math.prod(unit) * itemsize > LARGEST_CHUNK_BYTES:
        for axis, smallest in enumerate(coded.chunk):
            others = math.prod(unit) // unit[axis] * itemsize
            fitting = LARGEST_CHUNK_BYTES // (others * smallest)
            whole = unit[axis] // smallest
            unit[axis] = smallest * max(d for d in range(1, whole + 1) if whole % d == 0 and d <= max(fitting, 1))
        return tuple(unit)
    if math.prod(unit) * itemsize >= SMALL_CHUNK_BYTES:
        return tuple(unit)
    for axis in reversed(range(len(unit))):
        wanted = WORTHWHILE_CHUNK_BYTES // max(math.prod(unit) * itemsize, 1)
        there = -(-shape[axis] // max(unit[axis], 1))
        unit[axis] *= max(1, min(wanted, there))
    return tuple(unit)
