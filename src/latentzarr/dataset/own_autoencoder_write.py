"""Encode a data set with a person's own autoencoder: the function, what it refuses, and the mark that is written last."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from latentzarr.codec.runtime import current_runtime
from latentzarr.cube.autoencoder import check_device
from latentzarr.cube.registry import find_autoencoder
from latentzarr.dataset.own_autoencoder_batches import LatentWriter
from latentzarr.dataset.own_autoencoder_layout import Layout, layout_of
from latentzarr.dataset.own_autoencoder_report import LatentReport
from latentzarr.dataset.own_autoencoder_table import (
    ATTRIBUTE,
    FIRST_MISSING,
    LATENT,
    MISSING,
    STEP,
)
from latentzarr.dataset.own_autoencoder_weights import carry_weights
from latentzarr.dataset.parallel import ProgressOption, reporting
from latentzarr.dataset.provenance import WAY_OUT, already_lossy
from latentzarr.dataset.storage import finish, location_of, open_root, place_of, prepare_target, writing
from latentzarr.errors import AlreadyLossyError, InvalidConfigError

__all__ = ["encode_latents"]


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
    writer = LatentWriter(ds, layout, autoencoder, where, batch)
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
        stored = writer.stored_bytes
    values = sum(math.prod(v.shape) for v in layout.variables)
    return LatentReport(place, model, record.errors, values, total, stored, time.perf_counter() - started)


def _refuse_recoding(ds: xr.Dataset, layout: Layout) -> None:
    for v in layout.variables:
        why = already_lossy(ds.variables[v.name])
        if why:
            raise AlreadyLossyError(f"the values were lossy before ({why}); {WAY_OUT}", place=v.name)
