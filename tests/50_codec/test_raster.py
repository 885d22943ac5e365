"""The raster mode: every value back, the reference decoder alike, damage refused, and tried where it may win."""

import struct

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentzarr import CodecConfig, ErrorBound, decode_chunk, encode_chunk
from latentzarr.bitstream.frame import Mode, parse_frame, read_header
from latentzarr.bitstream.hierarchy_header import HierarchyHeader
from latentzarr.bitstream.mixing import AT, RATES, REACH, SQUASH, STRETCH, code_bit, finish, new_coder
from latentzarr.bounds import BoundKind, violations
from latentzarr.codec.chunk import encode_with
from latentzarr.codec.kernels.raster import walk_raster
from latentzarr.codec.predictor import CubicPredictor
from latentzarr.codec.preview import decode_prefix, prefix_size
from latentzarr.codec.ranks import from_ranks, to_ranks
from latentzarr.errors import CorruptFrameError, FormatError
from latentzarr.geometry import Order
from latentzarr.models.store import shipped_model
from latentzarr.reference import decode_frame
from latentzarr.reference.chances import SQUASH as PLAIN_SQUASH
from latentzarr.reference.chances import STRETCH as PLAIN_STRETCH
from latentzarr.testing import bounds, chunks, fill_values, make_chunk

SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
EXACT = ErrorBound.lossless()


def coded(chunk, bound=EXACT, fill=None):
    return encode_with(chunk, CodecConfig(bound), (), fill, raster=True)


def steps(*shape, seed=0):
    """Level ground with edges, and a third of the rows a copy of the one above."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=shape).cumsum(-1) / 2).round().astype("i2")
    x[..., ::3, :] = x[..., 1::3, :][..., : x[..., ::3, :].shape[-2], :] if shape[-2] % 3 == 0 else x[..., ::3, :]
    return x


def sealed(frame):
    """The frame with a checksum that says all is well."""
    at = 5 if frame[2] == 2 else 22
    head, rest = bytes(frame[:at]), bytes(frame[at + 4 :])
    return head + struct.pack("<I", google_crc32c.extend(google_crc32c.value(head), rest)) + rest


# --------------------------------------------------------------------------------------------------------------- parts
def test_the_tables_are_those_of_the_page():
    assert SQUASH.tolist() == PLAIN_SQUASH
    assert STRETCH.tolist() == PLAIN_STRETCH
    assert (np.diff(SQUASH) >= 0).all()
    assert 0 < SQUASH.min() < SQUASH.max() < 65536
    assert np.abs(STRETCH).max() <= REACH
    assert (RATES > 0).all()


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 65535)), max_size=300))
@settings(**SLOWLY)
def test_the_binary_coder_gives_back_any_bits_at_any_chances(bits):
    data = np.zeros(1000, np.uint8)
    coder = new_coder(data, False)
    for bit, chance in bits:
        assert code_bit(coder, data, False, chance, bit) == bit
    used = finish(coder, data, False)
    coder = new_coder(data[:used], True)
    assert [code_bit(coder, data[:used], True, chance, 0) for _, chance in bits] == [bit for bit, _ in bits]
    assert finish(coder, data[:used], True) == used


def test_a_coder_without_room_says_so():
    data = np.zeros(2, np.uint8)
    coder = new_coder(data, False)
    assert -1 in [code_bit(coder, data, False, 60000, 0) for _ in range(20)]
    assert coder[AT] <= 2
    assert finish(coder, data, False) == -1


@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(-(2**24), 2**24)))
@settings(**SLOWLY)
def test_the_walk_gives_back_any_integers(k):
    around = np.zeros((1 + k.shape[0], k.shape[1] + 3, k.shape[2] + 5), np.int32)
    inside = (slice(1, None), slice(2, -1), slice(2, -3))
    around[inside] = k
    hole = np.zeros((1, 1), np.uint8)
    data = np.zeros(64 * k.size + 64, np.uint8)
    used = walk_raster(around, hole, False, data, False)
    assert 0 < used < len(data)
    around[:] = 0
    assert walk_raster(around, hole, False, data[:used], True) == used
    assert (around[inside] == k).all()


@pytest.mark.parametrize("gap", [1, 2, 7])
def test_ranks_leave_out_what_never_occurs(gap):
    x = np.random.default_rng(gap).integers(-40, 40, (2, 60, 60)).astype(np.int32)
    x[0] *= gap
    ranks, described = to_ranks(x, None)
    assert bool(described) == (gap > 1)
    if described:
        assert np.ptp(ranks[0]) == len(np.unique(x[0])) - 1
        assert (from_ranks(ranks, None, described) == x).all()
        missing = (x > 3).astype(np.uint8)
        assert (from_ranks(np.where(missing, 99999, ranks), missing, described) == np.where(missing, 0, x)).all()
        for lie in (ranks + 1000, ranks - 1):
            with pytest.raises(CorruptFrameError, match="rank in slice"):
                from_ranks(lie.astype(np.int32), None, described)


# -------------------------------------------------------------------------------------------------------------- frames
@given(st.data())
@settings(max_examples=40, **SLOWLY)
def test_any_chunk_under_any_bound(data):
    chunk = data.draw(chunks())
    bound, fill = data.draw(bounds()), data.draw(fill_values(chunk))
    frame = encode_with(chunk, CodecConfig(bound), (), fill, raster=True)
    back = decode_chunk(frame, chunk.shape, chunk.dtype)
    header = read_header(frame)
    if bound.kind is not BoundKind.NONE:
        assert not np.any(violations(chunk, back, header.bound))
    if header.mode is Mode.RASTER:
        assert frame[2] == 2
        plain = decode_frame(frame, None, chunk.shape, chunk.dtype)
        assert plain.tobytes() == back.tobytes()


def samples():
    rng = np.random.default_rng(3)
    flat = steps(24, 30)
    holes = np.where(rng.random((3, 20, 17)) < 0.3, np.nan, steps(3, 20, 17).astype("f4"))
    wide = np.where(rng.random((20, 30)) < 0.01, 2**22, make_chunk((20, 30), np.dtype("i4"), "smooth", 1))
    yield "copies", flat, EXACT, None
    yield "slices", np.stack([flat, flat * 3, flat + 5, flat]), EXACT, None
    yield "holes", holes, ErrorBound.absolute(0.4), None
    yield "fill", np.where(flat > 2, flat, flat.dtype.type(-7)), EXACT, -7
    yield "bounded", flat * 100, ErrorBound.absolute(30), None
    yield "relative", np.exp(flat / 9), ErrorBound.relative(0.05), None
    yield "wide", wide.astype("i4"), ErrorBound.absolute(1), None
    yield "gaps", (9 * steps(40, 50) + steps(40, 50) ** 2 % 7 + 999).astype("u2"), EXACT, None
    yield "bool", flat > 1, EXACT, None
    yield "row", flat.ravel()[:300], EXACT, None
    yield "column", flat[:, :1], EXACT, None
    yield "tiles", np.repeat(np.repeat(flat, 3, 0), 2, 1), EXACT, None


SAMPLES = {name: (coded(chunk, bound, fill), chunk, bound) for name, chunk, bound, fill in samples()}
every = pytest.mark.parametrize("name", SAMPLES)


def test_most_samples_are_raster_frames():
    modes = [read_header(frame).mode for frame, *_ in SAMPLES.values()]
    assert modes.count(Mode.RASTER) >= len(modes) - 2
    assert parse_frame(SAMPLES["gaps"][0])[1].adaptation


@every
def test_a_sample_decodes_alike_everywhere(name):
    frame, chunk, _ = SAMPLES[name]
    back = decode_chunk(frame)
    assert decode_frame(frame).tobytes() == back.tobytes()
    assert not np.any(violations(chunk, back, read_header(frame).bound))


@every
def test_every_changed_byte_and_truncation_is_refused(name):
    frame = SAMPLES[name][0]
    for at in range(len(frame)):
        for change in (1, 128, 255):
            damaged = bytearray(frame)
            damaged[at] ^= change
            with pytest.raises(FormatError):
                decode_chunk(bytes(damaged))
        with pytest.raises(FormatError):
            decode_chunk(frame[:at])


@every
def test_sealed_lies_end_in_an_error_or_an_array_and_alike(name):
    frame, chunk, _ = SAMPLES[name]
    rng = np.random.default_rng(len(frame))
    for _ in range(12):
        lie = bytearray(frame)
        for at in rng.integers(26, len(frame), rng.integers(1, 4)) if len(frame) > 26 else ():
            lie[at] = rng.integers(256)
        answers = []
        for decode in (decode_chunk, decode_frame):
            try:
                back = decode(sealed(lie), shape=chunk.shape, dtype=chunk.dtype)
                answers.append((back.shape, back.dtype, back.tobytes()))
            except FormatError:
                answers.append(None)
        assert answers[0] == answers[1]


@every
def test_a_code_that_goes_on_after_the_last_value_is_refused(name):
    frame = SAMPLES[name][0]
    for more in (b"\0", b"\xff\xff", bytes(100)):
        with pytest.raises(FormatError):
            decode_chunk(sealed(frame + more))


def test_version_1_has_no_raster():
    frame = bytearray(SAMPLES["copies"][0])
    frame[2] = 1
    for decode in (decode_chunk, decode_frame):
        with pytest.raises(CorruptFrameError):
            decode(sealed(frame))


def test_flags_without_a_meaning_are_refused():
    frame = SAMPLES["copies"][0]
    header, hierarchy, _ = parse_frame(frame)
    assert isinstance(hierarchy, HierarchyHeader)
    assert header.bound == EXACT
    at = 10 + len(header.shape)
    assert frame[at] == 0, "the flags"
    for wanted, flags in (("decoded", b"\0"), ("snap", b"\1"), ("sections", b"\x20"), ("none such", b"\x80\x04")):
        lie = sealed(frame[:at] + flags + frame[at + 1 :])
        for decode in (decode_chunk, decode_frame):
            if wanted == "decoded":
                decode(lie)
                continue
            with pytest.raises(FormatError):
                decode(lie)


@pytest.mark.parametrize("order", Order)
def test_it_is_left_out_where_frames_have_version_1(order):
    model = shipped_model({Order.TWO_PASSES: "hierarchy-1", Order.THREE_PASSES: "normal"}[order])
    frame = encode_with(steps(60, 80), CodecConfig(EXACT, model), (CubicPredictor(order),), raster=True)
    assert (read_header(frame).mode is Mode.RASTER) == (order is Order.THREE_PASSES)
    assert frame[2] == order


@pytest.mark.parametrize("shape", [(60, 80), (300, 200)])
def test_the_encoder_takes_it_where_it_is_smaller(shape):
    flat = steps(*shape)
    frame = encode_chunk(flat, CodecConfig(EXACT))
    assert read_header(frame).mode is Mode.RASTER
    assert len(frame) <= 0.98 * len(encode_with(flat, CodecConfig(EXACT), ())) + 30
    assert (decode_chunk(frame) == flat).all()


def test_a_preview_is_the_whole_thinned_out():
    flat = steps(60, 80)
    frame = coded(flat)
    assert prefix_size(frame, 2, flat.shape, flat.dtype) is None
    assert (decode_prefix(frame, 2, flat.shape, flat.dtype) == flat[::4, ::4]).all()
