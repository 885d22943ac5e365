"""Compiled: quanta to values and back, for passes and for the root, and the fixed cubic predictor (sections 5 and 7)."""

from __future__ import annotations

import numba as nb
import numpy as np

__all__ = ["cubic_pass", "quantise_pass", "quantise_root", "reconstruct_pass", "reconstruct_root"]


def _activities() -> np.ndarray:
    """How large a quantum is, in half octaves: 0 for 0, 1 for 1, 3 for 2, 4 for 3, .. at most 15."""
    m = np.arange(512)
    e = np.maximum(np.frexp(m)[1] - 1, 0)
    half = np.where(e > 0, (m >> np.maximum(e - 1, 0)) & 1, 0)
    return np.where(m == 0, 0, np.minimum(1 + 2 * e + half, 15)).astype(np.uint8)


_ACTIVITIES = _activities()


@nb.njit(nogil=True, cache=True, inline="always")
def _activity(q):
    return _ACTIVITIES[min(abs(q), 511)]


@nb.njit(nogil=True, cache=True)
def quantise_pass(target, missing, use_missing, centre, rows, columns, width, snap, half_open, unit, n, act, quanta):
    """Encoder: choose the quanta of a pass, write the decoded values back, return how many were coded (-1: overflow)."""
    scale = 1.0 / unit
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
            distance = (target[at] - p) * scale
            wish = np.ceil(distance - 0.5 - 1e-9) if half_open else np.floor(distance + 0.5)
            if not abs(wish) < 134217728.0:
                return -1
            q = np.int64(wish)
            v = np.int64(p) + unit * q
            if v < -lim or v > lim:
                return -1
            if snap:
                v = ((v + 8) >> 4) << 4
            n[at] = v
            act[at] = _activity((abs(np.int64(q)) * unit + 8) >> 4)
            quanta[coded] = q
            coded += 1
    return coded


@nb.njit(nogil=True, cache=True)
def reconstruct_pass(quanta, missing, use_missing, centre, rows, columns, width, snap, unit, n, act):
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
            v = min(max(np.int64(p) + unit * np.int64(q), -lim), lim)
            if snap:
                v = ((v + 8) >> 4) << 4
            n[at] = v
            act[at] = _activity((abs(np.int64(q)) * unit + 8) >> 4)


@nb.njit(nogil=True, cache=True, inline="always")
def _root_prediction(before, after, references, at, last):
    """In quanta: the reference at this place, or the last root value."""
    if references == 2:
        return (((np.int64(before[at]) + np.int64(after[at]) + 1) >> 1) + 8) >> 4
    if references == 1:
        return (np.int64(before[at]) + 8) >> 4
    return last


@nb.njit(nogil=True, cache=True)
def quantise_root(target, missing, use_missing, before, after, references, rows, columns, width, half_open, n, quanta):
    """Encoder: quanta of the root of a slice, each predicted by the one before it or by the slices it looks at."""
    coded = 0
    last = np.int64(0)
    for r in range(len(rows)):
        for c in range(len(columns)):
            at = rows[r] * width + columns[c]
            p = _root_prediction(before, after, references, at, last)
            if use_missing and missing[at]:
                n[at] = 16 * p
                continue
            k = (
                np.int64(np.ceil((target[at] - 8.0) * 0.0625 - 1e-9))
                if half_open
                else np.int64(np.floor(target[at] * 0.0625 + 0.5))
            )
            quanta[coded] = k - p
            coded += 1
            n[at] = 16 * k
            last = k
    return coded


@nb.njit(nogil=True, cache=True)
def reconstruct_root(quanta, missing, use_missing, before, after, references, rows, columns, width, n):
    """Decoder: the root of a slice from its quanta."""
    coded = 0
    last = np.int64(0)
    lim = np.int64(1 << 25)
    for r in range(len(rows)):
        for c in range(len(columns)):
            at = rows[r] * width + columns[c]
            p = _root_prediction(before, after, references, at, last)
            if use_missing and missing[at]:
                n[at] = 16 * p
                continue
            k = min(max(p + np.int64(quanta[coded]), -lim), lim)
            coded += 1
            n[at] = 16 * k
            last = k


@nb.njit(nogil=True, cache=True)
def cubic_pass(n, act, missing, use_missing, width, rows, columns, nrow, ncol, crossings, centre, klass):
    """Centre by cubic interpolation along the pass's axis (at crossings: both axes), context by the eight nearest quanta."""
    i = 0
    for r in range(len(rows)):
        for c in range(len(columns)):
            a0 = nrow[0, r] * width + ncol[0, c]
            a1 = nrow[1, r] * width + ncol[1, c]
            g0 = np.int64(n[a0])
            g1 = np.int64(n[a1])
            g2 = np.int64(n[nrow[2, r] * width + ncol[2, c]])
            g3 = np.int64(n[nrow[3, r] * width + ncol[3, c]])
            if crossings:
                far = np.int64(0)
                for k in range(8, 12):
                    far += n[nrow[k, r] * width + ncol[k, c]]
                p = (9 * (g0 + g1 + g2 + g3) - far + 16) >> 5
            else:
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
