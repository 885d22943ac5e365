"""Compiled: latents value by value, each a row of binary decisions at mixed chances.

There is nothing to predict (the transform has taken what is alike); what helps is how large a latent is likely to be. That is
learned from its plane so far, from the plane before or the same plane one time earlier, from how lively its place has been in
the planes before, and from its neighbours. One function walks for encoder and decoder alike, so that they cannot differ.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.bitstream.mixing import EVEN, finish, new_coder
from latentzarr.codec.kernels.decisions import INPUTS, LOST, NODES, log2_of, residual

__all__ = ["walk_latents"]

SIZES = np.array([64, 512, 512, 768, 1296, 2048, 2048])
FIRSTS = np.concatenate([[0], np.cumsum(SIZES)]) * NODES
PRIOR = 24  # values that the mean of an earlier plane counts for
USUAL = 256
FULLEST = 16 * USUAL


@nb.njit(nogil=True, cache=True)
def _size(x):
    """Quarter octaves of ``x >= 0``: 0 for 0, 1 for 1, 5 for 2, 9 for 4."""
    if x <= 0:
        return 0
    e = log2_of(x)
    return 4 * e + 1 + (((x >> (e - 2)) if e >= 2 else (x << (2 - e))) & 3)


@nb.njit(nogil=True, cache=True)
def _sign(v):
    return 0 if v == 0 else (1 if v > 0 else 2)


@nb.njit(nogil=True, cache=True)
def walk_latents(k, data, decode):
    """Write the values of ``k`` to ``data``, or read them from it.

    ``k``: int32, (times, planes, rows, columns). Returns the number of bytes, -1 if they ran out.
    """
    times, planes, rows, columns = k.shape
    coder = new_coder(data, decode)
    counters = np.full(FIRSTS[INPUTS], EVEN, np.uint32)
    weights = np.full((32, NODES, INPUTS + 1), 19660, np.int32)
    raw = np.full(32 * 32, EVEN, np.uint32)
    at = np.zeros(INPUTS, np.int64)
    means = np.zeros(planes, np.int64)  # of the planes one time earlier, in 1/256
    lively = np.empty((rows, columns), np.int64)
    for t in range(times):
        lively[:] = USUAL
        before = np.int64(8 * USUAL)
        for c in range(planes):
            if t > 0:
                before = (3 * means[c] + before) >> 2 if c > 0 else means[c]
            total, seen = np.int64(0), 0
            for y in range(rows):
                for x in range(columns):
                    here = lively[y, x]
                    west = north = northwest = northeast = wwest = past = around = np.int64(0)
                    beside = lively[y, x - 1] if x > 0 else here
                    beside += lively[y - 1, x] if y > 0 else here
                    beside += lively[y, x + 1] if x + 1 < columns else here
                    beside += lively[y + 1, x] if y + 1 < rows else here
                    if x > 0:
                        west = np.int64(k[t, c, y, x - 1])
                    if x > 1:
                        wwest = np.int64(k[t, c, y, x - 2])
                    if y > 0:
                        north = np.int64(k[t, c, y - 1, x])
                        if x > 0:
                            northwest = np.int64(k[t, c, y - 1, x - 1])
                        if x + 1 < columns:
                            northeast = np.int64(k[t, c, y - 1, x + 1])
                    if t > 0:
                        past = np.int64(k[t - 1, c, y, x])
                        around = 2 * abs(past)
                        if x + 1 < columns:
                            around += abs(np.int64(k[t - 1, c, y, x + 1]))
                        if y + 1 < rows:
                            around += abs(np.int64(k[t - 1, c, y + 1, x]))
                    usual = (total * USUAL + before * PRIOR) // (seen + PRIOR)
                    level = min(_size(usual), 47)
                    likely = min(_size((usual * (here + (beside >> 2))) >> 9), 63)
                    near = 2 * abs(west) + 2 * abs(north) + abs(northwest) + abs(northeast) + abs(wwest)
                    close = min(_size(near) >> 1, 15)
                    at[0] = likely
                    at[1] = 16 * min(level >> 1, 31) + close
                    at[2] = 16 * (likely >> 1) + close
                    at[3] = 24 * (likely >> 1) + min(_size(around) >> 1, 23)
                    at[4] = 48 * (9 * _sign(west) + 3 * _sign(north) + _sign(past)) + level
                    at[5] = min(c, 2047)
                    at[6] = 32 * (64 * y // rows) + min(level >> 1, 31)
                    for i in range(INPUTS):
                        at[i] = FIRSTS[i] + NODES * at[i]
                    value = np.int64(k[t, c, y, x])
                    value = residual(counters, at, weights[likely >> 1], raw, coder, data, decode, value, False)
                    if value == LOST:
                        return -1
                    k[t, c, y, x] = value
                    size = abs(value)
                    total += size
                    seen += 1
                    if usual > 0:
                        share = min(size * 65536 // (usual + 8), FULLEST)
                        lively[y, x] = here + (((share - here) * min(usual + 16, USUAL)) >> 13)
            means[c] = before = (total * USUAL) // (rows * columns)
    return finish(coder, data, decode)
