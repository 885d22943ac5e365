"""Look at the channels of a data set before it becomes a cube: dimensions, ranges, missing values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.errors import InvalidConfigError

__all__ = ["Dimensions", "Survey", "channel_fields", "channel_shape", "dimensions_of", "runs_of_times", "static_masks", "survey"]

_TIMES = ("time", "valid_time", "t")


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


def static_masks(missing: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Different static masks, and which each channel has (-1: none)."""
    known: dict[bytes, int] = {}
    index: list[int] = []
    kept: list[npt.NDArray[np.uint8]] = []
    for plane in missing:
        if not plane.any():
            index.append(-1)
            continue
        key = np.packbits(plane).tobytes()
        if key not in known:
            known[key] = len(kept)
            kept.append(plane)
        index.append(known[key])
    return (np.stack(kept) if kept else np.zeros((0, *missing.shape[1:]), np.uint8)), index


def runs_of_times(times: int, length: int, most: int) -> Iterator[slice]:
    """Up to ``most`` runs of consecutive times, spread over all."""
    length = min(length, times)
    places = max(1, min(most, times // length))
    for i in range(places):
        first = (times - length) * i // max(1, places - 1) if places > 1 else 0
        yield slice(first, first + length)
