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
    CROSSING_NEIGHBOURS,
    NEIGHBOURS,
    ROW_NEIGHBOURS,
    ChunkGeometry,
    Order,
    PassKind,
    default_geometry,
    passes,
)

SIDES = st.integers(1, 200)
OFFSETS = (ROW_NEIGHBOURS, COLUMN_NEIGHBOURS, CROSSING_NEIGHBOURS)
each_order = pytest.mark.parametrize("order", Order)


@each_order
@given(height=SIDES, width=SIDES)
@example(height=1, width=1)
@example(height=1, width=200)
@example(height=200, width=1)
@example(height=64, width=64)
@example(height=65, width=129)
@settings(deadline=None, max_examples=150)
def test_every_value_is_visited_once_and_sees_only_what_was_decoded_before(order, height, width):
    decoded = np.zeros((height, width), bool)
    decoded[::COARSEST_STRIDE, ::COARSEST_STRIDE] = True
    for step in passes(height, width, order):
        at = np.ix_(step.rows, step.columns)
        assert not decoded[at].any()
        for rows, columns in zip(step.neighbour_rows, step.neighbour_columns, strict=True):
            assert rows.shape == step.rows.shape
            assert columns.shape == step.columns.shape
            assert 0 <= rows.min() <= rows.max() < height
            assert 0 <= columns.min() <= columns.max() < width
            assert decoded[np.ix_(rows, columns)].all()
        assert step.size == decoded[at].size > 0
        assert step.order is order
        decoded[at] = True
    assert decoded.all()


@each_order
@given(height=SIDES, width=SIDES, level=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_stopping_early_gives_every_second_to_every_32nd_value(order, height, width, level):
    decoded = np.zeros((height, width), bool)
    decoded[::COARSEST_STRIDE, ::COARSEST_STRIDE] = True
    for step in passes(height, width, order, level):
        decoded[np.ix_(step.rows, step.columns)] = True
    wanted = np.zeros_like(decoded)
    wanted[:: 1 << level, :: 1 << level] = True
    assert (decoded == wanted).all()


@each_order
@given(height=SIDES, width=SIDES)
@settings(deadline=None, max_examples=30)
def test_passes_go_from_coarse_to_fine_rows_first(order, height, width):
    steps = list(passes(height, width, order))
    turns = [(-step.level, step.kind) for step in steps]
    assert turns == sorted(set(turns))
    assert all(step.kind < order.kinds for step in steps)
    assert all(step.group == order.kinds * min(step.level, 2) + step.kind < order.groups == 3 * order.kinds for step in steps)


@each_order
def test_a_level_has_every_kind_of_pass_that_has_values(order):
    def kinds(height, width):
        return [step.kind for step in passes(height, width, order) if step.level == 2]

    both = [PassKind.ROWS, PassKind.COLUMNS, PassKind.CROSSINGS][: order.kinds]
    assert kinds(20, 20) == kinds(5, 5) == both
    assert kinds(4, 20) == kinds(1, 5) == [PassKind.COLUMNS]
    assert kinds(20, 4) == kinds(5, 1) == [PassKind.ROWS]
    assert kinds(4, 4) == []


@each_order
def test_inside_a_slice_neighbours_are_where_the_offsets_say(order):
    for step in passes(400, 400, order):
        stride = 1 << step.level
        inner_rows, inner_columns = ((i >= 4 * stride) & (i < 400 - 4 * stride) for i in (step.rows, step.columns))
        for k, (dy, dx) in enumerate(OFFSETS[step.kind]):
            assert (step.neighbour_rows[k] - step.rows == dy * stride)[inner_rows].all()
            assert (step.neighbour_columns[k] - step.columns == dx * stride)[inner_columns].all()


@each_order
def test_neighbours_are_whole_strides_away_at_the_edges_too(order):
    for step in passes(150, 83, order):
        stride = 1 << step.level
        for found, own in ((step.neighbour_rows, step.rows), (step.neighbour_columns, step.columns)):
            assert ((found - own) % stride == 0).all()
            assert np.abs(found - own).max() <= 4 * stride


def test_the_two_nearest_lie_on_either_side():
    assert ROW_NEIGHBOURS[:2] == ((-1, 0), (1, 0))
    assert COLUMN_NEIGHBOURS[:2] == ((0, -1), (0, 1))
    assert CROSSING_NEIGHBOURS[:4] == ((0, -1), (0, 1), (-1, 0), (1, 0))
    assert [len(offsets) for offsets in OFFSETS] == [len(set(offsets)) for offsets in OFFSETS] == [NEIGHBOURS] * 3


def test_what_lies_around_is_symmetric():
    for offsets in OFFSETS:
        assert {(-dy, dx) for dy, dx in offsets} == {(dy, -dx) for dy, dx in offsets} == set(offsets)
    assert {(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} - {(0, 0)} == set(CROSSING_NEIGHBOURS[:8])


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


@each_order
def test_passes_over_long_series_are_made_one_after_the_other_and_not_kept(order):
    long = [(p.level, p.size) for p in passes(1, 100_000, order)]
    assert sum(size for _, size in long) == 100_000 - 1563
    assert [level for level, _ in long] == [5, 4, 3, 2, 1, 0]
    assert [p.level for p in passes(1, 100_000, order, 3)] == [5, 4, 3]
    before = tracemalloc_peak(lambda: sum(p.size for p in passes(1, 1 << 20, order)))
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
