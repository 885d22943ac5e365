"""The way out: an ordinary store from a coded one, for readers without the package, still marked as lossy."""

from __future__ import annotations

from typing import Any

import xarray as xr

from latentzarr.dataset.parallel import ProgressOption
from latentzarr.dataset.report import Report
from latentzarr.dataset.storage import location_of, open_root, place_of
from latentzarr.dataset.write import to_zarr
from latentzarr.errors import InvalidConfigError

__all__ = ["decode_store"]


def decode_store(source: Any, target: Any, *, overwrite: bool = False, progress: ProgressOption = None) -> Report:
    """Decode a store into one with zarr's ordinary codecs.

    The attributes that tell of the lossy step stay: the data is lossy however it is stored.

    Parameters
    ----------
    source, target : path, URL or zarr store
    overwrite : bool
        Replace an existing target.
    progress : bool or function, optional

    Returns
    -------
    Report
        Every value was read back and is equal, bit by bit, to what the source decodes to.

    Raises
    ------
    StoreError, IncompleteStoreError, StoreExistsError, StoreWriteError
    InvalidConfigError
        If source and target are the same.
    """
    start, end = location_of(source), location_of(target)
    if start == end:
        raise InvalidConfigError("a store cannot be decoded into itself", place=place_of(end))
    open_root(start)  # says clearly if nothing is there
    ds = xr.open_dataset(start, engine="latentzarr", chunks={})
    return to_zarr(ds, end, overwrite=overwrite, progress=progress)
