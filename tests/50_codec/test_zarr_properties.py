"""Whatever zarr does to an array, the bound holds: any chunks, shards, fill values, selections, pipelines, formats 2 and 3."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
import zarr.testing.strategies as zst
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from zarr.storage import MemoryStore

from latentzarr import LatentCodec, LatentNumcodec
from latentzarr.bounds import BoundKind, ErrorBound, violations

PIPELINES = ["zarr.core.codec_pipeline.BatchedCodecPipeline"]
if hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
    PIPELINES.append("zarr.core.codec_pipeline.FusedCodecPipeline")

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
FLOATS = ["<f4", "<f8", "<f2", ">f4", ">f8"]
INTEGERS = ["<i2", "|u1", "<i8", ">u4", "|b1"]


@st.composite
def _bounds(draw, dtype):
    if np.dtype(dtype).kind != "f":
        return draw(st.sampled_from([ErrorBound.lossless(), ErrorBound.absolute(1), ErrorBound.absolute(3.5)]))
    return draw(
        st.sampled_from([ErrorBound.absolute(0.1), ErrorBound.absolute(1e-6), ErrorBound.relative(0.01), ErrorBound.lossless()])
    )


@st.composite
def _values(draw, dtype, shape):
    """Smooth, noisy, constant or hostile."""
    dtype = np.dtype(dtype)
    kind = draw(st.sampled_from(["smooth", "noise", "constant", "anything"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if kind == "anything":
        return draw(npst.arrays(dtype, shape))
    if kind == "constant":
        return np.full(shape, draw(npst.from_dtype(dtype)), dtype)
    if kind == "noise":
        return (rng.normal(0, 50, shape)).astype("f8").clip(0, 120).astype(dtype)
    ramps = sum(np.sin(np.arange(n) / 9).reshape([-1 if i == j else 1 for j in range(len(shape))]) for i, n in enumerate(shape))
    values = np.broadcast_to(20 + 9 * np.asarray(ramps), shape).astype(dtype)
    if dtype.kind == "f" and draw(st.booleans()):
        values[rng.random(shape) < 0.1] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0]))
    return values


@st.composite
def _cases(draw):
    dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    shape = draw(st.lists(st.integers(1, 24), min_size=1, max_size=4).map(tuple))
    chunks = tuple(draw(st.integers(1, n + 2)) for n in shape)
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks) if draw(st.booleans()) else None
    return dtype, draw(_values(dtype, shape)), chunks, shards, draw(_bounds(dtype))


def _fill_values(dtype):
    dtype = np.dtype(dtype)
    return st.sampled_from([0, 1] if dtype.kind in "biu" else [0, np.nan, -9999.0, np.inf])


def _kept(original, seen, bound):
    """Whether every value is within the bound, as the codec understands it for this dtype."""
    if original.dtype.kind != "f" and not (bound.kind is BoundKind.ABSOLUTE and original.dtype.kind in "iu"):
        bound = ErrorBound.lossless()
    return not violations(original, np.asarray(seen), bound).any()


@pytest.mark.parametrize("pipeline", PIPELINES)
@SETTINGS
@given(data=st.data(), case=_cases(), write_empty=st.booleans(), batch=st.sampled_from([1, 4]), zstd=st.booleans())
def test_what_is_written_is_read_within_the_bound(pipeline, data, case, write_empty, batch, zstd):
    dtype, values, chunks, shards, bound = case
    fill = data.draw(_fill_values(dtype))
    with zarr.config.set({"codec_pipeline.path": pipeline, "codec_pipeline.batch_size": batch}):
        array = zarr.create_array(
            MemoryStore(), shape=values.shape, dtype=dtype, chunks=chunks, shards=shards, fill_value=fill,
            serializer=LatentCodec(bound=bound), compressors=zarr.codecs.ZstdCodec() if zstd else None,
            config={"write_empty_chunks": write_empty},
        )  # fmt: skip
        array[...] = values
        seen = zarr.open_array(array.store_path, mode="r")
        whole = seen[...]
        assert whole.dtype == values.dtype.newbyteorder("=") or whole.dtype == values.dtype
        assert _kept(values, whole.astype(values.dtype), bound)
        for indices in (zst.basic_indices(shape=values.shape), zst.orthogonal_indices(shape=values.shape)):
            index = data.draw(indices)
            if isinstance(index, tuple) and len(index) == 2 and isinstance(index[0], tuple):  # zarr's indexer and NumPy's
                np.testing.assert_array_equal(seen.oindex[index[0]], whole[index[1]])
            else:
                np.testing.assert_array_equal(seen[index], whole[index])


@SETTINGS
@given(data=st.data(), case=_cases())
def test_regions_written_one_after_another(data, case):
    """Partial writes decode and code again what was there; with exact data that may change nothing."""
    dtype, values, chunks, shards, _ = case
    fill = data.draw(_fill_values(dtype))
    array = zarr.create_array(
        MemoryStore(), shape=values.shape, dtype=dtype, chunks=chunks, shards=shards, fill_value=fill,
        serializer=LatentCodec(lossless=True), compressors=None,
    )  # fmt: skip
    mirror = np.full(values.shape, fill, dtype)
    for _ in range(3):
        region = tuple(slice(*sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))) for n in values.shape)
        array[region] = values[region]
        mirror[region] = values[region]
    np.testing.assert_array_equal(array[...], mirror)


@SETTINGS
@given(data=st.data(), case=_cases(), order=st.sampled_from("CF"), as_filter=st.booleans())
def test_zarr_format_2(data, case, order, as_filter):
    dtype, values, chunks, _, bound = case
    if np.dtype(dtype).kind != "f" and bound.kind in (BoundKind.RELATIVE, BoundKind.NONE):
        bound = ErrorBound.lossless()
    codec = LatentNumcodec(bound=bound)
    place = {"filters": [codec], "compressors": None} if as_filter else {"compressors": codec}
    array = zarr.create_array(
        MemoryStore(), shape=values.shape, dtype=dtype, chunks=chunks, zarr_format=2, order=order,
        fill_value=data.draw(_fill_values(dtype)), **place,
    )  # fmt: skip
    array[...] = values
    seen = zarr.open_array(array.store_path, mode="r")
    assert _kept(values, seen[...], bound)
    index = data.draw(zst.basic_indices(shape=values.shape))
    np.testing.assert_array_equal(seen[index], seen[...][index])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_zero_size_and_scalar_arrays(pipeline):
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        for shape, chunks in (((), ()), ((0,), (3,)), ((4, 0), (2, 2))):
            array = zarr.create_array(
                MemoryStore(), shape=shape, dtype="f4", chunks=chunks, serializer=LatentCodec(absolute=0.1), compressors=None
            )
            array[...] = np.full(shape, 5.25, "f4")
            assert _kept(np.full(shape, 5.25, "f4"), array[...], ErrorBound.absolute(0.1))


def test_resized_and_appended_arrays():
    array = zarr.create_array(
        MemoryStore(),
        shape=(10, 40),
        dtype="f4",
        chunks=(4, 40),
        serializer=LatentCodec(absolute=0.1),
        compressors=None,
        fill_value=1,
    )
    values = np.random.default_rng(0).normal(0, 3, (22, 40)).astype("f4")
    array[...] = values[:10]
    array.append(values[10:])
    # the chunk that was already half full is coded a second time: its error may double
    assert np.abs(array[...] - values).max() <= 0.2
    assert np.abs(array[12:] - values[12:]).max() <= 0.1
