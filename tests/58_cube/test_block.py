"""Blocks: whatever a reference table says, every field is within its bound, and any way of reading gives the same bits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentzarr.bounds import ErrorBound, violations
from latentzarr.codec.config import CodecConfig
from latentzarr.cube import block as block_module
from latentzarr.cube.block import BlockCoder
from latentzarr.cube.field import FieldSpec
from latentzarr.cube.synthesis import LIMIT
from latentzarr.cube.table import STRIDES, ReferenceTable, Source
from latentzarr.cube.times import block_visits, needed_times, roles_of
from latentzarr.errors import CorruptFrameError, LatentzarrError, UntrustedModelError
from latentzarr.models.store import shipped_model

MODEL = shipped_model("normal")
SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
CHANNELS = 5
BOUNDS = [
    ErrorBound.absolute(0.05), ErrorBound.relative(0.02), ErrorBound.lossless(), ErrorBound.absolute(2), ErrorBound.absolute(0.5),
]  # fmt: skip
DTYPES = [np.dtype(d) for d in ("f4", "f8", "f4", "i2", "f2")]


def hostile_table(rng, times, stride, rows, terms=30, extreme=False):
    """Random terms with random weights that look at anything a table may look at."""
    roles = roles_of(times, stride)
    order = rng.permutation(CHANNELS)
    place = np.argsort(order)
    found = []
    for _ in range(terms):
        target, role = int(rng.integers(CHANNELS)), int(rng.integers(len(roles)))
        sources = [Source.STATIC, Source.BASE]
        earlier = order[: place[target]]
        sources += [Source.SAME] * (3 * bool(len(earlier)))
        sources += [Source.BEFORE] * (2 * bool(roles[role].before)) + [Source.AFTER] * (2 * bool(roles[role].after))
        source = sources[rng.integers(len(sources))]
        looked = rng.choice(earlier) if source is Source.SAME else rng.integers(CHANNELS)
        found.append((target, role, int(source), int(looked), int(rng.integers(3)), int(rng.integers(2))))
    top = 2**15
    weights = rng.integers(-top, top, (terms, STRIDES)) if not extreme else rng.choice([-top, top - 1], (terms, STRIDES))
    return ReferenceTable(
        rng.choice([0.0, 280.0, -1e30, 1e300], CHANNELS),
        rng.choice([0.1, 1.0, 1e-30, 1e300, 5e-324], CHANNELS),
        order.astype(np.int32),
        np.array([(r.before, r.after) for r in roles], np.int32),
        np.array(found, np.int32).reshape(-1, 6),
        weights.astype(np.int16),
        rng.integers(0, 25 if not extreme else 1, (CHANNELS, len(roles), STRIDES)).astype(np.uint8),
        rng.integers(-1024, 1025, rows).astype(np.int32),
        np.array([rng.integers(2)], np.uint8),
    )


def values_of(rng, times, shape):
    y, x = np.meshgrid(np.linspace(0, 4, shape[0]), np.linspace(0, 6, shape[1]), indexing="ij")
    base = np.stack([20 * np.sin(y + 0.2 * t) * np.cos(x) for t in range(times)])[:, None]
    whole = base + rng.normal(0, 1, (times, CHANNELS, *shape))
    land = rng.random(shape) < 0.2
    whole[:, 0, land] = np.nan  # static
    whole[:, 1][rng.random((times, *shape)) < 0.1] = np.nan  # moving
    whole[:, 2] = np.where(rng.random((times, *shape)) < 0.3, np.inf, 1.5)
    whole[rng.integers(times), 4] = np.nan
    return [
        [whole[t, c].astype(DTYPES[c]) if c != 3 else np.nan_to_num(whole[t, c]).astype("i2") for c in range(CHANNELS)]
        for t in range(times)
    ]


def coder_of(rng, table, shape, stride):
    specs = [FieldSpec(shape, DTYPES[c], BOUNDS[c], float(table.origin[c]), float(table.step[c])) for c in range(CHANNELS)]
    statics = {c: rng.integers(-LIMIT, LIMIT + 1, shape).astype(np.int32) for c in (0, 3)}
    return BlockCoder(table, specs, [f"v{c}" for c in range(CHANNELS)], stride, MODEL, statics)


def assert_same(a, b):
    for name in ("values", "nominal", "activity"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name


@given(data=st.data())
@settings(max_examples=30, **SLOWLY)
def test_hostile_tables_cost_bytes_never_correctness(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    times, stride = data.draw(st.integers(1, 6)), data.draw(st.sampled_from([0, 1, 2, 4]))
    shape = data.draw(st.sampled_from([(1, 1), (1, 13), (9, 1), (7, 12), (18, 21)]))
    table = hostile_table(rng, times, stride, shape[0], extreme=data.draw(st.booleans()))
    coder = coder_of(rng, table, shape, stride)
    values = values_of(rng, times, shape)
    bases = rng.integers(-LIMIT, LIMIT + 1, (times, CHANNELS, *shape)).astype(np.int32)
    base = (lambda t, c: bases[t, c]) if data.draw(st.booleans()) else None
    alone = {c: CodecConfig(bound=BOUNDS[c], model=MODEL) for c in range(CHANNELS)} if data.draw(st.booleans()) else None
    coded = coder.encode(times, lambda t, c: values[t][c], base, alone)
    assert set(coded) == {(t, c) for t in range(times) for c in range(CHANNELS)}
    for (t, c), (_, field) in coded.items():
        promised = ErrorBound.lossless() if c == 2 else BOUNDS[c]
        assert not violations(values[t][c], field.values, promised).any()

    def frame(t, c):
        return coded[t, c][0]

    whole = coder.decode(times, coded, frame, base)
    for key in coded:
        assert_same(whole[key], coded[key][1])
    for key in coded:  # each by itself
        assert_same(coder.decode(times, [key], frame, base)[key], coded[key][1])
    held = {}
    for key in rng.permutation(list(coded)).tolist():  # in any order, beside what is known
        held |= coder.decode(times, [tuple(key)], frame, base, held)
    for key in coded:
        assert_same(held[key], coded[key][1])


@pytest.fixture(scope="module")
def plain():
    """A small block and a table in which channel 2 looks at 1, 1 at 0, and all at times."""
    rng = np.random.default_rng(4)
    times, stride, shape = 8, 4, (12, 17)
    roles = roles_of(times, stride)
    terms = [(c, r, Source.SAME, c - 1, 0, 0) for c in (1, 2) for r in range(len(roles))]
    terms += [(c, r, Source.BEFORE, c, 0, 0) for c in range(CHANNELS) for r, role in enumerate(roles) if role.before]
    terms += [(c, r, Source.AFTER, c, 0, 0) for c in range(CHANNELS) for r, role in enumerate(roles) if role.after]
    table = replace(
        hostile_table(rng, times, stride, shape[0]),
        origin=np.zeros(CHANNELS), step=np.full(CHANNELS, 0.1), order=np.arange(CHANNELS, dtype=np.int32),
        terms=np.array(terms, np.int32), weights=np.full((len(terms), STRIDES), 2**13, np.int16),
        shifts=np.full((CHANNELS, len(roles), STRIDES), 14, np.uint8),
    )  # fmt: skip
    coder = coder_of(rng, table, shape, stride)
    values = values_of(rng, times, shape)
    return coder, times, coder.encode(times, lambda t, c: values[t][c])


def test_reading_decodes_what_is_looked_at_and_nothing_else(plain, monkeypatch):
    coder, times, coded = plain
    decoded = []
    real = block_module.decode_field
    monkeypatch.setattr(block_module, "decode_field", lambda *a: decoded.append(1) or real(*a))
    for t in range(times):
        chain = len(needed_times(times, coder.time_stride, [t]))
        for channel, below in ((0, 1), (1, 2), (2, 3), (3, 1)):
            asked = []
            decoded.clear()
            found = coder.decode(times, [(t, channel)], lambda t, c, to=asked: to.append((t, c)) or coded[t, c][0])
            assert len(decoded) == len(asked) == len(set(asked)) == len(found) == chain * below
    decoded.clear()
    known = coder.decode(times, [(7, 2)], lambda t, c: coded[t, c][0])
    decoded.clear()
    again = coder.decode(times, [(7, 2), (7, 2)], lambda t, c: coded[t, c][0], known=known)
    assert not decoded
    assert set(again) == {(7, 2)}


def test_wanted_may_be_any_iterable(plain):
    coder, times, coded = plain
    wanted = [(1, 2), (3, 0)]
    known = coder.decode(times, wanted, lambda t, c: coded[t, c][0])
    assert set(wanted) <= set(coder.decode(times, iter(wanted), lambda t, c: coded[t, c][0], known=known))


def test_fields_stored_before_are_looked_at_and_not_coded_again(plain):
    coder, times, coded = plain
    fields = {key: coded[key][1] for key in coded if key[1] != 2}
    values = {key: coded[key][1].values for key in coded}
    again = coder.encode(times, lambda t, c: values[t, c], fields=fields)
    assert set(again) == {key for key in coded if key[1] == 2}


def test_errors_name_channel_and_time(plain):
    coder, times, coded = plain
    with pytest.raises(CorruptFrameError, match=r"v1, time 0 of its block"):
        coder.decode(times, [(0, 1)], lambda t, c: b"" if c == 1 else coded[t, c][0])


@given(data=st.data())
@settings(max_examples=60, **SLOWLY)
def test_damaged_fields_are_errors_of_ours_or_values(plain, data):
    coder, times, coded = plain
    at = data.draw(st.sampled_from(sorted(coded)))
    bad = bytearray(coded[at][0])
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = coder.decode(times, coded, lambda t, c: bytes(bad) if (t, c) == at else coded[t, c][0])
    except LatentzarrError:
        return
    assert all(found[key].values.shape == coded[key][1].values.shape for key in coded)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("order", lambda a: a * 0),
        ("order", lambda a: a[:-1]),
        ("step", lambda a: a * np.nan),
        ("step", lambda a: -a),
        ("origin", lambda a: a + np.inf),
        ("terms", lambda a: a + 100),
        ("terms", lambda a: -a - 1),
        ("terms", lambda a: a.astype("i8")),
        ("weights", lambda a: a[:, :3]),
        ("shifts", lambda a: a + np.uint8(200)),
        ("roles", lambda a: a + np.int32(1)),
        ("factor", lambda a: a + np.int32(2**20)),
        ("periodic", lambda a: a + np.uint8(7)),
    ],
)
def test_tables_that_cannot_be(plain, name, change):
    with pytest.raises(UntrustedModelError, match="reference table"):
        replace(plain[0].table, **{name: change(getattr(plain[0].table, name))})


def test_a_channel_never_looks_at_one_decoded_later(plain):
    table = plain[0].table
    with pytest.raises(UntrustedModelError, match="later"):
        replace(table, order=table.order[::-1].copy())
    assert len(block_visits(8, 4)) == 8
