"""What is in a store, read from frame headers without decoding a value: bound, bytes, and the way each chunk was coded."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from latentzarr.bitstream.frame import read_header
from latentzarr.dataset.blocks import grid_shape
from latentzarr.dataset.coded import Coded, coded_array
from latentzarr.dataset.provenance import Container, LossyRecord, container_of, lossy_record
from latentzarr.dataset.storage import location_of, open_root, place_of, quiet
from latentzarr.dataset.tables import Table, byte_text, number_text
from latentzarr.errors import CorruptFrameError, LatentzarrError, VariableNotFoundError

__all__ = ["ChunkFacts", "StoreFacts", "VariableFacts", "block_facts", "chunk_facts", "inspect"]

_NOT_STORED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """A chunk as its frame describes it.

    Attributes
    ----------
    index : tuple of int
        Place in the grid of chunks (those inside shards, where there are shards).
    size : int
        Bytes of the frame; 0 if it is not stored (all fill value).
    mode : str
        ``neural``, ``independent``, ``cubic``, ``raster``, ``pcodec``, ``constant``, ``raw``; ``empty`` if not stored,
        ``wrapped`` if another codec is around ours.
    bound : str
        The bound in the frame, in words.
    model : str
        First digits of the digest of the model that is needed, as many as the frame has (8, in version 1 16), or empty.
    """

    index: tuple[int, ...]
    size: int
    mode: str
    bound: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class VariableFacts:
    """A variable of a store; for arrays coded otherwise only ``name`` to ``stored`` are filled."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored: int
    coded: bool = False
    bound: str = ""
    chunk: tuple[int, ...] = ()
    shard: tuple[int, ...] = ()
    modes: dict[str, int] | None = None
    models: tuple[str, ...] = ()
    record: LossyRecord | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """All variables of a store and its container of provenance (None if nobody wrote one)."""

    place: str
    container: Container | None
    variables: tuple[VariableFacts, ...]

    def __getitem__(self, name: str) -> VariableFacts:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise VariableNotFoundError(
            f"no variable {name!r}; there are {', '.join(v.name for v in self.variables)}", place=self.place
        )

    def table(self) -> Table:
        """For people."""
        columns = ("variable", "dtype", "shape", "bytes", "ratio", "bound", "chunks", "shards", "modes", "model", "largest error")
        rows = []
        for v in self.variables:
            sizes = ["x".join(map(str, s)) for s in (v.shape, v.chunk, v.shard)]
            ratio = f"{v.nbytes / v.stored:.1f}" if v.stored else ""
            modes = " ".join(f"{mode} {count}" for mode, count in (v.modes or {}).items())
            error = number_text(v.record.max_abs_error) if v.record else ""
            models = " ".join(v.models)
            bound = v.bound if v.coded else "exact (zarr)"
            rows.append((v.name, v.dtype, sizes[0], byte_text(v.stored), ratio, bound, *sizes[1:], modes, models, error))
        return Table(self.place, columns, tuple(rows))

    def __str__(self) -> str:
        return self.table().to_text()

    def _repr_html_(self) -> str:
        return self.table().to_html()

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self))


def inspect(store: Any) -> StoreFacts:
    """Facts about every array of a store's root group.

    Parameters
    ----------
    store : path, URL or zarr store

    Raises
    ------
    StoreError
        If there is no zarr group.
    FormatError
        If a frame's header cannot be read.
    """
    location = location_of(store)
    with quiet():
        root = open_root(location)
        arrays = sorted(root.arrays())
        return StoreFacts(
            place_of(location), container_of(root.attrs.asdict()), tuple(_variable(name, array) for name, array in arrays)
        )


def _variable(name: str, array: zarr.Array[Any]) -> VariableFacts:
    coded = coded_array(array)
    dtype = str(array.dtype)
    if coded is None:
        return VariableFacts(
            name, dtype, array.shape, sync(array.store_path.store.getsize_prefix(f"{array.path}/c")) if array.size else 0
        )
    chunks = list(chunk_facts(array))
    return VariableFacts(
        name,
        dtype,
        array.shape,
        sum(c.size for c in chunks),
        coded=True,
        bound=str(coded.config.bound),
        chunk=coded.chunk,
        shard=coded.shard or (),
        modes=dict(Counter(c.mode for c in chunks).most_common()),
        models=tuple(sorted({c.model for c in chunks if c.model})) or (coded.config.model.digest.removeprefix("sha256:")[:16],),
        record=lossy_record(array.attrs.asdict()),
    )


def chunk_facts(array: zarr.Array[Any]) -> Iterator[ChunkFacts]:
    """Facts about every chunk of a coded array, block by block; nothing for arrays coded otherwise."""
    coded = coded_array(array)
    if coded is None:
        return
    block = coded.shard or coded.chunk
    for index in product(*(range(n) for n in grid_shape(array.shape, block))):
        yield from block_facts(array, index, coded)


def block_facts(array: zarr.Array[Any], index: tuple[int, ...], coded: Coded | None = None) -> list[ChunkFacts]:
    """Facts about the chunks of one block: a shard, or a chunk where there are no shards.

    Parameters
    ----------
    array : zarr.Array
    index : tuple of int
        Place in the grid of blocks.
    coded : Coded, optional
        What `coded_array` says of the array.

    Raises
    ------
    FormatError
        If a shard's index or a frame's header cannot be read.
    """
    coded = coded or coded_array(array)
    if coded is None:
        return []
    path = array.store_path / array.metadata.encode_chunk_key(index)
    found = sync(path.get(default_buffer_prototype()))
    data = b"" if found is None else found.to_bytes()
    if coded.shard is None:
        return [_chunk(index, data, coded, str(path))]
    per_shard = tuple(s // c for s, c in zip(coded.shard, coded.chunk, strict=True))
    limits = grid_shape(array.shape, coded.chunk)
    table = _shard_index(data, per_shard, coded, str(path)) if data and coded.bare else None
    facts = []
    for inner in product(*(range(n) for n in per_shard)):
        place = tuple(i * n + k for i, n, k in zip(index, per_shard, inner, strict=True))
        if any(p >= limit for p, limit in zip(place, limits, strict=True)):
            continue  # beyond the edge of the array
        start, size = (int(n) for n in table[inner]) if table is not None else (0, 0 if coded.bare or not data else -1)
        if size == -1:
            facts.append(ChunkFacts(place, 0, "wrapped"))
            continue
        facts.append(_chunk(place, b"" if start == _NOT_STORED else data[start : start + size], coded, str(path)))
    return facts


def _shard_index(data: bytes, per_shard: tuple[int, ...], coded: Coded, place: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    size = 16 * math.prod(per_shard) + 4
    at_end = coded.sharding is None or "end" in str(coded.sharding.index_location)
    raw = data[-size:] if at_end else data[:size]
    if len(raw) != size or int.from_bytes(raw[-4:], "little") != google_crc32c.value(raw[:-4]):
        raise CorruptFrameError("the index of the shard does not carry its checksum; it was damaged or cut short", place=place)
    return np.frombuffer(raw[:-4], "<u8").reshape(*per_shard, 2)


def _chunk(index: tuple[int, ...], frame: bytes, coded: Coded, place: str) -> ChunkFacts:
    if not frame:
        return ChunkFacts(index, 0, "empty")
    if not coded.bare:
        return ChunkFacts(index, len(frame), "wrapped")
    try:
        header = read_header(frame, verify=False)
    except LatentzarrError as error:
        raise error.at(f"{place}, chunk {index}") from error
    digest = header.digest.hex() if any(header.digest) else ""
    return ChunkFacts(index, len(frame), header.mode.name.lower(), str(header.bound), digest)
