"""Compiled: turn a block's neighbours into the integer inputs of the network (format page, section 7).

Scratch is flat, rows of `BLOCK` values one after the other, and every loop runs over the values of a block with its 16 neighbours
unrolled inside: LLVM then sees that rows do not overlap, and computes many values at once. All integers are held to 32 bits.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.codec.kernels.neighbours import BLOCK, padded, pick
from latentzarr.codec.kernels.reference_inputs import compare, here_inputs, reference_inputs
from latentzarr.codec.kernels.scratch import (
    BEFORE,
    EXPONENT,
    FACTOR,
    HERE,
    I32,
    LIMIT,
    MANTISSA,
    MIDDLE,
    MISSING,
    MISSING0,
    MISSING1,
    SCRATCH_ROWS,
    THERE,
    clip,
    divided,
    mean,
    row_of_scratch,
    scale_of,
)

__all__ = ["average", "gather", "inputs_of_pass", "mean_of"]


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _middle_of(work, row, use_missing, count, middle):
    """Mean of the two nearest neighbours, or the one that is there where the other is missing."""
    first = row * BLOCK
    for k in range(padded(count)):
        middle[k] = mean(work[first + k], work[first + BLOCK + k])
    if use_missing:
        for k in range(count):
            missing0, missing1 = work[MISSING0 * BLOCK + k], work[MISSING1 * BLOCK + k]
            if missing0 != missing1:
                middle[k] = work[first + BLOCK + k] if missing0 else work[first + k]


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _spread_of(work, base, count, spread):
    """Details: neighbours less the middle; their spread."""
    for k in range(padded(count)):
        b = base[k]
        s = I32(64)
        for i in range(16):
            v = clip(I32(work[i * BLOCK + k] - b), -LIMIT, LIMIT)
            work[i * BLOCK + k] = v
            s = I32(s + I32(abs(v)))
        spread[k] = s


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _details(work, reciprocals, count, x, logs):
    """Inputs 0 to 15 and 24."""
    for k in range(count):
        work[FACTOR * BLOCK + k] = reciprocals[work[MANTISSA * BLOCK + k]]
    for k in range(padded(count)):
        e, factor = work[EXPONENT * BLOCK + k], work[FACTOR * BLOCK + k]
        down, up = I32(max(I32(e - I32(11)), I32(0))), I32(max(I32(I32(11) - e), I32(0)))
        log = I32(I32(I32(16) * e) + I32(work[MANTISSA * BLOCK + k] >> I32(7)))
        logs[k] = log
        x[24 * BLOCK + k] = I32(I32(2) * I32(log - I32(160)))
        for i in range(16):
            x[i * BLOCK + k] = divided(work[i * BLOCK + k], down, up, factor)


@nb.njit(nogil=True, cache=True, inline="always")
def gather(
    n, act, missing, use_missing, reference, before, before_act, after, after_act, references, width, rows, columns, nrow, ncol,
    first, count, reciprocals, inputs, x, base, spread, logs, work,
):  # fmt: skip
    """Fill the network's inputs for the values ``first .. first + count`` of a pass.

    Parameters
    ----------
    reference : int32 array
        The slice looked at, or the mean (`average`) of the two.
    before, before_act, after, after_act
        Values and activities of the slices looked at.
    references : int
        How many of them there are.
    inputs : int
        25, 37 or 39: rows of ``x``.
    x : float32 array, shape (inputs * BLOCK,)
    base, spread, logs : int32 arrays, shape (BLOCK,)
        Receive what turns the outputs into centre and class.
    work : int32 array, shape (SCRATCH_ROWS * BLOCK,)
    """
    for i in range(16):
        pick(n, nrow[i], ncol[i], width, first, count, row_of_scratch(work, i))
    for i in range(8):
        pick(act, nrow[i], ncol[i], width, first, count, row_of_scratch(x, 16 + i))
        for k in range(count):
            x[(16 + i) * BLOCK + k] *= np.float32(16)
    if use_missing:
        pick(missing, rows, columns, width, first, count, row_of_scratch(work, MISSING))
        for i in range(2):
            pick(missing, nrow[i], ncol[i], width, first, count, row_of_scratch(work, MISSING0 + i))
    _middle_of(work, 0, use_missing, count, base)
    _spread_of(work, base, count, spread)
    if references > 0:
        for i in range(16):
            pick(reference, nrow[i], ncol[i], width, first, count, row_of_scratch(work, BEFORE + i))
        _middle_of(work, BEFORE, use_missing, count, row_of_scratch(work, MIDDLE))
        pick(reference, rows, columns, width, first, count, row_of_scratch(work, HERE))
        compare(work, count, base, spread)
    scale_of(spread, count, row_of_scratch(work, EXPONENT), row_of_scratch(work, MANTISSA))
    _details(work, reciprocals, count, x, logs)
    if references > 0:
        reference_inputs(count, x, spread, work)
        pick(
            before_act, rows, columns, width, first, count, row_of_scratch(work, MISSING0)
        )  # rows of the scratch that are free by now
        if references == 2:
            pick(after_act, rows, columns, width, first, count, row_of_scratch(work, MISSING1))
            pick(before, rows, columns, width, first, count, row_of_scratch(work, HERE))
            pick(after, rows, columns, width, first, count, row_of_scratch(work, THERE))
        here_inputs(count, references, inputs, x, spread, work)


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def mean_of(before, after):
    """The mean of two whole slices."""
    out = np.empty_like(before)
    for at in range(len(before)):
        out[at] = mean(before[at], after[at])
    return out


@nb.njit(nogil=True, cache=True)
def average(before, after, rows, columns, width, out):
    """``out``: the mean of two slices at the values of a pass."""
    for r in range(len(rows)):
        for c in range(len(columns)):
            at = rows[r] * width + columns[c]
            out[at] = mean(before[at], after[at])


@nb.njit(nogil=True, cache=True)
def inputs_of_pass(
    n, act, missing, use_missing, before, before_act, after, after_act, references, width, rows, columns, nrow, ncol,
    reciprocals, x, base, spread, logs,
):  # fmt: skip
    """The network's inputs of a whole pass, for training: ``x`` (int16, shape (values, inputs)) and what scales the outputs."""
    total = len(rows) * len(columns)
    inputs = x.shape[1]
    block = np.zeros(inputs * BLOCK, np.float32)
    work = np.zeros(SCRATCH_ROWS * BLOCK, np.int32)
    scales = np.zeros((3, BLOCK), np.int32)
    reference = before
    if references == 2:
        reference = mean_of(before, after)
    for first in range(0, total, BLOCK):
        count = min(BLOCK, total - first)
        gather(
            n, act, missing, use_missing, reference, before, before_act, after, after_act, references, width, rows, columns,
            nrow, ncol, first, count, reciprocals, inputs, block, scales[0], scales[1], scales[2], work,
        )  # fmt: skip
        for k in range(count):
            base[first + k] = scales[0, k]
            spread[first + k] = scales[1, k]
            logs[first + k] = scales[2, k]
            for i in range(inputs):
                x[first + k, i] = block[i * BLOCK + k]
