"""Whole frames from outside: damaged ones are refused; sealed lies end in an error or an array, soon and in bounded memory."""

import struct
import time
import tracemalloc

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentzarr.bitstream.frame import Mode, parse_frame, read_header
from latentzarr.bounds import ErrorBound
from latentzarr.codec.chunk import decode_chunk, encode_chunk, encode_with
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.predictor import CubicPredictor, neural_predictor
from latentzarr.errors import FormatError, FrameMismatchError, ModelNotFoundError
from latentzarr.models.store import SHIPPED, shipped_model
from latentzarr.testing import make_chunk

COARSE_TO_FINE = Effort.FAST  # which tries the raster mode only where there is nothing else
RASTER_COUNTERS = 3 * 2**19


def sealed(frame):
    """The frame with a checksum that says all is well."""
    at = 5 if frame[2] == 2 else 22
    head, rest = bytes(frame[:at]), bytes(frame[at + 4 :])
    return head + struct.pack("<I", google_crc32c.extend(google_crc32c.value(head), rest)) + rest


def crc_at(frame):
    """Where the checksum of a frame stands."""
    return 5 if frame[2] == 2 else 22


def samples():
    smooth, rough = make_chunk((24, 30), np.dtype("f4"), "smooth", 1), make_chunk((9, 9), np.dtype("f4"), "magnitudes", 1)
    masked = smooth.copy()
    masked[5:15, 8:20], masked[0, 0], masked[1, 1] = np.nan, np.inf, -np.inf
    masked[20:, :4] = -999
    signed = smooth.copy()
    signed[::5] = 0
    deep = make_chunk((3, 17, 19), np.dtype("f4"), "smooth", 2)
    large = make_chunk((130, 140), np.dtype("f4"), "smooth_and_noise", 2)
    tiles = np.repeat(np.repeat(make_chunk((12, 15), np.dtype("f4"), "smooth_and_noise", 2), 2, 0), 3, 1)
    steps = make_chunk((24, 30), np.dtype("i2"), "smooth", 3)
    flags = make_chunk((24, 30), np.dtype("b1"), "smooth", 3)
    some = ErrorBound.absolute(0.05)
    for name, chunk, bound, fill in [
        ("raw", rough[:1, :3], ErrorBound.lossless(), None),
        ("constant", np.ones((5, 6), "f8"), some, None),
        ("empty", smooth[:0], some, None),
        ("pcodec", rough, ErrorBound.lossless(), None),
        ("smooth", smooth, some, None),
        ("masked", masked, some, -999.0),
        ("slices", deep, some, None),
        ("relative", signed, ErrorBound.relative(0.01), None),
        ("none", smooth, ErrorBound.none(0.05), None),
        ("sections", large, some, None),
        ("integers", steps, ErrorBound.lossless(), None),
        ("bounded", steps * 10, ErrorBound.absolute(3), None),
        ("bool", flags, some, None),
        ("half", smooth.astype("f2"), some, None),
        ("double", smooth.astype("f8"), some, None),
        ("tiles", tiles, some, None),
        ("decimal", np.round(smooth, 1), ErrorBound.absolute(0.5), None),
    ]:
        yield name, (encode_chunk(chunk, CodecConfig(bound, effort=COARSE_TO_FINE), fill), chunk)
    for name, chunk, bound, fill in [
        ("raster", smooth, some, None),
        ("raster masked", masked, some, -999.0),
        ("raster slices", steps.reshape(2, 12, 30), ErrorBound.lossless(), None),
        ("raster ranks", 9 * (steps[:12] >> 2), ErrorBound.lossless(), None),
    ]:
        yield name, (encode_with(chunk, CodecConfig(bound), (), fill, raster=True), chunk)
    t = np.arange(5).reshape(-1, 1, 1)
    wander = make_chunk((17, 19), np.dtype("f4"), "smooth", 2) + 0.3 * t * make_chunk((17, 19), np.dtype("f4"), "smooth", 3)
    gone = wander.copy()
    gone[1, 5:], gone[:, :4, :4] = np.nan, np.nan
    for order, model in ((1, shipped_model("hierarchy-1")), (2, shipped_model("normal"))):
        for name, chunk in (("", smooth), (" slices", wander), (" masked slices", gone)):
            for predictor in (neural_predictor(model), CubicPredictor(model.order)):
                frame = encode_with(chunk.astype("f4"), CodecConfig(some, model), (predictor,))
                yield f"order {order} {predictor.mode.name.lower()}{name}", (frame, chunk.astype("f4"))


SAMPLES = dict(samples())
SMALL = [name for name, (frame, _) in SAMPLES.items() if len(frame) < 1000]
HIERARCHY = [name for name, (frame, _) in SAMPLES.items() if read_header(frame).mode.is_hierarchy]
every = pytest.mark.parametrize("name", SAMPLES)


def test_the_samples_are_of_every_mode_that_is_easy_to_get():
    modes = {read_header(frame).mode for frame, _ in SAMPLES.values()}
    assert modes >= {Mode.RAW, Mode.CONSTANT, Mode.PCODEC, Mode.CUBIC, Mode.NEURAL, Mode.RASTER}
    for name, (frame, _) in SAMPLES.items():
        assert (read_header(frame).mode is Mode.RASTER) == name.startswith("raster")
    parsed = [parse_frame(frame)[:2] for frame, _ in SAMPLES.values()]
    assert {header.version for header, h in parsed if h} == {1, 2}
    assert any(header.mode is Mode.NEURAL and h.dyadic and h.mask for header, h in parsed if h)
    assert any(header.mode is Mode.NEURAL and h.dyadic and not h.mask for header, h in parsed if h)
    assert len(HIERARCHY) >= 8
    assert len(SMALL) >= 10


@every
def test_every_changed_byte_of_a_frame_is_noticed(name):
    frame, _ = SAMPLES[name]
    values = range(256) if len(frame) < 250 else (0, 255, *(1 << b for b in range(8)))
    damaged = bytearray(frame)
    for at, good in enumerate(frame):
        for value in values:
            bad = value if len(frame) < 250 or value in (0, 255) else good ^ value
            if bad != good:
                damaged[at] = bad
                with pytest.raises(FormatError):
                    decode_chunk(bytes(damaged))
        damaged[at] = good


@every
def test_every_truncation_and_appended_bytes_are_noticed(name):
    frame, _ = SAMPLES[name]
    for size in range(len(frame)):
        with pytest.raises(FormatError):
            decode_chunk(frame[:size])
    for more in (b"\0", b"\0\0", b"\xff" * 7, frame):
        with pytest.raises(FormatError):
            decode_chunk(frame + more)


@every
def test_frames_of_other_arrays_are_refused(name):
    frame, chunk = SAMPLES[name]
    other = "f4" if chunk.dtype != "f4" else "i4"
    for shape, dtype in [((*chunk.shape, 1), chunk.dtype), ((*chunk.shape[::-1], 2), chunk.dtype), (chunk.shape, other)]:
        with pytest.raises(FrameMismatchError):
            decode_chunk(frame, shape, dtype)


def outcome(frame, chunk):
    """Decode foreign bytes as a store would; what is not refused must be an array of the right kind, and soon."""
    began = time.perf_counter()
    try:
        back = decode_chunk(frame, chunk.shape, chunk.dtype)
    except (FormatError, ModelNotFoundError):
        return None
    finally:
        assert time.perf_counter() - began < 5
    assert back.shape == chunk.shape
    assert back.dtype == chunk.dtype
    if back.dtype == np.bool_:
        assert back.view(np.uint8).max(initial=0) <= 1
    return back


@pytest.mark.parametrize("name", SMALL)
def test_each_byte_changed_behind_a_good_checksum(name):
    frame, chunk = SAMPLES[name]
    start = parse_frame(frame)[2]
    crc = crc_at(frame)
    for at in [*range(2, crc), *range(crc + 4, min(len(frame), start + 40))]:
        for change in (1, 2, 4, 8, 16, 32, 64, 128, 255, 127):
            lie = bytearray(frame)
            lie[at] ^= change
            outcome(sealed(lie), chunk)


@every
@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_changed_behind_a_good_checksum(name, data):
    frame, chunk = SAMPLES[name]
    start = parse_frame(frame)[2]
    lie = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 6))):
        lie[data.draw(st.one_of(st.integers(2, min(start + 20, len(lie) - 1)), st.integers(2, len(lie) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    if data.draw(st.integers(0, 3)) == 0:
        at = data.draw(st.integers(min(26, crc_at(frame) + 4), len(lie)))
        lie[at:at] = data.draw(st.binary(max_size=6))
    outcome(sealed(lie), chunk)


@pytest.mark.parametrize("name", HIERARCHY)
def test_payloads_of_noise_zeros_and_ones(name):
    frame, chunk = SAMPLES[name]
    start = parse_frame(frame)[2]
    rng = np.random.default_rng(0)
    size = len(frame) - start
    for payload in (bytes(size), b"\xff" * size, *(rng.bytes(size) for _ in range(30))):
        outcome(sealed(frame[:start] + payload), chunk)


@pytest.mark.parametrize("name", ["smooth", "integers", "masked", "raster", "raster masked", "raster ranks"])
def test_a_lie_costs_no_more_memory_than_the_chunk_allows(name):
    frame, chunk = SAMPLES[name]
    start = parse_frame(frame)[2]
    decode_chunk(frame)
    for shipped in SHIPPED:
        shipped_model(shipped)  # which a lie about the model would read now, once
    worst = 0
    tracemalloc.start()
    try:
        for at in range(crc_at(frame) + 4, start + 8):
            for value in (0x7F, 0xFF, frame[at] ^ 0x55):
                lie = bytearray(frame)
                lie[at] = value
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                outcome(sealed(lie), chunk)
                worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    fixed = RASTER_COUNTERS if name.startswith("raster") else 2**20
    assert worst < 40 * chunk.nbytes + fixed


def told(shape):
    data = bytearray([len(shape)])
    for n in shape:
        while n >= 0x80:
            data.append(n & 0x7F | 0x80)
            n >>= 7
        data.append(n)
    return bytes(data)


@pytest.mark.parametrize("name", ["constant", "pcodec", "smooth", "integers", "raw"])
@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (2**39, 2), (0, 2**40, 2**39), (2**40,) * 60])
def test_claims_of_2_to_the_40_values(name, shape):
    frame, chunk = SAMPLES[name]
    at = crc_at(frame) + 4
    lie = sealed(frame[:at] + told(shape) + frame[at + len(told(chunk.shape)) :])
    tracemalloc.start()
    try:
        for asked in ((), (chunk.shape, chunk.dtype)):
            with pytest.raises(FormatError):
                decode_chunk(lie, *asked)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_unknown_model_is_named():
    for order in (1, 2):
        lie = bytearray(SAMPLES[f"order {order} neural"][0])
        header = read_header(bytes(lie))
        assert (header.version, header.mode) == (order, Mode.NEURAL)
        size = {1: 8, 2: 4}[order]
        at = bytes(lie).index(header.digest)
        lie[at : at + size] = b"\xab" * size
        with pytest.raises(ModelNotFoundError, match="ab" * size):
            decode_chunk(sealed(lie))


@pytest.mark.parametrize("name", HIERARCHY)
def test_a_hierarchy_of_the_other_version_is_refused_or_other_values(name):
    """Version 2 has one more byte of flags and other tables; nothing of one version passes for the other by chance."""
    frame, chunk = SAMPLES[name]
    lie = bytearray(frame)
    lie[2] = 3 - lie[2]
    back = outcome(sealed(lie), chunk)
    assert back is None or read_header(frame).mode is Mode.CUBIC


def test_booleans_other_than_0_and_1_never_come_out():
    for mode in (b"\0", b"\1"):
        frame = bytearray(encode_chunk(np.ones(1, bool), CodecConfig(ErrorBound.lossless())))
        assert frame[3] >> 4 == 0, "lossless"
        frame[3:4], frame[-1:] = mode, b"\x05"
        with pytest.raises(FormatError):
            decode_chunk(sealed(frame))
