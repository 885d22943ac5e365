"""What a frame says about itself before its payload: the header (section 2) and the tables of a hierarchy (section 4)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import CorruptFrameError, FormatError, NewerVersionError, TruncatedFrameError
from latentzarr.reference.bits import Cursor, Words, crc32c, read_planes

__all__ = ["CONSTANT", "CUBIC", "INDEPENDENT", "NEURAL", "PCODEC", "RASTER", "RAW", "Header", "Tables", "run_of", "stored_as"]

DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "bool")
RAW, CONSTANT, PCODEC, CUBIC, NEURAL, INDEPENDENT, RASTER = range(7)
LOSSLESS, ABSOLUTE, RELATIVE, NONE = range(4)


# --------------------------------------------------------------------------------------------------------- 2. layout
@dataclass(frozen=True)
class Header:
    """Section 2: the fields of every frame; ``end`` is where the shape ends."""

    version: int
    mode: int
    dtype: np.dtype[Any]
    big_endian: bool
    fortran: bool
    kind: int
    bound: float
    digest: bytes
    shape: tuple[int, ...]
    end: int

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def order(self) -> int:
        """Of a hierarchy (section 5)."""
        return self.version

    @classmethod
    def read(cls, data: bytes) -> Header:
        """Read and check the front of a frame."""
        if data[:2] != b"Lz"[: len(data)]:
            raise FormatError(f"not a frame: it begins with {data[:2]!r}")
        version = data[2] if len(data) > 2 else 0
        if version > 2:
            raise NewerVersionError(f"format version {version}")
        at = 22 if version == 1 else 5
        if len(data) < at + 4:
            raise TruncatedFrameError(f"a frame has at least {at + 4} bytes, not {len(data)}")
        if version < 1 or crc32c(data[at + 4 :], crc32c(data[:at])) != int.from_bytes(data[at : at + 4], "little"):
            raise CorruptFrameError("the checksum is not that of the bytes, or there is no such version")
        if version == 1:
            mode, dtype, kind, bound, digest = struct.unpack_from("<BBBd8s", data, 3)
        else:
            mode, kind, dtype, bound, digest = data[3] & 15, data[3] >> 4, data[4], 0.0, b""
        if mode > (INDEPENDENT if version == 1 else RASTER) or dtype & 63 >= len(DTYPES) or kind > NONE:
            raise CorruptFrameError("a field of the header has a value that is not listed")
        cursor = Cursor(data, at + 4)
        found = np.dtype(DTYPES[dtype & 63])
        shape = _shape(cursor, found)
        if version == 2:
            bound = 0.0 if kind == LOSSLESS else _bound(cursor, found)
            digest = cursor.take(4) if mode in (NEURAL, INDEPENDENT) else b""
        if not (bound == 0 if kind == LOSSLESS else 0 < bound < (1 if kind == RELATIVE else math.inf)):
            raise CorruptFrameError(f"a bound of {bound}")
        return cls(version, mode, found, bool(dtype & 64), bool(dtype & 128), kind, bound, digest, shape, cursor.at)


def _shape(cursor: Cursor, dtype: np.dtype[Any]) -> tuple[int, ...]:
    ndim = cursor.varint()
    if ndim > 64:
        raise CorruptFrameError(f"{ndim} dimensions")
    shape = tuple(cursor.varint() for _ in range(ndim))
    if max(shape, default=0) > 2**40 or math.prod(max(n, 1) for n in shape) * dtype.itemsize >= 2**62:
        raise CorruptFrameError(f"a shape of {shape}")
    return shape


def _bound(cursor: Cursor, dtype: np.dtype[Any]) -> float:
    """Version 2, kinds other than lossless."""
    if dtype.kind != "f":
        value = cursor.varint()
        return float(value) if value <= 2**53 else math.inf
    width = "<f8" if dtype == np.float64 else "<f4"
    return float(np.frombuffer(cursor.take(int(width[-1])), width)[0])


# ------------------------------------------------------------------------------------------------- 4. hierarchy: tables
@dataclass
class Tables:
    """Section 4: what stands before the words, in this order."""

    snap: bool
    logarithmic: bool
    dyadic: bool
    chunk: tuple[int, int, int]
    runs: tuple[int, int, int, int]
    offset: int
    step: float = 0.0
    origin: float = 0.0
    log_step: int = 0
    root_class: int = 0
    planes: dict[int, npt.NDArray[np.bool_]] = field(default_factory=dict)
    fill: npt.NDArray[Any] | None = None
    ranks: bytes = b""
    adaptation: list[int] = field(default_factory=list)
    sections: list[tuple[int, int]] = field(default_factory=list)
    """Place of the check (0 where there is none) and number of words of each section."""

    @property
    def coded(self) -> tuple[int, int, int]:
        """Slices, rows and columns with each run counted once."""
        slices, rows, columns = self.chunk
        return slices, int(run_of(rows, *self.runs[:2])[-1]) + 1, int(run_of(columns, *self.runs[2:])[-1]) + 1

    @classmethod
    def read(cls, head: Header, cursor: Cursor) -> tuple[Tables, Words]:
        """Read all from the flags to the end of the frame; of a raster frame, to the end of the ranks, and no words."""
        flags = _flags(head, cursor)
        snap, masked, logarithmic, geometry, adapted, sections, repeated, packed = (bool(flags >> k & 1) for k in range(8))
        if not 0 < head.count < 2**40:
            raise CorruptFrameError(f"a hierarchy of {head.count} values")
        chunk = (cursor.varint(), cursor.varint(), cursor.varint()) if geometry else _by_rule(head.shape)
        if math.prod(chunk) != head.count or (chunk[0] > 1 and chunk[1] * chunk[2] < 256):
            raise CorruptFrameError(f"a geometry of {chunk} for {head.shape}")
        runs = (cursor.varint(), cursor.varint(), cursor.varint(), cursor.varint()) if repeated else (1, 1, 1, 1)
        if not (1 <= runs[1] <= runs[0] <= chunk[1] and 1 <= runs[3] <= runs[2] <= chunk[2]):
            raise CorruptFrameError(f"runs of {runs} in {chunk}")
        offset = cursor.signed_varint()
        if abs(offset) > 2**48:
            raise CorruptFrameError(f"an offset of {offset}")
        t = cls(snap, logarithmic, bool(flags >> 8), chunk, runs, offset)
        t._read_steps(head, cursor, packed)
        if head.mode == RASTER:
            if snap or sections:
                raise CorruptFrameError(f"a raster frame with the flags {flags}")
            t._read_mask(head, Cursor(cursor.take(cursor.varint()) if masked else b""))
            t.ranks = cursor.take(cursor.varint()) if adapted else b""
            return t, Words(np.zeros(0), np.zeros(0))
        t.root_class = cursor.byte()
        lanes = cursor.byte() if head.version == 1 else t.root_class >> 5
        t.root_class = t.root_class if head.version == 1 else (t.root_class & 31) << 1
        if t.root_class > 63 or lanes > 5:
            raise CorruptFrameError(f"root class {t.root_class}, 2^{lanes} lanes")
        mask = cursor.take(cursor.varint()) if masked else b""
        if head.mode == CUBIC and not adapted:
            raise CorruptFrameError("a cubic frame without adaptation")
        size = 48 if head.mode == CUBIC else {1: 6, 2: 9}[head.version]
        t.adaptation = [128] * size
        if adapted and head.version == 2 and head.mode != CUBIC:
            t.adaptation = [120 + half for byte in cursor.take(5) for half in (byte & 15, byte >> 4)]
        elif adapted:
            t.adaptation = list(cursor.take(size))
        for _ in range(4 if sections else 1 if head.version == 1 else 0):
            count = cursor.varint()
            t.sections.append((cursor.at if sections else 0, count))
            cursor.take(2 if sections else 0)
        if not t.sections:
            t.sections.append((0, (cursor.left - (4 << lanes)) // 2))
        total = sum(count for _, count in t.sections)
        if cursor.left != 4 * (1 << lanes) + 2 * total:
            raise TruncatedFrameError(f"{cursor.left} bytes are left for {1 << lanes} states and {total} words")
        t._read_mask(head, Cursor(mask))
        states = np.frombuffer(cursor.take(4 << lanes), "<u4")
        return t, Words(states, np.frombuffer(cursor.take(cursor.left), "<u2"))

    def _read_steps(self, head: Header, cursor: Cursor, packed: bool) -> None:
        """From "step, origin" to "slack", and what section 6 makes of them."""
        floats = head.dtype.kind == "f"
        if packed:
            self.step, self.origin = cursor.float64(), cursor.float64()
            sound = floats and head.kind in (ABSOLUTE, LOSSLESS) and not self.logarithmic and math.isfinite(self.origin)
        elif self.logarithmic:
            self.log_step = cursor.varint()
            sound = floats and head.kind == RELATIVE and 1 <= self.log_step <= 2**50
        elif not floats:
            self.step = 2 * math.floor(head.bound) + 1
            sound = head.kind in (LOSSLESS, ABSOLUTE) and head.bound < 2**30
        elif head.kind == NONE:
            self.step = cursor.float64()
            sound = True
        else:
            slack = cursor.byte()
            self.step = 2 * head.bound * (1 - 2.0**-slack) if slack else 2 * head.bound
            sound = head.kind == ABSOLUTE and slack <= 60 and 2 * head.bound < math.inf
        if not sound or not (self.logarithmic or 0 < self.step < math.inf):
            raise CorruptFrameError(f"steps that are not those of {head.dtype} with this bound: {self.step}, {self.log_step}")

    def _read_mask(self, head: Header, cursor: Cursor) -> None:
        """Section 11."""
        if not cursor.left:
            return
        listed = cursor.byte()
        kinds = [k for k in range(8) if listed >> k & 1]
        if not kinds or not set(kinds) <= (set(range(6)) if head.dtype.kind == "f" else {3}):
            raise CorruptFrameError(f"mask planes {kinds}")
        if 3 in kinds:
            self.fill = np.frombuffer(cursor.take(head.dtype.itemsize), stored_as(head.dtype))
        self.planes = read_planes(cursor.take(cursor.left), kinds, self.coded)


def _flags(head: Header, cursor: Cursor) -> int:
    flags = cursor.byte() if head.version == 1 else cursor.varint()
    if flags > (255 if head.version == 1 else 511):
        raise CorruptFrameError(f"flags {flags:#x}")
    return flags


def stored_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """How values of ``dtype`` stand in a frame: little-endian, booleans as uint8."""
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("<")


def run_of(size: int, run: int, first: int) -> npt.NDArray[np.int64]:
    """Coded row (or column) of each row: 0 for ``i < first``, else ``1 + (i - first) // run``."""
    return np.maximum(0, 1 + (np.arange(size) - first) // run)


def _by_rule(shape: tuple[int, ...]) -> tuple[int, int, int]:
    sizes = [1, 1, *(size for size in shape if size != 1)]
    rows, columns, slices = sizes[-2], sizes[-1], math.prod(sizes[:-2])
    return (1, slices, rows * columns) if slices > 1 and rows * columns < 256 else (slices, rows, columns)
