"""The entropy coder against two independent ones: a decoder in Python's own integers, and constriction's ANS coder."""

import bisect

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.bitstream.rans import START, decode_segment, encode_symbols
from latentzarr.bitstream.tables import CLASSES, SCALE, fixed_tables
from latentzarr.bitstream.tokens import TOKENS, extra_bits, join, split, zigzag

STARTS = fixed_tables().starts[:CLASSES]
LARGEST = 2**27 - 1


def draw_symbols(seed, n, widest):
    rng = np.random.default_rng(seed)
    tables = rng.integers(0, CLASSES, n).astype(np.uint16)
    scale = np.minimum(2.0 ** (tables / 4), widest)
    quanta = np.clip(np.round(rng.laplace(size=n) * scale), -LARGEST, LARGEST).astype(np.int32)
    return quanta, tables


def encode(quanta, tables, ends, lanes):
    return encode_symbols(quanta, tables, np.array(ends, np.int64), STARTS, lanes)


def decode(words, states, tables, ends, lanes):
    """Symbols, positions after each segment and last states, through the package's own decoder."""
    state = states.astype(np.uint64)
    position, begin, found, positions = 0, 0, [], []
    for end in ends:
        quanta = np.empty(end - begin, np.int32)
        position = decode_segment(words, position, len(words), state, tables[begin:end], STARTS, lanes, quanta)
        found.append(quanta)
        positions.append(position)
        begin = end
    return np.concatenate(found) if found else np.empty(0, np.int32), positions, state


def independent_decode(words, states, tables, ends, lanes):
    """Format page, section 10, written again without looking at speed: plain integers, one function, no arrays."""
    state, stream, begin, symbols = [int(s) for s in states], [int(w) for w in words], 0, []

    def refill(lane):
        if state[lane] < 2**16:
            state[lane] = state[lane] * 2**16 + stream.pop(0)

    def raw(lane, bits):
        value = state[lane] % 2**bits
        state[lane] //= 2**bits
        refill(lane)
        return value

    for end in ends:
        for first in range(begin, end, lanes):
            group = range(min(lanes, end - first))
            tokens = []
            for lane in group:
                row = [int(s) for s in STARTS[tables[first + lane]]]
                slot = state[lane] % SCALE
                token = bisect.bisect_right(row, slot) - 1
                state[lane] = (row[token + 1] - row[token]) * (state[lane] // SCALE) + slot - row[token]
                refill(lane)
                tokens.append(token)
            bits = [0 if t < 16 else (t - 16) // 2 + 3 for t in tokens]
            extra = [raw(lane, min(bits[lane], 16)) if bits[lane] else 0 for lane in group]
            extra = [e + 2**16 * raw(lane, b - 16) if b > 16 else e for lane, e, b in zip(group, extra, bits, strict=True)]
            for t, e, b in zip(tokens, extra, bits, strict=True):
                z = t if t < 16 else (2 + t % 2) * 2**b + e
                symbols.append(z // 2 if z % 2 == 0 else -(z + 1) // 2)
        begin = end
    return symbols, state, stream


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 150),
    st.sampled_from([1, 2, 4, 8, 16, 32]),
    st.sampled_from([1, 100, 2**27]),
    st.data(),
)
@settings(deadline=None, max_examples=60)
def test_round_trip_and_an_independent_decoder(seed, n, lanes, widest, data):
    quanta, tables = draw_symbols(seed, n, widest)
    ends = [*sorted(data.draw(st.lists(st.integers(0, n), max_size=4))), n]
    words, states, taken = encode(quanta, tables, ends, lanes)
    found, positions, last = decode(words, states, tables, ends, lanes)
    assert (found == quanta).all()
    assert positions == taken.tolist()
    assert positions[-1] == len(words)
    assert (last == START).all(), "what the encoder began with is what the decoder ends with"
    symbols, state, left = independent_decode(words, states, tables, ends, lanes)
    assert symbols == quanta.tolist()
    assert state == [START] * lanes
    assert left == []


@pytest.mark.parametrize("lanes", range(1, 33))
def test_any_number_of_lanes(lanes):
    quanta, tables = draw_symbols(lanes, 333, 2**27)
    words, states, _ = encode(quanta, tables, [100, 101, 333], lanes)
    assert states.shape == (lanes,)
    assert (decode(words, states, tables, [100, 101, 333], lanes)[0] == quanta).all()


@pytest.mark.parametrize("lanes", [1, 4, 32])
def test_the_largest_quanta_everywhere(lanes):
    quanta = np.tile(np.array([LARGEST, -LARGEST, 0, 15, -16, 2**17, -(2**17)], np.int32), 30)
    for row in (0, CLASSES - 1):
        tables = np.full(len(quanta), row, np.uint16)
        words, states, _ = encode(quanta, tables, [len(quanta)], lanes)
        assert (decode(words, states, tables, [len(quanta)], lanes)[0] == quanta).all()


def test_same_symbols_same_bytes():
    quanta, tables = draw_symbols(3, 1000, 100)
    first, second = (encode(quanta, tables, [1000], 8) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def ideal_bits(quanta, tables):
    total = 0.0
    for q, row in zip(quanta.tolist(), tables.tolist(), strict=True):
        token, bits, _ = split(zigzag(q))
        total += 15 - np.log2(STARTS[row, token + 1] - STARTS[row, token]) + bits
    return total


@pytest.mark.parametrize("widest", [1, 30, 2**20])
def test_as_small_as_constriction_and_as_information_theory(widest):
    n, lanes = 20_000, 4
    quanta, tables = draw_symbols(9, n, widest)
    words, _, _ = encode(quanta, tables, [n], lanes)
    ours = 32 * lanes + 16 * len(words)
    split_up = [split(zigzag(int(q))) for q in quanta]
    coder = constriction.stream.stack.AnsCoder()
    for row in range(CLASSES):
        tokens = np.array([split_up[i][0] for i in np.flatnonzero(tables == row)], np.int32)
        probabilities = np.diff(STARTS[row]) / SCALE
        model = constriction.stream.model.Categorical(probabilities, perfect=False)
        coder.encode_reverse(tokens, model)
    theirs = coder.num_bits() + sum(bits for _, bits, _ in split_up)
    assert ours == pytest.approx(theirs, rel=0.004, abs=32 * lanes)
    assert ours <= ideal_bits(quanta, tables) * 1.001 + 32 * lanes


def test_words_that_end_early_are_noticed():
    quanta, tables = draw_symbols(5, 500, 2**20)
    words, states, _ = encode(quanta, tables, [500], 4)
    for kept in (0, 1, len(words) // 2, len(words) - 1):
        assert decode(words[:kept], states, tables, [500], 4)[1] == [-1]


@given(st.binary(min_size=0, max_size=400), st.integers(0, 2**32 - 1), st.sampled_from([1, 8, 32]))
@settings(deadline=None, max_examples=200)
def test_any_words_and_states_decode_to_something_in_range(data, seed, lanes):
    words = np.frombuffer(data[: len(data) // 2 * 2], "<u2")
    rng = np.random.default_rng(seed)
    states = rng.integers(0, 2**32, lanes, np.uint32) >> rng.integers(0, 33, lanes).astype(np.uint32) % 32
    tables = rng.integers(0, CLASSES, 600).astype(np.uint16)
    quanta = np.full(600, -5, np.int32)
    position = decode_segment(words, 0, len(words), states.astype(np.uint64), tables, STARTS, lanes, quanta)
    assert -1 <= position <= len(words)
    assert np.abs(quanta).max() <= 2**27


def test_every_token_can_be_coded_in_every_table():
    quanta = np.array([join(t, (1 << extra_bits(t)) - 1) for t in range(TOKENS)] * CLASSES, np.int32)
    quanta = np.clip(quanta, -LARGEST, LARGEST).astype(np.int32)
    tables = np.repeat(np.arange(CLASSES, dtype=np.uint16), TOKENS)
    words, states, _ = encode(quanta, tables, [len(quanta)], 16)
    assert (decode(words, states, tables, [len(quanta)], 16)[0] == quanta).all()
