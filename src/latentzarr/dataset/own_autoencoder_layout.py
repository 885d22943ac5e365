"""From a data set to items and channels: which dimensions lead, which make channels, and blocks of fields one after another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.dataset.own_autoencoder_table import CodedVariable, plain
from latentzarr.dataset.tasks import cf_encoding
from latentzarr.errors import InvalidConfigError, UnsupportedDtypeError, VariableNotFoundError
from latentzarr.metrics import infill

__all__ = ["Layout", "Place", "fields_of", "filled", "layout_of"]

Place = tuple[int | slice, ...]
"""A batch of items: a number for each leading dimension but the last, and a slice of that."""
_KEPT_ENCODING = ("coordinates", "grid_mapping")


@dataclass(frozen=True, slots=True)
class Layout:
    """How variables lie in fields.

    Attributes
    ----------
    leading : tuple of str
    field : (str, str)
    sizes : dict of str to int
    variables : tuple of CodedVariable
    """

    leading: tuple[str, ...]
    field: tuple[str, str]
    sizes: dict[str, int]
    variables: tuple[CodedVariable, ...]

    @property
    def channels(self) -> int:
        """Of a field."""
        return sum(v.channels for v in self.variables)

    def batches(self, size: int) -> Iterator[Place]:
        """Places of ``size`` items or fewer, in the order of the store."""
        if not self.leading:
            yield ()
            return
        last = self.sizes[self.leading[-1]]
        for outer in itertools.product(*(range(self.sizes[d]) for d in self.leading[:-1])):
            for first in range(0, last, size):
                yield (*outer, slice(first, min(first + size, last)))


def layout_of(ds: xr.Dataset, variables: Sequence[str] | None, time_dim: str | Sequence[str] | None) -> Layout:
    """Decide what leads and what makes channels; parameters and errors as `latentzarr.encode_latents`."""
    names = [str(n) for n in ds.data_vars] if variables is None else [str(n) for n in variables]
    unknown = [n for n in names if n not in ds.data_vars]
    if unknown:
        raise VariableNotFoundError(f"no data variables {unknown}; there are {[str(n) for n in ds.data_vars]}")
    if len(set(names)) != len(names):
        raise InvalidConfigError(f"variables are named twice: {names}")
    leading = _leading(ds, names, time_dim)
    fit = [n for n in names if ds[n].dtype.kind == "f" and set(leading) <= set(ds[n].dims) and ds[n].ndim >= len(leading) + 2]
    if variables is None:
        names = fit
    elif fit != names:
        odd = next(n for n in names if n not in fit)
        if ds[odd].dtype.kind != "f":
            raise UnsupportedDtypeError(f"autoencoders take floats, this is {ds[odd].dtype}", place=odd)
        raise InvalidConfigError(f"needs the dimensions {leading}, rows and columns, has {ds[odd].dims}", place=odd)
    if not names:
        raise InvalidConfigError("no floating-point variable with rows and columns to encode")
    rest = [str(d) for d in ds[names[0]].dims if d not in leading]
    field = (rest[-2], rest[-1])
    coded: list[CodedVariable] = []
    for name in names:
        if not set(field) <= set(ds[name].dims):
            raise InvalidConfigError(f"rows and columns are {field} in {names[0]!r}, this has {ds[name].dims}", place=name)
        first = coded[-1].first + coded[-1].channels if coded else 0
        coded.append(_coded(ds[name], leading, field, first))
    sizes = {d: int(ds.sizes[d]) for d in (*leading, *field)}
    if 0 in sizes.values() or any(0 in v.shape for v in coded):
        raise InvalidConfigError(f"there is nothing to encode in variables of sizes {sizes}")
    return Layout(leading, field, sizes, tuple(coded))


def _leading(ds: xr.Dataset, names: list[str], time_dim: str | Sequence[str] | None) -> tuple[str, ...]:
    if time_dim is not None:
        leading = (time_dim,) if isinstance(time_dim, str) else tuple(map(str, time_dim))
        if not set(leading) <= set(map(str, ds.dims)) or len(set(leading)) != len(leading):
            raise InvalidConfigError(f"time_dim {time_dim!r} is not among the dimensions {tuple(ds.dims)}")
        return leading
    dims = list(dict.fromkeys(str(d) for n in names for d in ds[n].dims))
    found = tuple(d for d in dims if d == "time" or (d in ds.coords and _is_time(ds[d])))
    if len(found) > 1 or (not found and any(ds[n].ndim != 2 for n in names if ds[n].dtype.kind == "f")):
        raise InvalidConfigError(
            f"cannot tell along which of the dimensions {dims} items lie; name it or them: time_dim='...', time_dim=[] for none"
        )
    return found


def _is_time(coordinate: xr.DataArray) -> bool:
    return coordinate.dtype.kind == "M" or coordinate.attrs.get("standard_name") == "time" or coordinate.attrs.get("axis") == "T"


def _coded(array: xr.DataArray, leading: tuple[str, ...], field: tuple[str, str], first: int) -> CodedVariable:
    levels = tuple(str(d) for d in array.dims if d not in leading and d not in field)
    labels = []
    for index in itertools.product(*(range(array.sizes[d]) for d in levels)):
        parts = [f"{d}={array[d].values[i]}" if d in array.coords else f"{d}={i}" for d, i in zip(levels, index, strict=True)]
        labels.append(" ".join([str(array.name), *parts]))
    kept = {k: array.encoding[k] for k in _KEPT_ENCODING if k in array.encoding}
    return CodedVariable(
        str(array.name),
        array.dtype.str,
        tuple(map(str, array.dims)),
        levels,
        array.shape,
        first,
        len(labels),
        tuple(labels),
        plain(array.attrs),
        plain({**cf_encoding(array.variable), **kept}),
    )


def fields_of(ds: xr.Dataset, layout: Layout, place: Place) -> tuple[npt.NDArray[Any], ...]:
    """The values of a batch, for each variable an array of shape (batch, channels, rows, columns) in its own dtype."""
    index = dict(zip(layout.leading, place, strict=True))
    bare = xr.Dataset({v.name: ds.variables[v.name] for v in layout.variables})
    part = bare.isel(index).compute()
    fields = []
    for v in layout.variables:
        order = [*(d for d in layout.leading if isinstance(index[d], slice)), *v.levels, *layout.field]
        values = part[v.name].transpose(*order).values
        size = math.prod(values.shape[: len(order) - 2 - len(v.levels)])
        fields.append(values.reshape(size, v.channels, *values.shape[-2:]))
    return tuple(fields)


def filled(
    fields: Sequence[npt.NDArray[Any]], layout: Layout, scaling: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
    """What the encoder is given, and where values are missing.

    Parameters
    ----------
    fields : sequence of arrays
        From `fields_of`.
    layout : Layout
    scaling : (mean, std) or None
        float64, (channels,).

    Returns
    -------
    scaled : float32, (batch, channels, rows, columns)
        NaN replaced along rows by linear interpolation.
    missing : bool, same shape, or None
        None where no value is NaN.

    Raises
    ------
    InvalidConfigError
        If a value is infinite, or too large for float32 once scaled.
    """
    scaled = np.empty((len(fields[0]), layout.channels, *fields[0].shape[-2:]), np.float32)
    missing: npt.NDArray[np.bool_] | None = None
    for v, values in zip(layout.variables, fields, strict=True):
        here = slice(v.first, v.first + v.channels)
        if np.isinf(values).any():
            raise InvalidConfigError("values are infinite; make them NaN or finite first", place=v.name)
        with np.errstate(over="ignore"):
            if scaling is None:
                scaled[:, here] = values
            else:
                mean, std = (s[here, None, None] for s in scaling)
                scaled[:, here] = (values - mean) / std
        holes = np.isnan(values)
        if holes.any():
            missing = np.zeros(scaled.shape, np.bool_) if missing is None else missing
            missing[:, here] = holes
            for i, c in np.argwhere(holes.any(axis=(2, 3))):
                scaled[i, v.first + c] = infill(scaled[i, v.first + c])
        if not np.isfinite(scaled[:, here]).all():
            raise InvalidConfigError("scaled values do not fit float32; give a scaling", place=v.name)
    return scaled, missing
