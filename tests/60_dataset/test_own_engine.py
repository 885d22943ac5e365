"""Stores of latents: written in batches, opened as what they were made from or as latents, decoded only where looked at."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

import latentzarr
import made_autoencoders as made
from latentzarr import LatentDescription, encode_latents, register_autoencoder
from latentzarr.cube.registry import unregister_autoencoder
from latentzarr.dataset import own_autoencoder_batches, own_autoencoder_decode
from latentzarr.dataset.own_autoencoder_decode import forget_decoded
from latentzarr.dataset.own_autoencoder_report import ChannelSums
from latentzarr.dataset.own_autoencoder_table import ATTRIBUTE, LatentStoreRecord
from latentzarr.errors import (
    AlreadyLossyError,
    IncompleteStoreError,
    InvalidConfigError,
    ModelMismatchError,
    ModelNotFoundError,
    NewerVersionError,
    StoreError,
    StoreExistsError,
    UnsupportedDtypeError,
    VariableNotFoundError,
)


@pytest.fixture
def toy():
    """The calls of the decoder, which is registered as ``toy``."""
    forget_decoded()
    decoder = made.Counted(made.spread)
    register_autoencoder(**made.continuous(decoder=decoder))
    yield decoder.calls
    unregister_autoencoder("toy")


@pytest.fixture
def ds():
    return made.fields()


@pytest.fixture
def store(tmp_path, ds, toy):
    path = str(tmp_path / "a.zarr")
    encode_latents(ds, path, "toy", batch=2)
    toy.clear()
    return path


def _open(store, **options):
    return xr.open_dataset(store, engine="latentzarr", **options)


def _expected(ds, name="t"):
    """What the toy makes of a variable: block means, scaled, rounded to steps."""
    values = ds[name].values
    maps = values.reshape(len(values), -1, *values.shape[-2:])
    mean, std = (280, 10) if name == "t" else (0, 5)
    whole = np.rint(made.blocks((maps - mean) / std) / made.STEP)
    return (made.spread(whole * made.STEP) * std + mean).reshape(values.shape)


# ------------------------------------------------------------------------------------------------------------- opening
def test_looks_like_the_original(store, ds):
    opened = _open(store)
    assert list(opened.data_vars) == list(ds.data_vars)
    xr.testing.assert_identical(
        opened.drop_vars(["t", "u"]).drop_attrs(deep=False), ds.drop_vars(["t", "u"]).drop_attrs(deep=False)
    )
    for name in ("t", "u"):
        assert (opened[name].dims, opened[name].dtype) == (ds[name].dims, ds[name].dtype)
        assert opened[name].attrs == ds[name].attrs
        np.testing.assert_allclose(opened[name].values, _expected(ds, name), rtol=1e-6)
        assert set(opened[name].coords) == set(ds[name].coords)
    assert opened.t.encoding["_FillValue"] == -999
    assert opened.title == "made up"
    assert "latents of autoencoder 'toy', without guarantee" in opened.history


def test_plain_xarray_shows_latents_and_coordinates(store, ds):
    unregister_autoencoder("toy")
    plain = xr.open_zarr(store)
    assert plain.latent.dims == ("time", "latent_channel", "latent_y", "latent_x")
    assert (plain.latent.shape, plain.latent.dtype) == ((6, 3, 4, 6), np.int16)
    assert plain.latent_step.values.tolist() == [made.STEP] * 3
    xr.testing.assert_identical(plain.height.compute(), ds.height)
    for name in ds.coords:
        xr.testing.assert_identical(plain[name].variable.compute(), ds[name].variable)
    codecs = json.dumps(zarr.open_group(store)["latent"].metadata.to_dict()["codecs"], default=str)
    assert "latentzarr" not in codecs
    record = json.loads(plain.attrs[ATTRIBUTE])
    assert (record["guarantee"], record["complete"], record["autoencoder"]) == ("none", True, "toy")


def test_latents_need_no_autoencoder(store, ds):
    unregister_autoencoder("toy")
    with pytest.raises(ModelNotFoundError, match=r"a\.zarr.*'toy'.*register_autoencoder.*decode=False"):
        _open(store)
    latents = _open(store, decode=False, chunks={})
    xr.testing.assert_identical(latents.latent.drop_attrs(), xr.open_zarr(store).latent.drop_attrs())
    assert list(latents.data_vars) == ["latent"]
    assert set(latents.coords) == {*ds.coords, "latent_step"}


def test_other_weights_are_refused(store):
    register_autoencoder(**made.continuous(weights={"weight": np.ones(4, "f4")}))
    with pytest.raises(ModelMismatchError, match=r"a\.zarr.*'toy'.*sha256:.*sha256:"):
        _open(store)


def test_the_autoencoder_is_looked_for_where_it_decodes(store):
    opened = pickle.loads(pickle.dumps(_open(store)))
    unregister_autoencoder("toy")
    with pytest.raises(ModelNotFoundError, match="in every process that decodes"):
        opened.t.load()


def test_dropped_variables_and_options(store, ds):
    assert list(_open(store, drop_variables=["t", "height"]).data_vars) == ["flag", "u"]
    assert list(_open(store, drop_variables="t").data_vars) == ["flag", "u", "height"]
    assert list(_open(store, drop_variables=["t", "u", "flag", "height"]).data_vars) == []
    np.testing.assert_allclose(_open(store, device="cpu", threads=1).u, _expected(ds, "u"), rtol=1e-6)
    with pytest.raises(InvalidConfigError, match="abacus"):
        _open(store, device="abacus")
    with pytest.raises(InvalidConfigError, match="scale=2"):
        _open(store, scale=2)


def test_groups_and_trees(tmp_path, store, ds):
    tree = xr.open_datatree(store, engine="latentzarr")
    np.testing.assert_allclose(tree.ds.t, _expected(ds), rtol=1e-6)
    assert list(xr.open_groups(store, engine="latentzarr", decode=False)["/"].data_vars) == ["latent"]


def test_any_zarr_store_object(ds, toy):
    memory = zarr.storage.MemoryStore()
    report = encode_latents(ds, memory, "toy")
    assert report.stored > 0
    np.testing.assert_allclose(_open(memory, chunks={}).t, _expected(ds), rtol=1e-6)


def test_what_was_decoded_keeps_its_record_when_saved_again(tmp_path, store):
    opened = _open(store)
    with pytest.raises(AlreadyLossyError, match="decoded from latents of autoencoder 'toy'"):
        latentzarr.to_zarr(opened, tmp_path / "b.zarr", bounds={"t": 0.1})
    with pytest.raises(AlreadyLossyError, match=r"t: .*'toy'"):
        encode_latents(opened, tmp_path / "b.zarr", "toy")
    encode_latents(opened, tmp_path / "c.zarr", "toy", recode=True)
    opened = opened.drop_vars("run")  # zarr warns of text
    opened.to_zarr(tmp_path / "b.zarr")
    again = _open(tmp_path / "b.zarr")
    assert ATTRIBUTE in again.attrs
    xr.testing.assert_identical(again.load(), opened.load())


# ---------------------------------------------------------------------------------------------------------------- lazy
def test_only_what_is_looked_at_is_decoded(store, toy, ds):
    opened = _open(store)
    assert toy == []
    expected = _expected(ds)
    np.testing.assert_allclose(opened.t.isel(time=3).values, expected[3], rtol=1e-6)
    assert toy == [1]
    np.testing.assert_allclose(opened.t.isel(time=3, level=1, lat=2).values, expected[3, 1, 2], rtol=1e-6)
    opened.u.isel(time=3).load()
    assert toy == [1]  # remembered
    opened.u.isel(time=slice(2, 6)).load()
    assert toy == [1, 1, 2]  # batches of two, less what is remembered
    forget_decoded()
    toy.clear()
    _open(store, chunks={}).t.sel(level=500).sel(time="2005-08-02").compute(scheduler="synchronous")
    assert sum(toy) == 2


def test_what_is_remembered_is_bounded(store, toy, monkeypatch):
    monkeypatch.setattr(own_autoencoder_decode, "CACHE_BYTES", 3 * 3 * 8 * 12 * 4)
    forget_decoded()
    opened = _open(store)
    opened.t.load()
    opened.u.isel(time=slice(3, 6)).load()
    assert sum(toy) == 6
    opened.u.isel(time=slice(0, 3)).load()
    assert sum(toy) == 9
    monkeypatch.setattr(own_autoencoder_decode, "CACHE_BYTES", 1)
    forget_decoded()
    toy.clear()
    for _ in range(2):
        opened.u.isel(time=0, lat=0).load()
    assert toy == [1, 1]


@pytest.mark.parametrize(
    "selection",
    [
        {"time": [5, 0, 0, 3]},
        {"time": slice(None, None, -2), "lon": [3, 1]},
        {"level": [1, 0], "lat": slice(5, 1, -3)},
        {"time": -1, "level": -1, "lat": -1, "lon": -1},
        {"time": slice(0, 0)},
        {"lat": []},
        {"lat": xr.DataArray([0, 7, 3], dims="p"), "lon": xr.DataArray([11, 1, 4], dims="p")},
    ],
)
def test_selections(store, ds, selection):
    whole = _open(store).t.load()
    xr.testing.assert_identical(_open(store).t.isel(selection).load(), whole.isel(selection))


def test_loads_asynchronously(store):
    opened = _open(store)
    asyncio.run(opened.load_async())
    xr.testing.assert_identical(opened, _open(store).load())


def test_chunks_are_batches(store):
    assert _open(store, chunks={}).t.chunks == ((2, 2, 2), (2,), (8,), (12,))
    names = {_open(store, chunks={}).t.data.name, _open(store, chunks={}).t.data.name}
    assert len(names) == 1
    assert _open(store, chunks={}).u.data.name not in names


# ---------------------------------------------------------------------------------------------------------------- dask
@pytest.fixture
def offered(tmp_path, monkeypatch):
    """An autoencoder that every process finds, because an installed package offers it."""
    folder = tmp_path / "installed" / "offering-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: offering\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[latentzarr.autoencoders]\noffered = made_autoencoders:offered\n")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("PYTHONPATH", ":".join(p for p in sys.path if p))
    yield "offered"
    unregister_autoencoder("offered")


def test_threads(store, ds):
    opened = _open(store, chunks={})
    with dask.config.set(scheduler="threads", num_workers=4):
        np.testing.assert_allclose(opened.t.mean("time").compute(), _expected(ds).mean(axis=0), rtol=1e-5)


@pytest.mark.slow
def test_processes_find_the_autoencoder_through_its_entry_point(tmp_path, ds, offered):
    encode_latents(ds.chunk({"time": 2}), tmp_path / "a.zarr", offered, batch=2)
    opened = _open(tmp_path / "a.zarr", chunks={})
    with dask.config.set(scheduler="processes", num_workers=2):
        np.testing.assert_allclose(opened.t.mean("time").compute(), _expected(ds).mean(axis=0), rtol=1e-5)


@pytest.mark.slow
def test_processes_without_the_autoencoder_say_so(store):
    opened = _open(store, chunks={})
    with (
        dask.config.set(scheduler="processes", num_workers=1),
        pytest.raises(ModelNotFoundError, match="in every process that decodes"),
    ):
        opened.t.isel(time=0).compute()


@pytest.mark.slow
def test_a_cluster(tmp_path, ds, offered):
    distributed = pytest.importorskip("distributed")
    encode_latents(ds, tmp_path / "a.zarr", offered, batch=2)
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as here,
        distributed.Client(here),
    ):
        opened = _open(tmp_path / "a.zarr", chunks={})
        np.testing.assert_allclose(opened.t.compute(), _expected(ds), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------- writing
def test_the_report_says_what_was_measured(tmp_path, ds, toy):
    report = encode_latents(ds, tmp_path / "a.zarr", "toy")
    for name in ("t", "u"):
        error = _expected(ds, name).astype("f4").astype("f8") - ds[name].values
        error = error.reshape(6, -1, 8, 12)
        for c, channel in enumerate(report[name]):
            assert channel.rmse == pytest.approx(np.sqrt((error[:, c] ** 2).mean()), rel=1e-4)
            assert channel.max_abs == pytest.approx(np.abs(error[:, c]).max(), rel=1e-4)
            assert channel.bias == pytest.approx(error[:, c].mean(), abs=1e-4)
            original = ds[name].values.reshape(6, -1, 8, 12)[:, c].astype("f8")
            assert channel.normalized_mse == pytest.approx((error[:, c] ** 2).mean() / original.var(), rel=1e-3)
    assert [c.label for c in report["t"]] == ["t level=1000", "t level=500"]
    assert report.nbytes == ds.t.nbytes + ds.u.nbytes
    assert "nothing is guaranteed" in str(report)
    assert "level=500" in report._repr_html_()
    assert json.loads(report.to_json())["autoencoder"] == "toy"
    record = LatentStoreRecord.from_text(zarr.open_group(tmp_path / "a.zarr").attrs[ATTRIBUTE], "here")
    assert record.errors == report.channels
    with pytest.raises(VariableNotFoundError):
        report["flag"]


def test_sums_of_batches_are_those_of_the_whole():
    rng = np.random.default_rng(1)
    x = rng.normal(280, 3, (4, 2, 5, 6)).astype("f4")
    x[0, 1] = np.nan
    y = x + rng.normal(0, 0.1, x.shape).astype("f4")
    parts = ChannelSums.of(x[1:], y[1:], ChannelSums.of(x[:1], y[:1], None))
    np.testing.assert_allclose(parts.sums[3:], ChannelSums.of(x, y, None).sums[3:])
    variance = parts.sums[2] / parts.sums[0] - (parts.sums[1] / parts.sums[0]) ** 2
    np.testing.assert_allclose(variance, np.nanvar(x.astype("f8"), axis=(0, 2, 3)), rtol=1e-9)


def test_channels_without_values_or_variation(tmp_path, ds, toy):
    ds = ds[["t", "u"]]
    ds["u"] = xr.full_like(ds.u, np.nan).assign_attrs(missing_value=np.nan)
    ds.u.encoding["_FillValue"] = np.float32(np.nan)
    ds.t.values[:, 0] = 280
    report = encode_latents(ds, tmp_path / "a.zarr", "toy")
    assert (report["u"][0].values, report["t"][0].rmse) == (0, 0)
    assert np.isnan([report["u"][0].rmse, report["t"][0].normalized_mse]).all()
    assert "NaN" not in report.to_json()
    opened = _open(tmp_path / "a.zarr")
    assert "NaN" not in opened.attrs[ATTRIBUTE]
    assert np.isnan([opened.u.attrs["missing_value"], opened.u.encoding["_FillValue"]]).all()
    assert opened.u.isnull().all()
    assert LatentStoreRecord.from_text(opened.attrs[ATTRIBUTE], "here").errors[2].values == 0


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_dtypes(tmp_path, toy, dtype):
    ds = made.fields(dtype=dtype)
    encode_latents(ds, tmp_path / "a.zarr", "toy")
    opened = _open(tmp_path / "a.zarr")
    assert opened.t.dtype == np.dtype(dtype)
    np.testing.assert_allclose(opened.t, _expected(ds), rtol=2e-3 if dtype == "f2" else 1e-6)


def test_what_is_exact_is_not_narrowed(tmp_path, ds, toy):
    ds.area.encoding = {"dtype": "f4", "chunks": (3, 5), "foo": 1}
    before = dict(ds.area.encoding)
    encode_latents(ds, tmp_path / "a.zarr", "toy")
    np.testing.assert_array_equal(_open(tmp_path / "a.zarr").area, ds.area)
    assert ds.area.encoding == before


def test_dimensions_in_any_order(tmp_path, ds, toy):
    ds = ds.transpose("level", "lat", "lon", "time")
    encode_latents(ds, tmp_path / "a.zarr", "toy")
    opened = _open(tmp_path / "a.zarr")
    assert opened.t.dims == ("level", "lat", "lon", "time")
    np.testing.assert_allclose(opened.t.transpose("time", "level", "lat", "lon"), _expected(made.fields()), rtol=1e-6)
    np.testing.assert_allclose(opened.t[0, :, 3:5, [4, 1]], opened.t.values[0, :, 3:5][..., [4, 1]])


def test_several_leading_dimensions(tmp_path, ds, toy):
    both = xr.concat([ds[["t", "u"]], ds[["t", "u"]] + 1], "member").transpose("time", "member", ...)
    report = encode_latents(both, tmp_path / "a.zarr", "toy", time_dim=["time", "member"], batch=2)
    assert xr.open_zarr(tmp_path / "a.zarr").latent.dims[:2] == ("time", "member")
    assert len(report.channels) == 3
    toy.clear()
    opened = _open(tmp_path / "a.zarr", chunks={})
    np.testing.assert_allclose(opened.t.isel(time=[4, 1], member=0).compute(), _expected(ds)[[4, 1]], rtol=1e-6)
    assert sum(toy) == 2
    np.testing.assert_allclose(opened.u.isel(member=0), _expected(ds, "u"), rtol=1e-6)


def test_maps_without_a_leading_dimension(tmp_path, toy):
    maps = xr.Dataset({name: (("y", "x"), np.full((4, 6), value, "f4")) for name, value in (("a", 285), ("b", 275), ("c", 5))})
    encode_latents(maps, tmp_path / "a.zarr", "toy")
    np.testing.assert_allclose(_open(tmp_path / "a.zarr").b, np.full((4, 6), 275), atol=0.2)
    assert xr.open_zarr(tmp_path / "a.zarr").latent.dims == ("latent_channel", "latent_y", "latent_x")


def test_named_variables_leave_the_others_out(tmp_path, ds, toy):
    register_autoencoder(**made.continuous(scaling=None))
    encode_latents(ds, tmp_path / "a.zarr", "toy", variables=["u", "t"])
    assert list(_open(tmp_path / "a.zarr").data_vars) == ["t", "u"]
    record = LatentStoreRecord.from_text(zarr.open_group(tmp_path / "a.zarr").attrs[ATTRIBUTE], "here")
    assert [(v.name, v.first) for v in record.variables] == [("u", 0), ("t", 1)]


def test_dask_data_are_read_a_batch_at_a_time(tmp_path, ds, toy):
    seen = []

    def look(block, block_info=None):
        seen.append(block.shape[0])
        return block

    lazy = ds.chunk({"time": 2})
    lazy["flag"] = lazy.flag.chunk({"time": (1, 3, 2)})
    lazy["t"] = lazy.t.copy(data=lazy.t.data.map_blocks(look, dtype="f4", meta=np.empty((0,) * 4, "f4")))
    encode_latents(lazy, tmp_path / "a.zarr", "toy", batch=2)
    assert seen[1:] == [2, 2, 2]  # and once before, for a first look at the latents
    np.testing.assert_allclose(_open(tmp_path / "a.zarr").t, _expected(ds), rtol=1e-6)
    xr.testing.assert_identical(_open(tmp_path / "a.zarr").flag.load(), ds.flag)
    assert lazy.flag.chunks == ((1, 3, 2),)


def test_progress_and_interruption(tmp_path, ds, toy):
    told = []

    def stop(name, done, total):
        told.append((name, done / total))
        if len(told) == 2:
            raise KeyboardInterrupt

    path = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        encode_latents(ds, path, "toy", batch=2, progress=stop)
    assert told == [("latent", pytest.approx(1 / 3)), ("latent", pytest.approx(2 / 3))]
    for opener in (xr.open_dataset, xr.open_datatree):
        with pytest.raises(IncompleteStoreError, match="overwrite=True"):
            opener(path, engine="latentzarr", consolidated=False)
    with pytest.raises(StoreExistsError):
        encode_latents(ds, path, "toy")
    encode_latents(ds, path, "toy", overwrite=True, progress=True)
    np.testing.assert_allclose(_open(path).t, _expected(ds), rtol=1e-6)


def test_chunks_hold_several_items_and_are_written_once(tmp_path, ds, toy, monkeypatch):
    monkeypatch.setattr(own_autoencoder_batches, "_CHUNK_BYTES", 2 * 3 * 4 * 6 * 2)
    encode_latents(ds, tmp_path / "a.zarr", "toy", batch=5)
    assert zarr.open_group(tmp_path / "a.zarr")["latent"].chunks == (2, 3, 4, 6)
    toy.clear()
    opened = _open(tmp_path / "a.zarr", chunks={})
    assert opened.t.chunks[0] == (4, 2)
    opened.t.isel(time=2).load()
    np.testing.assert_allclose(opened.t, _expected(ds), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bounds": {"t": "0.5 K"}}, InvalidConfigError, r"no bound \(t\).*floating point.*to_zarr"),
        ({"batch": 0}, InvalidConfigError, "batch"),
        ({"device": "abacus"}, InvalidConfigError, "abacus"),
        ({"variables": ["t", "v"]}, VariableNotFoundError, "'v'"),
        ({"variables": ["t", "t"]}, InvalidConfigError, "twice"),
        ({"variables": ["flag"]}, UnsupportedDtypeError, "flag: .*int16"),
        ({"variables": ["t", "height"]}, InvalidConfigError, "height"),
        ({"time_dim": "step"}, InvalidConfigError, "step"),
        ({"time_dim": "level"}, InvalidConfigError, "the data have 6"),
        ({"variables": ["t"]}, InvalidConfigError, "3 channels, the data have 2"),
    ],
)
def test_what_cannot_be_meant(tmp_path, ds, toy, options, error, words):
    with pytest.raises(error, match=words):
        encode_latents(ds, tmp_path / "a.zarr", "toy", **options)
    assert not (tmp_path / "a.zarr").exists()


def test_data_that_cannot_be_encoded(tmp_path, ds, toy):
    where = tmp_path / "a.zarr"
    with pytest.raises(InvalidConfigError, match="rows and columns"):
        encode_latents(ds[["flag"]], where, "toy")
    with pytest.raises(InvalidConfigError, match="nothing to encode"):
        encode_latents(ds.isel(time=slice(0, 0)), where, "toy")
    with pytest.raises(InvalidConfigError, match="rename"):
        encode_latents(ds.assign(latent=ds.flag), where, "toy")
    with pytest.raises(InvalidConfigError, match="time_dim"):
        encode_latents(ds.rename(time="month").drop_vars("month"), where, "toy")
    with pytest.raises(InvalidConfigError, match=r"u: rows and columns are \('lat', 'lon'\)"):
        encode_latents(ds.assign(u=ds.u.isel(lat=slice(4)).rename(lat="south")), where, "toy")
    with pytest.raises(InvalidConfigError, match="t: values are infinite"):
        encode_latents(ds.assign(t=ds.t.where(ds.lat < 60, np.inf)), where, "toy", overwrite=True)
    register_autoencoder(**made.continuous(scaling=None))
    with pytest.raises(InvalidConfigError, match="t: scaled values do not fit float32"):
        encode_latents(ds.assign(t=ds.t.astype("f8") * 1e300), where, "toy", overwrite=True)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"encoder": lambda x: x}, "'toy': downscale"),
        ({"encoder": lambda x: made.blocks(x) * np.nan}, "'toy': .*not finite"),
        ({"encoder": lambda x: made.blocks(x) * 1e6}, "'toy': .*int32"),
        ({"decoder": lambda z: z}, "'toy': the decoder"),
        ({"decoder": lambda z: made.spread(z) * np.nan}, "'toy': the decoder gave values that are not finite"),
    ],
)
def test_autoencoders_that_do_not_work(tmp_path, ds, toy, parts, words):
    register_autoencoder(**made.continuous() | parts)
    with pytest.raises(InvalidConfigError, match=words):
        encode_latents(ds, tmp_path / "a.zarr", "toy")


# ------------------------------------------------------------------------------------------------------------- missing
@pytest.mark.parametrize("case", ["static", "moving", "late", "first", "none"])
def test_missing_values_stay_where_they_are(tmp_path, ds, toy, case):
    land = (ds.lon > 200) & (ds.lat > 0)
    step = xr.DataArray(np.arange(6), dims="time")
    holes = {"static": land, "moving": land & (ds.lon > 30 * (step + 5)), "late": land & (step == 4), "first": land & (step == 0)}
    masked = ds if case == "none" else ds.assign(t=ds.t.where(~holes[case]), u=ds.u.where(~holes[case] | (ds.lon > 280)))
    encode_latents(masked, tmp_path / "a.zarr", "toy", batch=2)
    group = zarr.open_group(tmp_path / "a.zarr")
    assert ("latent_missing" in group) == (case != "none")
    assert ("latent_missing_first" in group) == (case in ("static", "moving", "first"))
    if case == "static":
        assert group["latent_missing"].nchunks_initialized == 0  # the mask is stored once
    opened = _open(tmp_path / "a.zarr", chunks={})
    for name in ("t", "u"):
        np.testing.assert_array_equal(np.isnan(opened[name].values), np.isnan(masked[name].values))
    selection = {"time": [4, 0], "lat": slice(6, 2, -1), "lon": [11, 3]}
    np.testing.assert_array_equal(opened.t.isel(selection).isnull(), masked.t.isel(selection).isnull())
    assert list(_open(tmp_path / "a.zarr", decode=False).data_vars) == ["latent"]


# -------------------------------------------------------------------------------------------------- kinds of latents
def _signs(values):
    """Two latents for each channel and block: is the mean above 0, and above its neighbour's on the left."""
    means = made.blocks(values)
    return np.concatenate([means, means - np.roll(means, 1, axis=3)], axis=1)


@pytest.mark.parametrize("packed", [True, False])
def test_binary_latents(tmp_path, ds, packed):
    description = LatentDescription("binary", packed=packed)
    given = []
    register_autoencoder(
        "signs",
        encoder=_signs,
        decoder=lambda z: given.append(z) or made.spread(z[:, :3]),
        latent=description,
        scaling=made.SCALING,
    )
    encode_latents(ds, tmp_path / "a.zarr", "signs")
    assert set(np.unique(given[0])) == {-1, 1}
    plain = xr.open_zarr(tmp_path / "a.zarr").latent
    assert (plain.dims[1], plain.shape[1], plain.dtype) == (
        ("latent_byte", 1, "uint8") if packed else ("latent_channel", 6, "int8")
    )
    latents = _open(tmp_path / "a.zarr", decode=False).latent
    assert (latents.dims, latents.shape) == (("time", "latent_channel", "latent_y", "latent_x"), (6, 6, 4, 6))
    np.testing.assert_array_equal(latents, given[0])
    picked = {"time": [3, 1], "latent_channel": [5, 0, 2], "latent_x": slice(None, None, 2)}
    np.testing.assert_array_equal(latents.isel(picked), given[0][[3, 1]][:, [5, 0, 2], :, ::2])
    np.testing.assert_array_equal(_open(tmp_path / "a.zarr", decode=False, chunks={}).latent[2, 4], given[0][2, 4])
    assert latents.isel(time=[], latent_y=slice(None, None, -1)).values.shape == (0, 6, 4, 6)
    np.testing.assert_array_equal(latents.isel(latent_y=slice(None, None, -1)), given[0][:, :, ::-1])
    np.testing.assert_array_equal(np.sign(_open(tmp_path / "a.zarr").u), made.spread(given[0][:, 2:3])[:, 0])
    unregister_autoencoder("signs")


@pytest.mark.parametrize("axis", [True, False])
def test_integer_latents(tmp_path, ds, axis):
    book = np.linspace(-3, 3, 64)
    given = []

    def encode(values):
        codes = np.abs(made.blocks(values[:, :1])[..., None] - book).argmin(axis=-1)
        return codes if axis else codes[:, 0]

    def decode(codes):
        given.append(codes.dtype)
        return made.spread(book[codes if axis else codes[:, None]])

    register_autoencoder("codes", encoder=encode, decoder=decode, latent=LatentDescription("integer", dtype="int8"))
    wind = ds[["u"]] / 4
    report = encode_latents(wind, tmp_path / "a.zarr", "codes")
    assert report["u"][0].max_abs < 0.6
    assert given[0] == np.int64
    plain = xr.open_zarr(tmp_path / "a.zarr").latent
    assert plain.dims == ("time", *(["latent_channel"] if axis else []), "latent_y", "latent_x")
    np.testing.assert_allclose(_open(tmp_path / "a.zarr").u, wind.u, atol=0.6)
    unregister_autoencoder("codes")


def test_vectors(tmp_path, ds, toy):
    register_autoencoder(
        **made.continuous()
        | {
            "encoder": lambda x: made.blocks(x).reshape(len(x), -1),
            "decoder": lambda z: made.spread(z.reshape(len(z), 3, 4, 6)),
            "latent": LatentDescription("continuous", step=made.STEP, shape=lambda rows, columns: (3 * rows * columns // 4,)),
        }
    )
    encode_latents(ds, tmp_path / "a.zarr", "toy")
    assert xr.open_zarr(tmp_path / "a.zarr").latent.dims == ("time", "latent_channel")
    np.testing.assert_allclose(_open(tmp_path / "a.zarr").t, _expected(ds), rtol=1e-6)


# ------------------------------------------------------------------------------------------------- weights and damage
def test_weights_travel_with_the_store(tmp_path, ds, toy):
    encode_latents(ds, tmp_path / "a.zarr", "toy", embed=True)
    blob = latentzarr.autoencoder_weights(tmp_path / "a.zarr")
    unregister_autoencoder("toy")
    register_autoencoder(**made.continuous(weights=blob))
    np.testing.assert_allclose(_open(tmp_path / "a.zarr").t, _expected(ds), rtol=1e-6)
    assert set(xr.open_datatree(tmp_path / "a.zarr", engine="latentzarr").groups) == {"/"}
    array = next(zarr.open_group(tmp_path / "a.zarr")[".latentzarr/autoencoders"].array_values())
    array[-1:] = array[-1:] ^ 1
    with pytest.raises(ModelMismatchError, match="digest"):
        latentzarr.autoencoder_weights(tmp_path / "a.zarr")


def test_stores_without_weights(tmp_path, ds, store):
    with pytest.raises(ModelNotFoundError, match="does not carry them"):
        latentzarr.autoencoder_weights(store)
    ds[["u"]].drop_vars("run").to_zarr(tmp_path / "b.zarr")
    with pytest.raises(StoreError, match="no store of latents"):
        latentzarr.autoencoder_weights(tmp_path / "b.zarr")
    register_autoencoder(**made.continuous(weights=None))
    with pytest.raises(InvalidConfigError, match="without weights"):
        encode_latents(ds, tmp_path / "c.zarr", "toy", embed=True)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda r: r | {"version": 99}, NewerVersionError),
        (lambda r: r | {"sizes": r["sizes"] | {"lat": 10}}, InvalidConfigError),
        (lambda r: r | {"mean": [1.0]}, InvalidConfigError),
        (lambda r: r | {"latents": r["latents"] | {"item": [-1, 4, 6]}}, InvalidConfigError),
        (lambda r: r | {"latents": r["latents"] | {"item": [3, 4, 7]}}, InvalidConfigError),
        (lambda r: r | {"batch": 0}, InvalidConfigError),
        (lambda r: r | {"variables": [r["variables"][0] | {"dtype": "O"}]}, InvalidConfigError),
        (lambda r: r | {"variables": [r["variables"][0] | {"levels": []}]}, InvalidConfigError),
        (lambda r: {"version": 1}, InvalidConfigError),
        (lambda r: [], InvalidConfigError),
    ],
)
def test_records_are_not_trusted(store, damage, error):
    group = zarr.open_group(store, use_consolidated=False)
    group.attrs[ATTRIBUTE] = json.dumps(damage(json.loads(group.attrs[ATTRIBUTE])))
    with pytest.raises(error, match=ATTRIBUTE + "|its record says"):
        _open(store, consolidated=False)
