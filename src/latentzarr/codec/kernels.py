"""The compiled steps of the hierarchy: gather inputs, run the integer network, turn its outputs into centre and class.

Everything is integer arithmetic in the sense of the format page: values in float32 are integers below 2**24, so that any
order of summation gives the same bits. `codec/reference.py` says the same thing in plain NumPy; tests hold the two equal.
"""

from __future__ import annotations

import numba as nb
import numpy as np

BLOCK = 1024
SPATIAL_INPUTS = 25
REFERENCE_INPUTS = 37
_F32 = np.float32
_LIMIT = 1 << 25


@nb.njit(nogil=True, cache=True, inline="always")
def _bit_length(v):  # type: ignore[no-untyped-def]
    """floor(log2(v)), 0 for 0; written without branches so that it vectorises."""
    e = np.int32(v > 0xFFFF) << 4
    v = v >> e
    part = np.int32(v > 0xFF) << 3
    v = v >> part
    e |= part
    part = np.int32(v > 0xF) << 2
    v = v >> part
    e |= part
    part = np.int32(v > 0x3) << 1
    v = v >> part
    return e | part | np.int32(v > 1)


@nb.njit(nogil=True, cache=True)
def _pick(source, neighbour_rows, neighbour_columns, width, first, count, columns, out):  # type: ignore[no-untyped-def]
    """``out[k]``: the neighbour of value ``first + k`` of a pass, read row by row."""
    r = first // columns
    c = first - r * columns
    k = 0
    while k < count:
        run = min(count - k, columns - c)
        start = neighbour_rows[r] * width
        for j in range(run):
            out[k + j] = source[start + neighbour_columns[c + j]]
        k += run
        c = 0
        r += 1


@nb.njit(nogil=True, cache=True)
def _middle_of(first, second, missing0, missing1, use_missing, count, out):  # type: ignore[no-untyped-def]
    """Mean of the two nearest neighbours, or the one that is there where the other is missing."""
    for k in range(count):
        out[k] = (first[k] + second[k] + 1) >> 1
    if use_missing:
        for k in range(count):
            if missing0[k] != missing1[k]:
                out[k] = second[k] if missing0[k] else first[k]


@nb.njit(nogil=True, cache=True)
def _scales(spread, reciprocals, count, exponent, mantissa, down, up, factor):  # type: ignore[no-untyped-def]
    """Split each spread into exponent and 12-bit mantissa, and give what divides by it."""
    for k in range(count):
        s = spread[k]
        e = np.int32(_bit_length(s))
        down[k] = max(e - 11, 0)
        up[k] = max(11 - e, 0)
        exponent[k] = e
        mantissa[k] = ((s >> down[k]) << up[k]) - 2048
    for k in range(count):
        factor[k] = reciprocals[mantissa[k]]


@nb.njit(nogil=True, cache=True)
def _divide(values, down, up, factor, count, out):  # type: ignore[no-untyped-def]
    """``1024 * values / spread`` as the format rounds it."""
    for k in range(count):
        out[k] = ((((values[k] >> down[k]) << up[k]) * factor[k]) + 8192) >> 14


@nb.njit(nogil=True, cache=True)
def gather(n, act, missing, use_missing, prev, prev_act, has_prev, width, rows, cols, nrow, ncol, first, count, reciprocals, x, base, spread, logs, work):  # type: ignore[no-untyped-def]
    """Fill the network's inputs ``x[:, :count]`` for the values ``first .. first + count`` of a pass.

    ``base``, ``spread`` and ``logs`` (int32, shape (count,)) receive what turns the outputs into centre and class. ``work``
    is int32 scratch of shape (48, BLOCK); row 47 receives the flat index of each value.
    """
    columns = len(cols)
    detail = work[0:16]
    exponent = work[32]
    mantissa = work[33]
    down = work[34]
    up = work[35]
    factor = work[36]
    missing0 = work[37]
    missing1 = work[38]
    line = work[39]
    centre = work[47]
    r = first // columns
    c = first - r * columns
    for k in range(count):
        centre[k] = rows[r] * width + cols[c]
        c += 1
        if c == columns:
            c = 0
            r += 1
    for i in range(16):
        _pick(n, nrow[i], ncol[i], width, first, count, columns, detail[i])
    for i in range(8):
        _pick(act, nrow[i], ncol[i], width, first, count, columns, line)
        row = x[16 + i]
        for k in range(count):
            row[k] = line[k] << 4
    if use_missing:
        _pick(missing, nrow[0], ncol[0], width, first, count, columns, missing0)
        _pick(missing, nrow[1], ncol[1], width, first, count, columns, missing1)
    _middle_of(detail[0], detail[1], missing0, missing1, use_missing, count, base)
    for k in range(count):
        spread[k] = 64
    for i in range(16):
        d = detail[i]
        for k in range(count):
            v = min(max(d[k] - base[k], -_LIMIT), _LIMIT)
            d[k] = v
            spread[k] += abs(v)
    if has_prev:
        _compare(prev, use_missing, width, nrow, ncol, first, count, columns, base, spread, work)
    _scales(spread, reciprocals, count, exponent, mantissa, down, up, factor)
    row = x[24]
    for k in range(count):
        logs[k] = 16 * exponent[k] + (mantissa[k] >> 7)
        row[k] = 2 * (logs[k] - 160)
    for i in range(16):
        _divide(detail[i], down, up, factor, count, x[i])
    if has_prev:
        _previous_inputs(prev_act, count, reciprocals, x, spread, work)


@nb.njit(nogil=True, cache=True)
def _compare(prev, use_missing, width, nrow, ncol, first, count, columns, base, spread, work):  # type: ignore[no-untyped-def]
    """Details of the previous slice; where they predict ours better than smoothness does, take them off first."""
    detail = work[0:16]
    before = work[16:32]
    middle = work[40]
    offset = work[41]
    other = work[42]
    temporal = work[43]
    centre = work[47]
    for i in range(16):
        _pick(prev, nrow[i], ncol[i], width, first, count, columns, before[i])
    _middle_of(before[0], before[1], work[37], work[38], use_missing, count, middle)
    for k in range(count):
        offset[k] = min(max(prev[centre[k]] - middle[k], -_LIMIT), _LIMIT)
        other[k] = 64
    for i in range(16):
        b = before[i]
        d = detail[i]
        for k in range(count):
            v = min(max(b[k] - middle[k], -_LIMIT), _LIMIT)
            b[k] = v
            other[k] += min(abs(d[k] - v), _LIMIT)
    for k in range(count):
        temporal[k] = 1 if other[k] < spread[k] else 0
        base[k] += temporal[k] * offset[k]
        smaller = min(other[k], spread[k])
        other[k] = max(other[k], spread[k])
        spread[k] = smaller
    for i in range(16):
        b = before[i]
        d = detail[i]
        for k in range(count):
            d[k] = min(max(d[k] - temporal[k] * b[k], -_LIMIT), _LIMIT)


@nb.njit(nogil=True, cache=True)
def _previous_inputs(prev_act, count, reciprocals, x, spread, work):  # type: ignore[no-untyped-def]
    """Inputs 25 to 36: what the previous slice looked like here."""
    before = work[16:32]
    exponent = work[32]
    mantissa = work[33]
    down = work[34]
    up = work[35]
    factor = work[36]
    line = work[39]
    offset = work[41]
    other = work[42]
    temporal = work[43]
    for k in range(count):
        line[k] = min(max(offset[k], -spread[k]), spread[k])
    _divide(line, down, up, factor, count, x[25])
    for i in range(8):
        b = before[i]
        for k in range(count):
            line[k] = min(max(b[k], -spread[k]), spread[k])
        _divide(line, down, up, factor, count, x[26 + i])
    _scales(other, reciprocals, count, work[44], work[45], work[46], line, offset)
    centre = work[47]
    for k in range(count):
        x[34, k] = 2 * (16 * (work[44, k] - exponent[k]) + (work[45, k] >> 7) - (mantissa[k] >> 7))
        x[35, k] = 64 * temporal[k]
        x[36, k] = prev_act[centre[k]] << 4


@nb.njit(nogil=True, cache=True)
def dense(x, w, b, inputs, outputs, count, hidden_layer, out):  # type: ignore[no-untyped-def]
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
                a[k] += ((a0 * x0[k] + a1 * x1[k]) + (a2 * x2[k] + a3 * x3[k])) + ((a4 * x4[k] + a5 * x5[k]) + (a6 * x6[k] + a7 * x7[k]))
                c[k] += ((c0 * x0[k] + c1 * x1[k]) + (c2 * x2[k] + c3 * x3[k])) + ((c4 * x4[k] + c5 * x5[k]) + (c6 * x6[k] + c7 * x7[k]))
            i += 8
        if hidden_layer:
            for k in range(count):
                a[k] = min(max(np.floor(a[k] * scale), zero), top)
                c[k] = min(max(np.floor(c[k] * scale), zero), top)


@nb.njit(nogil=True, cache=True)
def predict_pass(n, act, missing, use_missing, prev, prev_act, has_prev, width, rows, columns, nrow, ncol, bias_row, reciprocals, w1, b1, w2, b2, w3, b3, centre, klass):  # type: ignore[no-untyped-def]
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
        gather(n, act, missing, use_missing, prev, prev_act, has_prev, width, rows, columns, nrow, ncol, first, count, reciprocals, x, base, spread, logs, work)
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


@nb.njit(nogil=True, cache=True, inline="always")
def _activity(q):  # type: ignore[no-untyped-def]
    """How large a quantum was, in half octaves: 0 for 0, 1 for 1, 3 for 2, 4 for 3, .. at most 15."""
    a = abs(q)
    if a == 0:
        return 0
    e = 0
    rest = a
    while rest > 1 and e < 8:
        rest >>= 1
        e += 1
    half = (a >> (e - 1)) & 1 if e > 0 else 0
    return min(1 + 2 * e + half, 15)


@nb.njit(nogil=True, cache=True)
def quantise_pass(target, missing, use_missing, centre, rows, columns, width, snap, half_open, n, act, quanta):  # type: ignore[no-untyped-def]
    """Encoder: choose the quanta of a pass, write the decoded values back, return how many were coded (-1: overflow)."""
    coded = 0
    i = 0
    lim = 1 << 29
    for r in range(len(rows)):
        for c in range(len(columns)):
            at = rows[r] * width + columns[c]
            p = centre[i]
            i += 1
            if use_missing and missing[at]:
                n[at] = p
                act[at] = 0
                continue
            if half_open:
                wish = np.ceil((target[at] - p - 8.0) * 0.0625 - 1e-9)
            else:
                wish = np.floor((target[at] - p) * 0.0625 + 0.5)
            if not abs(wish) < 134217728.0:
                return -1
            q = np.int64(wish)
            v = np.int64(p) + 16 * q
            if v < -lim or v > lim:
                return -1
            if snap:
                v = ((v + 8) >> 4) << 4
            n[at] = v
            act[at] = _activity(q)
            quanta[coded] = q
            coded += 1
    return coded


@nb.njit(nogil=True, cache=True)
def reconstruct_pass(quanta, missing, use_missing, centre, rows, columns, width, snap, n, act):  # type: ignore[no-untyped-def]
    """Decoder: add the quanta of a pass to its centres."""
    coded = 0
    i = 0
    lim = 1 << 29
    for r in range(len(rows)):
        for c in range(len(columns)):
            at = rows[r] * width + columns[c]
            p = centre[i]
            i += 1
            if use_missing and missing[at]:
                n[at] = p
                act[at] = 0
                continue
            q = quanta[coded]
            coded += 1
            v = min(max(np.int64(p) + 16 * np.int64(q), -lim), lim)
            if snap:
                v = ((v + 8) >> 4) << 4
            n[at] = v
            act[at] = _activity(q)


@nb.njit(nogil=True, cache=True)
def quantise_root(target, missing, use_missing, prev, has_prev, rows, columns, width, half_open, n, quanta):  # type: ignore[no-untyped-def]
    """Encoder: quanta of the root of a slice, each predicted by the one before it or by the previous slice."""
    coded = 0
    last = np.int64(0)
    for r in range(len(rows)):
        for c in range(len(columns)):
            at = rows[r] * width + columns[c]
            p = (np.int64(prev[at]) + 8) >> 4 if has_prev else last
            if use_missing and missing[at]:
                n[at] = 16 * p
                continue
            k = np.int64(np.ceil((target[at] - 8.0) * 0.0625 - 1e-9)) if half_open else np.int64(np.floor(target[at] * 0.0625 + 0.5))
            quanta[coded] = k - p
            coded += 1
            n[at] = 16 * k
            last = k
    return coded


@nb.njit(nogil=True, cache=True)
def reconstruct_root(quanta, missing, use_missing, prev, has_prev, rows, columns, width, n):  # type: ignore[no-untyped-def]
    """Decoder: the root of a slice from its quanta."""
    coded = 0
    last = np.int64(0)
    lim = np.int64(1 << 25)
    for r in range(len(rows)):
        for c in range(len(columns)):
            at = rows[r] * width + columns[c]
            p = (np.int64(prev[at]) + 8) >> 4 if has_prev else last
            if use_missing and missing[at]:
                n[at] = 16 * p
                continue
            k = min(max(p + np.int64(quanta[coded]), -lim), lim)
            coded += 1
            n[at] = 16 * k
            last = k


@nb.njit(nogil=True, cache=True)
def cubic_pass(n, act, missing, use_missing, width, rows, columns, nrow, ncol, centre, klass):  # type: ignore[no-untyped-def]
    """Centre by cubic interpolation along the pass's axis, context by how large the eight nearest quanta were."""
    i = 0
    for r in range(len(rows)):
        for c in range(len(columns)):
            a0 = nrow[0, r] * width + ncol[0, c]
            a1 = nrow[1, r] * width + ncol[1, c]
            g0 = np.int64(n[a0])
            g1 = np.int64(n[a1])
            g2 = np.int64(n[nrow[2, r] * width + ncol[2, c]])
            g3 = np.int64(n[nrow[3, r] * width + ncol[3, c]])
            p = (9 * (g0 + g1) - (g2 + g3) + 8) >> 4
            if use_missing:
                m0 = missing[a0]
                m1 = missing[a1]
                if missing[rows[r] * width + columns[c]]:
                    p = (g0 + g1 + 1) >> 1
                if m0 != m1:
                    p = g1 if m0 else g0
            total = 0
            for k in range(8):
                total += act[nrow[k, r] * width + ncol[k, c]]
            centre[i] = min(max(p, -(1 << 29)), 1 << 29)
            klass[i] = min((total + 4) >> 3, 15)
            i += 1
