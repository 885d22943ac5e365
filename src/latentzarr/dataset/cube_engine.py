"""A cube as xarray sees it: variables that look like the originals and decode what a selection needs."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from latentzarr.codec.runtime import using
from latentzarr.dataset.arrays import ReadOptions, our_errors
from latentzarr.dataset.cube_header import CubeVariable
from latentzarr.dataset.cube_reader import CACHE_BYTES, CubeReader
from latentzarr.dataset.provenance import LossyRecord

__all__ = ["CubeArray", "with_cube_variables"]

_LATENT = "latent_"


class CubeArray(BackendArray):
    """One variable of a cube.

    Parameters
    ----------
    reader : CubeReader
        Shared by the variables of a cube, with what it holds of decoded fields.
    name : str
    options : ReadOptions
    """

    __slots__ = ("_name", "_options", "_reader", "dtype", "shape")

    def __init__(self, reader: CubeReader, name: str, options: ReadOptions) -> None:
        self._reader, self._name, self._options = reader, name, options
        variable = self._variable
        self.dtype = np.dtype(variable.dtype)
        sizes = iter(variable.channel_shape)
        header = reader.header
        known = {header.time: header.times, header.rows: header.shape[0], header.columns: header.shape[1]}
        self.shape = tuple(known[d] if d in known else next(sizes) for d in variable.dims)

    @property
    def _variable(self) -> CubeVariable:
        return self._reader.header.variable(self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (CubeArray, (self._reader, self._name, self._options))

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        header = self._reader.header
        return normalize_token(
            (
                type(self),
                str(self._reader.group.store_path),
                header.to_text(),
                self._name,
                self._options.device,
                self._options.threads,
            )
        )

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """What ``Dataset.load_async`` reads."""
        return await asyncio.to_thread(self.__getitem__, key)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        """Values at an outer index: an integer, slice or 1-D array for each dimension."""
        variable, header = self._variable, self._reader.header
        indices = [_positions(k, n) for k, n in zip(key, self.shape, strict=True)]
        by_dim = dict(zip(variable.dims, indices, strict=True))
        times = by_dim.get(header.time, np.zeros(1, np.int64))
        channel_dims = [d for d in variable.dims if d not in (header.time, header.rows, header.columns)]
        chosen = [by_dim[d] for d in channel_dims]
        channels = np.arange(variable.channels).reshape(variable.channel_shape)
        channels = channels[np.ix_(*chosen)].ravel() if chosen else channels.ravel()
        rows, columns = by_dim[header.rows], by_dim[header.columns]
        with our_errors(self._name), using(self._options.device, self._options.threads):
            out = self._gather(times, channels, rows, columns)
        ordered = [header.time] if header.time in variable.dims else []
        shape = [len(times)] if ordered else []
        out = out.reshape([*shape, *(len(c) for c in chosen), len(rows), len(columns)])
        ordered += [*channel_dims, header.rows, header.columns]
        out = out.transpose([ordered.index(d) for d in variable.dims])
        dropped = tuple(i for i, k in enumerate(key) if isinstance(k, (int, np.integer)))
        return out.squeeze(dropped) if dropped else out

    def _gather(
        self,
        times: npt.NDArray[np.int64],
        channels: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
    ) -> npt.NDArray[Any]:
        reader, header = self._reader, self._reader.header
        out = np.empty((len(times), len(channels), len(rows), len(columns)), self.dtype)
        if not out.size:
            return out
        first = header.first_channel[self._name]
        by_block: dict[int, list[int]] = {}
        places = {}
        for i, t in enumerate(times.tolist()):
            index, place = header.block_of(t)
            places[index] = place
            by_block.setdefault(index, []).append(i)
        tile_rows, tile_columns = rows // header.tile[0], columns // header.tile[1]
        for index, at_times in by_block.items():
            place = places[index]
            wanted = [(int(times[i]) - place.first, first + int(c)) for i in at_times for c in channels]
            for r in np.unique(tile_rows):
                for c in np.unique(tile_columns):
                    fields = reader.fields(index, place, (int(r), int(c)), wanted)
                    in_rows, in_columns = np.flatnonzero(tile_rows == r), np.flatnonzero(tile_columns == c)
                    corner = np.ix_(rows[in_rows] - r * header.tile[0], columns[in_columns] - c * header.tile[1])
                    for i in at_times:
                        for k, channel in enumerate(channels):
                            field = fields[int(times[i]) - place.first, first + int(channel)]
                            out[np.ix_([i], [k], in_rows, in_columns)] = field.values[corner]
        return out


def _positions(key: Any, size: int) -> npt.NDArray[np.int64]:
    """An index along one dimension as positions."""
    if isinstance(key, (int, np.integer)):
        return np.array([int(key) % size], np.int64)
    if isinstance(key, slice):
        return np.arange(*key.indices(size), dtype=np.int64)
    found = np.asarray(key, np.int64)
    return np.where(found < 0, found + size, found)


def with_cube_variables(ds: xr.Dataset, group: zarr.Group, options: ReadOptions, cache_bytes: int | None) -> xr.Dataset:
    """A cube's group as the stock engine opened it, with its variables put in the place of the latents.

    Parameters
    ----------
    ds : xarray.Dataset
        Coordinates, exact variables and latents.
    group : zarr.Group
    options : ReadOptions
    cache_bytes : int or None
        How much of what was decoded is held for further reads; None: 256 MiB.
    """
    reader = CubeReader(group, CACHE_BYTES if cache_bytes is None else cache_bytes)
    header = reader.header
    decoded = {}
    for v in header.variables:
        attributes = dict(v.attributes)
        if v.refinement:
            attributes |= LossyRecord(v.largest_bound, v.words, v.largest_error).to_attributes()
        lazy = indexing.LazilyIndexedArray(CubeArray(reader, v.name, options))
        variable = xr.Variable(v.dims, lazy, attributes, {**v.encoding, "dtype": np.dtype(v.dtype)})
        sizes = dict(zip(v.dims, variable.shape, strict=True))
        chunks = {header.rows: header.tile[0], header.columns: header.tile[1], header.time: header.blocks[0][0]}
        variable.encoding["preferred_chunks"] = {d: min(chunks.get(d, math.inf), n) for d, n in sizes.items()}
        decoded[v.name] = variable
    rest = ds.drop_vars([n for n in ds.variables if str(n).startswith(_LATENT)])
    order = [*decoded, *(n for n in rest.data_vars if n not in decoded)]
    return rest.assign(decoded)[order]
