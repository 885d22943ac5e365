"""The engine: options, chunks, groups, models that a store carries, and errors a user can act on."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from latentzarr import LatentCodec, default_model
from latentzarr.bounds import ErrorBound
from latentzarr.codec import runtime, zarr_codec
from latentzarr.codec.config import CodecConfig
from latentzarr.dataset.carried import carry_model, register_carried_models
from latentzarr.dataset.coded import Coded, coded_array, worthwhile_chunks
from latentzarr.dataset.engine import LatentzarrBackend
from latentzarr.dataset.provenance import CONTAINER, new_container
from latentzarr.errors import (
    CorruptFrameError,
    IncompleteStoreError,
    InvalidConfigError,
    ModelMismatchError,
    ModelNotFoundError,
    UntrustedModelError,
)
from latentzarr.models import store as model_store
from latentzarr.models.card import ModelCard
from latentzarr.models.weights import Model

BOUND = 0.05


def _dataset(steps=4, rows=48, columns=80):
    y, x = np.meshgrid(np.linspace(0, 3, rows), np.linspace(0, 5, columns), indexing="ij")
    noise = np.random.default_rng(3).normal(0, 0.2, (steps, rows, columns))
    field = (280 + 10 * np.sin(y) * np.cos(x) + noise).astype("f4")
    return xr.Dataset(
        {"t": (("time", "lat", "lon"), field, {"units": "K"})},
        coords={"time": np.arange(steps), "lat": np.linspace(-90, 90, rows), "lon": np.arange(columns) * 2.0},
    )


def _write(ds, path, group=None, **encoding):
    codec = encoding.pop("serializer", None) or LatentCodec(absolute=BOUND)
    each = {"serializer": codec, "compressors": None, "chunks": (2, 48, 40), **encoding}
    ds.to_zarr(path, group=group, encoding={"t": each}, mode="a" if group else "w")
    return str(path)


@pytest.fixture
def store(tmp_path):
    return _write(_dataset(), tmp_path / "a.zarr")


@pytest.fixture
def another_model():
    """The shipped weights under another name: another digest, which no machine knows."""
    shipped = default_model()
    card = json.loads(shipped.card.to_json())
    card["name"] = "another"
    made = Model.build(shipped.networks, shipped.tables, ModelCard.from_json(json.dumps(card)))
    yield made
    model_store._registered.pop(made.digest, None)


def _forget(model):
    model_store._registered.pop(model.digest, None)


def test_reads_what_plain_xarray_reads(store):
    plain = xr.open_zarr(store, chunks=None).load()
    for opened in (
        xr.open_dataset(store, engine="latentzarr"),
        xr.open_dataset(store, engine="latentzarr", chunks={}, device="cpu", threads=1),
        xr.open_dataset(store, engine="latentzarr", backend_kwargs={"device": "cpu", "threads": 2}),
    ):
        xr.testing.assert_identical(opened.load(), plain)
    assert float(abs(plain.t - _dataset().t).max()) <= BOUND


def test_selections_equal_those_of_plain_xarray(store):
    ours, plain = xr.open_dataset(store, engine="latentzarr"), xr.open_zarr(store, chunks=None)
    points = {"lat": xr.DataArray([0, 47, 3], dims="p"), "lon": xr.DataArray([79, 1, 40], dims="p")}
    for selection in ({"time": 1}, {"time": [3, 0], "lat": slice(5, 40, 7)}, {"lon": slice(None, None, -3)}, points):
        np.testing.assert_array_equal(ours.t.isel(selection).values, plain.t.isel(selection).values)


def test_opens_stores_that_are_not_ours(tmp_path):
    ds = _dataset()
    ds.to_zarr(tmp_path / "b.zarr", zarr_format=2)
    xr.testing.assert_identical(xr.open_dataset(tmp_path / "b.zarr", engine="latentzarr").load(), ds)


def test_many_files(tmp_path):
    ds = _dataset()
    parts = [_write(ds.isel(time=slice(i, i + 2)), tmp_path / f"{i}.zarr") for i in (0, 2)]
    whole = xr.open_mfdataset(parts, engine="latentzarr", combine="by_coords", threads=1)
    assert float(abs(whole.t - ds.t).max()) <= BOUND


def test_trees_and_groups(tmp_path, another_model):
    path = tmp_path / "tree.zarr"
    ds = _dataset()
    ds[["time"]].to_zarr(path)
    _write(ds, path, group="fine/er")
    carry_model(zarr.open_group(path), another_model)
    zarr.consolidate_metadata(path)
    tree = xr.open_datatree(path, engine="latentzarr", threads=1)
    assert set(tree.groups) == {"/", "/fine", "/fine/er"}
    assert float(abs(tree["fine/er/t"] - ds.t).max()) <= BOUND
    assert set(xr.open_groups(path, engine="latentzarr", group="fine")) == {".", "er"}
    thin = xr.open_datatree(path, engine="latentzarr", scale=4)
    assert thin["fine/er"].sizes == {"time": 4, "lat": 12, "lon": 20}
    one = xr.open_dataset(path, engine="latentzarr", group="fine/er")
    assert float(abs(one.t - ds.t).max()) <= BOUND


def test_any_zarr_store_object_opens():
    memory = zarr.storage.MemoryStore()
    _dataset().to_zarr(memory, encoding={"t": {"serializer": LatentCodec(absolute=BOUND), "compressors": None}})
    opened = xr.open_dataset(memory, engine="latentzarr", chunks={})
    assert float(abs(opened.t - _dataset().t).max()) <= BOUND


def test_loads_asynchronously(store):
    opened = xr.open_dataset(store, engine="latentzarr")
    asyncio.run(opened.load_async())
    xr.testing.assert_identical(opened, xr.open_zarr(store, chunks=None).load())


# ------------------------------------------------------------------------------------------------------------- options
def test_options_hold_while_a_codec_works_and_no_longer(store, monkeypatch):
    seen = []
    decode = zarr_codec.decode_chunk
    monkeypatch.setattr(
        zarr_codec, "decode_chunk", lambda *a, **k: seen.append(runtime.current_runtime().threads) or decode(*a, **k)
    )
    xr.open_dataset(store, engine="latentzarr", threads=3).load()
    xr.open_dataset(store, engine="latentzarr", threads=5, chunks={}).load(scheduler="threads")
    xr.open_dataset(store, engine="latentzarr").load()
    assert seen == [3] * 4 + [5] * 4 + [runtime.current_runtime().threads] * 4
    again = pickle.loads(pickle.dumps(xr.open_dataset(store, engine="latentzarr", threads=7)))
    again.load()
    assert seen[-4:] == [7] * 4


def test_latents_of_what_is_no_cube(store):
    for opener in (xr.open_dataset, xr.open_datatree):
        with pytest.raises(InvalidConfigError, match="shows the latents"):
            opener(store, engine="latentzarr", decode=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "abacus"}, "abacus"),
        ({"threads": -1}, "threads"),
        ({"scale": 3}, "1, 2, 4 or 8"),
        ({"scale": 0}, "1, 2, 4 or 8"),
        ({"scale": True}, "1, 2, 4 or 8"),
    ],
)
def test_options_that_cannot_be_meant(store, options, words):
    for opener in (xr.open_dataset, xr.open_datatree):
        with pytest.raises(InvalidConfigError, match=words):
            opener(store, engine="latentzarr", **options)


def test_unknown_options_are_a_type_error(store):
    with pytest.raises(TypeError, match="speed"):
        xr.open_dataset(store, engine="latentzarr", speed=11)


def test_options_change_the_dask_token(store):
    def name(**options):
        return xr.open_dataset(store, engine="latentzarr", chunks={}, **options).t.data.name

    assert name() == name()
    assert len({name(), name(threads=1), name(scale=2)}) == 3


def test_only_its_own_extensions_are_guessed(tmp_path, store):
    engine = LatentzarrBackend()
    assert not engine.guess_can_open(store)
    assert not engine.guess_can_open("https://somewhere/x.zarr")
    assert not engine.guess_can_open(object())
    assert engine.guess_can_open(tmp_path / "a.latentzarr")
    assert engine.guess_can_open("a.lz.zarr/")
    path = _write(_dataset(), tmp_path / "own.lz.zarr")
    xr.testing.assert_identical(xr.open_dataset(path).load(), xr.open_zarr(path, chunks=None).load())


# -------------------------------------------------------------------------------------------------------------- chunks
@pytest.mark.parametrize(
    ("shape", "chunk", "shard", "expected"),
    [
        ((64, 720, 1440), (8, 180, 180), (16, 720, 1440), (16, 720, 1440)),  # a shard of 63 MiB
        ((64, 720, 1440), (8, 180, 180), (64, 720, 1440), (16, 720, 1440)),  # 253 MiB: a part of it, tiling it
        ((64, 720, 1440), (1, 180, 180), None, (2, 720, 1440)),  # small chunks: two maps
        ((64, 720, 1440), (1, 720, 1440), None, (1, 720, 1440)),  # a map is enough
        ((3, 10), (1, 10), None, (3, 10)),
        ((2, 8192, 8192), (1, 8192, 8192), None, (1, 8192, 8192)),  # a chunk too large cannot be split
        ((0, 10), (1, 10), None, (1, 10)),
    ],
)
def test_chunks_worth_a_task(shape, chunk, shard, expected):
    coded = Coded(CodecConfig(ErrorBound.lossless()), chunk, shard, None, True)
    assert worthwhile_chunks(shape, 4, coded) == expected


def test_preferred_chunks_are_shards(tmp_path):
    path = _write(_dataset(), tmp_path / "s.zarr", chunks=(1, 24, 40), shards=(2, 48, 80))
    assert xr.open_zarr(path).t.chunks == ((1,) * 4, (24, 24), (40, 40))
    assert xr.open_dataset(path, engine="latentzarr", chunks={}).t.chunks == ((4,), (48,), (80,))
    coded = coded_array(zarr.open_array(f"{path}/t", mode="r"))
    assert (coded.chunk, coded.shard, coded.bare) == ((1, 24, 40), (2, 48, 80), True)


def test_bytes_are_not_bare_frames_behind_another_codec(tmp_path):
    path = _write(_dataset(), tmp_path / "z.zarr", compressors=zarr.codecs.ZstdCodec())
    assert not coded_array(zarr.open_array(f"{path}/t", mode="r")).bare


# -------------------------------------------------------------------------------------------------- models and errors
def test_a_carried_model_opens_the_store(tmp_path, another_model):
    path = _write(_dataset(), tmp_path / "m.zarr", serializer=LatentCodec(absolute=BOUND, model=another_model, embed=False))
    _forget(another_model)
    with pytest.raises(ModelNotFoundError, match=f"{another_model.digest}.*tried.*latentzarr models add"):
        xr.open_dataset(path, engine="latentzarr")
    with pytest.raises(ModelNotFoundError, match=another_model.digest):
        xr.open_dataset(path, engine="latentzarr", consolidated=False)
    with pytest.raises(ModelNotFoundError, match=another_model.digest):
        xr.open_datatree(path, engine="latentzarr")
    carry_model(zarr.open_group(path, use_consolidated=False), another_model)
    carry_model(zarr.open_group(path, use_consolidated=False), another_model)  # a second time changes nothing
    opened = xr.open_dataset(path, engine="latentzarr")
    assert float(abs(opened.t - _dataset().t).max()) <= BOUND


def test_a_carried_model_reaches_other_processes(tmp_path, another_model):
    codec = LatentCodec(absolute=BOUND, model=another_model, embed=False)
    path = _write(_dataset(), tmp_path / "m.zarr", serializer=codec, chunks=(2, 48, 40), shards=(4, 48, 80))
    carry_model(zarr.open_group(path, use_consolidated=False), another_model)
    opened = xr.open_dataset(path, engine="latentzarr", chunks={})[["t"]]
    code = "import pickle, sys; print(float(pickle.load(sys.stdin.buffer).t.sum().compute()))"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(opened), capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(float(opened.t.sum()))


@pytest.mark.parametrize("damage", ["bytes", "list", "missing", "shape"])
def test_carried_models_are_not_trusted(tmp_path, another_model, damage):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    carry_model(group, another_model)
    models = group[".latentzarr/models"]
    name = another_model.digest.removeprefix("sha256:")
    match damage:
        case "bytes":
            models[name][-1:] = models[name][-1:] ^ 1
        case "list":
            models.attrs["digests"] = {"no": "list"}
        case "missing":
            models.attrs["digests"] = ["sha256:" + "0" * 64]
        case "shape":
            del models[name]
            models.create_array(name, shape=(2, 2), dtype="f4")
    with pytest.raises((ModelMismatchError, UntrustedModelError), match="models"):
        register_carried_models(group)


def test_unfinished_stores_are_refused(store):
    zarr.open_group(store, use_consolidated=False).attrs[CONTAINER] = new_container(
        default_model().digest, complete=False
    ).to_text()
    for opener in (xr.open_dataset, xr.open_datatree):
        with pytest.raises(IncompleteStoreError, match="resume"):
            opener(store, engine="latentzarr", consolidated=False)


def test_a_damaged_chunk_names_its_variable(store):
    file = Path(store) / "t/c/0/0/1"
    data = bytearray(file.read_bytes())
    data[-7] ^= 4
    file.write_bytes(data)
    opened = xr.open_dataset(store, engine="latentzarr")
    with pytest.raises(CorruptFrameError, match="/t: checksum mismatch"):
        opened.t.load()
    np.testing.assert_array_equal(opened.t[2:].values, xr.open_zarr(store).t[2:].values)


def test_what_is_not_there_is_said_as_the_stock_engine_says_it(tmp_path):
    with pytest.raises(FileNotFoundError):
        xr.open_dataset(tmp_path / "none.zarr", engine="latentzarr")


def test_an_opened_store_takes_no_options(store):
    opened = xr.backends.ZarrStore.open_group(store)
    assert "t" in LatentzarrBackend().open_dataset(store, store=opened)
    with pytest.raises(InvalidConfigError, match="store="):
        LatentzarrBackend().open_dataset(store, store=opened, threads=1)
