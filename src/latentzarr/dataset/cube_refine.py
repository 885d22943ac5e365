"""Give variables of a cube another bound: their refinements are written anew, the latents and all other variables stay.

What looks at a changed variable changes with it and is written anew too, under its own bound. New arrays are written beside the
old ones; the cube changes when its header does, in one write at the end, and the old arrays go after that.
"""

from __future__ import annotations

import time as clock
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from latentzarr.bounds import BoundKind
from latentzarr.codec.config import Effort
from latentzarr.cube.table import ReferenceTable, Source
from latentzarr.dataset.cube_append import check_data, opened_cube
from latentzarr.dataset.cube_blocks import BlockWriter
from latentzarr.dataset.cube_finish import finish_cube, report_of, shared_bytes
from latentzarr.dataset.cube_header import CUBE, CubeHeader
from latentzarr.dataset.cube_layout import add_refinement, drop_refinement, write_blob, write_statics
from latentzarr.dataset.cube_plan import CubeBounds, resolved_bounds
from latentzarr.dataset.cube_reader import CubeReader
from latentzarr.dataset.cube_skeleton import Skeleton
from latentzarr.dataset.cube_survey import Dimensions, survey
from latentzarr.dataset.parallel import ProgressOption
from latentzarr.dataset.report import Report
from latentzarr.dataset.storage import location_of, metadata_bytes, place_of, writing
from latentzarr.errors import InvalidConfigError, VariableNotFoundError
from latentzarr.models.store import find_model

__all__ = ["refine_cube"]


def refine_cube(
    ds: xr.Dataset,
    store: Any,
    bounds: CubeBounds,
    *,
    access: float = 0.3,
    effort: Effort | str = Effort.NORMAL,
    verify: bool = True,
    progress: ProgressOption = None,
    group: str = "",
) -> Report:
    """Tighten or loosen the bounds of some variables, or give bounds to a cube of latents alone.

    Parameters
    ----------
    ds : xarray.Dataset
        The original data of the whole cube.
    store : path, URL or zarr store
    bounds : mapping
        As in `latentzarr.to_cube`; of a cube of latents alone, for all its variables.
    access : float
        Of a cube of latents alone, as in `latentzarr.to_cube`.
    effort : {"fast", "normal", "max"}
    verify : bool
    progress : bool or function, optional
    group : str

    Returns
    -------
    Report
        Of the variables that were written anew.

    Raises
    ------
    StoreError, IncompleteStoreError, InvalidConfigError, InvalidBoundError, VariableNotFoundError, VerificationError
    """
    started = clock.perf_counter()
    location = location_of(store)
    root, header = opened_cube(location, group)
    dims = Dimensions(header.time, header.rows, header.columns)
    names = [v.name for v in header.variables]
    unknown = [name for name in bounds if name not in names]
    if unknown or not bounds:
        raise VariableNotFoundError(
            f"the cube has no variable {unknown[:1]}; it has {', '.join(names)}", place=place_of(location)
        )
    check_data(ds, header, dims, root)
    if header.time and ds.sizes[header.time] != header.times:
        raise InvalidConfigError(f"the cube has {header.times} times, the data {ds.sizes[header.time]}")
    alone = not header.variables[0].refinement
    if alone and set(bounds) != set(names):
        raise InvalidConfigError(f"a cube of latents alone takes bounds for all its variables: {', '.join(names)}")
    old = CubeReader(root, header=header)
    changed = set(names) if alone else _affected(header, old.table, set(bounds))
    wanted = _with_bounds(ds, header, dims, bounds, changed)
    with writing(place_of(location), resumable=False):
        if alone:
            assert old.base is not None
            length = header.blocks[0][0]
            seen = survey(ds, names, dims, header.times, length, names)
            skeleton = Skeleton.fit(ds, names, dims, wanted, seen, length, access, find_model(header.model), old.base.basis)
            wanted = replace(wanted, time_stride=skeleton.time_stride)
            write_blob(root, "references", skeleton.table)
            write_statics(root, wanted, skeleton.statics)
        for v in wanted.variables:
            if v.name in changed:
                add_refinement(root, wanted, v)
        writer = BlockWriter(ds, names, dims, root, wanted, Effort(effort), verify, progress, sorted(changed), old)
        written = writer.write(0)
        done = replace(wanted, variables=written.variables(wanted))
        full = report_of(location, done, written, clock.perf_counter() - started)
        report = replace(full, variables=tuple(v for v in full.variables if v.name in changed)).require()
        root.update_attributes({CUBE: done.to_text()})  # from here on readers see the new refinements
        for v in header.variables:
            if v.name in changed and v.refinement:
                drop_refinement(root, v.refinement)
        finish_cube(location, group, root, done, report)
    return replace(report, metadata=metadata_bytes(location) + shared_bytes(root))


def _affected(header: CubeHeader, table: ReferenceTable, changed: set[str]) -> set[str]:
    """Variables that change with some: themselves, and whatever looks at one of them."""
    names = [v.name for v in header.variables for _ in range(v.channels)]
    links = {
        (names[target], names[looked])
        for target, _, source, looked, *_ in table.terms.tolist()
        if source in (Source.SAME, Source.BEFORE, Source.AFTER)
    }
    found = set(changed)
    while more := {a for a, b in links if b in found} - found:
        found |= more
    return found


def _with_bounds(ds: xr.Dataset, header: CubeHeader, dims: Dimensions, bounds: CubeBounds, changed: set[str]) -> CubeHeader:
    """The header with new bounds, and new names for the refinements that are written anew."""
    seen = survey(ds, list(bounds), dims, header.times, header.blocks[0][0], list(bounds))
    at, variables = {}, []
    first = 0
    for name in bounds:
        count = header.variable(name).channels
        at[name] = slice(first, first + count)
        first += count
    for v in header.variables:
        if v.name not in changed:
            variables.append(v)
            continue
        new = replace(v, refinement=_next_name(v.name, v.refinement), largest_error=np.nan, rmse=np.nan)
        if v.name in bounds:
            low, high = seen.low[at[v.name]], seen.high[at[v.name]]
            found, words = resolved_bounds(v.name, bounds[v.name], ds.variables[v.name], dims, low, high)
            if any(b.kind is BoundKind.NONE for b in found):
                raise InvalidConfigError("a refinement needs a bound", place=v.name)
            new = replace(new, bounds=found, words=words)
        variables.append(new)
    return replace(header, variables=tuple(variables))


def _next_name(name: str, before: str) -> str:
    """Of a refinement written anew: name, name.1, name.2, .."""
    if not before:
        return name
    _, _, number = before.removeprefix(name).partition(".")
    return f"{name}.{int(number) + 1 if number.isdigit() else 1}"
