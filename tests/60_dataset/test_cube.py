"""Cubes: every bound holds, and an opened cube looks like what was written."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import warnings

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import latentzarr
from latentzarr.bounds import ErrorBound, violations
from latentzarr.dataset.cube_header import header_of
from latentzarr.dataset.provenance import without_record
from latentzarr.errors import (
    AlreadyLossyError,
    InvalidBoundError,
    InvalidConfigError,
    LatentzarrError,
    StoreExistsError,
    UnsupportedDtypeError,
    VariableNotFoundError,
)
from latentzarr.testing import make_chunk
from made_coupled import BOUNDS, coupled

SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


def opened(store, **options):
    return xr.open_dataset(store, engine="latentzarr", **options)


def coordinates(ds):
    return xr.Dataset(coords=ds.coords).load()


def assert_holds(ds, store, names):
    """Every bound as the header has it, channel by channel; dtype, dims and the rest as they were."""
    back = opened(store)
    header = header_of(zarr.open_group(store, mode="r").attrs.asdict())
    for name in names:
        x, y, about = ds[name], back[name], header.variable(name)
        assert y.dtype == x.dtype
        assert y.dims == x.dims
        rest = [d for d in x.dims if d not in (header.time, header.rows, header.columns)]
        front = [header.time] if header.time else []
        x, y = (a.transpose(*rest, *front, header.rows, header.columns).values.reshape(about.channels, -1) for a in (x, y))
        for c in range(about.channels):
            assert not violations(x[c], y[c], about.bound(c)).any()
    return back


@pytest.fixture(scope="module")
def weather():
    return coupled()


@pytest.fixture(scope="module")
def store(weather, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("cube") / "w.zarr")
    assert latentzarr.to_cube(weather, path, BOUNDS).ok
    return path


# ---------------------------------------------------------------------------------------------------------- guarantee
def test_every_bound_holds_and_the_rest_is_exact(weather, store):
    back = assert_holds(weather, store, BOUNDS)
    xr.testing.assert_identical(back.kind.load(), weather.kind)
    xr.testing.assert_identical(coordinates(back), coordinates(weather))
    assert set(back.data_vars) == set(weather.data_vars)
    for name in BOUNDS:
        assert without_record(back[name].attrs) == weather[name].attrs
        assert back[name].attrs["lossy_compression_max_abs_error"] == abs(back[name].astype("f8") - weather[name]).max()
    assert back.attrs["title"] == "made up"
    assert back.attrs["history"].endswith("once")
    assert back.sst.isnull().equals(weather.sst.isnull())
    each = header_of(zarr.open_group(store, mode="r").attrs.asdict()).variable("q").bounds
    assert [b.value for b in each] == BOUNDS["q"]


PATTERNS = st.sampled_from(["smooth_and_noise", "constant", "sparse", "two_levels", "magnitudes", "subnormal", "steps", "noise"])
KINDS = st.sampled_from(["f2", "f4", "f8", "i1", "i4", "u8", "?"])
ASKED = st.sampled_from(
    [
        0.01, "1%", "2% of level range", "5% relative", "lossless", "0.5, exact zeros", 1e-30, 1e30, 3,
        ErrorBound.range_relative(0.01), "10% of level range, exact zeros",
    ]
)  # fmt: skip


@given(data=st.data())
@settings(max_examples=15, **SLOWLY)
def test_any_data_set(data):
    rows, columns = data.draw(st.sampled_from([(1, 1), (1, 9), (7, 1), (5, 8), (9, 13)]))
    times, levels = data.draw(st.sampled_from([(0, 2), (1, 1), (3, 2), (9, 1)]))
    ds, bounds = xr.Dataset(), {}
    for i in range(data.draw(st.integers(1, 3))):
        dims = (*(["time"] * bool(times)), *(["level"] * data.draw(st.booleans())), "y", "x")
        sizes = {"time": times, "level": levels, "y": rows, "x": columns}
        dtype = np.dtype(data.draw(KINDS))
        values = make_chunk(tuple(sizes[d] for d in dims), dtype, data.draw(PATTERNS), i)
        if dtype.kind == "f":
            for value in (np.nan, np.inf, -np.inf, -0.0):
                share = data.draw(st.sampled_from([0, 0, 0.1, 1]))
                values[np.random.default_rng(i).random(values.shape) < share] = value
            if data.draw(st.booleans()):
                values[..., : rows // 2, :] = np.nan
        ds[f"v{i}"] = dims, values
        bounds[f"v{i}"] = data.draw(ASKED)
    memory = zarr.storage.MemoryStore()
    block, tile = data.draw(st.sampled_from([1, 2, 8])), data.draw(st.sampled_from([None, (4, 5)]))
    assert latentzarr.to_cube(ds, memory, bounds, block=block, tile=tile, verify=data.draw(st.booleans())).ok
    back = assert_holds(ds, memory, bounds)
    for name in ds.data_vars:
        x, y = ds[name].values, back[name].values
        if x.dtype.kind == "f":
            np.testing.assert_array_equal(y[~np.isfinite(x)], x[~np.isfinite(x)])


def test_the_same_bits_whatever_is_read_and_by_how_many(weather, store):
    whole = opened(store, threads=1)[list(BOUNDS)].load()
    xr.testing.assert_identical(opened(store, threads=4)[list(BOUNDS)].load(), whole)
    parts = opened(store, cache_bytes=0)
    rng = np.random.default_rng(0)
    for _ in range(12):
        name = rng.choice(list(BOUNDS))
        where = {d: slice(*np.sort(rng.integers(0, n + 1, 2))) for d, n in whole[name].sizes.items()}
        assert parts[name].isel(where).values.tobytes() == whole[name].isel(where).values.tobytes()
    backwards = opened(store, chunks={}).chunk(time=3, lat=7)
    with dask.config.set(scheduler="threads"):
        for name in reversed(BOUNDS):
            assert backwards[name].isel(time=slice(None, None, -1)).values.tobytes() == whole[name][::-1].values.tobytes()


def test_verification_reads_what_was_stored(weather, monkeypatch):
    from latentzarr.dataset import cube_blocks
    from latentzarr.errors import VerificationError

    real = cube_blocks.measure
    monkeypatch.setattr(cube_blocks, "measure", lambda x, y, bound: real(x, y + np.float32(1), bound))
    memory = zarr.storage.MemoryStore()
    with pytest.raises(VerificationError):
        latentzarr.to_cube(weather[["u"]], memory, {"u": 0.1})
    with pytest.raises(LatentzarrError, match="to_cube"):
        opened(memory)


# ------------------------------------------------------------------------------------------------------------ dimensions
@pytest.mark.parametrize(
    "order",
    [("lat", "lon", "time", "level"), ("level", "time", "lat", "lon"), ("lon", "level", "lat", "time")],
)
def test_dimensions_in_any_order(weather, tmp_path, order):
    ds = weather[["u", "t"]].transpose(*order, ...).isel(time=slice(5))
    latentzarr.to_cube(ds, tmp_path / "o.zarr", {"u": 0.1, "t": "1% of level range"}, block=4)
    back = assert_holds(ds, tmp_path / "o.zarr", ["u", "t"])
    header = header_of(zarr.open_group(tmp_path / "o.zarr", mode="r").attrs.asdict())
    assert (header.time, {header.rows, header.columns}) == ("time", {"lat", "lon"})
    piece = {"time": [3, 0], "level": 1, "lat": slice(4, 9)}
    whole = back.u.load()
    xr.testing.assert_identical(opened(tmp_path / "o.zarr").u.isel(piece).load(), whole.isel(piece))


def test_without_time_with_members_and_levels_on_one_grid(weather, tmp_path):
    still = weather.isel(time=0)[["u", "ps"]]
    latentzarr.to_cube(still, tmp_path / "s.zarr", {"u": 0.1, "ps": 0.1})
    assert_holds(still, tmp_path / "s.zarr", ["u", "ps"])
    members = xr.concat([weather.u, weather.u + 1], "member").isel(time=slice(3)).to_dataset()
    members["ps"] = weather.ps[:3]
    spread = xr.DataArray([[0.1, 0.2], [0.3, 0.4], [0.5, 0.0]], dims=("level", "member"))
    latentzarr.to_cube(members, tmp_path / "m.zarr", {"u": spread, "ps": 0.1})
    assert_holds(members, tmp_path / "m.zarr", ["u", "ps"])
    bounds = header_of(zarr.open_group(tmp_path / "m.zarr", mode="r").attrs.asdict()).variable("u").bounds
    assert [b.value for b in bounds] == [0.1, 0.3, 0.5, 0.2, 0.4, 0.0]


@pytest.mark.parametrize("block", [1, 3, 5, 12, 64])
def test_blocks_and_tiles_that_do_not_fit(weather, tmp_path, block):
    ds = weather[["u", "sst"]].isel(time=slice(13))
    latentzarr.to_cube(ds, tmp_path / "b.zarr", {"u": 0.2, "sst": 0.1}, block=block, tile=(10, 32))
    assert_holds(ds, tmp_path / "b.zarr", ["u", "sst"])
    array = zarr.open_group(tmp_path / "b.zarr", mode="r")[".latentzarr/cube/refinement/u"]
    assert array.shards[0] % min(block, 13) == 0, "a shard is written once"


def test_dask_data_are_computed_once_a_pass(weather, tmp_path):
    computed = []

    def note(x, block_info=None):
        computed.append(1)
        return x

    ds = weather[["u", "t"]].chunk(time=8)
    ds["u"] = ds.u.copy(data=ds.u.data.map_blocks(note, dtype="f4", meta=np.zeros((0,) * 4, "f4")))
    ds["t"] = ds.u + 280
    with dask.config.set(scheduler="synchronous"):
        latentzarr.to_cube(ds, tmp_path / "d.zarr", {"u": 0.1, "t": 0.1}, block=8)
    survey, sample, statics = 16, 4 + 16, 2 * 16
    assert len(computed) <= 2 + survey + sample + statics
    assert_holds(ds.compute(), tmp_path / "d.zarr", ["u", "t"])


# ---------------------------------------------------------------------------------------------------------------- engine
def test_selections(weather, store):
    whole = opened(store).load()
    lazy = opened(store)
    points = {"lat": xr.DataArray([0, 23, 3], dims="p"), "lon": xr.DataArray([31, 1, 30], dims="p")}
    empty = [{"time": []}, {"lat": slice(3, 3)}]
    steps = [{"lat": slice(20, 3, -4), "level": [2, 0]}, {"time": slice(None, None, -3), "lon": [0, -1]}]
    fancy = [points, {"time": [-2, 0, 5, 5]}, {"level": np.array([True, False, True])}]
    for where in (*empty, *steps, *fancy, {"time": -1}, {"time": 0, "lat": 0, "lon": 0}):
        for name in ("u", "sst"):
            here = {d: k for d, k in where.items() if d in whole[name].dims}
            xr.testing.assert_identical(lazy[name].isel(here).load(), whole[name].isel(here))
    xr.testing.assert_identical(lazy.u.sel(level=600, time="2001-02-04").load(), whole.u.sel(level=600, time="2001-02-04"))
    for beyond in ({"time": 16}, {"time": -17}, {"lat": [3, 24]}):
        with pytest.raises(IndexError):
            _ = lazy.u.isel(beyond).values


def test_dask_pickle_async(weather, store):
    whole = opened(store).load()
    chunked = opened(store, chunks={})
    assert chunked.u.chunks == ((8, 8), (3,), (24,), (32,))
    for scheduler in ("threads", "synchronous"):
        xr.testing.assert_identical(chunked.compute(scheduler=scheduler), whole)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(opened(store))).load(), whole)
    waiting = opened(store)
    asyncio.run(waiting.load_async())
    xr.testing.assert_identical(waiting, whole)
    names = [opened(store, chunks={}, **o).u.data.name for o in ({}, {}, {"threads": 3})]
    assert names[0] == names[1] != names[2]


@pytest.mark.slow
def test_other_processes(weather, store):
    code = (
        "import sys, dask, xarray as xr\n"
        "if __name__ == '__main__':\n"
        "    ds = xr.open_dataset(sys.argv[1], engine='latentzarr', chunks={})\n"
        "    with dask.config.set(scheduler='processes', num_workers=1, **{'multiprocessing.context': 'spawn'}):\n"
        "        print(float(ds.u.astype('f8').sum()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, store], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(opened(store).u.astype("f8").sum()), rel=1e-12)


def test_plain_xarray_sees_coordinates_and_exact_variables(weather, store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(store).load()
    assert set(plain.data_vars) == {"kind"}
    xr.testing.assert_identical(coordinates(plain), coordinates(weather))
    assert "install" in plain.attrs["latentzarr"]
    latents = opened(store, decode=False)
    assert set(latents.data_vars) == {"kind"}


def test_dropped_variables_and_options(store):
    assert "u" not in opened(store, drop_variables="u")
    assert not {"u", "kind", "area"} & set(opened(store, drop_variables=["u", "kind", "area"]).variables)
    with pytest.raises(InvalidConfigError, match="previews"):
        opened(store, scale=2)


def test_what_is_saved_from_a_cube_is_no_cube(weather, store, tmp_path):
    back = opened(store)
    back.to_zarr(tmp_path / "plain.zarr")
    again = opened(tmp_path / "plain.zarr").load()
    xr.testing.assert_equal(again, back.load())
    with pytest.raises(AlreadyLossyError, match="recode"):
        latentzarr.to_cube(back, tmp_path / "again.zarr", {"u": 0.1})
    latentzarr.to_cube(back[["u"]], tmp_path / "again.zarr", {"u": 0.1}, recode=True)
    copied = xr.open_zarr(store)
    copied.to_zarr(tmp_path / "copy.zarr")  # a tool that knows nothing of the hidden group
    with pytest.raises(LatentzarrError, match="is missing"):
        opened(tmp_path / "copy.zarr").u.load()


def test_dates_keep_their_encoding(weather, tmp_path):
    ds = weather[["ps"]].copy()
    ds.time.encoding = {"units": "hours since 1900-01-01", "calendar": "proleptic_gregorian", "dtype": np.dtype("i4")}
    latentzarr.to_cube(ds, tmp_path / "t.zarr", {"ps": 0.1})
    back = opened(tmp_path / "t.zarr")
    xr.testing.assert_identical(back.time, ds.time)
    assert back.time.encoding["units"] == "hours since 1900-01-01"
    assert opened(tmp_path / "t.zarr", decode_times=False).time.dtype == np.dtype("i4")
    assert back.ps.encoding["dtype"] == np.dtype("f8")


def test_two_cubes_in_one_store(weather, tmp_path):
    path, coarse = tmp_path / "two.zarr", weather[["t", "kind"]].isel(lat=slice(None, None, 2))
    latentzarr.to_cube(weather[["u", "ps"]], path, {"u": 0.1, "ps": 0.1}, group="fine")
    latentzarr.to_cube(coarse, path, {"t": 0.1}, group="coarse")
    tree = xr.open_datatree(path, engine="latentzarr")
    assert set(tree.groups) == {"/", "/fine", "/coarse"}
    assert abs(tree["fine/u"] - weather.u).max() <= 0.1
    assert abs(tree["coarse"].to_dataset().t - coarse.t).max() <= 0.1
    assert abs(opened(path, group="coarse").t - coarse.t).max() <= 0.1
    with pytest.raises(StoreExistsError, match="overwrite"):
        latentzarr.to_cube(coarse, path, {"t": 0.1}, group="coarse")
    latentzarr.to_cube(coarse + 1, path, {"t": 0.1}, group="coarse", overwrite=True)
    assert abs(opened(path, group="coarse").t - coarse.t - 1).max() <= 0.1
    assert abs(opened(path, group="fine").u - weather.u).max() <= 0.1


def test_lossless_variables_are_not_marked_and_names_like_latents_are_kept(weather, tmp_path):
    ds = weather[["ps"]].assign(latent_heat=weather.ps * 2, latent_heat_flux=weather.sst)
    latentzarr.to_cube(ds, tmp_path / "l.zarr", {"ps": 0.1, "latent_heat": "lossless"})
    back = opened(tmp_path / "l.zarr").load()
    xr.testing.assert_identical(back.latent_heat, ds.latent_heat)
    xr.testing.assert_identical(back.latent_heat_flux, ds.latent_heat_flux)


# ---------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("bounds", "options", "error", "words"),
    [
        ({}, {}, InvalidConfigError, "at least one"),
        ({"w": 1}, {}, VariableNotFoundError, "'w'"),
        ({"u": "0.1 K"}, {}, InvalidBoundError, "^u: "),
        ({"u": [0.1, 0.2]}, {}, InvalidBoundError, "^u: 2 bounds for 3 levels"),
        ({"u": [0.1, "x", 3]}, {}, InvalidBoundError, "^u: "),
        ({"u": [0.1, 0, 3]}, {}, InvalidBoundError, "^u: "),
        ({"u": 0.1, "kind": 1}, {}, InvalidConfigError, "^kind: .*'time'"),
        ({"u": "1 rmse"}, {}, InvalidConfigError, "^u: "),
        ({"u": 0.1}, {"block": 0}, InvalidConfigError, "1 to 64"),
        ({"u": 0.1}, {"tile": (0, 3)}, InvalidConfigError, "tile"),
        ({"u": 0.1}, {"access": 2}, InvalidConfigError, "access"),
        ({"u": 0.1}, {"time_dim": "step"}, InvalidConfigError, "step"),
        ({"text": 0.1}, {}, UnsupportedDtypeError, "^text: "),
        ({"odd": 0.1}, {}, InvalidConfigError, "^odd, attribute 'when'"),
        ({"grid": 0.1, "u": 0.1}, {}, InvalidConfigError, "horizontal"),
    ],
)
def test_errors_say_what_and_where_before_anything_is_written(weather, tmp_path, bounds, options, error, words):
    other = weather.ps.drop_vars("area").rename(lat="yy", lon="xx")
    ds = weather.assign(text=weather.ps.astype(str), odd=weather.ps.assign_attrs(when=object()), grid=other)
    with pytest.raises(error, match=words):
        latentzarr.to_cube(ds, tmp_path / "e.zarr", bounds, **options)
    assert not (tmp_path / "e.zarr").exists()


def test_stores_are_not_written_over(weather, store):
    with pytest.raises(StoreExistsError, match=r"overwrite=True replaces it"):
        latentzarr.to_cube(weather, store, BOUNDS)
    with pytest.raises(InvalidConfigError, match="empty"):
        latentzarr.to_cube(weather.isel(time=slice(0)), store, BOUNDS, overwrite=True)
