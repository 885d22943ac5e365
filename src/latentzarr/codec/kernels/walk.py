"""Compiled: all passes of a walk over all slices in one call, for the predictors that are compiled themselves.

`latentzarr.codec.hierarchy` says the same for any predictor, one pass over one slice at a time. Arguments that belong together
travel as tuples: ``plan`` (slice, before, after of each visit), ``steps`` (see `latentzarr.codec.compiled.PackedPasses`), ``field``
(values, activities, missing, means of two slices) and ``predictor`` (see `latentzarr.codec.compiled.CompiledPredictor`).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.bitstream.rans import decode_segment
from latentzarr.codec.kernels.inputs import average
from latentzarr.codec.kernels.neighbours import BLOCK
from latentzarr.codec.kernels.network import predict_values
from latentzarr.codec.kernels.scratch import SCRATCH_ROWS
from latentzarr.codec.kernels.values import cubic_pass, quantise_pass, reconstruct_pass

__all__ = ["decode_passes", "encode_passes"]

_INPUTS = 39


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _scratch(layout):
    """What the network works in; made once for all passes."""
    widest = 8
    for network in range(len(layout)):
        widest = max(widest, layout[network, 1], layout[network, 2])
    return (
        np.zeros((_INPUTS, BLOCK), np.float32),
        np.zeros((widest, BLOCK), np.float32),
        np.zeros((widest, BLOCK), np.float32),
        np.zeros((2, BLOCK), np.float32),
        np.zeros((3, BLOCK), np.int32),
        np.zeros(SCRATCH_ROWS * BLOCK, np.int32),
    )


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _largest(table):
    """Values of the largest pass."""
    most = 0
    for p in range(len(table)):
        most = max(most, table[p, 4] * table[p, 6])
    return most


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _weights(weights, layout, network, rows):
    """The six arrays of a network, as they stand one after the other."""
    inputs, hidden, second, at = layout[network]
    w1 = weights[at : at + hidden * inputs].reshape(hidden, inputs)
    at += hidden * inputs
    b1 = weights[at : at + rows * hidden].reshape(rows, hidden)
    at += rows * hidden
    w2 = weights[at : at + second * hidden].reshape(second, hidden)
    at += second * hidden
    b2 = weights[at : at + second]
    at += second
    w3 = weights[at : at + 2 * second].reshape(2, second)
    at += 2 * second
    b3 = weights[at : at + 2 * rows].reshape(rows, 2)
    return w1, b1, w2, b2, w3, b3


@nb.njit(nogil=True, cache=True, inline="always")
def _predict(visit, step, grid, width, snap, lift, field, predictor, reciprocals, scratch, centre, klass):
    """One pass over one slice."""
    t, before, after = visit
    level, kind = step[0], step[1]
    rows, columns, nrow, ncol = grid
    n, act, missing, use_missing, means = field
    cubic, looks, weights, layout, levels = predictor
    if cubic:
        cubic_pass(n[t], act[t], missing[t], use_missing, width, rows, columns, nrow, ncol, kind == 2, centre, klass)
    else:
        references = ((before >= 0) + (after >= 0)) if looks else 0
        before, after = max(before, 0), max(after, 0)
        reference = n[before]
        if references == 2:
            reference = means[t]
            average(n[before], n[after], rows, columns, width, reference)
        network = 2 * kind + (1 if references > 0 else 0)
        w1, b1, w2, b2, w3, b3 = _weights(weights, layout, network, 2 * levels)
        x, h1, h2, out, scales, work = scratch
        bias_row = level + (levels if snap else 0)
        here, here_act, here_missing = n[t], act[t], missing[t]
        n_before, act_before, n_after, act_after = n[before], act[before], n[after], act[after]
        predict_values(
            here, here_act, here_missing, use_missing, reference, n_before, act_before, n_after, act_after, references, width, rows,
            columns, nrow, ncol, bias_row, lift, reciprocals, w1, b1, w2, b2, w3, b3, x, h1, h2, out, scales, work, centre, klass,
        )  # fmt: skip


@nb.njit(nogil=True, cache=True, inline="always")
def _grade(step, snap):
    """Size of a quantum, and what it adds to the classes."""
    return (16, 0) if snap else (step[7], step[8])


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _grid(steps, p):
    """Rows, columns and neighbours of a pass."""
    table, rows, columns, nrow, ncol = steps
    r, height, c, across = table[p, 3], table[p, 4], table[p, 5], table[p, 6]
    return (
        rows[r : r + height],
        columns[c : c + across],
        nrow[16 * r : 16 * (r + height)].reshape(16, height),
        ncol[16 * c : 16 * (c + across)].reshape(16, across),
    )


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _fill_coded(values, missing, use_missing, rows, columns, width, out):
    """``values`` where they are coded, one after the other; returns how many."""
    if not use_missing:
        for i in range(len(rows) * len(columns)):
            out[i] = values[i]
        return len(rows) * len(columns)
    i = 0
    coded = 0
    for r in range(len(rows)):
        for c in range(len(columns)):
            if not missing[rows[r] * width + columns[c]]:
                out[coded] = values[i]
                coded += 1
            i += 1
    return coded


@nb.njit(nogil=True, cache=True)
def decode_passes(words, position, limit, state, starts, row_of, plan, steps, width, snap, field, predictor, reciprocals):
    """Decode passes over all slices.

    Returns
    -------
    position, pass, visit : int
        Position -1 where the words ran out, and where that was.
    """
    n, act, missing, use_missing, _ = field
    table = steps[0]
    scratch = _scratch(predictor[3])
    most = _largest(table)
    centre = np.empty(most, np.int32)
    klass = np.empty(most, np.uint8)
    coded = np.empty(most, np.uint8)
    quanta = np.empty(most, np.int32)
    tables = np.empty(most, np.uint16)
    for p in range(len(table)):
        grid = _grid(steps, p)
        rows, columns = grid[0], grid[1]
        row = row_of[table[p, 2]]
        unit, lift = _grade(table[p], snap)
        for v in range(len(plan)):
            t = plan[v, 0]
            visit = (t, plan[v, 1], plan[v, 2])
            _predict(visit, table[p], grid, width, snap, lift, field, predictor, reciprocals, scratch, centre, klass)
            count = _fill_coded(klass, missing[t], use_missing, rows, columns, width, coded)
            for i in range(count):
                tables[i] = row[coded[i]]
            position = decode_segment(words, position, limit, state, tables[:count], starts, len(state), quanta[:count])
            if position < 0:
                return position, p, v
            reconstruct_pass(quanta, missing[t], use_missing, centre, rows, columns, width, snap, unit, n[t], act[t])
    return position, 0, 0


@nb.njit(nogil=True, cache=True)
def encode_passes(target, half_open, at, quanta, classes, groups, ends, plan, steps, width, snap, field, predictor, reciprocals):
    """Code passes over all slices; returns the end of the symbols, -1 where a value leaves the format's range.

    ``quanta``, ``classes`` and ``groups`` are filled from ``at`` on; ``ends`` has one value for each pass and slice.
    """
    n, act, missing, use_missing, _ = field
    table = steps[0]
    scratch = _scratch(predictor[3])
    most = _largest(table)
    centre = np.empty(most, np.int32)
    klass = np.empty(most, np.uint8)
    for p in range(len(table)):
        grid = _grid(steps, p)
        rows, columns = grid[0], grid[1]
        unit, lift = _grade(table[p], snap)
        for v in range(len(plan)):
            t = plan[v, 0]
            visit = (t, plan[v, 1], plan[v, 2])
            _predict(visit, table[p], grid, width, snap, lift, field, predictor, reciprocals, scratch, centre, klass)
            count = quantise_pass(
                target[t], missing[t], use_missing, centre, rows, columns, width, snap, half_open, unit, n[t], act[t], quanta[at:]
            )
            if count < 0:
                return -1
            _fill_coded(klass, missing[t], use_missing, rows, columns, width, classes[at:])
            groups[at : at + count] = table[p, 2]
            at += count
            ends[p * len(plan) + v] = at
    return at
