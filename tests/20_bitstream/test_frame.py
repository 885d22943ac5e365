"""The frame: small, self-describing, and closed to damaged, foreign and later bytes."""

import math
import struct
from dataclasses import replace

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.bitstream.frame import (
    FORMAT_VERSION,
    MAGIC,
    FrameHeader,
    HierarchyHeader,
    LatticeHeader,
    Mode,
    Section,
    dtype_code,
    pack_frame,
    parse_frame,
    read_header,
    section_checks_out,
    stored_bound,
)
from latentzarr.bounds import ErrorBound
from latentzarr.errors import (
    CorruptFrameError,
    FormatError,
    FrameMismatchError,
    NewerVersionError,
    TruncatedFrameError,
    UnsupportedDtypeError,
)
from latentzarr.geometry import ChunkGeometry, default_geometry
from latentzarr.repetition import Repetition
from latentzarr.testing import DTYPES

DIGEST = bytes(range(8))
F4 = np.dtype("f4")
PLACES = {
    1: {"version": 2, "mode": 3, "dtype": 4, "kind": 5, "bound": 6, "digest": 14, "shape": 26},
    2: {"version": 2, "mode": 3, "dtype": 4, "shape": 9},
}
CHECKSUM_AT = {1: 22, 2: 5}


def resealed(frame, **changes):
    """A frame with some fields of its fixed part changed and a checksum that says all is well."""
    data = bytearray(frame)
    for name, value in changes.items():
        place = PLACES[frame[2]][name]
        data[place : place + len(value)] = value
    at = CHECKSUM_AT.get(data[2], 22)
    data[at : at + 4] = struct.pack("<I", google_crc32c.extend(google_crc32c.value(bytes(data[:at])), bytes(data[at + 4 :])))
    return bytes(data)


def header(mode=Mode.RAW, dtype=F4, shape=(4, 5), bound=None, fortran=False, version=1):
    return FrameHeader(mode, np.dtype(dtype), fortran, bound or ErrorBound.absolute(0.5), DIGEST, shape, version=version)


def hierarchy(shape=(4, 5), words=(6,), **changes):
    fields = {
        "geometry": default_geometry(shape),
        "offset": -3,
        "root_class": 8,
        "lanes": 2,
        "sections": tuple(Section(w) for w in words),
        "lattice": LatticeHeader(slack=20),
    }
    return HierarchyHeader(**fields | changes)


def payload_of(h):
    rng = np.random.default_rng(0)
    return rng.bytes(4 * h.lanes + 2 * sum(s.words for s in h.sections))


def sample_frames():
    h, s = hierarchy(), hierarchy(words=(3, 4, 5, 6), mask=b"\x01abc", adaptation=b"\x80" * 6)
    c = hierarchy(adaptation=bytes(range(48)), repetition=Repetition(2, 1, 1, 1))
    none = hierarchy(lattice=LatticeHeader(step=0.25))
    log = hierarchy(lattice=LatticeHeader(log_step=12345))
    packed = hierarchy(lattice=LatticeHeader(step=0.5, origin=3.0), snap=True)
    t = hierarchy(words=(3, 4, 5, 6), mask=b"\x01abc", adaptation=bytes(range(120, 129)))
    shifted, dyadic = hierarchy(adaptation=bytes(range(127, 136))), hierarchy((5, 16, 16), words=(3, 4, 5, 6), dyadic=True)
    return {
        "raw": pack_frame(header(), bytes(80)),
        "empty": pack_frame(header(shape=(0, 3)), b""),
        "scalar": pack_frame(header(shape=()), bytes(4)),
        "constant": pack_frame(header(Mode.CONSTANT), bytes(4)),
        "pcodec": pack_frame(header(Mode.PCODEC, bound=ErrorBound.lossless()), bytes(30)),
        "cubic": pack_frame(header(Mode.CUBIC), payload_of(c), c),
        "neural": pack_frame(header(Mode.NEURAL, fortran=True), payload_of(h), h),
        "sections": pack_frame(header(Mode.NEURAL), payload_of(s), s),
        "integers": pack_frame(
            header(Mode.NEURAL, "i2", bound=ErrorBound.lossless()), payload_of(h), hierarchy(snap=True, lattice=LatticeHeader())
        ),
        "none": pack_frame(header(Mode.NEURAL, bound=ErrorBound.none(0.1)), payload_of(none), none),
        "relative": pack_frame(header(Mode.NEURAL, bound=ErrorBound.relative(0.1)), payload_of(log), log),
        "packed": pack_frame(header(Mode.NEURAL), payload_of(packed), packed),
        "raw-2": pack_frame(header(version=2), bytes(80)),
        "empty-2": pack_frame(header(shape=(0, 3), version=2), b""),
        "constant-2": pack_frame(header(Mode.CONSTANT, "f8", version=2), bytes(8)),
        "pcodec-2": pack_frame(header(Mode.PCODEC, bound=ErrorBound.lossless(), version=2), bytes(30)),
        "integers-2": pack_frame(
            header(Mode.NEURAL, "i2", bound=ErrorBound.absolute(300.0), version=2),
            payload_of(h),
            hierarchy(lattice=LatticeHeader()),
        ),
        "sections-2": pack_frame(header(Mode.NEURAL, version=2), payload_of(t), t),
        "packed-2": pack_frame(header(Mode.NEURAL, version=2), payload_of(packed), packed),
        "cubic-2": pack_frame(header(Mode.CUBIC, version=2), payload_of(c), c),
        "neural-2": pack_frame(header(Mode.NEURAL, version=2), payload_of(shifted), shifted),
        "dyadic-2": pack_frame(header(Mode.NEURAL, shape=(5, 16, 16), version=2), payload_of(dyadic), dyadic),
        "independent-2": pack_frame(header(Mode.INDEPENDENT, version=2), payload_of(h), h),
    }


FRAMES = sample_frames()
names = pytest.mark.parametrize("name", FRAMES)


@names
def test_a_frame_says_what_was_written(name):
    frame = FRAMES[name]
    found, tables, start = parse_frame(frame)
    assert found.size == len(frame)
    assert (tables is not None) == found.mode.is_hierarchy
    payload = frame[start:]
    assert pack_frame(found, payload, tables) == frame
    assert read_header(frame) == found
    assert read_header(frame[: len(frame) - len(payload)], verify=False).shape == found.shape


@names
def test_every_changed_byte_is_noticed(name):
    frame = bytearray(FRAMES[name])
    for at in range(len(frame)):
        good = frame[at]
        for bad in range(256):
            if bad != good:
                frame[at] = bad
                with pytest.raises(FormatError):
                    parse_frame(bytes(frame))
        frame[at] = good


@names
def test_every_truncation_and_appended_bytes_are_noticed(name):
    frame = FRAMES[name]
    for size in range(len(frame)):
        with pytest.raises(FormatError):
            parse_frame(frame[:size])
    for more in (b"\0", b"\xff", bytes(100), frame):
        with pytest.raises(FormatError):
            parse_frame(frame + more)


@names
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_bytes_behind_a_good_checksum_are_read_or_refused(name, data):
    frame = bytearray(FRAMES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(2, len(frame) - 1))
        frame[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(min(26 if frame[2] == 1 else 9, len(frame)), len(frame)))
    try:
        found, tables, start = parse_frame(resealed(frame[:cut] if data.draw(st.booleans()) else frame))
    except FormatError:
        return
    assert {1: 26, 2: 9}[found.version] < start <= found.size
    assert found.count * found.dtype.itemsize <= 2**31
    if tables is not None:
        assert tables.geometry.size == found.count
        assert 1 <= tables.coded.size <= found.count
        assert tables.root_class < 64
        assert tables.lanes in (1, 2, 4, 8, 16, 32)
        assert abs(tables.offset) <= 2**48 + 1
        assert len(tables.adaptation) in ((48,) if found.mode is Mode.CUBIC else (0, 6) if found.version == 1 else (0, 9))
        assert found.version == 2 or not tables.dyadic
        assert start + 4 * tables.lanes + 2 * sum(s.words for s in tables.sections) == found.size


@given(st.binary(max_size=100), st.booleans())
def test_foreign_bytes_are_refused(data, ours):
    with pytest.raises(FormatError):
        parse_frame((MAGIC if ours else b"") + data)


@pytest.mark.parametrize("verify", [True, False])
def test_no_bytes_are_truncated_bytes(verify):
    for name, least in (("raw", 26), ("raw-2", 9)):
        for size in range(least):
            with pytest.raises(TruncatedFrameError):
                read_header(FRAMES[name][:size], verify=verify)


@pytest.mark.parametrize(
    "shape", [(), (1,), (8, 720, 1440), (24, 1, 256, 256), (4, 13, 180, 180), (100_000,), (1, 1, 1, 1, 90, 180)]
)
def test_headers_stay_small(shape):
    frame = pack_frame(header(Mode.CONSTANT, shape=shape), bytes(4))
    assert len(frame) - 4 <= 27 + 3 * sum(n > 2**14 for n in shape) + 2 * sum(2**7 <= n <= 2**14 for n in shape) + sum(
        n < 2**7 for n in shape
    )
    assert len(shape) > 3 or len(frame) - 4 <= 32


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 200, 255])
def test_later_versions_say_so_even_where_the_rest_is_unknown(version):
    changed = bytearray(FRAMES["neural"])
    changed[2] = version
    for frame in (bytes(changed), resealed(changed)):
        with pytest.raises(NewerVersionError, match=f"version {version}.*install a newer"):
            parse_frame(frame)


def test_there_was_no_version_zero():
    with pytest.raises(CorruptFrameError):
        parse_frame(resealed(FRAMES["raw"], version=b"\0"))


@pytest.mark.parametrize("name", ["raw", "constant", "sections", "cubic"])
def test_version_2_says_the_same_in_fewer_bytes(name):
    first, second = FRAMES[name], FRAMES[f"{name}-2"]
    assert len(second) < len(first) + 8 * (name == "constant") - 9
    a, b = read_header(first), read_header(second)
    assert (a.version, b.version) == (1, 2)
    assert (a.mode, a.shape, a.bound) == (b.mode, b.shape, b.bound)


def flags_at(frame):
    """Where the flags of a hierarchy of version 2 stand."""
    found = read_header(bytes(frame))
    shape = 1 + sum(1 + (n > 127) for n in found.shape)
    return 9 + shape + (4 if found.bound.value else 0) + (4 if found.mode.is_neural else 0)


def with_flags(frame, flags):
    """The same frame with a varint of flags that is not its own."""
    at = flags_at(frame)
    end = next(k for k in range(at, len(frame)) if frame[k] < 128) + 1
    told = bytearray()
    while flags >= 128:
        told.append(flags & 127 | 128)
        flags >>= 7
    return resealed(frame[:at] + bytes([*told, flags]) + frame[end:])


def flags_of(frame):
    at = flags_at(frame)
    return frame[at] & 127 | (frame[at + 1] << 7 if frame[at] > 127 else 0)


@pytest.mark.parametrize("more", [1 << k for k in range(9, 64, 3)])
@pytest.mark.parametrize("name", ["cubic-2", "neural-2", "dyadic-2", "independent-2"])
def test_unknown_flags_of_version_2_are_refused(name, more):
    frame = FRAMES[name]
    assert with_flags(frame, flags_of(frame)) == frame
    for flags in (more, flags_of(frame) | more):
        with pytest.raises(CorruptFrameError, match="flags"):
            parse_frame(with_flags(frame, flags))


def test_the_order_of_slices_is_written_from_version_2_on():
    frame = FRAMES["dyadic-2"]
    assert parse_frame(frame)[1].dyadic
    assert flags_of(frame) & 256
    assert not parse_frame(with_flags(frame, flags_of(frame) & 255))[1].dyadic


@pytest.mark.parametrize("shift", range(-8, 8))
def test_shifts_of_version_2_are_half_bytes(shift):
    h = hierarchy(adaptation=bytes([128 + shift, *[128] * 8]))
    frame = pack_frame(header(Mode.NEURAL, version=2), payload_of(h), h)
    assert parse_frame(frame)[1].adaptation == h.adaptation
    assert len(frame) == len(pack_frame(header(Mode.NEURAL, version=2), payload_of(h), hierarchy())) + 5


@given(st.floats(1e-300, 1e300), st.sampled_from(["f2", "f4", "f8", "i2", "u8"]))
def test_the_stored_bound_is_no_larger_and_nearly_as_large(value, dtype):
    asked = ErrorBound.absolute(value)
    if np.dtype(dtype).kind != "f" and value < 1:
        return
    stored = stored_bound(asked, np.dtype(dtype))
    assert stored.value <= value
    if dtype == "f8":
        assert stored == asked
    elif np.dtype(dtype).kind != "f":
        assert stored.value == min(math.floor(value), 2**53)
    elif value < 1e-45:
        assert stored == ErrorBound.lossless()
    elif 2e-38 < value < 3.4e38:
        assert stored.value >= value * (1 - 2**-23)
    frame = pack_frame(header(dtype=dtype, bound=stored, version=2), b"")
    assert read_header(frame).bound == stored == stored_bound(stored, np.dtype(dtype))


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": b"\x05"},
        {"mode": b"\xff"},
        {"dtype": b"\x0c"},
        {"dtype": b"\x7f"},
        {"dtype": b"\xff"},
        {"kind": b"\x04"},
        {"kind": b"\xff"},
        {"bound": struct.pack("<d", math.nan)},
        {"bound": struct.pack("<d", math.inf)},
        {"bound": struct.pack("<d", 0.0)},
        {"bound": struct.pack("<d", -1.0)},
        {"kind": b"\0"},
        {"shape": b"\x41"},
        {"shape": b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"},
    ],
)
def test_impossible_fixed_fields(changes):
    with pytest.raises(CorruptFrameError):
        parse_frame(resealed(FRAMES["raw"], **changes))


@pytest.mark.parametrize(
    "changes",
    [
        *[{"mode": bytes([mode | 1 << 4])} for mode in range(max(Mode) + 1, 16)],
        *[{"mode": bytes([kind << 4])} for kind in range(4, 16)],
        {"dtype": b"\x0c"},
        {"dtype": b"\x7f"},
        {"dtype": b"\xff"},
        {"shape": b"\x41"},
        {"shape": b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"},
        *[{"shape": b"\x02\x04\x05" + struct.pack("<f", v)} for v in (0.0, -1.0, math.nan, math.inf)],
        {"mode": b"\x20", "shape": b"\x02\x04\x05" + struct.pack("<f", 1.0)},
    ],
)
def test_impossible_fixed_fields_of_version_2(changes):
    with pytest.raises(CorruptFrameError):
        parse_frame(resealed(FRAMES["raw-2"], **changes))


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (2**39, 2**39), (2**16, 2**15), (0, 2**40, 2**40), (2**40,) * 64])
@pytest.mark.parametrize("mode", [Mode.CONSTANT, Mode.PCODEC, Mode.NEURAL])
def test_claims_of_huge_chunks_are_refused(shape, mode):
    tables = hierarchy() if mode is Mode.NEURAL else None
    small = pack_frame(header(mode, shape=(4, 5)), payload_of(hierarchy()), tables)
    claim = b"\x02\x04\x05"
    assert claim in small
    told = bytearray([len(shape)])
    for n in shape:
        while n >= 0x80:
            told.append(n & 0x7F | 0x80)
            n >>= 7
        told.append(n)
    frame = resealed(small.replace(claim, bytes(told), 1))
    with pytest.raises(FormatError):
        parse_frame(frame)
    with pytest.raises(FormatError):
        parse_frame(frame, (4, 5), F4)


@pytest.mark.parametrize("mode", [Mode.RAW, Mode.CONSTANT, Mode.PCODEC])
def test_frames_of_other_arrays(mode):
    frame = pack_frame(header(mode), bytes(4))
    assert parse_frame(frame, (4, 5), np.dtype(">f4"))[0].dtype == F4
    for shape in [(5, 4), (20,), (4, 5, 1), ()]:
        with pytest.raises(FrameMismatchError, match=r"\(4, 5\)"):
            parse_frame(frame, shape, F4)
    for dtype in ("f8", "i4", "u4", "f2", "M8[s]", "c8"):
        with pytest.raises(FrameMismatchError, match="float32"):
            parse_frame(frame, (4, 5), np.dtype(dtype))


def cursed(mode=Mode.NEURAL, dtype="f4", bound=None, shape=(4, 5), version=1, **changes):
    """A frame that claims what no encoder would; its checksum is right."""
    tables = hierarchy(shape, **changes)
    return pack_frame(header(mode, dtype, shape, bound, version=version), payload_of(tables), tables)


@pytest.mark.parametrize(
    "frame",
    [
        cursed(geometry=ChunkGeometry(1, 4, 6)),
        cursed(geometry=ChunkGeometry(20, 1, 1)),
        cursed(offset=2**49),
        cursed(offset=-(2**52)),
        cursed(root_class=64),
        cursed(root_class=255),
        cursed(lanes=64),
        cursed(lattice=LatticeHeader(slack=61)),
        cursed(bound=ErrorBound.absolute(1.7e308)),
        cursed(bound=ErrorBound.lossless()),
        cursed(bound=ErrorBound.relative(0.1)),
        cursed(lattice=LatticeHeader(log_step=5)),
        cursed(bound=ErrorBound.relative(0.1), dtype="i4", lattice=LatticeHeader(log_step=5)),
        cursed(bound=ErrorBound.relative(0.1), lattice=LatticeHeader(log_step=2**51)),
        *[cursed(bound=ErrorBound.none(1), lattice=LatticeHeader(step=s)) for s in (0.0, -1.0, math.nan, math.inf, -math.inf)],
        *[cursed(lattice=LatticeHeader(step=s, origin=0.0)) for s in (0.0, -1.0, math.nan, math.inf)],
        *[cursed(lattice=LatticeHeader(step=1.0, origin=o)) for o in (math.nan, math.inf)],
        cursed(bound=ErrorBound.none(1), lattice=LatticeHeader(step=1.0, origin=0.0)),
        cursed(dtype="i4", lattice=LatticeHeader(step=1.0, origin=0.0)),
        cursed(dtype="i4", bound=ErrorBound.absolute(2.0**30), lattice=LatticeHeader()),
        cursed(dtype="i4", bound=ErrorBound.absolute(1e308), lattice=LatticeHeader()),
        cursed(dtype="i4", bound=ErrorBound.none(1), lattice=LatticeHeader()),
        cursed(dtype="b1", bound=ErrorBound.relative(0.1), lattice=LatticeHeader()),
        cursed(mode=Mode.CUBIC),
        cursed(mode=Mode.NEURAL, adaptation=b"\x80" * 5),
        cursed(mode=Mode.NEURAL, adaptation=b"\x80" * 9),
        cursed(mode=Mode.CUBIC, version=2),
        cursed(mode=Mode.CUBIC, adaptation=b"\x80" * 9, version=2),
        resealed(FRAMES["neural"].replace(b"\x02\x04\x05", b"\x02\x00\x05", 1)),
    ],
)
def test_hostile_tables_behind_a_good_checksum(frame):
    with pytest.raises(FormatError):
        parse_frame(frame)


def test_words_that_are_not_there():
    tables = hierarchy(words=(6,))
    frame = pack_frame(header(Mode.NEURAL), payload_of(tables)[:-2], tables)
    with pytest.raises(TruncatedFrameError):
        parse_frame(frame)
    with pytest.raises(CorruptFrameError):
        parse_frame(pack_frame(header(Mode.NEURAL), payload_of(tables) + b"\0", tables))
    lies = hierarchy(words=(2**39,))
    with pytest.raises(TruncatedFrameError):
        parse_frame(pack_frame(header(Mode.NEURAL), payload_of(tables), lies))


def without_checks(tables):
    return replace(tables, sections=tuple(Section(s.words) for s in tables.sections))


@pytest.mark.parametrize("name", ["sections", "sections-2"])
def test_each_section_of_a_prefix_is_guarded(name):
    frame = FRAMES[name]
    _, tables, start = parse_frame(frame)
    ends = start + 4 * tables.lanes + 2 * np.cumsum([s.words for s in tables.sections])
    for count, end in enumerate(ends, 1):
        prefix = frame[:end]
        _, again, begin = parse_frame(prefix, verify=False)
        assert section_checks_out(prefix, begin, again, count)
        for at in range({1: 26, 2: 9}[frame[2]], end):
            changed = bytearray(prefix)
            changed[at] ^= 0x55
            try:
                _, other, begin = parse_frame(bytes(changed), (4, 5), F4, verify=False)
            except FormatError:
                continue
            if section_checks_out(bytes(changed), begin, other, count):  # the change is in the check of another section
                assert without_checks(other) == without_checks(tables)
                assert changed[begin:] == prefix[start:]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_codes_of_dtypes_forget_the_byte_order(dtype):
    assert dtype_code(dtype) == dtype_code(dtype.newbyteorder())
    assert parse_frame(pack_frame(header(dtype=dtype.newbyteorder("=")), b""))[0].dtype == dtype.newbyteorder("=")


@pytest.mark.parametrize("dtype", ["M8[s]", "m8[h]", "c8", "c16", "S4", "U3", "O", "V4", [("a", "f4")], "g"])
def test_other_dtypes_are_refused_with_advice(dtype):
    with pytest.raises(UnsupportedDtypeError, match="zarr's own codecs"):
        dtype_code(np.dtype(dtype))
