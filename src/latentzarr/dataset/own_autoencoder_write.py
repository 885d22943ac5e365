"""Encode a data set with a person's own autoencoder, batch by batch, measure what it did, and say last that all is there.

latent                 (leading dims, latent_channel, latent_y, latent_x)   integers, blosc (zstd, bit shuffle)
latent_step            (latent_channel)                                      what they are multiplied by, if continuous
latent_missing_first   (field_channel, rows, columns)                        where the first item is NaN, if anything is
latent_missing         (leading dims, field_channel, rows, columns)          where others differ from that
everything else                                                              as xarray stores it, exact
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.codecs import BloscCodec
from zarr.core.sync import sync

from latentzarr.codec.runtime import current_runtime
from latentzarr.cube.autoencoder import Autoencoder, check_device
from latentzarr.cube.latents import StoredLatents
from latentzarr.cube.registry import find_autoencoder
from latentzarr.dataset.arrays import our_errors
from latentzarr.dataset.own_autoencoder_layout import Layout, Place, fields_of, filled, layout_of
from latentzarr.dataset.own_autoencoder_report import ChannelSums, LatentReport
from latentzarr.dataset.own_autoencoder_table import (
    ATTRIBUTE,
    FIRST_MISSING,
    LATENT,
    MISSING,
    STEP,
    LatentStoreRecord,
)
from latentzarr.dataset.own_autoencoder_weights import carry_weights
from latentzarr.dataset.parallel import ProgressOption, reporting
from latentzarr.dataset.provenance import WAY_OUT, already_lossy, with_history
from latentzarr.dataset.storage import Location, finish, location_of, open_root, place_of, prepare_target, quiet, writing
from latentzarr.dataset.tasks import cf_encoding
from latentzarr.errors import AlreadyLossyError, InvalidConfigError

__all__ = ["encode_latents"]

_BATCH_BYTES = 64 * 2**20
_LARGEST_BATCH = 32
_CHUNK_BYTES = 256 * 2**10


def encode_latents(
    ds: xr.Dataset,
    store: Any,
    model: str,
    *,
    variables: Sequence[str] | None = None,
    time_dim: str | Sequence[str] | None = None,
    batch: int | None = None,
    overwrite: bool = False,
    embed: bool = False,
    recode: bool = False,
    device: str | None = None,
    progress: ProgressOption = None,
    bounds: Mapping[str, Any] | None = None,
) -> LatentReport:
    """Write a data set as the latents of a registered autoencoder; every other variable and all coordinates stay exact.

    **Nothing is guaranteed of the values.** A float decoder gives other bits on another machine, with another number of
    threads, in batches of another size. The errors in the report are those measured here, by decoding each batch once as it
    was written. The latents themselves, coordinates, and the places of NaN are exact everywhere. For a guarantee use
    `latentzarr.to_zarr` with bounds.

    Parameters
    ----------
    ds : xarray.Dataset
        In memory, lazy, or with Dask's chunks; read a batch at a time.
    store : path, URL or zarr store
    model : str
        Name of an autoencoder that is registered, or that an installed package offers.
    variables : sequence of str, optional
        What to encode, in the order of the autoencoder's channels; other data variables are left out then. By default all
        floats that have the leading dimensions and two more, in the order of the data set; the rest is stored exactly.
    time_dim : str or sequence of str, optional
        The leading dimensions: along these lie the items that are encoded one by one. By default the dimension of time. Of
        what is left the last two are rows and columns, and all others make channels.
    batch : int, optional
        Items encoded together; by default up to 32, and up to 64 MiB.
    overwrite : bool
        Replace an existing store.
    embed : bool
        Put the weights into the store, as safetensors. They are bytes to be kept, not code: a reader still needs the
        autoencoder, and can load them into it (`latentzarr.autoencoder_weights`).
    recode : bool
        Encode values that were decoded from lossy data before, on purpose.
    device : {"cpu", "cuda"}, optional
    progress : bool or function, optional
        By default a bar if standard error is a terminal.
    bounds : None
        Refused: see above.

    Returns
    -------
    LatentReport
        Errors are also stored, in the attribute ``latentzarr_autoencoder``.

    Raises
    ------
    InvalidConfigError
        If bounds are asked for, dimensions do not fit, values are infinite, or the autoencoder gives something unfit.
    ModelNotFoundError
        If there is no such autoencoder.
    AlreadyLossyError
        If values were decoded from lossy data, unless ``recode``.
    StoreExistsError, StoreWriteError, VariableNotFoundError, UnsupportedDtypeError
    """
    started = time.perf_counter()
    if bounds:
        raise InvalidConfigError(
            f"no bound ({', '.join(map(str, bounds))}) can be guaranteed with autoencoder {model!r}: its decoder computes in "
            "floating point and gives other bits elsewhere. Leave bounds out and look at the errors, or use latentzarr.to_zarr"
        )
    if batch is not None and (isinstance(batch, bool) or batch < 1):
        raise InvalidConfigError(f"batch must be 1 or more, got {batch!r}")
    autoencoder = find_autoencoder(model)
    if embed and autoencoder.weights is None:
        raise InvalidConfigError(f"autoencoder {model!r} was registered without weights, so none can be put into the store")
    where = check_device(device or current_runtime().device)
    layout = layout_of(ds, variables, time_dim)
    if not recode:
        _refuse_recoding(ds, layout)
    kept = ds.drop_vars([n for n in ds.data_vars if variables is not None or n in {v.name for v in layout.variables}])
    names = {LATENT, STEP, MISSING, FIRST_MISSING} & set(map(str, kept.variables))
    if names:
        raise InvalidConfigError(f"the names {sorted(names)} are needed for latents; rename those variables")
    writer = _Writer(ds, layout, autoencoder, where, batch)
    location = location_of(store)
    place = place_of(location)
    with writing(place):
        prepare_target(location, overwrite=overwrite)
        order = [str(n) for n in ds.data_vars if variables is None or n in set(variables)]
        record = writer.begin(location, kept, order)
        with reporting(progress, "encoding") as advance:
            done, total = 0, sum(ds.variables[v.name].nbytes for v in layout.variables)
            for at in layout.batches(writer.batch):
                done += writer.write(at)
                advance(LATENT, done, total)
        if embed:
            carry_weights(open_root(location, "r+"), autoencoder)
        record = writer.ended(record)
        finish(location, {}, {ATTRIBUTE: record.to_text()})
        stored = sum(_stored_bytes(a) for a in writer.arrays)
    values = sum(math.prod(v.shape) for v in layout.variables)
    return LatentReport(place, model, record.errors, values, total, stored, time.perf_counter() - started)


class _Writer:
    """Batches of one data set on their way into one store."""

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
        self._ready: tuple[Place, npt.NDArray[Any]] | None

    @property
    def arrays(self) -> tuple[zarr.Array[Any], ...]:
        """What was written besides the variables that stay exact."""
        found = [self._root.get(name) for name in (LATENT, STEP, MISSING, FIRST_MISSING)]
        return tuple(a for a in found if isinstance(a, zarr.Array))

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
        rest = kept.assign_attrs({**attributes, ATTRIBUTE: record.to_text()})
        for variable in rest.variables.values():
            variable.encoding = _encoding(variable)
        with quiet():
            rest.to_zarr(location, mode="w", consolidated=False, zarr_format=3)
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


def _refuse_recoding(ds: xr.Dataset, layout: Layout) -> None:
    for v in layout.variables:
        why = already_lossy(ds.variables[v.name])
        if why:
            raise AlreadyLossyError(f"the values were lossy before ({why}); {WAY_OUT}", place=v.name)


def _encoding(variable: xr.Variable) -> dict[Hashable, Any]:
    kept = cf_encoding(variable)
    return {k: v for k, v in kept.items() if k != "dtype" or variable.dtype.kind != "O"}


def _stored_bytes(array: zarr.Array[Any]) -> int:
    return int(sync(array.store_path.store.getsize_prefix(f"{array.path}/c")))
