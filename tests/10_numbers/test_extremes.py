"""Tables counted by hand, scores at their edges, and laws that hold for any values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentzarr.errors import InvalidConfigError
from latentzarr.extremes import Contingency, contingency, quantile, relative_quantile_error

COUNTS = st.integers(0, 50)
TABLES = st.builds(Contingency, COUNTS, COUNTS, COUNTS, COUNTS)
FIELDS = hnp.arrays("f4", (4, 5), elements=st.floats(-10, 10, width=32) | st.just(math.nan))


def test_a_table_counted_by_hand():
    x = np.array([1.0, 5.0, 6.0, 7.0, 2.0, 3.0, 5.0, 0.0])
    y = np.array([1.0, 5.0, 4.0, 9.0, 6.0, 3.0, 4.9, 0.0])
    table = contingency(x, y, 5.0)  # events of x: 5 6 7 5; of y: 5 9 6
    assert table == Contingency(hits=2, misses=2, false_alarms=1, correct_negatives=3)
    assert table.total == 8
    assert table.hit_rate == 0.5
    assert table.false_alarm_rate == 0.25
    assert table.frequency_bias == 0.75
    assert table.csi == 2 / 5
    f, h = math.log(0.25), math.log(0.5)
    assert table.sedi == pytest.approx((f - h - math.log(0.75) + math.log(0.5)) / (f + h + math.log(0.75) + math.log(0.5)))


def test_the_index_of_finleys_tornadoes():
    # the forecasts of 1884 that papers on rare events like; logarithms by hand
    finley = Contingency(hits=28, misses=23, false_alarms=72, correct_negatives=2680)
    assert finley.sedi == pytest.approx((-3.6434 + 0.5996 + 0.0265 - 0.7963) / (-3.6434 - 0.5996 - 0.0265 - 0.7963), abs=1e-4)
    assert finley.csi == pytest.approx(28 / 123)


@pytest.mark.parametrize(
    ("table", "sedi", "csi"),
    [
        (Contingency(), math.nan, math.nan),
        (Contingency(correct_negatives=9), math.nan, math.nan),  # no events
        (Contingency(false_alarms=2, correct_negatives=7), math.nan, 0.0),  # events of the reconstruction only
        (Contingency(hits=9), math.nan, 1.0),  # events only
        (Contingency(misses=2, correct_negatives=7), math.nan, 0.0),  # no events in the reconstruction
        (Contingency(hits=2, false_alarms=7), math.nan, 2 / 9),  # only events in the reconstruction
        (Contingency(hits=2, correct_negatives=7), 1.0, 1.0),  # perfect
        (Contingency(hits=1, misses=1, correct_negatives=7), 1.0, 0.5),  # no false alarms
        (Contingency(hits=2, false_alarms=1, correct_negatives=6), 1.0, 2 / 3),  # nothing missed
        (Contingency(misses=2, false_alarms=1, correct_negatives=6), -1.0, 0.0),  # nothing kept
        (Contingency(hits=1, misses=1, false_alarms=7), -1.0, 1 / 9),  # all others false
        (Contingency(hits=1, misses=1, false_alarms=4, correct_negatives=4), 0.0, 1 / 6),  # chance
    ],
)
def test_scores_at_their_edges(table, sedi, csi):
    assert table.sedi == pytest.approx(sedi, nan_ok=True)
    assert table.csi == pytest.approx(csi, nan_ok=True)


@given(TABLES)
def test_scores_stay_within_their_range(table):
    assert math.isnan(table.sedi) or -1 <= table.sedi <= 1
    assert math.isnan(table.csi) or 0 <= table.csi <= 1
    assert math.isnan(table.hit_rate) == (table.hits + table.misses == 0)


@given(TABLES)
def test_the_index_treats_events_and_the_rest_alike(table):
    other = Contingency(table.correct_negatives, table.false_alarms, table.misses, table.hits)
    assert other.sedi == pytest.approx(table.sedi, nan_ok=True)


@given(FIELDS, FIELDS, st.floats(-10, 10))
def test_tables_of_parts_merge_into_that_of_the_whole(x, y, threshold):
    parts = Contingency()
    for a, b in zip(x, y, strict=True):
        parts = parts.merged(contingency(a, b, threshold))
    assert parts == contingency(x, y, threshold)
    assert parts.total == np.count_nonzero(np.isfinite(x) & np.isfinite(y))


@given(FIELDS, FIELDS, st.floats(-10, 10))
def test_equal_weights_are_no_weights(x, y, threshold):
    assert contingency(x, y, threshold, np.ones((4, 1))) == contingency(x, y, threshold)


def test_cells_count_by_their_weight():
    x, y = np.array([[9.0, 0.0], [9.0, 0.0]]), np.array([[9.0, 0.0], [0.0, 9.0]])
    assert contingency(x, y, 5.0, np.array([[2.0], [0.5]])) == Contingency(2.0, 0.5, 0.5, 2.0)


@given(FIELDS, st.floats(0, 1))
def test_what_is_unchanged_has_no_error(x, level):
    error = relative_quantile_error(x, x, level)
    assert error == 0 or (math.isnan(error) and quantile(x, level) in (0.0, pytest.approx(math.nan, nan_ok=True)))


@given(FIELDS, st.floats(0, 1))
def test_a_weighted_quantile_is_one_of_the_values_and_has_its_weight_below(x, level):
    finite = x[np.isfinite(x)].astype(float)
    found = quantile(x, level, np.ones((4, 1)))
    if finite.size == 0:
        assert math.isnan(found)
    else:
        assert found in finite
        assert np.mean(finite <= found) >= level - 1e-9
        assert np.mean(finite < found) <= level + 1e-9


def test_flattened_extremes_are_negative():
    x = np.linspace(0, 1000, 1001)
    assert relative_quantile_error(x, np.minimum(x, 989.01)) == pytest.approx(-0.01)  # 999 became 989.01
    assert relative_quantile_error(x, x * 1.02) == pytest.approx(0.02)
    assert relative_quantile_error(-x, -0.9 * x, 0.001) == pytest.approx(0.1)  # a cold extreme that became less cold


def test_rare_cells_of_no_area_are_no_extremes():
    x = np.array([[1.0, 1.0], [50.0, 1.0]])
    assert quantile(x, 1.0) == 50.0
    assert quantile(x, 1.0, np.array([[1.0], [0.0]])) == 1.0
    assert math.isnan(quantile(x, 0.5, np.zeros((2, 1))))


def test_what_is_missing_on_one_side_is_left_out_of_both():
    x, y = np.array([1.0, 2.0, 100.0]), np.array([1.0, 2.0, np.inf])
    assert relative_quantile_error(x, y, 1.0) == 0.0
    assert math.isnan(relative_quantile_error(np.full(3, np.nan), y))
    assert math.isnan(relative_quantile_error(np.zeros(3), np.ones(3)))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidConfigError, match="cannot be compared"):
        contingency(np.zeros(3), np.zeros(4), 1.0)
    with pytest.raises(InvalidConfigError, match="do not fit"):
        contingency(np.zeros(3), np.zeros(3), 1.0, np.ones(2))
    with pytest.raises(InvalidConfigError, match="not negative"):
        contingency(np.zeros(3), np.zeros(3), 1.0, np.array([1.0, -1.0, 0.0]))
    with pytest.raises(InvalidConfigError, match="from 0 to 1"):
        quantile(np.zeros(3), 1.5)
