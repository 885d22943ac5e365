"""What a newcomer stumbled over: groups, sentinels declared in the encoding, copies, re-saving shards, wrong arguments."""

import warnings

import numpy as np
import pytest
import xarray as xr

import latentzarr
from latentzarr.dataset.leave import decode_store
from latentzarr.dataset.opening import open_named
from latentzarr.dataset.provenance import GenerationLossWarning
from latentzarr.errors import InvalidConfigError, StoreError


@pytest.fixture
def ds() -> xr.Dataset:
    y, x = np.mgrid[:40, :60]
    t = np.stack([np.sin(x / 9 + k) * np.cos(y / 7) * 10 + 280 for k in range(4)]).astype(np.float32)
    return xr.Dataset({"t": (("time", "y", "x"), t, {"units": "K"})})


def test_groups_are_named_and_not_left_out(ds, tmp_path) -> None:
    tree = xr.DataTree.from_dict({"/": ds, "/deep": ds})
    with pytest.raises(InvalidConfigError, match="/deep"):
        latentzarr.to_zarr(tree, tmp_path / "a.zarr")
    ds.to_netcdf(tmp_path / "g.nc", engine="netcdf4")
    ds.to_netcdf(tmp_path / "g.nc", mode="a", group="deep", engine="netcdf4")
    with pytest.raises(StoreError, match="deep"):
        open_named(str(tmp_path / "g.nc"))


@pytest.mark.parametrize(("data", "word"), [(lambda d: d.t, "to_dataset"), (lambda d: d.t.values, "ndarray")])
def test_other_things_than_data_sets(ds, tmp_path, data, word) -> None:
    with pytest.raises(InvalidConfigError, match=word):
        latentzarr.to_zarr(data(ds), tmp_path / "a.zarr")


def test_bounds_without_names(ds, tmp_path) -> None:
    with pytest.raises(InvalidConfigError, match="by variable"):
        latentzarr.to_zarr(ds, tmp_path / "a.zarr", bounds="0.1")


def test_codes_declared_in_the_encoding_come_back_exactly(ds, tmp_path) -> None:
    rain = np.maximum(ds.t.values - 285, 0).astype(np.uint16) * 7
    rain[:, :15, :20] = 65535
    codes = xr.Dataset({"rain": (("time", "y", "x"), rain)})
    codes.rain.encoding["_FillValue"] = 65535
    latentzarr.to_zarr(codes, tmp_path / "r.zarr", bounds={"rain": "2"}, progress=False)
    back = xr.open_dataset(tmp_path / "r.zarr", engine="latentzarr", mask_and_scale=False)
    np.testing.assert_array_equal(back.rain.values == 65535, rain == 65535)
    assert np.abs(back.rain.values.astype(int) - rain).max() <= 2


def test_a_decoded_copy_is_checked_against_the_bound_it_was_coded_with(ds, tmp_path) -> None:
    latentzarr.to_zarr(ds, tmp_path / "a.zarr", bounds={"t": "0.1 K"}, progress=False)
    decode_store(tmp_path / "a.zarr", tmp_path / "plain.zarr", progress=False)
    report = latentzarr.verify(ds, tmp_path / "plain.zarr")
    assert report.ok
    assert report["t"].bound == latentzarr.ErrorBound.absolute(0.1)
    assert not latentzarr.verify(ds + 1, tmp_path / "plain.zarr").ok


@pytest.mark.parametrize("shards", [None, {"time": 4, "y": 40, "x": 60}])
def test_saving_what_was_opened_warns_with_and_without_shards(ds, tmp_path, shards) -> None:
    encoding = {"serializer": latentzarr.LatentCodec(absolute=0.1), "compressors": None, "chunks": (2, 40, 60)}
    if shards:
        encoding["shards"] = tuple(shards.values())
    ds.to_zarr(tmp_path / "a.zarr", encoding={"t": encoding}, consolidated=False)
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="latentzarr", consolidated=False).load()
    with pytest.warns(GenerationLossWarning, match="0.1 absolute"):
        opened.to_zarr(tmp_path / "b.zarr", consolidated=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened.drop_encoding().to_zarr(tmp_path / "c.zarr", consolidated=False)


def test_what_cannot_be_compared_says_why(ds, tmp_path) -> None:
    latentzarr.to_zarr(ds, tmp_path / "a.zarr", bounds={"t": "0.1 K"}, progress=False)
    report = latentzarr.verify(ds.isel(time=slice(0, 2)), tmp_path / "a.zarr")
    assert not report.ok
    assert "BOUND" not in str(report)
    assert "in the original" in str(report)
