"""Open what a person names on the command line: a netCDF file or a zarr store, lazily, with an error that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
import zarr.errors

from latentzarr.errors import LatentzarrError, StoreError

__all__ = ["open_named"]


def open_named(path: str) -> xr.Dataset:
    """A data set from a file or a store, nothing read but metadata.

    Parameters
    ----------
    path : str
        A file that xarray can open, a zarr store, or a URL of one. Stores come with Dask's chunks.

    Raises
    ------
    StoreError
        If there is nothing, or nothing that can be opened.
    IncompleteStoreError
        If it is a store whose write was cut off.
    """
    if "://" not in path and not Path(path).exists():
        raise StoreError("there is no such file or store", place=path)
    try:
        if "://" in path or Path(path).is_dir():
            return xr.open_dataset(path, engine="latentzarr", chunks={})
        _refuse_groups(path)
        return xr.open_dataset(path)
    except LatentzarrError:
        raise
    except (OSError, ValueError, zarr.errors.BaseZarrError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"cannot be opened as a data set: {first}", place=path) from error


def _refuse_groups(path: str) -> None:
    """Groups below the root would be left out without a word.

    Raises
    ------
    StoreError
        Naming them.
    """
    try:
        import netCDF4
    except ImportError:
        return
    try:
        with netCDF4.Dataset(path) as file:
            groups = list(file.groups)
    except OSError:  # no netCDF file: xarray finds out what it is
        return
    if groups:
        raise StoreError(
            f"the file has the groups {', '.join(groups)}, which this command would leave out; write each from Python: "
            "latentzarr.to_zarr(xr.open_dataset(path, group=...), store)",
            place=path,
        )
