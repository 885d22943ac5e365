"""Bundles: what goes in comes out, and damaged or foreign bytes are refused, never trusted."""

import contextlib
import struct

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentzarr.bitstream.cursor import Writer
from latentzarr.cube.bundle import BUNDLE_VERSION, MAX_FIELDS, length_of, pack_bundle, read_bundle
from latentzarr.errors import FormatError, NewerVersionError

FIELDS = [b"", b"\x01abc", b"", bytes(range(200)) * 2, b"x"]


def packed(*numbers, body=b"", version=1):
    """A bundle of which every number can be a lie, its checksum right."""
    inner = Writer()
    for n in numbers:
        inner.varint(n)
    body = bytes(inner.parts) + body
    outer = Writer()
    outer.varint(len(body))
    head = bytes([version])
    crc = google_crc32c.extend(google_crc32c.value(head), body)
    return head + struct.pack("<I", crc) + bytes(outer.parts) + body


@given(fields=st.lists(st.binary(max_size=300), max_size=20), padding=st.integers(0, 40))
def test_what_goes_in_comes_out(fields, padding):
    data = pack_bundle(fields)
    assert read_bundle(data + bytes(padding), len(fields)) == tuple(fields)
    assert length_of((data + bytes(padding))[:16], len(data) + padding) == len(data)


def test_every_flipped_bit_and_every_cut_is_noticed():
    data = pack_bundle(FIELDS)
    for at in range(len(data)):
        with pytest.raises(FormatError):
            read_bundle(data[:at], len(FIELDS))
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            with pytest.raises(FormatError):
                read_bundle(bytes(bad) + bytes(8), len(FIELDS))


def test_never_written_newer_and_other_counts():
    with pytest.raises(FormatError, match="never written"):
        read_bundle(bytes(100), 3)
    with pytest.raises(NewerVersionError, match="install a newer"):
        read_bundle(packed(0, version=BUNDLE_VERSION + 1), 0)
    with pytest.raises(FormatError, match="expected 3"):
        read_bundle(pack_bundle(FIELDS), 3)
    with pytest.raises(FormatError):
        read_bundle(b"", 0)


@pytest.mark.parametrize(
    "data",
    [
        packed(MAX_FIELDS + 1),
        packed(2**60),
        packed(2, 5, 5, body=b"123456789"),  # one byte short
        packed(2, 5, 3, body=b"123456789"),  # one too many
        packed(2, 2**60, 1, body=b"1"),
        packed(2, 1),
        packed(2),
    ],
)
def test_numbers_that_lie_under_a_right_checksum(data):
    with pytest.raises(FormatError):
        read_bundle(data, 2)


@given(data=st.binary(max_size=60), count=st.integers(0, 5))
def test_any_bytes(data, count):
    try:
        found = read_bundle(data, count)
    except FormatError:
        return
    assert len(found) == count


@given(data=st.binary(max_size=16), room=st.integers(0, 2**20))
def test_a_length_is_never_more_than_there_is_room(data, room):
    with contextlib.suppress(FormatError):
        assert length_of(data, room) <= room
