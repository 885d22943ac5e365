"""Read fields of a cube: find the bundles, decode what is asked for and what that looks at, remember a bounded amount of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import zarr

from latentzarr.bitstream.planes import encode_planes
from latentzarr.codec.chunk import decode_chunk
from latentzarr.codec.runtime import working
from latentzarr.cube.block import BlockCoder, Key
from latentzarr.cube.field import DecodedField, FieldSpec, nominal
from latentzarr.cube.table import ReferenceTable, read_table
from latentzarr.dataset.cube_header import BlockPlace, CubeHeader, CubeVariable, header_of
from latentzarr.dataset.cube_latents import Base, as_dtype
from latentzarr.dataset.cube_layout import read_blob, read_bundle_at, read_masks, read_statics, refinement_array
from latentzarr.errors import LatentzarrError, StoreError
from latentzarr.mask import Plane
from latentzarr.models.store import find_model
from latentzarr.models.weights import Model

__all__ = ["CACHE_BYTES", "CubeReader", "FieldCache", "StaticFields", "spec_of"]

CACHE_BYTES = 256 * 2**20
_MOST_CODERS = 16
Tile = tuple[int, int]


class FieldCache:
    """Decoded fields, the longest unused given up first where they would take more than ``limit`` bytes."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.held = 0
        self._fields: OrderedDict[tuple[int, Tile, Key], DecodedField] = OrderedDict()
        self._lock = threading.Lock()

    def some(self, block: int, tile: Tile, keys: Iterable[Key]) -> dict[Key, DecodedField]:
        """Those of some fields of a block that are held."""
        with self._lock:
            found = {}
            for key in keys:
                place = (block, tile, key)
                if place in self._fields:
                    self._fields.move_to_end(place)
                    found[key] = self._fields[place]
            return found

    def add(self, block: int, tile: Tile, fields: Mapping[Key, DecodedField]) -> None:
        """Hold some fields."""
        with self._lock:
            for key, field in fields.items():
                place = (block, tile, key)
                if place not in self._fields:
                    self._fields[place] = field
                    self.held += _bytes(field)
            while self.held > self.limit and self._fields:
                _, dropped = self._fields.popitem(last=False)
                self.held -= _bytes(dropped)


def _bytes(field: DecodedField) -> int:
    return int(field.values.nbytes + field.nominal.nbytes + field.activity.nbytes)


def spec_of(
    header: CubeHeader, variable: CubeVariable, channel: int, table: ReferenceTable, shape: tuple[int, int], mask: bytes
) -> FieldSpec:
    """What is the same for all fields of a channel in a tile."""
    at = header.first_channel[variable.name] + channel
    fill = variable.encoding.get("_FillValue")
    dtype = np.dtype(variable.dtype)
    kept = fill if fill is not None and dtype.kind in "iu" else None
    return FieldSpec(shape, dtype, variable.bound(channel), float(table.origin[at]), float(table.step[at]), mask, kept)


def mask_section(mask: npt.NDArray[np.uint8]) -> bytes:
    """A static mask as the mask section of a field."""
    return bytes([Plane.NAN]) + encode_planes(mask[None, None])


class StaticFields(Mapping[int, npt.NDArray[np.int32]]):
    """The static fields of a tile on their channels' nominal lattices; each is decoded when it is first looked at.

    Parameters
    ----------
    frames : sequence of bytes
        One for each channel, empty where there is none.
    shape : (rows, columns)
        Of the tile.
    table : ReferenceTable
    model : Model
    """

    def __init__(self, frames: Sequence[bytes], shape: tuple[int, int], table: ReferenceTable, model: Model) -> None:
        self._frames, self._shape, self._table, self._model = frames, shape, table, model
        self._decoded: dict[int, npt.NDArray[np.int32]] = {}

    def __getitem__(self, channel: int) -> npt.NDArray[np.int32]:
        if channel not in self._decoded:
            if not self._frames[channel]:
                raise KeyError(channel)
            try:
                values = decode_chunk(self._frames[channel], self._shape, np.dtype(np.float32), self._model)
            except LatentzarrError as error:
                raise error.at(f"static field of channel {channel}") from error
            lattice = float(self._table.origin[channel]), float(self._table.step[channel])
            self._decoded[channel] = nominal(values, *lattice)
        return self._decoded[channel]

    def __iter__(self) -> Iterator[int]:
        return (channel for channel, frame in enumerate(self._frames) if frame)

    def __len__(self) -> int:
        return sum(map(bool, self._frames))


class _Turn:
    """A lock that is forgotten when nobody waits for it any more."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class CubeReader:
    """An opened cube.

    Parameters
    ----------
    group : zarr.Group
    cache_bytes : int
        How much of what was decoded is held.
    header : CubeHeader, optional
        In the place of the one the group says.

    Raises
    ------
    StoreError
        If the group is no cube.
    """

    def __init__(self, group: zarr.Group, cache_bytes: int = CACHE_BYTES, header: CubeHeader | None = None) -> None:
        header = header or header_of(group.attrs.asdict())
        if header is None:
            raise StoreError("this group is no latent cube", place=str(group.store_path))
        self.group, self.header = group, header
        self.cache = FieldCache(cache_bytes)
        self._coders: OrderedDict[Tile, BlockCoder] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[int, Tile], _Turn] = WeakValueDictionary()
        self._lock = threading.Lock()
        self._arrays: dict[str, zarr.Array[Any]] = {}

    @cached_property
    def table(self) -> ReferenceTable:
        """The skeleton."""
        table = read_table(read_blob(self.group, "references"))
        if table.channels != self.header.channels or table.factor.size not in (0, self.header.shape[0]):
            raise StoreError(
                f"a reference table of {table.channels} channels and {table.factor.size} rows for a cube of "
                f"{self.header.channels} and {self.header.shape[0]}",
                place=str(self.group.store_path),
            )
        return table

    @cached_property
    def base(self) -> Base | None:
        """What the latents say; None without latents."""
        return Base(self.group, self.header) if self.header.basis else None

    def base_of(self, place: BlockPlace, tile: Tile) -> Callable[[int, int], npt.NDArray[np.int32]] | None:
        """What the latents say of a field of a block, on its channel's nominal lattice; None without latents."""
        base, where = self.base, self.header.tile_slices(tile)
        if base is None:
            return None
        return lambda time, channel: base.nominal(place.first + time, channel, self.table, where)

    def _latent_fields(self, place: BlockPlace, tile: Tile, wanted: Iterable[Key]) -> dict[Key, DecodedField]:
        """Fields of variables that have latents alone: what the base says, missing where the static mask says so."""
        where, base = self.header.tile_slices(tile), self.base
        assert base is not None
        found = {}
        for time, channel in wanted:
            variable, own = self.places[channel]
            values = as_dtype(base.values(place.first + time, channel)[where], np.dtype(variable.dtype))
            if variable.mask(own) >= 0:
                values[read_masks(self.group, self.header, variable.mask(own), tile) == 1] = np.nan
            found[time, channel] = DecodedField(values, np.zeros((1, 1), np.int32), np.zeros((1, 1), np.uint8))
        return found

    @cached_property
    def places(self) -> list[tuple[CubeVariable, int]]:
        """Variable and own channel of each channel."""
        return [(v, c) for v in self.header.variables for c in range(v.channels)]

    def coder(self, tile: Tile) -> BlockCoder:
        """What codes the blocks of a tile; of the tiles used last a few are held."""
        with self._lock:
            if tile in self._coders:
                self._coders.move_to_end(tile)
                return self._coders[tile]
        made = self._make_coder(tile)
        with self._lock:
            kept = self._coders.setdefault(tile, made)
            while len(self._coders) > _MOST_CODERS:
                self._coders.popitem(last=False)
            return kept

    def _make_coder(self, tile: Tile) -> BlockCoder:
        header, table = self.header, self.table
        where = header.tile_slices(tile)
        whole = where[1] == slice(0, header.shape[1])
        factor = table.factor[where[0]] if table.factor.size else table.factor
        here = replace(table, factor=factor, periodic=table.periodic * np.uint8(whole))
        shape = where[0].stop - where[0].start, where[1].stop - where[1].start
        sections: dict[int, bytes] = {-1: b""}
        specs = []
        for variable, channel in self.places:
            index = variable.mask(channel)
            if index not in sections:
                sections[index] = mask_section(read_masks(self.group, header, index, tile))
            specs.append(spec_of(header, variable, channel, table, shape, sections[index]))
        model = find_model(header.model)
        statics = StaticFields(read_statics(self.group, header, tile), shape, table, model)
        names = [f"{v.name}[{c}]" if v.channels > 1 else v.name for v, c in self.places]
        return BlockCoder(here, specs, names, header.time_stride, model, statics)

    def fields(self, block: int, place: BlockPlace, tile: Tile, wanted: Iterable[Key]) -> dict[Key, DecodedField]:
        """Fields of a block, by time in the block and channel; decodes them and what they look at, unless it is held."""
        keys = list(wanted)
        known = self.cache.some(block, tile, keys)
        if len(known) == len(keys):
            return known
        with self._lock:
            turn = self._locks.setdefault((block, tile), _Turn())
        with turn.lock, working():  # what one reader decodes, the next one finds
            alone = [key for key in keys if key not in known and not self.places[key[1]][0].refinement]
            if alone:
                made = self._latent_fields(place, tile, alone)
                self.cache.add(block, tile, made)
                known |= made
            if len(known) == len(keys):
                return known
            coder = self.coder(tile)
            everything = ((t, c) for t in range(place.length) for c in range(self.header.channels))
            held = self.cache.some(block, tile, everything)
            bundles: dict[tuple[int, str], tuple[bytes, ...]] = {}

            def frame(time: int, channel: int) -> bytes:
                variable, own = self.places[channel]
                key = time, variable.name
                if key not in bundles:
                    array = self._refinement(variable)
                    bundles[key] = read_bundle_at(array, place.first + time, tile, variable.channels)
                return bundles[key][own]

            refined = [key for key in keys if key not in known]
            found = coder.decode(place.length, refined, frame, self.base_of(place, tile), held)
            self.cache.add(block, tile, found)
        return {key: known[key] if key in known else found[key] for key in keys}

    def _refinement(self, variable: CubeVariable) -> zarr.Array[Any]:
        if variable.name not in self._arrays:
            self._arrays[variable.name] = refinement_array(self.group, self.header, variable)
        return self._arrays[variable.name]

    def __reduce__(self) -> tuple[Any, ...]:
        return (CubeReader, (self.group, self.cache.limit, self.header))
