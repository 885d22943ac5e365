"""What reading a part of a cube costs: bundles touched, bytes, fields decoded, memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore, WrapperStore

import latentzarr
from latentzarr.cube import block as block_module
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
def test_one_variable_at_one_time_reads_a_part_of_its_block(written, counting, name):
    store, ds = counting
    reader = ds.variables[name]._data.array.array._reader if hasattr(ds.variables[name]._data, "array") else None
    del reader
    whole = block_bytes(written[0])
    worst = 0
    for t in range(8, 16):
        fresh = Counting(LocalStore(written[0], read_only=True))
        lazy = xr.open_dataset(fresh, engine="latentzarr")
        fresh.bytes.clear()
        assert lazy[name].isel(time=t).values.size
        touched = fresh.touched()
        assert name in touched
        assert all(key.split("/c/")[1].startswith("1/") for key in fresh.bytes if "/refinement/" in key and "/c/" in key)
        worst = max(worst, sum(touched.values()))
    index = 16 * 8 + 4  # of a shard, for each variable
    assert worst - index * len(BOUNDS) < 0.35 * sum(whole.values()) or worst <= whole[name] + index


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
import json, sys, time
import numpy as np, resource, xarray as xr
sys.path.insert(0, sys.argv[3])
warm = xr.open_dataset(sys.argv[1], engine="latentzarr")
float(warm.u[0, 0, 0, 0])
from test_cube_access import Counting
from zarr.storage import LocalStore
store = Counting(LocalStore(sys.argv[2], read_only=True))
import tracemalloc
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tracemalloc.start()
started = time.perf_counter()
ds = xr.open_dataset(store, engine="latentzarr")
value = float(ds.u[365 * 8 + 3, 2, 7000, 9000])
seconds = time.perf_counter() - started
peak = tracemalloc.get_traced_memory()[1]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"value": value, "bytes": ds.nbytes, "peak": peak, "rss": 1024 * (after - before), "gets": sum(store.gets.values()),
    "read": sum(store.bytes.values()), "seconds": seconds}))
"""


def test_a_point_of_a_huge_cube_costs_megabytes(tmp_path):
    """A cube of terabytes by its metadata, of which one block in one tile was ever written."""
    small = coupled(times=8, levels=3, rows=100, columns=120)[["u", "t"]].drop_vars(["area", "edges"])
    latentzarr.to_cube(small, tmp_path / "s.zarr", {"u": 0.1, "t": 0.1}, tile=(100, 120))
    source, target = tmp_path / "s.zarr", tmp_path / "h.zarr"
    group = zarr.open_group(source, mode="r")
    header = json.loads(group.attrs["latentzarr_cube"])
    rows, columns, blocks = 100 * 100, 120 * 100, 5 * 365
    header |= {"shape": [rows, columns], "blocks": [[8, blocks]]}
    coords = xr.Dataset(
        coords={
            "time": np.arange(8 * blocks),
            "level": small.level,
            "lat": np.arange(rows) / 1e3,
            "lon": np.arange(columns) / 1e3,
        }
    )
    coords.to_zarr(target, consolidated=False, zarr_format=3)
    made = zarr.open_group(target, mode="r+")
    for path in (".latentzarr/models", ".latentzarr/cube/references"):
        found = group[path]
        if isinstance(found, zarr.Group):
            copy = made.create_group(path, attributes=found.attrs.asdict())
            for name, array in found.arrays():
                copy.create_array(name, data=array[:])
        else:
            table = cube_reader.read_table(bytes(found[:]))
            data = np.frombuffer(
                cube_reader.replace(table, factor=np.zeros(rows, "i4") if table.factor.size else table.factor).to_bytes(), "u1"
            )
            made.create_array(path, data=data)
    tile = (70, 75)
    for name in ("u", "t"):
        array = group[PLACE + name]
        big = made.create_array(
            PLACE + name, shape=(8 * blocks, 100, 100, array.shape[-1]), dtype="u1", chunks=(1, 1, 1, array.shape[-1]),
            shards=(8, 10, 10, array.shape[-1]),
        )  # fmt: skip
        big[365 * 8 : 366 * 8, tile[0], tile[1]] = array[:, 0, 0]
    statics = group[".latentzarr/cube/statics"]
    big = made.create_array(
        ".latentzarr/cube/statics", shape=(100, 100, statics.shape[-1]), dtype="u1", chunks=(1, 1, statics.shape[-1]),
        shards=(100, 100, statics.shape[-1]),
    )  # fmt: skip
    big[tile] = statics[0, 0]
    attributes = {k: v for k, v in group.attrs.asdict().items() if k.startswith("latentzarr")}
    made.update_attributes(attributes | {"latentzarr_cube": json.dumps(header)})
    zarr.consolidate_metadata(target)
    here = str(__file__).rsplit("/", 1)[0]
    command = [sys.executable, "-W", "ignore", "-c", HUGE, str(source), str(target), here]
    path = ":".join([here, str(here.rsplit("/", 1)[0]), *filter(None, sys.path)])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=dict(__import__("os").environ, PYTHONPATH=path)
    )
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert np.isfinite(cost["value"])
    assert cost["bytes"] > 5e12
    assert cost["peak"] < 30e6
    assert cost["rss"] < 100e6
    assert cost["gets"] < 150
    assert cost["read"] < 5e6


def test_arrays_know_their_shape(written):
    group = zarr.open_group(written[0], mode="r")
    array = CubeArray(cube_reader.CubeReader(group), "u", latentzarr.dataset.arrays.ReadOptions())
    assert array.shape == written[1].u.shape
