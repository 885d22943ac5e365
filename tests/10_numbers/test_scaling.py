"""Lattices: exact where they claim to be, against fractions and big integers."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.scaling import (
    FRACTION,
    LATTICE_LIMIT,
    LinearLattice,
    LogLattice,
    _power_tables,
    integer_lattice,
    linear_lattice,
    log_lattice,
    step_of,
)

UNITS = st.integers(-(2**29), 2**29)
STEPS = st.floats(1e-200, 1e200)


@given(STEPS, st.integers(-(2**48), 2**48), st.lists(UNITS, min_size=1, max_size=8))
@settings(max_examples=200)
def test_a_linear_lattice_is_one_correctly_rounded_product(step, offset, n):
    got = LinearLattice(step, offset).values(np.array(n, np.int32), np.dtype("f8"))
    for k, value in zip(n, got, strict=True):
        exact = Fraction(k + FRACTION * offset) * Fraction(step) / FRACTION
        assert value == float(exact)


@given(st.sampled_from(["f2", "f4"]), st.floats(1e-6, 10), st.integers(-1000, 1000), UNITS)
def test_narrow_floats_round_the_product_once_more(dtype, step, offset, n):
    value = LinearLattice(step, offset).values(np.array([n], np.int32), np.dtype(dtype))[0]
    with np.errstate(over="ignore"):
        assert value == np.float64(float(Fraction(n + FRACTION * offset) * Fraction(step) / FRACTION)).astype(dtype)


@given(
    st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]), st.integers(0, 2**20), st.integers(-(2**26), 2**26), UNITS
)
@settings(max_examples=300)
def test_integers_take_the_nearest_ties_upwards_and_stay_in_range(dtype, half, offset, n):
    step = 2 * half + 1
    limits = np.iinfo(dtype)
    exact = math.floor(Fraction((n + FRACTION * offset) * step, FRACTION) + Fraction(1, 2))
    got = LinearLattice(float(step), offset).values(np.array([n], np.int32), np.dtype(dtype))
    assert got.dtype == dtype
    assert int(got[0]) == min(max(exact, limits.min), limits.max)


@given(st.floats(1e-300, 1e300), st.integers(0, 60))
def test_steps_stay_below_twice_the_bound(bound, slack):
    step = step_of(bound, slack)
    assert 0 < step <= 2 * bound
    assert slack != 0 or step == 2 * bound


@given(st.sampled_from(["f2", "f4", "f8"]), st.floats(-300, 300), st.floats(-300, 300), st.floats(-1, 1))
@settings(max_examples=300)
def test_a_linear_lattice_covers_its_range_or_is_none(dtype, bound_exponent, range_exponent, ratio):
    dtype = np.dtype(dtype)
    bound = 10.0**bound_exponent
    high = min(10.0**range_exponent, float(np.finfo(dtype).max))
    low = high * ratio
    found = linear_lattice(bound, high, low, high, dtype)
    if found is None:
        return
    lattice, slack = found
    assert 2 <= slack <= 60
    assert lattice.step == step_of(bound, slack)
    assert FRACTION * abs(lattice.offset) + 2**29 < 2**53
    assert (np.abs(lattice.coordinates(np.array([low, high]))) <= LATTICE_LIMIT).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_bounds_below_the_resolution_have_no_lattice(dtype):
    dtype = np.dtype(dtype)
    resolution = float(np.spacing(dtype.type(1000)))
    assert linear_lattice(resolution, 1000.0, 0.0, 1000.0, dtype) is None
    assert linear_lattice(64 * resolution, 1000.0, 1000.0 - 1000 * resolution, 1000.0, dtype) is not None


@pytest.mark.parametrize(
    ("bound", "largest"), [(1e308, 5e-324), (1e10, 0.0), (5e-324, 0.0), (1e-320, 1e-310), (1.7e308, 1.7e308)]
)
def test_numbers_at_the_ends_of_float64(bound, largest):
    found = linear_lattice(bound, largest, -largest, largest, np.dtype("f8"))
    assert found is None or math.isfinite(found[0].step)


def test_integer_lattices():
    assert integer_lattice(0, -5, 5) == LinearLattice(1.0, 0)
    assert integer_lattice(2.9, 0, 100) == LinearLattice(5.0, 10)
    assert integer_lattice(2.0**30, 0, 10) is None
    assert integer_lattice(0, 2**47, 2**47) is None
    assert integer_lattice(0, 0, 2**25) is None
    assert integer_lattice(1e308, 0, 10) is None


def test_power_tables_are_rounded_powers_of_two():
    coarse, fine = _power_tables()
    with localcontext() as context:
        context.prec = 60
        for i in range(1024):
            assert abs(Decimal(int(coarse[i])) - Decimal(2) ** (30 + Decimal(i) / 1024)) <= Decimal("0.5")
            assert abs(Decimal(int(fine[i])) - Decimal(2) ** (30 + Decimal(i) / 2**20)) <= Decimal("0.5")


@given(st.integers(2**12, 2**41), st.integers(-(2**20), 2**20), UNITS)
@settings(max_examples=300)
def test_a_logarithmic_lattice_against_exact_powers_of_two(log_step, offset, n):
    total = n + FRACTION * offset
    exponent = (total * log_step) // 16  # units of 2**-40, as the format floors it
    if not -1020 * 2**40 < exponent < 1020 * 2**40:
        return
    got = float(LogLattice(log_step, offset).values(np.array([n], np.int32), np.dtype("f8"))[0])
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(2) ** (Decimal(exponent) / 2**40)
        assert abs(Decimal(got) / exact - 1) < Decimal(2) ** -27


@given(st.floats(1e-6, 0.9), st.integers(-1000, 1000), st.sampled_from(["f4", "f8"]))
@settings(max_examples=60)
def test_a_logarithmic_lattice_is_monotone(relative, offset, dtype):
    lattice = log_lattice(relative, 1.0, 2.0, np.dtype(dtype))
    assert lattice is not None
    values = LogLattice(lattice.log_step, offset).values(np.arange(-3000, 3000, dtype=np.int32), np.dtype(dtype))
    assert (values[1:] >= values[:-1]).all()
    assert (values >= 0).all()


@given(st.integers(1, 2**50), st.integers(-(2**48), 2**48), UNITS, st.sampled_from(["f2", "f4", "f8"]))
@settings(max_examples=300)
def test_no_header_makes_a_logarithmic_lattice_fail(log_step, offset, n, dtype):
    value = LogLattice(log_step, offset).values(np.array([n], np.int32), np.dtype(dtype))[0]
    assert value >= 0


@given(st.sampled_from(["f2", "f4", "f8"]), st.floats(1e-8, 0.9), st.floats(-300, 290), st.floats(0, 40))
@settings(max_examples=300)
def test_nearest_lattice_points_keep_a_relative_bound(dtype, relative, exponent, octaves):
    dtype = np.dtype(dtype)
    limits = np.finfo(dtype)
    x = np.exp2(np.linspace(0, octaves, 50)) * 10.0**exponent
    x = np.clip(x, float(limits.tiny), float(limits.max) / 4).astype(dtype)
    lattice = log_lattice(relative, float(x.min()), float(x.max()), dtype)
    if lattice is None:
        assert relative < 8 * (float(limits.eps) + 2.0**-27) or octaves > 1
        return
    n = lattice.coordinates(x.astype("f8"))
    assert (np.abs(n) < 2**29).all()
    y = lattice.values((np.round(n / 16) * 16).astype(np.int32), dtype).astype("f8")
    assert (np.abs(y - x) <= relative * x.astype("f8")).all()


def test_subnormals_have_no_logarithmic_lattice():
    assert log_lattice(0.1, 1e-310, 1.0, np.dtype("f8")) is None
    assert log_lattice(0.1, 1e-40, 1.0, np.dtype("f4")) is None
