"""Statistics merge exactly, count what is wrong, and see what smoothing or noise does to the small scales."""

import math

import numpy as np
import pytest

from latentzarr.bounds import ErrorBound
from latentzarr.errors import InvalidBoundError, InvalidConfigError
from latentzarr.metrics import ErrorStatistics, bits_per_value, infill, measure, radial_spectrum, small_scale_power

RNG = np.random.default_rng(3)
BOUND = ErrorBound.absolute(0.1)


def pair(shape=(6, 40, 50)):
    x = RNG.normal(280, 10, shape).astype("f4")
    return x, x + RNG.uniform(-0.09, 0.09, shape).astype("f4")


def test_numbers_are_those_of_the_textbook():
    x, y = pair()
    s = measure(x, y, BOUND)
    e = y.astype(float) - x.astype(float)
    assert s.count == s.finite == x.size
    assert s.violations == 0
    assert s.max_abs == np.abs(e).max()
    assert s.max_fraction == pytest.approx(s.max_abs / 0.1)
    assert s.rmse == pytest.approx(np.sqrt((e**2).mean()))
    assert s.bias == pytest.approx(e.mean())
    assert s.range == float(x.max()) - float(x.min())
    assert s.psnr == pytest.approx(20 * np.log10(s.range / s.rmse))


def test_statistics_of_parts_merge_into_those_of_the_whole():
    x, y = pair()
    y[2, 3, 4] += 1
    whole = measure(x, y, BOUND)
    parts = ErrorStatistics()
    for i in range(len(x)):
        parts = parts.merged(measure(x[i], y[i], BOUND))
    for name in ("count", "finite", "violations", "max_abs", "max_fraction", "minimum", "maximum"):
        assert getattr(parts, name) == getattr(whole, name)
    assert parts.squares == pytest.approx(whole.squares)
    assert whole.violations == 1


def test_missing_values_are_left_out_of_the_sums_but_not_of_the_check():
    x, y = pair()
    x[0, :3] = np.nan
    assert measure(x, y, BOUND).violations == 150
    y[0, :3] = np.nan
    s = measure(x, y, BOUND)
    assert s.violations == 0
    assert s.finite == x.size - 150


@pytest.mark.parametrize("shape", [(), (0,), (0, 20, 20), (5,), (3, 4)])
def test_any_shape_can_be_measured(shape):
    x = np.ones(shape, "f4")
    s = measure(x, x, BOUND)
    assert s.count == x.size
    assert s.violations == 0
    assert math.isnan(s.spectrum_ratio)
    assert math.isnan(s.rmse) == (x.size == 0)


def test_relative_error_is_counted_in_parts_of_each_value():
    x = np.array([0.0, 1.0, 100.0])
    s = measure(x, np.array([0.0, 1.01, 101.0]), ErrorBound.relative(0.02))
    assert s.max_fraction == pytest.approx(0.5)
    assert s.violations == 0


def test_integers_and_unequal_shapes():
    x = np.arange(12, dtype="i2").reshape(3, 4)
    assert measure(x, x + np.int16(1), ErrorBound.absolute(1)).violations == 0
    assert measure(x, x + np.int16(1), ErrorBound.lossless()).violations == 12
    with pytest.raises(InvalidBoundError, match="compare"):
        measure(x, x.T, BOUND)


def test_perfect_copies_have_infinite_psnr():
    x, _ = pair()
    assert measure(x, x, BOUND).psnr == math.inf
    assert measure(x, x, BOUND).spectrum_ratio == 1.0


def test_spectrum_ratio_sees_smoothing_and_noise():
    x = np.cumsum(np.cumsum(RNG.normal(size=(64, 64)), 0), 1) * 0.01 + RNG.normal(size=(64, 64))
    smooth = (x + np.roll(x, 1, 1) + np.roll(x, 1, 0) + np.roll(x, (1, 1), (0, 1))) / 4
    wide = ErrorBound.absolute(1e9)
    assert measure(x, smooth, wide).spectrum_ratio < 0.5
    assert measure(x, x + RNG.normal(size=x.shape), wide).spectrum_ratio > 1.5


def test_radial_spectrum_finds_a_wave_and_white_noise_is_flat():
    column = np.arange(128)
    frequency, power = radial_spectrum(np.broadcast_to(np.sin(2 * np.pi * column / 8), (128, 128)))
    assert frequency[np.argmax(power)] == pytest.approx(1 / 8, abs=0.01)
    _, white = radial_spectrum(RNG.normal(size=(128, 128)))
    assert white[5:].max() / white[5:].min() < 4
    assert small_scale_power(RNG.normal(size=(256, 256))) == pytest.approx(np.pi * (0.25 - 0.0625), rel=0.05)


def test_infill_is_smooth_and_keeps_what_is_there():
    x = np.tile(np.arange(10.0), (4, 1))
    holed = x.copy()
    holed[1, 3:6] = np.nan
    holed[2] = np.inf
    filled = infill(holed)
    np.testing.assert_array_equal(filled[[0, 1, 3]], x[[0, 1, 3]])
    assert np.isfinite(filled).all()
    assert not infill(np.full((3, 3), np.nan)).any()


def test_a_spectrum_needs_a_field():
    with pytest.raises(InvalidConfigError, match="2 x 2"):
        radial_spectrum(np.zeros((1, 10)))


def test_bits_per_value():
    assert bits_per_value(10, 40) == 2
    assert math.isnan(bits_per_value(10, 0))
