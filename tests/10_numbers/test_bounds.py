"""Bounds as people write them, and the one test of whether a value is within them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.bounds import BoundKind, ErrorBound, parse_bound, violations
from latentzarr.errors import InvalidBoundError
from latentzarr.testing import DTYPES, make_chunk

FLOATS = [np.dtype(o + f) for f in ("f2", "f4", "f8") for o in "<>"]
INTEGERS = [d for d in DTYPES if d.kind in "iu"]


@pytest.mark.parametrize(
    ("text", "units", "expected"),
    [
        ("0.1", None, ErrorBound.absolute(0.1)),
        (" 0.1 ", "K", ErrorBound.absolute(0.1)),
        (0.1, "K", ErrorBound.absolute(0.1)),
        (np.float32(0.5), None, ErrorBound.absolute(0.5)),
        (3, None, ErrorBound.absolute(3)),
        ("1e-3", None, ErrorBound.absolute(1e-3)),
        (".5", None, ErrorBound.absolute(0.5)),
        ("+2.", None, ErrorBound.absolute(2.0)),
        ("0.1 absolute", "K", ErrorBound.absolute(0.1)),
        ("0.1 ABS", None, ErrorBound.absolute(0.1)),
        ("0.1 K", "K", ErrorBound.absolute(0.1)),
        ("0.1K", "K", ErrorBound.absolute(0.1)),
        ("5 m  s-1", "m s-1", ErrorBound.absolute(5)),
        ("1% of range", None, ErrorBound.range_relative(0.01)),
        ("1 %", None, ErrorBound.range_relative(0.01)),
        ("0.01 of range", None, ErrorBound.range_relative(0.01)),
        ("1% of the range", "K", ErrorBound.range_relative(0.01)),
        ("2% relative", None, ErrorBound.relative(0.02)),
        ("0.02 relative", None, ErrorBound.relative(0.02)),
        ("2 % pointwise", "kg", ErrorBound.relative(0.02)),
        ("0.1 rmse", "K", ErrorBound.none(0.1)),
        ("lossless", "K", ErrorBound.lossless()),
        (" Exact ", None, ErrorBound.lossless()),
        (ErrorBound.relative(0.1), "K", ErrorBound.relative(0.1)),
    ],
)
def test_bounds_are_read_as_people_write_them(text, units, expected):
    assert parse_bound(text, units) == expected


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("", None),
        ("K", "K"),
        ("about 3", None),
        ("0.1 K", None),
        ("0.1 K", "degC"),
        ("0.1 k", "K"),
        ("0.1 mK", "K"),
        ("1% K", "K"),
        ("1% rmse", None),
        ("0", None),
        ("-0.1", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("0%", None),
        ("100%", None),
        ("150% relative", None),
        ("1 relative", None),
        ("-1% of range", None),
        ("0 rmse", None),
        ("lossless 0.1", None),
        ("0.1 lossless", "K"),
        ("1 2", None),
        ("1%%", None),
        (0, None),
        (-1.0, None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        (None, None),
        ([1], None),
        ({}, None),
        (1j, None),
        (b"0.1", None),
    ],
)
def test_what_cannot_be_meant_is_refused(text, units):
    with pytest.raises(InvalidBoundError):
        parse_bound(text, units)


def test_refusals_name_the_words_and_the_units():
    with pytest.raises(InvalidBoundError, match=r"'0.1 mK'.*'mK'.*units are 'K'"):
        parse_bound("0.1 mK", "K")
    with pytest.raises(InvalidBoundError, match="no units attribute"):
        parse_bound("0.1 K")


@pytest.mark.parametrize("kind", [k for k in BoundKind if k is not BoundKind.LOSSLESS])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf, True, "1", None])
def test_values_no_bound_can_have(kind, value):
    with pytest.raises(InvalidBoundError):
        ErrorBound(kind, value)


def test_lossless_has_no_value_and_shares_stay_below_one():
    with pytest.raises(InvalidBoundError):
        ErrorBound(BoundKind.LOSSLESS, 0.1)
    for make in (ErrorBound.relative, ErrorBound.range_relative):
        with pytest.raises(InvalidBoundError):
            make(1.0)


def test_unknown_kinds_are_refused():
    with pytest.raises(InvalidBoundError, match=r"approximate.*absolute, range_relative"):
        ErrorBound("approximate", 1.0)


def test_a_range_resolves_to_an_absolute_bound():
    assert ErrorBound.range_relative(0.01).resolve(-10, 30) == ErrorBound.absolute(0.4)
    assert ErrorBound.absolute(1).resolve(0, 5) == ErrorBound.absolute(1)
    for low, high in [(3, 3), (math.nan, math.nan), (math.inf, -math.inf), (-1.7e308, 1.7e308)]:
        assert ErrorBound.range_relative(0.01).resolve(low, high) == ErrorBound.lossless()


@given(st.sampled_from(BoundKind), st.floats(1e-300, 0.99))
def test_a_bound_is_said_in_words(kind, value):
    bound = ErrorBound(kind, 0.0 if kind is BoundKind.LOSSLESS else value)
    assert str(bound)
    assert bound == ErrorBound(str(kind), bound.value)
    assert hash(bound) == hash(ErrorBound(kind, bound.value))


def exact_violation(x, y, bound):
    """The promise in exact fractions, for one pair of finite values."""
    error = abs(Fraction(x) - Fraction(y))
    limit = Fraction(bound.value) * (abs(Fraction(x)) if bound.kind is BoundKind.RELATIVE else 1)
    return error > limit


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bound", [ErrorBound.absolute(0.125), ErrorBound.relative(0.125)], ids=str)
def test_floats_on_and_next_to_the_bound(dtype, bound):
    x = np.array([0.0, 1.0, -1.0, 8.0, -8.0, 100.0], dtype)
    edge = x.astype("f8") + (0.125 if bound.kind is BoundKind.ABSOLUTE else 0.125 * np.abs(x.astype("f8")))
    y = edge.astype(dtype)
    assert (y.astype("f8") == edge).all()
    assert not violations(x, y, bound).any()
    beyond = np.nextafter(y.astype(dtype.newbyteorder("=")), np.array(np.inf, dtype.newbyteorder("="))).astype(dtype)
    assert violations(x, beyond, bound).all()


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d.itemsize < 8], ids=str)
@given(seed=st.integers(0, 2**32 - 1), value=st.floats(1e-6, 0.9))
@settings(deadline=None, max_examples=20)
def test_narrow_floats_agree_with_fractions(dtype, seed, value):
    x = make_chunk((40,), dtype, "smooth", seed)
    y = (x.astype("f8") + np.random.default_rng(seed).normal(size=40) * value).astype(dtype)
    bound = ErrorBound.absolute(value)
    exact = [exact_violation(float(a), float(b), bound) for a, b in zip(x, y, strict=True)]
    assert (violations(x, y, bound) == exact).all()


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_integers_are_compared_exactly(dtype, data):
    limits = np.iinfo(dtype)
    number = st.one_of(st.integers(limits.min, limits.max), st.sampled_from([limits.min, limits.max, 0, limits.max - 1]))
    x, y = (np.array(data.draw(st.lists(number, min_size=3, max_size=3)), dtype) for _ in range(2))
    size = data.draw(st.one_of(st.floats(0.5, 1e20), st.sampled_from([1.0, 2.0**63, 2.0**64, 1e300])))
    expected = [abs(int(a) - int(b)) > min(math.floor(size), 2**64 - 1) for a, b in zip(x, y, strict=True)]
    assert (violations(x, y, ErrorBound.absolute(size)) == expected).all()
    assert (violations(x, y, ErrorBound.lossless()) == (x != y)).all()
    assert not violations(x, y, ErrorBound.none(1.0)).any()
    assert not violations(x, x, ErrorBound.relative(1e-9)).any()


def test_64_bit_integers_that_float64_cannot_tell_apart():
    x = np.array([2**63 - 1, -(2**63), 2**53 + 1])
    y = np.array([2**63 - 2, -(2**63) + 1, 2**53])
    assert violations(x, y, ErrorBound.lossless()).all()
    assert violations(x, y, ErrorBound.absolute(0.5)).all()
    assert not violations(x, y, ErrorBound.absolute(1)).any()
    wide = np.array([-(2**63)]), np.array([2**63 - 1])
    assert violations(*wide, ErrorBound.absolute(2.0**63)).all()
    assert not violations(*wide, ErrorBound.absolute(2.0**64)).any()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bound", [ErrorBound.absolute(1e30), ErrorBound.relative(0.9), ErrorBound.none(1e30)], ids=str)
def test_special_values_must_stay_in_their_places(dtype, bound):
    nan, inf = np.nan, np.inf
    x = np.array([nan, inf, -inf, 1.0, nan, inf, 1.0, 1.0, 1.0, nan, -nan], dtype)
    y = np.array([nan, inf, -inf, 1.0, 1.0, -inf, nan, inf, -inf, inf, nan], dtype)
    assert violations(x, y, bound).tolist() == [False] * 4 + [True] * 6 + [False]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_lossless_compares_bits(dtype):
    nan, zero = np.array([np.nan, 0.0], dtype)
    x, y = np.array([zero, zero, nan, nan], dtype), np.array([zero, -zero, nan, -nan], dtype)
    assert violations(x, y, ErrorBound.lossless()).tolist() == [False, True, False, True]


def test_zeros_are_exact_under_a_relative_bound():
    x, y = np.array([0.0, 0.0, -0.0]), np.array([5e-324, 0.0, 0.0])
    assert violations(x, y, ErrorBound.relative(0.5)).tolist() == [True, False, False]


def test_signalling_nan_is_a_nan():
    x = np.array([0x7F800001], "u4").view("f4")
    assert not violations(x, np.array([np.nan], "f4"), ErrorBound.absolute(1)).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "bound", [ErrorBound.absolute(5), ErrorBound.relative(0.5), ErrorBound.lossless(), ErrorBound.none(1)], ids=str
)
def test_shapes_without_dimensions_or_values(dtype, bound):
    for shape in [(), (0,), (3, 0)]:
        x = np.ones(shape, dtype)
        assert violations(x, x, bound).shape == shape
        assert not np.any(violations(x, x, bound))
    with pytest.raises(InvalidBoundError):
        violations(np.ones(2, dtype), np.ones(3, dtype), bound)


def test_zero_dimensional_integers_wrap_in_silence():
    assert not violations(np.array(-5), np.array(3), ErrorBound.absolute(8))
    assert violations(np.array(-5), np.array(3), ErrorBound.absolute(7))


def test_what_cannot_be_compared():
    with pytest.raises(InvalidBoundError, match="float32"):
        violations(np.zeros(2, "f4"), np.zeros(2, "f8"), ErrorBound.absolute(1))
    with pytest.raises(InvalidBoundError, match="resolved"):
        violations(np.zeros(2), np.zeros(2), ErrorBound.range_relative(0.1))
