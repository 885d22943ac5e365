"""What compiled code needs of passes, visits and predictors: flat arrays, made once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.codec.predictor import CubicPredictor, NeuralPredictor, Predictor
from latentzarr.geometry import ChunkGeometry, Order, Pass, PassKind, passes
from latentzarr.models.network import LEVELS
from latentzarr.slices import Visit

__all__ = ["CompiledPredictor", "PackedPasses", "compiled", "packed_passes", "packed_visits"]

_LARGEST_PACKED = 2**13


@dataclass(frozen=True, slots=True, eq=False)
class PackedPasses:
    """Passes one after the other.

    Attributes
    ----------
    levels : tuple of int
        Of each pass.
    table : int64 array, shape (passes, 9)
        Level, kind, group, first row, rows, first column, columns, and the grade unless snapped.
    rows, columns : int32 arrays
    neighbour_rows, neighbour_columns : int32 arrays
        For each pass (16, rows) and (16, columns), flat.
    """

    levels: tuple[int, ...]
    table: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    neighbour_rows: npt.NDArray[np.int32]
    neighbour_columns: npt.NDArray[np.int32]

    @classmethod
    def of(cls, steps: Sequence[Pass]) -> PackedPasses:
        """Pack some passes."""
        table, r, c = [], 0, 0
        for step in steps:
            table.append((step.level, step.kind, step.group, r, len(step.rows), c, len(step.columns), *step.grade(snap=False)))
            r, c = r + len(step.rows), c + len(step.columns)

        def flat(name: str) -> npt.NDArray[np.int32]:
            return np.concatenate([getattr(step, name).ravel() for step in steps] or [np.zeros(0, np.int32)])

        return cls(
            tuple(step.level for step in steps),
            np.array(table, np.int64).reshape(-1, 9),
            flat("rows"),
            flat("columns"),
            flat("neighbour_rows"),
            flat("neighbour_columns"),
        )

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """As kernels take them."""
        return self.table, self.rows, self.columns, self.neighbour_rows, self.neighbour_columns


@lru_cache(maxsize=64)
def _kept(rows: int, columns: int, order: Order, finest_level: int) -> PackedPasses:
    return PackedPasses.of(list(passes(rows, columns, order, finest_level)))


def packed_passes(geometry: ChunkGeometry, order: Order, finest_level: int = 0) -> Iterator[PackedPasses]:
    """All passes over a slice, packed together, or one by one where they are as large as the values themselves."""
    if geometry.rows + geometry.columns <= _LARGEST_PACKED:
        yield _kept(geometry.rows, geometry.columns, order, finest_level)
    else:
        for step in passes(geometry.rows, geometry.columns, order, finest_level):
            yield PackedPasses.of([step])


@lru_cache(maxsize=64)
def packed_visits(plan: tuple[Visit, ...]) -> npt.NDArray[np.int64]:
    """Slice, before and after of each visit."""
    return np.array([(v.slice, v.before, v.after) for v in plan], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPredictor:
    """A predictor as arrays.

    Attributes
    ----------
    cubic : bool
        Cubic interpolation; else a network.
    looks : bool
        Slices look at those decoded before them.
    weights : float32 array
        The networks' arrays, one after the other.
    layout : int64 array, shape (networks, 4)
        Inputs, both hidden widths and place in ``weights``, of network ``2 * kind + (1 with a reference)``.
    """

    cubic: bool
    looks: bool
    weights: npt.NDArray[np.float32]
    layout: npt.NDArray[np.int64]

    @property
    def arrays(self) -> tuple[Any, ...]:
        """As kernels take them."""
        return self.cubic, self.looks, self.weights, self.layout, LEVELS


_CUBIC = CompiledPredictor(cubic=True, looks=False, weights=np.zeros(0, np.float32), layout=np.zeros((0, 4), np.int64))


@lru_cache(maxsize=16)
def _neural(predictor: NeuralPredictor) -> CompiledPredictor:
    parts: list[npt.NDArray[np.float32]] = []
    layout, at = [], 0
    for kind in list(PassKind)[: predictor.order.kinds]:
        for reference in (False, True):
            w = predictor.weights[kind, reference]
            layout.append((w[0].shape[1], w[0].shape[0], w[2].shape[0], at))
            parts += [array.ravel() for array in w]
            at = sum(len(part) for part in parts)
    return CompiledPredictor(False, predictor.reference, np.concatenate(parts), np.array(layout, np.int64))


def compiled(predictor: Predictor) -> CompiledPredictor | None:
    """The compiled form of the package's own predictors; None for any other, which is asked pass by pass."""
    if type(predictor) is CubicPredictor:
        return _CUBIC
    return _neural(predictor) if type(predictor) is NeuralPredictor else None
