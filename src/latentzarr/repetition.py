"""Rows and columns that repeat (a band on a finer grid than its own): find the runs, code the small grid, give the runs back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError
from latentzarr.geometry import ChunkGeometry

__all__ = ["NO_REPETITION", "Repetition", "find_repetition"]


@dataclass(frozen=True, slots=True)
class Repetition:
    """Runs of equal rows and equal columns: the first run may be shorter, and so may the last.

    Invariants, checked at construction: ``1 <= first <= run`` for rows and for columns.

    Raises
    ------
    InvalidConfigError
        If an invariant does not hold.
    """

    row_run: int = 1
    first_rows: int = 1
    column_run: int = 1
    first_columns: int = 1

    def __post_init__(self) -> None:
        if not (1 <= self.first_rows <= self.row_run and 1 <= self.first_columns <= self.column_run):
            raise InvalidConfigError(f"a first run is 1 to a whole run long, got {self}")

    def small(self, full: ChunkGeometry) -> ChunkGeometry:
        """The geometry of one value for each run."""
        return ChunkGeometry(
            full.slices,
            _runs(full.rows, self.row_run, self.first_rows),
            _runs(full.columns, self.column_run, self.first_columns),
        )

    def collapse(self, grid: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The first value of each run of ``grid`` (slices, rows, columns)."""
        rows, columns = grid.shape[-2:]
        y = _starts(rows, self.row_run, self.first_rows)
        x = _starts(columns, self.column_run, self.first_columns)
        return np.ascontiguousarray(grid[..., y[:, None], x[None, :]])

    def expand(self, grid: npt.NDArray[Any], full: ChunkGeometry) -> npt.NDArray[Any]:
        """Give each value of ``grid`` its run back, to the shape of ``full``."""
        y = _run_of(full.rows, self.row_run, self.first_rows)
        x = _run_of(full.columns, self.column_run, self.first_columns)
        return np.ascontiguousarray(grid[:, y[:, None], x[None, :]])


NO_REPETITION = Repetition()
"""Every row and column is its own."""


def _runs(size: int, run: int, first: int) -> int:
    return 1 + max(0, -(-(size - first) // run))


def _starts(size: int, run: int, first: int) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.arange(first, size, run)]).astype(np.int64)


def _run_of(size: int, run: int, first: int) -> npt.NDArray[np.int64]:
    return np.maximum(0, (np.arange(size) - first) // run + 1)


def find_repetition(grid: npt.NDArray[Any]) -> Repetition | None:
    """How the rows and columns of all slices repeat, or None where they do not.

    Parameters
    ----------
    grid : unsigned integer array, shape (slices, rows, columns)
        The bits of the values.
    """
    rows = _run_and_first(_changes(grid, 1), grid.shape[1])
    columns = _run_and_first(_changes(grid, 2), grid.shape[2])
    return Repetition(*rows, *columns) if rows[0] > 1 or columns[0] > 1 else None


def _changes(grid: npt.NDArray[Any], axis: int) -> npt.NDArray[np.int64]:
    """Where a row (or column) differs from the one before it."""
    size = grid.shape[axis]
    probe = grid[:1] if grid.shape[0] > 1 else grid[:, :8, :] if axis == 2 else grid[:, :, :8]
    if np.diff(probe, axis=axis).any(axis=tuple({0, 1, 2} - {axis})).all():
        return np.arange(1, size)  # every pair differs already in a small part
    before = grid[:, :-1, :] if axis == 1 else grid[:, :, :-1]
    after = grid[:, 1:, :] if axis == 1 else grid[:, :, 1:]
    return np.flatnonzero((before != after).any(axis=tuple({0, 1, 2} - {axis}))) + 1


def _run_and_first(changes: npt.NDArray[np.int64], size: int) -> tuple[int, int]:
    if len(changes) == 0:
        return (size, size) if size > 1 else (1, 1)
    first, last = int(changes[0]), size - int(changes[-1])
    if len(changes) == 1:
        return max(first, last), first
    gaps = np.diff(changes)
    run = int(gaps[0])
    return (run, first) if (gaps == run).all() and first <= run and last <= run else (1, 1)
