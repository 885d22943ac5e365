"""What a hierarchy frame says before its words: geometry, lattice, tables, mask and sections, as bytes and as a value."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntFlag

from latentzarr.bitstream.cursor import Cursor, Writer
from latentzarr.bitstream.header import FrameHeader, Mode
from latentzarr.bounds import BoundKind
from latentzarr.errors import CorruptFrameError, InvalidConfigError, TruncatedFrameError
from latentzarr.geometry import SMALLEST_SLICE, ChunkGeometry, default_geometry
from latentzarr.repetition import NO_REPETITION, Repetition

__all__ = ["HierarchyHeader", "LatticeHeader", "Section", "read_hierarchy", "write_hierarchy"]

CUBIC_ADAPTATION = 48
NEURAL_ADAPTATION = 6


class Flag(IntFlag):
    """Bits of the flags byte."""

    SNAP = 1
    MASK = 2
    LOGARITHMIC = 4
    GEOMETRY = 8
    ADAPTATION = 16
    SECTIONS = 32
    REPETITION = 64
    PACKED = 128


@dataclass(frozen=True, slots=True)
class Section:
    """A prefix of the hierarchy: ``words`` 16-bit words finish it, ``check`` guards all bytes up to its end."""

    words: int
    check: int = 0


@dataclass(frozen=True, slots=True)
class LatticeHeader:
    """Where the quanta lie, as far as it does not follow from bound and dtype.

    Attributes
    ----------
    slack : int
        Floats with an absolute bound: the step is ``2 * bound * (1 - 2**-slack)``; 0: exactly twice the bound.
    step : float
        Packed floats, and floats without a bound: size of a quantum in units of the data.
    origin : float or None
        Packed floats: a point of the lattice the data lie on.
    log_step : int
        Relative bounds: size of a quantum in units of 2**-40 of log2 |x|; else 0.
    """

    slack: int = 0
    step: float = 0.0
    origin: float | None = None
    log_step: int = 0


_PLAIN = LatticeHeader()


@dataclass(frozen=True, slots=True)
class HierarchyHeader:
    """What the hierarchy's payload says about itself, before its words.

    Attributes
    ----------
    geometry : ChunkGeometry
        Of the whole chunk.
    offset : int
        Whole quanta added to every value.
    root_class : int
        Row of the fixed tables that codes the root.
    lanes : int
        1 to 32, a power of two.
    sections : tuple of Section
        Coarse to fine: strides of 8 and more, 4, 2, 1; or one for all.
    lattice : LatticeHeader
    snap : bool
        Decoded values are put on whole quanta (exact integers, packed data).
    adaptation : bytes
        Neural: empty or one byte for each group. Cubic: 48 table classes.
    mask : bytes
        Empty, or the mask section.
    repetition : Repetition
        Runs of equal rows and columns; one value of each run is coded.
    """

    geometry: ChunkGeometry
    offset: int
    root_class: int
    lanes: int
    sections: tuple[Section, ...]
    lattice: LatticeHeader = _PLAIN
    snap: bool = False
    adaptation: bytes = b""
    mask: bytes = b""
    repetition: Repetition = NO_REPETITION

    @property
    def coded(self) -> ChunkGeometry:
        """The geometry of what is coded: one value for each run."""
        return self.repetition.small(self.geometry)


def write_hierarchy(out: Writer, header: FrameHeader, h: HierarchyHeader) -> None:
    """Write the tables of a hierarchy frame, the checks of its sections as zeros."""
    present = {
        Flag.SNAP: h.snap,
        Flag.MASK: bool(h.mask),
        Flag.LOGARITHMIC: h.lattice.log_step > 0,
        Flag.GEOMETRY: h.geometry != default_geometry(header.shape),
        Flag.ADAPTATION: bool(h.adaptation),
        Flag.SECTIONS: len(h.sections) > 1,
        Flag.REPETITION: h.repetition != NO_REPETITION,
        Flag.PACKED: h.lattice.origin is not None,
    }
    out.parts.append(sum(flag for flag, on in present.items() if on))
    if present[Flag.GEOMETRY]:
        for n in h.geometry.shape:
            out.varint(n)
    if present[Flag.REPETITION]:
        r = h.repetition
        for n in (r.row_run, r.first_rows, r.column_run, r.first_columns):
            out.varint(n)
    out.signed(h.offset)
    if h.lattice.origin is not None:
        out.parts += struct.pack("<dd", h.lattice.step, h.lattice.origin)
    elif h.lattice.log_step:
        out.varint(h.lattice.log_step)
    elif header.dtype.kind == "f" and header.bound.kind is BoundKind.NONE:
        out.parts += struct.pack("<d", h.lattice.step)
    elif header.dtype.kind == "f":
        out.parts.append(h.lattice.slack)
    out.parts.append(h.root_class)
    out.parts.append(h.lanes.bit_length() - 1)
    if h.mask:
        out.block(h.mask)
    out.parts += h.adaptation
    for section in h.sections:
        out.varint(section.words)
        if len(h.sections) > 1:
            out.parts += b"\0\0"


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
    flags = Flag(cursor.byte("flags"))
    try:
        geometry = _read_geometry(cursor, header) if Flag.GEOMETRY in flags else default_geometry(header.shape)
    except InvalidConfigError as error:
        raise CorruptFrameError(str(error)) from error
    repetition = _read_repetition(cursor, geometry) if Flag.REPETITION in flags else NO_REPETITION
    offset = cursor.signed("offset", 2**48)
    lattice = _read_lattice(cursor, header, flags)
    root_class, lane_bits = cursor.byte("root class"), cursor.byte("lanes")
    if root_class > 63 or lane_bits > 5:
        raise CorruptFrameError(f"impossible root class {root_class} or lanes 2**{lane_bits}")
    mask = cursor.block("mask") if Flag.MASK in flags else b""
    size = CUBIC_ADAPTATION if header.mode is Mode.CUBIC else NEURAL_ADAPTATION
    adaptation = cursor.take(size, "adaptation") if Flag.ADAPTATION in flags else b""
    if header.mode is Mode.CUBIC and not adaptation:
        raise CorruptFrameError("a cubic frame without its table classes")
    sections = []
    for i in range(4 if Flag.SECTIONS in flags else 1):
        words = cursor.varint(f"words of section {i}", 2**40)
        sections.append(Section(words, struct.unpack("<H", cursor.take(2, "check"))[0] if Flag.SECTIONS in flags else 0))
    left = len(cursor.data) - cursor.at
    needed = (4 << lane_bits) + 2 * sum(s.words for s in sections)
    if whole and needed != left:
        raise (TruncatedFrameError if needed > left else CorruptFrameError)(f"the payload should have {needed} bytes, has {left}")
    return HierarchyHeader(
        geometry, offset, root_class, 1 << lane_bits, tuple(sections), lattice, Flag.SNAP in flags, adaptation, mask, repetition
    )


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
