"""A write that was cut off says so, and resume=True finishes it, writing nothing twice, with the same settings only."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from latentzarr.dataset import tasks, write
from latentzarr.dataset.example import example_dataset
from latentzarr.dataset.provenance import container_of
from latentzarr.dataset.verify import verify
from latentzarr.dataset.write import to_zarr
from latentzarr.errors import IncompleteStoreError, InvalidConfigError, StoreExistsError

SIZES = {"chunks": {"time": 2}, "shards": {"time": 2}}
BOUNDS = {"t": 0.1, "q": "1% relative", "cloud": "lossless"}


def weather():
    return example_dataset(8, 48, 64)


def blocks(store):
    return {p: p.stat().st_mtime_ns for p in Path(store).rglob("c/*/*/*")}


class Stop(KeyboardInterrupt):
    pass


def cut_off(store, after=0.4, error=Stop, **options):
    def stop(name, done, total):
        if done >= after * total:
            raise error

    with pytest.raises(error):
        to_zarr(weather(), store, BOUNDS, progress=stop, **{**SIZES, **options})


@pytest.fixture
def cut(tmp_path):
    store = tmp_path / "w.zarr"
    cut_off(store)
    return store


KILLED = """
    import os, signal
    from latentzarr.dataset.example import example_dataset
    from latentzarr.dataset.write import to_zarr

    def stop(name, done, total):
        if done >= 0.4 * total:
            os.kill(os.getpid(), signal.SIGKILL)

    to_zarr(example_dataset(8, 48, 64), PLACE, {BOUNDS!r}, progress=stop, **{SIZES!r})
"""


def test_killed_in_the_middle_and_finished(tmp_path):
    store = tmp_path / "w.zarr"
    code = f"PLACE = {str(store)!r}\n" + textwrap.dedent(KILLED).replace("{BOUNDS!r}", repr(BOUNDS)).replace(
        "{SIZES!r}", repr(SIZES)
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "LATENTZARR_THREADS": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not container_of(zarr.open_group(store, mode="r").attrs).complete
    with pytest.raises(IncompleteStoreError, match="resume=True"):
        xr.open_dataset(store, engine="latentzarr")
    with pytest.raises(IncompleteStoreError):
        verify(weather(), store)
    before = blocks(store)
    assert before
    report = to_zarr(weather(), store, BOUNDS, resume=True, **SIZES)
    after = blocks(store)
    assert report.ok
    assert len(after) > len(before)
    assert all(after[p] == before[p] for p in before)
    assert verify(weather(), store).ok
    assert container_of(xr.open_zarr(store).attrs).complete


def test_an_interruption_leaves_the_mark_and_can_be_resumed(cut):
    assert not container_of(zarr.open_group(cut, mode="r").attrs).complete
    report = to_zarr(weather(), cut, BOUNDS, resume=True, **SIZES)
    assert report.ok
    assert report["t"].statistics.count == weather().t.size
    assert sum(report["t"].modes.values()) == 4


def test_dask_data_are_resumed_too(tmp_path):
    ds = weather().chunk(time=2)

    def stop(name, done, total):
        if done >= 0.3 * total:
            raise Stop

    with pytest.raises(Stop):
        to_zarr(ds, tmp_path / "w.zarr", BOUNDS, progress=stop, **SIZES)
    assert to_zarr(ds, tmp_path / "w.zarr", BOUNDS, resume=True, **SIZES).ok


def test_other_settings_are_refused_and_named(cut):
    with pytest.raises(InvalidConfigError, match=r"t had bound 0.1 absolute and now has 0.2 absolute"):
        to_zarr(weather(), cut, {**BOUNDS, "t": 0.2}, resume=True, **SIZES)
    with pytest.raises(InvalidConfigError, match="chunks"):
        to_zarr(weather(), cut, BOUNDS, resume=True, chunks={"time": 4}, shards={"time": 4})
    with pytest.raises(InvalidConfigError, match="u is missing"):
        to_zarr(weather().drop_vars("u"), cut, BOUNDS, resume=True, **SIZES)


def test_without_resume_an_incomplete_store_is_in_the_way(cut):
    with pytest.raises(StoreExistsError, match="resume=True"):
        to_zarr(weather(), cut, BOUNDS, **SIZES)
    assert to_zarr(weather(), cut, BOUNDS, overwrite=True, **SIZES).ok


def test_torn_and_wrong_blocks_are_written_again(cut):
    torn, wrong = sorted(blocks(cut))[:2]
    torn.write_bytes(torn.read_bytes()[:-9])
    data = bytearray(wrong.read_bytes())
    data[30] ^= 0xFF
    wrong.write_bytes(bytes(data))
    assert to_zarr(weather(), cut, BOUNDS, resume=True, **SIZES).ok
    assert verify(weather(), cut).ok


def test_other_data_with_the_same_settings_replace_what_does_not_hold(cut):
    changed = weather()
    changed["t"] = changed.t + np.float32(3)
    assert to_zarr(changed, cut, BOUNDS, resume=True, **SIZES).ok
    assert float(abs(xr.open_zarr(cut).t - changed.t).max()) <= 0.1


def test_resuming_a_complete_store_only_compares(tmp_path):
    to_zarr(weather(), tmp_path / "w.zarr", BOUNDS, **SIZES)
    before = blocks(tmp_path / "w.zarr")
    assert to_zarr(weather(), tmp_path / "w.zarr", BOUNDS, resume=True, **SIZES).ok
    assert blocks(tmp_path / "w.zarr") == before


def test_resume_without_a_store_is_an_ordinary_write(tmp_path):
    assert to_zarr(weather(), tmp_path / "w.zarr", BOUNDS, resume=True, **SIZES).ok


def test_a_store_of_somebody_else_is_not_resumed(tmp_path):
    weather().to_zarr(tmp_path / "w.zarr", consolidated=False)
    with pytest.raises(StoreExistsError, match="not begun by latentzarr"):
        to_zarr(weather(), tmp_path / "w.zarr", BOUNDS, resume=True)


def test_cut_off_before_the_metadata_was_finished(tmp_path, monkeypatch):
    class HaltError(Exception):
        pass

    def halt(*args, **kwargs):
        raise HaltError

    monkeypatch.setattr(write, "replace", halt)
    with pytest.raises(HaltError):
        to_zarr(weather(), tmp_path / "w.zarr", BOUNDS, **SIZES)
    monkeypatch.undo()
    assert not container_of(zarr.open_group(tmp_path / "w.zarr", mode="r").attrs).complete
    assert to_zarr(weather(), tmp_path / "w.zarr", BOUNDS, resume=True, **SIZES).ok


def test_an_error_in_a_block_drops_the_rest_and_leaves_the_mark(tmp_path, monkeypatch):
    def fail(self, values, region):
        raise RuntimeError("a block failed")

    monkeypatch.setattr(tasks.BlockTask, "__call__", fail)
    with pytest.raises(RuntimeError, match="a block failed"):
        to_zarr(weather(), tmp_path / "w.zarr", BOUNDS, **SIZES)
    monkeypatch.undo()
    with pytest.raises(IncompleteStoreError):
        verify(weather(), tmp_path / "w.zarr")
