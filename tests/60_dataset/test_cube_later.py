"""Cubes after they were written: times appended, other bounds, writes cut off and resumed, latents decoded."""

import numpy as np
import pytest
import xarray as xr
import zarr

import latentzarr
from latentzarr.dataset.cube_blocks import BlockWriter
from latentzarr.errors import IncompleteStoreError, InvalidConfigError, StoreError, StoreExistsError, VariableNotFoundError

BOUNDS = {"t": "1% of level range", "z": "0.5", "p": "2% of range"}


def made(times: int = 10) -> xr.Dataset:
    """Two variables of three levels that follow each other, and one of the surface."""
    rng = np.random.default_rng(3)
    step, level, y, x = np.meshgrid(np.arange(times), np.arange(3), np.linspace(-1, 1, 24), np.arange(32) / 5, indexing="ij")
    wave = np.sin(x + 0.2 * step + 0.3 * level) * np.cos(2 * y) + 0.02 * rng.normal(size=step.shape)
    dims = ("time", "level", "latitude", "longitude")
    t = (270 + 10 * wave).astype("float32")
    z = (100 * level + 30 * np.cumsum(wave, axis=1)).astype("float32")
    days = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    coordinates = {
        "time": days,
        "level": [850.0, 500.0, 200.0],
        "latitude": np.linspace(-80, 80, 24),
        "longitude": np.arange(32) * 11.25,
    }
    return xr.Dataset({"t": (dims, t), "z": (dims, z), "p": (dims[:1] + dims[2:], t[:, 0] - 200)}, coordinates)


def assert_within(shown: xr.Dataset, ds: xr.Dataset, part: float = 0.01) -> None:
    extent = ds.t.max(("time", "latitude", "longitude")) - ds.t.min(("time", "latitude", "longitude"))
    assert (abs(shown.t - ds.t).max(("time", "latitude", "longitude")) <= part * extent * (1 + 1e-6)).all()
    assert abs(shown.z - ds.z).max() <= 0.5
    xr.testing.assert_identical(shown.time.drop_attrs(), ds.time.drop_attrs())


def opened(place) -> xr.Dataset:
    return xr.open_dataset(place, engine="latentzarr")


def test_times_are_appended(tmp_path):
    ds = made()
    place = tmp_path / "a.cube.zarr"
    latentzarr.to_cube(ds.isel(time=slice(0, 5)), place, BOUNDS, block=4)
    before = opened(place).load()
    report = latentzarr.append_cube(ds.isel(time=slice(5, None)), place)
    assert report.ok
    shown = opened(place).load()
    assert dict(shown.sizes) == dict(ds.sizes)
    xr.testing.assert_equal(shown.isel(time=slice(0, 5)).t, before.t)
    # bounds relative to a range stay those of the first write
    assert abs(shown.z - ds.z).max() <= 0.5
    xr.testing.assert_identical(shown.time.drop_attrs(), ds.time.drop_attrs())


def test_an_append_that_was_cut_off_is_finished_with_all_data(tmp_path, monkeypatch):
    ds = made()
    place = tmp_path / "a.cube.zarr"
    bounds = {"t": "0.2", "z": "0.5", "p": "0.3"}
    latentzarr.to_cube(ds.isel(time=slice(0, 4)), place, bounds, block=2)
    for cut in (0, 1):
        with monkeypatch.context() as patched:
            patched.setattr(BlockWriter, "_store", _Cut(BlockWriter._store, cut))
            with pytest.raises(KeyboardInterrupt):
                latentzarr.append_cube(ds.isel(time=slice(4, None)), place) if cut == 0 else latentzarr.to_cube(
                    ds, place, bounds, block=2, resume=True
                )
        with pytest.raises(IncompleteStoreError):
            opened(place)
    assert latentzarr.to_cube(ds, place, bounds, block=2, resume=True).ok
    shown = opened(place).load()
    assert abs(shown.t - ds.t).max() <= 0.2
    xr.testing.assert_identical(shown.time.drop_attrs(), ds.time.drop_attrs())


def test_what_does_not_fit_is_not_appended(tmp_path):
    ds = made(4)
    place = tmp_path / "a.cube.zarr"
    latentzarr.to_cube(ds, place, BOUNDS, block=4)
    with pytest.raises(VariableNotFoundError, match="'z'"):
        latentzarr.append_cube(ds.drop_vars("z"), place)
    with pytest.raises(InvalidConfigError, match="t: "):
        latentzarr.append_cube(ds.isel(level=[0, 1]), place)
    with pytest.raises(InvalidConfigError, match=r"latitude: .*reindex"):
        latentzarr.append_cube(ds.isel(latitude=slice(None, None, -1)), place)
    with pytest.raises(InvalidConfigError, match="nothing"):
        latentzarr.append_cube(ds.isel(time=slice(0, 0)), place)
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="no latent cube"):
        latentzarr.append_cube(ds, tmp_path / "other.zarr")
    assert_within(opened(place), ds)


def test_a_bound_is_tightened_and_what_looks_at_it_follows(tmp_path):
    ds = made(6)
    place = tmp_path / "a.cube.zarr"
    latentzarr.to_cube(ds, place, BOUNDS, block=3, access=1.0)
    size = {v.name: v.stored for v in latentzarr.to_cube(ds, tmp_path / "b.cube.zarr", BOUNDS, block=3, access=1.0)}
    report = latentzarr.refine_cube(ds, place, {"t": "0.1% of level range"})
    assert report["t"].stored > size["t"]
    assert_within(opened(place), ds, 0.001)
    inside = zarr.open_group(place, mode="r", use_consolidated=False)[".latentzarr/cube/refinement"]
    kept = {v.name for v in report}
    assert set(inside.keys()) == {f"{name}.1" if name in kept else name for name in BOUNDS}
    with pytest.raises(VariableNotFoundError):
        latentzarr.refine_cube(ds, place, {"q": "1"})


def test_a_change_that_is_cut_off_leaves_the_cube_as_it_was(tmp_path, monkeypatch):
    ds = made(6)
    place = tmp_path / "a.cube.zarr"
    latentzarr.to_cube(ds, place, BOUNDS, block=3)
    before = opened(place).load()
    with monkeypatch.context() as patched:
        patched.setattr(BlockWriter, "_store", _Cut(BlockWriter._store, 1))
        with pytest.raises(KeyboardInterrupt):
            latentzarr.refine_cube(ds, place, {"t": "0.01"})
    xr.testing.assert_identical(opened(place).load(), before)
    latentzarr.refine_cube(ds, place, {"t": "0.01"})
    assert abs(opened(place).t - ds.t).max() <= 0.01


class _Cut:
    """A method that is cut off at a call."""

    def __init__(self, method, calls: int) -> None:
        self.method, self.calls = method, calls

    def __get__(self, instance, owner):
        def called(*args):
            self.calls -= 1
            if self.calls < 0:
                raise KeyboardInterrupt
            return self.method(instance, *args)

        return called


def test_a_write_that_was_cut_off_is_refused_and_resumed(tmp_path, monkeypatch):
    ds = made()
    place, whole = tmp_path / "a.cube.zarr", tmp_path / "b.cube.zarr"
    latentzarr.to_cube(ds, whole, BOUNDS, block=3)
    with monkeypatch.context() as patched:
        patched.setattr(BlockWriter, "_store", _Cut(BlockWriter._store, 2))
        with pytest.raises(KeyboardInterrupt):
            latentzarr.to_cube(ds, place, BOUNDS, block=3)
    with pytest.raises(IncompleteStoreError):
        opened(place)
    with pytest.raises(InvalidConfigError, match="another bound"):
        latentzarr.to_cube(ds, place, {**BOUNDS, "t": "2% of level range"}, block=3, resume=True)
    with pytest.raises(InvalidConfigError, match="another bound"):
        latentzarr.to_cube(ds, place, {**BOUNDS, "z": 0.1}, block=3, resume=True)
    with pytest.raises(InvalidConfigError, match="other data"):
        latentzarr.to_cube(ds.isel(time=slice(0, 3)), place, BOUNDS, block=3, resume=True)
    report = latentzarr.to_cube(ds, place, BOUNDS, block=3, resume=True)
    assert report.ok
    xr.testing.assert_equal(opened(place).load(), opened(whole).load())
    with pytest.raises(StoreExistsError):
        latentzarr.to_cube(ds, place, BOUNDS, block=3, resume=True)


def test_latents_alone_then_bounds_on_top(tmp_path):
    ds = made(8)
    model = latentzarr.fit_cube(ds, "5 s", block=4, quality=0.05, refine=False)
    assert latentzarr.load_cube_model(latentzarr.save_cube_model(model, tmp_path / "m.safetensors")).basis == model.basis
    place = tmp_path / "a.cube.zarr"
    latentzarr.to_cube(ds, place, model=model, block=4)
    shown = opened(place).load()
    for name in ds.data_vars:
        assert float(((shown[name] - ds[name]) ** 2).mean() / ds[name].var()) < 0.3
    lat = xr.open_dataset(place, engine="latentzarr", decode=False)
    assert {"latent_common", "latent_specific"} & set(lat.data_vars)
    assert not set(ds.data_vars) & set(lat.data_vars)
    plain = xr.open_zarr(place)
    xr.testing.assert_equal(plain.load(), lat.load())
    again = latentzarr.decode(lat, like=place)
    for name in ds.data_vars:
        np.testing.assert_array_equal(again[name].values, shown[name].values)
    before = lat.load()
    latentzarr.refine_cube(ds, place, BOUNDS)
    assert_within(opened(place), ds)
    xr.testing.assert_equal(xr.open_dataset(place, engine="latentzarr", decode=False).load(), before)


def test_latents_that_cannot_be_decoded_are_refused(tmp_path):
    ds = made(4)
    model = latentzarr.fit_cube(ds, "5 s", block=4, quality=0.1, refine=False)
    place = tmp_path / "a.cube.zarr"
    latentzarr.to_cube(ds, place, BOUNDS, model=model, block=4)
    assert_within(opened(place), ds)
    lat = xr.open_dataset(place, engine="latentzarr", decode=False).load()
    name = next(n for n in ("latent_common", "latent_specific") if n in lat)
    with pytest.raises(InvalidConfigError, match="not finite"):
        latentzarr.decode(lat.assign({name: lat[name] * np.nan}), like=place)
    with pytest.raises(InvalidConfigError, match="shape"):
        latentzarr.decode(lat.isel(latent_x=slice(0, 1)), like=place)
    latentzarr.to_cube(ds, tmp_path / "b.cube.zarr", BOUNDS, block=4)
    with pytest.raises(StoreError, match="no latents"):
        latentzarr.decode(lat, like=tmp_path / "b.cube.zarr")
    with pytest.raises(InvalidConfigError, match="bounds"):
        latentzarr.to_cube(ds, tmp_path / "c.cube.zarr")


def test_a_model_serves_levels_it_never_saw(tmp_path):
    ds = made(8)
    some = latentzarr.fit_cube(ds.isel(level=[0, 2]), "5 s", block=4, quality=0.02, refine=False)
    latentzarr.to_cube(ds, tmp_path / "a.cube.zarr", model=some, block=4)
    latentzarr.to_cube(ds[["t"]].isel(level=[2]), tmp_path / "b.cube.zarr", model=some, block=4)
    whole, part = opened(tmp_path / "a.cube.zarr"), opened(tmp_path / "b.cube.zarr")
    unseen = float(((whole.t - ds.t).isel(level=1) ** 2).mean() / ds.t.isel(level=1).var())
    assert unseen < 0.5
    assert float(((part.t - ds.t) ** 2).mean() / ds.t.isel(level=2).var()) < 0.3
    latentzarr.to_cube(ds, tmp_path / "c.cube.zarr", BOUNDS, model=some, block=4)
    assert_within(opened(tmp_path / "c.cube.zarr"), ds)
