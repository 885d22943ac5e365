"""Carry a plan out: metadata with a mark that says "incomplete", then blocks in parallel, each checked, the mark last."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, Literal

import dask.array
import numpy as np
import xarray as xr
import zarr
from zarr.core.sync import sync

from latentzarr.codec.config import Effort
from latentzarr.codec.zarr_codec import LatentCodec
from latentzarr.dataset.coded import coded_array
from latentzarr.dataset.parallel import ProgressOption, reporting, run_blocks
from latentzarr.dataset.plan import Bounds, Plan, VariablePlan
from latentzarr.dataset.plan import plan as make_plan
from latentzarr.dataset.provenance import (
    CONTAINER,
    IMPLEMENTATION,
    REPORT,
    WAY_OUT,
    LossyRecord,
    already_lossy,
    container_of,
    new_container,
    with_history,
    without_record,
)
from latentzarr.dataset.report import Report, VariableReport
from latentzarr.dataset.storage import (
    Location,
    finish,
    location_of,
    metadata_bytes,
    open_root,
    place_of,
    prepare_target,
    quiet,
    writing,
)
from latentzarr.dataset.tasks import BlockResult, BlockTask, cf_encoding
from latentzarr.errors import AlreadyLossyError, InvalidConfigError, StoreError, StoreExistsError
from latentzarr.metrics import ErrorStatistics
from latentzarr.models.weights import Model

__all__ = ["to_zarr"]


def to_zarr(
    ds: xr.Dataset,
    store: Any,
    bounds: Bounds | None = None,
    *,
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    model: Model | str | None = None,
    effort: Effort | str = Effort.NORMAL,
    mode: Literal["w-", "w"] = "w-",
    overwrite: bool = False,
    resume: bool = False,
    recode: bool = False,
    verify: bool = True,
    progress: ProgressOption = None,
    plan: Plan | None = None,
) -> Report:
    """Write a data set, lossy where a bound is given and exact everywhere else, check it, and record what was done.

    Parameters
    ----------
    ds : xarray.Dataset
        In memory, lazily opened, or with Dask's chunks (written where Dask runs, by threads or a cluster).
    store : path, URL or zarr store
    bounds : mapping of str to str, float or ErrorBound, optional
        By variable: ``{"t": "0.1 K", "u": "1% of range", "q": "2% relative", "z": "lossless"}``.
    chunks, shards : mapping of str to int, optional
        By dimension, over what `latentzarr.plan` proposes.
    model : Model or str, optional
        A model or its digest; by default the one shipped for the effort.
    effort : {"fast", "normal", "max"}
        How much time coding may take; see `latentzarr.LatentCodec`.
    mode : {"w-", "w"}
        As xarray has it: ``"w"`` replaces an existing store.
    overwrite : bool
        The same as ``mode="w"``.
    resume : bool
        Finish a write that was cut off: blocks that are stored are compared with the data and kept if they hold, the
        rest is written. Without a store it is an ordinary write.
    recode : bool
        Code variables that were decoded from lossy data again, on purpose.
    verify : bool
        Read every block back and compare every value. The codec's own check, before a byte is stored, cannot be switched off.
    progress : bool or function, optional
        By default a bar if standard error is a terminal.
    plan : Plan, optional
        From `latentzarr.plan` for this data set, instead of bounds, chunks, shards, model and effort.

    Returns
    -------
    Report
        Also stored in the attribute ``latentzarr_report``.

    Raises
    ------
    AlreadyLossyError
        If a lossy bound is given for values that were decoded from lossy data, unless ``recode``.
    StoreExistsError, StoreWriteError
    InvalidConfigError
        If a write is resumed with other settings than it was begun with.
    VerificationError
        If what was read back breaks a bound; the store stays marked as incomplete.
    VariableNotFoundError, UnsupportedDtypeError, InvalidBoundError
        As `latentzarr.plan`.
    """
    started = time.perf_counter()
    if plan is not None and (bounds or chunks or shards or model or effort != Effort.NORMAL):
        raise InvalidConfigError("give either a plan or bounds, chunks, shards, model and effort, not both")
    if mode not in ("w-", "w"):
        raise InvalidConfigError(f"mode must be 'w-' or 'w', got {mode!r}; to finish a write, resume=True")
    settled = plan or make_plan(ds, bounds, chunks=chunks, shards=shards, model=model, effort=effort, trial_chunks=0)
    _check_plan(ds, settled)
    if not recode:
        _refuse_recoding(ds, settled)
    location = location_of(store)
    with writing(place_of(location)):
        resuming = resume and _can_resume(location, settled)
        if not resuming:
            # resume=True on a write cut off before its metadata was finished starts anew: nothing but marks is lost
            begun = resume and _is_ours_and_begun(location)
            prepare_target(location, overwrite=overwrite or mode == "w" or begun)
            _write_metadata(ds, location, settled)
        tasks = [_task(ds, location, v, verify=verify, resume=resuming) for v in settled if v.blockwise or (verify and v.numbers)]
        with reporting(progress, "writing") as advance:
            results = run_blocks(tasks, {t.name: ds.variables[t.name] for t in tasks}, advance)
        problems = _check_rest(ds, location, settled) if verify else {}
        reports = tuple(_report(location, v, results.get(v.name), verify, problems.get(v.name, "")) for v in settled)
        report = Report(place_of(location), reports, time.perf_counter() - started).require()
        _finish(location, settled, report)
    return replace(report, metadata=metadata_bytes(location))


def _check_plan(ds: xr.Dataset, plan: Plan) -> None:
    """A plan made for other data would write holes or nonsense."""
    planned = {v.name: v for v in plan}
    present = {str(name): variable for name, variable in ds.variables.items()}
    if set(planned) != set(present):
        raise InvalidConfigError(f"the plan is for variables {sorted(planned)}, the data set has {sorted(present)}")
    for name, variable in present.items():
        if planned[name].shape != variable.shape or planned[name].dtype != variable.dtype.str:
            raise InvalidConfigError(
                f"planned as {planned[name].dtype}{planned[name].shape}, but it is {variable.dtype.str}{variable.shape}",
                place=name,
            )


def _refuse_recoding(ds: xr.Dataset, plan: Plan) -> None:
    for variable in plan:
        why = already_lossy(ds.variables[variable.name]) if variable.lossy else ""
        if why:
            raise AlreadyLossyError(f"the values were lossy before ({why}); {WAY_OUT}", place=variable.name)


def _is_ours_and_begun(location: Location) -> bool:
    """Whether the store was begun by us and cut off before its metadata was complete."""
    try:
        container = container_of(open_root(location).attrs.asdict())
    except StoreError:
        return False
    return container is not None and not container.complete and not container.fingerprint


def _can_resume(location: Location, plan: Plan) -> bool:
    """Whether there is a write to go on with.

    Raises
    ------
    StoreExistsError
        If there is a store that is not ours.
    InvalidConfigError
        If it was begun with other settings; names what differs.
    """
    place = place_of(location)
    try:
        root = open_root(location)
    except StoreError:
        return False
    container = container_of(root.attrs.asdict())
    if container is None:
        raise StoreExistsError("the store here was not begun by latentzarr, it cannot be resumed", place=place)
    if not container.fingerprint:
        return False
    if container.fingerprint != plan.fingerprint:
        raise InvalidConfigError(
            "cannot resume with other data or settings than the write was begun with: "
            f"{_differences(root, plan, container.model)}; give the same bounds, chunks, shards, model and "
            "effort, or overwrite=True to begin anew",
            place=place,
        )
    return True


def _differences(root: zarr.Group, plan: Plan, model: str) -> str:
    """What differs between a store and a plan, in words."""
    found = [] if model == plan.model.digest else [f"model {model[:19]} now {plan.model.digest[:19]}"]
    arrays = {name: array for name, array in root.arrays()}  # noqa: C416
    found += [f"{name} is new" for name in (v.name for v in plan) if name not in arrays]
    found += [f"{name} is missing" for name in arrays if name not in {v.name for v in plan}]
    for v in plan:
        coded = coded_array(arrays[v.name]) if v.name in arrays else None
        before = (None, None, None) if coded is None else (coded.config.bound, coded.chunk, coded.shard)
        now = (v.bound, v.chunks, v.shards) if v.bound is not None else (None, None, None)
        if coded is not None and v.bound is not None and coded.config.effort is not plan.effort:
            found.append(f"{v.name} had effort {coded.config.effort} and now has {plan.effort}")
        if v.name in arrays and (before != now or arrays[v.name].shape != v.shape):
            names = ("bound", "chunks", "shards", "shape")
            pairs = zip(names, (*before, arrays[v.name].shape), (*now, v.shape), strict=True)
            found += [f"{v.name} had {what} {old} and now has {new}" for what, old, new in pairs if old != new]
    return "; ".join(found) or "the shapes, types or chunks of its variables"


def _write_metadata(ds: xr.Dataset, location: Location, plan: Plan) -> None:
    """Everything but the blocks: arrays, attributes, small variables; marked as incomplete from the first byte on."""
    variables: dict[Hashable, xr.Variable] = {v.name: _template(ds, v, plan) for v in plan}
    coded = any(v.bound is not None and v.blockwise for v in plan)
    container = new_container(plan.model.digest, complete=False, coded=coded, before=container_of(ds.attrs))
    lossy = ", ".join(f"{v.name} ({v.bound})" for v in plan if v.lossy)
    attributes = with_history(
        ds.attrs, f"{IMPLEMENTATION}: " + (f"lossy compression of {lossy}" if lossy else "written without loss")
    )
    coordinates = {name: variables.pop(name) for name in list(variables) if name in ds.coords}
    indexes = {name: coordinates[name] for name in coordinates if name in ds.indexes}
    rest = {name: coordinates[name] for name in coordinates if name not in ds.indexes}
    template = xr.Dataset(
        variables, xr.Coordinates({**indexes, **rest}, indexes=dict(ds.xindexes)), {**attributes, CONTAINER: container.to_text()}
    )
    template.attrs.pop(REPORT, None)
    with quiet():
        template.to_zarr(location, mode="w", compute=False, consolidated=False, zarr_format=3)
        marked = replace(container, fingerprint=plan.fingerprint)
        open_root(location, "r+").update_attributes({CONTAINER: marked.to_text()})


def _template(ds: xr.Dataset, planned: VariablePlan, plan: Plan) -> xr.Variable:
    """A variable as it is to be stored: the values of a small one, an empty lazy array in the place of a large one."""
    source = ds.variables[planned.name]
    attributes = without_record(source.attrs) if planned.lossy else dict(source.attrs)
    encoding = _encoding(source, planned)
    if not planned.blockwise:
        return xr.Variable(source.dims, source.copy(deep=False).load().data, attributes, encoding)
    if planned.bound is not None:
        codec = LatentCodec(bound=planned.bound, model=plan.model, effort=plan.effort)
        encoding |= {"serializer": codec, "compressors": None}
        if planned.lossy:
            attributes |= LossyRecord(planned.bound, planned.words).to_attributes()
    encoding["chunks"] = planned.chunks
    if planned.shards is not None:
        encoding["shards"] = planned.shards
    return xr.Variable(source.dims, dask.array.zeros(source.shape, dtype=source.dtype, chunks=-1), attributes, encoding)


def _encoding(source: xr.Variable, planned: VariablePlan) -> dict[str, Any]:
    """What stored numbers mean; values under a bound are stored as they are, so packing and fill values are dropped."""
    if planned.bound is None or not planned.blockwise:
        kept = cf_encoding(source)
        return kept if planned.dtype[1:] != "O" else {k: v for k, v in kept.items() if k != "dtype"}
    if "_FillValue" in source.attrs:
        return {"fill_value": source.attrs["_FillValue"]}
    declared = source.encoding.get("_FillValue")
    if source.dtype.kind not in "iu" or declared is None or {"scale_factor", "add_offset"} & set(source.encoding):
        return {}  # of floats it stands for NaN already, of packed numbers it is no value of these
    limits = np.iinfo(source.dtype)
    if not limits.min <= declared <= limits.max:
        return {}
    return {"_FillValue": source.dtype.type(declared), "fill_value": int(declared)}


def _task(ds: xr.Dataset, location: Location, planned: VariablePlan, *, verify: bool, resume: bool) -> BlockTask:
    encoding = {} if planned.bound is not None else cf_encoding(ds.variables[planned.name])
    write = planned.blockwise or resume  # small variables were written with the metadata
    return BlockTask(
        location, planned.name, planned.dims, planned.block, planned.bound, encoding, write, check=verify, resume=resume
    )


def _check_rest(ds: xr.Dataset, location: Location, plan: Plan) -> dict[str, str]:
    """Problems with what is no array of numbers: dates, text, single values."""
    with quiet():
        stored = xr.open_zarr(location, consolidated=False)
    rest = [v.name for v in plan if not v.blockwise and not v.numbers]
    return {name: "values differ" for name in rest if not ds.variables[name].equals(stored.variables[name])}


def _report(location: Location, planned: VariablePlan, result: BlockResult | None, checked: bool, problem: str) -> VariableReport:
    """The report of a variable; its bytes are those that lie in the store."""
    with quiet():
        array = open_root(location)[planned.name]
        assert isinstance(array, zarr.Array)
        stored = (
            result.stored
            if result is not None and result.stored
            else sync(array.store_path.store.getsize_prefix(f"{array.path}/c"))
        )
    size = math.prod(planned.shape)
    result = result or BlockResult(ErrorStatistics(count=size))
    modes = dict(result.modes) if planned.bound is not None else {}
    return VariableReport(
        planned.name,
        planned.bound,
        planned.words,
        planned.dtype,
        size,
        planned.nbytes,
        stored,
        checked,
        result.statistics,
        modes,
        result.seconds if planned.blockwise else math.nan,
        problem,
    )


def _finish(location: Location, plan: Plan, report: Report) -> None:
    """Record what was measured, consolidate, and as the very last write say that the store is complete."""
    attributes = {}
    for v in plan:
        if v.lossy and v.bound is not None and report[v.name].checked:
            error = report[v.name].statistics.max_abs
            attributes[v.name] = LossyRecord(v.bound, v.words, error).to_attributes()
    before = container_of(open_root(location).attrs.asdict())
    assert before is not None
    container = replace(before, complete=True, fingerprint=plan.fingerprint)
    finish(location, attributes, {CONTAINER: container.to_text(), REPORT: replace(report, place="").to_json()})
