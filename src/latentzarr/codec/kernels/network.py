"""Compiled: the integer network over a pass, block by block, to centres and classes (format page, section 7).

Everything is integer arithmetic: values in float32 are integers below 2**24, so that any order of summation gives the same
bits.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.codec.kernels.inputs import BLOCK, REFERENCE_INPUTS, SPATIAL_INPUTS, gather

__all__ = ["dense", "predict_pass"]

_F32 = np.float32


@nb.njit(nogil=True, cache=True)
def dense(x, w, b, inputs, outputs, count, hidden_layer, out):
    """``w @ x + b`` in integers carried by float32; for hidden layers shifted right by 8 and clipped to 0 .. 1023.

    Two outputs and eight inputs at a time, so that one load serves two products; ``outputs`` is even.
    """
    scale = _F32(2.0**-8)
    top = _F32(1023)
    zero = _F32(0)
    for o in range(0, outputs, 2):
        a = out[o]
        c = out[o + 1]
        wa = w[o]
        wc = w[o + 1]
        ba = b[o]
        bc = b[o + 1]
        i = inputs & 7
        if i == 0:
            for k in range(count):
                a[k] = ba
                c[k] = bc
        else:
            x0 = x[0]
            a0 = wa[0]
            c0 = wc[0]
            for k in range(count):
                a[k] = ba + a0 * x0[k]
                c[k] = bc + c0 * x0[k]
            for j in range(1, i):
                x0 = x[j]
                a0 = wa[j]
                c0 = wc[j]
                for k in range(count):
                    a[k] += a0 * x0[k]
                    c[k] += c0 * x0[k]
        while i < inputs:
            a0, a1, a2, a3, a4, a5, a6, a7 = wa[i], wa[i + 1], wa[i + 2], wa[i + 3], wa[i + 4], wa[i + 5], wa[i + 6], wa[i + 7]
            c0, c1, c2, c3, c4, c5, c6, c7 = wc[i], wc[i + 1], wc[i + 2], wc[i + 3], wc[i + 4], wc[i + 5], wc[i + 6], wc[i + 7]
            x0, x1, x2, x3, x4, x5, x6, x7 = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
            for k in range(count):
                a[k] += ((a0 * x0[k] + a1 * x1[k]) + (a2 * x2[k] + a3 * x3[k])) + (
                    (a4 * x4[k] + a5 * x5[k]) + (a6 * x6[k] + a7 * x7[k])
                )
                c[k] += ((c0 * x0[k] + c1 * x1[k]) + (c2 * x2[k] + c3 * x3[k])) + (
                    (c4 * x4[k] + c5 * x5[k]) + (c6 * x6[k] + c7 * x7[k])
                )
            i += 8
        if hidden_layer:
            for k in range(count):
                a[k] = min(max(np.floor(a[k] * scale), zero), top)
                c[k] = min(max(np.floor(c[k] * scale), zero), top)


@nb.njit(nogil=True, cache=True)
def predict_pass(
    n,
    act,
    missing,
    use_missing,
    prev,
    prev_act,
    has_prev,
    width,
    rows,
    columns,
    nrow,
    ncol,
    bias_row,
    reciprocals,
    w1,
    b1,
    w2,
    b2,
    w3,
    b3,
    centre,
    klass,
):
    """Centre (int32) and class (uint8) of every value of a pass, in the pass's C order."""
    total = len(rows) * len(columns)
    inputs = REFERENCE_INPUTS if has_prev else SPATIAL_INPUTS
    hidden = w1.shape[0]
    second = w2.shape[0]
    block = min(BLOCK, total)
    x = np.empty((inputs, block), np.float32)
    h1 = np.empty((hidden, block), np.float32)
    h2 = np.empty((second, block), np.float32)
    out = np.empty((2, block), np.float32)
    base = np.empty(block, np.int32)
    spread = np.empty(block, np.int32)
    logs = np.empty(block, np.int32)
    work = np.empty((48, block), np.int32)
    for first in range(0, total, BLOCK):
        count = min(BLOCK, total - first)
        gather(
            n,
            act,
            missing,
            use_missing,
            prev,
            prev_act,
            has_prev,
            width,
            rows,
            columns,
            nrow,
            ncol,
            first,
            count,
            reciprocals,
            x,
            base,
            spread,
            logs,
            work,
        )
        dense(x, w1, b1[bias_row], inputs, hidden, count, True, h1)
        dense(h1, w2, b2, hidden, second, count, True, h2)
        dense(h2, w3, b3[bias_row], second, 2, count, False, out)
        for k in range(count):
            a0 = min(max(np.int64(out[0, k]), -131072), 131072)
            p = np.int64(base[k]) + ((a0 * np.int64(spread[k]) + 131072) >> 18)
            centre[first + k] = min(max(p, -(1 << 29)), 1 << 29)
            width_class = (logs[k] + (np.int64(out[1, k]) >> 10) - 16) >> 2
            klass[first + k] = min(max(width_class, 0), 63)
        if use_missing:
            for k in range(count):
                if missing[work[47, k]]:
                    centre[first + k] = base[k]
