"""What is kept of the general circulation model's output: eight variables as a compact NetCDF, in the usual order of dimensions.

The model writes 80 diagnostics with longitude before latitude, 3 GB for 90 days; the cube needs a tenth of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

__all__ = ["KEPT", "Kept", "extract"]

SURFACE_PRESSURE = 1e5
"""Pascal that a normalised surface pressure of 1 stands for in `jcm`."""

ORIGIN = (
    "jcm 3 (PyPI, Apache licence), a general circulation model in JAX: SPEEDY physics, T63 grid, 8 levels, packaged terrain and "
    "climatological forcing; made by benchmarks/gcm_simulate.py"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A variable of the model's output and what it is called here.

    Attributes
    ----------
    name, source : str
        Here, and in the model's file.
    standard_name, units : str
        As CF has them.
    factor : float
        From the model's units to ``units``.
    """

    name: str
    source: str
    standard_name: str
    units: str
    factor: float = 1.0


KEPT = (
    Kept("u", "u_wind", "eastward_wind", "m s-1"),
    Kept("v", "v_wind", "northward_wind", "m s-1"),
    Kept("t", "temperature", "air_temperature", "K"),
    Kept("q", "specific_humidity", "specific_humidity", "kg kg-1"),
    Kept("z", "geopotential", "geopotential", "m2 s-2"),
    Kept("pr", "surface_exchange.precipitation", "precipitation_flux", "kg m-2 s-1"),
    Kept("ps", "normalized_surface_pressure", "surface_air_pressure", "Pa", SURFACE_PRESSURE),
    Kept("ts", "surface_flux.tskin", "surface_temperature", "K"),
)
"""The first five have levels. Precipitation is the rate at the saved step, not a sum. Surface temperature is the skin's: ``tsfc``
changes once a day, with the boundary files."""

STATIC = (
    Kept("orography", "orog", "surface_altitude", "m"),
    Kept("land_fraction", "lsm", "land_area_fraction", "1"),
)

COORDINATES = {
    "level": {"standard_name": "atmosphere_sigma_coordinate", "units": "1", "positive": "down", "axis": "Z"},
    "latitude": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
    "time": {"standard_name": "time", "axis": "T"},
}


def extract(outputs: Sequence[Path], terrain: Path, target: Path, skip_days: float = 0.0) -> Path:
    """Write ``target``: float32, dimensions (time, level, latitude, longitude), deflated, static fields beside.

    Parameters
    ----------
    outputs : sequence of Path
        Files of one run, in the order of time.
    terrain : Path
        The model's file of orography and land fraction.
    skip_days : float
        Days of spin-up at the start that are left out, counted from a save interval before the first step.

    Returns
    -------
    Path
        ``target``, complete: it is written beside and renamed.
    """
    kept = xr.concat([_selected(path) for path in outputs], "time") if len(outputs) > 1 else _selected(outputs[0])
    if skip_days:
        times = kept.time.values
        start = times[0] - (times[1] - times[0])
        kept = kept.isel(time=times > start + np.timedelta64(round(skip_days * 86400), "s"))
    with xr.open_dataset(terrain) as static:
        for wanted in STATIC:
            named = _named(static[wanted.source], wanted)
            xr.testing.assert_allclose(named.latitude.drop_attrs(), kept.latitude.drop_attrs())
            kept[wanted.name] = named.variable  # as variable: the files' coordinates differ in the last digit
    for name, attributes in COORDINATES.items():
        kept[name].attrs = dict(attributes)
    kept.attrs = {"Conventions": "CF-1.11", "source": ORIGIN}
    partial = target.with_suffix(".partial")
    encoding = {str(n): {"zlib": True, "complevel": 4, "shuffle": True, "dtype": "float32"} for n in kept.data_vars}
    kept.to_netcdf(partial, encoding=encoding)
    return partial.rename(target)


def _selected(path: Path) -> xr.Dataset:
    """The variables of one file, in memory: about 80 MB for 10 days twice a day."""
    with xr.open_dataset(path) as output:
        return xr.Dataset({k.name: _named(output[k.source], k) for k in KEPT})


def _named(array: xr.DataArray, kept: Kept) -> xr.DataArray:
    """An array of the model with our name, order of dimensions, units and nothing else."""
    array = array.rename(lat="latitude", lon="longitude").reset_coords(drop=True)
    order = [d for d in ("time", "level", "latitude", "longitude") if d in array.dims]
    array = (array.transpose(*order) * np.float32(kept.factor)).astype(np.float32)
    array.attrs = {"standard_name": kept.standard_name, "units": kept.units}
    array.encoding = {}
    return array
