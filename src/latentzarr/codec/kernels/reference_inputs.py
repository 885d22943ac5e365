"""Compiled: the part of the network's inputs that looks at a decoded slice, or at two (format page, section 7)."""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.codec.kernels.neighbours import BLOCK, padded
from latentzarr.codec.kernels.scratch import (
    EXPONENT,
    FACTOR,
    HERE,
    I32,
    LIMIT,
    MANTISSA,
    MIDDLE,
    MISSING0,
    MISSING1,
    OFFSET,
    OTHER,
    TEMPORAL,
    THERE,
    clip,
    divided,
    mean,
    row_of_scratch,
    scale_of,
)

__all__ = ["compare", "here_inputs", "reference_inputs"]

_BETWEEN = 37  # from this input on: what only slices between two others have


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _less(before, middle, count):
    """Details of the reference."""
    for k in range(padded(count)):
        m = middle[k]
        for i in range(16):
            before[i * BLOCK + k] = clip(I32(before[i * BLOCK + k] - m), -LIMIT, LIMIT)


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _difference(detail, before, count, other):
    """The spread of the difference of both details."""
    for k in range(padded(count)):
        s = I32(64)
        for i in range(16):
            s = I32(s + I32(min(I32(abs(I32(detail[i * BLOCK + k] - before[i * BLOCK + k]))), LIMIT)))
        other[k] = s


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _take_off(detail, before, temporal, count):
    """Where a value is temporal, the details of the reference are taken off ours."""
    for k in range(padded(count)):
        mask = temporal[k]
        for i in range(16):
            off = I32(before[i * BLOCK + k] & mask)
            detail[i * BLOCK + k] = clip(I32(detail[i * BLOCK + k] - off), -LIMIT, LIMIT)


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _choose(other, here, middle, count, offset, temporal, base, spread):
    """Which values are temporal (-1, else 0)."""
    for k in range(padded(count)):
        o, s = other[k], spread[k]
        off = clip(I32(here[k] - middle[k]), -LIMIT, LIMIT)
        mask = I32(-1) if o < s else I32(0)
        offset[k] = off
        temporal[k] = mask
        other[k] = I32(max(o, s))
        spread[k] = I32(min(o, s))
        base[k] = I32(base[k] + I32(off & mask))


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def compare(work, count, base, spread):
    """Where the reference predicts our details better than smoothness does, take its own off first."""
    before, other, middle, temporal = (
        work[16 * BLOCK : 32 * BLOCK],
        row_of_scratch(work, OTHER),
        row_of_scratch(work, MIDDLE),
        row_of_scratch(work, TEMPORAL),
    )
    _less(before, middle, count)
    _difference(work, before, count, other)
    _choose(other, row_of_scratch(work, HERE), middle, count, row_of_scratch(work, OFFSET), temporal, base, spread)
    _take_off(work, before, temporal, count)


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _divide_some(values, rows, spread, exponent, factors, count, x):
    """Rows of ``x``: values over the spread, where they are no larger than it."""
    for i in range(rows):
        for k in range(padded(count)):
            s, e = spread[k], exponent[k]
            down, up = I32(max(I32(e - I32(11)), I32(0))), I32(max(I32(I32(11) - e), I32(0)))
            x[i * BLOCK + k] = divided(clip(values[i * BLOCK + k], I32(-s), s), down, up, factors[k])


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def reference_inputs(count, x, spread, work):
    """Inputs 25 to 35: what the reference looked like around here."""
    exponent, factor = row_of_scratch(work, EXPONENT), row_of_scratch(work, FACTOR)
    _divide_some(row_of_scratch(work, OFFSET), 1, spread, exponent, factor, count, x[25 * BLOCK :])
    _divide_some(work[16 * BLOCK : 24 * BLOCK], 8, spread, exponent, factor, count, x[26 * BLOCK :])
    for k in range(padded(count)):
        work[OFFSET * BLOCK + k] = I32(I32(I32(16) * work[EXPONENT * BLOCK + k]) + I32(work[MANTISSA * BLOCK + k] >> I32(7)))
        x[35 * BLOCK + k] = I32(I32(-64) * work[TEMPORAL * BLOCK + k])
    scale_of(row_of_scratch(work, OTHER), count, row_of_scratch(work, MIDDLE), row_of_scratch(work, MISSING0))
    for k in range(padded(count)):
        log = I32(I32(I32(16) * work[MIDDLE * BLOCK + k]) + I32(work[MISSING0 * BLOCK + k] >> I32(7)))
        x[34 * BLOCK + k] = I32(I32(2) * I32(log - work[OFFSET * BLOCK + k]))


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def here_inputs(count, references, inputs, x, spread, work):
    """Inputs 36 to 38: the reference at this place, and how sure it is."""
    for k in range(padded(count)):
        a, b = work[MISSING0 * BLOCK + k], work[MISSING1 * BLOCK + k]
        x[36 * BLOCK + k] = I32(I32(16) * (mean(a, b) if references == 2 else a))
    if inputs > _BETWEEN:
        for k in range(padded(count)):
            e, factor = work[EXPONENT * BLOCK + k], work[FACTOR * BLOCK + k]
            down, up = I32(max(I32(e - I32(11)), I32(0))), I32(max(I32(I32(11) - e), I32(0)))
            apart = I32(min(I32(abs(I32(work[HERE * BLOCK + k] - work[THERE * BLOCK + k]))), LIMIT))
            x[37 * BLOCK + k] = divided(I32(min(apart, spread[k])), down, up, factor) if references == 2 else I32(0)
            x[38 * BLOCK + k] = np.float32(64 if references == 2 else 0)
