"""Frequency tables: integers from integers, each at least one, always the same sum."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentzarr.bitstream.tables import CLASSES, SCALE, FrequencyTables, fixed_tables, frequencies
from latentzarr.bitstream.tokens import TOKENS
from latentzarr.errors import UntrustedModelError

FIXED = "7a0dc3f20a3ce7f2d8d6b64d1288547cc24f496e4fe12c44c55aca68501d8c39"
COSTS = hnp.arrays(np.uint8, (3, TOKENS), elements=st.one_of(st.integers(0, 255), st.sampled_from([0, 239, 240, 255])))


def by_plain_integers(costs):
    """The rule in Python's own integers: round(2**30 * 2**(-k / 8)) shifted, scaled, the rest to the first largest."""
    powers = [1073741824, 984623403, 902905651, 827970198, 759250125, 696233590, 638447284, 585455093]
    weights = [powers[int(c) % 8] >> (int(c) // 8) for c in costs]
    freq = [1 + w * (SCALE - TOKENS) // sum(weights) for w in weights]
    freq[freq.index(max(freq))] += SCALE - sum(freq)
    return freq


@given(COSTS.filter(lambda c: (c.min(1) < 240).all()))
@settings(max_examples=100)
def test_frequencies_are_what_plain_integers_give(costs):
    freq = frequencies(costs)
    assert freq.dtype == np.int32
    assert freq.min() >= 1
    assert (freq.sum(1) == SCALE).all()
    assert freq.tolist() == [by_plain_integers(row) for row in costs]


def test_the_powers_are_rounded_powers_of_two():
    # frequencies of a table with one cheap token and one k eighths dearer keep the ratio 2**(k / 8)
    for k in range(8):
        costs = np.full((1, TOKENS), 239, np.uint8)
        costs[0, :2] = 0, k
        freq = frequencies(costs)[0].astype(float)
        assert freq[0] / freq[1] == pytest.approx(2 ** (k / 8), rel=0.02)


def test_fixed_tables_are_the_format_and_never_change():
    tables = fixed_tables()
    assert tables.costs.shape == (CLASSES, TOKENS)
    assert tables.groups == 1
    assert hashlib.sha256(tables.costs.tobytes()).hexdigest() == FIXED
    assert tables.starts.astype("<i4")[:, 1:].min() >= 1
    assert (tables.starts[:, 0] == 0).all()
    assert (tables.starts[:, -1] == SCALE).all()
    assert (np.diff(tables.starts, axis=1) >= 1).all()


def test_wider_classes_expect_larger_quanta():
    freq = np.diff(fixed_tables().starts, axis=1)
    assert (np.diff(freq[:, 0]) <= 0).all(), "zero is ever less likely"
    assert freq[0, 0] > 0.9 * SCALE


@pytest.mark.parametrize(
    "costs",
    [
        np.zeros((8 * CLASSES, TOKENS), np.int16),
        np.zeros((8 * CLASSES, TOKENS - 1), np.uint8),
        np.zeros((0, TOKENS), np.uint8),
        np.zeros((CLASSES - 1, TOKENS), np.uint8),
        np.zeros((8 * CLASSES + 1, TOKENS), np.uint8),
        np.zeros((17 * CLASSES, TOKENS), np.uint8),
        np.zeros(5, np.uint8),
        np.full((8 * CLASSES, TOKENS), 240, np.uint8),
    ],
    ids=["dtype", "tokens", "no rows", "rows", "one row too many", "groups", "dimensions", "nothing likely"],
)
def test_tables_that_are_none_are_refused(costs):
    with pytest.raises(UntrustedModelError):
        FrequencyTables.from_costs(costs)


@pytest.mark.parametrize("groups", [1, 8, 12])
def test_tables_come_in_groups_of_64(groups):
    tables = FrequencyTables.from_costs(np.tile(fixed_tables().costs, (groups, 1)))
    assert tables.groups == groups
    assert (tables.starts == np.tile(fixed_tables().starts, (groups, 1))).all()


def test_one_unlikely_table_among_good_ones_is_refused():
    costs = np.tile(fixed_tables().costs, (2, 1))
    costs[77] = 255
    with pytest.raises(UntrustedModelError):
        FrequencyTables.from_costs(costs)
