"""Code a chunk value by value in raster order: predict from what is known, then binary decisions at mixed chances.

One function walks for encoder and decoder alike, so that they cannot differ. `docs/reference/format.md`, section 13; names
here are those of that section.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.bitstream.mixing import EVEN, LIKELY, code_bit, finish, learn, new_coder
from latentzarr.codec.kernels.decisions import INPUTS, LOST, NODES, WEIGHT, clip, decide, log2_of, residual

__all__ = ["ABOVE", "BELOW", "LEFT", "RIGHT", "walk_raster"]

ABOVE, BELOW, LEFT, RIGHT = 2, 1, 2, 3
"""Rows and columns that stand around every slice."""
SIZES = np.array([96, 144, 96, 324, 324, 384, 768])
FIRSTS = np.concatenate([[0], np.cumsum(SIZES)]) * NODES
CENTRES = 10
TAPS = 21
COPY_SIZES = np.array([1024, 1024, 384, 4096])
COPY_FIRSTS = np.concatenate([[0], np.cumsum(COPY_SIZES)])
LIMIT = 1 << 30
FAR = 1 << 24


@nb.njit(nogil=True, cache=True)
def _size(x):
    """Quarter octaves of ``x >= 0``: 0 for 0, 1 for 1, 5 for 2, 9 for 4."""
    if x <= 0:
        return 0
    e = log2_of(x)
    return 4 * e + 1 + (((x >> (e - 2)) if e >= 2 else (x << (2 - e))) & 3)


@nb.njit(nogil=True, cache=True)
def _signed(d):
    """A difference in nine steps: 4 for 0, then 1, 2, 3 to 5, and more."""
    a = abs(d)
    step = a if a <= 2 else (3 if a <= 5 else 4)
    return 4 + step if d >= 0 else 4 - step


@nb.njit(nogil=True, cache=True)
def _frame_of(k, rows, columns):
    """Give a finished slice its surroundings: each place that of the nearest value."""
    for y in range(ABOVE, ABOVE + rows):
        for j in range(LEFT):
            k[y, j] = k[y, LEFT]
        for j in range(RIGHT):
            k[y, LEFT + columns + j] = k[y, LEFT + columns - 1]
    for j in range(columns + LEFT + RIGHT):
        k[0, j] = k[1, j] = k[ABOVE, j]
        k[ABOVE + rows, j] = k[ABOVE + rows - 1, j]


@nb.njit(nogil=True, cache=True)
def walk_raster(k, missing, any_missing, data, decode):
    """Write the values of ``k`` to ``data``, or read them from it.

    ``k``: int32, (1 + slices, 2 + rows + 1, 2 + columns + 3), the first of them zeros, with values inside their surroundings;
    ``missing``: uint8, (slices, rows * columns). Returns the number of bytes, -1 if they ran out.
    """
    slices, rows, columns = k.shape[0] - 1, k.shape[1] - ABOVE - BELOW, k.shape[2] - LEFT - RIGHT
    coder = new_coder(data, decode)
    counters = np.full(FIRSTS[INPUTS], EVEN, np.uint32)
    weights = np.full((24, NODES, INPUTS + 1), 19660, np.int32)
    raw = np.full(32 * 32, EVEN, np.uint32)
    copies = np.full(3 * COPY_FIRSTS[4], EVEN, np.uint32)
    copy_weights = np.full((3, 64, 5), 22937, np.int32)
    worth = np.full((3, 1024), 32768, np.int64)
    level = np.full(4096, LIKELY, np.uint32)
    bias = np.zeros(324, np.int64)
    x = np.zeros(TAPS, np.int64)
    w = np.zeros((2, TAPS), np.int64)
    centre = np.zeros(CENTRES, np.int64)
    errors = np.zeros((2, rows + 3, columns + 5), np.int32)
    misses = np.zeros((2, CENTRES, columns + 5), np.int32)
    at = np.zeros(INPUTS, np.int64)
    copy_at = np.zeros(4, np.int64)
    for t in range(slices):
        now, before, earlier = k[t + 1], k[t], k[max(t - 1, 0)]
        error, error_before = errors[t & 1], errors[1 - (t & 1)]
        error[:] = 0
        misses[:] = 0
        for y in range(ABOVE, ABOVE + rows):
            miss, miss_above = misses[y & 1], misses[1 - (y & 1)]
            start = now[y - 1, LEFT] if y > ABOVE else (before[y, LEFT] if t else np.int32(0))
            now[y, 0] = now[y, 1] = start
            if y > ABOVE:
                for j in range(RIGHT):
                    now[y - 1, LEFT + columns + j] = now[y - 1, LEFT + columns - 1]
            else:
                now[0, 0] = now[0, 1] = now[1, 0] = now[1, 1] = start
            for c in range(LEFT, LEFT + columns):
                west = np.int64(now[y, c - 1])
                if y == ABOVE:
                    for j in range(3):
                        now[0, c + j] = now[1, c + j] = west
                north = np.int64(now[y - 1, c])
                if any_missing and missing[t, (y - ABOVE) * columns + c - LEFT]:
                    first = c == LEFT
                    beside = y == ABOVE or (not first and missing[t, (y - ABOVE) * columns + c - LEFT - 1] == 0)
                    now[y, c] = west if beside else north
                    error[y, c] = error[y - 1, c] if first else error[y, c - 1]
                    for i in range(CENTRES):
                        miss[i, c] = miss_above[i, c]
                    continue
                ww, nw, ne = np.int64(now[y, c - 2]), np.int64(now[y - 1, c - 1]), np.int64(now[y - 1, c + 1])
                nn, nee, nww = np.int64(now[y - 2, c]), np.int64(now[y - 1, c + 2]), np.int64(now[y - 1, c - 2])
                nne, nnw = np.int64(now[y - 2, c + 1]), np.int64(now[y - 2, c - 1])
                p, pw, pn = np.int64(before[y, c]), np.int64(before[y, c - 1]), np.int64(before[y - 1, c])
                pe, ps = np.int64(before[y, c + 1]), np.int64(before[y + 1, c])
                value = np.int64(now[y, c])
                # ------------------------------------------------------------------------------------ level ground
                flat = west == north and west == nw and west == ne and west == ww
                if flat:
                    context = (p == pw) | (pn == pw) << 1 | (pe == pw) << 2 | (ps == pw) << 3 | (nn == west) << 4
                    context |= (nee == west) << 5 | (nww == west) << 6 | (p == west) << 7 | (nne == west) << 8
                    context |= (nnw == west) << 9 | (west == 0) << 10 | (t == 0) << 11
                    chance = clip(np.int64(level[context]) >> 16, 4, 65532)
                    bit = code_bit(coder, data, decode, chance, 1 if value == west else 0)
                    if bit < 0:
                        return -1
                    learn(level, context, bit, 1020)
                    if bit:
                        now[y, c] = west
                        error[y, c] = 0
                        for i in range(CENTRES):
                            miss[i, c] = miss_above[i, c] >> 1
                        continue
                # ---------------------------------------------------------------------------------------- prediction
                taps = 9
                both = west + north
                x[0], x[1], x[2], x[3], x[4] = 2 * west, 2 * nw, 2 * ne, 2 * ww, 2 * nn
                x[5], x[6], x[7], x[8] = 2 * nne, 2 * nee, 2 * nww, 2 * nnw
                for i in range(9):
                    x[i] -= both
                if t > 0:
                    taps = 17
                    x[9], x[10], x[11], x[12] = 2 * p, 2 * pw, 2 * pe, 2 * ps
                    x[13], x[14] = 2 * np.int64(before[y - 1, c - 1]), 2 * np.int64(before[y - 1, c + 1])
                    x[15], x[16] = 2 * np.int64(before[y + 1, c - 1]), 2 * np.int64(before[y + 1, c + 1])
                    for i in range(9, 17):
                        x[i] -= pw + pn
                if t > 1:
                    taps = 21
                    x[17], x[18] = 2 * np.int64(earlier[y, c]), 2 * np.int64(earlier[y, c - 1])
                    x[19], x[20] = 2 * np.int64(earlier[y, c + 1]), 2 * np.int64(earlier[y + 1, c])
                    for i in range(17, 21):
                        x[i] -= np.int64(earlier[y, c - 1]) + np.int64(earlier[y - 1, c])
                energy = np.int64(64)
                first_sum = second_sum = np.int64(0)
                for i in range(taps):
                    energy += x[i] * x[i]
                    first_sum += w[0, i] * x[i]
                    second_sum += w[1, i] * x[i]
                base = 8 * both
                centre[0] = clip(base + (first_sum >> 13), -LIMIT, LIMIT)
                centre[1] = clip(base + (second_sum >> 13), -LIMIT, LIMIT)
                centre[2], centre[3], centre[4] = 16 * west, 16 * north, 16 * (west + north - nw)
                centre[5], centre[6] = 16 * (west + ne - north), 16 * (north + north - nn)
                centres = 8
                if t > 0:
                    centres = 10
                    centre[7], centre[8], centre[9] = 16 * (west + p - pw), 16 * (north + p - pn), 16 * p
                else:
                    centre[7] = 4 * (west + north + ne + nw)
                total, moved = np.int64(0), np.int64(0)
                for i in range(centres):
                    near = 2 + 2 * np.int64(miss_above[i, c]) + miss_above[i, c - 1] + miss_above[i, c + 1]
                    near += 2 * np.int64(miss[i, c - 1]) + miss[i, c - 2]
                    inverse = (1 << 25) // near
                    share = ((inverse * inverse) >> 20) + 1
                    total += share
                    moved += share * (centre[i] - base)
                error_w, error_n = np.int64(error[y, c - 1]), np.int64(abs(error[y - 1, c]))
                size_w, size_ww = abs(error_w), np.int64(abs(error[y, c - 2]))
                size_nw, size_ne = np.int64(abs(error[y - 1, c - 1])), np.int64(abs(error[y - 1, c + 1]))
                restless = 2 * size_w + 2 * error_n + size_nw + size_ne + size_ww + np.int64(abs(error[y - 2, c]))
                unrest = min(_size(restless >> 1), 95)
                slope = _size(abs(west - nw) + abs(north - nw) + abs(north - ne) + abs(west - ww) + abs(north - nn)) >> 1
                past = np.int64(0)
                if t > 0:
                    past = 2 * np.int64(abs(error_before[y, c])) + abs(error_before[y, c + 1]) + abs(error_before[y + 1, c])
                    past = clip(np.int64(_size(past)) >> 2, 0, 11)
                calm = min(unrest >> 4, 3)
                place = (9 * _signed(west - north) + _signed(ne - north)) * 4 + calm
                prediction = clip(base + moved // total + (bias[place] >> 12), -LIMIT, LIMIT)
                nearest = (prediction + 8) >> 4
                # -------------------------------------------------------------------------------------------- copies
                same = (west == north) | (west == nw) << 1 | (north == nw) << 2 | (north == ne) << 3 | (west == ww) << 4
                same |= (north == nn) << 5 | flat << 6
                like = (p == pw) | (p == pn) << 1 | (p == pe) << 2 | (p == west) << 3 | (p == north) << 4
                like |= (pw == west) << 5 | (pn == north) << 6 | (pe == ne) << 7
                ground = 8 * same + min(unrest >> 3, 7)
                excluded = flat and nearest == west
                copied = False
                asked = 0
                for which in range(3):
                    if which == 0:
                        known = west
                        if flat:
                            continue
                    elif which == 1:
                        known = north
                        if north == west:
                            continue
                    else:
                        known = p
                        if t == 0 or p == west or p == north:  # noqa: SIM109 - compiled
                            continue
                    if worth[which, ground] <= 2048:
                        continue
                    asked |= 1 << which
                    apart = abs(16 * known - prediction)
                    first = which * COPY_FIRSTS[4]
                    copy_at[0] = first + ground
                    copy_at[1] = first + COPY_FIRSTS[1] + 4 * like + (same & 3)
                    copy_at[2] = first + COPY_FIRSTS[2] + 4 * unrest + min(apart >> 3, 3)
                    copy_at[3] = first + COPY_FIRSTS[3] + 256 * min(slope, 15) + 8 * min(_size(apart), 31) + min(past, 7)
                    bit = decide(
                        copies, copy_at, copy_weights[which, same & 63], 14, 255, coder, data, decode, 1 if value == known else 0
                    )
                    if bit < 0:
                        return -1
                    if bit:
                        value = known
                        copied = True
                        break
                    excluded = excluded or nearest == known
                # ------------------------------------------------------------------------------------------ residual
                if not copied:
                    at[0] = unrest
                    at[1] = 12 * min(slope >> 1, 11) + min(_size(size_w) >> 2, 11)
                    at[2] = 8 * past + min(unrest >> 3, 7)
                    at[3] = (9 * _signed(west - nearest) + _signed(north - nearest)) * 4 + calm
                    at[4] = (9 * _signed((p if t else ne) - nearest) + _signed((error_w + 8) >> 4)) * 4 + calm
                    at[5] = 16 * min(unrest, 23) + ((prediction + 8) & 15)
                    at[6] = 24 * min(_size(size_w + size_ww) >> 1, 31) + min(_size(error_n + size_ne + size_nw) >> 1, 23)
                    for i in range(INPUTS):
                        at[i] = FIRSTS[i] + NODES * at[i]
                    r = residual(counters, at, weights[min(unrest >> 2, 23)], raw, coder, data, decode, value - nearest, excluded)
                    if r == LOST:
                        return -1
                    value = clip(nearest + r, -(1 << 25), 1 << 25)
                # -------------------------------------------------------------------------------------------- lessons
                for which in range(3):
                    if which == 0:
                        known, there = west, not flat
                    elif which == 1:
                        known, there = north, north != west
                    else:
                        known, there = p, t > 0 and p != west and p != north
                    if there and (asked >> which & 1 or not copied):
                        worth[which, ground] += (((value == known) << 16) - worth[which, ground]) >> 5
                now[y, c] = value
                missed = clip(16 * value - prediction, -FAR, FAR)
                error[y, c] = missed
                bias[place] = clip(bias[place] + (missed << 6), -(1 << 40), 1 << 40)
                for i in range(centres):
                    miss[i, c] = min(abs(16 * value - centre[i]), 1 << 19)
                slow = ((16 * value - centre[0]) << 20) // energy
                fast = ((16 * value - centre[1]) << 20) // energy
                for i in range(taps):
                    w[0, i] = clip(w[0, i] + ((slow * x[i]) >> 14), -WEIGHT, WEIGHT)
                    w[1, i] = clip(w[1, i] + ((fast * x[i]) >> 13), -WEIGHT, WEIGHT)
        _frame_of(now, rows, columns)
    return finish(coder, data, decode)
