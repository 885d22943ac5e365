"""Latents that somebody made (a forecast, a translation) as the physical fields they stand for, by the base of a cube."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.cube.basis_file import read_basis
from latentzarr.dataset.cube_append import opened_cube
from latentzarr.dataset.cube_header import LATENTS
from latentzarr.dataset.cube_latents import as_dtype
from latentzarr.dataset.cube_layout import read_blob
from latentzarr.dataset.storage import location_of, place_of, quiet
from latentzarr.errors import InvalidConfigError, StoreError, VariableNotFoundError

__all__ = ["decode"]

_COMMON, _SPECIFIC = LATENTS
_TOP = 2**15 - 1


def decode(lat: xr.Dataset, like: Any, *, variables: Sequence[str] | None = None, group: str = "") -> xr.Dataset:
    """Decode latents with the base of a cube. Nothing is guaranteed of the result: the latents say what they say.

    Parameters
    ----------
    lat : xarray.Dataset
        ``latent_specific`` (time, latent_channel, latent_y, latent_x) and ``latent_common`` (latent_block, ..), as
        ``xr.open_dataset(like, engine="latentzarr", decode=False)`` has them, for any number of whole blocks; the last may be
        shorter. Floats are rounded to the nearest latent. Either may be left out if the cube has none of it.
    like : path, URL or zarr store
        The cube.
    variables : sequence of str, optional
        By default all of the cube's.
    group : str

    Returns
    -------
    xarray.Dataset
        In memory, with the cube's names, dimensions, attributes and dtypes, and the times of ``lat``.

    Raises
    ------
    StoreError
        If ``like`` has no latents.
    InvalidConfigError
        If the latents are not of that cube's shape, or not finite.
    VariableNotFoundError
    """
    location = location_of(like)
    root, header = opened_cube(location, group, mode="r")
    if not header.basis:
        raise StoreError("this cube has no latents, and so no base to decode others with", place=place_of(location))
    basis = read_basis(read_blob(root, "basis"), header.basis)
    names = list(variables) if variables is not None else [v.name for v in header.variables]
    unknown = set(names) - {v.name for v in header.variables}
    if unknown:
        raise VariableNotFoundError(f"the cube has no variable {min(unknown)!r}")
    grid = basis.latent_grid(*header.shape)
    common = _integers(lat, _COMMON, basis.common_count, grid)
    specific = _integers(lat, _SPECIFIC, basis.specific_count, grid)
    length = header.blocks[0][0]
    times = len(specific) if basis.specific_count else len(common) * length
    if basis.common_count and len(common) != -(-times // length):
        raise InvalidConfigError(
            f"{times} times are {-(-times // length)} blocks of {length}; there are {len(common)} common latents"
        )
    with quiet():
        shown = xr.open_zarr(location, group=group or None, consolidated=False, chunks=None)
    found = {}
    for name in names:
        v = header.variable(name)
        channels = [header.latent_channels[header.first_channel[name] + c] for c in range(v.channels)]
        out = np.empty((times, v.channels, *header.shape), np.dtype(v.dtype))
        for t in range(times):
            decoded = basis.decode(common[t // length], specific[t], channels, *header.shape, time=t % length)
            out[t] = as_dtype(basis.values(decoded, channels), np.dtype(v.dtype))
        rest = [d for d in v.dims if d not in (header.time, header.rows, header.columns)]
        front = [header.time] if header.time else []
        shape = ([times] if header.time else []) + [*v.channel_shape, *header.shape]
        variable = xr.Variable([*front, *rest, header.rows, header.columns], out.reshape(shape), dict(v.attributes))
        found[name] = variable.transpose(*v.dims)
    kept = {n: c for n, c in shown.coords.items() if header.time not in c.dims and not str(n).startswith("latent_")}
    if header.time and header.time in lat.coords:
        kept[header.time] = lat.coords[header.time]
    return xr.Dataset(found, kept)


def _integers(lat: xr.Dataset, name: str, count: int, grid: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Latents as whole numbers, shape (.., count, y, x)."""
    if not count:
        times = lat.sizes.get(lat[_SPECIFIC if name == _COMMON else _COMMON].dims[0], 0) if len(lat.data_vars) else 0
        return np.zeros((max(times, 1) * 64, 0, *grid), np.int32)
    if name not in lat:
        raise InvalidConfigError(f"the latents have no {name!r}; it is one of {', '.join(LATENTS)}")
    values = np.asarray(lat[name].values)
    if values.ndim != 4 or values.shape[1:] != (count, *grid):
        raise InvalidConfigError(f"{name} has shape {values.shape}, expected (.., {count}, {grid[0]}, {grid[1]})")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InvalidConfigError(f"{name} has values that are not finite")
        values = np.rint(values)
    return np.clip(values, -_TOP, _TOP).astype(np.int32)
