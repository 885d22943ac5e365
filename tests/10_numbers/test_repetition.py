"""Repetition: found where it is, not where it is not, and undone exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentzarr.errors import InvalidConfigError
from latentzarr.geometry import ChunkGeometry
from latentzarr.repetition import NO_REPETITION, Repetition, find_repetition


@given(
    st.integers(1, 3),
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_repeated_grids_are_found_and_come_back(slices, rows, columns, row_run, column_run, skip_rows, skip_columns) -> None:
    rng = np.random.default_rng(rows * 100 + columns)
    small = rng.permutation(slices * rows * columns).reshape(slices, rows, columns).astype(np.uint32)
    full = small.repeat(row_run, 1).repeat(column_run, 2)[:, skip_rows % row_run :, skip_columns % column_run :]
    found = find_repetition(full) or NO_REPETITION
    geometry = ChunkGeometry(*full.shape)
    collapsed = found.collapse(full)
    assert collapsed.shape == found.small(geometry).shape
    np.testing.assert_array_equal(found.expand(collapsed, geometry), full)
    if rows > 3 and columns > 3:
        assert collapsed.shape == small.shape


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2))
def test_any_small_grid_comes_back(rows, columns, most) -> None:
    full = np.random.default_rng(rows * 41 + columns).integers(0, most + 1, (2, rows, columns)).astype(np.uint8)
    found = find_repetition(full) or NO_REPETITION
    np.testing.assert_array_equal(found.expand(found.collapse(full), ChunkGeometry(*full.shape)), full)


def test_one_odd_value_breaks_a_run() -> None:
    full = np.arange(36, dtype=np.uint16).reshape(1, 6, 6).repeat(2, 1).repeat(2, 2)
    assert find_repetition(full) == Repetition(2, 2, 2, 2)
    full[0, 5, 7] = 999
    assert find_repetition(full) is None


@pytest.mark.parametrize("sizes", [(2, 3, 1, 1), (0, 0, 1, 1), (1, 1, 2, 0)])
def test_impossible_runs_are_refused(sizes) -> None:
    with pytest.raises(InvalidConfigError):
        Repetition(*sizes)
