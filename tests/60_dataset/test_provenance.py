"""What was lossy is written down where any reader sees it, survives copies, and warns before it is coded twice."""

import pytest
import xarray as xr
import zarr

import latentzarr
from latentzarr.dataset.example import example_dataset
from latentzarr.dataset.leave import decode_store
from latentzarr.dataset.provenance import (
    Container,
    GenerationLossWarning,
    already_lossy,
    container_of,
    lossy_record,
    require_complete,
    with_history,
)
from latentzarr.dataset.write import to_zarr
from latentzarr.errors import AlreadyLossyError, IncompleteStoreError, InvalidConfigError, StoreError, StoreExistsError


@pytest.fixture(scope="module")
def weather():
    return example_dataset(4, 48, 64)


@pytest.fixture(scope="module")
def store(weather, tmp_path_factory):
    place = tmp_path_factory.mktemp("provenance") / "w.zarr"
    to_zarr(weather, place, {"t": 0.1, "u": "1% of range", "cloud": "lossless"})
    return place


def test_the_group_says_what_opens_it(store):
    container = container_of(xr.open_zarr(store).attrs)
    assert container.implementation == f"latentzarr version {latentzarr.__version__} (frame 2)"
    assert container.model == latentzarr.default_model().digest
    assert container.package == "pip install latentzarr"
    assert container.complete


def test_variables_say_their_bound_and_the_error_measured(weather, store):
    ds = xr.open_zarr(store)
    assert ds.t.attrs["lossy_compression"] == "latentzarr"
    assert ds.t.attrs["lossy_compression_bound"] == 0.1
    assert ds.t.attrs["lossy_compression_bound_kind"] == "absolute"
    assert ds.t.attrs["units"] == "K"
    made = float(abs(ds.t.astype("f8") - weather.t.astype("f8")).max())
    assert ds.t.attrs["lossy_compression_max_abs_error"] == made
    assert ds.u.attrs["lossy_compression_requested"] == "1 % of range"
    for exact in ("cloud", "q", "sst", "latitude"):
        assert not [a for a in ds[exact].attrs if a.startswith("lossy")]
    assert lossy_record(ds.t.attrs).bound == latentzarr.ErrorBound.absolute(0.1)


def test_consolidated_and_plain_metadata_agree(store):
    assert xr.open_zarr(store, consolidated=True).identical(xr.open_zarr(store, consolidated=False))


def test_history_gets_a_line(weather, tmp_path):
    to_zarr(weather.assign_attrs(history="born"), tmp_path / "w.zarr", {"t": 0.1})
    first, second = xr.open_zarr(tmp_path / "w.zarr").attrs["history"].splitlines()
    assert "lossy compression of t (0.1 absolute)" in first
    assert second == "born"
    assert "\n" not in with_history({}, "x")["history"]


def test_the_record_survives_netcdf(store, tmp_path):
    xr.open_zarr(store).load().drop_encoding().to_netcdf(tmp_path / "copy.nc")
    with xr.open_dataset(tmp_path / "copy.nc") as ds:
        assert container_of(ds.attrs).complete
        assert "bound of 0.1" in already_lossy(ds.t.variable)


def test_lossy_data_are_not_coded_again_unless_meant(store, tmp_path):
    ds = xr.open_zarr(store)
    with pytest.raises(AlreadyLossyError, match=r"t: .*drop_encoding\(\).*recode=True"):
        to_zarr(ds, tmp_path / "a.zarr", {"t": 0.1})
    assert not (tmp_path / "a.zarr").exists()
    assert to_zarr(ds, tmp_path / "a.zarr", {"t": 0.1}, recode=True).ok
    assert to_zarr(ds, tmp_path / "b.zarr", {"t": "lossless"}).ok
    assert to_zarr(ds, tmp_path / "c.zarr", {"q": 0.001}).ok


def test_resaving_without_bounds_keeps_values_and_record(store, tmp_path):
    ds = xr.open_zarr(store)
    to_zarr(ds, tmp_path / "a.zarr")
    again = xr.open_zarr(tmp_path / "a.zarr")
    xr.testing.assert_equal(again.load(), ds.load())
    assert lossy_record(again.t.attrs) == lossy_record(ds.t.attrs)


def test_resaving_with_the_encoding_it_was_opened_with_warns(store, tmp_path):
    ds = xr.open_dataset(store, engine="latentzarr")[["t", "cloud"]]
    with pytest.warns(GenerationLossWarning, match=r"drop_encoding\(\)"):
        ds.to_zarr(tmp_path / "a.zarr", consolidated=False)
    assert zarr.open_array(tmp_path / "a.zarr" / "t", mode="r").serializer.bound == latentzarr.ErrorBound.absolute(0.1)
    ds.drop_encoding().to_zarr(tmp_path / "b.zarr", consolidated=False)
    ds[["cloud"]].to_zarr(tmp_path / "c.zarr", consolidated=False)


def test_other_marks_of_loss_are_known():
    assert already_lossy(xr.Variable("x", [1.0], {"quantization": "info"}))
    assert already_lossy(xr.Variable("x", [1.0], {}, {"serializer": latentzarr.LatentCodec(absolute=1)}))
    assert not already_lossy(xr.Variable("x", [1.0], {}, {"serializer": latentzarr.LatentCodec(lossless=True)}))
    assert not already_lossy(xr.Variable("x", [1.0]))


def test_incomplete_is_refused_and_strangers_are_left_alone():
    require_complete({}, "here")
    cut = Container("a", "b", "c", "d", "e", complete=False)
    with pytest.raises(IncompleteStoreError, match=r"^here: .*resume=True"):
        require_complete({"latentzarr": cut.to_text()}, "here")
    for nonsense in ("{", "[]", "{}", '{"complete": 1}'):
        with pytest.raises(InvalidConfigError):
            container_of({"latentzarr": nonsense})


def test_the_way_out_is_ordinary_zarr_still_marked(store, tmp_path):
    report = decode_store(store, tmp_path / "plain.zarr")
    assert report.ok
    plain, coded = xr.open_zarr(tmp_path / "plain.zarr"), xr.open_zarr(store)
    xr.testing.assert_equal(plain.load(), coded.load())
    for name in plain.variables:
        assert "latentzarr" not in (tmp_path / "plain.zarr" / str(name) / "zarr.json").read_text().split('"attributes"')[0]
    assert lossy_record(plain.t.attrs) == lossy_record(coded.t.attrs)
    assert container_of(plain.attrs).model == container_of(coded.attrs).model
    assert container_of(plain.attrs).package == ""
    with pytest.raises(StoreExistsError):
        decode_store(store, tmp_path / "plain.zarr")
    with pytest.raises(InvalidConfigError, match="itself"):
        decode_store(store, store)
    with pytest.raises(StoreError):
        decode_store(tmp_path / "none.zarr", tmp_path / "x.zarr")
