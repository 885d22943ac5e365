"""Compiled: one binary decision at a mixed chance, and a residual as a row of them (section 13 of the format page)."""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.bitstream.mixing import REACH, SQUASH, STRETCH, code_bit, learn

__all__ = ["INPUTS", "LOST", "NODES", "WEIGHT", "clip", "decide", "log2_of", "residual"]

NODES = 128
"""Decisions a residual can be made of: zero, sign, 27 exponents, and two bits below each."""
INPUTS = 7
WEIGHT = 1 << 22
LOST = 1 << 40
"""What `residual` returns where the bytes ran out."""


@nb.njit(nogil=True, cache=True)
def clip(x, low, high):
    """``x``, but at least ``low`` and at most ``high``."""
    return min(max(x, low), high)


@nb.njit(nogil=True, cache=True)
def log2_of(x):
    """Rounded down, of ``x >= 1``."""
    e = 0
    for step in (32, 16, 8, 4, 2, 1):
        if x >> step:
            x >>= step
            e += step
    return e


@nb.njit(nogil=True, cache=True)
def decide(counters, at, weights, shift, limit, coder, data, decode, bit):
    """One decision: mix the counters at ``at``, code, learn; -1 if the bytes ran out."""
    inputs = len(at)
    total = weights[inputs] * 256
    for i in range(inputs):
        total += weights[i] * STRETCH[counters[at[i]] >> 20]
    chance = np.int64(SQUASH[clip(total >> 16, -REACH, REACH) + REACH])
    bit = code_bit(coder, data, decode, chance, bit)
    if bit < 0:
        return bit
    error = (bit << 16) - chance
    half = 1 << (shift - 1)
    for i in range(inputs):
        weights[i] = clip(weights[i] + ((STRETCH[counters[at[i]] >> 20] * error + half) >> shift), -WEIGHT, WEIGHT)
        learn(counters, at[i], bit, limit)
    weights[inputs] = clip(weights[inputs] + ((256 * error + half) >> shift), -WEIGHT, WEIGHT)
    return bit


@nb.njit(nogil=True, cache=True)
def residual(counters, at, weights, raw, coder, data, decode, r, skip_zero):
    """Code or read a residual; LOST if the bytes ran out. ``at`` holds the contexts' places of node 0."""
    here = np.empty(INPUTS, np.int64)
    if not skip_zero:
        bit = decide(counters, at, weights[0], 16, 255, coder, data, decode, 1 if r == 0 else 0)
        if bit < 0:
            return np.int64(LOST)
        if bit:
            return np.int64(0)
    for i in range(INPUTS):
        here[i] = at[i] + 1
    negative = decide(counters, here, weights[1], 16, 255, coder, data, decode, 1 if r < 0 else 0)
    if negative < 0:
        return np.int64(LOST)
    m = abs(r)
    e = log2_of(m) if m > 0 else 0
    known = 0
    while known < 26:
        for i in range(INPUTS):
            here[i] = at[i] + 2 + known
        bit = decide(counters, here, weights[2 + known], 16, 255, coder, data, decode, 1 if e > known else 0)
        if bit < 0:
            return np.int64(LOST)
        if bit == 0:
            break
        known += 1
    found = np.int64(1)
    for place in range(known - 1, -1, -1):
        bit = (m >> place) & 1
        if place >= known - 2:
            node = 32 + known if place == known - 1 else 64 + 2 * known + (found & 1)
            for i in range(INPUTS):
                here[i] = at[i] + node
            bit = decide(counters, here, weights[node], 16, 255, coder, data, decode, bit)
        else:
            bit = code_bit(coder, data, decode, clip(np.int64(raw[32 * known + place]) >> 16, 32, 65504), bit)
            if bit >= 0:
                learn(raw, 32 * known + place, bit, 1020)
        if bit < 0:
            return np.int64(LOST)
        found = 2 * found + bit
    return -found if negative else found
