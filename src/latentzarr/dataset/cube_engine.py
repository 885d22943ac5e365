"""A cube as xarray sees it: variables that look like the originals and decode what a selection needs."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from latentzarr.bounds import BoundKind
from latentzarr.codec.runtime import current_runtime, using
from latentzarr.dataset.arrays import ReadOptions, our_errors
from latentzarr.dataset.cube_header import CUBE, LATENTS, BlockPlace, CubeVariable
from latentzarr.dataset.cube_reader import CACHE_BYTES, CubeReader
from latentzarr.dataset.provenance import LossyRecord
from latentzarr.errors import StoreError

__all__ = ["CubeArray", "with_cube_variables"]


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
        """Values at the outer product of positions; blocks and tiles are read by as many threads as the options say."""
        reader, header = self._reader, self._reader.header
        out = np.empty((len(times), len(channels), len(rows), len(columns)), self.dtype)
        if not out.size:
            return out
        first = header.first_channel[self._name]
        by_block: dict[int, tuple[BlockPlace, list[int]]] = {}
        for i, t in enumerate(times.tolist()):
            index, place = header.block_of(t)
            by_block.setdefault(index, (place, []))[1].append(i)
        down, across = _by_tile(rows, header.tile[0]), _by_tile(columns, header.tile[1])

        def copy(index: int, place: BlockPlace, at_times: list[int], row: _Part, column: _Part) -> None:
            wanted = [(int(times[i]) - place.first, first + c) for i in at_times for c in channels.tolist()]
            fields = reader.fields(index, place, (row.tile, column.tile), wanted)
            found = iter(wanted)
            for i in at_times:
                for k in range(len(channels)):
                    out[i, k][_crossing(row.to, column.to)] = fields[next(found)].values[_crossing(row.at, column.at)]

        jobs = [(index, place, at, r, c) for index, (place, at) in by_block.items() for r in down for c in across]
        runtime = current_runtime()
        workers = min(runtime.workers, len(jobs))
        if workers == 1:
            for job in jobs:
                copy(*job)
            return out

        def work(job: tuple[Any, ...]) -> None:
            with using(runtime.device, runtime.threads):
                copy(*job)

        with ThreadPoolExecutor(workers, thread_name_prefix="latentzarr") as pool:
            try:
                for _ in pool.map(work, jobs):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return out


_Places = slice | npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Part:
    """What a selection along one axis takes from one tile: from where in the tile, to where in the result."""

    tile: int
    at: _Places
    to: _Places


def _by_tile(positions: npt.NDArray[np.int64], size: int) -> list[_Part]:
    tiles = positions // size
    found = []
    for tile in np.unique(tiles).tolist():
        to = np.flatnonzero(tiles == tile)
        found.append(_Part(tile, _run(positions[to] - tile * size), _run(to)))
    return found


def _run(positions: npt.NDArray[np.int64]) -> _Places:
    """A slice where positions follow each other, which is much faster to copy."""
    first, count = int(positions[0]), len(positions)
    return slice(first, first + count) if (np.diff(positions) == 1).all() else positions


def _crossing(rows: _Places, columns: _Places) -> tuple[Any, Any]:
    """An index of rows and columns at once."""
    if isinstance(rows, slice) or isinstance(columns, slice):
        return rows, columns
    return rows[:, None], columns


def _positions(key: Any, size: int) -> npt.NDArray[np.int64]:
    """An index along one dimension as positions.

    Raises
    ------
    IndexError
        If it is out of bounds.
    """
    if isinstance(key, slice):
        return np.arange(*key.indices(size), dtype=np.int64)
    found = np.atleast_1d(np.asarray(key, np.int64))
    if ((found < -size) | (found >= size)).any():
        raise IndexError(f"index {found[(found < -size) | (found >= size)][0]} is out of bounds for a dimension of {size}")
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
        if v.refinement and v.largest_bound.kind is not BoundKind.LOSSLESS:
            attributes |= LossyRecord(v.largest_bound, v.words, v.largest_error).to_attributes()
        lazy = indexing.LazilyIndexedArray(CubeArray(reader, v.name, options))
        variable = xr.Variable(v.dims, lazy, attributes, {**v.encoding, "dtype": np.dtype(v.dtype)})
        sizes = dict(zip(v.dims, variable.shape, strict=True))
        chunks = {header.rows: header.tile[0], header.columns: header.tile[1], header.time: header.blocks[0][0]}
        variable.encoding["preferred_chunks"] = {d: min(chunks.get(d, math.inf), n) for d, n in sizes.items()}
        decoded[v.name] = variable
    latents = {d for n in LATENTS if n in ds.variables for d in ds[n].dims if d != header.time}
    rest = ds.drop_dims(latents) if header.basis else ds
    clash = [f"{d}: {n} and {rest.sizes[d]}" for v in decoded.values() for d, n in v.sizes.items() if rest.sizes.get(d, n) != n]
    if clash:
        raise StoreError(f"the cube's header and its coordinates disagree on the size of {clash[0]}", place=str(group.store_path))
    exact = {n: v for n, v in rest.data_vars.items() if n not in decoded}
    # saved elsewhere, the data are no cube any more
    found = xr.Dataset({**decoded, **exact}, rest.coords, {k: v for k, v in rest.attrs.items() if k != CUBE})
    found.encoding = rest.encoding
    found.set_close(ds._close)  # noqa: SLF001 - as xarray's own backends hand it on
    return found
