"""Open a store of latents: as the variables they were made from, decoded lazily, or as the latents themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr
from xarray.backends import ZarrStore
from xarray.core import indexing

from latentzarr.codec.runtime import current_runtime
from latentzarr.cube.autoencoder import check_device
from latentzarr.cube.registry import find_autoencoder
from latentzarr.dataset.own_autoencoder_arrays import DecodedArray, UnpackedArray, worthwhile_steps
from latentzarr.dataset.own_autoencoder_decode import ItemDecoder
from latentzarr.dataset.own_autoencoder_table import (
    ATTRIBUTE,
    FIRST_MISSING,
    LATENT,
    MISSING,
    STEP,
    CodedVariable,
    LatentStoreRecord,
)
from latentzarr.dataset.provenance import DECODED_BY
from latentzarr.errors import InvalidConfigError

__all__ = ["holds_latents", "presented", "require_finished"]


class Names(Protocol):
    """The names of a group's arrays, or a group that knows them."""

    def __contains__(self, name: str, /) -> bool: ...


def holds_latents(attributes: Mapping[Any, Any], names: Names) -> bool:
    """Whether a group's attributes and the names of its arrays say that it is a store of latents.

    The attribute alone does not: data that were decoded and saved again keep it, as the record of what they went through.
    """
    return ATTRIBUTE in attributes and LATENT in names


def require_finished(attributes: Mapping[Any, Any], place: str) -> None:
    """Refuse a store of latents whose write was cut off.

    Raises
    ------
    IncompleteStoreError
    """
    if ATTRIBUTE in attributes:
        LatentStoreRecord.from_text(attributes[ATTRIBUTE], place).require_complete(place)


def presented(
    dataset: xr.Dataset,
    store: ZarrStore,
    *,
    decode: bool,
    device: str | None,
    place: str,
    drop_variables: str | Iterable[str] | None = None,
) -> xr.Dataset:
    """A store of latents as its user wants to see it.

    Parameters
    ----------
    dataset : xarray.Dataset
        The store as the stock engine shows it, lazy.
    store : ZarrStore
        What it was opened from.
    decode : bool
        True: the variables they were made from; needs the autoencoder. False: the latents and all coordinates.
    device : str or None
        Where to decode.
    place : str
        For messages.
    drop_variables : str or iterable of str, optional
        Variables to leave out.

    Raises
    ------
    ModelNotFoundError, ModelMismatchError
        If the autoencoder is not known here, or has other weights.
    IncompleteStoreError
        If writing was cut off.
    InvalidConfigError
        If the device is not there, or arrays and record contradict each other.
    """
    arrays = dict(store.arrays())
    record = LatentStoreRecord.from_text(dataset.attrs[ATTRIBUTE], place).require_complete(place)
    latents = arrays[LATENT]
    _check(record, arrays, place)
    if not decode:
        return _latents(dataset, latents, record)
    find_autoencoder(record.autoencoder, record.digest, place)  # now, not in the first task
    decoder = ItemDecoder(record, latents, check_device(device or current_runtime().device), place)
    dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
    exact = dataset.drop_vars([LATENT, STEP, MISSING, FIRST_MISSING], errors="ignore")
    chunk = latents.chunks[len(record.leading) - 1] if record.leading else 1
    variables = {
        v.name: _variable(decoder, v, arrays.get(MISSING), arrays.get(FIRST_MISSING), chunk)
        for v in record.variables
        if v.name not in dropped
    }
    shown = exact.assign(variables)
    shown = shown[[n for n in record.order if n in shown.data_vars]] if shown.data_vars else shown
    shown.encoding = dict(dataset.encoding)
    shown.set_close(store.close)
    return shown


def _variable(
    decoder: ItemDecoder, v: CodedVariable, missing: zarr.Array[Any] | None, first: zarr.Array[Any] | None, chunk: int
) -> xr.Variable:
    record = decoder.record
    chunks = dict(zip(v.dimensions, v.shape, strict=True))
    chunks |= dict.fromkeys(record.leading, 1)
    if record.leading:
        chunks[record.leading[-1]] = worthwhile_steps(record, chunk)
    encoding = {k: np.dtype(e) if k == "dtype" else e for k, e in v.encoding.items()}
    encoding |= {"preferred_chunks": chunks, DECODED_BY: record.autoencoder}
    lazy = indexing.LazilyIndexedArray(DecodedArray(decoder, v, missing, first))
    return xr.Variable(v.dimensions, lazy, v.attributes, encoding)


def _latents(dataset: xr.Dataset, latents: zarr.Array[Any], record: LatentStoreRecord) -> xr.Dataset:
    shown = dataset.drop_vars([n for n in dataset.data_vars if n != LATENT])
    if not record.latents.packed:
        return shown
    stored = dataset[LATENT].variable
    chunks = dict(zip(stored.dims, latents.chunks, strict=True))
    names = record.latents.unpacked_dimensions
    chunks = {d: chunks.get(d, record.latents.item[0]) for d in (*record.leading, *names)}
    attributes = {k: a for k, a in stored.attrs.items() if k != "bit_order"}
    lazy = indexing.LazilyIndexedArray(UnpackedArray(latents, record))
    unpacked = xr.Variable((*record.leading, *names), lazy, attributes, {"preferred_chunks": chunks})
    return shown.drop_vars(LATENT).assign({LATENT: unpacked})


def _check(record: LatentStoreRecord, arrays: Mapping[str, zarr.Array[Any]], place: str) -> None:
    """Arrays of a foreign store may be anything; what the record says of them has to be true."""
    leading = tuple(record.sizes[d] for d in record.leading)
    expected = {LATENT: ((*leading, *record.latents.shape), record.latents.dtype)}
    expected[MISSING] = ((*leading, *record.item), "uint8")
    expected[FIRST_MISSING] = (record.item, "uint8")
    for name, (shape, dtype) in expected.items():
        found = arrays.get(name)
        if found is not None and (found.shape != shape or found.dtype != np.dtype(dtype)):
            raise InvalidConfigError(f"array {name!r} is {found.dtype}{found.shape}, its record says {dtype}{shape}", place=place)
