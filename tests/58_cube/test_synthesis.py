"""Reference fields: the sums of the format page in whole numbers of any size, whatever the order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.cube.innovations import seen_through
from latentzarr.cube.synthesis import COARSEST_SYNTHESIS, LIMIT, MAX_TERMS, Stencil, synthesise
from latentzarr.errors import CorruptFrameError

STENCILS = [Stencil(kind, turning) for kind in range(3) for turning in (False, True)]


def seen(field, stencil, periodic):
    """A field as a stencil sees it, in Python's own integers."""
    rows, columns = len(field), len(field[0])
    out = [[0] * columns for _ in range(rows)]
    for r in range(rows):
        for c in range(columns):
            if stencil.kind == 0:
                out[r][c] = field[r][c]
            elif stencil.kind == 1:
                out[r][c] = field[min(r + 1, rows - 1)][c] - field[max(r - 1, 0)][c]
            else:
                right = (c + 1) % columns if periodic else min(c + 1, columns - 1)
                left = (c - 1) % columns if periodic else max(c - 1, 0)
                out[r][c] = field[r][right] - field[r][left]
    return out


def by_the_page(fields, stencils, weights, shift, level, factor, periodic):
    """Section 6 of the format page, word by word."""
    stride = 1 << min(level, COARSEST_SYNTHESIS)
    thin = [f[::stride, ::stride].tolist() for f in fields]
    rows, columns = len(thin[0]), len(thin[0][0])
    out = np.empty((rows, columns), object)
    views = [seen(f, s, periodic) for f, s in zip(thin, stencils, strict=True)]
    for r in range(rows):
        for c in range(columns):
            a = sum(int(w) * v[r][c] for w, v, s in zip(weights, views, stencils, strict=True) if not s.turning)
            b = sum(int(w) * v[r][c] for w, v, s in zip(weights, views, stencils, strict=True) if s.turning)
            turned = 4 * ((b + 512) >> 10) * int(factor[r * stride])
            total = a + turned
            out[r, c] = (total + (1 << shift >> 1)) >> shift
    return out


@given(data=st.data())
@settings(max_examples=80)
def test_sums_are_those_of_the_page(data):
    rows, columns = data.draw(st.tuples(st.integers(1, 19), st.integers(1, 19)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.integers(1, 12))
    limit = data.draw(st.sampled_from([3, 1000, LIMIT]))
    fields = [rng.integers(-limit, limit + 1, (rows, columns)).astype(np.int32) for _ in range(count)]
    stencils = [STENCILS[i] for i in rng.integers(0, len(STENCILS), count)]
    weights = rng.integers(-(2**15), 2**15, count).astype(np.int16)
    factor = rng.integers(-1024, 1025, rows).astype(np.int32)
    shift, level = data.draw(st.integers(0, 24)), data.draw(st.integers(0, 5))
    periodic = data.draw(st.booleans())
    found = synthesise(fields, stencils, weights, shift, level, factor, periodic=periodic)
    expected = by_the_page(fields, stencils, weights, shift, level, factor, periodic)
    np.testing.assert_array_equal(found, expected.astype(np.float64))
    order = rng.permutation(count)
    again = synthesise(
        [fields[i] for i in order], [stencils[i] for i in order], weights[order], shift, level, factor, periodic=periodic
    )
    assert again.tobytes() == found.tobytes()


def test_the_largest_sums_are_exact():
    field = np.full((2, 2), LIMIT, np.int32)
    field[0] = -LIMIT
    weights = np.full(MAX_TERMS, 2**15 - 1, np.int16)
    found = synthesise([field] * MAX_TERMS, [Stencil(1)] * MAX_TERMS, weights, 0, 0, None, periodic=False)
    assert (found == MAX_TERMS * (2**15 - 1) * 2 * LIMIT).all()
    assert float(found[0, 0]).is_integer()
    assert found.max() < 2**53


def test_too_many_terms_are_refused():
    field = np.zeros((1, 1), np.int32)
    with pytest.raises(CorruptFrameError, match="terms"):
        synthesise(
            [field] * (MAX_TERMS + 1), [Stencil()] * (MAX_TERMS + 1), np.ones(MAX_TERMS + 1, np.int16), 0, 0, None, periodic=False
        )


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("stencil", STENCILS[::2])
def test_the_encoder_looks_as_the_reader_does(stencil, periodic):
    field = np.random.default_rng(0).integers(-99, 99, (7, 9)).astype(np.int32)
    found = synthesise([field], [stencil], np.ones(1, np.int16), 0, 0, None, periodic=periodic)
    np.testing.assert_array_equal(found, seen_through(field.astype(float), stencil, None, periodic=periodic))
