"""Add times to a cube: blocks behind those there are, with the cube's own skeleton and bounds; nothing old is touched."""

from __future__ import annotations

import time as clock
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
import zarr

from latentzarr.codec.config import Effort
from latentzarr.dataset.carried import register_carried_models
from latentzarr.dataset.cube_blocks import STORED_TIMES, BlockWriter
from latentzarr.dataset.cube_finish import finish_cube, report_of, shared_bytes
from latentzarr.dataset.cube_header import CUBE, LATENTS, CubeHeader, header_of
from latentzarr.dataset.cube_layout import append_times
from latentzarr.dataset.cube_survey import Dimensions, channel_shape
from latentzarr.dataset.parallel import ProgressOption
from latentzarr.dataset.provenance import CONTAINER, container_of, new_container, require_complete
from latentzarr.dataset.report import Report
from latentzarr.dataset.storage import Location, location_of, metadata_bytes, open_root, place_of, quiet, writing
from latentzarr.errors import InvalidConfigError, StoreError, VariableNotFoundError

__all__ = ["append_cube", "append_rest", "check_data", "marked_incomplete", "opened_cube"]


def append_cube(
    ds: xr.Dataset,
    store: Any,
    *,
    effort: Effort | str = Effort.NORMAL,
    verify: bool = True,
    progress: ProgressOption = None,
    group: str = "",
) -> Report:
    """Append times to a cube.

    Parameters
    ----------
    ds : xarray.Dataset
        The cube's variables on its grid and levels, later times.
    store : path, URL or zarr store
    effort : {"fast", "normal", "max"}
    verify : bool
        Read every new block back and compare every value.
    progress : bool or function, optional
    group : str

    Returns
    -------
    Report
        Of the times appended.

    Raises
    ------
    StoreError
        If there is no cube, or it has no time dimension.
    IncompleteStoreError
        If an earlier write was cut off.
    InvalidConfigError, VariableNotFoundError
        If the data do not fit the cube.
    """
    started = clock.perf_counter()
    location = location_of(store)
    root, header = opened_cube(location, group)
    dims = Dimensions(header.time, header.rows, header.columns)
    if not header.time:
        raise StoreError("this cube has no time dimension to append along", place=place_of(location))
    check_data(ds, header, dims, root)
    before, more = header.times, ds.sizes[header.time]
    longest = max(length for length, _ in header.blocks)
    grown = header
    for first in range(0, more, longest):
        grown = grown.with_block(min(longest, more - first))
    names = [v.name for v in header.variables]
    with writing(place_of(location)):
        marked_incomplete(root, header)
        _grow(root, header, grown)
        root.update_attributes({CUBE: grown.to_text()})
        append_rest(ds, before, location, group, root, grown)
        written = BlockWriter(ds, names, dims, root, grown, Effort(effort), verify, progress).write(before)
        done = replace(grown, variables=written.variables(grown))
        report = report_of(location, done, written, clock.perf_counter() - started).require()
        finish_cube(location, group, root, done, report)
    return replace(report, metadata=metadata_bytes(location) + shared_bytes(root))


def opened_cube(location: Location, group: str, mode: str = "r+") -> tuple[zarr.Group, CubeHeader]:
    """A complete cube, open for writing (or reading), its models known.

    Raises
    ------
    StoreError, IncompleteStoreError
    """
    root = open_root(location, mode)
    if group:
        found = root.get(group)
        if not isinstance(found, zarr.Group):
            raise StoreError(f"there is no group {group!r}", place=place_of(location))
        root = found
    attributes = root.attrs.asdict()
    require_complete(attributes, place_of(location))
    header = header_of(attributes)
    if header is None:
        raise StoreError("this store is no latent cube", place=place_of(location))
    register_carried_models(root)
    return root, header


def marked_incomplete(root: zarr.Group, header: CubeHeader) -> None:
    """From here on readers refuse the cube, until it is finished again (`to_cube` with ``resume=True`` and all data does it)."""
    before = container_of(root.attrs.asdict()) or new_container(header.model, complete=True)
    root.update_attributes({CONTAINER: replace(before, complete=False).to_text(), STORED_TIMES: header.times})


def append_rest(ds: xr.Dataset, first: int, location: Location, group: str, root: zarr.Group, header: CubeHeader) -> None:
    """Append coordinates and exact variables along time, as far as they are not there.

    Parameters
    ----------
    ds : xarray.Dataset
    first : int
        Time of the cube that ``ds`` begins with.
    """
    rest = ds.drop_vars([v.name for v in header.variables])
    along = [str(n) for n in rest.variables if header.time in rest[n].dims]
    sizes = [found.shape[rest[n].dims.index(header.time)] for n in along if isinstance(found := root.get(n), zarr.Array)]
    there = min(sizes, default=header.times)
    if there < header.times:
        part = rest[along].isel({header.time: slice(there - first, None)}).drop_encoding()
        part.attrs = root.attrs.asdict()  # xarray puts them in the place of what is there
        with quiet():
            part.to_zarr(
                location, group=group or None, append_dim=header.time, consolidated=False, zarr_format=3, safe_chunks=False
            )


def check_data(ds: xr.Dataset, header: CubeHeader, dims: Dimensions, root: zarr.Group) -> None:
    """Whether data are of the same variables, types, levels and grid as the cube, coordinates included.

    Raises
    ------
    InvalidConfigError, VariableNotFoundError
        Naming what differs.
    """
    if header.time and not ds.sizes.get(header.time):
        raise InvalidConfigError(f"there is nothing to append along {header.time!r}")
    for v in header.variables:
        if v.name not in ds.data_vars:
            raise VariableNotFoundError(f"the cube has a variable {v.name!r}, the data to append have not")
        found = ds.variables[v.name]
        same = found.dims == v.dims and channel_shape(found, dims) == v.channel_shape
        grid = tuple(ds.sizes.get(d, 0) for d in (header.rows, header.columns))
        if not same or grid != header.shape or found.dtype.newbyteorder("=").name != v.dtype:
            raise InvalidConfigError(
                f"the cube has {v.dtype} of dimensions {v.dims} with levels {v.channel_shape} on {header.shape}, "
                f"the data have {found.dtype} of {found.dims}, shape {found.shape}",
                place=v.name,
            )
    for name in {d for v in header.variables for d in v.dims} - {header.time}:
        there = root.get(name)
        if name not in ds.coords or not isinstance(there, zarr.Array) or "scale_factor" in there.attrs:
            continue
        here, kept = np.asarray(ds[name].values), np.asarray(there[...])
        if here.dtype.kind in "fiu" and kept.dtype.kind in "fiu" and not np.array_equal(here, kept):
            raise InvalidConfigError(
                "its values are not those of the cube; reindex the data to the cube's first", place=str(name)
            )


def _grow(root: zarr.Group, before: CubeHeader, header: CubeHeader) -> None:
    """Room for the times and blocks of a header."""
    for v in header.variables:
        if v.refinement:
            append_times(root, before, v, header.times)
    blocks = sum(count for _, count in header.blocks)
    for name, size in zip(LATENTS, (blocks, header.times), strict=True):
        array = root.get(name)
        if isinstance(array, zarr.Array):
            array.resize((size, *array.shape[1:]))
