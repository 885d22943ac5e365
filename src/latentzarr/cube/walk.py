"""The coarse-to-fine walk over one field that looks at a reference field, made anew for every stride.

The passes, the network and the tables are those of a chunk's second slice (`latentzarr.codec.hierarchy`); what stands in the
place of the slice before it is the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import HierarchyHeader, Mode
from latentzarr.bitstream.rans import START, decode_segment
from latentzarr.codec import kernels
from latentzarr.codec.compiled import PackedPasses, compiled, packed_visits
from latentzarr.codec.hierarchy import Walk
from latentzarr.codec.predictor import RECIPROCALS, NeuralPredictor, SliceStates, neural_predictor
from latentzarr.codec.prepare import LatticeChunk
from latentzarr.codec.search import Candidate, candidate_of
from latentzarr.codec.table_choice import TableChoice
from latentzarr.codec.walking import field_of, root_of
from latentzarr.cube.synthesis import COARSEST_SYNTHESIS
from latentzarr.errors import CorruptFrameError
from latentzarr.geometry import LEVELS, ChunkGeometry, passes
from latentzarr.mask import SpecialValues
from latentzarr.models.weights import Model
from latentzarr.scaling import FRACTION, LATTICE_LIMIT, LinearLattice
from latentzarr.slices import Visit

__all__ = ["Guide", "Seen", "decode_guided", "encode_guided"]


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """A reference field on the channel's nominal lattice.

    Attributes
    ----------
    levels : tuple of 4 float64 arrays
        For strides 1, 2, 4 and more: whole numbers on every such row and column.
    activity : uint8 array, shape (rows, columns)
        How large the quanta of what is looked at most were.
    """

    levels: tuple[npt.NDArray[np.float64], ...]
    activity: npt.NDArray[np.uint8]

    def on(self, lattice: LinearLattice, origin: float, step: float) -> Seen:
        """The same on a field's own lattice: one product, one sum, one rounding."""
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.float64(step) / lattice.step
            shift = ((np.float64(origin) - lattice.origin) / lattice.step) * FRACTION - float(FRACTION * lattice.offset)
        moved = []
        for field in self.levels:
            with np.errstate(over="ignore", invalid="ignore"):
                on = np.floor(field * ratio + shift + 0.5)
            on = np.where(np.isfinite(on), on, 0.0)
            moved.append(np.clip(on, -float(LATTICE_LIMIT), float(LATTICE_LIMIT)).astype(np.int32))
        return Seen(tuple(moved), self.activity)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A reference field on a field's own lattice: int32 on every row and column of strides 1, 2, 4 and more."""

    levels: tuple[npt.NDArray[np.int32], ...]
    activity: npt.NDArray[np.uint8]


def _states(geometry: ChunkGeometry, missing: npt.NDArray[np.uint8] | None, seen: Seen | None, *, snap: bool) -> SliceStates:
    """Two slices: what is looked at, and what is coded."""
    both = ChunkGeometry(2, geometry.rows, geometry.columns)
    mask = None if missing is None else np.concatenate([np.zeros_like(missing), missing]).reshape(2, -1)
    states = SliceStates.empty(both, mask, snap=snap)
    if seen is not None:
        states.activity[0] = seen.activity.reshape(-1)
        _show(states, seen, COARSEST_SYNTHESIS)
    return states


def _show(states: SliceStates, seen: Seen, level: int) -> None:
    """Put the reference for a stride in its place."""
    at = min(level, COARSEST_SYNTHESIS)
    grid = states.n[0].reshape(states.geometry.rows, states.geometry.columns)
    grid[:: 1 << at, :: 1 << at] = seen.levels[at]


def _steps(geometry: ChunkGeometry) -> Iterator[tuple[int, PackedPasses]]:
    """The passes of each level together, coarse to fine."""
    every = list(passes(geometry.rows, geometry.columns))
    for level in reversed(range(LEVELS)):
        found = [step for step in every if step.level == level]
        if found:
            yield level, PackedPasses.of(found)


def _plan(seen: Seen | None) -> tuple[Visit, ...]:
    return (Visit(1, 0 if seen is not None else -1),)


def encode_guided(chunk: LatticeChunk, seen: Seen | None, model: Model) -> Candidate | None:
    """Walk a field; None where a value leaves the format's range.

    Parameters
    ----------
    chunk : LatticeChunk
        Of one slice.
    seen : Seen or None
    model : Model
    """
    predictor = neural_predictor(model, reference=True)
    geometry, order = chunk.geometry, predictor.order
    states = _states(geometry, chunk.missing, seen, snap=chunk.snap)
    plan, n, width = _plan(seen), states.n, geometry.columns
    quanta, classes = np.empty(geometry.size, np.int32), np.zeros(geometry.size, np.uint8)
    groups = np.full(geometry.size, order.groups, np.uint8)
    target = np.concatenate([np.zeros_like(chunk.target), chunk.target])
    mask = states.missing[1]
    at = kernels.quantise_root(
        target[1],
        mask,
        states.any_missing,
        n[0],
        n[0],
        plan[0].references,
        *root_of(geometry),
        width,
        chunk.half_open,
        n[1],
        quanta,
    )
    ends = [np.array([at], np.int64)]
    fast = compiled(predictor)
    assert fast is not None
    field = field_of(states, plan, fast)
    for level, packed in _steps(geometry):
        if seen is not None:
            _show(states, seen, level)
        found = np.empty(len(packed.table), np.int64)
        at = kernels.encode_passes(
            target, chunk.half_open, at, quanta, classes, groups, found, packed_visits(plan), packed.arrays, width,
            chunk.snap, field, fast.arrays, RECIPROCALS,
        )  # fmt: skip
        if at < 0:
            return None
        ends.append(found)
    segments = np.concatenate(ends)
    whole = len(segments)
    walk = Walk(quanta[:at], classes[:at], groups[:at], segments, (whole, whole, whole, whole), n[1:])
    return candidate_of(walk, predictor, model.tables, snap=chunk.snap, dyadic=False)


def decode_guided(
    payload: bytes, special: SpecialValues, header: HierarchyHeader, seen: Seen | None, model: Model
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Decode the words of a field.

    Parameters
    ----------
    payload : bytes
        Lane states, then words.
    special : SpecialValues
    header : HierarchyHeader
        Its own part of the field's bytes.
    seen : Seen or None
    model : Model

    Returns
    -------
    int32 array, uint8 array, shape (rows * columns,)
        Lattice units and activities.

    Raises
    ------
    CorruptFrameError
        If the words do not end where the values do.
    """
    predictor: NeuralPredictor = neural_predictor(model, reference=True)
    geometry = header.coded
    states = _states(geometry, special.missing if special.any_missing else None, seen, snap=header.snap)
    n, width, plan = states.n, geometry.columns, _plan(seen)
    lanes = np.frombuffer(payload, "<u4", header.lanes).astype(np.uint64)
    words = np.frombuffer(payload, "<u2", (len(payload) - 4 * header.lanes) // 2, 4 * header.lanes)
    choice = TableChoice.make(Mode.NEURAL, predictor.order, model.tables, header.adaptation, header.root_class, snap=header.snap)
    rows, columns = root_of(geometry)
    mask = states.missing[1]
    count = len(rows) * len(columns)
    if states.any_missing:
        count -= int(mask.reshape(geometry.rows, width)[np.ix_(rows, columns)].sum())
    quanta = np.empty(count, np.int32)
    tables = np.full(count, choice.root_row, np.uint16)
    limit = len(words)
    position = decode_segment(words, 0, limit, lanes, tables, choice.starts, len(lanes), quanta)
    if position < 0:
        raise CorruptFrameError("the words end inside the root")
    kernels.reconstruct_root(quanta, mask, states.any_missing, n[0], n[0], plan[0].references, rows, columns, width, n[1])
    fast = compiled(predictor)
    assert fast is not None
    field = field_of(states, plan, fast)
    for level, packed in _steps(geometry):
        if seen is not None:
            _show(states, seen, level)
        position, _, _ = kernels.decode_passes(
            words, position, limit, lanes, choice.starts, choice.row_of, packed_visits(plan), packed.arrays, width,
            header.snap, field, fast.arrays, RECIPROCALS,
        )  # fmt: skip
        if position < 0:
            raise CorruptFrameError(f"the words end at stride {1 << level}")
    if position != limit or (lanes != START).any():
        raise CorruptFrameError("the words do not end where the values do; the model or the fields looked at are not the same")
    return n[1].copy(), states.activity[1].copy()
