"""Decode a walk: predict, add the quanta that the words hold, go on from the result; down to any level of a preview."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import Section
from latentzarr.bitstream.rans import START, decode_segment
from latentzarr.codec import kernels
from latentzarr.codec.compiled import compiled, packed_passes, packed_visits
from latentzarr.codec.predictor import RECIPROCALS, Predictor, SliceStates
from latentzarr.codec.table_choice import TableChoice
from latentzarr.codec.walking import checked, coded_only, field_of, root_of
from latentzarr.errors import CorruptFrameError
from latentzarr.geometry import ChunkGeometry, passes
from latentzarr.slices import visits

__all__ = ["Coded", "decode_walk"]


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """An entropy-coded walk: lane states, words, and how many words finish each section."""

    states: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint16]
    sections: tuple[Section, ...]


def decode_walk(
    coded: Coded,
    missing: npt.NDArray[np.uint8] | None,
    geometry: ChunkGeometry,
    predictor: Predictor,
    choice: TableChoice,
    *,
    snap: bool,
    dyadic: bool = False,
    finest_level: int = 0,
) -> npt.NDArray[np.int32]:
    """Decode a walk down to a level.

    Returns
    -------
    int32 array, shape (slices, rows, columns)
        Lattice units; with ``finest_level`` k only every ``2**k``-th row and column is filled.

    Raises
    ------
    CorruptFrameError
        If the words do not end where the values do.
    """
    states = SliceStates.empty(geometry, missing, snap=snap)
    n, width = states.n, geometry.columns
    lanes = coded.states.astype(np.uint64)
    limit, position = len(coded.words), 0
    rows, columns = root_of(geometry)
    plan = visits(geometry.slices, dyadic=dyadic)
    for visit in plan:
        t = visit.slice
        count = len(rows) * len(columns)
        if states.any_missing:
            count -= int(states.missing[t].reshape(geometry.rows, width)[np.ix_(rows, columns)].sum())
        quanta = np.empty(count, np.int32)
        tables = np.full(count, choice.root_row, np.uint16)
        position = decode_segment(coded.words, position, limit, lanes, tables, choice.starts, len(lanes), quanta)
        if position < 0:
            raise CorruptFrameError("the words end inside the root")
        kernels.reconstruct_root(
            quanta, states.missing[t], states.any_missing, n[max(visit.before, 0)], n[max(visit.after, 0)], visit.references,
            rows, columns, width, n[t],
        )  # fmt: skip
    fast = compiled(predictor)
    field = field_of(states, plan, fast) if fast else ()
    for packed in packed_passes(geometry, predictor.order, finest_level) if fast else ():
        assert fast is not None
        position, p, v = kernels.decode_passes(
            coded.words, position, limit, lanes, choice.starts, choice.row_of, packed_visits(plan), packed.arrays, width, snap,
            field, fast.arrays, RECIPROCALS,
        )  # fmt: skip
        if position < 0:
            raise CorruptFrameError(f"the words end at stride {1 << packed.levels[p]}, slice {plan[v].slice}")
    for step in passes(geometry.rows, width, predictor.order, finest_level) if fast is None else ():
        for visit in plan:
            t = visit.slice
            found = checked(predictor, states, step, visit)
            tables = choice.row_of[step.group][coded_only(found.classes, states, step, t)]
            quanta = np.empty(len(tables), np.int32)
            position = decode_segment(coded.words, position, limit, lanes, tables, choice.starts, len(lanes), quanta)
            if position < 0:
                raise CorruptFrameError(f"the words end at stride {1 << step.level}, slice {t}")
            kernels.reconstruct_pass(
                quanta,
                states.missing[t],
                states.any_missing,
                found.centre,
                step.rows,
                step.columns,
                width,
                snap,
                step.grade(snap=snap)[0],
                n[t],
                states.activity[t],
            )
    if finest_level == 0 and (position != limit or (lanes != START).any()):
        raise CorruptFrameError("the words do not end where the values do; the model is not the one they were coded with")
    return n.reshape(geometry.shape)
