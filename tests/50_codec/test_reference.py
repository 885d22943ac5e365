"""The decoder written from the format page alone gives what the fast one gives, bit for bit, and refuses what it refuses."""

import struct
import subprocess
import sys

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentzarr import CodecConfig, ErrorBound, decode_chunk, default_model, encode_chunk
from latentzarr.bitstream.frame import Mode, parse_frame
from latentzarr.bitstream.tables import fixed_tables
from latentzarr.codec.chunk import encode_with
from latentzarr.codec.predictor import CubicPredictor, neural_predictor
from latentzarr.errors import FormatError, FrameMismatchError, LatentzarrError, ModelError, UntrustedModelError
from latentzarr.models.card import ModelCard
from latentzarr.models.network import IntegerNetwork, NetworkSet
from latentzarr.models.weights import Model
from latentzarr.reference import decode_frame, sections_hold
from latentzarr.reference.network import ReferenceModel
from latentzarr.testing import DTYPES, bounds, chunks, fill_values, make_chunk

SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
SHIPPED = default_model().blob
SOME = ErrorBound.absolute(0.05)
EXACT = ErrorBound.lossless()


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def sealed(frame):
    """The frame with a checksum that says all is well."""
    head, rest = bytes(frame[:22]), bytes(frame[26:])
    return head + struct.pack("<I", google_crc32c.extend(google_crc32c.value(head), rest)) + rest


def smooth(*shape, dtype="f4", seed=1):
    return make_chunk(shape, np.dtype(dtype), "smooth_and_noise", seed)


def features():
    """Name, chunk, bound and fill value, so that together they use all that the format has."""
    rng = np.random.default_rng(5)
    field = smooth(24, 30)
    special = smooth(33, 40, dtype="f8")
    special[rng.random(special.shape) < 0.1] = np.nan
    special[3, 4], special[5, 6], special[10:14], special[20:, :9] = np.inf, -np.inf, 0, -99
    deep = smooth(5, 20, 23)
    holes = deep.copy()
    holes[:, :8, :8], holes[2, 12:, 5] = np.nan, np.nan
    holes[3][rng.random((20, 23)) < 0.3] = np.nan
    moving = np.stack([field + k + 0.02 * smooth(24, 30, seed=k) for k in range(6)])
    tiles = np.repeat(np.repeat(smooth(12, 15), 4, 0), 3, 1)
    coarse = np.round(smooth(40, 40) * 4) / 4 + np.float32(3)
    gaps = np.where(rng.random(coarse.shape) < 0.1, np.float32(np.nan), coarse)
    spikes = np.where(rng.random((40, 40)) < 0.02, 1e5, smooth(40, 40, dtype="f8"))
    for dtype in ("f2", "f4", "f8"):
        for bound in (ErrorBound.absolute(0.1), ErrorBound.relative(0.02), ErrorBound.none(0.1), EXACT):
            yield f"{dtype}, {bound}", smooth(24, 30, dtype=dtype), bound, None
            yield f"{dtype}, {bound}, special", special.astype(dtype), bound, -99.0
    for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        chunk = make_chunk((24, 30), np.dtype("i2"), "smooth", 3) * 3
        chunk = chunk > 0 if dtype == "b1" else np.clip(chunk, -100 if dtype[0] == "i" else 0, 120).astype(dtype)
        yield f"{dtype}, exact", chunk, EXACT, None
        yield f"{dtype}, bounded", chunk, ErrorBound.absolute(3.7), None
        yield f"{dtype}, fill", np.where(field > field.mean(), chunk, chunk.dtype.type(1)), ErrorBound.absolute(2), 1
    yield "big integers", (2**45 + 1000 * smooth(24, 30, dtype="f8")).astype("i8"), ErrorBound.absolute(100), None
    yield "huge integers", np.abs(2**63 + 1000 * smooth(24, 30, dtype="f8")).astype("u8"), ErrorBound.absolute(100), None
    yield "big-endian", field.astype(">f4"), SOME, None
    yield "big-endian, exact", field.astype(">i4"), EXACT, None
    for shape in [(), (1,), (3, 1), (1, 7), (2, 3, 4), (65, 1), (1, 129), (64, 64), (66, 65), (9, 9, 9), (2, 3, 1, 9, 9), (0, 3)]:
        yield f"shape {shape}", smooth(*shape), SOME, None
    yield "series", smooth(3000), SOME, None
    yield "stations", smooth(300, 2, 5), SOME, None
    yield "slices", deep, SOME, None
    yield "slices with holes", holes, SOME, None
    yield "slices with holes, relative", holes, ErrorBound.relative(0.01), None
    yield "slices alike", moving.astype("f4"), ErrorBound.absolute(0.02), None
    unlike = np.stack([smooth(24, 30, seed=k) + rng.normal(0, 1, (24, 30)) for k in range(3)])
    yield "slices unlike each other", unlike.astype("f4"), ErrorBound.absolute(0.2), None
    yield "slices of integers", np.floor(moving * 10).astype("i2"), EXACT, None
    yield "sections", smooth(150, 160), ErrorBound.absolute(0.01), None
    yield "sections in slices", smooth(3, 90, 100), ErrorBound.absolute(0.01), None
    yield "constant", np.full((10, 10), 3, "f4"), SOME, None
    yield "nothing but NaN", np.full((10, 10), np.nan, "f4"), SOME, None
    yield "noise", make_chunk((30, 30), np.dtype("f4"), "noise", 1), ErrorBound.absolute(1e-9), None
    yield "noise in bytes", rng.integers(0, 256, (30, 30)).astype("u1"), EXACT, None
    yield "lattice", coarse, ErrorBound.absolute(0.01), None
    yield "lattice, exact", coarse, EXACT, None
    yield "lattice, holes", gaps, EXACT, None
    yield "decimals", np.round(smooth(40, 40, dtype="f8"), 1) + 273.15, ErrorBound.absolute(0.02), None
    yield "tiles", tiles, SOME, None
    yield "tiles, cut", tiles[1:-2, 2:], SOME, None
    yield "tiles in slices", np.stack([tiles, tiles + 1]), SOME, None
    yield "magnitudes", np.exp(10 * smooth(40, 40, dtype="f8")), ErrorBound.relative(0.1), None
    yield "magnitudes, small", np.exp(3 * smooth(40, 40)) * np.float32(1e-30), ErrorBound.relative(0.05), None
    yield "spikes", spikes, ErrorBound.absolute(0.1), None
    yield "jumps", make_chunk((40, 40), np.dtype("f8"), "two_levels", 1), ErrorBound.absolute(0.3), None


@pytest.fixture(scope="module")
def frames():
    """Every feature's frame as the codec writes it, and as it is with the cubic predictor alone."""
    made = {}
    for name, chunk, bound, fill in features():
        made[name] = encode_chunk(chunk, CodecConfig(bound), fill)
        made[f"{name}, cubic"] = encode_with(chunk, CodecConfig(bound), (CubicPredictor(),), fill)
        if "slices" in name:
            alone = neural_predictor(default_model(), reference=False)
            made[f"{name}, alone"] = encode_with(chunk, CodecConfig(bound), (alone,), fill)
    return made


def test_every_feature_decodes_alike(frames):
    assert not [name for name, frame in frames.items() if not same(decode_frame(frame, SHIPPED), decode_chunk(frame))]


def test_the_features_are_those_of_the_format(frames):
    parsed = [parse_frame(frame)[:2] for frame in frames.values()]
    assert {header.mode for header, _ in parsed} == set(Mode)
    assert {header.dtype for header, _ in parsed} == {dtype.newbyteorder("=") for dtype in DTYPES}
    tables = [(header, h) for header, h in parsed if h is not None]
    for mode in (Mode.CUBIC, Mode.NEURAL):
        mine = [(header, h) for header, h in tables if header.mode is mode]
        assert any(h.snap for _, h in mine)
        assert any(h.lattice.origin is not None for _, h in mine)
        assert any(h.lattice.log_step for _, h in mine)
        assert any(h.lattice.step and h.lattice.origin is None for _, h in mine)
        assert any(len(h.sections) == 4 for _, h in mine)
        assert any(h.repetition.row_run > 1 and h.repetition.first_rows < h.repetition.row_run for _, h in mine)
        assert any(h.geometry.slices > 1 and h.mask for _, h in mine)
        assert len({h.lanes for _, h in mine}) >= 3
    assert any(h.adaptation for header, h in tables if header.mode is Mode.NEURAL)


def test_the_checks_of_sections_are_those_of_the_page(frames):
    seen = 0
    for frame in frames.values():
        _, hierarchy, start = parse_frame(frame)
        if hierarchy is not None:
            assert sections_hold(frame)
            if len(hierarchy.sections) == 4:
                seen += 1
                damaged = bytearray(frame)
                damaged[start + 4 * hierarchy.lanes] ^= 1
                assert not sections_hold(sealed(damaged))
    assert seen > 3


@settings(max_examples=120, **SLOWLY)
@given(st.data(), chunks(), bounds(), st.booleans(), st.booleans())
def test_any_chunk_decodes_alike(data, chunk, bound, cubic, fortran):
    fill = data.draw(fill_values(chunk))
    predictors = (CubicPredictor(),) if cubic else (neural_predictor(default_model()), CubicPredictor())
    frame = encode_with(chunk, CodecConfig(bound), predictors, fill, fortran=fortran)
    fast, slow = decode_chunk(frame, chunk.shape, chunk.dtype), decode_frame(frame, SHIPPED, chunk.shape, chunk.dtype)
    assert same(slow, fast)
    assert slow.flags.f_contiguous == fast.flags.f_contiguous


def any_network(inputs, hidden, rng):
    """Weights that make use of the whole range they may have, with outputs that still predict something."""

    def layer(shape, largest, top, rows):
        w = rng.normal(size=shape)
        w = (w * np.reshape(largest, (-1, 1)) / top / np.abs(w).sum(1, keepdims=True)).astype(np.int16)
        return w, rng.integers(-20_000, 20_000, (*rows, shape[0])).astype(np.int32)

    first = layer((hidden[0], inputs), 16_000_000, 1088, (12,))
    second = layer(hidden[::-1], 8_000_000, 1023, ())
    return IntegerNetwork(*first, *second, *layer((2, hidden[1]), [1_500_000, 60_000], 1023, (12,)))


@pytest.mark.parametrize("hidden", [(8, 8), (16, 24), (256, 256)], ids=str)
def test_any_network_predicts_alike(hidden):
    rng = np.random.default_rng(hidden)
    networks = [any_network(inputs, hidden, rng) for inputs in (25, 25, 37, 37)]
    model = Model.build(NetworkSet(*networks), fixed_tables(), ModelCard("random"))
    modes = []
    for chunk in (
        smooth(40, 50, dtype="f8"),
        smooth(4, 30, 33, dtype="f8"),
        np.round(smooth(2, 40, 30, dtype="f8") * 9).astype("i4"),
    ):
        bound = SOME if chunk.dtype.kind == "f" else EXACT
        frame = encode_with(chunk, CodecConfig(bound, model), (neural_predictor(model),))
        modes.append(frame[3])
        assert same(decode_frame(frame, model.blob), decode_chunk(frame, model=model))
    assert modes.count(Mode.NEURAL) >= 2


def both(frame):
    """What each decoder makes of a frame: an array, or the error."""
    found = []
    for decode in (decode_chunk, lambda f: decode_frame(f, SHIPPED)):
        try:
            with np.errstate(all="ignore"):
                found.append(decode(frame))
        except (FormatError, ModelError) as error:
            found.append(error)
    return found


def test_every_truncation_is_refused_by_both(frames):
    for frame in frames.values():
        places = {*range(0, min(len(frame), 100), 7), len(frame) // 2, len(frame) - 1}
        for size in places - {len(frame)}:
            assert isinstance(both(frame[:size])[1], FormatError)
            shorter = both(sealed(frame[:size])) if size >= 26 else [FormatError("too short")]
            assert all(isinstance(found, FormatError) for found in shorter), (size, shorter)


@settings(max_examples=400, **SLOWLY)
@given(st.data())
def test_sealed_lies_are_decoded_or_refused_alike(frames, data):
    small = sorted(name for name, frame in frames.items() if 30 < len(frame) < 1000)
    frame = bytearray(frames[data.draw(st.sampled_from(small))])
    for _ in range(data.draw(st.integers(1, 3))):
        last = data.draw(st.sampled_from([40, 60, 100, len(frame)]))
        at = data.draw(st.integers(2, min(last, len(frame)) - 1))
        frame[at] = data.draw(st.one_of(st.sampled_from([0, 1, 2, 127, 128, 255]), st.integers(0, 255)))
    fast, slow = both(sealed(frame))
    if isinstance(fast, LatentzarrError) or isinstance(slow, LatentzarrError):
        assert isinstance(fast, LatentzarrError), (fast, slow)
        assert isinstance(slow, LatentzarrError), (fast, slow)
    else:
        assert same(slow, fast)


def test_a_frame_of_another_array_or_model_is_refused():
    frame = encode_chunk(smooth(24, 30), CodecConfig(SOME))
    assert frame[3] == Mode.NEURAL
    for wrong in ({"shape": (30, 24)}, {"dtype": "f8"}, {"model": None}):
        with pytest.raises(FrameMismatchError):
            decode_frame(frame, **{"model": SHIPPED, **wrong})
    assert same(decode_frame(frame, SHIPPED, (24, 30), ">f4"), decode_chunk(frame, dtype=">f4"))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:100], lambda b: b[:-1], lambda b: b.replace(b"rows.w1", b"rows.w9"), lambda b: b"{}"]
)
def test_what_is_no_model_is_refused(damage):
    with pytest.raises(UntrustedModelError):
        ReferenceModel(damage(SHIPPED))


def test_it_needs_neither_the_codec_nor_compiled_code():
    code = (
        "import sys, latentzarr.reference; "
        "loaded = {m for m in sys.modules if m.split('.')[0] in ('numba', 'torch', 'zarr', 'safetensors', 'google_crc32c')}; "
        "ours = {m.split('.')[1] for m in sys.modules if m.startswith('latentzarr.')}; "
        "assert not loaded, loaded; assert ours == {'reference', 'errors'}, ours"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
