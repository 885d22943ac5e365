"""Bytes, tables, words and mask planes of a frame (sections 2, 8, 9, 10 and 11): all that turns bits into integers."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import CorruptFrameError, TruncatedFrameError

__all__ = ["BitReader", "Cursor", "Words", "crc32c", "fixed_tables", "read_planes", "table_starts"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # 1EDC6F41, its bits reversed
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data: bytes, before: int = 0) -> int:
    """CRC32C of ``data``, going on from the CRC32C of what came ``before`` (section 2)."""
    crc = before ^ 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


class Cursor:
    """Reads fields from the front of some bytes (section 2).

    Parameters
    ----------
    data : bytes
    at : int
        Where the next field starts.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    @property
    def left(self) -> int:
        """Number of bytes not yet read."""
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > self.left:
            raise TruncatedFrameError(f"{count} bytes are needed at byte {self.at}, {self.left} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        """One unsigned byte."""
        return self.take(1)[0]

    def float64(self) -> float:
        """One float64."""
        return float(struct.unpack("<d", self.take(8))[0])

    def varint(self) -> int:
        """Seven bits a byte, low bits first."""
        value = 0
        for k in range(10):
            byte = self.byte()
            value |= (byte & 127) << 7 * k
            if byte < 128:
                return value
        raise CorruptFrameError("a varint has more than 10 bytes")

    def signed_varint(self) -> int:
        """A varint of `2 v`, or of `-2 v - 1` for negative `v`."""
        coded = self.varint()
        return coded >> 1 if coded & 1 == 0 else -(coded + 1 >> 1)


# ---------------------------------------------------------------------------------------------------------- 9. tables
_POWERS = np.array([1073741824, 984623403, 902905651, 827970198, 759250125, 696233590, 638447284, 585455093])


def table_starts(costs: npt.NDArray[Any]) -> Ints:
    """Starts of the 64 tokens and the total, (tables, 65), of tables given as costs, (tables, 64)."""
    c = costs.astype(np.int64)
    w = _POWERS[c & 7] >> (c >> 3)
    frequency = 1 + (w * 32704) // w.sum(axis=1, keepdims=True)
    largest = frequency.argmax(axis=1)
    frequency[np.arange(len(c)), largest] += 32768 - frequency.sum(axis=1)
    return np.concatenate([np.zeros((len(c), 1), np.int64), frequency.cumsum(axis=1)], axis=1)


def fixed_tables() -> Ints:
    """Starts of the fixed tables `F_0 .. F_63`."""
    t = np.arange(64)
    e = 4 + (t - 16 >> 1)
    x = np.where(t < 16, 0, e - 1)
    high = (((2 | (t & 1)) << np.maximum(e - 1, 0)) | (1 << np.maximum(e - 2, 0))) >> 1
    m = np.where(t < 16, (t + 1) >> 1, high)
    k = np.arange(64)[:, None]
    slope = np.array([534784, 449692, 378144, 317979])[k & 3] >> (k >> 2)
    cost = ((m * slope) >> 8) - 8 * x
    return table_starts(np.minimum(cost - cost.min(axis=1, keepdims=True), 255))


# ---------------------------------------------------------------------------------------------- 8. tokens, 10. words
class Words:
    """The states of the lanes and the words they still have to read.

    Parameters
    ----------
    states, words : array of integers
    """

    def __init__(self, states: npt.NDArray[Any], words: npt.NDArray[Any]) -> None:
        self.x = states.astype(np.int64)
        self.words = words.astype(np.int64)
        self.at = 0

    def _refill(self, lanes: Ints) -> None:
        low = lanes[self.x[lanes] < 65536]
        if self.at + len(low) > len(self.words):
            raise CorruptFrameError("the words run out")
        self.x[low] = (self.x[low] << 16) + self.words[self.at : self.at + len(low)]
        self.at += len(low)

    def _low_bits(self, lanes: Ints, k: Ints) -> Ints:
        bits = self.x[lanes] & (1 << k) - 1
        self.x[lanes] >>= k
        self._refill(lanes)
        return bits

    def segment(self, starts: Ints, table: Ints) -> Ints:
        """Decode a segment: the quanta of ``len(table)`` symbols, each with its own row of ``starts``."""
        q = np.empty(len(table), np.int64)
        for first in range(0, len(table), len(self.x)):
            rows = starts[table[first : first + len(self.x)]]
            lanes = np.arange(len(rows))
            x = self.x[lanes]
            f = x & 32767
            token = (rows[:, 1:] <= f[:, None]).sum(axis=1)  # phase 1
            start = rows[lanes, token]
            self.x[lanes] = (rows[lanes, token + 1] - start) * (x >> 15) + f - start
            self._refill(lanes)
            extra = np.where(token < 16, 0, 3 + (token - 16 >> 1))
            z = np.where(token < 16, token, (2 | token & 1) << extra)
            if extra.any():
                some = np.flatnonzero(extra > 0)  # phase 2
                z[some] |= self._low_bits(some, np.minimum(extra[some], 16))
                many = np.flatnonzero(extra > 16)  # phase 3
                z[many] |= self._low_bits(many, extra[many] - 16) << 16
            q[first : first + len(rows)] = np.where(z & 1, -(z + 1 >> 1), z >> 1)
        return q

    def finish(self) -> None:
        """Check that nothing is left after the last value."""
        if self.at != len(self.words) or (self.x != 65536).any():
            raise CorruptFrameError("the words do not end where the values do")


# ------------------------------------------------------------------------------------------------------------ 11. mask
class BitReader:
    """The binary arithmetic code, and the chances of a mask's contexts."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.low, self.high = 0, 0xFFFFFFFF
        self.at = self.code = 0
        for _ in range(4):
            self._next_byte()
        self.start_plane()

    def start_plane(self) -> None:
        """All contexts anew."""
        self.p = [32768] * 513
        self.count = [0] * 513

    def _next_byte(self) -> None:
        if self.at >= len(self.data) + 4:
            raise CorruptFrameError("the arithmetic code ends too early")
        self.code = (self.code << 8 & 0xFFFFFFFF) | (self.data[self.at] if self.at < len(self.data) else 0)
        self.at += 1

    def bit_at(self, p: int) -> int:
        """A bit that is 1 with a chance of ``p`` out of 65536."""
        r = self.high - self.low
        mid = self.low + (r >> 16) * p + ((r & 65535) * p >> 16)
        bit = int(self.code <= mid)
        if bit:
            self.high = mid
        else:
            self.low = mid + 1
        while (self.low ^ self.high) >> 24 == 0:
            self.low = self.low << 8 & 0xFFFFFFFF
            self.high = (self.high << 8 & 0xFFFFFFFF) | 255
            self._next_byte()
        return bit

    def bit(self, context: int) -> int:
        """A bit of a mask."""
        p = self.p[context]
        bit = self.bit_at(p)
        k = self.count[context] = min(self.count[context] + 1, 5)
        p += 65536 - p >> k if bit else -(p >> k)
        self.p[context] = min(max(p, 32), 65504)
        return bit

    def finish(self) -> None:
        """Check that nothing is left after the last bit."""
        if self.at - 3 != len(self.data):
            raise CorruptFrameError("the arithmetic code does not end where the values do")


def read_planes(data: bytes, kinds: list[int], shape: tuple[int, int, int]) -> dict[int, Bools]:
    """Decode the planes of ``kinds`` from the arithmetic code ``data``; each of ``shape`` (slices, rows, columns)."""
    reader = BitReader(data)
    slices, rows, columns = shape
    earlier = np.zeros(shape, bool)
    planes = {}
    for kind in kinds:
        reader.start_plane()
        plane = np.zeros(shape, bool)
        before = [[0] * (columns + 4) for _ in range(rows + 3)]  # two more on each side, so that outside is 0
        for t in range(slices):
            if t and reader.bit(512):
                plane[t] = plane[t - 1]
                continue
            now = [[0] * (columns + 4) for _ in range(rows + 3)]
            for i in range(rows):
                nn, n, here = now[i], now[i + 1], now[i + 2]
                p, ps = before[i + 2], before[i + 3] if i + 3 < len(before) else before[0]
                for j in range(2, columns + 2):
                    if not earlier[t, i, j - 2]:
                        context = here[j - 1] + 2 * here[j - 2] + 4 * n[j] + 8 * n[j - 1] + 16 * n[j + 1] + 32 * nn[j]
                        here[j] = reader.bit(context + 64 * p[j] + 128 * p[j + 1] + 256 * ps[j])
            plane[t] = np.array(now)[2 : rows + 2, 2 : columns + 2]
            before = now
        planes[kind] = plane
        earlier |= plane
    return planes
