"""Windows of latents along time for torch: shapes, units, and only the chunks that are needed."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import xarray as xr

import latentzarr
import made_autoencoders as made
from latentzarr.cube.registry import unregister_autoencoder
from latentzarr.errors import InvalidConfigError, VariableNotFoundError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("latents") / "a.zarr")
    latentzarr.register_autoencoder(**made.continuous("windows"))
    latentzarr.encode_latents(made.fields(steps=10), path, "windows", batch=3)
    unregister_autoencoder("windows")
    return path


@pytest.fixture
def lat(store):
    return xr.open_dataset(store, engine="latentzarr", decode=False)


@pytest.mark.parametrize(("input_steps", "lead"), [(2, 1), (1, 4), (9, 1)])
def test_windows(lat, input_steps, lead):
    windows = latentzarr.torch_dataset(lat, input_steps=input_steps, lead=lead)
    values = lat.latent.values * np.float32(made.STEP)
    assert len(windows) == 10 - input_steps - lead + 1
    for i in (0, len(windows) - 1, -1):
        inputs, target = windows[i]
        first = i % len(windows)
        assert (inputs.dtype, inputs.shape, target.shape) == (torch.float32, (input_steps, 3, 4, 6), (3, 4, 6))
        np.testing.assert_array_equal(inputs, values[first : first + input_steps])
        np.testing.assert_array_equal(target, values[first + input_steps + lead - 1])
    with pytest.raises(IndexError):
        windows[len(windows)]
    assert len(list(windows)) == len(windows)
    assert isinstance(windows, torch.utils.data.Dataset)


def test_only_the_chunks_of_a_window_are_read(lat, monkeypatch):
    windows = latentzarr.torch_dataset(lat)
    read = []
    inner = type(windows)._read
    monkeypatch.setattr(type(windows), "_read", lambda self, part: read.append(part.start) or inner(self, part))
    windows[3]
    assert read == [3]  # a chunk holds three steps, the window 3, 4 and 5
    windows[4]
    assert read == [3, 6]
    windows[3]
    assert read == [3, 6]


def test_plain_xarray_and_dask_do_as_well(store, lat):
    expected = latentzarr.torch_dataset(lat)[2]
    for opened in (xr.open_zarr(store), xr.open_dataset(store, engine="latentzarr", decode=False, chunks={})):
        for a, b in zip(latentzarr.torch_dataset(opened)[2], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_pickling_leaves_what_is_remembered_behind(lat):
    windows = latentzarr.torch_dataset(lat)
    windows[0]
    again = pickle.loads(pickle.dumps(windows))
    assert not again._blocks
    np.testing.assert_array_equal(again[0][0], windows[0][0])


@pytest.mark.slow
def test_a_loader_with_workers(lat):
    windows = latentzarr.torch_dataset(lat)
    loader = torch.utils.data.DataLoader(windows, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    inputs = torch.cat([batch for batch, _ in loader])
    np.testing.assert_array_equal(inputs, torch.stack([w for w, _ in windows]))


def test_several_variables_are_put_together():
    parts = {
        name: (("time", f"{name}_channel", "y", "x"), np.full((4, n, 2, 2), n, "i2"))
        for name, n in (("common", 3), ("specific", 5))
    }
    both = xr.Dataset(parts)
    inputs, _ = latentzarr.torch_dataset(both)[0]
    assert inputs.shape == (2, 8, 2, 2)
    assert latentzarr.torch_dataset(both, variables="common")[0][1].shape == (3, 2, 2)
    with pytest.raises(InvalidConfigError, match="specific"):
        latentzarr.torch_dataset(both.assign(specific=both.specific.isel(y=0)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"input_steps": 0}, InvalidConfigError),
        ({"lead": 0}, InvalidConfigError),
        ({"input_steps": 10}, InvalidConfigError),
        ({"variables": ["t"]}, VariableNotFoundError),
    ],
)
def test_what_cannot_be_meant(lat, options, error):
    with pytest.raises(error):
        latentzarr.torch_dataset(lat, **options)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "latentzarr.training.latent_windows")
    with pytest.raises(ImportError, match=r"latentzarr\[torch\]"):
        latentzarr.torch_dataset  # noqa: B018
