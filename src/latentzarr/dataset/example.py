"""A small made-up atmosphere and ocean, the same each time, for demonstrations and tests without data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

__all__ = ["example_bounds", "example_dataset"]

Field = npt.NDArray[np.float64]


def _weather(rng: np.random.Generator, steps: int, rows: int, columns: int, slope: float, drift: float, memory: float) -> Field:
    """Fields with a red spectrum that drift eastward and change slowly, fast where small; unit variance.

    Parameters
    ----------
    rng : numpy Generator
    steps, rows, columns : int
    slope : float
        Exponent of the power spectrum along a line; 3 is that of real winds and temperatures at these scales (Nastrom and
        Gage 1985).
    drift : float
        Columns a step.
    memory : float
        Steps over which the largest waves lose their shape.

    Returns
    -------
    array, shape (steps, rows, columns)
        Periodic along columns.
    """
    height = 2 * rows  # twice the rows, half of them cut off, so that nothing repeats from pole to pole
    across, along = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(columns)[None, :]
    wavenumber = np.hypot(across * height, along * columns)
    wavenumber[0, 0] = np.inf
    amplitude = np.maximum(wavenumber, 3.0) ** (-(slope + 1) / 2)
    kept = np.exp(-((np.minimum(wavenumber, columns) / 4.0) ** (2 / 3)) / memory)
    moved = np.exp(-2j * np.pi * along * drift)

    def noise() -> npt.NDArray[np.complex128]:
        return np.asarray(rng.standard_normal(wavenumber.shape) + 1j * rng.standard_normal(wavenumber.shape), np.complex128)

    state = noise()
    fields = np.empty((steps, rows, columns))
    for step in range(steps):
        fields[step] = np.fft.irfft2(state * amplitude, (height, columns))[:rows]
        state = kept * moved * state + np.sqrt(1 - kept**2) * noise()
    fields -= fields.mean()
    fields /= fields.std()
    return fields


def example_dataset(steps: int = 24, rows: int = 181, columns: int = 360, seed: int = 0) -> xr.Dataset:
    """A few days of made-up weather on a latitude-longitude grid, about 26 MB as it comes.

    Parameters
    ----------
    steps, rows, columns : int
        Sizes of ``time`` (3-hourly), ``latitude`` (north to south) and ``longitude``.
    seed : int

    Returns
    -------
    xarray.Dataset
        ``t`` (air temperature), ``u`` (wind), ``q`` (humidity: positive, over orders of magnitude), ``sst`` (NaN on land),
        ``cloud`` (integer classes).
    """
    rng = np.random.default_rng(seed)
    latitude = np.linspace(90, -90, rows)
    longitude = np.arange(columns) * 360 / columns
    lat = np.radians(latitude)[None, :, None]
    land = _weather(rng, 1, rows, columns, 2.4, 0.0, 1.0)[0] + 0.5 * np.sin(lat[0]) > 0.5
    drift = columns / 360 * 2.0
    t = 288 - 38 * np.sin(lat) ** 2 + 5 * _weather(rng, steps, rows, columns, 3.0, drift, 60)
    u = 4 + 14 * np.sin(2 * lat) ** 2 + 7 * _weather(rng, steps, rows, columns, 3.0, drift, 40)
    moisture = _weather(rng, steps, rows, columns, 2.4, drift, 30)
    q = 0.018 * np.exp(0.065 * (np.minimum(t, 303) - 303)) / (1 + np.exp(-1.5 * moisture))
    sst = np.maximum(271.4 + 29 * np.cos(lat) ** 2 + 1.2 * _weather(rng, steps, rows, columns, 3.0, 0.05 * drift, 2000), 271.35)
    cloud = np.digitize(moisture, [-0.5, 0.5, 1.2, 2.0])
    dims = ("time", "latitude", "longitude")
    flags = {"flag_values": [0, 1, 2, 3, 4], "flag_meanings": "clear few scattered broken overcast"}
    start = np.datetime64("2024-01-01T00", "ns")
    return xr.Dataset(
        {
            "t": (dims, t.astype("f4"), {"units": "K", "long_name": "air temperature"}),
            "u": (dims, u.astype("f4"), {"units": "m s-1", "long_name": "eastward wind"}),
            "q": (dims, q.astype("f4"), {"units": "kg kg-1", "long_name": "specific humidity"}),
            "sst": (dims, np.where(land, np.nan, sst).astype("f4"), {"units": "K", "long_name": "sea surface temperature"}),
            "cloud": (dims, cloud.astype("i1"), {"long_name": "cloud cover class", **flags}),
        },
        {
            "time": start + np.arange(steps) * np.timedelta64(3, "h"),
            "latitude": ("latitude", latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east"}),
        },
        {"title": "made-up weather, for demonstrations"},
    )


def example_bounds() -> dict[str, str]:
    """Bounds of every kind for `example_dataset`; ``cloud`` has none and stays exact."""
    return {"t": "0.1 K", "u": "1% of range", "q": "2% relative", "sst": "0.05 K"}
