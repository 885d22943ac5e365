"""One answer, whoever computes it: compiled kernels, plain NumPy, torch, one thread or several, one value or many."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentzarr.bitstream.frame import Mode, parse_frame
from latentzarr.bounds import ErrorBound
from latentzarr.codec import kernels
from latentzarr.codec.chunk import decode_chunk, encode_chunk, encode_with
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.predictor import RECIPROCALS, CubicPredictor, SliceStates, neural_predictor
from latentzarr.geometry import ChunkGeometry, Order, PassKind, passes
from latentzarr.models.network import HIDDEN_TOP, INPUT_TOP, REFERENCE_INPUTS, SPATIAL_INPUTS
from latentzarr.models.store import shipped_model
from latentzarr.reference.decode import decode_frame
from latentzarr.reference.network import ReferenceModel, cubic, neural
from latentzarr.reference.order import Site
from latentzarr.slices import Visit, visits
from latentzarr.testing import bounds, chunks, fill_values, make_chunk
from made_models import any_model

SHIPPED = {Order.TWO_PASSES: shipped_model("hierarchy-1"), Order.THREE_PASSES: shipped_model("normal")}
MODELS = {(order, name): model for order in Order for name, model in (("shipped", SHIPPED[order]), ("any", any_model(order)))}
PLAIN = {key: ReferenceModel(model.blob) for key, model in MODELS.items()}
each_order = pytest.mark.parametrize("order", Order)
each_model = pytest.mark.parametrize("key", MODELS, ids=lambda key: f"{key[1]}, order {key[0]}")
SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
GEOMETRIES = [(1, 1, 2), (1, 2, 1), (2, 9, 11), (3, 17, 33), (2, 66, 5), (1, 70, 130), (6, 10, 7), (5, 1, 20), (4, 20, 1)]


def wild_states(geometry, seed, kind, share_missing, snap):
    """States no decoder ends in, to reach every clip of the arithmetic."""
    rng = np.random.default_rng(seed)
    shape = (geometry.slices, geometry.rows * geometry.columns)
    missing = (rng.random(shape) < share_missing).astype(np.uint8) if share_missing else None
    states = SliceStates.empty(geometry, missing, snap=snap)
    scale = {"tiny": 40, "usual": 5000, "huge": 2**29, "equal": 0, "jumps": 0}[kind]
    states.n[:] = rng.integers(-scale, scale + 1, shape)
    if kind == "jumps":
        states.n[:] = rng.choice([-(2**29), 2**29, 0, 1], shape)
    if kind == "usual":
        states.n[1:] = states.n[:1] + rng.integers(-20, 20, (geometry.slices - 1, shape[1]))
    states.activity[:] = rng.integers(0, 16, shape)
    return states


def everything(states):
    shape = states.geometry.shape
    missing = states.missing if states.any_missing else np.zeros(states.n.shape, np.uint8)
    return (
        states.n.reshape(shape).astype(np.int64),
        states.activity.reshape(shape).astype(np.int64),
        missing.reshape(shape).astype(bool),
    )


STATES = {
    "geometry": st.sampled_from(GEOMETRIES).map(lambda g: ChunkGeometry(*g)),
    "seed": st.integers(0, 2**32 - 1),
    "kind": st.sampled_from(["tiny", "usual", "huge", "equal", "jumps"]),
    "share_missing": st.sampled_from([0.0, 0.0, 0.2, 0.9]),
    "snap": st.booleans(),
}


@each_model
@given(dyadic=st.booleans(), **STATES)
@settings(max_examples=40, **SLOWLY)
def test_predictions_are_those_of_plain_integers(key, dyadic, geometry, seed, kind, share_missing, snap):
    order = key[0]
    states = wild_states(geometry, seed, kind, share_missing, snap)
    plain = everything(states)
    fast, alone = neural_predictor(MODELS[key]), neural_predictor(MODELS[key], reference=False)
    looks_back, by_itself = (partial(neural, PLAIN[key], looks) for looks in (True, False))
    references = set()
    for step in passes(geometry.rows, geometry.columns, order):
        for visit in visits(geometry.slices, dyadic=dyadic):
            references.add(visit.references)
            looks_at = (visit.before, visit.after)[: visit.references]
            site = Site(visit.slice, looks_at, 1 << step.level, step.kind, order, snap, (geometry.rows, geometry.columns))
            for predictor, rule in ((fast, looks_back), (alone, by_itself), (CubicPredictor(order), cubic)):
                found = predictor.predict(states, step, visit)
                centre, classes = rule(site, *plain)
                assert (found.centre == centre).all()
                assert (found.classes == classes).all()
    assert references == {0, *([1] if geometry.slices > 1 else []), *([2] if dyadic and geometry.slices > 2 else [])}


@each_model
@pytest.mark.parametrize("snap", [False, True])
def test_stand_ins_of_missing_values_may_lie_beyond_the_range_of_others(key, snap):
    """Each pass may add 2**25 to what stands for a missing value, below 2**30: the highest sums still are exact."""
    geometry, order = ChunkGeometry(4, 17, 33), key[0]
    far = min(2**29 + 6 * order.kinds * 2**25, 2**30 - 1)
    assert (far < 2**30 - 1) == (order is Order.TWO_PASSES), "in order 1 nothing is cut"
    largest = 0
    for seed in range(4):
        states = wild_states(geometry, seed, "jumps", 0.5, snap)
        states.n[states.missing == 1] = np.random.default_rng(seed).choice([-far, far], int(states.missing.sum()))
        plain = everything(states)
        for step in passes(geometry.rows, geometry.columns, order):
            for visit in visits(geometry.slices, dyadic=True):
                looks_at = (visit.before, visit.after)[: visit.references]
                site = Site(visit.slice, looks_at, 1 << step.level, step.kind, order, snap, (geometry.rows, geometry.columns))
                found = neural_predictor(MODELS[key]).predict(states, step, visit)
                centre, classes = neural(PLAIN[key], True, site, *plain)
                assert (found.centre == centre).all()
                assert (found.classes == classes).all()
                largest = max(largest, int(np.abs(centre).max()))
    assert far <= largest < 2**30


@each_order
@given(dyadic=st.booleans(), **STATES)
@settings(max_examples=40, **SLOWLY)
def test_inputs_stay_within_what_the_accumulators_are_checked_for(order, dyadic, geometry, seed, kind, share_missing, snap):
    states = wild_states(geometry, seed, kind, share_missing, snap)
    for step in passes(geometry.rows, geometry.columns, order):
        for visit in visits(geometry.slices, dyadic=dyadic):
            t, before, after = visit.slice, max(visit.before, 0), max(visit.after, 0)
            x = np.full((step.size, REFERENCE_INPUTS[order] if visit.references else SPATIAL_INPUTS), 9999, np.int16)
            base, spread, logs = (np.empty(step.size, np.int32) for _ in range(3))
            kernels.inputs_of_pass(
                states.n[t],
                states.activity[t],
                states.missing[t],
                states.any_missing,
                states.n[before],
                states.activity[before],
                states.n[after],
                states.activity[after],
                visit.references,
                geometry.columns,
                step.rows,
                step.columns,
                step.neighbour_rows,
                step.neighbour_columns,
                RECIPROCALS,
                x,
                base,
                spread,
                logs,
            )
            assert np.abs(x).max() <= INPUT_TOP
            assert spread.min() >= 64


@each_model
@pytest.mark.parametrize("visit", [Visit(0), Visit(1, 0), Visit(1, 0, 2)], ids=lambda v: f"{v.references} references")
def test_a_pass_in_pieces_is_the_pass(key, visit):
    """Many values at once or one value alone: the block in which a value is computed does not matter."""
    geometry = ChunkGeometry(3, 66, 70)
    states = wild_states(geometry, 5, "usual", 0.1, snap=False)
    predictor = neural_predictor(MODELS[key])
    for step in passes(66, 70, key[0]):
        whole = predictor.predict(states, step, visit)
        centre = whole.centre.reshape(len(step.rows), -1)
        for r in range(0, len(step.rows), 7):
            for c in range(0, len(step.columns), 9):
                one = type(step)(
                    step.level,
                    step.kind,
                    step.order,
                    step.rows[r : r + 1],
                    step.columns[c : c + 1],
                    np.ascontiguousarray(step.neighbour_rows[:, r : r + 1]),
                    np.ascontiguousarray(step.neighbour_columns[:, c : c + 1]),
                )
                assert predictor.predict(states, one, visit).centre[0] == centre[r, c]


@each_model
def test_what_a_slice_does_not_look_at_does_not_matter(key):
    """A slice between two sees both of them, one after another sees that one, and the first sees none."""
    geometry = ChunkGeometry(3, 20, 24)
    states = wild_states(geometry, 5, "usual", 0.1, snap=False)
    changed = wild_states(geometry, 5, "usual", 0.1, snap=False)
    changed.n[2] += np.random.default_rng(0).integers(-500, 500, changed.n[2].shape)
    changed.activity[2] ^= 5
    predictor = neural_predictor(MODELS[key])
    seen = {0: False, 1: False, 2: False}
    for step in passes(20, 24, key[0]):
        for visit in (Visit(1), Visit(1, 0), Visit(1, 0, 2)):
            a, b = (predictor.predict(s, step, visit) for s in (states, changed))
            seen[visit.references] |= not ((a.centre == b.centre).all() and (a.classes == b.classes).all())
    assert seen == {0: False, 1: False, 2: True}


def networks():
    """The networks of the models, and one as wide and as extreme as the door lets in."""
    for (order, which), model in MODELS.items():
        for kind in list(PassKind)[: order.kinds]:
            for reference in (False, True):
                network = model.networks.choose(kind, reference=reference)
                name = f"{which}, order {order}, {kind.name.lower()}{' with reference' if reference else ''}"
                yield name, network.w1, network.b1[0], INPUT_TOP
                yield f"{name}, second layer", network.w2, network.b2, HIDDEN_TOP
    rng = np.random.default_rng(0)
    weights = rng.choice(np.array([-1, 1], np.int16), (64, 256)) * np.int16((2**24 - 1) // (256 * HIDDEN_TOP))
    yield "at the limit", weights, np.full(64, 2**24 - 1 - 256 * HIDDEN_TOP * 64, np.int32), HIDDEN_TOP


NETWORKS = list(networks())
each_network = pytest.mark.parametrize(("w", "b", "top"), [n[1:] for n in NETWORKS], ids=[n[0] for n in NETWORKS])


def hard_inputs(w, top, batch):
    """Random inputs, and those that drive an accumulator as far as it goes."""
    rng = np.random.default_rng(1)
    x = rng.integers(-top, top + 1, (w.shape[1], batch))
    signs = np.sign(w.astype(np.int64)).T * top
    x[:, : min(batch, signs.shape[1])] = signs[:, :batch]
    return x


@each_network
@pytest.mark.parametrize("batch", [1, 64, 1000])
def test_accumulators_in_float32_and_float64_are_integers(w, b, top, batch):
    x = hard_inputs(w, top, batch)
    exact = w.astype(np.int64) @ x + b.astype(np.int64)[:, None]
    assert np.abs(exact).max() < 2**24
    for dtype in (np.float32, np.float64):
        assert (w.astype(dtype) @ x.astype(dtype) + b.astype(dtype)[:, None] == exact).all()
        assert (
            np.cumsum(w[0].astype(dtype)[::-1, None] * x[::-1].astype(dtype), axis=0, dtype=dtype)[-1] + b[0].astype(dtype)
            == exact[0]
        ).all()


@pytest.mark.torch
@each_network
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 64])
def test_accumulators_in_torch_are_integers(w, b, top, batch, threads):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = hard_inputs(w, top, batch)
        exact = w.astype(np.int64) @ x + b.astype(np.int64)[:, None]
        weights, inputs, bias = (torch.from_numpy(a.astype(np.float32)) for a in (w, x, b))
        assert (torch.addmm(bias[:, None], weights, inputs).numpy() == exact).all()
        assert (exact == torch.nn.functional.linear(inputs.T.contiguous(), weights, bias).numpy().T).all()
        stacked = inputs.expand(3, *inputs.shape).contiguous()
        assert (torch.matmul(weights, stacked).numpy() + b.astype(np.float32)[:, None] == exact).all()
    finally:
        torch.set_num_threads(before)


def fields():
    for shape in ((100, 120), (4, 48, 64)):
        for pattern in ("smooth", "smooth_and_noise"):
            chunk = make_chunk(shape, np.dtype("f4"), pattern, 1)
            yield chunk, ErrorBound.absolute(0.01)
            yield chunk, ErrorBound.relative(0.001)
            chunk = chunk.copy()
            chunk[..., 10:30, 5:20] = np.nan
            yield chunk, ErrorBound.absolute(0.01)


@each_order
def test_two_threads_decode_and_encode_the_same_as_one(order):
    cases = [(chunk, CodecConfig(bound, SHIPPED[order])) for chunk, bound in fields()]
    frames = [encode_chunk(*case) for case in cases]
    alone = [decode_chunk(frame).tobytes() for frame in frames]
    for threads in (2, 4):
        with ThreadPoolExecutor(threads) as pool:
            assert [a.tobytes() for a in pool.map(decode_chunk, frames * 4)] == alone * 4
            assert list(pool.map(lambda case: encode_chunk(*case), cases * 2)) == frames * 2


def plainly(frame, chunk, model):
    return decode_frame(frame, model.blob, chunk.shape, chunk.dtype).astype(chunk.dtype, copy=False)  # it knows no byte order


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.asarray(a, order="C").tobytes() == np.asarray(b, order="C").tobytes()


@each_model
@given(data=st.data())
@settings(max_examples=60, **SLOWLY)
def test_the_reference_decoder_gives_the_same_bits(key, data):
    chunk, bound, model = data.draw(chunks()), data.draw(bounds()), MODELS[key]
    config = CodecConfig(bound, model, effort=data.draw(st.sampled_from(Effort)))
    frame = encode_chunk(chunk, config, data.draw(fill_values(chunk)), fortran=data.draw(st.booleans()))
    assert same_bits(decode_chunk(frame, chunk.shape, chunk.dtype, model), plainly(frame, chunk, model))


@each_model
def test_the_reference_decoder_gives_the_same_bits_on_whole_fields(key):
    seen = set()
    for chunk, bound in fields():
        for effort in (Effort.NORMAL, Effort.MAX):
            config = CodecConfig(bound, MODELS[key], effort=effort)
            predictors = [neural_predictor(MODELS[key]), neural_predictor(MODELS[key], reference=False), CubicPredictor(key[0])]
            frame = encode_with(chunk, config, predictors)
            header, tables, _ = parse_frame(frame)
            seen.add((header.mode, header.version, tables.dyadic))
            assert same_bits(decode_chunk(frame, chunk.shape, chunk.dtype, MODELS[key]), plainly(frame, chunk, MODELS[key]))
    assert {version for _, version, _ in seen} == {key[0]}
    if key[1] == "shipped":
        assert Mode.NEURAL in {mode for mode, _, _ in seen}
