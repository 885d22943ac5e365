"""Look at a data set before it becomes a cube: which variables belong to it, their channels, bounds, statistics and samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.bitstream.frame import dtype_code
from latentzarr.bounds import BoundKind, ErrorBound, parse_bound
from latentzarr.dataset.cube_header import CubeVariable
from latentzarr.errors import InvalidBoundError, InvalidConfigError, VariableNotFoundError

__all__ = ["CubeBounds", "Dimensions", "Survey", "channel_fields", "cube_variables", "dimensions_of", "survey"]

CubeBounds = Mapping[str, Any]
"""By variable: a bound as `latentzarr.parse_bound` reads it, ``"2 % of level range"``, or one number for each level."""

_LEVEL_WORDS = "of level range"
_TIMES = ("time", "valid_time", "t")
_LARGEST_TILE = 2**18


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Names of the dimensions that all variables of a cube share; ``time`` is empty where there is none."""

    time: str
    rows: str
    columns: str


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What was seen of the channels.

    Attributes
    ----------
    low, high, mean : float64 arrays, shape (channels,)
        Over the finite values seen; nan where there are none.
    missing : uint8 array, shape (channels, rows, columns)
        1 where a value was missing at all times seen, if it was missing nowhere else; else all 0.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    missing: npt.NDArray[np.uint8]


def dimensions_of(ds: xr.Dataset, names: Sequence[str], time_dim: str | None = None) -> Dimensions:
    """The dimensions of a cube of some variables: the last two they all end with, and the time.

    Raises
    ------
    InvalidConfigError
        If the variables do not lie on one grid, or there is no such time.
    """
    ends = {tuple(str(d) for d in ds[name].dims[-2:]) for name in names}
    if len(ends) != 1 or len(next(iter(ends))) != 2:
        raise InvalidConfigError(
            f"the variables of a cube end with the same two dimensions (rows, columns); these end with {sorted(map(str, ends))}. "
            "Transpose them, or write a cube for each grid (group=...)"
        )
    rows, columns = next(iter(ends))
    leading = [str(d) for name in names for d in ds[name].dims[:-2]]
    dates = [d for d in leading if d in ds.coords and np.issubdtype(ds[d].dtype, np.datetime64)]
    named = [d for d in leading if d in _TIMES]
    time = time_dim or (dates or named or [""])[0]
    without = [name for name in names if time and time not in ds[name].dims]
    if without:
        raise InvalidConfigError(
            f"it has no dimension {time!r}, which other variables of the cube have; leave it out (it is then stored exactly) "
            "or write it to a cube of its own (group=...)",
            place=without[0],
        )
    return Dimensions(time, rows, columns)


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


def channel_shape(variable: xr.Variable, dims: Dimensions) -> tuple[int, ...]:
    """Sizes of the dimensions that are neither time nor horizontal."""
    return tuple(n for d, n in zip(variable.dims, variable.shape, strict=True) if d not in (dims.time, dims.rows, dims.columns))


def channel_fields(variable: xr.Variable, dims: Dimensions, times: slice) -> npt.NDArray[Any]:
    """Values of some times (all there is where there is no time), shape (times, channels, rows, columns), native byte order."""
    part = variable.isel({dims.time: times}) if dims.time in variable.dims else variable
    rest = [d for d in part.dims if d not in (dims.time, dims.rows, dims.columns)]
    front = [dims.time] if dims.time in part.dims else []
    values = np.asarray(part.transpose(*front, *rest, dims.rows, dims.columns).values)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    rows, columns = values.shape[-2:]
    channels = math.prod(values.shape[len(front) : -2])
    count = values.shape[0] if front else 1
    return values.reshape(count, channels, rows, columns)


def survey(ds: xr.Dataset, names: Sequence[str], dims: Dimensions, times: Sequence[slice]) -> Survey:
    """Look at all channels at some times."""
    low: list[npt.NDArray[np.float64]] = []
    high, mean, missing = list(low), list(low), []
    for name in names:
        found = [_stats(channel_fields(ds.variables[name], dims, t)) for t in times]
        count = sum(f[3] for f in found)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean.append(sum(f[2] for f in found) / count)
        low.append(np.min([f[0] for f in found], 0))
        high.append(np.max([f[1] for f in found], 0))
        always = np.logical_and.reduce([f[4] for f in found])
        ever = np.logical_or.reduce([f[5] for f in found])
        same = (always == ever).all((-1, -2), keepdims=True)
        missing.append((always & same).astype(np.uint8))
    return Survey(*(np.concatenate(parts) for parts in (low, high, mean, missing)))


def _stats(values: npt.NDArray[Any]) -> tuple[Any, ...]:
    """Minimum, maximum, sum and count of the finite values of each channel; where values are always, ever missing."""
    finite = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    x = values.astype(np.float64)
    axes = (0, 2, 3)
    low = np.where(finite, x, np.inf).min(axes)
    high = np.where(finite, x, -np.inf).max(axes)
    nan = np.isnan(x)
    return low, high, np.where(finite, x, 0.0).sum(axes), finite.sum(axes), nan.all(0), nan.any(0)


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
    refinement = "" if all(b.kind is BoundKind.NONE for b in bounds) else name
    return CubeVariable(
        name,
        tuple(str(d) for d in variable.dims),
        channel_shape(variable, dims),
        variable.dtype.newbyteorder("=").name,
        {str(k): _plain(v) for k, v in variable.attrs.items()},
        {k: _plain(v) for k, v in encoding.items()},
        words,
        bounds,
        refinement,
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


def runs_of_times(times: int, length: int, most: int) -> Iterator[slice]:
    """Up to ``most`` runs of consecutive times, spread over all."""
    length = min(length, times)
    places = max(1, min(most, times // length))
    for i in range(places):
        first = (times - length) * i // max(1, places - 1) if places > 1 else 0
        yield slice(first, first + length)
