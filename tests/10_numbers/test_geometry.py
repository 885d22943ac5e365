"""The order of visits: every value once, and no neighbour that a decoder would not have yet."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentzarr.errors import InvalidConfigError
from latentzarr.geometry import (
    COARSEST_STRIDE,
    COLUMN_NEIGHBOURS,
    NEIGHBOURS,
    ROW_NEIGHBOURS,
    ChunkGeometry,
    default_geometry,
    passes,
)

SIDES = st.integers(1, 200)


@given(SIDES, SIDES)
@example(1, 1)
@example(1, 200)
@example(200, 1)
@example(64, 64)
@example(65, 129)
@settings(deadline=None, max_examples=150)
def test_every_value_is_visited_once_and_sees_only_what_was_decoded_before(height, width):
    decoded = np.zeros((height, width), bool)
    decoded[::COARSEST_STRIDE, ::COARSEST_STRIDE] = True
    for step in passes(height, width):
        at = np.ix_(step.rows, step.columns)
        assert not decoded[at].any()
        for rows, columns in zip(step.neighbour_rows, step.neighbour_columns, strict=True):
            assert rows.shape == step.rows.shape
            assert columns.shape == step.columns.shape
            assert 0 <= rows.min() <= rows.max() < height
            assert 0 <= columns.min() <= columns.max() < width
            assert decoded[np.ix_(rows, columns)].all()
        assert step.size == decoded[at].size > 0
        decoded[at] = True
    assert decoded.all()


@given(SIDES, SIDES, st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_stopping_early_gives_every_second_to_every_32nd_value(height, width, level):
    decoded = np.zeros((height, width), bool)
    decoded[::COARSEST_STRIDE, ::COARSEST_STRIDE] = True
    for step in passes(height, width, level):
        decoded[np.ix_(step.rows, step.columns)] = True
    wanted = np.zeros_like(decoded)
    wanted[:: 1 << level, :: 1 << level] = True
    assert (decoded == wanted).all()


@given(SIDES, SIDES)
@settings(deadline=None, max_examples=30)
def test_passes_go_from_coarse_to_fine_rows_first(height, width):
    order = [(-step.level, step.columns_pass) for step in passes(height, width)]
    assert order == sorted(set(order))
    assert all(0 <= step.group < 6 for step in passes(height, width))


def test_inside_a_slice_neighbours_are_where_the_offsets_say():
    for step in passes(400, 400):
        offsets = COLUMN_NEIGHBOURS if step.columns_pass else ROW_NEIGHBOURS
        stride = 1 << step.level
        inner_rows, inner_columns = ((i >= 4 * stride) & (i < 400 - 4 * stride) for i in (step.rows, step.columns))
        for k, (dy, dx) in enumerate(offsets):
            assert (step.neighbour_rows[k] - step.rows == dy * stride)[inner_rows].all()
            assert (step.neighbour_columns[k] - step.columns == dx * stride)[inner_columns].all()


def test_the_two_nearest_lie_on_either_side():
    assert ROW_NEIGHBOURS[:2] == ((-1, 0), (1, 0))
    assert COLUMN_NEIGHBOURS[:2] == ((0, -1), (0, 1))
    assert len(ROW_NEIGHBOURS) == len(COLUMN_NEIGHBOURS) == len(set(ROW_NEIGHBOURS)) == len(set(COLUMN_NEIGHBOURS)) == NEIGHBOURS


@given(st.lists(st.integers(1, 70), max_size=5))
def test_default_geometry_holds_every_value_in_slices_worth_a_pass(shape):
    geometry = default_geometry(shape)
    assert geometry.size == math.prod(shape) == math.prod(geometry.shape)
    assert geometry.slices == 1 or geometry.rows * geometry.columns >= 64


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), (1, 1, 1)),
        ((1,), (1, 1, 1)),
        ((7,), (1, 1, 7)),
        ((7, 1), (1, 1, 7)),
        ((5, 7), (1, 5, 7)),
        ((1, 5, 1, 7), (1, 5, 7)),
        ((8, 180, 180), (8, 180, 180)),
        ((2, 3, 64, 64), (6, 64, 64)),
        ((1000, 4, 5), (1, 1000, 20)),
        ((1000, 8, 8), (1, 1000, 64)),
        ((1000, 16, 16), (1000, 16, 16)),
    ],
)
def test_default_geometry_of_usual_shapes(shape, expected):
    assert default_geometry(shape).shape == expected


def test_passes_over_long_series_are_made_one_after_the_other_and_not_kept():
    long = [(p.level, p.size) for p in passes(1, 100_000)]
    assert sum(size for _, size in long) == 100_000 - 1563
    assert [level for level, _ in long] == [5, 4, 3, 2, 1, 0]
    assert [p.level for p in passes(1, 100_000, 3)] == [5, 4, 3]
    before = tracemalloc_peak(lambda: sum(p.size for p in passes(1, 1 << 20)))
    assert before < 100 * 2**20


def tracemalloc_peak(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1), (2**20, 2**10, 2**10), (1, 2**16, 2**15)])
def test_impossible_geometries_are_refused(sizes):
    with pytest.raises(InvalidConfigError):
        ChunkGeometry(*sizes)
