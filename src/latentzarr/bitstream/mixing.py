"""Adaptive binary coding: counters that learn, tables that turn chances into weights of evidence and back, and the coder.

What the raster mode is made of. Logistic mixing is M. Mahoney's ("Data Compression Explained", section 4.3), here with
logarithms to base 2 and tables made by integer rules. `docs/reference/format.md`, section 13.
"""

from __future__ import annotations

from math import isqrt

import numba as nb
import numpy as np
import numpy.typing as npt

__all__ = [
    "AT", "CODE", "EVEN", "HIGH", "LIKELY", "LOW", "RATES", "REACH", "SQUASH", "STRETCH",
    "code_bit", "finish", "learn", "new_coder",
]  # fmt: skip

REACH = 3071
"""Largest magnitude of an evidence: 12 octaves of odds, 256 to the octave."""
EVEN = 1 << 31
"""A counter that has seen nothing: a chance of 2**21 out of 2**22 in the high 22 bits, a count of 0 in the low 10."""
LIKELY = 4_100_000 << 10
"""A counter that has seen nothing either, and begins at a chance of 0.9775."""
LOW, HIGH, CODE, AT = 0, 1, 2, 3
"""Places in the coder's state."""


def _make_tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    one = 1 << 256
    root = 2 * one
    for _ in range(8):
        root = isqrt(root * one)
    squash = np.full(2 * REACH + 1, 32768, np.int32)
    odds = one
    for d in range(1, REACH + 1):
        odds = (odds * root) >> 256
        chance = min(65536 * odds // (odds + one), 65528)
        squash[REACH + d], squash[REACH - d] = chance, 65536 - chance
    stretch = np.searchsorted(squash, 16 * np.arange(4096) + 8).clip(0, 2 * REACH) - REACH
    return squash, stretch.astype(np.int32)


SQUASH, STRETCH = _make_tables()
"""int32, (6143,): the chance (of 65536) of an evidence of -3071 .. 3071; int32, (4096,): the evidence of a chance (of 4096)."""
RATES = (655360 // (10 * np.arange(1, 1026) + 6)).astype(np.int32)
"""int32, (1025,): how far a counter moves after so many bits, of 65536."""


@nb.njit(nogil=True, cache=True)
def learn(counters, at, bit, limit):
    """Move counter ``at`` (uint32, chance and count) towards ``bit``."""
    state = np.int64(counters[at])
    count = state & 1023
    chance = state >> 10
    if bit:
        chance += ((4194303 - chance) * RATES[count]) >> 16
    else:
        chance -= (chance * RATES[count]) >> 16
    counters[at] = (chance << 10) | min(count + 1, limit)


@nb.njit(nogil=True, cache=True)
def new_coder(data, decode):
    """State of a coder (int64, low, high, code and place in the bytes) before the first bit."""
    coder = np.zeros(4, np.int64)
    coder[HIGH] = 0xFFFFFFFF
    if decode:
        for i in range(4):
            coder[CODE] = (coder[CODE] << 8) | (np.int64(data[i]) if i < len(data) else 0)
        coder[AT] = 4
    return coder


@nb.njit(nogil=True, cache=True)
def code_bit(coder, data, decode, chance, bit):
    """Write ``bit`` to ``data`` or read one, at a chance of 1 of ``chance`` out of 65536; -1 if ``data`` is too short."""
    low, high = coder[LOW], coder[HIGH]
    span = high - low
    middle = low + (span >> 16) * chance + (((span & 65535) * chance) >> 16)
    if decode:
        bit = 1 if coder[CODE] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + 1
    while ((low ^ high) & 0xFF000000) == 0:
        at = coder[AT]
        if at >= len(data) + (4 if decode else 0):
            return -1
        if decode:
            coder[CODE] = ((coder[CODE] << 8) & 0xFFFFFFFF) | (np.int64(data[at]) if at < len(data) else 0)
        else:
            data[at] = high >> 24
        coder[AT] = at + 1
        low = (low << 8) & 0xFFFFFFFF
        high = ((high << 8) & 0xFFFFFFFF) | 255
    coder[LOW], coder[HIGH] = low, high
    return bit


@nb.njit(nogil=True, cache=True)
def finish(coder, data, decode):
    """End the code; return how many bytes were written, or should have been there; -1 if ``data`` is too short."""
    if decode:
        return coder[AT] - 3
    if coder[AT] >= len(data):
        return -1
    low, high = coder[LOW] >> 24, coder[HIGH] >> 24
    data[coder[AT]] = low + 1 if low < high else high
    return coder[AT] + 1
