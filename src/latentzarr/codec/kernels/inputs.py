"""Compiled: gather a pass's neighbours and turn them into the integer inputs of the network (format page, section 7)."""

from __future__ import annotations

import numba as nb
import numpy as np

__all__ = ["BLOCK", "REFERENCE_INPUTS", "SPATIAL_INPUTS", "gather", "inputs_of_pass"]

BLOCK = 1024
SPATIAL_INPUTS = 25
REFERENCE_INPUTS = 37
_LIMIT = 1 << 25


@nb.njit(nogil=True, cache=True, inline="always")
def _bit_length(v):
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
def _pick(source, neighbour_rows, neighbour_columns, width, first, count, columns, out):
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
def _middle_of(first, second, missing0, missing1, use_missing, count, out):
    """Mean of the two nearest neighbours, or the one that is there where the other is missing."""
    for k in range(count):
        out[k] = (first[k] + second[k] + 1) >> 1
    if use_missing:
        for k in range(count):
            if missing0[k] != missing1[k]:
                out[k] = second[k] if missing0[k] else first[k]


@nb.njit(nogil=True, cache=True)
def _scales(spread, reciprocals, count, exponent, mantissa, down, up, factor):
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
def _divide(values, down, up, factor, count, out):
    """``1024 * values / spread`` as the format rounds it."""
    for k in range(count):
        out[k] = ((((values[k] >> down[k]) << up[k]) * factor[k]) + 8192) >> 14


@nb.njit(nogil=True, cache=True)
def gather(
    n,
    act,
    missing,
    use_missing,
    prev,
    prev_act,
    has_prev,
    width,
    rows,
    cols,
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
):
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
def _compare(prev, use_missing, width, nrow, ncol, first, count, columns, base, spread, work):
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
def _previous_inputs(prev_act, count, reciprocals, x, spread, work):
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
def inputs_of_pass(
    n, act, missing, use_missing, prev, prev_act, has_prev, width, rows, columns, nrow, ncol, reciprocals, x, base, spread, logs
):
    """The network's inputs of a whole pass, for training: ``x`` (int16, shape (values, inputs)) and what scales the outputs."""
    total = len(rows) * len(columns)
    inputs = REFERENCE_INPUTS if has_prev else SPATIAL_INPUTS
    block = np.empty((inputs, BLOCK), np.float32)
    work = np.empty((48, BLOCK), np.int32)
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
            block,
            base[first:],
            spread[first:],
            logs[first:],
            work,
        )
        for k in range(count):
            for i in range(inputs):
                x[first + k, i] = block[i, k]
