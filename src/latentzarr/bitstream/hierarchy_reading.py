"""Read what a hierarchy or raster frame says before its words; every number is checked against what can be."""

from __future__ import annotations

import math
import struct

from latentzarr.bitstream.cursor import Cursor
from latentzarr.bitstream.header import FrameHeader, Mode
from latentzarr.bitstream.hierarchy_header import Flag, HierarchyHeader, LatticeHeader, Section
from latentzarr.bounds import BoundKind
from latentzarr.errors import CorruptFrameError, InvalidConfigError, TruncatedFrameError
from latentzarr.geometry import SMALLEST_SLICE, ChunkGeometry, default_geometry
from latentzarr.repetition import NO_REPETITION, Repetition

__all__ = ["read_hierarchy"]

CUBIC_ADAPTATION = 48
_ALL_FLAGS = 2 * Flag.DYADIC - 1


def read_hierarchy(cursor: Cursor, header: FrameHeader, *, whole: bool) -> HierarchyHeader:
    """Read the tables of a hierarchy frame; every number is checked against what can be.

    Parameters
    ----------
    cursor : Cursor
        Behind the shape.
    header : FrameHeader
    whole : bool
        The payload must end where the bytes end; False for a prefix.

    Raises
    ------
    FormatError
    """
    if not 0 < header.count < 2**40:
        raise CorruptFrameError(f"a chunk of {header.count} values cannot be coded by the hierarchy")
    flags = Flag(cursor.byte("flags") if header.version == 1 else cursor.varint("flags", _ALL_FLAGS))
    try:
        geometry = _read_geometry(cursor, header) if Flag.GEOMETRY in flags else default_geometry(header.shape)
    except InvalidConfigError as error:
        raise CorruptFrameError(str(error)) from error
    repetition = _read_repetition(cursor, geometry) if Flag.REPETITION in flags else NO_REPETITION
    offset = cursor.signed("offset", 2**48)
    lattice = _read_lattice(cursor, header, flags)
    if header.mode is Mode.RASTER:
        if flags & (Flag.SNAP | Flag.SECTIONS):
            raise CorruptFrameError(f"a raster frame with the flags {int(flags):#x}")
        mask = cursor.block("mask") if Flag.MASK in flags else b""
        ranks = cursor.block("ranks") if Flag.ADAPTATION in flags else b""
        return HierarchyHeader(geometry, offset, 0, 1, (), lattice, adaptation=ranks, mask=mask, repetition=repetition)
    root_class, lane_bits = _read_root(cursor, header.version)
    if root_class > 63 or lane_bits > 5:
        raise CorruptFrameError(f"impossible root class {root_class} or lanes 2**{lane_bits}")
    mask = cursor.block("mask") if Flag.MASK in flags else b""
    size = CUBIC_ADAPTATION if header.mode is Mode.CUBIC else header.order.groups
    adaptation = b""
    if Flag.ADAPTATION in flags:
        short = header.version > 1 and header.mode.is_neural
        adaptation = _unpacked(cursor.take((size + 1) // 2, "adaptation"), size) if short else cursor.take(size, "adaptation")
    if header.mode is Mode.CUBIC and not adaptation:
        raise CorruptFrameError("a cubic frame without its table classes")
    sections = _read_sections(cursor, header.version, flags, 4 << lane_bits)
    left = len(cursor.data) - cursor.at
    needed = (4 << lane_bits) + 2 * sum(s.words for s in sections)
    if whole and needed != left:
        raise (TruncatedFrameError if needed > left else CorruptFrameError)(f"the payload should have {needed} bytes, has {left}")
    return HierarchyHeader(
        geometry,
        offset,
        root_class,
        1 << lane_bits,
        tuple(sections),
        lattice,
        Flag.SNAP in flags,
        adaptation,
        mask,
        repetition,
        Flag.DYADIC in flags,
    )


def _unpacked(packed: bytes, count: int) -> bytes:
    halves = [half for b in packed for half in (b & 15, b >> 4)]
    return bytes(half + 120 for half in halves[:count])


def _read_root(cursor: Cursor, version: int) -> tuple[int, int]:
    """Root class and log2 of the number of lanes; version 2 knows even root classes only."""
    if version == 1:
        return cursor.byte("root class"), cursor.byte("lanes")
    both = cursor.byte("root class and lanes")
    return (both & 31) << 1, both >> 5


def _read_sections(cursor: Cursor, version: int, flags: Flag, states: int) -> list[Section]:
    if Flag.SECTIONS in flags:
        return [
            Section(cursor.varint(f"words of section {i}", 2**40), struct.unpack("<H", cursor.take(2, "check"))[0])
            for i in range(4)
        ]
    if version == 1:
        return [Section(cursor.varint("words", 2**40))]
    return [Section(max(0, len(cursor.data) - cursor.at - states) // 2)]


def _read_geometry(cursor: Cursor, header: FrameHeader) -> ChunkGeometry:
    sizes = [cursor.varint(f"geometry size {i}", header.count) for i in range(3)]
    if math.prod(sizes) != header.count:
        raise CorruptFrameError(f"geometry {sizes} does not hold the {header.count} values of shape {header.shape}")
    if sizes[0] > 1 and sizes[1] * sizes[2] < SMALLEST_SLICE:
        raise CorruptFrameError(f"geometry {sizes} has slices of fewer than {SMALLEST_SLICE} values")
    return ChunkGeometry(*sizes)


def _read_repetition(cursor: Cursor, geometry: ChunkGeometry) -> Repetition:
    row_run, first_rows = (cursor.varint(what, geometry.rows) for what in ("run of rows", "first run of rows"))
    column_run, first_columns = (cursor.varint(what, geometry.columns) for what in ("run of columns", "first run of columns"))
    try:
        return Repetition(row_run, first_rows, column_run, first_columns)
    except InvalidConfigError as error:
        raise CorruptFrameError(str(error)) from error


def _read_lattice(cursor: Cursor, header: FrameHeader, flags: Flag) -> LatticeHeader:
    bound, kind = header.bound, header.bound.kind
    if Flag.PACKED in flags:
        step, origin = struct.unpack("<dd", cursor.take(16, "step and origin"))
        allowed = kind in (BoundKind.ABSOLUTE, BoundKind.LOSSLESS) and header.dtype.kind == "f" and Flag.LOGARITHMIC not in flags
        if not (allowed and math.isfinite(step) and step > 0 and math.isfinite(origin)):
            raise CorruptFrameError(f"impossible packing of {header.dtype} with step {step}, origin {origin}, bound {bound}")
        return LatticeHeader(step=step, origin=origin)
    if Flag.LOGARITHMIC in flags:
        log_step = cursor.varint("log step", 2**50)
        if kind is not BoundKind.RELATIVE or header.dtype.kind != "f" or log_step == 0:
            raise CorruptFrameError("a logarithmic frame needs a relative bound, a float dtype and a step")
        return LatticeHeader(log_step=log_step)
    if header.dtype.kind != "f":
        if kind not in (BoundKind.LOSSLESS, BoundKind.ABSOLUTE) or bound.value >= 2**30:
            raise CorruptFrameError(f"an integer hierarchy with a bound of {bound}")
        return LatticeHeader()
    if kind is BoundKind.NONE:
        (step,) = struct.unpack("<d", cursor.take(8, "step"))
        if not (math.isfinite(step) and step > 0):
            raise CorruptFrameError(f"impossible step {step}")
        return LatticeHeader(step=step)
    slack = cursor.byte("slack")
    if kind is not BoundKind.ABSOLUTE or slack > 60 or not math.isfinite(2.0 * bound.value):
        raise CorruptFrameError(f"a float hierarchy with a bound of {bound} and slack {slack}")
    return LatticeHeader(slack=slack)
