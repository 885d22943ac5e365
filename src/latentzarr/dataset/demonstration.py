"""The demonstration: a data set in, a store out, opened again by plain xarray and Dask, every value compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from latentzarr.dataset.example import example_bounds, example_dataset
from latentzarr.dataset.provenance import already_lossy
from latentzarr.dataset.report import Report
from latentzarr.dataset.tables import byte_text, time_text
from latentzarr.dataset.verify import verify
from latentzarr.dataset.write import to_zarr
from latentzarr.errors import InvalidConfigError

__all__ = ["BeforeAndAfter", "demonstrate"]

_MOST_VARIABLES = 4
_MOST_BYTES = 48 * 1024 * 1024
_DEFAULT_BOUND = "1% of range"


@dataclass(frozen=True, slots=True, eq=False)
class BeforeAndAfter:
    """The data set as it was, and as it is read from the store."""

    original: xr.Dataset
    decoded: xr.Dataset


def demonstrate(ds: xr.Dataset | None, out: Path, say: Callable[[str], None]) -> tuple[Report, BeforeAndAfter]:
    """Run it.

    Parameters
    ----------
    ds : xarray.Dataset, optional
        Up to four floating-point variables of it are taken, about 48 MB of each, at 1 % of their range. Made-up weather
        with bounds of every kind by default.
    out : Path
        Directory; the store is ``demo.zarr`` in it, replaced if it is there.
    say : function
        Called with each line of the story.

    Raises
    ------
    InvalidConfigError
        If there is nothing to compress in the data set.
    """
    if ds is None:
        ds, bounds = example_dataset(), example_bounds()
        say(
            f"no input given: made-up weather, {byte_text(ds.nbytes)}; bounds "
            + ", ".join(f"{n}: {b}" for n, b in bounds.items())
        )
    else:
        ds = _worth_showing(ds, say)
        bounds = {str(name): _DEFAULT_BOUND for name in ds.data_vars}
        say(f"each variable within {_DEFAULT_BOUND}, for lack of a bound of yours; choose one with 'latentzarr encode --bound'")
    out.mkdir(parents=True, exist_ok=True)
    store = out / "demo.zarr"
    written = to_zarr(ds, store, bounds, overwrite=True, recode=True)
    say(f"written to {store} in {time_text(written.seconds)}, every value compared")
    decoded = xr.open_zarr(store)
    name = next(iter(bounds))
    start = time.perf_counter()
    mean = float(decoded[name].mean().compute())
    tasks = len(decoded[name].__dask_graph__() or ())
    spent = time_text(time.perf_counter() - start)
    say(f"opened by xarray.open_zarr, mean of {name} with Dask, {tasks} tasks: {mean:.6g} in {spent}")
    report = verify(ds, store)
    say(f"compared with the original once more, in {time_text(report.seconds)}")
    return report, BeforeAndAfter(ds, decoded)


def _worth_showing(ds: xr.Dataset, say: Callable[[str], None]) -> xr.Dataset:
    """A few floating-point variables, cut along their first dimension to what takes seconds."""
    names = [
        name
        for name, variable in ds.data_vars.items()
        if variable.dtype.kind == "f" and variable.size >= 4096 and sum(n > 1 for n in variable.shape) >= 2
    ]
    if not names:
        raise InvalidConfigError("the data set has no floating-point variable with two dimensions and 4096 values or more")
    lossy = [str(name) for name in names if already_lossy(ds[name].variable)]
    if lossy:
        say(f"note: {', '.join(lossy)} was lossy before; coding it again adds a second error")
    chosen = ds[names[:_MOST_VARIABLES]]
    steps: dict[Hashable, int] = {}
    for variable in chosen.data_vars.values():
        dim = next(d for d, n in variable.sizes.items() if n > 1)
        each = variable.nbytes / variable.sizes[dim]
        steps[dim] = min(steps.get(dim, variable.sizes[dim]), max(int(_MOST_BYTES / each), 1))
    cut = {dim: n for dim, n in steps.items() if n < ds.sizes[dim]}
    taken = ", ".join(map(str, chosen.data_vars)) + "".join(
        f", the first {n} of {ds.sizes[dim]} along {dim}" for dim, n in cut.items()
    )
    result = chosen.isel({dim: slice(0, n) for dim, n in cut.items()})
    say(f"taking {taken}: {byte_text(float(np.sum([v.nbytes for v in result.data_vars.values()])))}")
    return result
