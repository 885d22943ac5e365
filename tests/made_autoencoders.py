"""Autoencoders small enough to be followed by hand, for tests: NumPy functions of means over blocks of 2 x 2 values."""

from __future__ import annotations

import numpy as np
import xarray as xr

from latentzarr import Autoencoder, ChannelScaling, LatentDescription

STEP = 1 / 32
SCALING = ChannelScaling(mean=(280.0, 280.0, 0.0), std=(10.0, 10.0, 5.0))
WEIGHTS = {"weight": np.arange(4, dtype="f4")}


def fields(steps=6, rows=8, columns=12, dtype="f4"):
    """Temperature on two levels and a wind without, exact companions, and coordinates of several kinds."""
    y, x = np.meshgrid(np.linspace(0, 3, rows), np.linspace(0, 6, columns), indexing="ij")
    time = np.arange(steps)
    phase = time[:, None, None]
    t = np.stack([280 + 5 * np.sin(y + 0.3 * phase) * np.cos(x), 250 + 3 * np.cos(y + 0.2 * phase) + x], axis=1)
    ds = xr.Dataset(
        {
            "t": (("time", "level", "lat", "lon"), t.astype(dtype), {"units": "K", "valid": np.float32(3.5)}),
            "flag": (("time",), time.astype("i2")),
            "u": (("time", "lat", "lon"), (4 * np.sin(x + 0.1 * phase) + 0 * y).astype(dtype), {"units": "m s-1"}),
            "height": (("lat", "lon"), (100 * y).astype("f4"), {"units": "m"}),
        },
        coords={
            "time": np.datetime64("2005-08-01", "ns") + time * np.timedelta64(6, "h"),
            "level": [1000, 500],
            "lat": np.linspace(-70, 70, rows),
            "lon": np.arange(columns) * 30.0,
            "area": (("lat", "lon"), np.cos(y)),
            "run": "first",
        },
        attrs={"title": "made up"},
    )
    ds.t.encoding["_FillValue"] = np.float32(-999)
    return ds


def blocks(values):
    """Means over 2 x 2 values: (batch, c, rows, columns) to (batch, c, ceil(rows / 2), ceil(columns / 2))."""
    rows, columns = values.shape[2:]
    even = np.pad(values, ((0, 0), (0, 0), (0, rows % 2), (0, columns % 2)), mode="edge")
    return even.reshape(*values.shape[:2], -(-rows // 2), 2, -(-columns // 2), 2).mean(axis=(3, 5))


def spread(latents):
    """Every value four times; for an even number of rows and columns."""
    return np.repeat(np.repeat(latents, 2, axis=2), 2, axis=3).astype("f4")


class Counted:
    """A function that remembers how many items each call got."""

    def __init__(self, function):
        self.function = function
        self.calls = []

    def __call__(self, values):
        self.calls.append(len(values))
        return self.function(values)


def continuous(name="toy", decoder=spread, **more):
    """Block means, scaled, rounded to steps; identified by weights."""
    given = {"latent": LatentDescription("continuous", step=STEP, downscale=2), "scaling": SCALING, "weights": WEIGHTS} | more
    return {"name": name, "encoder": blocks, "decoder": decoder, **given}


def offered():
    """What an installed package's entry point gives."""
    return Autoencoder.build(**continuous("offered"))
