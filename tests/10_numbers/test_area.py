"""Cells count by their area, sums of parts are those of the whole, and power along latitudes is that of the waves put in."""

import math

import numpy as np
import pytest

from latentzarr.area import AreaError, area_error, latitude_weights, zonal_power, zonal_spectrum_ratio
from latentzarr.errors import InvalidConfigError

RNG = np.random.default_rng(4)
LATITUDE = np.array([-60.0, 0.0, 60.0])


def test_weights_are_the_cosine_and_one_on_average():
    assert latitude_weights(LATITUDE)[:, 0] == pytest.approx([0.75, 1.5, 0.75])
    assert latitude_weights(np.array([90.0])).tolist() == [[1.0]]


@pytest.mark.parametrize("latitude", [[], [91.0], [math.nan], [[0.0, 1.0]]])
def test_what_is_no_latitude_is_refused(latitude):
    with pytest.raises(InvalidConfigError, match="degrees"):
        latitude_weights(np.array(latitude))


def test_errors_counted_by_hand():
    x = np.zeros((3, 2))
    y = np.array([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]])
    found = area_error(x, y, LATITUDE)
    assert found.rmse == pytest.approx(math.sqrt((0.75 + 1.5 * 4 + 0.75) / 3))
    assert found.bias == pytest.approx(1.5 * 2 / 3)
    assert found.largest == 2.0
    assert math.isnan(found.normalised_mse)


def test_variance_is_that_of_the_areas():
    x = np.array([[1.0], [4.0], [3.0]])
    found = area_error(x, x + 0.5, LATITUDE, centre=2.0)
    mean = (0.75 * 1 + 1.5 * 4 + 0.75 * 3) / 3
    assert found.variance == pytest.approx((0.75 * (1 - mean) ** 2 + 1.5 * (4 - mean) ** 2 + 0.75 * (3 - mean) ** 2) / 3)
    assert found.normalised_mse == pytest.approx(0.25 / found.variance)


def test_sums_of_parts_are_those_of_the_whole():
    x = RNG.normal(280, 10, (5, 3, 8)).astype("f4")
    y = x + RNG.normal(0, 0.1, x.shape).astype("f4")
    x[1, 0, 2], y[3, 2, 1] = np.nan, np.inf
    parts = AreaError()
    for a, b in zip(x, y, strict=True):
        parts = parts.merged(area_error(a, b, LATITUDE, 280.0))
    whole = area_error(x, y, LATITUDE, 280.0)
    for name in ("weight", "rmse", "bias", "variance", "normalised_mse", "largest"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))
    with pytest.raises(InvalidConfigError, match="centres"):
        whole.merged(area_error(x, y, LATITUDE, 0.0))


def test_nothing_finite_is_not_a_number():
    nothing = area_error(np.full((3, 2), np.nan), np.zeros((3, 2)), LATITUDE)
    for value in (nothing.rmse, nothing.bias, nothing.variance, nothing.normalised_mse):
        assert math.isnan(value)
    assert nothing.merged(area_error(np.zeros((3, 2)), np.ones((3, 2)), LATITUDE)).rmse == 1.0


@pytest.mark.parametrize("columns", [16, 15])
def test_power_is_found_at_the_wavenumber_of_the_wave(columns):
    angle = 2 * np.pi * np.arange(columns) / columns
    x = np.stack([2 + 3 * np.cos(4 * angle + shift) for shift in (0.0, 1.0, 2.0)])
    power = zonal_power(x, LATITUDE)
    assert power.shape == (columns // 2 + 1,)
    assert power[[0, 4]] == pytest.approx([4.0, 4.5])
    assert power.sum() == pytest.approx(8.5)


def test_power_adds_up_to_the_mean_square_by_area():
    x = RNG.normal(size=(2, 3, 10))
    assert zonal_power(x, LATITUDE).sum() == pytest.approx((latitude_weights(LATITUDE) * x**2).mean())


def test_smoothing_lowers_the_ratio_where_scales_are_small():
    x = RNG.normal(size=(4, 3, 64))
    y = (np.roll(x, 1, -1) + x + np.roll(x, -1, -1)) / 3
    ratio = zonal_spectrum_ratio(x, y, LATITUDE)
    wave = 2 * np.pi * np.arange(33) / 64
    assert ratio == pytest.approx(((1 + 2 * np.cos(wave)) / 3) ** 2)


def test_circles_with_holes_are_left_out_of_both():
    x = RNG.normal(size=(3, 8))
    y = x.copy()
    x[0, 1], y[1, 1] = np.nan, np.nan
    assert zonal_spectrum_ratio(x, y, LATITUDE) == pytest.approx(np.ones(5))
    y[2, 0] = np.inf
    assert np.isnan(zonal_spectrum_ratio(x, y, LATITUDE)).all()
    assert np.isnan(zonal_spectrum_ratio(np.zeros((3, 8)), np.ones((3, 8)), LATITUDE)).all()


def test_what_does_not_fit_is_refused():
    for call in (area_error, zonal_spectrum_ratio):
        with pytest.raises(InvalidConfigError):
            call(np.zeros((3, 4)), np.zeros((3, 5)), LATITUDE)
    with pytest.raises(InvalidConfigError, match="do not fit"):
        zonal_power(np.zeros((4, 4)), LATITUDE)
    with pytest.raises(InvalidConfigError, match="do not fit"):
        area_error(np.zeros((4, 4)), np.zeros((4, 4)), LATITUDE)
