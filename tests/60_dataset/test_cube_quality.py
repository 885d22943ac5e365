"""Quality, level by level: what is equal is told to be equal, and what is wrong shows where it is."""

import numpy as np
import pytest
import xarray as xr

import latentzarr
from latentzarr.errors import VariableNotFoundError


def made() -> xr.Dataset:
    rng = np.random.default_rng(1)
    values = rng.normal(10, 3, (10, 2, 12, 16)).astype("float32")
    dims = ("time", "level", "latitude", "longitude")
    coordinates = {"level": [500.0, 850.0], "latitude": np.linspace(-75, 75, 12), "longitude": np.arange(16) * 22.5}
    return xr.Dataset({"u": (dims, values), "p": (dims[:1] + dims[2:], values[:, 0] ** 2)}, coordinates)


def test_what_is_equal_has_no_error():
    found = latentzarr.quality(made(), made(), {"u": 15.0})
    assert [(v.variable, v.level) for v in found.levels] == [("u", "500"), ("u", "850"), ("p", "")]
    for v in found.levels:
        assert v.error.rmse == v.error.largest == v.quantile_error == 0
        assert v.small_scales == pytest.approx(1)
    assert found.levels[0].events.csi == 1
    assert "850" in str(found)


def test_errors_show_at_their_level():
    ds = made()
    other = ds.copy(deep=True)
    other.u[:, 1] += 0.5
    other.u[3, 1, 0, 0] += 2
    upper, lower, surface = latentzarr.quality(ds, other, {"u": 15.0}, times_together=3).levels
    assert upper.error.rmse == 0
    assert surface.error.rmse == 0
    assert lower.error.largest == pytest.approx(2.5, rel=1e-5)
    assert lower.error.bias == pytest.approx(0.5, abs=0.01)
    assert lower.quantile_error > 0
    assert lower.events.csi < 1
    weights = np.cos(np.deg2rad(ds.latitude))
    expected = float((((other.u - ds.u) ** 2).isel(level=1).weighted(weights).mean()) ** 0.5)
    assert lower.error.rmse == pytest.approx(expected, rel=1e-3)


def test_what_is_not_there_is_refused():
    with pytest.raises(VariableNotFoundError, match="'q'"):
        latentzarr.quality(made(), made(), {"q": 1.0})
    with pytest.raises(VariableNotFoundError, match="nothing"):
        latentzarr.quality(made(), made()[["u"]].rename(u="v"))
