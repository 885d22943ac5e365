"""A bundle: the coded fields of one variable at one time in one tile, one after the other behind their lengths.

It is what one chunk of a refinement array holds (`docs/reference/cube.md`, section 5). Fields stay apart so that one level can be
decoded without the others; the checksum guards all of them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c

from latentzarr.bitstream.cursor import Cursor, Writer
from latentzarr.errors import CorruptFrameError, NewerVersionError

__all__ = ["BUNDLE_VERSION", "MAX_FIELDS", "length_of", "pack_bundle", "read_bundle"]

BUNDLE_VERSION = 1
MAX_FIELDS = 2**16
_HEAD = 5


def pack_bundle(fields: Sequence[bytes]) -> bytes:
    """Lay out coded fields.

    Parameters
    ----------
    fields : sequence of bytes
        One for each channel of the variable, in the order of the channel table; empty where there is none.
    """
    out = Writer()
    out.varint(len(fields))
    for field in fields:
        out.varint(len(field))
    body = bytes(out.parts) + b"".join(fields)
    head = bytes([BUNDLE_VERSION])
    total = Writer()
    total.varint(len(body))
    return head + struct.pack("<I", _crc(head, body)) + bytes(total.parts) + body


def read_bundle(data: bytes, count: int) -> tuple[bytes, ...]:
    """The coded fields of a bundle.

    Parameters
    ----------
    data : bytes
        A chunk's bytes; what follows the bundle is padding.
    count : int
        Fields there have to be.

    Raises
    ------
    FormatError
        If the bundle is damaged, cut short, newer than this package, or holds another number of fields.
    """
    cursor = Cursor(data)
    version = cursor.byte("the bundle's version")
    if version > BUNDLE_VERSION:
        raise NewerVersionError(f"a bundle of version {version}; this package reads up to {BUNDLE_VERSION}, install a newer one")
    if version < 1:
        raise CorruptFrameError("no bundle here: this part of the store was never written")
    (crc,) = struct.unpack("<I", cursor.take(4, "the checksum"))
    body = cursor.take(cursor.varint("length of the bundle", len(data)), "the bundle")
    if crc != _crc(data[:1], body):
        raise CorruptFrameError(f"checksum mismatch in a bundle of {len(body)} bytes; it was damaged")
    inner = Cursor(body)
    found = inner.varint("number of fields", MAX_FIELDS)
    if found != count:
        raise CorruptFrameError(f"a bundle of {found} fields, expected {count}")
    lengths = [inner.varint(f"length of field {i}", len(body)) for i in range(found)]
    if sum(lengths) != len(body) - inner.at:
        raise CorruptFrameError(f"fields of {sum(lengths)} bytes in a bundle that has {len(body) - inner.at}")
    return tuple(inner.take(n, f"field {i}") for i, n in enumerate(lengths))


def length_of(head: bytes, room: int) -> int:
    """Bytes of a whole bundle, as its first 16 say; at most ``room``.

    Raises
    ------
    FormatError
        If it would be longer.
    """
    cursor = Cursor(head, min(_HEAD, len(head)))
    length = cursor.varint("length of the bundle", room)
    return min(room, cursor.at + length)


def _crc(head: bytes, body: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(head), body))
