"""The arrays of a store of latents, filled batch by batch: encode, store, decode again, measure.

latent                 (leading dims, latent_channel, latent_y, latent_x)   integers, blosc (zstd, bit shuffle)
latent_step            (latent_channel)                                      what they are multiplied by, if continuous
latent_missing_first   (field_channel, rows, columns)                        where the first item is NaN, if anything is
latent_missing         (leading dims, field_channel, rows, columns)          where others differ from that
everything else                                                              as xarray stores it, exact
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.codecs import BloscCodec
from zarr.core.sync import sync

from latentzarr.cube.autoencoder import Autoencoder
from latentzarr.cube.latents import StoredLatents
from latentzarr.dataset.arrays import our_errors
from latentzarr.dataset.own_autoencoder_layout import Layout, Place, fields_of, filled
from latentzarr.dataset.own_autoencoder_report import ChannelSums
from latentzarr.dataset.own_autoencoder_table import ATTRIBUTE, FIRST_MISSING, LATENT, MISSING, STEP, LatentStoreRecord
from latentzarr.dataset.provenance import with_history
from latentzarr.dataset.storage import Location, open_root, quiet
from latentzarr.dataset.tasks import cf_encoding

__all__ = ["LatentWriter"]

_BATCH_BYTES = 64 * 2**20
_LARGEST_BATCH = 32
_CHUNK_BYTES = 256 * 2**10


class LatentWriter:
    """Batches of one data set on their way into one store: `begin`, `write` for each, `ended`.

    Parameters
    ----------
    ds : xarray.Dataset
    layout : Layout
    autoencoder : Autoencoder
    device : str
    batch : int or None
        Items encoded together; None for a fitting number.

    Raises
    ------
    InvalidConfigError
        If the scaling is for another number of channels.
    """

    def __init__(self, ds: xr.Dataset, layout: Layout, autoencoder: Autoencoder, device: str, batch: int | None) -> None:
        self._ds, self._layout, self._autoencoder, self._device = ds, layout, autoencoder, device
        self._scaling = None if autoencoder.scaling is None else autoencoder.scaling.of(layout.channels)
        self._shape = (layout.channels, *(layout.sizes[d] for d in layout.field))
        last = layout.sizes[layout.leading[-1]] if layout.leading else 1
        self.batch = min(last, batch or max(1, min(_LARGEST_BATCH, _BATCH_BYTES // (4 * math.prod(self._shape)))))
        self._name = f"autoencoder {autoencoder.name!r}"
        self._sums: dict[str, ChannelSums] = {}
        self._content = hashlib.sha256()
        self._first_missing = np.zeros(self._shape, np.bool_)
        self._masked: zarr.Array[Any] | None = None
        self._stored: StoredLatents
        self._root: zarr.Group
        self._latents: zarr.Array[Any]

    @property
    def stored_bytes(self) -> int:
        """Bytes of what was written besides the variables that stay exact."""
        found = [self._root.get(name) for name in (LATENT, STEP, MISSING, FIRST_MISSING)]
        return sum(_stored_bytes(a) for a in found if isinstance(a, zarr.Array))

    def begin(self, location: Location, kept: xr.Dataset, order: Sequence[str]) -> LatentStoreRecord:
        """Encode a first item to see what latents are like; then write everything but the latents, marked as incomplete."""
        layout, autoencoder = self._layout, self._autoencoder
        scaled, _ = filled(fields_of(self._ds, layout, next(layout.batches(1))), layout, self._scaling)
        latents = autoencoder.to_latents(scaled, self._device)
        with our_errors(self._name):
            self._stored = autoencoder.latent.stored(latents, *self._shape[1:])
        per_item = math.prod(self._stored.shape) * np.dtype(self._stored.dtype).itemsize
        chunk = min(self.batch, max(1, _CHUNK_BYTES // per_item))
        self.batch = self.batch // chunk * chunk  # batches hold whole chunks, so that none is written twice
        mean, std = (None, None) if self._scaling is None else (tuple(s.tolist()) for s in self._scaling)
        record = LatentStoreRecord(
            autoencoder.name, autoencoder.digest, self._stored, layout.leading, layout.field, layout.sizes, mean, std,
            layout.variables, tuple(order), self.batch,
        )  # fmt: skip
        coded = ", ".join(v.name for v in layout.variables)
        attributes = with_history(
            self._ds.attrs, f"{record.implementation}: {coded} as latents of autoencoder {autoencoder.name!r}, without guarantee"
        )
        rest = {name: _template(variable) for name, variable in kept.variables.items()}
        exact = kept.assign_attrs({**attributes, ATTRIBUTE: record.to_text()}).assign(
            {name: variable for name, variable in rest.items() if name not in kept.xindexes}
        )
        for name in kept.xindexes:
            exact.variables[name].encoding = rest[name].encoding
        with quiet():
            exact.to_zarr(location, mode="w", consolidated=False, zarr_format=3)
            self._root = open_root(location, "r+")
            self._latents = self._create(LATENT, self._stored.shape, self._stored.dimensions, self._stored.dtype, chunk)
            self._latents.update_attributes(self._about())
            if self._stored.step is not None:
                self._create_steps(self._stored.step)
        return record

    def write(self, at: Place) -> int:
        """Encode, write and measure a batch; returns the bytes of the values."""
        fields = fields_of(self._ds, self._layout, at)
        scaled, missing = filled(fields, self._layout, self._scaling)
        latents = self._autoencoder.to_latents(scaled, self._device)
        with our_errors(self._name):
            whole = self._stored.integers(latents)
        self._content.update(np.ascontiguousarray(whole).tobytes())
        self._latents[at] = whole.reshape(*self._counts(at), *whole.shape[1:])
        self._write_missing(at, missing, len(whole))
        decoded = self._autoencoder.to_fields(self._stored.values(whole), self._shape, self._device)
        for v, values in zip(self._layout.variables, fields, strict=True):
            here = slice(v.first, v.first + v.channels)
            back: npt.NDArray[Any] = decoded[:, here]
            if self._scaling is not None:
                mean, std = (s[here, None, None] for s in self._scaling)
                back = back * std + mean
            with our_errors(self._name):
                self._sums[v.name] = ChannelSums.of(values, back.astype(values.dtype), self._sums.get(v.name))
        return sum(values.nbytes for values in fields)

    def ended(self, record: LatentStoreRecord) -> LatentStoreRecord:
        """The record of the finished store."""
        errors = tuple(e for v in self._layout.variables for e in self._sums[v.name].errors(v))
        if self._masked is not None and self._first_missing.any():
            with quiet():
                first = self._create(FIRST_MISSING, self._shape, ("field_channel", *self._layout.field), "uint8", None)
                first[...] = self._first_missing.astype(np.uint8)
        return replace(record, errors=errors, content=f"sha256:{self._content.hexdigest()}", complete=True)

    def _counts(self, at: Place) -> tuple[int, ...]:
        """Lengths of the slices in a place."""
        return tuple(s.stop - s.start for s in at if isinstance(s, slice))

    def _write_missing(self, at: Place, missing: npt.NDArray[np.bool_] | None, items: int) -> None:
        """Store where a mask differs from that of the first item; land costs nothing but the first time."""
        if missing is None:
            missing = np.zeros((items, *self._shape), np.bool_)
        if all((s.start if isinstance(s, slice) else s) == 0 for s in at):
            self._first_missing = missing[0]
        self._content.update(np.packbits(missing).tobytes())
        differs = missing ^ self._first_missing
        if self._masked is None and (missing.any() or differs.any()):
            with quiet():
                dimensions = ("field_channel", *self._layout.field)
                self._masked = self._create(MISSING, self._shape, dimensions, "uint8", 1)
        if self._masked is not None and differs.any():
            self._masked[at] = differs.astype(np.uint8).reshape(*self._counts(at), *self._shape)

    def _create(
        self, name: str, item: tuple[int, ...], dimensions: tuple[str, ...], dtype: str, chunk: int | None
    ) -> zarr.Array[Any]:
        """An array of items (with ``chunk`` None of a single one) that any zarr reads."""
        leading = () if chunk is None else self._layout.leading
        ones = [1] * len(leading)
        if leading and chunk:
            ones[-1] = chunk
        return self._root.create_array(
            name,
            shape=(*(self._layout.sizes[d] for d in leading), *item),
            chunks=(*ones, *item),
            dtype=dtype,
            compressors=BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),
            fill_value=0,
            dimension_names=(*leading, *dimensions),
        )

    def _create_steps(self, steps: tuple[float, ...]) -> None:
        channel = "latent_channel" in self._stored.dimensions
        values = np.broadcast_to(np.asarray(steps), (self._stored.item[0],)) if channel else np.asarray(steps[0])
        array = self._root.create_array(
            STEP,
            shape=values.shape,
            chunks=values.shape,
            dtype="float64",
            dimension_names=("latent_channel",) if channel else (),
            attributes={"long_name": "what latents are multiplied by"},
        )
        array[...] = values

    def _about(self) -> dict[str, Any]:
        about = {"long_name": f"latents of autoencoder {self._autoencoder.name}", "latent_kind": str(self._stored.kind)}
        if self._stored.packed:
            about["bit_order"] = "latent channel 8 * i + k is bit k of byte i, lowest first; a set bit stands for +1, else -1"
        return about | ({"coordinates": STEP} if self._stored.step is not None else {})


def _template(variable: xr.Variable) -> xr.Variable:
    """A variable as zarr takes it: what its numbers mean is kept, a narrower type of floats is not, Dask's chunks are even."""
    kept = cf_encoding(variable)
    shown = variable.copy(deep=False)
    if shown.chunks is not None:
        shown = shown.chunk({d: c[0] for d, c in zip(shown.dims, shown.chunks, strict=True)})
    narrower = "dtype" in kept and (variable.dtype.kind == "O" or np.dtype(kept["dtype"]).kind == "f")
    shown.encoding = {k: v for k, v in kept.items() if k != "dtype" or not narrower}
    return shown


def _stored_bytes(array: zarr.Array[Any]) -> int:
    return int(sync(array.store_path.store.getsize_prefix(f"{array.path}/c")))
