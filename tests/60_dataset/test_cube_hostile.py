"""Cubes that are damaged, cut off or forged: an error of ours that says what to do, never a crash, a hang or gigabytes."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import numpy as np
import pytest
import xarray as xr
import zarr

import latentzarr
from latentzarr.cube.bundle import pack_bundle, read_bundle
from latentzarr.dataset import cube_blocks
from latentzarr.dataset.cube_header import CUBE, CubeHeader, header_of
from latentzarr.dataset.cube_layout import read_bundle_at
from latentzarr.errors import FormatError, IncompleteStoreError, LatentzarrError, StoreError
from made_coupled import coupled

PLACE = ".latentzarr/cube/"
BOUNDS = {"u": 0.2, "sst": 0.1}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "c.zarr"
    assert latentzarr.to_cube(coupled(times=4)[list(BOUNDS)], path, BOUNDS, block=4).ok
    return path


@pytest.fixture
def store(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "c.zarr")


def load(path):
    """Everything, in at most 100 MB."""
    tracemalloc.start()
    try:
        return xr.open_dataset(path, engine="latentzarr").load()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6


def attributes(path):
    return json.loads((path / "zarr.json").read_text())


def forge(path, header):
    """Put another header into the store, where consolidated metadata are, too."""
    document = attributes(path)
    document["attributes"][CUBE] = header if isinstance(header, str) else json.dumps(header)
    (path / "zarr.json").write_text(json.dumps(document))


def header_json(path):
    return json.loads(attributes(path)["attributes"][CUBE])


# ---------------------------------------------------------------------------------------------------------------- header
WRONG = [None, "", "x", -1, 0, 2**70, 1e300, float("nan"), [], [1], {}, [[0, 1]], True]


def test_headers_of_any_kind_are_read_or_refused(sound):
    data = header_json(sound)
    assert CubeHeader.from_text(json.dumps(data)).to_text() == json.dumps(data)
    for name in data:
        with pytest.raises(StoreError):
            CubeHeader.from_text(json.dumps({k: v for k, v in data.items() if k != name}))
    refused = 0
    for holder in (lambda d: d, lambda d: d["variables"][0], lambda d: d["variables"][1]["bounds"][0]):
        for name in holder(data):
            for wrong in WRONG:
                forged = json.loads(json.dumps(data))
                holder(forged)[name] = wrong
                try:
                    header = CubeHeader.from_text(json.dumps(forged))
                except StoreError:
                    refused += 1
                    continue
                assert header.channels < 2**15
                assert header.times >= 1
    assert refused > 150


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"x"', "[" * 100_000, "{}", '{"version": 99}'])
def test_texts_that_are_no_header(text):
    with pytest.raises(StoreError, match="install a newer" if "99" in text else "header"):
        CubeHeader.from_text(text)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**39, 2**39], "tile": [24, 32]},
        {"blocks": [[64, 2**39]]},
        {"tile": [1, 1]},
        {"model": "sha256:" + "0" * 64},
        {"time_stride": 32},
        {"rows": "level"},
        {"time": ""},
    ],
)
def test_headers_that_fit_nothing_else(store, change):
    data = header_json(store) | change
    forge(store, data)
    if change == {"time_stride": 32}:  # another order: what was looked at is not there, or other values
        try:
            load(store)
        except LatentzarrError:
            return
        return
    with pytest.raises(LatentzarrError):
        load(store)


def test_channels_without_end(store):
    data = header_json(store)
    data["variables"][0]["channel_shape"] = [2**39]
    forge(store, data)
    with pytest.raises(StoreError, match="channels"):
        load(store)


def test_names_that_lead_elsewhere(store):
    for name in ("..", "../../models", "a/b", "__x", "zarr.json", "."):
        data = header_json(store)
        data["variables"][0]["refinement"] = name
        forge(store, data)
        with pytest.raises(StoreError):
            load(store)


# ----------------------------------------------------------------------------------------------------------------- parts
def test_every_byte_of_a_bundle(store):
    """Flipped in the store, before its codec sees it, and behind it."""
    group = zarr.open_group(store, mode="r+")
    header = header_of(group.attrs.asdict())
    array = group[PLACE + "refinement/sst"]
    good = read_bundle_at(array, 0, (0, 0), 1)
    packed = np.frombuffer(pack_bundle(good), np.uint8)
    rng = np.random.default_rng(0)
    for at in range(0, len(packed), max(1, len(packed) // 40)):
        bad = packed.copy()
        bad[at] ^= rng.integers(1, 256)
        with pytest.raises(FormatError):
            read_bundle(bad.tobytes(), 1)
        array[0, 0, 0, : len(bad)] = bad
        with pytest.raises(FormatError, match="sst, time 0"):
            read_bundle_at(zarr.open_group(store, mode="r")[PLACE + "refinement/sst"], 0, (0, 0), 1)
    assert header.times == 4
    with pytest.raises(FormatError, match="sst"):
        load(store)


def test_every_byte_of_a_shard(store):
    file = store / PLACE / "refinement/sst/c/0/0/0/0"
    good = file.read_bytes()
    whole = load(store)
    rng = np.random.default_rng(0)
    places = {*range(0, len(good), len(good) // 12), *range(len(good) - 20, len(good), 3)}
    for at in sorted(places):
        for bad in (good[:at], good[:at] + bytes([good[at] ^ int(rng.integers(1, 256))]) + good[at + 1 :]):
            file.write_bytes(bad)
            try:
                found = load(store)
            except LatentzarrError:
                continue
            assert found.sst.equals(whole.sst), "padding, or the checksum of nothing"


def test_a_field_under_a_right_checksum(store):
    """Whoever forges checksums gets errors, or values of the right shape."""
    array = zarr.open_group(store, mode="r+")[PLACE + "refinement/sst"]
    (good,) = read_bundle_at(array, 0, (0, 0), 1)
    rng, refused = np.random.default_rng(1), []
    for at in range(0, len(good), max(1, len(good) // 15)):
        bad = bytearray(good)
        bad[at] ^= int(rng.integers(1, 256))
        packed = np.frombuffer(pack_bundle([bytes(bad)]), np.uint8)
        array[0, 0, 0, : len(packed)] = packed
        try:
            assert load(store).sst.shape == (4, 24, 32)
        except LatentzarrError as error:
            refused.append(str(error))
    assert all("sst" in text for text in refused)


@pytest.mark.parametrize("part", ["references", "statics", "masks", "refinement/u", "refinement/sst"])
def test_parts_that_are_missing_or_other_than_they_should_be(store, part):
    group = zarr.open_group(store, mode="r+")
    if part == "masks" and PLACE + part not in group:
        pytest.skip("no mask")
    shape = group[PLACE + part].shape
    chunks = tuple(min(n, 64) for n in shape)

    def remake(**options):
        made = group.create_array(PLACE + part, overwrite=True, **options)
        zarr.consolidate_metadata(store)
        return made

    remake(shape=shape, chunks=chunks, dtype="f4")
    with pytest.raises(LatentzarrError):
        load(store)
    remake(shape=(3,), dtype="u1")
    with pytest.raises(LatentzarrError):
        load(store)
    remake(shape=tuple(2**36 for _ in shape), chunks=chunks, dtype="u1")
    with pytest.raises(LatentzarrError):
        load(store)
    array = remake(shape=shape, chunks=chunks, dtype="u1")
    if part != "masks":  # any bytes are a mask
        array[:] = np.random.default_rng(0).integers(0, 256, shape).astype("u1")
        with pytest.raises(LatentzarrError):
            load(store)
    shutil.rmtree(store / PLACE / part)
    zarr.consolidate_metadata(store)
    with pytest.raises(LatentzarrError, match="missing"):
        load(store)


def test_chunks_that_were_lost(store):
    shutil.rmtree(store / PLACE / "refinement/u/c")
    with pytest.raises(FormatError, match=r"u.*never written"):
        load(store)
    assert xr.open_dataset(store, engine="latentzarr").sst.isel(time=slice(0)).size == 0


# ------------------------------------------------------------------------------------------------------------ incomplete
@pytest.mark.parametrize("group", ["", "part"])
def test_a_write_that_was_cut_off_is_refused_and_says_what_to_do(tmp_path, monkeypatch, group):
    ds, path = coupled(times=12)[["u"]], tmp_path / "cut.zarr"
    real, calls = cube_blocks.write_bundles, []

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(cube_blocks, "write_bundles", cut)
    with pytest.raises(KeyboardInterrupt):
        latentzarr.to_cube(ds, path, {"u": 0.2}, block=4, group=group)
    for opening in (xr.open_dataset, xr.open_datatree):
        with pytest.raises(IncompleteStoreError, match=r"to_cube\(\.\.\., overwrite=True\)"):
            opening(path, engine="latentzarr", group=group or None)
    monkeypatch.setattr(cube_blocks, "write_bundles", real)
    assert latentzarr.to_cube(ds, path, {"u": 0.2}, block=4, group=group, overwrite=True).ok
    assert abs(xr.open_dataset(path, engine="latentzarr", group=group or None).u - ds.u).max() <= 0.2


def test_a_full_disk_says_what_to_do(tmp_path, monkeypatch):
    import errno

    def full(*arguments):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(cube_blocks, "write_bundles", full)
    with pytest.raises(latentzarr.errors.StoreWriteError, match=r"make room and write again with resume=True"):
        latentzarr.to_cube(coupled(times=4)[["u"]], tmp_path / "f.zarr", {"u": 0.2}, block=4)
