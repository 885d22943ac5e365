"""`latentzarr.fit_cube`: a model for a data set's own variables and levels: closed forms first, networks with time and torch."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.bounds import ErrorBound
from latentzarr.budget import seconds_of
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.blend import adapted
from latentzarr.cube.channels import ChannelTable, VariableDescription
from latentzarr.cube.fit import fit_basis
from latentzarr.cube.model import CubeModel
from latentzarr.dataset.cube_header import CubeHeader
from latentzarr.dataset.cube_latents import matched_channels
from latentzarr.dataset.cube_plan import planned_header
from latentzarr.dataset.cube_skeleton import Sampled, is_periodic, sample
from latentzarr.dataset.cube_survey import Dimensions, Survey, channel_fields, channel_shape, dimensions_of
from latentzarr.errors import InvalidConfigError
from latentzarr.metrics import infill
from latentzarr.models.store import shipped_model
from latentzarr.models.weights import Model

__all__ = ["base_for", "fit_cube"]

_SAMPLE_BYTES = 2**28
_SHARE_OF_CLOSED_FORM = 0.3
_BOUNDS = (3e-3, 2e-2)  # of a channel's range, around which the refinement learns
_LEAST_SECONDS = 20.0


def fit_cube(
    ds: xr.Dataset,
    budget: str | float = "5 min",
    *,
    variables: Sequence[str] | None = None,
    quality: float = 0.1,
    block: int = 8,
    groups: Sequence[Sequence[str]] | None = None,
    time_dim: str | None = None,
    refine: bool = True,
    name: str = "cube",
    seed: int = 0,
    report: Callable[[Any], None] | None = None,
) -> CubeModel:
    """Fit a cube's model to data: the joint base that makes latents, and the networks of the refinement.

    The base is found in closed form (a Karhunen-Loeve transform over channels, patches and time); what is left of the budget
    goes into the networks, if torch is there.

    Parameters
    ----------
    ds : xarray.Dataset
        Read as far as `_SAMPLE_BYTES` go, evenly over its times.
    budget : str or float
        Wall-clock time, ``"20min"`` or seconds. The closed form takes what it needs.
    variables : sequence of str, optional
        By default all floats with the horizontal dimensions most of them have (and the time, if there is one).
    quality : float
        Mean square error of the latents alone that is aimed at, in units of each channel's variance. With bounds the latents are
        for learning from, and a coarse 0.1 costs little; without, 0.01 is a good start.
    block : int
        Times coded together.
    groups : sequence of sequences of str, optional
        Variables that share specific latents; all in one group by default.
    time_dim : str, optional
    refine : bool
        Fine-tune the networks of the refinement.
    name : str
        For the model card.
    seed : int
    report : callable, optional
        Told of progress.

    Returns
    -------
    CubeModel

    Raises
    ------
    InvalidConfigError
        If there is nothing to fit to.
    """
    started, seconds = clock.monotonic(), seconds_of(budget)
    names = list(variables) if variables is not None else _fitting(ds)
    dims = dimensions_of(ds, names, time_dim)
    times = ds.sizes[dims.time] if dims.time else 1
    fields = _sampled_fields(ds, names, dims, times, block)
    table = _channels(ds, names, dims, fields)
    basis = _base(ds, names, dims, fields, table, min(block, len(fields)), quality, groups)
    left = seconds - (clock.monotonic() - started)
    refinement = None
    if refine and left > _LEAST_SECONDS:
        refinement = _refined(ds, names, dims, block, left, name, seed, report)
    return CubeModel(basis, refinement)


def base_for(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, header: CubeHeader, basis: JointBasis
) -> tuple[JointBasis, tuple[int, ...]]:
    """A base that has all channels of a cube, and which of its channels each of them is.

    Channels that the base was not fitted to (other levels, other variables) get rows made from their metadata.
    """
    levels = {
        v.name: [float(x) for x in ds[rest[0]].values]
        for v in header.variables
        if len(rest := [d for d in v.dims if d not in (header.time, header.rows, header.columns)]) == 1
        and rest[0] in ds.coords
        and ds[rest[0]].dtype.kind in "fiu"
    }
    table = _channels(ds, names, dims, _sampled_fields(ds, names, dims, header.times, header.blocks[0][0]))
    units = {c.variable: c.level / levels[c.variable][0] for c in reversed(table.channels) if levels.get(c.variable, [0.0])[0]}
    scaled = {n: [x * units.get(n, 1.0) for x in found] for n, found in levels.items()}
    matched = matched_channels(header, basis, scaled)
    if matched is not None:
        return basis, matched
    return adapted(basis, table), tuple(range(len(table)))


def _fitting(ds: xr.Dataset) -> list[str]:
    """Floats of the most common horizontal grid; with a time dimension if most have one."""
    floats = [str(n) for n in ds.data_vars if ds[n].dtype.kind == "f" and ds[n].ndim >= 2]
    if not floats:
        raise InvalidConfigError("there is no variable of floats with rows and columns to fit to")
    grids: dict[tuple[Any, ...], int] = {}
    for n in floats:
        grids[ds[n].dims[-2:]] = grids.get(ds[n].dims[-2:], 0) + ds[n].size
    grid = max(grids, key=lambda g: grids[g])
    chosen = [n for n in floats if ds[n].dims[-2:] == grid]
    longest = max(ds[n].ndim for n in chosen)
    leading = next(ds[n].dims[0] for n in chosen if ds[n].ndim == longest) if longest > 2 else None
    with_it = [n for n in chosen if leading in ds[n].dims]
    return with_it if leading is not None and with_it else chosen


def _sampled_fields(ds: xr.Dataset, names: Sequence[str], dims: Dimensions, times: int, block: int) -> npt.NDArray[np.float32]:
    """Runs of ``block`` times, evenly spread, shape (times, channels, rows, columns), without gaps."""
    channels = sum(math.prod(channel_shape(ds.variables[n], dims)) for n in names)
    size = 4 * channels * ds.sizes[dims.rows] * ds.sizes[dims.columns]
    length = min(block, times)
    most = max(1, int(_SAMPLE_BYTES / size / length))
    places = np.unique(np.linspace(0, times - length, max(1, min(most, times // length))).astype(int))
    parts = []
    for first in places:
        part = slice(int(first), int(first) + length)
        found = np.concatenate([channel_fields(ds.variables[n], dims, part).astype(np.float32) for n in names], axis=1)
        if not np.isfinite(found).all():
            for t, c in np.argwhere(~np.isfinite(found).all((2, 3))):
                found[t, c] = infill(found[t, c])
        parts.append(found)
    return np.concatenate(parts)


def _channels(ds: xr.Dataset, names: Sequence[str], dims: Dimensions, fields: npt.NDArray[np.float32]) -> ChannelTable:
    """The channels with their statistics, from the metadata of the data set."""
    means, deviations = fields.mean((0, 2, 3), dtype=np.float64), fields.std((0, 2, 3), dtype=np.float64)
    described, at = [], 0
    for name in names:
        variable = ds[name]
        rest = [d for d in variable.dims if d not in (dims.time, dims.rows, dims.columns)]
        count = math.prod(channel_shape(variable.variable, dims))
        part = slice(at, at + count)
        at += count
        levels: list[float] = []
        attributes: dict[str, Any] = {}
        if rest:
            known = len(rest) == 1 and rest[0] in ds.coords and ds[rest[0]].dtype.kind in "fiu"
            levels = [float(x) for x in ds[rest[0]].values] if known else [float(i) for i in range(count)]
            attributes = dict(ds[rest[0]].attrs) if known else {}
        plain = {str(k): v for k, v in variable.attrs.items()}
        described.append(
            VariableDescription(
                name, plain, means[part].tolist(), np.maximum(deviations[part], 1e-30).tolist(), levels, attributes,
                str(rest[0]) if rest else "",
            )
        )  # fmt: skip
    return ChannelTable.of(described)


def _base(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, fields: npt.NDArray[np.float32], table: ChannelTable, block: int,
    quality: float, groups: Sequence[Sequence[str]] | None,
) -> JointBasis:  # fmt: skip
    weights = None
    if dims.rows in ds.coords and ("lat" in dims.rows.lower() or "degree" in str(ds[dims.rows].attrs.get("units", ""))):
        weights = np.maximum(np.cos(np.deg2rad(ds[dims.rows].values.astype(np.float64))), 1e-3)
    indices = None
    if groups is not None:
        missing = set(names) - {v for group in groups for v in group}
        if missing:
            raise InvalidConfigError(f"the variables {sorted(missing)} are in no group")
        indices = [[i for v in group for i in table.of_variable(v)] for group in groups]
    return fit_basis(fields, table, block, quality, weights, groups=indices, periodic=is_periodic(ds, dims))


def _refined(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, block: int, seconds: float, name: str, seed: int,
    report: Callable[[Any], None] | None,
) -> Model | None:  # fmt: skip
    """Networks fine-tuned to this cube; None without torch."""
    try:
        from latentzarr.training.cube_refine import fit_refinement
    except ImportError:
        return None
    parent = shipped_model("normal")
    choices, samples = [], None
    for relative in _BOUNDS:
        header, seen = _planned(ds, names, dims, relative, parent, block)
        found: Sampled = sample(ds, names, dims, header, seen, block)
        choices.append(found.choose(min(block, header.times), header.times, 0.3))
        samples = samples or found.samples
    assert samples is not None
    return fit_refinement(samples, choices, seconds, parent, name, seed, report)


def _planned(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, relative: float, model: Model, block: int
) -> tuple[CubeHeader, Survey]:
    bounds = dict.fromkeys(names, f"{100 * relative} % of level range")
    header, seen = planned_header(ds, names, dims, bounds, model, block, None)
    lossless = [v for v in header.variables if any(b == ErrorBound.lossless() for b in v.bounds)]
    if len(lossless) == len(header.variables):
        raise InvalidConfigError("all variables are constant; there is nothing to learn")
    return replace(header, time_stride=0), seen
