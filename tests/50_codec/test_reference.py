"""The decoder written from the format page alone gives what the fast one gives, bit for bit, and refuses what it refuses."""

import struct
import subprocess
import sys
from dataclasses import replace

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentzarr import CodecConfig, ErrorBound, decode_chunk, encode_chunk
from latentzarr.bitstream.frame import Mode, pack_frame, parse_frame, read_header
from latentzarr.bounds import BoundKind
from latentzarr.codec.chunk import encode_with
from latentzarr.codec.config import Effort
from latentzarr.codec.predictor import CubicPredictor, neural_predictor
from latentzarr.errors import CorruptFrameError, FormatError, FrameMismatchError, LatentzarrError, ModelError, UntrustedModelError
from latentzarr.geometry import Order
from latentzarr.models.store import register_model, shipped_model
from latentzarr.reference import decode_frame, sections_hold
from latentzarr.reference.network import ReferenceModel
from latentzarr.testing import DTYPES, bounds, chunks, fill_values, make_chunk
from made_models import any_model

SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
MODELS = {Order.TWO_PASSES: shipped_model("hierarchy-1"), Order.THREE_PASSES: shipped_model("normal")}
each_order = pytest.mark.parametrize("order", Order)
SOME = ErrorBound.absolute(0.05)
EXACT = ErrorBound.lossless()


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def sealed(frame):
    """The frame with a checksum that says all is well."""
    at = 5 if frame[2] == 2 else 22
    head, rest = bytes(frame[:at]), bytes(frame[at + 4 :])
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


@pytest.fixture(scope="module", params=Order, ids=lambda order: f"order {order}")
def order(request):
    return request.param


@pytest.fixture(scope="module")
def frames(order):
    """Every feature's frame from coarse to fine, with the cubic predictor alone, and in raster order."""
    made, model = {}, MODELS[order]
    for name, chunk, bound, fill in features():
        config = CodecConfig(bound, model, effort=Effort.FAST)
        made[name] = encode_chunk(chunk, config, fill)
        if order is Order.THREE_PASSES and chunk.size <= 2500:  # the plain decoder takes its time
            made[f"{name}, raster"] = encode_with(chunk, config, (), fill, raster=True)
        made[f"{name}, cubic"] = encode_with(chunk, config, (CubicPredictor(order),), fill)
        if "slices" in name or "tiles" in name or bound.kind is BoundKind.NONE:
            made[f"{name}, together"] = encode_with(chunk, config, (neural_predictor(model),), fill)
            made[f"{name}, alone"] = encode_with(chunk, config, (neural_predictor(model, reference=False),), fill)
    return made


def test_every_feature_decodes_alike(frames, order):
    blob = MODELS[order].blob
    assert not [name for name, frame in frames.items() if not same(decode_frame(frame, blob), decode_chunk(frame))]


def test_the_features_are_those_of_the_format(frames, order):
    parsed = [parse_frame(frame)[:2] for frame in frames.values()]
    assert {header.mode for header, _ in parsed} == set(Mode) - ({Mode.RASTER} if order is Order.TWO_PASSES else set())
    assert {header.dtype for header, _ in parsed} == {dtype.newbyteorder("=") for dtype in DTYPES}
    tables = [(header, h) for header, h in parsed if h is not None]
    assert {header.version for header, _ in tables} == {order}
    dyadic = [h.geometry.slices for header, h in tables if header.mode is Mode.NEURAL and h.dyadic]
    assert max(dyadic) >= 5 if order is Order.THREE_PASSES else not dyadic
    for mode in (Mode.CUBIC, Mode.NEURAL, *([Mode.RASTER] if order is Order.THREE_PASSES else [])):
        mine = [(header, h) for header, h in tables if header.mode is mode]
        assert any(h.lattice.origin is not None for _, h in mine)
        assert any(h.lattice.log_step for _, h in mine)
        assert any(h.repetition.row_run > 1 and h.repetition.first_rows < h.repetition.row_run for _, h in mine)
        assert any(h.geometry.slices > 1 and h.mask for _, h in mine)
        if mode is Mode.RASTER:
            assert any(h.adaptation for _, h in mine)
            continue
        assert any(h.snap for _, h in mine)
        assert any(h.lattice.step and h.lattice.origin is None for _, h in mine)
        assert any(len(h.sections) == 4 for _, h in mine)
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


@each_order
@settings(max_examples=100, **SLOWLY)
@given(data=st.data(), chunk=chunks(), bound=bounds(), cubic=st.booleans(), fortran=st.booleans())
def test_any_chunk_decodes_alike(order, data, chunk, bound, cubic, fortran):
    fill, model = data.draw(fill_values(chunk)), MODELS[order]
    predictors = (CubicPredictor(order),) if cubic else (neural_predictor(model), CubicPredictor(order))
    frame = encode_with(chunk, CodecConfig(bound, model), predictors, fill, fortran=fortran)
    fast, slow = decode_chunk(frame, chunk.shape, chunk.dtype), decode_frame(frame, model.blob, chunk.shape, chunk.dtype)
    assert same(slow, fast)
    assert slow.flags.f_contiguous == fast.flags.f_contiguous


@st.composite
def several_slices(draw):
    """Slices that change steadily, so that each tells much of the one between it and another; some with holes."""
    slices, rows, columns = (
        draw(st.integers(2, 12)),
        draw(st.sampled_from([1, 9, 16, 30, 65])),
        draw(st.sampled_from([17, 30, 66])),
    )
    rows = max(rows, -(-256 // columns))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t = np.arange(slices).reshape(-1, 1, 1)
    first, other = (make_chunk((rows, columns), np.dtype("f8"), "smooth_and_noise", k) for k in rng.integers(0, 2**32, 2))
    chunk = first + t * other / draw(st.sampled_from([2, 20])) + rng.normal(0, draw(st.sampled_from([0.001, 0.3])), t.shape)
    holes = draw(st.sampled_from(["none", "standing", "one slice", "anywhere"]))
    if holes == "standing":
        chunk[:, rng.random((rows, columns)) < 0.3] = np.nan
    elif holes == "one slice":
        chunk[rng.integers(slices), : rows // 2 + 1] = np.nan
    elif holes == "anywhere":
        chunk[rng.random(chunk.shape) < 0.2] = np.nan
    return np.rint(np.nan_to_num(9 * chunk)).astype("i4") if draw(st.booleans()) else chunk


seen_by_several = set()


@each_order
@pytest.mark.parametrize("which", ["shipped", "any"])
@settings(max_examples=60, **SLOWLY)
@given(chunk=several_slices(), mode=st.sampled_from([Mode.CUBIC, Mode.NEURAL, Mode.INDEPENDENT]), effort=st.sampled_from(Effort))
def test_several_slices_decode_alike_in_either_order_of_slices(order, which, chunk, mode, effort):
    model = MODELS[order] if which == "shipped" else any_model(order)
    predictor = CubicPredictor(order) if mode is Mode.CUBIC else neural_predictor(model, reference=mode is Mode.NEURAL)
    bound = SOME if chunk.dtype.kind == "f" else EXACT
    frame = encode_with(chunk, CodecConfig(bound, model, effort=effort), (predictor,))
    assert same(decode_frame(frame, model.blob), decode_chunk(frame, model=model))
    header, tables, _ = parse_frame(frame)
    seen_by_several.add((header.version, header.mode, tables is not None and tables.dyadic))


def test_several_slices_were_in_either_order():
    hierarchies = {(order, mode) for order in Order for mode in (Mode.CUBIC, Mode.NEURAL, Mode.INDEPENDENT)}
    assert {(version, mode) for version, mode, _ in seen_by_several} >= hierarchies
    assert {(2, Mode.NEURAL, dyadic) for dyadic in (False, True)} <= seen_by_several


@each_order
@pytest.mark.parametrize("hidden", [(8, 8), (16, 24), (256, 256)], ids=str)
def test_any_network_predicts_alike(order, hidden):
    model = any_model(order, hidden)
    modes = []
    for chunk in (
        smooth(40, 50, dtype="f8"),
        smooth(4, 30, 33, dtype="f8"),
        np.round(smooth(2, 40, 30, dtype="f8") * 9).astype("i4"),
    ):
        bound = SOME if chunk.dtype.kind == "f" else EXACT
        frame = encode_with(chunk, CodecConfig(bound, model), (neural_predictor(model),))
        modes.append(read_header(frame).mode)
        assert same(decode_frame(frame, model.blob), decode_chunk(frame, model=model))
    assert modes.count(Mode.NEURAL) >= 2


@each_order
@pytest.mark.parametrize("mode", [Mode.NEURAL, Mode.INDEPENDENT])
def test_a_frame_that_names_a_model_of_the_other_order_is_refused(order, mode):
    """The order of a frame is its version; a model of the other has other networks and tables, whatever the frame says."""
    model, other = MODELS[order], MODELS[next(o for o in Order if o is not order)]
    frame = encode_with(smooth(3, 24, 30), CodecConfig(SOME, model), (neural_predictor(model, reference=mode is Mode.NEURAL),))
    header, tables, start = parse_frame(frame)
    assert (header.mode, header.version) == (mode, order)
    plain = replace(tables, adaptation=b"", dyadic=False)
    lie = pack_frame(replace(header, digest=other.prefix), frame[start:], tables)
    late = pack_frame(replace(header, version=int(other.order), digest=model.prefix), frame[start:], plain)
    for wrong, blob in ((lie, other.blob), (late, model.blob)):
        for found in (register_model(model), other, None):
            with pytest.raises(CorruptFrameError, match="version"):
                decode_chunk(wrong, model=found)
        with pytest.raises(CorruptFrameError, match="version"):
            decode_frame(wrong, blob)


@pytest.mark.parametrize("more", [2, 4, 8, 63])
def test_unknown_flags_of_version_2_are_refused_by_both(more):
    predictor = neural_predictor(MODELS[Order.THREE_PASSES])
    frame = bytearray(encode_with(smooth(5, 24, 30), CodecConfig(SOME), (predictor,)))
    at = 9 + 4 + 4 + 4  # behind the shape, the bound and the digest
    assert frame[2] == 2
    assert frame[at] & 128, "flags of two bytes"
    assert frame[at + 1] == 2, "dyadic"
    frame[at + 1] |= more << 1 if more > 2 else 4
    assert all(isinstance(found, CorruptFrameError) for found in both(sealed(frame), Order.THREE_PASSES))


@pytest.mark.parametrize("name", ["constant", "noise", "f4, lossless", "shape (0, 3)"])
def test_what_is_no_hierarchy_is_read_in_either_version(name):
    (chunk, bound) = next((chunk, bound) for found, chunk, bound, _ in features() if found == name)
    frame = encode_chunk(chunk, CodecConfig(bound))
    header, _, start = parse_frame(frame)
    assert not header.mode.is_hierarchy
    for version in (1, 2):
        again = pack_frame(replace(header, version=version), frame[start:])
        fast, slow = both(again, Order.THREE_PASSES)
        assert same(fast, slow)
        assert same(fast, decode_chunk(frame))
    later = sealed(frame[:2] + b"\3" + frame[3:])
    assert all(isinstance(found, FormatError) for found in both(later, Order.THREE_PASSES))


def both(frame, order):
    """What each decoder makes of a frame: an array, or the error."""
    found = []
    for decode in (decode_chunk, lambda f: decode_frame(f, MODELS[order].blob)):
        try:
            with np.errstate(all="ignore"):
                found.append(decode(frame))
        except (FormatError, ModelError) as error:
            found.append(error)
    return found


def test_every_truncation_is_refused_by_both(frames, order):
    for frame in frames.values():
        few = parse_frame(frame)[2] if frame[3] & 15 == Mode.RASTER else 100  # whose plain decoder takes its time
        places = {*range(0, min(len(frame), few), 7), len(frame) // 2, len(frame) - 1}
        for size in places - {len(frame)}:
            assert isinstance(both(frame[:size], order)[1], FormatError)
            shorter = both(sealed(frame[:size]), order) if size >= 26 else [FormatError("too short")]
            if frame[3] & 15 == Mode.RASTER and not isinstance(shorter[0], FormatError):
                assert same(*shorter)  # bits of an arithmetic code that are cut off may be any; only the checksum tells
                continue
            assert all(isinstance(found, FormatError) for found in shorter), (size, shorter)


@settings(max_examples=400, **SLOWLY)
@given(data=st.data())
def test_sealed_lies_are_decoded_or_refused_alike(frames, order, data):
    small = sorted(name for name, frame in frames.items() if 30 < len(frame) < 1000)
    frame = bytearray(frames[data.draw(st.sampled_from(small))])
    for _ in range(data.draw(st.integers(1, 3))):
        last = data.draw(st.sampled_from([40, 60, 100, len(frame)]))
        at = data.draw(st.integers(2, min(last, len(frame)) - 1))
        frame[at] = data.draw(st.one_of(st.sampled_from([0, 1, 2, 127, 128, 255]), st.integers(0, 255)))
    fast, slow = both(sealed(frame), order)
    if isinstance(fast, LatentzarrError) or isinstance(slow, LatentzarrError):
        assert isinstance(fast, LatentzarrError), (fast, slow)
        assert isinstance(slow, LatentzarrError), (fast, slow)
    else:
        assert same(slow, fast)


def test_a_frame_of_another_array_or_model_is_refused():
    for order, model in MODELS.items():
        frame = encode_with(smooth(24, 30), CodecConfig(SOME, model), (neural_predictor(model),))
        assert read_header(frame).mode is Mode.NEURAL
        others = [other.blob for other in (MODELS[Order(3 - order)], any_model(order))]
        for wrong in ({"shape": (30, 24)}, {"dtype": "f8"}, {"model": None}, *({"model": blob} for blob in others)):
            with pytest.raises(FrameMismatchError):
                decode_frame(frame, **{"model": model.blob, **wrong})
        assert same(decode_frame(frame, model.blob, (24, 30), ">f4"), decode_chunk(frame, dtype=">f4"))


def other_architecture(blob):
    names = b"hierarchy-1", b"hierarchy-2"
    return blob.replace(*names) if names[0] in blob else blob.replace(*names[::-1])


@each_order
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:100],
        lambda b: b[:-1],
        lambda b: b.replace(b"rows.w1", b"rows.w9"),
        lambda b: b"{}",
        other_architecture,
        lambda b: b.replace(b"hierarchy-", b"hierarchi-"),
    ],
)
def test_what_is_no_model_is_refused(order, damage):
    blob = MODELS[order].blob
    assert ReferenceModel(blob).order == order
    with pytest.raises(UntrustedModelError):
        ReferenceModel(damage(blob))


def test_it_needs_neither_the_codec_nor_compiled_code():
    code = (
        "import sys, latentzarr.reference; "
        "loaded = {m for m in sys.modules if m.split('.')[0] in ('numba', 'torch', 'zarr', 'safetensors', 'google_crc32c')}; "
        "ours = {m.split('.')[1] for m in sys.modules if m.startswith('latentzarr.')}; "
        "assert not loaded, loaded; assert ours == {'reference', 'errors'}, ours"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
