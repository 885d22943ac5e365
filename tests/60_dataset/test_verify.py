"""Verification finds one wrong value in a store, says what cannot be compared, and passes what holds."""

import numpy as np
import pytest
import xarray as xr
import zarr

import latentzarr
from latentzarr.dataset.example import example_dataset
from latentzarr.dataset.verify import verify
from latentzarr.dataset.write import to_zarr
from latentzarr.errors import StoreError, VariableNotFoundError, VerificationError


@pytest.fixture(scope="module")
def weather():
    return example_dataset(4, 48, 64)


@pytest.fixture
def store(weather, tmp_path):
    to_zarr(weather, tmp_path / "w.zarr", {"t": 0.1, "q": "1% relative", "cloud": "lossless"})
    return tmp_path / "w.zarr"


def test_what_was_written_holds(weather, store):
    report = verify(weather, store)
    assert report.ok
    assert report.require() is report
    assert report["t"].words == "0.1 absolute"
    assert all(v.checked for v in report)
    assert verify(weather.chunk(time=1), store).ok


@pytest.mark.parametrize("name", ["t", "q", "cloud", "u", "latitude"])
def test_one_wrong_value_is_found(weather, store, name):
    changed = weather.copy(deep=True)
    values = changed[name].values.copy()
    values.flat[7] = values.flat[7] + 1
    changed[name] = (changed[name].dims, values)
    report = verify(changed, store, variables=[name])
    assert not report.ok
    with pytest.raises(VerificationError, match=f"{name}: 1 of "):
        report.require()
    assert "DOES NOT HOLD" in str(report)


def test_a_lost_nan_is_a_violation(weather, store):
    changed = weather.copy(deep=True)
    changed["sst"].values[0, 0, :] = 280
    assert verify(changed, store)["sst"].statistics.violations > 0


def test_dates_are_compared(weather, store):
    changed = weather.assign_coords(time=weather.time + np.timedelta64(1, "h"))
    assert verify(changed, store)["time"].problem == "values differ"


def test_what_cannot_be_compared_is_said(weather, store):
    assert verify(weather.assign(extra=weather.t), store)["extra"].problem == "not in the store"
    assert "in the original" in verify(weather.isel(time=slice(2)), store)["t"].problem
    assert "float64" in verify(weather.assign(t=weather.t.astype("f8")), store)["t"].problem
    with pytest.raises(VariableNotFoundError, match="nope"):
        verify(weather, store, variables=["nope"])


def test_a_store_that_xarray_wrote_with_our_codec(weather, tmp_path):
    encoding = {"t": {"serializer": latentzarr.LatentCodec(absolute=0.1), "compressors": None}}
    weather.to_zarr(tmp_path / "x.zarr", encoding=encoding, consolidated=False)
    report = verify(weather, tmp_path / "x.zarr")
    assert report.ok
    assert report["t"].bound == latentzarr.ErrorBound.absolute(0.1)


def test_a_codec_around_ours_does_not_disturb(weather, tmp_path):
    encoding = {"t": {"serializer": latentzarr.LatentCodec(absolute=0.1), "chunks": (2, 48, 64), "shards": (4, 48, 64)}}
    weather[["t"]].to_zarr(tmp_path / "x.zarr", encoding=encoding, consolidated=False)
    report = verify(weather[["t"]], tmp_path / "x.zarr")
    assert report.ok
    assert report["t"].modes == {"wrapped": 2}


def test_no_store(weather, tmp_path):
    with pytest.raises(StoreError, match="no zarr group"):
        verify(weather, tmp_path / "nothing.zarr")
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="f4")
    with pytest.raises(StoreError, match="no zarr group"):
        verify(weather, tmp_path / "array.zarr")


def test_an_empty_data_set(tmp_path):
    to_zarr(xr.Dataset(), tmp_path / "w.zarr")
    assert verify(xr.Dataset(), tmp_path / "w.zarr").ok
