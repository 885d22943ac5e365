"""Lazy arrays over a store of latents: variables as they were, decoded where they are looked at, and bits as numbers."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from latentzarr.cube.latents import unpack_signs
from latentzarr.dataset.own_autoencoder_decode import CACHE_BYTES, ItemDecoder
from latentzarr.dataset.own_autoencoder_table import CodedVariable, LatentStoreRecord

__all__ = ["DecodedArray", "UnpackedArray", "worthwhile_steps"]

_TASK_BYTES = 64 * 2**20


class _OuterArray(BackendArray):
    """An array that answers one index or array of indices for each axis."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._outer)

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """What ``Dataset.load_async`` reads."""
        return await asyncio.to_thread(self.__getitem__, key)

    def _outer(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        lists = tuple(np.atleast_1d(np.arange(n)[k]) for k, n in zip(key, self.shape, strict=True))
        dropped = tuple(axis for axis, k in enumerate(key) if isinstance(k, int | np.integer))
        return self._read(lists).squeeze(dropped)

    def _read(self, lists: tuple[npt.NDArray[np.intp], ...]) -> npt.NDArray[Any]:
        """Values at the product of lists of indices, none negative."""
        raise NotImplementedError


class DecodedArray(_OuterArray):
    """A variable, decoded item by item.

    Parameters
    ----------
    decoder : ItemDecoder
    variable : CodedVariable
    missing : zarr.Array or None
        Where items differ from the first one's mask, (leading dims, channels, rows, columns); None where nothing is NaN.
    first_missing : zarr.Array or None
        The first one's mask, (channels, rows, columns); None where it is empty.
    """

    def __init__(
        self,
        decoder: ItemDecoder,
        variable: CodedVariable,
        missing: zarr.Array[Any] | None,
        first_missing: zarr.Array[Any] | None,
    ) -> None:
        self._decoder, self._variable = decoder, variable
        self._missing, self._first_missing = missing, first_missing
        self.shape = variable.shape
        self.dtype = np.dtype(variable.dtype)

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return normalize_token((type(self), repr(self._decoder.token), self._variable.name))

    def _read(self, lists: tuple[npt.NDArray[np.intp], ...]) -> npt.NDArray[Any]:
        record, v = self._decoder.record, self._variable
        order = (*record.leading, *v.levels, *record.field)
        by_name = dict(zip(v.dimensions, lists, strict=True))
        counts = tuple(len(by_name[d]) for d in order)
        if 0 in counts:
            return np.empty([len(i) for i in lists], self.dtype)
        sizes = dict(zip(v.dimensions, v.shape, strict=True))
        channels = np.zeros(1, np.intp)
        for d in v.levels:
            channels = (channels[:, None] * sizes[d] + by_name[d]).ravel()
        channels += v.first
        rows, columns = (by_name[d] for d in record.field)
        # each item once, in order; what repeats or runs backwards is put in place at the end
        unique = [np.unique(by_name[d], return_inverse=True) for d in record.leading]
        items = math.prod(len(u) for u, _ in unique)
        out = np.empty((items, len(channels), len(rows), len(columns)), self.dtype)
        for i, item in self._decoder.items([u for u, _ in unique]):
            picked = item[np.ix_(channels, rows, columns)]
            if record.mean is not None and record.std is not None:
                mean, std = (np.asarray(s)[channels][:, None, None] for s in (record.mean, record.std))
                out[i] = picked * std + mean
            else:
                out[i] = picked
        holes = self._holes([u for u, _ in unique], channels, rows, columns)
        if holes is not None:
            out[holes.reshape(out.shape)] = np.nan
        out = out.reshape(*(len(u) for u, _ in unique), *counts[len(record.leading) :])
        for axis, (u, back) in enumerate(unique):
            if len(back) != len(u) or (np.diff(back) < 0).any():
                out = np.take(out, back, axis=axis)
        return np.transpose(out, [order.index(d) for d in v.dimensions])

    def _holes(self, leading: list[npt.NDArray[np.intp]], *field: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_] | None:
        if self._missing is None:
            return None
        differs = np.asarray(self._missing.oindex[(*leading, *field)]) != 0
        if self._first_missing is None:
            return differs
        return differs ^ (np.asarray(self._first_missing.oindex[field]) != 0)


class UnpackedArray(_OuterArray):
    """Signs that are stored eight to a byte, as -1 and +1.

    Parameters
    ----------
    latents : zarr.Array
    record : LatentStoreRecord
    """

    def __init__(self, latents: zarr.Array[Any], record: LatentStoreRecord) -> None:
        self._latents, self._record = latents, record
        self._leading = len(record.leading)
        self.shape = (*latents.shape[: self._leading], *record.latents.item)
        self.dtype = np.dtype(np.int8)

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return normalize_token((type(self), self._record.content))

    def _read(self, lists: tuple[npt.NDArray[np.intp], ...]) -> npt.NDArray[Any]:
        n = self._leading
        if any(len(i) == 0 for i in lists):
            return np.empty([len(i) for i in lists], self.dtype)
        unique, back = np.unique(lists[n], return_inverse=True)
        whole = np.unique(unique // 8)
        packed = np.asarray(self._latents.oindex[(*lists[:n], whole, *lists[n + 1 :])])
        flat = packed.reshape(math.prod(packed.shape[:n]), *packed.shape[n:])
        signs = unpack_signs(flat, 8 * len(whole))
        picked = signs[:, (np.searchsorted(whole, unique // 8) * 8 + unique % 8)[back]]
        return picked.reshape(*packed.shape[:n], *picked.shape[1:])


def worthwhile_steps(record: LatentStoreRecord, chunk: int) -> int:
    """Items along the last leading dimension that a Dask task should decode.

    Parameters
    ----------
    record : LatentStoreRecord
    chunk : int
        Items in a chunk of latents.

    Returns
    -------
    int
        Whole chunks where they fit: at most a batch, at most 64 MiB, and little enough that what a task decoded is still
        remembered when the tasks of the other variables come.
    """
    item = 4 * math.prod(record.item)
    steps = max(1, min(record.batch, _TASK_BYTES // item, CACHE_BYTES // 4 // item))
    return steps // chunk * chunk if steps >= chunk else steps
