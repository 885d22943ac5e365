"""Efforts, exact zeros and models of earlier versions, from the words of a user to the bytes of a store and back."""

import json

import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner
from zarr.storage import MemoryStore

import latentzarr
from latentzarr import CodecConfig, ErrorBound, LatentCodec
from latentzarr.bitstream.frame import Mode, read_header
from latentzarr.bounds import BoundKind, violations
from latentzarr.cli import app
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import Effort
from latentzarr.dataset.example import example_dataset
from latentzarr.dataset.inspect import inspect
from latentzarr.dataset.leave import decode_store
from latentzarr.dataset.plan import plan
from latentzarr.dataset.provenance import lossy_record
from latentzarr.dataset.report import Report
from latentzarr.dataset.verify import verify
from latentzarr.dataset.write import to_zarr
from latentzarr.errors import InvalidConfigError, ModelError
from latentzarr.models.store import known_shipped, shipped_model

each_effort = pytest.mark.parametrize("effort", Effort)


@pytest.fixture(scope="module")
def weather():
    return example_dataset(2, 40, 48)


@pytest.fixture(scope="module")
def rain():
    """Rain that falls here and there, in amounts and in counts."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:48, 0:60] / 12.0
    falls = np.stack([np.sin(y + t) * np.cos(x - t) for t in range(3)]) + rng.normal(0, 0.02, (3, 48, 60))
    amounts = np.where(falls > 0.2, 8 * falls, 0.0).astype("f4")
    amounts[falls > 0.9] = np.nan
    counts = np.where(falls > 0.2, 400 * falls, 0).astype("i2")
    dims = ("time", "y", "x")
    return xr.Dataset({"amount": (dims, amounts, {"units": "mm"}), "count": (dims, counts)})


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


# ------------------------------------------------------------------------------------------------------------- efforts
@each_effort
def test_an_effort_reaches_the_codec_of_every_variable(weather, tmp_path, effort):
    report = to_zarr(weather, tmp_path / "w.zarr", {"t": 0.1, "cloud": "lossless"}, effort=str(effort))
    assert report.ok
    for name in ("t", "cloud"):
        config = zarr.open_array(tmp_path / "w.zarr" / name, mode="r").serializer.config
        assert config.effort is effort
        assert config.model == shipped_model(effort)
    written = json.loads((tmp_path / "w.zarr/t/zarr.json").read_text())
    assert written["codecs"][0]["configuration"].get("effort", "normal") == effort
    assert verify(weather, tmp_path / "w.zarr").ok


@each_effort
def test_a_plan_has_the_effort_and_is_carried_out_with_it(weather, tmp_path, effort):
    made = plan(weather, {"t": 0.1}, effort=effort, trial_chunks=1)
    assert made.effort is effort
    assert made.model == shipped_model(effort)
    assert json.loads(made.to_json())["effort"] == effort
    to_zarr(weather, tmp_path / "w.zarr", plan=made)
    assert zarr.open_array(tmp_path / "w.zarr/t", mode="r").serializer.config.effort is effort
    with pytest.raises(InvalidConfigError, match="effort"):
        to_zarr(weather, tmp_path / "x.zarr", plan=made, effort="max")


@pytest.mark.parametrize("call", [plan, lambda ds, bounds, effort: to_zarr(ds, MemoryStore(), bounds, effort=effort)])
def test_an_unknown_effort_is_refused(weather, call):
    with pytest.raises(InvalidConfigError, match=r"fast, normal, max, got 'heroic'"):
        call(weather, {"t": 0.1}, effort="heroic")


def test_the_command_line_takes_an_effort(weather, tmp_path):
    weather.to_netcdf(tmp_path / "in.nc")
    told = run("plan", tmp_path / "in.nc", "-b", "t=0.1", "--effort", "fast", "--trial-chunks", 1, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["effort"] == "fast"
    told = run("encode", tmp_path / "in.nc", tmp_path / "w.zarr", "-b", "t=0.1", "--effort", "max")
    assert told.exit_code == 0, told.output
    assert zarr.open_array(tmp_path / "w.zarr/t", mode="r").serializer.config.effort is Effort.MAX
    for words in (["plan", tmp_path / "in.nc"], ["encode", tmp_path / "in.nc", tmp_path / "x.zarr"]):
        told = run(*words, "-b", "t=0.1", "--effort", "heroic")
        assert told.exit_code == 2
        assert "fast, normal, max" in told.stderr
    assert not (tmp_path / "x.zarr").exists()


def test_appended_chunks_keep_the_effort(weather):
    store = MemoryStore()
    to_zarr(weather, store, {"t": 0.1}, effort="fast", chunks={"time": 1})
    later = weather.assign_coords(time=weather.time + np.timedelta64(9, "D"))
    later.drop_encoding().to_zarr(store, append_dim="time", consolidated=False)
    array = zarr.open_array(store, path="t", mode="r")
    assert array.shape[0] == 4
    assert array.serializer.config.effort is Effort.FAST
    assert np.abs(array[2:] - weather.t.values).max() <= 0.1
    models = inspect(store)["t"].models
    assert all(shipped_model("fast").digest.removeprefix("sha256:").startswith(m) for m in models)


def test_the_most_effort_is_never_larger_on_the_same_model(weather):
    """All that is tried with less effort is tried with more; what is kept is the smallest by estimate."""
    model = latentzarr.default_model()
    for values, bound in [
        (weather.t.values, ErrorBound.absolute(0.1)),
        (weather.q.values, ErrorBound.relative(0.02)),
        (weather.cloud.values, ErrorBound.lossless()),
        (weather.sst.values, ErrorBound.absolute(0.05).with_exact_zeros()),
    ]:
        sizes = {e: len(encode_chunk(values, CodecConfig(bound, model, effort=e))) for e in Effort}
        assert sizes[Effort.MAX] <= sizes[Effort.NORMAL] + 16
        assert sizes[Effort.MAX] <= sizes[Effort.FAST] + 16


def test_a_write_is_not_resumed_with_another_effort_or_other_zeros(weather, tmp_path):
    model = latentzarr.default_model()
    to_zarr(weather, tmp_path / "w.zarr", {"t": 0.1}, model=model)
    with pytest.raises(InvalidConfigError, match=r"t had effort normal and now has max"):
        to_zarr(weather, tmp_path / "w.zarr", {"t": 0.1}, model=model, effort="max", resume=True)
    with pytest.raises(InvalidConfigError, match=r"t had bound 0.1 absolute and now has 0.1 absolute, exact zeros"):
        to_zarr(weather, tmp_path / "w.zarr", {"t": "0.1, exact zeros"}, model=model, resume=True)


# --------------------------------------------------------------------------------------------------------- exact zeros
WET = {"amount": "0.1 mm, exact zeros", "count": "20, exact zeros"}


@each_effort
def test_zeros_stay_zeros_in_every_step(rain, tmp_path, effort):
    report = to_zarr(rain, tmp_path / "w.zarr", WET, effort=effort)
    stored = xr.open_zarr(tmp_path / "w.zarr")
    for name, value in (("amount", 0.1), ("count", 20.0)):
        bound = ErrorBound.absolute(value).with_exact_zeros()
        assert report[name].bound == bound
        assert report[name].statistics.violations == 0
        assert zarr.open_array(tmp_path / "w.zarr" / name, mode="r").serializer.bound == bound
        before, after = rain[name].values, stored[name].values
        assert (after[before == 0] == 0).all()
        assert not violations(before, after, bound).any()
        assert (before != after).any(), "nothing was lossy"
        assert stored[name].attrs["lossy_compression_zeros"] == "exact"
        assert lossy_record(stored[name].attrs).bound == bound
        assert f"{value:g} absolute, exact zeros" in str(report)
        assert inspect(tmp_path / "w.zarr")[name].bound == str(bound)
    assert Report.from_json(report.to_json())["amount"].bound.zeros
    assert Report.from_json(stored.attrs["latentzarr_report"])["count"].bound.zeros
    assert "exact zeros" in stored.attrs["history"]


def test_verification_finds_one_drop_where_it_was_dry(rain, tmp_path):
    to_zarr(rain, tmp_path / "w.zarr", WET)
    assert verify(rain, tmp_path / "w.zarr").ok
    for name, drop in (("amount", np.float32(0.01)), ("count", np.int16(1))):
        stored = xr.open_zarr(tmp_path / "w.zarr")[name].values
        changed = rain.copy(deep=True)
        changed[name].values[tuple(np.argwhere(stored == 0)[0])] = drop
        assert verify(changed, tmp_path / "w.zarr", variables=[name]).ok, "what was not 0 may become 0"
        rained = np.where(np.isfinite(stored), np.abs(stored), 0)
        least = np.unravel_index(np.where(rained > 0, rained, np.inf).argmin(), stored.shape)
        changed[name].values[least] = 0
        report = verify(changed, tmp_path / "w.zarr", variables=[name])
        assert report[name].statistics.violations == 1


def test_a_drop_below_the_bound_is_no_zero():
    """A value within the bound of 0 that was 0 is a violation, and without exact zeros it is none."""
    x, y = np.array([0.0, 0.0, -0.0, 1.0]), np.array([0.01, 0.0, 0.0, 1.05])
    assert violations(x, y, ErrorBound.absolute(0.1).with_exact_zeros()).tolist() == [True, False, False, False]
    assert not violations(x, y, ErrorBound.absolute(0.1)).any()


def test_a_decoded_copy_still_promises_zeros(rain, tmp_path):
    to_zarr(rain, tmp_path / "w.zarr", WET)
    decode_store(tmp_path / "w.zarr", tmp_path / "plain.zarr")
    report = verify(rain, tmp_path / "plain.zarr")
    assert report.ok
    assert report["amount"].bound.zeros
    assert report["count"].bound.zeros


def test_a_bound_relative_to_the_range_keeps_zeros_too(rain, tmp_path):
    report = to_zarr(rain, tmp_path / "w.zarr", {"amount": "1% of range, exact zeros"})
    assert report["amount"].bound.kind is BoundKind.ABSOLUTE
    assert report["amount"].bound.zeros
    assert report["amount"].words == "1 % of range, exact zeros"
    stored = xr.open_zarr(tmp_path / "w.zarr").amount.values
    assert (stored[rain.amount.values == 0] == 0).all()


def test_the_command_line_says_exact_zeros(rain, tmp_path):
    rain.to_netcdf(tmp_path / "in.nc")
    bounds = ["-b", "amount=0.1, exact zeros", "-b", "count=20, exact zeros"]
    told = run("plan", tmp_path / "in.nc", *bounds, "--trial-chunks", 1)
    assert told.exit_code == 0, told.output
    assert "0.1 absolute, exact zeros" in told.stdout
    assert run("encode", tmp_path / "in.nc", tmp_path / "w.zarr", *bounds).exit_code == 0
    told = run("inspect", tmp_path / "w.zarr")
    assert "0.1 absolute, exact zeros" in told.stdout
    assert "20 absolute, exact zeros" in told.stdout
    told = run("verify", tmp_path / "in.nc", tmp_path / "w.zarr")
    assert told.exit_code == 0, told.output
    assert "0.1 absolute, exact zeros" in told.stdout
    report = json.loads(run("verify", tmp_path / "in.nc", tmp_path / "w.zarr", "--json").stdout)
    assert {v["name"]: v["bound"]["zeros"] for v in report["variables"]} == {"amount": True, "count": True}


# ----------------------------------------------------------------------------------------------- what a frame remembers
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-3, 0.30000001192092896, 2.5, 1e30, 7e-46])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_bound_of_a_frame_is_not_above_the_one_given_and_holds(weather, dtype, value):
    values, bound = (weather.t.values - 280).astype(dtype), ErrorBound.absolute(value)
    frame = encode_chunk(values, CodecConfig(bound, effort=Effort.FAST))
    stored = read_header(frame).bound
    if stored.kind is BoundKind.LOSSLESS:
        assert value < 2**-149
    else:
        assert value * (1 - 2**-23) <= stored.value <= value
        assert stored.value == value or dtype != "f8"
    assert not violations(values, decode_chunk(frame), bound).any()


def test_a_store_coded_with_a_model_of_version_1_is_written_as_version_1(weather, tmp_path):
    digest = shipped_model("hierarchy-1").digest
    report = to_zarr(weather, tmp_path / "w.zarr", {"t": 0.1}, model=digest, effort="max")
    assert report.ok
    assert "raster" not in report["t"].modes
    array = zarr.open_array(tmp_path / "w.zarr/t", mode="r")
    assert array.serializer.config.model.digest == digest
    codec = LatentCodec(absolute=0.1, model=digest, effort="max")
    encoding = {"t": {"serializer": codec, "compressors": None, "chunks": (1, 40, 48)}}
    weather[["t"]].to_zarr(tmp_path / "x.zarr", encoding=encoding, consolidated=False)
    frames = [file.read_bytes() for file in (tmp_path / "x.zarr/t/c").rglob("*") if file.is_file()]
    assert len(frames) == 2
    for header in map(read_header, frames):
        assert header.version == 1
        assert header.mode is not Mode.RASTER
        assert header.bound == ErrorBound.absolute(0.1)
    assert inspect(tmp_path / "w.zarr")["t"].models == (digest.removeprefix("sha256:")[:16],)
    assert verify(weather, tmp_path / "w.zarr").ok
    with xr.open_dataset(tmp_path / "w.zarr", engine="latentzarr", scale=4) as small:
        np.testing.assert_array_equal(small.t.values, array[:, ::4, ::4])


def test_an_embedded_model_has_its_whole_digest():
    config = LatentCodec(absolute=1).to_dict()["configuration"]
    whole = config["model"]["digest"]
    for digest in ("", "sha256:", whole[:14], whole[:-1]):
        with pytest.raises(ModelError):
            CodecConfig.from_json({**config, "model": {**config["model"], "digest": digest}})
    assert known_shipped("sha256:") is None
    assert known_shipped(whole[:14]) is None
    assert known_shipped(whole[:15]).digest == whole
