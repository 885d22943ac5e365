"""Walk a chunk coarse to fine in closed loop: predict, quantise what is left, go on from what a reader will have.

`latentzarr.codec.hierarchy_decode` walks the same way as a reader.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.codec import kernels
from latentzarr.codec.compiled import CompiledPredictor, compiled, packed_passes, packed_visits
from latentzarr.codec.predictor import RECIPROCALS, Predictor, SliceStates
from latentzarr.codec.table_choice import TableChoice, combined_starts, first_fixed_row, tables_group
from latentzarr.codec.walking import checked, coded_only, field_of, root_of
from latentzarr.geometry import ChunkGeometry, Order, passes
from latentzarr.slices import Visit, visits

__all__ = ["TableChoice", "Walk", "combined_starts", "encode_walk", "first_fixed_row", "tables_group"]


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The quanta of a chunk in coding order, as the encoder's walk left them.

    Attributes
    ----------
    quanta : int32 array, shape (coded values,)
    classes : uint8 array, same shape
        As predicted; 0 for the root.
    groups : uint8 array, same shape
        As in `latentzarr.geometry.Pass.group`; ``order.groups`` for the root.
    ends : int64 array, shape (segments,)
        End of each segment: the root of each slice, then each pass over each slice.
    section_segments : tuple of int
        Number of segments that finish strides of 8 and more, 4, 2 and 1.
    n : int32 array, shape (slices, rows * columns)
        What a reader will have.
    """

    quanta: npt.NDArray[np.int32]
    classes: npt.NDArray[np.uint8]
    groups: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]
    section_segments: tuple[int, int, int, int]
    n: npt.NDArray[np.int32]


def encode_walk(
    target: npt.NDArray[np.float64],
    missing: npt.NDArray[np.uint8] | None,
    geometry: ChunkGeometry,
    predictor: Predictor,
    *,
    snap: bool,
    half_open: bool,
    dyadic: bool = False,
) -> Walk | None:
    """Code a chunk in closed loop.

    Parameters
    ----------
    target : float64 array, shape (slices, rows * columns)
        Lattice units; anything where missing.
    missing : uint8 array, same shape, optional
    geometry : ChunkGeometry
    predictor : Predictor
    snap : bool
        Put decoded values on whole quanta.
    half_open : bool
        Round so that ``-8 <= decoded - target < 8`` (integers) rather than to the nearest.
    dyadic : bool
        Visit slices in dyadic order.

    Returns
    -------
    Walk or None
        None where a quantum or value would leave the format's range.
    """
    states = SliceStates.empty(geometry, missing, snap=snap)
    n, width = states.n, geometry.columns
    quanta = np.empty(geometry.size, np.int32)
    classes = np.zeros(geometry.size, np.uint8)
    groups = np.full(geometry.size, predictor.order.groups, np.uint8)
    ends: list[int] = []
    at = 0
    rows, columns = root_of(geometry)
    plan = visits(geometry.slices, dyadic=dyadic)
    for visit in plan:
        t = visit.slice
        at += kernels.quantise_root(
            target[t],
            states.missing[t],
            states.any_missing,
            n[max(visit.before, 0)],
            n[max(visit.after, 0)],
            visit.references,
            rows,
            columns,
            width,
            half_open,
            n[t],
            quanta[at:],
        )
        ends.append(at)
    fast = compiled(predictor)
    if fast is not None:
        return _encode_compiled(target, states, plan, fast, predictor.order, half_open, at, quanta, classes, groups, ends)
    finished = [len(ends)] * 4
    for step in passes(geometry.rows, geometry.columns, predictor.order):
        for visit in plan:
            t = visit.slice
            found = checked(predictor, states, step, visit)
            count = kernels.quantise_pass(
                target[t], states.missing[t], states.any_missing, found.centre, step.rows, step.columns, width,
                snap, half_open, step.grade(snap=snap)[0],
                n[t], states.activity[t], quanta[at:],
            )  # fmt: skip
            if count < 0:
                return None
            classes[at : at + count] = coded_only(found.classes, states, step, t)
            groups[at : at + count] = step.group
            at += count
            ends.append(at)
        for section in range(_section(step.level), 4):
            finished[section] = len(ends)
    sections = (finished[0], finished[1], finished[2], finished[3])
    return Walk(quanta[:at], classes[:at], groups[:at], np.array(ends, np.int64), sections, n)


def _encode_compiled(
    target: npt.NDArray[np.float64],
    states: SliceStates,
    plan: tuple[Visit, ...],
    fast: CompiledPredictor,
    order: Order,
    half_open: bool,
    at: int,
    quanta: npt.NDArray[np.int32],
    classes: npt.NDArray[np.uint8],
    groups: npt.NDArray[np.uint8],
    ends: list[int],
) -> Walk | None:
    """`encode_walk` after the root, all in compiled code."""
    all_ends = [np.array(ends, np.int64)]
    finished = [len(ends)] * 4
    field = field_of(states, plan, fast)
    for packed in packed_passes(states.geometry, order):
        found = np.empty(len(packed.table) * len(plan), np.int64)
        at = kernels.encode_passes(
            target, half_open, at, quanta, classes, groups, found, packed_visits(plan), packed.arrays, states.geometry.columns,
            states.snap, field, fast.arrays, RECIPROCALS,
        )  # fmt: skip
        if at < 0:
            return None
        all_ends.append(found)
        for level in packed.levels:
            for section in range(_section(level), 4):
                finished[section] += len(plan)
    sections = (finished[0], finished[1], finished[2], finished[3])
    return Walk(quanta[:at], classes[:at], groups[:at], np.concatenate(all_ends), sections, states.n)


def _section(level: int) -> int:
    return 3 - min(level, 3)
