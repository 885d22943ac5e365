"""Walk a chunk coarse to fine in closed loop: predict, quantise what is left, go on from what a reader will have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import Mode, Section
from latentzarr.bitstream.rans import START, decode_segment
from latentzarr.bitstream.tables import CLASSES, GROUPS, FrequencyTables, fixed_tables
from latentzarr.codec import kernels
from latentzarr.codec.predictor import CUBIC_CONTEXTS, Prediction, Predictor, SliceStates
from latentzarr.errors import CorruptFrameError, GuaranteeBrokenError
from latentzarr.geometry import COARSEST_STRIDE, ChunkGeometry, Pass, passes

__all__ = ["Coded", "TableChoice", "Walk", "decode_walk", "encode_walk"]

FIRST_FIXED_ROW = GROUPS * CLASSES


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The quanta of a chunk in coding order, as the encoder's walk left them.

    Attributes
    ----------
    quanta : int32 array, shape (coded values,)
    classes : uint8 array, same shape
        As predicted; 0 for the root.
    groups : uint8 array, same shape
        0 to 5; 6 for the root.
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


@dataclass(frozen=True, slots=True, eq=False)
class TableChoice:
    """Which row of the tables codes which class.

    Attributes
    ----------
    starts : int32 array, shape (576, 65)
        The model's 512 rows and the 64 fixed ones.
    row_of : uint16 array, shape (6, 64)
        Row for each group and class.
    root_row : int
    """

    starts: npt.NDArray[np.int32]
    row_of: npt.NDArray[np.uint16]
    root_row: int

    @classmethod
    def make(cls, mode: Mode, tables: FrequencyTables, adaptation: bytes, root_class: int, *, snap: bool) -> TableChoice:
        """From a frame's adaptation bytes; see `docs/reference/format.md`, section 9."""
        starts = combined_starts(tables)
        row_of = np.zeros((6, CLASSES), np.uint16)
        given = np.frombuffer(adaptation, np.uint8).astype(np.int64)
        for group in range(6):
            if mode is Mode.CUBIC:
                at = CUBIC_CONTEXTS * (group // 2)
                row_of[group, :CUBIC_CONTEXTS] = FIRST_FIXED_ROW + np.minimum(given[at : at + CUBIC_CONTEXTS], CLASSES - 1)
            else:
                shift = int(given[group]) - 128 if len(given) else 0
                tables_group = 6 + group % 2 if snap else group
                row_of[group] = CLASSES * tables_group + np.clip(np.arange(CLASSES) + shift, 0, CLASSES - 1)
        return cls(starts, row_of, FIRST_FIXED_ROW + root_class)


_combined: dict[int, tuple[FrequencyTables, npt.NDArray[np.int32]]] = {}


def combined_starts(tables: FrequencyTables) -> npt.NDArray[np.int32]:
    """The rows of ``tables`` and of the fixed tables in one array, made once for each model."""
    known = _combined.get(id(tables))
    if known is None or known[0] is not tables:
        if len(_combined) > 16:
            _combined.clear()
        known = (tables, np.concatenate([tables.starts, fixed_tables().starts[:CLASSES]]))
        _combined[id(tables)] = known
    return known[1]


def _root(geometry: ChunkGeometry) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return np.arange(0, geometry.rows, COARSEST_STRIDE), np.arange(0, geometry.columns, COARSEST_STRIDE)


def _checked(predictor: Predictor, states: SliceStates, step: Pass, index: int) -> Prediction:
    """A prediction of the right shape and range, whoever made it."""
    found = predictor.predict(states, step, index)
    sound = (
        found.centre.shape == found.classes.shape == (step.size,)
        and found.centre.dtype == np.int32
        and found.classes.dtype == np.uint8
        and bool((found.classes < CLASSES).all())
    )
    if not sound:
        raise GuaranteeBrokenError(f"predictor {type(predictor).__name__} returned arrays of a wrong shape, dtype or range")
    return found


def encode_walk(
    target: npt.NDArray[np.float64],
    missing: npt.NDArray[np.uint8] | None,
    geometry: ChunkGeometry,
    predictor: Predictor,
    *,
    snap: bool,
    half_open: bool,
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

    Returns
    -------
    Walk or None
        None where a quantum or value would leave the format's range.
    """
    states = SliceStates.empty(geometry, missing, snap=snap)
    n, width = states.n, geometry.columns
    quanta = np.empty(geometry.size, np.int32)
    classes = np.zeros(geometry.size, np.uint8)
    groups = np.full(geometry.size, 6, np.uint8)
    ends: list[int] = []
    at = 0
    rows, columns = _root(geometry)
    for t in range(geometry.slices):
        at += kernels.quantise_root(
            target[t],
            states.missing[t],
            states.any_missing,
            n[max(t - 1, 0)],
            t > 0,
            rows,
            columns,
            width,
            half_open,
            n[t],
            quanta[at:],
        )
        ends.append(at)
    finished = [len(ends)] * 4
    for step in passes(geometry.rows, geometry.columns):
        for t in range(geometry.slices):
            found = _checked(predictor, states, step, t)
            count = kernels.quantise_pass(
                target[t], states.missing[t], states.any_missing, found.centre, step.rows, step.columns, width, snap, half_open,
                n[t], states.activity[t], quanta[at:],
            )  # fmt: skip
            if count < 0:
                return None
            classes[at : at + count] = _coded_only(found.classes, states, step, t)
            groups[at : at + count] = step.group
            at += count
            ends.append(at)
        for section in range(_section(step), 4):
            finished[section] = len(ends)
    sections = (finished[0], finished[1], finished[2], finished[3])
    return Walk(quanta[:at], classes[:at], groups[:at], np.array(ends, np.int64), sections, n)


def _section(step: Pass) -> int:
    return 3 - min(step.level, 3)


def _coded_only(classes: npt.NDArray[np.uint8], states: SliceStates, step: Pass, t: int) -> npt.NDArray[np.uint8]:
    """The classes of the values that are coded."""
    if not states.any_missing:
        return classes
    grid = states.missing[t].reshape(states.geometry.rows, states.geometry.columns)
    return classes[grid[np.ix_(step.rows, step.columns)].ravel() == 0]


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
    rows, columns = _root(geometry)
    for t in range(geometry.slices):
        count = len(rows) * len(columns)
        if states.any_missing:
            count -= int(states.missing[t].reshape(geometry.rows, width)[np.ix_(rows, columns)].sum())
        quanta = np.empty(count, np.int32)
        tables = np.full(count, choice.root_row, np.uint16)
        position = decode_segment(coded.words, position, limit, lanes, tables, choice.starts, len(lanes), quanta)
        if position < 0:
            raise CorruptFrameError("the words end inside the root")
        kernels.reconstruct_root(
            quanta, states.missing[t], states.any_missing, n[max(t - 1, 0)], t > 0, rows, columns, width, n[t]
        )
    for step in passes(geometry.rows, width, finest_level):
        for t in range(geometry.slices):
            found = _checked(predictor, states, step, t)
            tables = choice.row_of[step.group][_coded_only(found.classes, states, step, t)]
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
                n[t],
                states.activity[t],
            )
    if finest_level == 0 and (position != limit or (lanes != START).any()):
        raise CorruptFrameError("the words do not end where the values do; the model is not the one they were coded with")
    return n.reshape(geometry.shape)
