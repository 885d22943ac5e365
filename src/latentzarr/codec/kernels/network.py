"""Compiled: the integer network over a pass, block by block, to centres and classes (format page, section 7).

Everything is integer arithmetic: values in float32 are integers below 2**24, so that any order of summation, fused or not, gives
the same bits.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.codec.kernels.inputs import gather, mean_of
from latentzarr.codec.kernels.neighbours import BLOCK, padded
from latentzarr.codec.kernels.scratch import MISSING, SCRATCH_ROWS, STAND_IN

__all__ = ["dense", "predict_pass", "predict_values"]

_F32 = np.float32


@nb.njit(nogil=True, cache=True, fastmath={"contract"}, no_cpython_wrapper=True)
def _pair(x, w, b, o, inputs, count, out):
    """Two outputs; only for the last layer, which has no more."""
    a, c = out[o], out[o + 1]
    wa, wc = w[o], w[o + 1]
    for k in range(count):
        a[k] = b[o]
        c[k] = b[o + 1]
    for i in range(0, inputs, 4):
        a0, a1, a2, a3 = wa[i], wa[i + 1], wa[i + 2], wa[i + 3]
        c0, c1, c2, c3 = wc[i], wc[i + 1], wc[i + 2], wc[i + 3]
        x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        for k in range(count):
            v0, v1, v2, v3 = x0[k], x1[k], x2[k], x3[k]
            a[k] = a[k] + a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3
            c[k] = c[k] + c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3


@nb.njit(nogil=True, cache=True, fastmath={"contract"}, no_cpython_wrapper=True)
def _four(x, w, b, o, inputs, count, out):
    """Four outputs, four inputs at a time: what the registers hold, and each input is loaded once for four products."""
    a, c, e, g = out[o], out[o + 1], out[o + 2], out[o + 3]
    wa, wc, we, wg = w[o], w[o + 1], w[o + 2], w[o + 3]
    ba, bc, be, bg = b[o], b[o + 1], b[o + 2], b[o + 3]
    odd = inputs & 3
    if odd == 0:
        for k in range(count):
            a[k] = ba
            c[k] = bc
            e[k] = be
            g[k] = bg
    else:
        x0 = x[0]
        a0, c0, e0, g0 = wa[0], wc[0], we[0], wg[0]
        for k in range(count):
            v = x0[k]
            a[k] = ba + a0 * v
            c[k] = bc + c0 * v
            e[k] = be + e0 * v
            g[k] = bg + g0 * v
        for i in range(1, odd):
            x0 = x[i]
            a0, c0, e0, g0 = wa[i], wc[i], we[i], wg[i]
            for k in range(count):
                v = x0[k]
                a[k] += a0 * v
                c[k] += c0 * v
                e[k] += e0 * v
                g[k] += g0 * v
    for i in range(odd, inputs, 4):
        a0, a1, a2, a3 = wa[i], wa[i + 1], wa[i + 2], wa[i + 3]
        c0, c1, c2, c3 = wc[i], wc[i + 1], wc[i + 2], wc[i + 3]
        e0, e1, e2, e3 = we[i], we[i + 1], we[i + 2], we[i + 3]
        g0, g1, g2, g3 = wg[i], wg[i + 1], wg[i + 2], wg[i + 3]
        x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        for k in range(count):
            v0, v1, v2, v3 = x0[k], x1[k], x2[k], x3[k]
            a[k] = a[k] + a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3
            c[k] = c[k] + c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3
            e[k] = e[k] + e0 * v0 + e1 * v1 + e2 * v2 + e3 * v3
            g[k] = g[k] + g0 * v0 + g1 * v1 + g2 * v2 + g3 * v3


@nb.njit(nogil=True, cache=True)
def dense(x, w, b, inputs, outputs, count, hidden_layer, out):
    """``w @ x + b`` in integers carried by float32; for hidden layers shifted right by 8 and clipped to 0 .. 1023.

    ``outputs`` is even, and ``inputs`` a multiple of 4 where ``outputs`` is not.
    """
    scale = _F32(2.0**-8)
    top = _F32(1023)
    zero = _F32(0)
    whole = outputs // 4 * 4
    for o in range(0, whole, 4):
        _four(x, w, b, o, inputs, count, out)
    if whole < outputs:
        _pair(x, w, b, whole, inputs, count, out)
    if hidden_layer:
        for o in range(outputs):
            a = out[o]
            for k in range(count):
                a[k] = min(max(np.floor(a[k] * scale), zero), top)


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def predict_values(
    n, act, missing, use_missing, reference, before, before_act, after, after_act, references, width, rows, columns, nrow, ncol,
    bias_row, lift, reciprocals, w1, b1, w2, b2, w3, b3, x, h1, h2, out, scales, work, centre, klass,
):  # fmt: skip
    """Centre (int32) and class (uint8) of every value of a pass, in the pass's C order.

    ``x``, ``h1``, ``h2``, ``out`` (float32, rows of ``BLOCK``), ``scales`` (int32, 3 of them) and ``work`` are scratch.
    """
    total = len(rows) * len(columns)
    hidden, inputs = w1.shape
    second = len(w2)
    flat = x.reshape(-1)
    base, spread, logs = scales[0], scales[1], scales[2]
    u, v = out[0], out[1]
    for first in range(0, total, BLOCK):
        count = min(BLOCK, total - first)
        gather(
            n, act, missing, use_missing, reference, before, before_act, after, after_act, references, width, rows, columns,
            nrow, ncol, first, count, reciprocals, inputs, flat, base, spread, logs, work,
        )  # fmt: skip
        vectors = padded(count)
        dense(x, w1, b1[bias_row], inputs, hidden, vectors, True, h1)
        dense(h1, w2, b2, hidden, second, vectors, True, h2)
        dense(h2, w3, b3[bias_row], second, 2, vectors, False, out)
        for k in range(count):
            a0 = min(max(np.int64(u[k]), -131072), 131072)
            p = np.int64(base[k]) + ((a0 * np.int64(spread[k]) + 131072) >> 18)
            centre[first + k] = min(max(p, -(1 << 29)), 1 << 29)
        for k in range(count):
            width_class = (np.int32(logs[k] - 16 + lift) + (np.int32(v[k]) >> 10)) >> 2
            klass[first + k] = min(max(width_class, 0), 63)
        if use_missing:
            for k in range(count):
                if work[MISSING * BLOCK + k]:
                    centre[first + k] = min(max(base[k], -STAND_IN), STAND_IN)


@nb.njit(nogil=True, cache=True)
def predict_pass(
    n, act, missing, use_missing, before, before_act, after, after_act, references, width, rows, columns, nrow, ncol, bias_row,
    lift, reciprocals, w1, b1, w2, b2, w3, b3, centre, klass,
):  # fmt: skip
    """`predict_values` with scratch and mean of its own, for one pass over one slice."""
    reference = before
    if references == 2:
        reference = mean_of(before, after)
    x = np.zeros((w1.shape[1], BLOCK), np.float32)
    h1 = np.zeros((len(w1), BLOCK), np.float32)
    h2 = np.zeros((len(w2), BLOCK), np.float32)
    out = np.zeros((2, BLOCK), np.float32)
    scales = np.zeros((3, BLOCK), np.int32)
    work = np.zeros(SCRATCH_ROWS * BLOCK, np.int32)
    predict_values(
        n, act, missing, use_missing, reference, before, before_act, after, after_act, references, width, rows, columns, nrow,
        ncol, bias_row, lift, reciprocals, w1, b1, w2, b2, w3, b3, x, h1, h2, out, scales, work, centre, klass,
    )  # fmt: skip
