"""Previews: the right places, the same bits, and fewer bytes read."""

from __future__ import annotations

import asyncio
import pickle

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from latentzarr import LatentCodec, LatentNumcodec
from latentzarr.bounds import ErrorBound
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.preview import decode_prefix, prefix_size, preview_axes
from latentzarr.errors import CorruptFrameError, FormatError, InvalidConfigError

rng = np.random.default_rng(7)

COARSE_TO_FINE = Effort.FAST
"""With which the raster mode, whose frames have no prefix, is not tried: what is read of a store does not hang on weights."""


def _field(*shape, noise=0.3):
    rows, columns = (1, *shape)[-2:]
    y, x = np.meshgrid(np.linspace(0, 6, rows), np.linspace(0, 9, columns), indexing="ij")
    return (280 + 9 * np.sin(y) * np.cos(x) + rng.normal(0, noise, shape)).astype("f4")


class Counting(WrapperStore):
    """A store that remembers what was read of chunks."""

    def __init__(self, store):
        super().__init__(store)
        self.read = {}

    def _with_store(self, store):
        return self

    async def get(self, key, prototype, byte_range=None):
        found = await self._store.get(key, prototype, byte_range)
        if found is not None and not key.endswith("zarr.json"):
            self.read[key] = self.read.get(key, 0) + len(found)
        return found

    async def get_partial_values(self, prototype, key_ranges):
        return [await self.get(key, prototype, where) for key, where in key_ranges]

    @property
    def total(self):
        return sum(self.read.values())


# -------------------------------------------------------------------------------------------------------------- frames
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 64), (0, 1)),
        ((4, 100, 80), (1, 2)),
        ((1, 100, 1, 80), (1, 3)),
        ((500,), (0,)),
        ((1, 500, 1), (1,)),
        ((1, 1), ()),
        ((), ()),
        ((1000, 4, 5), ()),  # read as 1000 x 20: no axes of the chunk
        ((1000, 1, 5), (0, 2)),
    ],
)
def test_axes_of_a_preview(shape, axes):
    assert preview_axes(shape) == axes


@pytest.mark.parametrize("effort", [COARSE_TO_FINE, Effort.NORMAL])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("values", "bound"),
    [
        (_field(3, 130, 97), ErrorBound.absolute(0.01)),
        (_field(128, 128), ErrorBound.relative(0.001)),
        (np.where(rng.random((160, 160)) < 0.2, np.nan, _field(160, 160)), ErrorBound.absolute(0.01)),
        (rng.integers(0, 300, (90, 200)).astype(">i2"), ErrorBound.lossless()),
        (_field(90, 200) > 280, ErrorBound.lossless()),
        (_field(120, 120), ErrorBound.none(0.05)),
        (_field(64, 64), ErrorBound.lossless()),
        (np.full((50, 60), 3.5, "f8"), ErrorBound.absolute(1)),
        (_field(9, 7), ErrorBound.absolute(0.01)),  # too small for sections
        (_field(400, 3, 5), ErrorBound.absolute(0.01)),  # leading x trailing
        (_field(1, 5000)[0], ErrorBound.absolute(0.001)),
    ],
    ids=["absolute", "relative", "mask", "integers", "booleans", "rmse", "lossless", "constant", "tiny", "merged", "line"],
)
def test_a_prefix_decodes_to_the_bits_of_the_whole(values, bound, level, effort):
    frame = encode_chunk(values, CodecConfig(bound, effort=effort))
    whole = decode_chunk(frame, values.shape, values.dtype)
    needed = prefix_size(frame[:4096], level, values.shape, values.dtype)
    seen = decode_prefix(frame[:needed], level, values.shape, values.dtype)
    step = slice(None, None, 2**level)
    expected = whole[tuple(step if i in preview_axes(values.shape) else slice(None) for i in range(values.ndim))]
    assert seen.dtype == values.dtype
    np.testing.assert_array_equal(seen, expected)


def test_coarser_needs_less():
    values = _field(256, 256)
    frame = encode_chunk(values, CodecConfig(ErrorBound.absolute(0.01), effort=COARSE_TO_FINE))
    sizes = [prefix_size(frame[:4096], level, values.shape, values.dtype) for level in (3, 2, 1)]
    assert sizes[0] < len(frame) / 20
    assert sizes[1] < len(frame) / 8
    assert sizes[0] < sizes[1] < sizes[2] < len(frame) / 2


def test_every_flipped_or_missing_byte_of_a_prefix_is_noticed():
    values = _field(96, 96)
    frame = encode_chunk(values, CodecConfig(ErrorBound.absolute(0.01), effort=COARSE_TO_FINE))
    needed = prefix_size(frame, 2, values.shape, values.dtype)
    expected = decode_prefix(frame[:needed], 2, values.shape, values.dtype)
    unnoticed = 0
    for at in range(needed):
        for flip in (1, 0x80):
            damaged = bytearray(frame[:needed])
            damaged[at] ^= flip
            try:
                seen = decode_prefix(bytes(damaged), 2, values.shape, values.dtype)
            except FormatError:
                continue
            np.testing.assert_array_equal(seen, expected)  # checksums of the whole and of later sections: not values
            unnoticed += 1
    assert unnoticed == 2 * (4 + 3 * 2)
    for size in range(0, needed, 7):
        with pytest.raises(FormatError):
            decode_prefix(frame[:size], 2, values.shape, values.dtype)
    np.testing.assert_array_equal(decode_prefix(frame, 2, values.shape, values.dtype), expected)


def test_levels_that_do_not_exist():
    with pytest.raises(InvalidConfigError, match="0 to 3"):
        decode_prefix(b"", 4, (8, 8), np.dtype("f4"))


# -------------------------------------------------------------------------------------------------------------- stores
def _dataset(steps=3, rows=144, columns=192):
    t = _field(steps, rows, columns)
    t[:, 20:60, 30:90] = np.nan
    lat, lon = np.linspace(-90, 90, rows), np.arange(columns) * 1.0
    edges = np.stack([lat - 0.5, lat + 0.5], 1)
    return xr.Dataset(
        {"t": (("time", "lat", "lon"), t), "lat_edges": (("lat", "edge"), edges), "plain": (("lat", "lon"), t[0])},
        coords={"time": np.arange(steps), "lat": lat, "lon": lon},
    )


def _write(store, ds=None, **encoding):
    (_dataset() if ds is None else ds).to_zarr(
        store, encoding={"t": {"serializer": LatentCodec(absolute=0.01, effort=COARSE_TO_FINE), "compressors": None, **encoding}}
    )


LAYOUTS = [
    {"chunks": (1, 144, 192)},
    {"chunks": (3, 72, 64)},
    {"chunks": (2, 36, 50)},  # 50 = 2 * 25: read at level 1, whatever is asked for
    {"chunks": (1, 45, 55)},  # odd: read whole
    {"chunks": (1, 72, 64), "shards": (3, 144, 192)},
    {"chunks": (1, 40, 64), "shards": (2, 80, 128)},
    {"chunks": (3, 72, 96), "compressors": zarr.codecs.ZstdCodec()},
]


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_shows_the_values_of_the_whole(layout, scale):
    store = MemoryStore()
    _write(store, **layout)
    thin = slice(None, None, scale)
    expected = xr.open_zarr(store, chunks=None).load().isel(lat=thin, lon=thin)
    seen = xr.open_dataset(store, engine="latentzarr", scale=scale)
    picked = {"time": [2, 0], "lat": slice(1, None, 3), "lon": [5, 2, 2]}
    xr.testing.assert_identical(seen.isel(picked).load(), expected.isel(picked))
    xr.testing.assert_identical(seen.isel(time=1, lat=-1).load(), expected.isel(time=1, lat=-1))
    xr.testing.assert_identical(xr.open_dataset(store, engine="latentzarr", scale=scale, chunks={}).compute(), expected)
    asyncio.run(seen.load_async())
    xr.testing.assert_identical(seen, expected)


@pytest.mark.parametrize("layout", [{"chunks": (1, 288, 384)}, {"chunks": (1, 288, 384), "shards": (3, 576, 384)}], ids=str)
def test_fewer_bytes_are_read(layout):
    store = Counting(MemoryStore())
    _write(store, _dataset(rows=576, columns=384), **layout)
    read = {}
    for scale in (1, 2, 4, 8):
        opened = xr.open_dataset(store, engine="latentzarr", scale=scale)[["t"]]
        store.read.clear()
        opened.load()
        read[scale] = store.total
    assert read[2] < read[1] * 0.5
    assert read[4] < read[1] * 0.25
    assert read[8] < read[1] * 0.15


def test_bytes_of_frames_are_read_once():
    store = Counting(MemoryStore())
    _write(store, chunks=(1, 144, 192))
    opened = xr.open_dataset(store, engine="latentzarr", scale=2)[["t"]]
    store.read.clear()
    opened.isel(time=0).load()
    [size] = store.read.values()
    whole = asyncio.run(store.getsize("t/c/0/0/0"))
    assert 4096 < size < whole


def test_a_mask_longer_than_the_first_read_is_followed():
    ds = _dataset(1, 512, 512)
    ds["t"] = ds.t.where(np.random.default_rng(1).random(ds.t.shape) < 0.5)
    store = Counting(MemoryStore())
    _write(store, ds, chunks=(1, 512, 512))
    opened = xr.open_dataset(store, engine="latentzarr", scale=8)
    thin = slice(None, None, 8)
    np.testing.assert_array_equal(opened.t.values, xr.open_zarr(store).t.values[:, thin, thin])


def test_chunks_that_are_not_stored_show_the_fill_value():
    store = MemoryStore()
    array = zarr.create_array(
        store, name="t", shape=(100, 100), chunks=(50, 50), dtype="f4", fill_value=-7, dimension_names=("y", "x"),
        serializer=LatentCodec(absolute=0.1), compressors=None,
    )  # fmt: skip
    array[:50, :50] = _field(50, 50)
    sharded = zarr.create_array(
        store, name="s", shape=(100, 100), chunks=(10, 10), shards=(50, 50), dtype="i4", fill_value=9, dimension_names=("y", "x"),
        serializer=LatentCodec(absolute=1), compressors=None,
    )  # fmt: skip
    sharded[:10, :50] = 3
    seen = xr.open_dataset(store, engine="latentzarr", scale=4, consolidated=False)
    np.testing.assert_array_equal(seen.t.values, array[::4, ::4])
    np.testing.assert_array_equal(seen.s.values, sharded[::4, ::4])


@pytest.mark.parametrize("order", ["C", "F"])
def test_zarr_format_2(order):
    store = MemoryStore()
    array = zarr.create_array(
        store, name="t", shape=(3, 100, 130), chunks=(2, 50, 130), dtype="<f4", zarr_format=2, order=order,
        compressors=LatentNumcodec(absolute=0.1), attributes={"_ARRAY_DIMENSIONS": ["k", "y", "x"]},
    )  # fmt: skip
    array[:] = _field(3, 100, 130)
    seen = xr.open_dataset(store, engine="latentzarr", scale=2, consolidated=False, mask_and_scale=False)
    np.testing.assert_array_equal(seen.t.values, array[:, ::2, ::2])


def test_the_dimensions_of_all_variables_are_thinned_alike():
    ds = xr.Dataset({"t": (("time", "lat", "lon"), _field(4, 64, 64)), "series": (("lat",), _field(2, 64)[0])})
    codec = {"serializer": LatentCodec(absolute=0.1), "compressors": None}
    store = MemoryStore()
    ds.to_zarr(store, encoding={"t": codec, "series": codec})
    seen = xr.open_dataset(store, engine="latentzarr", scale=4)
    assert seen.sizes == {"time": 4, "lat": 16, "lon": 16}
    np.testing.assert_array_equal(seen.series.values, xr.open_zarr(store).series.values[::4])


def test_nothing_to_preview_is_said(tmp_path):
    xr.Dataset({"a": (("x", "y"), np.ones((4, 4)))}).to_zarr(tmp_path / "a.zarr")
    with pytest.raises(InvalidConfigError, match="scale=2 needs a variable that latentzarr coded"):
        xr.open_dataset(tmp_path / "a.zarr", engine="latentzarr", scale=2)


def test_saving_a_preview_stores_it_as_it_is(tmp_path):
    store = MemoryStore()
    _write(store, chunks=(1, 72, 64), shards=(3, 144, 192))
    seen = xr.open_dataset(store, engine="latentzarr", scale=4, chunks={})
    seen.to_zarr(tmp_path / "small.zarr")
    again = xr.open_zarr(tmp_path / "small.zarr")
    xr.testing.assert_equal(again.load(), seen.load())
    assert not isinstance(again.t.encoding["serializer"], LatentCodec)


def test_previews_travel_to_other_processes(tmp_path):
    _write(tmp_path / "a.zarr", chunks=(1, 72, 64))
    seen = xr.open_dataset(tmp_path / "a.zarr", engine="latentzarr", scale=4, chunks={})
    xr.testing.assert_identical(pickle.loads(pickle.dumps(seen)).compute(), seen.compute())


def test_a_damaged_prefix_or_index_names_its_variable(tmp_path):
    _write(tmp_path / "a.zarr", chunks=(1, 72, 64), shards=(3, 144, 192))
    file = LocalStore(tmp_path / "a.zarr").root / "t/c/0/0/0"
    sound = file.read_bytes()
    for at in (60, len(sound) - 9):
        damaged = bytearray(sound)
        damaged[at] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(CorruptFrameError, match="/t"):
            xr.open_dataset(tmp_path / "a.zarr", engine="latentzarr", scale=8).t.load()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_shape_chunks_and_scale(data):
    shape = tuple(data.draw(st.integers(1, n)) for n in (4, 70, 70))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    shards = tuple(c * data.draw(st.integers(1, 3)) for c in chunks) if data.draw(st.booleans()) else None
    scale = data.draw(st.sampled_from([2, 4, 8]))
    store = MemoryStore()
    array = zarr.create_array(
        store, name="t", shape=shape, chunks=chunks, shards=shards, dtype="f4", dimension_names=("k", "y", "x"),
        serializer=LatentCodec(absolute=0.01), compressors=None,
    )  # fmt: skip
    array[:] = _field(*shape)
    seen = xr.open_dataset(store, engine="latentzarr", scale=scale, consolidated=False)
    np.testing.assert_array_equal(seen.t.values, array[:, ::scale, ::scale])
