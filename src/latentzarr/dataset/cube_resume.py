"""Finish a cube whose write was cut off: keep the blocks that are stored and hold, write the rest."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import xarray as xr
import zarr

from latentzarr.codec.config import Effort
from latentzarr.dataset.carried import register_carried_models
from latentzarr.dataset.cube_append import append_rest, check_data
from latentzarr.dataset.cube_blocks import STORED_TIMES, BlockWriter
from latentzarr.dataset.cube_finish import finish_cube, report_of, shared_bytes
from latentzarr.dataset.cube_header import CubeHeader, CubeVariable, header_of
from latentzarr.dataset.cube_plan import CubeBounds, resolved_bounds
from latentzarr.dataset.cube_survey import Dimensions, survey
from latentzarr.dataset.parallel import ProgressOption
from latentzarr.dataset.provenance import container_of
from latentzarr.dataset.report import Report
from latentzarr.dataset.storage import Location, location_of, metadata_bytes, open_root, place_of, writing
from latentzarr.errors import InvalidConfigError, StoreError, StoreExistsError

__all__ = ["cube_begun", "resumed_cube"]


def cube_begun(location: Location, group: str) -> tuple[zarr.Group, CubeHeader] | None:
    """A cube whose write was cut off after its metadata was finished; None if there is none.

    Raises
    ------
    StoreExistsError
        If there is a store that was finished, or is something else.
    """
    try:
        root = open_root(location, "r+")
    except StoreError:
        return None
    found = root.get(group) if group else root
    if not isinstance(found, zarr.Group):
        return None
    attributes = found.attrs.asdict()
    header, container = header_of(attributes), container_of(attributes)
    if header is None or container is None or container.complete:
        raise StoreExistsError(
            "there is no cube here whose write was cut off; overwrite=True replaces it", place=place_of(location)
        )
    if STORED_TIMES not in attributes:
        raise StoreExistsError(
            "writing the cube here was cut off before its first block; overwrite=True begins anew", place=place_of(location)
        )
    return found, header


def resumed_cube(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, store: Any, group: str, root: zarr.Group, header: CubeHeader,
    asked: CubeBounds, effort: Effort, verify: bool, progress: ProgressOption, started: float,
) -> Report:  # fmt: skip
    """Finish a cube with the header and skeleton that it was begun with.

    Raises
    ------
    InvalidConfigError
        If the data or bounds are not those it was begun with.
    VerificationError
    """
    location = location_of(store)
    same = sorted(names) == sorted(v.name for v in header.variables)
    if not same or (header.time and ds.sizes[header.time] != header.times):
        raise InvalidConfigError(
            f"cannot resume with other data: the cube was begun with {header.times} times of "
            f"{', '.join(v.name for v in header.variables)}; give the same, or overwrite=True", place=place_of(location),
        )  # fmt: skip
    check_data(ds, header, dims, root)
    other = [v.name for v in header.variables if v.refinement and not _same_bound(ds, header, dims, v, asked[v.name])]
    if other:
        words = header.variable(other[0]).words
        raise InvalidConfigError(
            f"cannot resume with another bound than {words!r}; give the same, or overwrite=True", place=other[0]
        )
    register_carried_models(root)
    with writing(place_of(location)):
        if header.time:
            append_rest(ds, 0, location, group, root, header)
        stored = int(str(root.attrs[STORED_TIMES]))
        written = BlockWriter(ds, names, dims, root, header, effort, verify, progress).write(0, stored)
        header = replace(header, variables=written.variables(header))
        report = report_of(location, header, written, clock.perf_counter() - started).require()
        finish_cube(location, group, root, header, report)
    return replace(report, metadata=metadata_bytes(location) + shared_bytes(root))


def _same_bound(ds: xr.Dataset, header: CubeHeader, dims: Dimensions, variable: CubeVariable, asked: Any) -> bool:
    """Whether a bound is the one a variable was begun with: the same words, or the same numbers."""
    if isinstance(asked, str):
        return asked == variable.words
    name = variable.name
    seen = survey(ds, [name], dims, header.times, header.blocks[0][0], [name])
    found, _ = resolved_bounds(name, asked, ds.variables[name], dims, seen.low, seen.high)
    return found == variable.bounds
