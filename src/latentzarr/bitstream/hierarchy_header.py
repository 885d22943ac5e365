"""What a hierarchy or raster frame says before its words: geometry, lattice, tables, mask, sections, as a value and as bytes.

`latentzarr.bitstream.hierarchy_reading` reads the bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from latentzarr.bitstream.cursor import Writer
from latentzarr.bitstream.header import FrameHeader, Mode
from latentzarr.bounds import BoundKind
from latentzarr.geometry import ChunkGeometry, default_geometry
from latentzarr.repetition import NO_REPETITION, Repetition

__all__ = ["Flag", "HierarchyHeader", "LatticeHeader", "Section", "write_hierarchy"]


class Flag(IntFlag):
    """Bits of the flags: one byte in version 1, a varint in version 2."""

    SNAP = 1
    MASK = 2
    LOGARITHMIC = 4
    GEOMETRY = 8
    ADAPTATION = 16  # of raster frames: ranks
    SECTIONS = 32
    REPETITION = 64
    PACKED = 128
    DYADIC = 256


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
        Neural: empty or one byte for each group (6 in version 1, 9 in version 2). Cubic: 48 table classes. Raster: empty or the
        values there are, which `latentzarr.codec.ranks` reads.
    mask : bytes
        Empty, or the mask section.
    repetition : Repetition
        Runs of equal rows and columns; one value of each run is coded.
    dyadic : bool
        Slices are visited in dyadic order; from version 2 on.
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
    dyadic: bool = False

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
        Flag.DYADIC: h.dyadic,
    }
    flags = sum(flag for flag, on in present.items() if on)
    if header.version == 1:
        out.parts.append(flags)
    else:
        out.varint(flags)
    if present[Flag.GEOMETRY]:
        for n in h.geometry.shape:
            out.varint(n)
    if present[Flag.REPETITION]:
        r = h.repetition
        for n in (r.row_run, r.first_rows, r.column_run, r.first_columns):
            out.varint(n)
    out.signed(h.offset)
    _write_lattice(out, header, h.lattice)
    if header.mode is Mode.RASTER:
        if h.mask:
            out.block(h.mask)
        if h.adaptation:
            out.block(h.adaptation)
        return
    lane_bits = h.lanes.bit_length() - 1
    out.parts += bytes([h.root_class, lane_bits]) if header.version == 1 else bytes([h.root_class >> 1 | lane_bits << 5])
    if h.mask:
        out.block(h.mask)
    out.parts += _packed(h.adaptation) if header.version > 1 and header.mode.is_neural else h.adaptation
    if len(h.sections) > 1:
        for section in h.sections:
            out.varint(section.words)
            out.parts += b"\0\0"
    elif header.version == 1:
        out.varint(h.sections[0].words)


def _write_lattice(out: Writer, header: FrameHeader, lattice: LatticeHeader) -> None:
    if lattice.origin is not None:
        out.parts += struct.pack("<dd", lattice.step, lattice.origin)
    elif lattice.log_step:
        out.varint(lattice.log_step)
    elif header.dtype.kind == "f" and header.bound.kind is BoundKind.NONE:
        out.parts += struct.pack("<d", lattice.step)
    elif header.dtype.kind == "f":
        out.parts.append(lattice.slack)


def _packed(adaptation: bytes) -> bytes:
    """Shifts of -8 to 7 as half bytes, the low half first; given as bytes around 128."""
    halves = [b - 120 for b in adaptation] + [0]
    return bytes(low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=False))
