"""Compiled: the 32-bit integers that inputs are made with, and the rows of scratch in which a block's values stand."""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.codec.kernels.neighbours import BLOCK, padded

__all__ = [
    "BEFORE",
    "EXPONENT",
    "FACTOR",
    "HERE",
    "I32",
    "LIMIT",
    "MANTISSA",
    "MIDDLE",
    "MISSING",
    "MISSING0",
    "MISSING1",
    "OFFSET",
    "OTHER",
    "SCRATCH_ROWS",
    "STAND_IN",
    "TEMPORAL",
    "THERE",
    "clip",
    "divided",
    "mean",
    "row_of_scratch",
    "scale_of",
]

I32 = np.int32
LIMIT = I32(1 << 25)
STAND_IN = I32((1 << 30) - 1)
"""Largest magnitude of what stands for a missing value: with it sums and differences of two values fit in 32 bits."""

# Rows of the scratch: 16 details, 16 details of the reference, and what is named here.
BEFORE = 16
EXPONENT, MANTISSA, FACTOR, OFFSET, OTHER, TEMPORAL, MIDDLE, MISSING0, MISSING1, HERE, THERE = range(32, 43)
MISSING = 43
"""Row of the scratch that says which values are missing."""
SCRATCH_ROWS = 44


@nb.njit(nogil=True, cache=True, inline="always")
def clip(v, low, high):
    """``v`` limited to ``low .. high``."""
    return I32(min(max(v, low), high))


@nb.njit(nogil=True, cache=True, inline="always")
def mean(a, b):
    """The mean of two, halves upwards."""
    return I32(I32(I32(a + b) + I32(1)) >> I32(1))


@nb.njit(nogil=True, cache=True, inline="always")
def _bit_length(v):
    """floor(log2(v)), 0 for 0; written without branches so that it vectorises."""
    e = I32(I32(v > I32(0xFFFF)) << I32(4))
    v = I32(v >> (e & I32(31)))
    part = I32(I32(v > I32(0xFF)) << I32(3))
    v = I32(v >> (part & I32(31)))
    e = I32(e | part)
    part = I32(I32(v > I32(0xF)) << I32(2))
    v = I32(v >> (part & I32(31)))
    e = I32(e | part)
    part = I32(I32(v > I32(0x3)) << I32(1))
    v = I32(v >> (part & I32(31)))
    return I32(e | part | I32(v > I32(1)))


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def scale_of(spread, count, exponent, mantissa):
    """Split each spread into exponent and 12-bit mantissa, without its leading bit."""
    for k in range(padded(count)):
        s = spread[k]
        e = _bit_length(s)
        down, up = I32(max(I32(e - I32(11)), I32(0))), I32(max(I32(I32(11) - e), I32(0)))
        exponent[k] = e
        mantissa[k] = I32(I32(I32(s >> (down & I32(31))) << (up & I32(31))) - I32(2048))


@nb.njit(nogil=True, cache=True, inline="always")
def row_of_scratch(work, row):
    """The values of a block in one row of flat scratch."""
    return work[row * BLOCK : (row + 1) * BLOCK]


@nb.njit(nogil=True, cache=True, inline="always")
def divided(v, down, up, factor):
    """``1024 * v / spread`` as the format rounds it."""
    v = I32(I32(v >> (down & I32(31))) << (up & I32(31)))
    return I32(I32(I32(v * factor) + I32(8192)) >> I32(14))
