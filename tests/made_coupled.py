"""Small data sets for cubes: smooth, coupled, with land, levels and dates."""

import numpy as np
import pandas as pd
import xarray as xr

ROWS, COLUMNS = 24, 32


def smooth(rng, *shape, rows=ROWS, columns=COLUMNS, width=0.15):
    """Noise without its small scales, of variance 1."""
    noise = np.fft.rfft2(rng.normal(size=(*shape, rows, columns)))
    far = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None] ** 2
    field = np.fft.irfft2(noise * np.exp(-far / width**2), s=(rows, columns))
    return field / field.std()


def coupled(times=16, levels=3, rows=ROWS, columns=COLUMNS, seed=0):
    """Wind, temperature, humidity on levels, pressure at the ground, sea temperature with land; each tells of the others."""
    rng = np.random.default_rng(seed)
    size = {"rows": rows, "columns": columns}
    drift = np.stack([smooth(rng, levels, **size)] * times)
    for t in range(1, times):
        drift[t] = 0.95 * drift[t - 1] + 0.3 * smooth(rng, levels, **size)
    u = 10 * drift + 0.3 * rng.normal(size=drift.shape)
    t = 280 + 5 * drift + 2 * smooth(rng, times, levels, **size)
    q = np.maximum(0, 3 + drift + 0.5 * smooth(rng, times, levels, **size))
    ps = 1000 + 3 * drift[:, 0] + smooth(rng, times, **size)
    sst = 290 + smooth(rng, times, **size)
    sst[:, smooth(rng, **size) > 0.7] = np.nan
    level = ("time", "level", "lat", "lon")
    return xr.Dataset(
        {
            "u": (level, u.astype("f4"), {"units": "m/s", "valid_range": [-99.0, 99.0]}),
            "t": (level, t.astype("f4"), {"units": "K", "long_name": "temperature"}),
            "q": (level, q.astype("f4"), {"units": "g/kg"}),
            "ps": (level[::2][:1] + level[2:], ps.astype("f8"), {"units": "hPa"}),
            "sst": (("time", "lat", "lon"), sst.astype("f4"), {"units": "K"}),
            "kind": (("lat", "lon"), rng.integers(0, 9, (rows, columns)).astype("i2"), {"flag_values": list(range(9))}),
        },
        coords={
            "time": ("time", pd.date_range("2001-02-03", periods=times, freq="6h"), {"standard_name": "time"}),
            "level": ("level", 500.0 + 100 * np.arange(levels), {"units": "hPa"}),
            "lat": ("lat", np.linspace(88, -88, rows), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(columns) * 360 / columns, {"units": "degrees_east"}),
            "area": (("lat", "lon"), rng.random((rows, columns))),
            "edges": ("edge", [1.0, 2.0, 3.0]),
            "run": 7,
        },
        attrs={"title": "made up", "history": "once"},
    )


BOUNDS = {"u": "0.1 m/s", "t": "1% of level range", "q": [0.05, 0.02, 0.01], "ps": "0.05 hPa", "sst": "1%"}
