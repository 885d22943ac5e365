"""Compare a store with the original, every value, block by block: the guarantee checked by someone who trusts nobody."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import xarray as xr
import zarr

from latentzarr.bounds import ErrorBound
from latentzarr.dataset.blocks import default_chunks, default_shards
from latentzarr.dataset.coded import Coded, coded_array
from latentzarr.dataset.inspect import inspect
from latentzarr.dataset.parallel import ProgressOption, reporting, run_blocks
from latentzarr.dataset.provenance import lossy_record, require_complete
from latentzarr.dataset.report import Report, VariableReport
from latentzarr.dataset.storage import Location, location_of, metadata_bytes, open_root, place_of, quiet
from latentzarr.dataset.tasks import BlockResult, BlockTask, cf_encoding
from latentzarr.errors import VariableNotFoundError
from latentzarr.metrics import ErrorStatistics

__all__ = ["verify"]


def verify(
    original: xr.Dataset, store: Any, *, variables: Iterable[str] | None = None, progress: ProgressOption = None
) -> Report:
    """Compare every value of a store with the original.

    Parameters
    ----------
    original : xarray.Dataset
        What was written; lazy data stay lazy.
    store : path, URL or zarr store
        Written by `latentzarr.to_zarr` or by xarray with our codec.
    variables : iterable of str, optional
        All of the original by default.
    progress : bool or function, optional
        By default a bar if standard error is a terminal.

    Returns
    -------
    Report
        ``report.ok`` tells; ``report.require()`` raises. Arrays with our codec are held to the bound in their metadata, all
        others to equality.

    Raises
    ------
    VariableNotFoundError
        If ``variables`` names one that the original lacks.
    StoreError, IncompleteStoreError, FormatError
        If the store cannot be read.
    """
    started = time.perf_counter()
    location = location_of(store)
    names = [str(n) for n in original.variables] if variables is None else list(variables)
    for name in names:
        if name not in original.variables:
            raise VariableNotFoundError(
                f"the original has no variable {name!r}; it has {', '.join(map(str, original.variables))}"
            )
    with quiet():
        root = open_root(location)
        require_complete(root.attrs.asdict(), place_of(location))
        arrays: dict[str, zarr.Array[Any]] = dict(root.arrays())
        stored = xr.open_zarr(location, consolidated=False)
    tasks: list[BlockTask] = []
    problems: dict[str, str] = {}
    for name in names:
        if name not in arrays:
            problems[name] = "not in the store"
            continue
        coded = coded_array(arrays[name])
        problem = _mismatch(original.variables[name], stored.variables[name], arrays[name], coded)
        if problem:
            problems[name] = problem
        elif _is_blockwise(original.variables[name]):
            tasks.append(_task(location, name, stored.variables[name], arrays[name], coded))
        elif not original.variables[name].equals(stored.variables[name]):
            problems[name] = "values differ"
    with reporting(progress, "checking") as advance:
        results = run_blocks(tasks, {t.name: original.variables[t.name] for t in tasks}, advance)
    sizes = {v.name: v.stored for v in inspect(store).variables}
    reports = [
        _report(n, original.variables[n], arrays.get(n), results.get(n), sizes.get(n, 0), problems.get(n, "")) for n in names
    ]
    return Report(place_of(location), tuple(reports), time.perf_counter() - started, metadata_bytes(location))


def _is_blockwise(variable: xr.Variable) -> bool:
    return variable.ndim > 0 and variable.dtype.kind in "iufb"


def _mismatch(original: xr.Variable, stored: xr.Variable, array: zarr.Array[Any], coded: Coded | None) -> str:
    """Why two variables cannot be compared; empty if they can."""
    if original.dims != stored.dims or original.shape != stored.shape:
        return f"{dict(original.sizes)} in the original, {dict(stored.sizes)} in the store"
    packed = "scale_factor" in stored.encoding or "add_offset" in stored.encoding
    if coded is not None and not packed and original.dtype.newbyteorder("=") != array.dtype.newbyteorder("="):
        return f"{original.dtype} in the original, {array.dtype} in the store"
    return ""


def _task(location: Location, name: str, stored: xr.Variable, array: zarr.Array[Any], coded: Coded | None) -> BlockTask:
    if coded is not None:
        block = coded.shard or coded.chunk
    else:
        chunks = default_chunks(array.shape, array.dtype.itemsize)
        block = array.shards or default_shards(array.shape, chunks, array.dtype.itemsize) or chunks
    encoding = cf_encoding(stored)
    if coded is not None and not {"scale_factor", "add_offset"} & set(encoding):
        encoding = {}
    dims = tuple(map(str, stored.dims))
    return BlockTask(location, name, dims, block, _bound_of(array, coded), encoding, write=False)


def _bound_of(array: zarr.Array[Any], coded: Coded | None) -> ErrorBound | None:
    """The bound an array promises: its codec's; of a decoded copy the one in its attributes; else None, exact."""
    if coded is not None:
        return coded.config.bound
    record = lossy_record(array.attrs.asdict())
    return None if record is None else record.bound


def _report(
    name: str, original: xr.Variable, array: zarr.Array[Any] | None, result: BlockResult | None, stored: int, problem: str
) -> VariableReport:
    coded = None if array is None else coded_array(array)
    record = None if array is None else lossy_record(array.attrs.asdict())
    bound = None if array is None else _bound_of(array, coded)
    return VariableReport(
        name,
        bound,
        record.requested if record else "",
        original.dtype.str,
        original.size,
        original.nbytes,
        stored,
        checked=not problem or problem == "values differ",
        statistics=result.statistics if result else ErrorStatistics(count=original.size),
        modes=dict(result.modes) if result and coded else {},
        seconds=result.seconds if result else float("nan"),
        problem=problem,
    )
