"""Tokens: every quantum has one, and comes back from it."""

import numba as nb
import numpy as np
import pytest

from latentzarr.bitstream.tokens import DIRECT, TOKENS, extra_bits, join, split, token_costs, zigzag

LIMIT = 2**27


@nb.njit
def first_that_does_not_come_back(low, high, step):
    for q in range(low, high, step):
        z = zigzag(q)
        token, bits, extra = split(z)
        if not (0 <= token < TOKENS and bits == extra_bits(token) and 0 <= extra < (1 << bits) and join(token, extra) == q):
            return q
    return high


def test_all_quanta_come_back_from_their_tokens():
    assert first_that_does_not_come_back(-(2**17), 2**17, 1) == 2**17
    assert first_that_does_not_come_back(-LIMIT + 1, LIMIT, 1009) >= LIMIT
    assert first_that_does_not_come_back(-LIMIT + 1, -LIMIT + 2**12, 1) == -LIMIT + 2**12
    assert first_that_does_not_come_back(LIMIT - 2**12, LIMIT, 1) == LIMIT


@pytest.mark.parametrize("exponent", range(4, 28))
def test_around_every_power_of_two(exponent):
    for z in range(2**exponent - 2, 2**exponent + 2):
        if z < 2**28:
            token, bits, extra = split(z)
            q = join(token, extra)
            assert zigzag(q) == z
            assert bits == extra_bits(token)


def test_tokens_cover_the_zigzag_numbers_without_hole_or_overlap():
    expected = 0
    for token in range(TOKENS):
        bits = extra_bits(token)
        assert zigzag(join(token, 0)) == expected
        assert zigzag(join(token, (1 << bits) - 1)) == expected + (1 << bits) - 1
        expected += 1 << bits
    assert expected == 2**28


def test_the_most_extra_bits_fit_two_words():
    assert max(extra_bits(t) for t in range(TOKENS)) == 26
    assert [extra_bits(t) for t in range(DIRECT)] == [0] * DIRECT


def test_zigzag_of_the_first():
    assert [zigzag(q) for q in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]


def test_costs_are_integers():
    costs = token_costs(534_784)
    assert costs.shape == (TOKENS,)
    assert costs.dtype == np.int64
