"""One field of a cube: the bound holds whatever the values and whatever the guide says, and reading gives what was checked."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentzarr.bounds import BoundKind, ErrorBound, violations
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.cube.field import OVERHEAD, FieldSpec, decode_field, encode_field
from latentzarr.cube.synthesis import LIMIT
from latentzarr.cube.table import STRIDES
from latentzarr.cube.walk import Guide
from latentzarr.errors import LatentzarrError
from latentzarr.models.store import shipped_model
from latentzarr.testing import bounds, chunks, fill_values

MODEL = shipped_model("normal")
SLOWLY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


def guide_of(shape, level, activity=None):
    """A guide made of a function of the shape of each level."""
    levels = []
    for stride in range(STRIDES):
        size = tuple(-(-n >> stride) for n in shape)
        levels.append(np.asarray(level(size), np.float64))
    return Guide(tuple(levels), np.zeros(shape, np.uint8) if activity is None else activity)


def hostile_guides(shape, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, shape).astype(np.uint8)
    return {
        "none": None,
        "zeros": guide_of(shape, np.zeros),
        "huge": guide_of(shape, lambda s: np.full(s, 2.0**52), noise),
        "beyond": guide_of(shape, lambda s: np.full(s, -1e308)),
        "nan": guide_of(shape, lambda s: np.full(s, np.nan), noise),
        "inf": guide_of(shape, lambda s: np.where(rng.random(s) < 0.5, np.inf, -np.inf)),
        "noise": guide_of(shape, lambda s: rng.integers(-(2**25), 2**25, s), noise),
        "active": guide_of(shape, lambda s: rng.normal(size=s).round(), np.full(shape, 255, np.uint8)),
    }


GUIDES = tuple(hostile_guides((1, 1)))


def kept(values, spec, guide, alone=None):
    """Code and decode; every promise is asserted on the way."""
    before = values.tobytes()
    data, field = encode_field(values, spec, guide, MODEL, alone)
    assert values.tobytes() == before
    assert len(data) <= values.nbytes + OVERHEAD
    again = decode_field(data, spec, guide, MODEL)
    for a, b in ((field.values, again.values), (field.nominal, again.nominal), (field.activity, again.activity)):
        assert a.tobytes() == b.tobytes()
        assert a.dtype == b.dtype
        assert a.shape == b.shape == spec.shape
    assert field.values.dtype == values.dtype
    assert not violations(values, field.values, spec.bound).any()
    if spec.fill_value is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            at = values == spec.fill_value
        assert (field.values[at] == values[at]).all()
    assert np.abs(field.nominal).max() <= LIMIT
    return data, field


def as_field(chunk):
    """Any chunk as rows and columns."""
    return np.ascontiguousarray(chunk.reshape(-1, chunk.shape[-1] if chunk.ndim else 1))


@pytest.mark.parametrize("name", GUIDES)
@given(data=st.data())
@settings(max_examples=25, **SLOWLY)
def test_any_field_under_any_bound_beside_any_guide(name, data):
    values = as_field(data.draw(chunks(empty=False)))
    values = values.astype(values.dtype.newbyteorder("="))
    bound = data.draw(bounds())
    if bound.kind in (BoundKind.RANGE_RELATIVE, BoundKind.NONE):
        bound = ErrorBound.absolute(bound.value)
    if values.dtype.kind != "f" and not (values.dtype.kind in "iu" and bound.kind is BoundKind.ABSOLUTE and bound.value >= 1):
        bound = ErrorBound.lossless()
    fill = data.draw(fill_values(values)) if values.dtype.kind in "iu" else None
    origin, step = data.draw(st.sampled_from([(0.0, 1.0), (280.0, 0.2), (-1e300, 1e-300), (1e300, 1e300), (0.0, 5e-324)]))
    spec = FieldSpec(values.shape, values.dtype, bound, origin, step, b"", fill)
    alone = data.draw(st.sampled_from([None, CodecConfig(bound=bound, model=MODEL, effort=Effort.FAST)]))
    kept(values, spec, hostile_guides(values.shape)[name], alone)


def smooth(shape, seed=0):
    y, x = np.meshgrid(np.linspace(0, 4, shape[0]), np.linspace(0, 6, shape[1]), indexing="ij")
    return 280 + 5 * np.sin(y + seed) * np.cos(x) + np.random.default_rng(seed).normal(0, 0.05, shape)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name", GUIDES)
def test_smooth_fields_beside_hostile_guides(dtype, name):
    values = smooth((33, 47)).astype(dtype)
    bound = ErrorBound.absolute(0.5 if dtype == "f2" else 0.02)
    kept(values, FieldSpec(values.shape, values.dtype, bound, 280.0, 2 * bound.value), hostile_guides(values.shape)[name])


def test_a_true_guide_pays_and_a_false_one_only_costs():
    values = smooth((48, 64)) + np.random.default_rng(1).normal(0, 1, (48, 64))
    spec = FieldSpec(values.shape, values.dtype, ErrorBound.absolute(0.05), 280.0, 0.1)
    truth = np.rint((values - 280) / 0.1 * 16)
    levels = tuple(truth[:: 1 << i, :: 1 << i] for i in range(STRIDES))
    true = kept(values, spec, Guide(levels, np.full(values.shape, 0, np.uint8)))[0]
    none = kept(values, spec, None)[0]
    false = kept(values, spec, hostile_guides(values.shape)["noise"])[0]
    assert len(true) < len(none) / 3
    assert len(false) <= values.nbytes + OVERHEAD


def special_fields():
    rng = np.random.default_rng(3)
    base = smooth((17, 23)).astype("f4")
    land = base.copy()
    land[3:9, 5:17] = np.nan
    every = np.full_like(base, np.nan)
    one = every.copy()
    one[16, 22] = 3
    infinite = base.copy()
    infinite[rng.random(base.shape) < 0.2] = np.inf
    infinite[rng.random(base.shape) < 0.2] = -np.inf
    zeros = np.where(rng.random(base.shape) < 0.5, -0.0, 0.0).astype("f4")
    return {
        "land": land, "all missing": every, "one value left": one, "infinite": infinite, "zeros": zeros,
        "constant": np.full_like(base, 7), "repeated": np.repeat(base[:, :1], 23, 1),
    }  # fmt: skip


EVERY = [
    ErrorBound.absolute(0.01), ErrorBound.relative(0.01), ErrorBound.lossless(), ErrorBound.absolute(0.5).with_exact_zeros(),
    ErrorBound.absolute(1e-9), ErrorBound.absolute(1e30),
]  # fmt: skip


@pytest.mark.parametrize("bound", EVERY, ids=str)
@pytest.mark.parametrize("name", special_fields())
def test_special_values_stay_where_they_are(name, bound):
    values = special_fields()[name]
    spec = FieldSpec(values.shape, values.dtype, bound, 280.0, 0.02)
    for guide in ("none", "zeros", "noise"):
        _, field = kept(values, spec, hostile_guides(values.shape)[guide])
        same = ~np.isfinite(values)
        np.testing.assert_array_equal(field.values[same], values[same])
        if bound.zeros:
            np.testing.assert_array_equal(field.values[values == 0], 0)


def test_a_shared_mask_is_not_stored_again_and_another_is():
    from latentzarr.dataset.cube_reader import mask_section

    values = special_fields()["land"]
    bound = ErrorBound.absolute(0.05)
    plain = FieldSpec(values.shape, values.dtype, bound, 280.0, 0.1)
    shared = FieldSpec(values.shape, values.dtype, bound, 280.0, 0.1, mask_section(np.isnan(values).astype(np.uint8)))
    guide = hostile_guides(values.shape)["zeros"]
    own, short = kept(values, plain, guide)[0], kept(values, shared, guide)[0]
    assert len(short) < len(own)
    assert short[0] == 2
    with pytest.raises(LatentzarrError):
        decode_field(short, plain, guide, MODEL)
    moved = values.copy()
    moved[0, 0] = np.nan
    assert kept(moved, shared, guide)[0][0] != 2


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "i8", "u8", "?"])
@pytest.mark.parametrize("bound", [ErrorBound.lossless(), ErrorBound.absolute(3)], ids=str)
def test_integers(dtype, bound):
    values = (smooth((20, 31)) - 280).astype(dtype)
    bound = ErrorBound.lossless() if dtype == "?" else bound
    for fill in (None, 2):
        spec = FieldSpec(values.shape, values.dtype, bound, 0.0, 1.0, b"", None if dtype == "?" else fill)
        for guide in ("none", "huge", "noise"):
            kept(values, spec, hostile_guides(values.shape)[guide])


def test_what_no_walk_can_shorten_is_stored_as_it_is():
    rng = np.random.default_rng(0)
    for dtype in ("f2", "f4", "i1", "u8"):
        values = rng.integers(0, 256, (32, 8 * np.dtype(dtype).itemsize)).astype(np.uint8).view(dtype)
        for bound in (ErrorBound.lossless(), ErrorBound.absolute(1e-30)):
            if np.dtype(dtype).kind != "f":
                bound = ErrorBound.lossless()
            for guide in hostile_guides(values.shape).values():
                kept(values, FieldSpec(values.shape, values.dtype, bound, 0.0, 1.0), guide)


# ------------------------------------------------------------------------------------------------------- hostile bytes
def fields_as_bytes():
    values = special_fields()["land"]
    spec = FieldSpec(values.shape, values.dtype, ErrorBound.absolute(0.05), 280.0, 0.1)
    guide = hostile_guides(values.shape)["zeros"]
    guided = encode_field(values, spec, guide, MODEL)[0]
    config = CodecConfig(bound=spec.bound, model=MODEL)
    constant = encode_field(np.full_like(values, 3), spec, guide, MODEL, config)[0]
    return spec, guide, [guided, constant]


def test_every_changed_byte_and_every_cut_is_an_error_of_ours_or_values():
    spec, guide, fields = fields_as_bytes()
    assert [data[0] for data in fields] == [1, 0]
    rng = np.random.default_rng(0)
    for data in fields:
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= int(rng.integers(1, 256))
            for bad in (data[:at], bytes(changed), data[:at] + data[at + 1 :]):
                try:
                    found = decode_field(bad, spec, guide, MODEL)
                except LatentzarrError:
                    continue
                assert found.values.shape == spec.shape


@given(data=st.binary(max_size=200), kind=st.sampled_from([0, 1, 2, 3, 255]))
@settings(max_examples=300, **SLOWLY)
def test_any_bytes(data, kind):
    spec, guide, _ = fields_as_bytes()
    with contextlib.suppress(LatentzarrError):
        decode_field(bytes([kind]) + data, spec, guide, MODEL)


def test_another_guide_is_noticed_or_gives_other_values():
    spec, guide, (guided, _) = fields_as_bytes()
    other = hostile_guides(spec.shape)["noise"]
    try:
        found = decode_field(guided, spec, other, MODEL)
    except LatentzarrError:
        return
    assert found.values.tobytes() != decode_field(guided, spec, guide, MODEL).values.tobytes()
