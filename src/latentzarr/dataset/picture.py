"""Which field of a variable to look at, with its coordinates: the middle of all leading dimensions, original and decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

__all__ = ["FieldPair", "choose_field"]

_LARGEST_SIDE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class FieldPair:
    """A field before and after.

    Attributes
    ----------
    original, decoded : array of shape (rows, columns)
    extent : tuple of float or None
        Coordinates of the outer edges: left, right, bottom, top; None where they are missing or unevenly spaced.
    axes : tuple of str
        Names of the horizontal and the vertical dimension.
    place : str
        Where along the other dimensions, in words.
    """

    original: npt.NDArray[Any]
    decoded: npt.NDArray[Any]
    extent: tuple[float, float, float, float] | None
    axes: tuple[str, str]
    place: str


def choose_field(original: xr.DataArray, decoded: xr.DataArray) -> FieldPair | None:
    """The middle field of a variable, at most 1024 x 1024 of it; None if it has fewer than two dimensions of size 2 or more.

    Parameters
    ----------
    original, decoded : xarray.DataArray
        Of equal shape; only the field chosen is loaded.
    """
    sized = [dim for dim, n in original.sizes.items() if n > 1]
    if len(sized) < 2 or 0 in original.shape:
        return None
    rows, columns = sized[-2:]
    at: dict[Any, Any] = {dim: n // 2 for dim, n in original.sizes.items() if dim not in (rows, columns)}
    inside = {dim: _middle(original.sizes[dim]) for dim in (rows, columns)}
    before = original.isel({**at, **inside}).transpose(rows, columns).load()
    after = decoded.isel({**at, **inside}).transpose(rows, columns).load()
    place = ", ".join(_named(original, dim, index) for dim, index in at.items() if original.sizes[dim] > 1)
    horizontal, vertical = _edges(before, columns), _edges(before, rows)
    extent = None if horizontal is None or vertical is None else (*horizontal, vertical[1], vertical[0])
    axes = (_label(before, columns), _label(before, rows))
    return FieldPair(before.values, after.values, extent, axes, place)


def _middle(size: int) -> slice:
    start = max((size - _LARGEST_SIDE) // 2, 0)
    return slice(start, min(start + _LARGEST_SIDE, size))


def _named(array: xr.DataArray, dim: Any, index: int) -> str:
    if dim not in array.coords:
        return f"{dim} {index}"
    value = array[dim].values[index]
    return (
        f"{dim} {np.datetime_as_string(value, unit='m')}"
        if value.dtype.kind == "M"
        else f"{dim} {value:g}"
        if value.dtype.kind == "f"
        else f"{dim} {value}"
    )


def _label(array: xr.DataArray, dim: Any) -> str:
    units = array[dim].attrs.get("units", "") if dim in array.coords else ""
    short = str(units).replace("degrees_north", "°N").replace("degrees_east", "°E")
    return f"{dim} [{short}]" if short else str(dim)


def _edges(array: xr.DataArray, dim: Any) -> tuple[float, float] | None:
    """Outer edges of the first and the last value along a dimension, if its coordinate is evenly spaced numbers."""
    if dim not in array.coords or array[dim].dtype.kind not in "iuf":
        return None
    values = array[dim].values.astype(float)
    steps = np.diff(values)
    if not np.isfinite(steps).all() or np.ptp(steps) > 0.05 * abs(steps.mean()) or steps.mean() == 0:
        return None
    return float(values[0] - steps.mean() / 2), float(values[-1] + steps.mean() / 2)
