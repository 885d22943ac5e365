"""The frame: the layout of bytes as a whole. One chunk is one frame; `docs/reference/format.md` is the law.

Reading never trusts a length: each is compared with the bytes that are there and with what the array spec allows before any
memory is taken, and the checksum is compared before anything else is read.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import google_crc32c
import numpy as np

from latentzarr.bitstream.cursor import Cursor, Writer
from latentzarr.bitstream.header import DIGEST_SIZE, DTYPES, FrameHeader, Mode, dtype_code, read_bound, stored_bound, write_bound
from latentzarr.bitstream.hierarchy_header import HierarchyHeader, LatticeHeader, Section, write_hierarchy
from latentzarr.bitstream.hierarchy_reading import read_hierarchy
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.errors import (
    CorruptFrameError,
    FormatError,
    FrameMismatchError,
    InvalidBoundError,
    NewerVersionError,
)

__all__ = [
    "FORMAT_VERSION",
    "MAGIC",
    "FrameHeader",
    "HierarchyHeader",
    "LatticeHeader",
    "Mode",
    "Section",
    "dtype_code",
    "pack_frame",
    "parse_frame",
    "read_header",
    "section_checks_out",
    "stored_bound",
]

MAGIC = b"Lz"
FORMAT_VERSION = 2
MAX_BYTES_WITHOUT_SPEC = 2**31
_CHECKSUM_AT = {1: 22, 2: 5}
_FIRST = struct.Struct("<BBBd8s")  # version 1, behind magic and version: mode, dtype, bound kind and value, digest
_KINDS = (BoundKind.LOSSLESS, BoundKind.ABSOLUTE, BoundKind.RELATIVE, BoundKind.NONE)
_FORTRAN = 0x80
_BIG_ENDIAN = 0x40


def _crc(head: bytes, rest: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(head), rest))


def pack_frame(header: FrameHeader, payload: bytes, hierarchy: HierarchyHeader | None = None) -> bytes:
    """Lay out a frame.

    Parameters
    ----------
    header : FrameHeader
    payload : bytes
        What follows the tables: a mode's own bytes; for a hierarchy, lane states and words; for RASTER, the code.
    hierarchy : HierarchyHeader, optional
        For hierarchy modes. The checks of its sections are computed here.
    """
    code = dtype_code(header.dtype) | (_FORTRAN if header.fortran else 0) | (_BIG_ENDIAN if header.big_endian else 0)
    kind = _KINDS.index(header.bound.kind)
    head = MAGIC + bytes([header.version])
    out = Writer()
    if header.version == 1:
        head += _FIRST.pack(header.mode, code, kind, header.bound.value, header.digest.ljust(8, b"\0"))
        _write_shape(out, header.shape)
    else:
        head += bytes([header.mode | kind << 4, code])
        _write_shape(out, header.shape)
        write_bound(out, header.bound, header.dtype)
        out.parts += header.digest[:DIGEST_SIZE] if header.mode.is_neural else b""
    if hierarchy is not None:
        write_hierarchy(out, header, hierarchy)
    body = bytes(out.parts)
    if hierarchy is not None and len(hierarchy.sections) > 1:
        body = _fill_checks(head, body, payload, hierarchy)
    return head + struct.pack("<I", _crc(head, body + payload)) + body + payload


def _write_shape(out: Writer, shape: tuple[int, ...]) -> None:
    out.varint(len(shape))
    for n in shape:
        out.varint(n)


def _fill_checks(head: bytes, body: bytes, payload: bytes, h: HierarchyHeader) -> bytes:
    """Put the low 16 bits of the CRC32C of everything up to each section's end (checks themselves as zero) in place."""
    states = 4 * h.lanes
    ends = np.cumsum([s.words for s in h.sections])
    checks = [_crc(head, body + payload[: states + 2 * int(words)]) & 0xFFFF for words in ends]
    result = bytearray(body)
    for at, check in zip(_check_places(body, h), checks, strict=True):
        result[at : at + 2] = struct.pack("<H", check)
    return bytes(result)


def _check_places(body: bytes, h: HierarchyHeader) -> list[int]:
    places, at = [], len(body)
    for section in reversed(h.sections):
        places.append(at - 2)
        at -= 2 + max(1, (section.words.bit_length() + 6) // 7)
    return places[::-1]


def read_header(data: bytes, *, verify: bool = True) -> FrameHeader:
    """Read what a frame says about itself.

    Parameters
    ----------
    data : bytes
        A whole frame; or, with ``verify=False``, at least its header.

    Raises
    ------
    FormatError
        `TruncatedFrameError`, `NewerVersionError` or `CorruptFrameError`.
    """
    return _read_header(Cursor(data), verify)


def _read_header(cursor: Cursor, verify: bool) -> FrameHeader:
    data = cursor.data
    if data[:2] != MAGIC[: len(data)]:
        raise FormatError(f"not a latentzarr frame: it starts with {data[:2]!r}, not {MAGIC!r}")
    version = cursor.take(3, "the frame header")[2]
    if version > FORMAT_VERSION:
        raise NewerVersionError(
            f"the frame has format version {version}, this package reads up to {FORMAT_VERSION}; install a newer latentzarr"
        )
    if version < 1:
        raise CorruptFrameError(f"there is no format version {version}")
    head = cursor.take(_CHECKSUM_AT[version] - 3, "the frame header")
    (crc,) = struct.unpack("<I", cursor.take(4, "the checksum"))
    if verify and crc != _crc(data[: cursor.at - 4], data[cursor.at :]):
        raise CorruptFrameError(f"checksum mismatch in a frame of {len(data)} bytes; it was damaged or cut short")
    value, digest = 0.0, b""
    if version == 1:
        mode, code, kind, value, digest = _FIRST.unpack(head)
    else:
        mode, kind, code = head[0] & 15, head[0] >> 4, head[1]
    try:
        dtype = np.dtype(DTYPES[code & ~(_FORTRAN | _BIG_ENDIAN)])
        found = Mode(mode)
        shape = _read_shape(cursor, dtype)
        if version > 1:
            value = read_bound(cursor, _KINDS[kind], dtype)
            digest = cursor.take(DIGEST_SIZE, "the model digest") if found.is_neural else b""
        bound = ErrorBound(_KINDS[kind], value)
    except (InvalidBoundError, ValueError, IndexError) as error:
        raise CorruptFrameError(
            f"impossible header (version {version}, mode {mode}, dtype {code}, bound {kind}): {error}"
        ) from error
    if version < found.version:
        raise CorruptFrameError(f"format version {version} has no mode {mode}")
    return FrameHeader(found, dtype, bool(code & _FORTRAN), bound, digest, shape, bool(code & _BIG_ENDIAN), len(data), version)


def _read_shape(cursor: Cursor, dtype: np.dtype[Any]) -> tuple[int, ...]:
    ndim = cursor.varint("number of dimensions", 64)
    shape = tuple(cursor.varint(f"size of dimension {i}", 2**40) for i in range(ndim))
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize >= 2**62:
        raise CorruptFrameError(f"the frame claims an impossible shape {shape}")
    return shape


def parse_frame(
    data: bytes, shape: tuple[int, ...] | None = None, dtype: np.dtype[Any] | None = None, *, verify: bool = True
) -> tuple[FrameHeader, HierarchyHeader | None, int]:
    """Read a frame's header and tables and compare them with the array spec.

    Parameters
    ----------
    data : bytes
    shape, dtype : optional
        What the array spec says the chunk is. Without them the frame may claim at most 2 GiB.
    verify : bool
        Compare the checksum; False for a prefix, whose sections carry checks of their own.

    Returns
    -------
    header : FrameHeader
    hierarchy : HierarchyHeader or None
    payload : int
        Where the payload starts in ``data``.

    Raises
    ------
    FormatError
    """
    cursor = Cursor(data)
    header = _read_header(cursor, verify)
    if shape is not None and header.shape != tuple(shape):
        raise FrameMismatchError(f"the frame holds a chunk of shape {header.shape}, the array asks for {tuple(shape)}")
    if dtype is not None and header.dtype != dtype.newbyteorder("="):
        raise FrameMismatchError(f"the frame holds {header.dtype}, the array asks for {dtype}")
    if shape is None and header.count * header.dtype.itemsize > MAX_BYTES_WITHOUT_SPEC:
        raise CorruptFrameError(f"the frame claims a chunk of shape {header.shape}, above {MAX_BYTES_WITHOUT_SPEC} bytes")
    hierarchy = read_hierarchy(cursor, header, whole=verify) if header.mode.is_hierarchy else None
    return header, hierarchy, cursor.at


def section_checks_out(data: bytes, payload: int, header: HierarchyHeader, count: int) -> bool:
    """Whether the first ``count`` sections of a frame's prefix carry the right check.

    Parameters
    ----------
    data : bytes
        At least everything up to the end of section ``count``.
    payload : int
        Where the payload starts.
    """
    start = _CHECKSUM_AT[data[2]]
    body = bytearray(data[start + 4 : payload])
    for at in _check_places(bytes(body), header):
        body[at : at + 2] = b"\0\0"
    end = payload + 4 * header.lanes + 2 * sum(s.words for s in header.sections[:count])
    return _crc(data[:start], bytes(body) + data[payload:end]) & 0xFFFF == header.sections[count - 1].check
