"""The payload of hierarchy and raster: from a walk to a frame, and from a frame to values, whole or at a coarser level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import FrameHeader, HierarchyHeader, Mode, pack_frame
from latentzarr.bitstream.planes import decode_planes, encode_planes
from latentzarr.bitstream.tables import FrequencyTables, fixed_tables
from latentzarr.bounds import BoundKind
from latentzarr.codec.hierarchy_decode import Coded, decode_walk
from latentzarr.codec.predictor import CubicPredictor, Predictor, neural_predictor
from latentzarr.codec.prepare import LatticeChunk
from latentzarr.codec.raster import RasterCandidate, decode_raster
from latentzarr.codec.search import Candidate
from latentzarr.codec.table_choice import TableChoice
from latentzarr.errors import CorruptFrameError
from latentzarr.mask import Plane, SpecialValues, restore
from latentzarr.models.store import find_model
from latentzarr.models.weights import Model
from latentzarr.repetition import NO_REPETITION
from latentzarr.scaling import LinearLattice, LogLattice, step_of

__all__ = ["as_booleans", "decode_hierarchy", "pack_hierarchy"]


def pack_hierarchy(header: FrameHeader, chunk: LatticeChunk, candidate: Candidate | RasterCandidate) -> bytes:
    """The frame of a walk; ``header`` has its mode and digest already."""
    payload, sections, lanes = candidate.pack()
    special = chunk.special
    mask = b""
    if special.planes:
        mask = bytes([special.planes]) + special.fill + encode_planes(special.bits.reshape(-1, *chunk.coded.shape))
    hierarchy = HierarchyHeader(
        geometry=chunk.geometry,
        offset=chunk.lattice.offset,
        root_class=candidate.root_class,
        lanes=lanes,
        sections=sections,
        lattice=chunk.described,
        snap=chunk.snap and candidate.mode is not Mode.RASTER,
        adaptation=candidate.adaptation,
        mask=mask,
        repetition=chunk.repetition,
        dyadic=isinstance(candidate, Candidate) and candidate.dyadic,
    )
    return pack_frame(header, payload, hierarchy)


def decode_hierarchy(
    data: bytes,
    header: FrameHeader,
    hierarchy: HierarchyHeader,
    start: int,
    model: Model | None,
    predictors: Sequence[Predictor] | None = None,
    level: int = 0,
) -> npt.NDArray[Any]:
    """Decode a hierarchy's payload.

    Parameters
    ----------
    data : bytes
        A frame, or a prefix that holds the sections needed.
    header, hierarchy, start
        As `latentzarr.bitstream.frame.parse_frame` read them.
    model : Model, optional
        Tried first; any other is looked for by digest.
    predictors : optional
        Used instead of the model's own where the mode fits.
    level : int
        0 for all; ``k`` for every ``2**k``-th row and column, without repetition only.

    Returns
    -------
    array of ``header.dtype``, shape (slices, ceil(rows / 2**level), ceil(columns / 2**level))

    Raises
    ------
    FormatError, ModelError
    """
    coded = hierarchy.coded
    special = read_mask(header, hierarchy)
    missing = special.missing.reshape(coded.slices, -1) if special.any_missing else None
    if header.mode is Mode.RASTER:
        n = decode_raster(data[start:], missing, coded, hierarchy.adaptation)
    else:
        n = _decode_words(data, header, hierarchy, start, missing, predictor_of(header, model, predictors), level)
    every = slice(None, None, 1 << level)

    def thin(a: npt.NDArray[Any]) -> npt.NDArray[Any]:
        kept = a.reshape(*a.shape[:-1], *coded.shape)[..., every, every]
        return np.ascontiguousarray(kept).reshape(*a.shape[:-1], math.prod(kept.shape[-3:]))

    if level:
        special = SpecialValues(special.planes, thin(special.bits), thin(special.missing), special.fill)
    dtype = np.dtype(np.uint8) if header.dtype == np.bool_ else header.dtype
    values = restore(lattice_of(header, hierarchy).values(thin(n.reshape(-1)) if level else n.reshape(-1), dtype), special)
    if header.dtype == np.bool_:
        values = as_booleans(values)
    grid = values.reshape(coded.slices, -(-coded.rows >> level), -(-coded.columns >> level))
    return grid if hierarchy.repetition == NO_REPETITION else hierarchy.repetition.expand(grid, hierarchy.geometry)


def _decode_words(
    data: bytes,
    header: FrameHeader,
    hierarchy: HierarchyHeader,
    start: int,
    missing: npt.NDArray[np.uint8] | None,
    coder: tuple[Predictor, FrequencyTables],
    level: int,
) -> npt.NDArray[np.int32]:
    """Lattice units of a hierarchy."""
    predictor, tables = coder
    words_at = start + 4 * hierarchy.lanes
    stream = Coded(
        np.frombuffer(data, "<u4", hierarchy.lanes, start),
        np.frombuffer(data, "<u2", (len(data) - words_at) // 2, words_at),
        hierarchy.sections,
    )
    choice = TableChoice.make(
        header.mode, predictor.order, tables, hierarchy.adaptation, hierarchy.root_class, snap=hierarchy.snap
    )
    return decode_walk(
        stream, missing, hierarchy.coded, predictor, choice,
        snap=hierarchy.snap, dyadic=hierarchy.dyadic, finest_level=level,
    )  # fmt: skip


def as_booleans(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Bytes as booleans; other bytes than 0 and 1 would make arrays that NumPy itself trips over."""
    if (values > 1).any():
        raise CorruptFrameError("a boolean is neither 0 nor 1")
    return values.view(np.bool_)


def predictor_of(
    header: FrameHeader, model: Model | None, predictors: Sequence[Predictor] | None
) -> tuple[Predictor, FrequencyTables]:
    """What predicts and codes a frame: a model found by its digest, or the fixed parts of the format."""
    given = next((p for p in predictors or () if p.mode is header.mode and p.order is header.order), None)
    if header.mode is Mode.CUBIC:
        return given or CubicPredictor(header.order), fixed_tables()
    if model is None or not model.prefix.startswith(header.digest):
        model = find_model(header.digest.hex())
    if model.order is not header.order:
        raise CorruptFrameError(f"a frame of version {header.version} names a model of {model.card.architecture}")
    return given or neural_predictor(model, reference=header.mode is Mode.NEURAL), model.tables


def lattice_of(header: FrameHeader, hierarchy: HierarchyHeader) -> LinearLattice | LogLattice:
    """The lattice that a frame's header describes."""
    said = hierarchy.lattice
    if said.log_step:
        return LogLattice(said.log_step, hierarchy.offset)
    if header.dtype.kind != "f":
        return LinearLattice(2 * np.floor(header.bound.value) + 1, hierarchy.offset)
    if said.origin is not None or header.bound.kind is BoundKind.NONE:
        return LinearLattice(said.step, hierarchy.offset, said.origin or 0.0)
    return LinearLattice(step_of(header.bound.value, said.slack), hierarchy.offset)


def read_mask(header: FrameHeader, hierarchy: HierarchyHeader) -> SpecialValues:
    """The special values of a frame, over its coded geometry.

    Raises
    ------
    CorruptFrameError
        If the mask section names unknown planes or is too short.
    """
    coded, data = hierarchy.coded, hierarchy.mask
    if not data:
        return SpecialValues(Plane(0), np.zeros((0, coded.size), np.uint8), np.zeros(coded.size, np.uint8))
    if data[0] == 0 or data[0] > 63:
        raise CorruptFrameError(f"unknown mask planes {data[0]:#x}")
    planes = Plane(data[0])
    used = 1 + (header.dtype.itemsize if Plane.FILL in planes else 0)
    if len(data) < used or (header.dtype.kind != "f" and planes & ~Plane.FILL):
        raise CorruptFrameError("the mask section does not fit the dtype")
    count = len([p for p in Plane if p in planes])
    bits = decode_planes(data[used:], (count, *coded.shape)).reshape(count, coded.size)
    special = bits[: len(planes.special)]
    missing = special.max(0) if len(special) else np.zeros(coded.size, np.uint8)
    return SpecialValues(planes, bits, missing, data[1:used])
