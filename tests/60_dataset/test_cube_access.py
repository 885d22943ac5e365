"""What reading a part of a cube costs: bundles touched, bytes, fields decoded, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore, WrapperStore

import latentzarr
from latentzarr.cube import block as block_module
from latentzarr.cube.table import read_table
from latentzarr.dataset import cube_reader
from latentzarr.dataset.cube_engine import CubeArray
from latentzarr.dataset.cube_header import header_of
from made_coupled import BOUNDS, coupled

PLACE = ".latentzarr/cube/refinement/"


class Counting(WrapperStore):
    """A store that remembers what was read of each key."""

    def __init__(self, store):
        super().__init__(store)
        self.bytes, self.gets = Counter(), Counter()

    def _with_store(self, store):
        return self

    async def get(self, key, prototype, byte_range=None):
        found = await self._store.get(key, prototype, byte_range)
        if found is not None:
            self.gets[key] += 1
            self.bytes[key] += len(found)
        return found

    async def get_partial_values(self, prototype, key_ranges):
        return [await self.get(key, prototype, where) for key, where in key_ranges]

    def touched(self):
        """By variable, bytes read of its refinement."""
        found = Counter()
        for key, n in self.bytes.items():
            if key.startswith(PLACE) and not key.endswith("zarr.json"):
                found[key.removeprefix(PLACE).split("/")[0]] += n
        return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("access") / "c.zarr"
    ds = coupled(times=16, levels=3, rows=48, columns=64)
    assert latentzarr.to_cube(ds, path, BOUNDS, block=8).ok
    return path, ds


@pytest.fixture
def counting(written):
    store = Counting(LocalStore(written[0], read_only=True))
    ds = xr.open_dataset(store, engine="latentzarr")
    store.bytes.clear()
    store.gets.clear()
    return store, ds


@pytest.fixture
def decoded(monkeypatch):
    """Every field that is decoded, by the length of its bytes."""
    fields = []
    real = block_module.decode_field
    monkeypatch.setattr(block_module, "decode_field", lambda data, *a: fields.append(data) or real(data, *a))
    return fields


def block_bytes(path):
    """Bytes of the bundles of each variable in the second block."""
    group = zarr.open_group(path, mode="r")
    header = header_of(group.attrs.asdict())
    reader = cube_reader.CubeReader(group)
    found = Counter()
    for v in header.variables:
        for t in range(8, 16):
            found[v.name] += sum(map(len, cube_reader.read_bundle_at(reader._refinement(v), t, (0, 0), v.channels)))
    return found


def test_opening_reads_no_refinement(counting):
    assert not counting[0].touched()


@pytest.mark.parametrize("name", BOUNDS)
def test_one_variable_at_one_time_reads_a_part_of_its_block(written, name):
    path, ds = written
    whole = block_bytes(path)
    for t in range(8, 16):
        store = Counting(LocalStore(path, read_only=True))
        lazy = xr.open_dataset(store, engine="latentzarr")
        store.bytes.clear()
        assert lazy[name].isel(time=t).shape == ds[name].isel(time=t).shape
        lazy[name].isel(time=t).load()
        keys = {key for key in store.bytes if key.startswith(PLACE) and not key.endswith("zarr.json")}
        assert f"{PLACE}{name}/c/1/0/0/0" in keys
        assert all(key.endswith("/c/1/0/0/0") for key in keys), "another block"
        index = 16 * 8 + 4  # of each shard
        # the share that is asked for, 0.35, is kept by estimates
        assert sum(store.touched().values()) - index * len(keys) < 0.35 * sum(whole.values())


def test_levels_of_one_time_decode_each_field_once(counting, decoded):
    _, ds = counting
    for level in range(3):
        assert ds.t.isel(time=9, level=level).values.shape == (48, 64)
    assert len(decoded) == len(set(map(id, decoded))) <= len({bytes(d) for d in decoded}) + 3
    before = len(decoded)
    assert ds.t.isel(time=9).values.shape == (3, 48, 64)
    assert len(decoded) == before, "all of it is held"


def test_the_cache_has_a_limit(written, decoded):
    field = 48 * 64 * 9  # values, nominal lattice, activity
    for limit, again in ((0, True), (3 * field, False)):
        ds = xr.open_dataset(written[0], engine="latentzarr", cache_bytes=limit)
        for t in range(3):
            assert ds.u.isel(time=t, level=0).values.size
        before = len(decoded)
        assert ds.u.isel(time=2, level=0).values.size
        assert (len(decoded) > before) == again
    cache = cube_reader.FieldCache(3 * field)
    one = cube_reader.DecodedField(np.zeros((48, 64), "f4"), np.zeros((48, 64), "i4"), np.zeros((48, 64), "u1"))
    for i in range(9):
        cache.add(i, (0, 0), {(0, 0): one})
        assert cache.held <= 3 * field
        assert cache.some(i, (0, 0), [(0, 0)])
    assert not cache.some(0, (0, 0), [(0, 0)])
    cache.add(8, (0, 0), {(0, 0): one})
    assert cache.held == 3 * field, "nothing is counted twice"


def test_static_fields_and_masks_are_read_for_the_tile(tmp_path):
    ds = coupled(times=16, rows=48, columns=64)[["sst", "u"]]
    ds["u"] = ds.u.mean("time") * 8 + 0.1 * ds.u  # mostly static
    latentzarr.to_cube(ds, tmp_path / "t.zarr", {"u": 0.1, "sst": 0.05}, tile=(16, 16))
    store = Counting(LocalStore(tmp_path / "t.zarr", read_only=True))
    lazy = xr.open_dataset(store, engine="latentzarr")
    assert abs(lazy.sst[3, 20, 40] - ds.sst[3, 20, 40]).fillna(0) <= 0.05
    masks = [key for key in store.bytes if "/masks/c/" in key]
    assert len(masks) == 1
    assert masks[0].endswith("/1/2")
    assert abs(lazy - ds).max().to_array().max() <= 0.1


HUGE = """
import json, resource, sys, tracemalloc
import xarray as xr
from zarr.storage import LocalStore
sys.path.insert(0, sys.argv[3])
from test_cube_access import Counting
float(xr.open_dataset(sys.argv[1], engine="latentzarr").u[0, 0, 0, 0])
store = Counting(LocalStore(sys.argv[2], read_only=True))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tracemalloc.start()
ds = xr.open_dataset(store, engine="latentzarr")
value = float(ds.u[365 * 8 + 3, 2, 7010, 9020])
peak = tracemalloc.get_traced_memory()[1]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
again = float(xr.open_dataset(sys.argv[1], engine="latentzarr").u[3, 2, 10, 20])
cost = {"values": [value, again], "bytes": ds.nbytes, "peak": peak, "resident": 1024 * (after - before)}
print(json.dumps(cost | {"gets": sum(store.gets.values()), "read": sum(store.bytes.values())}))
"""


def huge(source, target, many=100, blocks=5 * 365, tile=(70, 75)):
    """A cube of terabytes by its metadata, made of a small one: one block in one tile is there."""
    group = zarr.open_group(source, mode="r")
    attributes = {k: v for k, v in group.attrs.asdict().items() if k.startswith("latentzarr")}
    header = json.loads(attributes["latentzarr_cube"])
    rows, columns = (n * many for n in header["shape"])
    header |= {"shape": [rows, columns], "blocks": [[8, blocks]]}
    coords = {
        "time": np.arange(8 * blocks),
        "level": group["level"][:],
        "lat": np.arange(rows) / 1e3,
        "lon": np.arange(columns) / 1e3,
    }
    xr.Dataset(coords=coords).to_zarr(target, consolidated=False, zarr_format=3)
    made = zarr.open_group(target, mode="r+")
    models = made.create_group(".latentzarr/models", attributes=group[".latentzarr/models"].attrs.asdict())
    for name, array in group[".latentzarr/models"].arrays():
        models.create_array(name, data=array[:])
    table = read_table(group[".latentzarr/cube/references"][:].tobytes())
    table = replace(table, factor=np.resize(table.factor, rows))
    made.create_array(".latentzarr/cube/references", data=np.frombuffer(table.to_bytes(), "u1"))
    tiles = {"shape": (many, many), "shards": (10, 10), "chunks": (1, 1)}
    for v in header["variables"]:
        array = group[PLACE + v["refinement"]]
        times, capacity = {"shape": 8 * blocks, "shards": 8, "chunks": 1}, array.shape[-1]
        sizes = {k: (times[k], *tiles[k], capacity) for k in tiles}
        big = made.create_array(PLACE + v["refinement"], dtype="u1", **sizes)
        big[365 * 8 : 366 * 8, tile[0], tile[1]] = array[:, 0, 0]
    statics = group[".latentzarr/cube/statics"]
    big = made.create_array(".latentzarr/cube/statics", dtype="u1", **{k: (*tiles[k], statics.shape[-1]) for k in tiles})
    big[tile] = statics[0, 0]
    made.update_attributes(attributes | {"latentzarr_cube": json.dumps(header)})
    zarr.consolidate_metadata(target)


def test_a_point_of_a_huge_cube_costs_megabytes(tmp_path):
    small = coupled(times=8, levels=3, rows=100, columns=120)[["u", "t"]].drop_vars("area")
    source, target, here = tmp_path / "s.zarr", tmp_path / "h.zarr", Path(__file__).parent
    latentzarr.to_cube(small, source, {"u": 0.1, "t": 0.1})
    huge(source, target)
    path = os.pathsep.join([str(here.parent), *filter(None, sys.path)])
    command = [sys.executable, "-c", HUGE, source, target, here]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert cost["bytes"] > 1e13
    assert abs(cost["values"][0] - float(small.u[3, 2, 10, 20])) < 50  # another latitude: no more than a number
    assert cost["peak"] < 20e6, cost
    assert cost["resident"] < 100e6, cost
    assert cost["gets"] < 100, cost
    assert cost["read"] < 5e6, cost


def test_arrays_know_their_shape(written):
    group = zarr.open_group(written[0], mode="r")
    array = CubeArray(cube_reader.CubeReader(group), "u", latentzarr.dataset.arrays.ReadOptions())
    assert array.shape == written[1].u.shape
