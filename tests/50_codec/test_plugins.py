"""The plug-in surface: entry points, what they import, configuration there and back, and refusals one can act on."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import ShardingCodec
from zarr.registry import get_codec_class
from zarr.storage import MemoryStore

from latentzarr import LatentCodec, LatentNumcodec, default_model
from latentzarr.bounds import ErrorBound
from latentzarr.codec.config import Effort
from latentzarr.errors import (
    FrameMismatchError,
    InvalidBoundError,
    InvalidConfigError,
    ModelMismatchError,
    ModelNotFoundError,
    TruncatedFrameError,
    UnsupportedDtypeError,
)
from latentzarr.models.store import shipped_model

FIELD = (280 + 5 * np.sin(np.add.outer(np.arange(60), np.arange(70)) / 20)).astype("f4")


def _array(codec=None, store=None, **options):
    options = {"shape": FIELD.shape, "dtype": "f4", "chunks": (30, 35), "compressors": None} | options
    return zarr.create_array(MemoryStore() if store is None else store, serializer=codec or LatentCodec(absolute=0.1), **options)


def _fresh(code):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# -------------------------------------------------------------------------------------------------------- entry points
_WRITE_AND_READ = """
import xarray, latentzarr, numpy, tempfile
d = xarray.Dataset({"t": (("y", "x"), numpy.random.rand(64, 64).astype("f4"))})
p = tempfile.mkdtemp()
d.to_zarr(p, mode="w", encoding={"t": {"serializer": latentzarr.LatentCodec(absolute=.1), "compressors": None}})
xarray.open_dataset(p, engine="latentzarr").load()
"""


@pytest.mark.parametrize(
    "code",
    [
        "import latentzarr",
        "import zarr.registry; zarr.registry.get_codec_class('latentzarr')",
        "import numcodecs; numcodecs.get_codec({'id': 'latentzarr', 'absolute': 1.0})",
        "import xarray; assert 'latentzarr' in xarray.backends.list_engines()",
        _WRITE_AND_READ,
    ],
    ids=["import", "zarr", "numcodecs", "xarray", "write and read"],
)
def test_nothing_loads_torch(code):
    assert _fresh(f"{code}\nimport sys; print('torch' in sys.modules)") == "False"


def test_importing_the_package_loads_no_array_library():
    heavy = "{'zarr', 'xarray', 'dask', 'numba', 'numpy', 'pandas'}"
    assert _fresh(f"import latentzarr, sys; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_a_store_opens_with_nothing_but_the_installed_package(tmp_path):
    array = _array(store=tmp_path / "a.zarr", name="t", dimension_names=("y", "x"))
    array[...] = FIELD
    expected = float(array[...].astype("f8").sum())
    code = f"import xarray; print(float(xarray.open_zarr({str(tmp_path / 'a.zarr')!r}, consolidated=False).t.astype('f8').sum()))"
    assert float(_fresh(code)) == pytest.approx(expected)


def test_names_resolve():
    assert get_codec_class("latentzarr") is LatentCodec
    assert isinstance(numcodecs.get_codec({"id": "latentzarr", "lossless": True}), LatentNumcodec)


# ------------------------------------------------------------------------------------------------------- configuration
@pytest.mark.parametrize(
    "codec",
    [
        LatentCodec(absolute=0.1),
        LatentCodec(relative=0.01),
        LatentCodec(lossless=True),
        LatentCodec(rmse=2),
        LatentCodec(absolute=1, embed=False),
        LatentCodec(absolute=1, effort="fast"),
        LatentCodec(rmse=1, exact_zeros=True, effort="max"),
    ],
    ids=str,
)
def test_configuration_goes_there_and_back(codec):
    text = json.dumps(codec.to_dict())
    assert LatentCodec.from_dict(json.loads(text)) == codec
    assert hash(LatentCodec.from_dict(json.loads(text))) == hash(codec)
    assert pickle.loads(pickle.dumps(codec)) == codec
    inside = ShardingCodec(chunk_shape=(4, 4), codecs=[codec])
    assert ShardingCodec.from_dict(inside.to_dict()).codecs == (codec,)
    assert pickle.loads(pickle.dumps(inside)).codecs == (codec,)
    assert "device" not in text
    assert "threads" not in text


@pytest.mark.parametrize(
    "codec",
    [
        LatentNumcodec(absolute=0.1),
        LatentNumcodec(lossless=True, embed=False),
        LatentNumcodec(absolute=0.1, exact_zeros=True, effort="max"),
    ],
    ids=str,
)
def test_configuration_of_numcodecs_goes_there_and_back(codec):
    again = numcodecs.get_codec(json.loads(json.dumps(codec.get_config())))
    assert again == codec
    assert hash(again) == hash(codec)
    assert pickle.loads(pickle.dumps(codec)) == codec


def test_metadata_holds_what_is_needed_and_nothing_of_the_array():
    array = _array()
    [written] = json.loads(asyncio.run(_json(array.store)))["codecs"]
    assert written == LatentCodec(absolute=0.1).to_dict()
    assert set(written["configuration"]) == {"version", "bound", "model"}


async def _json(store):
    return (await store.get("zarr.json", zarr.core.buffer.default_buffer_prototype())).to_bytes()


@pytest.mark.parametrize("shards", [None, (60, 70)])
def test_arrays_are_pickled_with_their_codec(tmp_path, shards):
    array = _array(store=tmp_path / "a.zarr", shards=shards)
    array[...] = FIELD
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[...], array[...])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"version": 2}, InvalidConfigError, "newer latentzarr"),
        ({"speed": 9}, InvalidConfigError, "speed"),
        ({"effort": "heroic"}, InvalidConfigError, "fast, normal, max"),
        ({"bound": {"kind": "absolute", "value": 1, "zeros": "most"}}, InvalidConfigError, "zeros"),
        ({"bound": None}, InvalidConfigError, "kind"),
        ({"bound": {"kind": "wavelet", "value": 1}}, InvalidConfigError, "wavelet"),
        ({"bound": {"kind": "absolute", "value": 0}}, InvalidBoundError, "above zero"),
        ({"bound": {"kind": "absolute", "value": -1}}, InvalidBoundError, "above zero"),
        ({"bound": {"kind": "absolute", "value": "NaN"}}, InvalidBoundError, "number"),
        ({"bound": {"kind": "range_relative", "value": 0.1}}, InvalidConfigError, "whole variable"),
        ({"model": "best"}, InvalidConfigError, "digest"),
        ({"model": {"digest": "sha256:" + "1" * 64}}, ModelNotFoundError, "tried"),
        ({"model": {"digest": "sha256:" + "1" * 64, "data": "%%"}}, InvalidConfigError, "unpacked"),
    ],
)
def test_configurations_that_are_refused(change, error, words):
    configuration = LatentCodec(absolute=0.1).to_dict()["configuration"] | change
    with pytest.raises(error, match=words):
        LatentCodec.from_dict({"name": "latentzarr", "configuration": configuration})


def test_an_embedded_model_must_have_its_digest():
    configuration = LatentCodec(absolute=0.1).to_dict()["configuration"]
    configuration["model"]["digest"] = "sha256:" + "2" * 64
    with pytest.raises(ModelMismatchError, match="fetch it again"):
        LatentCodec.from_dict({"name": "latentzarr", "configuration": configuration})


def test_arguments_that_are_refused():
    with pytest.raises(InvalidConfigError, match="exactly one"):
        LatentCodec()
    with pytest.raises(InvalidConfigError, match="exactly one"):
        LatentCodec(absolute=1, lossless=True)
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidBoundError):
            LatentCodec(absolute=value)
    with pytest.raises(InvalidConfigError, match="whole variable"):
        LatentCodec(bound=ErrorBound.range_relative(0.01))
    with pytest.raises(ModelNotFoundError):
        LatentCodec(absolute=1, model="sha256:" + "3" * 64)
    with pytest.raises(InvalidConfigError, match="speed"):
        numcodecs.get_codec({"id": "latentzarr", "absolute": 1, "speed": 9})
    with pytest.raises(NotImplementedError):
        LatentCodec(absolute=1).compute_encoded_size(1, None)


# -------------------------------------------------------------------------------------------------------------- dtypes
@pytest.mark.filterwarnings("ignore")  # zarr warns of dtypes without a specification
@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[s]", "complex64", "U4", "S4", "O", "V3"])
def test_dtypes_that_are_refused_before_anything_is_written(dtype):
    store = MemoryStore()
    with pytest.raises((UnsupportedDtypeError, ValueError, TypeError)) as caught:
        _array(store=store, dtype=np.dtype(dtype))
    if dtype != "O":  # zarr itself has no dtype for any object
        assert isinstance(caught.value, UnsupportedDtypeError)
        assert "Leave this variable to zarr's own codecs" in str(caught.value)
    assert not list(store._store_dict)
    with pytest.raises(UnsupportedDtypeError):
        LatentNumcodec(lossless=True).encode(np.zeros(3, dtype))


@pytest.mark.parametrize("bound", [{"relative": 0.1}, {"rmse": 1.0}])
def test_bounds_that_integers_cannot_have(bound):
    with pytest.raises(UnsupportedDtypeError, match="needs floats"):
        _array(LatentCodec(**bound), dtype="i4")


def test_times_in_a_data_set_are_refused_with_a_clear_error(tmp_path):
    ds = xr.Dataset({"when": (("x",), np.array(["2020-01-01", "2021-01-01"], "M8[ns]"))})
    ds.to_zarr(
        tmp_path / "times.zarr", encoding={"when": {"serializer": LatentCodec(lossless=True)}}
    )  # CF makes integers of them
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "times.zarr").load(), ds)


# ------------------------------------------------------------------------------------------------------------- layouts
LAYOUTS = {
    "negative strides": FIELD[::-1, ::-1],
    "every other": np.repeat(np.repeat(FIELD, 2, 0), 3, 1)[::2, ::3],
    "fortran": np.asfortranarray(FIELD),
    "big-endian": FIELD.astype(">f4"),
    "read-only": np.broadcast_to(FIELD[:1], FIELD.shape),
    "transposed": np.ascontiguousarray(FIELD.T).T,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("chunks", [(30, 35), (60, 70)])
def test_any_memory_layout_is_coded_alike_and_left_alone(name, chunks):
    values = LAYOUTS[name]
    before = values.copy()
    array = _array(chunks=chunks, dtype=values.dtype)
    array[...] = values
    plain = _array(chunks=chunks)
    plain[...] = np.ascontiguousarray(values.astype("f4"))
    np.testing.assert_array_equal(array[...], plain[...])
    np.testing.assert_array_equal(values, before)
    assert np.abs(array[...] - values).max() <= 0.1 + 1e-9


def test_numcodecs_keeps_the_order_and_fills_out():
    codec = LatentNumcodec(absolute=0.1)
    for values in (FIELD, np.asfortranarray(FIELD)):
        seen = codec.decode(codec.encode(values))
        assert seen.flags.f_contiguous == values.flags.f_contiguous
        assert np.abs(seen - FIELD).max() <= 0.1
        out = np.empty_like(values)
        assert codec.decode(codec.encode(values), out=out) is out
        np.testing.assert_array_equal(out, seen)
    swapped = codec.decode(codec.encode(FIELD.astype(">f4")))
    assert swapped.dtype == np.dtype(">f4")
    assert np.abs(swapped - FIELD).max() <= 0.1


# -------------------------------------------------------------------------------------------------------- wrong chunks
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda f: f[:-1], (TruncatedFrameError, ValueError)),
        (lambda f: LatentNumcodec(absolute=0.1).encode(FIELD[:30, :34]), FrameMismatchError),
        (lambda f: LatentNumcodec(absolute=0.1).encode(FIELD[:30, :35].astype("f8")), FrameMismatchError),
    ],
    ids=["cut", "shape", "dtype"],
)
def test_chunks_of_another_array_are_refused(tmp_path, damage, error):
    array = _array(store=tmp_path / "a.zarr")
    array[...] = FIELD
    file = tmp_path / "a.zarr/c/0/1"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(error):
        array[...]
    assert np.abs(array[30:] - FIELD[30:]).max() <= 0.1


def test_the_model_is_that_of_the_package_unless_given():
    assert LatentCodec(absolute=1).model == default_model()
    assert LatentCodec(absolute=1, model=default_model().digest).model == default_model()
    for effort in Effort:
        codec = LatentCodec(absolute=1, effort=effort)
        assert codec.model == shipped_model(effort)
        assert LatentCodec.from_dict(codec.to_dict()).config.effort is effort
        assert LatentCodec(absolute=1, model=default_model(), effort=effort).model == default_model()
