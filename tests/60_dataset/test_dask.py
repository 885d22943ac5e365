"""Under Dask: threads, processes, forked children, writes that would corrupt, and memory that does not grow with the array."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from latentzarr import LatentCodec
from latentzarr.codec.runtime import current_runtime

BOUND = 0.05


def _dataset(steps=8, rows=64, columns=96):
    y, x = np.meshgrid(np.linspace(0, 3, rows), np.linspace(0, 5, columns), indexing="ij")
    noise = np.random.default_rng(5).normal(0, 0.2, (steps, rows, columns))
    field = (280 + 10 * np.sin(y) * np.cos(x) + noise).astype("f4")
    return xr.Dataset({"t": (("time", "lat", "lon"), field)}, coords={"lat": np.arange(rows) * 1.0})


def _encoding(**more):
    return {"t": {"serializer": LatentCodec(absolute=BOUND), "compressors": None, "chunks": (1, 32, 96)} | more}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("dask") / "a.zarr")
    _dataset().to_zarr(path, encoding=_encoding(shards=(2, 64, 96)))
    return path


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as here,
        distributed.Client(here) as client,
    ):
        yield client


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("scale", [1, 4])
def test_reading_in_threads(store, scheduler, scale):
    opened = xr.open_dataset(store, engine="latentzarr", chunks={}, scale=scale, threads=2)
    expected = xr.open_zarr(store, chunks=None).load().isel(lat=slice(None, None, scale), lon=slice(None, None, scale))
    xr.testing.assert_identical(opened.compute(scheduler=scheduler), expected)


@pytest.mark.slow
def test_reading_in_processes(store, cluster):
    expected = xr.open_zarr(store, chunks=None).load()
    opened = xr.open_dataset(store, engine="latentzarr", chunks={}, device="cpu", threads=1)
    xr.testing.assert_identical(opened.compute(), expected)
    thin = xr.open_dataset(store, engine="latentzarr", chunks={}, scale=2)
    xr.testing.assert_identical(thin.compute(), expected.isel(lat=slice(None, None, 2), lon=slice(None, None, 2)))
    assert float(opened.t.mean("time").max()) == pytest.approx(float(expected.t.mean("time").max()))


@pytest.mark.slow
def test_writing_from_processes(tmp_path, cluster):
    ds = _dataset().chunk({"time": 2})
    ds.to_zarr(tmp_path / "b.zarr", encoding=_encoding(shards=(2, 64, 96)))
    seen = xr.open_dataset(tmp_path / "b.zarr", engine="latentzarr")
    assert float(abs(seen.t - _dataset().t).max()) <= BOUND


def test_writing_in_threads_gives_the_same_bytes(tmp_path):
    _dataset().to_zarr(tmp_path / "one.zarr", encoding=_encoding())
    _dataset().chunk({"time": 1, "lat": 32}).to_zarr(tmp_path / "two.zarr", encoding=_encoding())
    files = [f.relative_to(tmp_path / "one.zarr") for f in (tmp_path / "one.zarr/t/c").rglob("*") if f.is_file()]
    assert len(files) == 16
    for file in files:
        assert (tmp_path / "one.zarr" / file).read_bytes() == (tmp_path / "two.zarr" / file).read_bytes()


@pytest.mark.parametrize("more", [{}, {"shards": (4, 64, 96)}], ids=["chunks", "shards"])
@pytest.mark.parametrize("chunks", [{"time": 3, "lat": 20}, {"lat": 40}], ids=str)
def test_misaligned_writes_are_refused(tmp_path, more, chunks):
    with pytest.raises(ValueError, match="overlap multiple Dask chunks"):
        _dataset().chunk(chunks).to_zarr(tmp_path / "c.zarr", encoding=_encoding(**more))
    _dataset().chunk(chunks).to_zarr(tmp_path / "d.zarr", encoding=_encoding(**more), align_chunks=True)
    assert float(abs(xr.open_zarr(tmp_path / "d.zarr").t - _dataset().t).max()) <= BOUND


# ---------------------------------------------------------------------------------------------------------------- fork
def _mean(path):
    return float(xr.open_dataset(path, engine="latentzarr", threads=2).t.astype("f8").mean())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_decodes(store):
    expected = _mean(store)  # the parent has used every thread pool and lock there is
    with dask.config.set(scheduler="threads"):
        xr.open_dataset(store, engine="latentzarr", chunks={}).compute()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        status = 1
        try:
            signal.alarm(60)  # a deadlock ends here
            status = int(_mean(store) != expected)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_pool_of_forked_workers_decodes(store):
    expected = _mean(store)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_mean, [store] * 4).get(timeout=60) == [expected] * 4


def test_options_of_a_process_are_its_own(store):
    before = current_runtime()
    xr.open_dataset(store, engine="latentzarr", threads=3, chunks={}).compute(scheduler="threads")
    assert current_runtime() == before


# -------------------------------------------------------------------------------------------------------------- memory
_REDUCE = """
import resource, sys
import dask, xarray as xr
unit = 1024 if sys.platform != "darwin" else 1
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
with dask.config.set(scheduler="threads", num_workers=2):
    t = xr.open_dataset(sys.argv[1], engine="latentzarr", chunks={}, threads=2).t
    t[:16].mean().compute()
    before = peak()
    mean = float(t.mean())
print(t.nbytes / 2**20, peak() - before, mean)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
def test_memory_does_not_grow_with_the_array(tmp_path):
    """128 MiB are reduced in less than an eighth of that (on top of what the first 16 MiB took)."""
    steps, rows, columns = 128, 512, 512
    field = _dataset(1, rows, columns).t.values
    array = zarr.create_array(
        tmp_path / "e.zarr", name="t", shape=(steps, rows, columns), chunks=(1, rows, columns), dtype="f4",
        serializer=LatentCodec(absolute=0.5), compressors=None, dimension_names=("time", "lat", "lon"),
    )  # fmt: skip
    array[:1] = field
    zarr.consolidate_metadata(tmp_path / "e.zarr")
    first = tmp_path / "e.zarr/t/c/0/0/0"
    for step in range(1, steps):
        target = tmp_path / f"e.zarr/t/c/{step}/0/0"
        target.parent.mkdir(parents=True)
        shutil.copy(first, target)
    done = subprocess.run([sys.executable, "-c", _REDUCE, str(tmp_path / "e.zarr")], capture_output=True, text=True, check=True)
    size, grown, mean = map(float, done.stdout.split())
    assert size == 128
    assert grown < 128 / 8
    assert mean == pytest.approx(float(field.astype("f8").mean()), abs=0.5)


def test_arrays_of_dask_itself(tmp_path):
    """``da.to_zarr`` into an array made with the codec; Dask's chunks are aligned by the caller."""
    values = _dataset().t.values
    array = zarr.create_array(
        tmp_path / "f.zarr",
        shape=values.shape,
        chunks=(2, 64, 96),
        dtype="f4",
        serializer=LatentCodec(absolute=BOUND),
        compressors=None,
    )
    da.from_array(values, chunks=(4, 64, 96)).to_zarr(array)
    assert float(abs(da.from_zarr(array) - values).max()) <= BOUND
