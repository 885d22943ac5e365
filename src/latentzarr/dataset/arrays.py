"""Lazy arrays of an opened store: the stock ones, read under the options the user gave; and the store that hands them out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import xarray as xr
import zarr
from xarray.backends import BackendArray, ZarrStore
from xarray.backends.zarr import ZarrArrayWrapper
from xarray.core import indexing

from latentzarr.codec.runtime import using
from latentzarr.dataset.coded import coded_array, worthwhile_chunks
from latentzarr.dataset.preview import PreviewArray, thinned_dimensions
from latentzarr.dataset.provenance import marked_decoded
from latentzarr.errors import InvalidConfigError, LatentzarrError
from latentzarr.models.store import register_model
from latentzarr.models.weights import Model, read_model

__all__ = ["LatentArray", "LatentStore", "ReadOptions", "our_errors"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a user wants an opened store to be read.

    Attributes
    ----------
    device : str or None
    threads : int or None
    level : int
        Previews show every ``2**level``-th row and column; 0 shows all.
    """

    device: str | None = None
    threads: int | None = None
    level: int = 0


@contextlib.contextmanager
def our_errors(place: str = "") -> Iterator[None]:
    """Raise our error where zarr wrapped it in one of its own (a missing model becomes "Unknown codec").

    Parameters
    ----------
    place : str
        Put in front of what the error says about where.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LatentzarrError):
            cause = cause.__cause__ or cause.__context__
        if cause is None or (cause is error and not place):
            raise
        raise (cause.at(place) if place else cause) from error


class _Arriving:
    """A model that registers itself in the process it is unpickled in."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        return (_arrive, (self.model.blob,))


def _arrive(blob: bytes) -> _Arriving:
    return _Arriving(register_model(read_model(blob)))


class LatentArray(BackendArray):
    """A zarr array read under given options, in whatever thread or process.

    The options hold as long as a read lasts. A model that is not part of the array's own metadata travels in front of the
    array when that is pickled: a shard's codecs are rebuilt from metadata, which names the model but does not hold it.

    Parameters
    ----------
    array : zarr.Array
    options : ReadOptions
    dimensions : frozenset of str
        Previews: the dimensions of the data set that are thinned out.
    axes : tuple of int
        Which axes of the array these are.
    """

    __slots__ = ("_array", "_axes", "_options", "_reader", "dtype", "shape")

    def __init__(self, array: zarr.Array[Any], options: ReadOptions, axes: tuple[int, ...] = ()) -> None:
        self._array = array
        self._options = options
        self._axes = axes
        coded = coded_array(array) if axes else None
        self._reader: Any
        if coded is None:
            self._reader = ZarrArrayWrapper(array)
        else:
            self._reader = PreviewArray(array, coded, axes, options.level)
        self.shape = self._reader.shape
        self.dtype = self._reader.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        coded = coded_array(self._array)
        carried = () if coded is None or coded.config.embed else (_Arriving(coded.config.model),)
        return (_unpickle, (carried, self._array, self._options, self._axes))

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        return normalize_token(
            (type(self), self._array, self._options.device, self._options.threads, self._options.level, self._axes)
        )

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        with our_errors(self._array.name), using(self._options.device, self._options.threads):
            return self._reader[key]

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """What ``Dataset.load_async`` reads."""
        with our_errors(self._array.name), using(self._options.device, self._options.threads):
            return await self._reader.async_getitem(key)


def _unpickle(carried: tuple[_Arriving, ...], array: zarr.Array[Any], options: ReadOptions, axes: tuple[int, ...]) -> LatentArray:
    del carried  # has done its work by being unpickled before the array
    return LatentArray(array, options, axes)


class LatentStore(ZarrStore):
    """xarray's store of a zarr group; variables that latentzarr coded are read our way, all others the stock way."""

    __slots__ = ("_options", "_thinned")

    _options: ReadOptions
    _thinned: frozenset[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = ReadOptions()
        self._thinned = frozenset()

    def with_options(self, options: ReadOptions, *, lenient: bool = False) -> LatentStore:
        """Set the options for reading; returns the store itself.

        Parameters
        ----------
        options : ReadOptions
        lenient : bool
            Let a preview of a group without our arrays be the whole group (for trees) instead of an error.

        Raises
        ------
        InvalidConfigError
            If a preview is asked for and no variable has one.
        """
        self._options = options
        self._thinned = frozenset()
        if options.level:
            stock: Callable[[str], xr.Variable] = super().open_store_variable
            self._thinned = thinned_dimensions([(stock(n).dims, a) for n, a in self.arrays() if coded_array(a) is not None])
            if not self._thinned and not lenient:
                raise InvalidConfigError(
                    f"scale={1 << options.level} needs a variable that latentzarr coded, of two or more dimensions; there is none"
                )
        return self

    def open_store_variable(self, name: str) -> xr.Variable:
        """A variable with lazy values."""
        stock: xr.Variable = super().open_store_variable(name)  # type: ignore[no-untyped-call]
        array = self.members[name]
        assert isinstance(array, zarr.Array)
        coded = coded_array(array)
        options = self._options
        axes = tuple(i for i, d in enumerate(stock.dims) if d in self._thinned)
        if coded is None:
            return _plainly_thinned(stock, axes, 1 << options.level) if axes else stock
        lazy = LatentArray(array, options, axes if options.level else ())
        variable = xr.Variable(stock.dims, indexing.LazilyIndexedArray(lazy), stock.attrs, marked_decoded(stock.encoding))
        chunks = worthwhile_chunks(array.shape, array.dtype.itemsize, coded)
        if lazy.shape != array.shape:
            chunks = tuple(max(1, math.ceil(c / (1 << options.level))) if i in axes else c for i, c in enumerate(chunks))
            variable.encoding = _without_storage(variable.encoding)
        variable.encoding["preferred_chunks"] = dict(zip(variable.dims, chunks, strict=True))
        return variable


def _without_storage(encoding: dict[Any, Any]) -> dict[Any, Any]:
    """An encoding less what fits the full resolution only, or would code a preview again."""
    return {
        k: v
        for k, v in encoding.items()
        if k in ("dtype", "fill_value", "_FillValue", "scale_factor", "add_offset", "units", "calendar")
    }


def _plainly_thinned(variable: xr.Variable, axes: tuple[int, ...], step: int) -> xr.Variable:
    thin = variable.isel({variable.dims[i]: slice(None, None, step) for i in axes})
    thin.encoding = _without_storage(variable.encoding)
    return thin
