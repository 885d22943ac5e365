"""Facts come from headers alone: right for plain and sharded arrays, clear for damaged ones, nothing decoded."""

import json

import numpy as np
import pytest
import xarray as xr
import zarr

import latentzarr
from latentzarr.codec import chunk
from latentzarr.dataset.inspect import chunk_facts, inspect
from latentzarr.dataset.write import to_zarr
from latentzarr.errors import FormatError, StoreError, VariableNotFoundError


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(4, 64, 64)), 1), 2).astype("f4") * 0.01
    flat = np.where(np.arange(4)[:, None, None] < 2, np.float32(7), smooth)
    ds = xr.Dataset({"s": (("t", "y", "x"), smooth), "f": (("t", "y", "x"), flat), "n": ("t", np.arange(4))})
    sizes = {"chunks": {"t": 2, "y": 32, "x": 32}, "shards": {"t": 2, "y": 64, "x": 64}}
    to_zarr(ds, tmp_path / "w.zarr", {"s": 0.1, "f": 0.1}, **sizes)
    return tmp_path / "w.zarr"


def test_facts_of_variables(store, monkeypatch):
    monkeypatch.setattr(chunk, "_decode", None)  # nothing may be decoded
    facts = inspect(store)
    assert facts["s"].bound == "0.1 absolute"
    assert sum(facts["s"].modes.values()) == 8
    assert facts["f"].modes["constant"] == 4
    assert facts["s"].chunk == (2, 32, 32)
    assert facts["s"].shard == (2, 64, 64)
    assert facts["s"].record.max_abs_error <= 0.1
    assert not facts["n"].coded
    assert 0 < facts["s"].stored < facts["s"].nbytes
    assert facts.container.complete
    assert "exact (zarr)" in str(facts)
    assert json.loads(facts.to_json())["variables"]
    with pytest.raises(VariableNotFoundError):
        facts["nope"]


def test_facts_of_chunks_are_those_of_the_frames(store):
    facts = list(chunk_facts(zarr.open_array(store / "f", mode="r")))
    assert [f.index for f in facts[:4]] == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    assert {f.mode for f in facts[:4]} == {"constant"}
    assert all(f.bound == "0.1 absolute" for f in facts)
    assert not list(chunk_facts(zarr.open_array(store / "n", mode="r")))


def test_arrays_without_shards_and_chunks_never_written(tmp_path):
    array = zarr.create_array(
        tmp_path / "w.zarr", name="x", shape=(4, 40), chunks=(2, 40), dtype="f4", fill_value=np.nan,
        serializer=latentzarr.LatentCodec(absolute=0.1), compressors=None,
    )  # fmt: skip
    array[:2] = 3
    zarr.open_group(tmp_path / "w.zarr", mode="a")
    assert [f.mode for f in chunk_facts(array)] == ["constant", "empty"]
    assert inspect(tmp_path / "w.zarr")["x"].modes == {"constant": 1, "empty": 1}


def test_damage_is_named_with_its_place(store):
    shard = store / "s" / "c" / "0" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(b"XX" + whole[2:])
    with pytest.raises(FormatError, match=r"s/c/0/0/0, chunk \(0, 0, 0\)"):
        inspect(store)
    shard.write_bytes(whole[:-7])
    with pytest.raises(FormatError, match="index"):
        inspect(store)


def test_nothing_there(tmp_path):
    with pytest.raises(StoreError, match=r"none\.zarr"):
        inspect(tmp_path / "none.zarr")
