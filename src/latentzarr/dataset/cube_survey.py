"""Look at the channels of a data set before it becomes a cube: dimensions, ranges, missing values."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.errors import InvalidConfigError

__all__ = [
    "Dimensions",
    "Survey",
    "channel_fields",
    "channel_shape",
    "dimensions_of",
    "fields_of",
    "runs_of_times",
    "static_masks",
    "survey",
]

_TIMES = ("time", "valid_time", "t")
_ROWS = ("lat", "latitude", "degrees_north", "degree_north", "grid_latitude", "y", "projection_y_coordinate")
_COLUMNS = ("lon", "longitude", "degrees_east", "degree_east", "grid_longitude", "x", "projection_x_coordinate")
_SAMPLED_TIMES = 32


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
    """The dimensions of a cube of some variables: the time, latitude and longitude, or the last two that are not the time.

    Raises
    ------
    InvalidConfigError
        If the variables do not lie on one grid, or there is no such time.
    """
    every = list(dict.fromkeys(str(d) for name in names for d in ds[name].dims))
    if time_dim is not None and time_dim not in every:
        raise InvalidConfigError(f"no variable of the cube has the dimension time_dim={time_dim!r}; they have {', '.join(every)}")
    dates = [d for d in every if d in ds.coords and np.issubdtype(ds[d].dtype, np.datetime64)]
    named = [d for d in every if d in _TIMES]
    time = time_dim or (dates or named or [""])[0]
    without = [name for name in names if time and time not in ds[name].dims]
    if without:
        raise InvalidConfigError(
            f"it has no dimension {time!r}, which other variables of the cube have; leave it out (it is then stored exactly) "
            "or write it to a cube of its own (group=...)",
            place=without[0],
        )
    ends = {name: _horizontal(ds, [str(d) for d in ds[name].dims if d != time]) for name in names}
    if len({frozenset(e) for e in ends.values()}) != 1 or len(ends[names[0]]) != 2:
        raise InvalidConfigError(
            f"the variables of a cube share two horizontal dimensions, latitude and longitude or the last two; here there are "
            f"{', '.join(f'{n}: {e}' for n, e in ends.items())}. Transpose them, or write a cube for each grid (group=...)"
        )
    return Dimensions(time, *ends[names[0]])


def _horizontal(ds: xr.Dataset, dims: Sequence[str]) -> tuple[str, ...]:
    """Latitude and longitude where both are told by their names or units, else the last two dimensions."""
    found = [[d for d in dims if _is_axis(ds, d, words)] for words in (_ROWS, _COLUMNS)]
    return (found[0][0], found[1][0]) if len(found[0]) == len(found[1]) == 1 else tuple(dims[-2:])


def _is_axis(ds: xr.Dataset, dim: str, words: Sequence[str]) -> bool:
    about = ds[dim].attrs if dim in ds.coords else {}
    said = {dim.lower(), str(about.get("standard_name", "")).lower(), str(about.get("units", "")).lower()}
    return not said.isdisjoint(words)


def channel_shape(variable: xr.Variable, dims: Dimensions) -> tuple[int, ...]:
    """Sizes of the dimensions that are neither time nor horizontal."""
    return tuple(n for d, n in zip(variable.dims, variable.shape, strict=True) if d not in (dims.time, dims.rows, dims.columns))


def channel_fields(
    variable: xr.Variable, dims: Dimensions, times: slice, where: tuple[slice, slice] | None = None
) -> npt.NDArray[Any]:
    """Values of some times (all there is where there is no time), shape (times, channels, rows, columns), native byte order."""
    part = variable.isel({dims.time: times}) if dims.time in variable.dims else variable
    if where is not None:
        part = part.isel({dims.rows: where[0], dims.columns: where[1]})
    rest = [d for d in part.dims if d not in (dims.time, dims.rows, dims.columns)]
    front = [dims.time] if dims.time in part.dims else []
    values = np.asarray(part.transpose(*front, *rest, dims.rows, dims.columns).values)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    rows, columns = values.shape[-2:]
    channels = math.prod(values.shape[len(front) : -2])
    count = values.shape[0] if front else 1
    return values.reshape(count, channels, rows, columns)


def fields_of(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, times: slice, where: tuple[slice, slice] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """`channel_fields` of several variables; what Dask has to compute for them is computed together, once."""
    part = xr.Dataset({name: ds.variables[name] for name in names})
    if dims.time:
        part = part.isel({dims.time: times})
    if where is not None:
        part = part.isel({dims.rows: where[0], dims.columns: where[1]})
    lazy = [name for name in names if part.variables[name].chunks is not None]
    if lazy:
        part = part.assign(part[lazy].compute())
    every = slice(None)
    return {name: channel_fields(part.variables[name], dims, every) for name in names}


def survey(ds: xr.Dataset, names: Sequence[str], dims: Dimensions, times: int, block: int, whole: Collection[str]) -> Survey:
    """Look at all channels.

    Parameters
    ----------
    ds : xarray.Dataset
    names : sequence of str
    dims : Dimensions
    times : int
    block : int
        Times looked at together.
    whole : collection of str
        Variables of which every value is looked at, since a bound rests on it; of all others a few times are enough.
    """
    stats = {name: _Stats() for name in names}
    for at in (slice(t, min(t + block, times)) for t in range(0, times, block)):
        needed = [name for name in names if name in whole]
        if needed:
            for name, values in fields_of(ds, needed, dims, at).items():
                stats[name].look(values)
    for t in np.unique(np.linspace(0, times - 1, min(times, _SAMPLED_TIMES)).astype(int)).tolist():
        needed = [name for name in names if name not in whole]
        if needed:
            for name, values in fields_of(ds, needed, dims, slice(t, t + 1)).items():
                stats[name].look(values)
    found = [stats[name].result() for name in names]
    return Survey(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


class _Stats:
    """Minimum, maximum, sum and count of the finite values of each channel; where values are always, ever missing."""

    def __init__(self) -> None:
        self._low: Any = None

    def look(self, values: npt.NDArray[Any]) -> None:
        """Look at some times, one field after the other, since they may be many."""
        if self._low is None:
            channels = values.shape[1]
            self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
            self._sum, self._count = np.zeros(channels), np.zeros(channels)
            self._always, self._ever = np.ones(values.shape[1:], bool), np.zeros(values.shape[1:], bool)
        for t, c in np.ndindex(*values.shape[:2]):
            x = values[t, c]
            missing = np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
            self._always[c] &= missing
            self._ever[c] |= missing
            known = x[np.isfinite(x)]
            if known.size:
                self._low[c], self._high[c] = min(self._low[c], float(known.min())), max(self._high[c], float(known.max()))
                with np.errstate(over="ignore", invalid="ignore"):
                    self._sum[c] += known.sum(dtype=np.float64)
                self._count[c] += known.size

    def result(self) -> tuple[npt.NDArray[Any], ...]:
        """Low, high and mean by channel; 1 where a value is missing at all times, if none is missing only at some."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._sum / self._count
        same = (self._always == self._ever).all((-1, -2), keepdims=True)
        return self._low, self._high, mean, (self._always & same).astype(np.uint8)


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
