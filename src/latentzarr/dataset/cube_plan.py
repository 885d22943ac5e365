"""Plan a cube: which variables of a data set belong to it, their channels and bounds, its blocks and tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from latentzarr.bitstream.frame import dtype_code
from latentzarr.bounds import BoundKind, ErrorBound, parse_bound
from latentzarr.cube.times import LONGEST_BLOCK
from latentzarr.dataset.cube_header import CubeHeader, CubeVariable
from latentzarr.dataset.cube_survey import Dimensions, Survey, channel_shape, static_masks, survey
from latentzarr.dataset.tasks import cf_encoding
from latentzarr.errors import InvalidBoundError, InvalidConfigError, VariableNotFoundError
from latentzarr.models.weights import Model

__all__ = ["CubeBounds", "cube_variables", "planned_header", "resolved_bounds"]

CubeBounds = Mapping[str, Any]
"""By variable: a bound as `latentzarr.parse_bound` reads it, ``"2 % of level range"``, or one number for each level."""

_LEVEL_WORDS = "of level range"
_LARGEST_TILE = 2**18


def cube_variables(ds: xr.Dataset, bounds: CubeBounds) -> list[str]:
    """The variables that become part of the cube: those with a bound, in the order of the data set.

    Raises
    ------
    VariableNotFoundError, InvalidConfigError
    """
    unknown = [name for name in bounds if name not in ds.data_vars]
    if unknown:
        raise VariableNotFoundError(f"no data variable {unknown[0]!r}; there are {', '.join(map(str, ds.data_vars))}")
    chosen = [str(name) for name in ds.data_vars if name in bounds]
    if not chosen:
        raise InvalidConfigError("a cube needs at least one variable with a bound")
    for name in chosen:
        dtype_code(ds[name].dtype)
    return chosen


def resolved_bounds(name: str, asked: Any, variable: xr.Variable, low: Any, high: Any) -> tuple[tuple[ErrorBound, ...], str]:
    """One bound for each channel, and the words.

    Parameters
    ----------
    asked : str, float, ErrorBound, or numbers by channel
    low, high : float64 arrays, shape (channels,)

    Raises
    ------
    InvalidBoundError
    """
    channels = len(low)
    if isinstance(asked, (list, tuple, np.ndarray, xr.DataArray)):
        numbers = np.asarray(asked, np.float64).ravel()
        if len(numbers) != channels:
            raise InvalidBoundError(f"{len(numbers)} bounds for {channels} levels; give one for each", place=name)
        return tuple(ErrorBound.absolute(float(b)) for b in numbers), f"by level, {numbers.min():g} to {numbers.max():g}"
    words = str(asked)
    with np.errstate(invalid="ignore"):
        try:
            if isinstance(asked, str) and _LEVEL_WORDS in asked.lower():
                shared = parse_bound(asked.lower().replace(_LEVEL_WORDS, "of range"))
                return tuple(shared.resolve(a, b) for a, b in zip(low, high, strict=True)), words
            bound = parse_bound(asked, variable.attrs.get("units"))
            if bound.kind is BoundKind.RANGE_RELATIVE:
                bound = bound.resolve(float(np.min(low)), float(np.max(high)))
        except InvalidBoundError as error:
            raise error.at(name) from error
    return (bound,), words


def planned_variable(
    name: str, variable: xr.Variable, dims: Dimensions, asked: Any, low: Any, high: Any, encoding: dict[str, Any]
) -> CubeVariable:
    """A variable of the header, its attributes as JSON can hold them."""
    bounds, words = resolved_bounds(name, asked, variable, low, high)
    return CubeVariable(
        name,
        tuple(str(d) for d in variable.dims),
        channel_shape(variable, dims),
        variable.dtype.newbyteorder("=").name,
        {str(k): _plain(v) for k, v in variable.attrs.items()},
        {k: _plain(v) for k, v in encoding.items()},
        words,
        bounds,
        name,
    )


def _plain(value: Any) -> Any:
    """An attribute as JSON has it, as xarray's zarr backend does."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else str(value) if isinstance(value, np.dtype) else value


def default_tile(rows: int, columns: int) -> tuple[int, int]:
    """The whole grid, or equal parts of at most 2**18 values."""
    down = across = 1
    while -(-rows // down) * -(-columns // across) > _LARGEST_TILE:
        if rows / down >= columns / across:
            down += 1
        else:
            across += 1
    return -(-rows // down), -(-columns // across)


def planned_header(
    ds: xr.Dataset,
    names: Sequence[str],
    dims: Dimensions,
    bounds: CubeBounds,
    model: Model,
    block: int,
    tile: tuple[int, int] | None,
    *,
    latents_alone: bool = False,
) -> tuple[CubeHeader, Survey]:
    """The header of a cube to be written, and what was seen of its channels (static masks in the place of missing values).

    Raises
    ------
    InvalidConfigError, InvalidBoundError
    """
    times = ds.sizes[dims.time] if dims.time else 1
    if not 1 <= block <= LONGEST_BLOCK:
        raise InvalidConfigError(f"a block has 1 to {LONGEST_BLOCK} times, not {block}")
    if not times:
        raise InvalidConfigError(f"the dimension {dims.time!r} is empty")
    shape = ds.sizes[dims.rows], ds.sizes[dims.columns]
    if min(shape) < 1:
        raise InvalidConfigError(f"the grid {shape} is empty")
    parts = [slice(t, min(t + block, times)) for t in range(0, times, block)]
    seen = survey(ds, names, dims, parts)
    variables, at = [], 0
    for name in names:
        variable = ds.variables[name]
        count = math.prod(channel_shape(variable, dims))
        part = slice(at, at + count)
        planned = planned_variable(name, variable, dims, bounds[name], seen.low[part], seen.high[part], _kept_encoding(variable))
        if any(b.kind is BoundKind.NONE for b in planned.bounds) and not latents_alone:
            raise InvalidConfigError(
                "no bound means latents alone, for the whole cube: give no bounds at all, and a model from fit_cube", place=name
            )
        variables.append(planned)
        at += count
    full, rest = divmod(times, block)
    runs = tuple((n, c) for n, c in ((block, full), (rest, 1)) if n and c)
    sizes = tile or default_tile(*shape)
    if min(sizes) < 1:
        raise InvalidConfigError(f"tiles of {sizes} cannot be")
    cut = min(sizes[0], shape[0]), min(sizes[1], shape[1])
    masks, index = static_masks(seen.missing)
    at = 0
    for i, v in enumerate(variables):
        of = tuple(index[at : at + v.channels])
        variables[i] = replace(v, masks=of if len(set(of)) > 1 else of[:1])
        at += v.channels
    header = CubeHeader(dims.time, dims.rows, dims.columns, shape, cut, runs, 0, model.digest, "", tuple(variables))
    return header, replace(seen, missing=masks)


def _kept_encoding(variable: xr.Variable) -> dict[str, Any]:
    """Encoding that says what values mean; numbers are stored as decoded, so what packs them is dropped."""
    found = cf_encoding(variable)
    return {k: v for k, v in found.items() if k in ("_FillValue", "missing_value", "units", "calendar", "dtype")}
