"""Bit planes (missing, infinite, fill, sign) in an adaptive binary arithmetic code, cheap where a plane stands still.

A pixel's context is six decoded neighbours of its own slice and three pixels of the previous slice; a slice equal to the
previous one costs a fraction of a bit. The coder is the carry-less binary coder of the PAQ family (M. Mahoney, "Data
Compression Explained", section 3.2). `docs/reference/format.md`, section 11.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from latentzarr.errors import CorruptFrameError

__all__ = ["decode_planes", "encode_planes"]

CONTEXTS = 514  # 2**9 of pixels, 2 for "this slice equals the previous one" (first or later plane alike)
_SAME = 512


@nb.njit(nogil=True, cache=True, inline="always")
def _context(plane, t, y, x, height, width):
    c = 0
    if x > 0:
        c |= plane[t, y, x - 1]
        if x > 1:
            c |= plane[t, y, x - 2] << 1
    if y > 0:
        c |= plane[t, y - 1, x] << 2
        if x > 0:
            c |= plane[t, y - 1, x - 1] << 3
        if x + 1 < width:
            c |= plane[t, y - 1, x + 1] << 4
        if y > 1:
            c |= plane[t, y - 2, x] << 5
    if t > 0:
        c |= plane[t - 1, y, x] << 6
        if x + 1 < width:
            c |= plane[t - 1, y, x + 1] << 7
        if y + 1 < height:
            c |= plane[t - 1, y + 1, x] << 8
    return c


@nb.njit(nogil=True, cache=True, inline="always")
def _update(prob, count, c, bit):
    rate = min(count[c] + 1, 5)
    if bit:
        prob[c] += (65536 - prob[c]) >> rate
    else:
        prob[c] -= prob[c] >> rate
    prob[c] = min(max(prob[c], 32), 65504)
    count[c] = min(count[c] + 1, 5)


@nb.njit(nogil=True, cache=True, inline="always")
def _middle(low, high, p):
    span = high - low
    return low + (span >> 16) * p + (((span & 65535) * p) >> 16)


@nb.njit(nogil=True, cache=True)
def _code(planes, out, data, decode):
    """Encode ``planes`` into ``out`` or decode ``data`` into ``planes``; return bytes written, or -1 if ``data`` ran out."""
    count_planes, slices, height, width = planes.shape
    low = 0
    high = 0xFFFFFFFF
    code = 0
    at = 0
    if decode:
        for _ in range(4):
            code = (code << 8) | (data[at] if at < len(data) else 0)
            at += 1
    for p in range(count_planes):
        prob = np.full(CONTEXTS, 32768, np.int64)
        count = np.zeros(CONTEXTS, np.int64)
        plane = planes[p]
        for t in range(slices):
            same = 0
            if t > 0 and not decode:
                same = 1 if (plane[t] == plane[t - 1]).all() else 0
            for y in range(-1, height):
                for x in range(width if y >= 0 else 1):
                    if y < 0:
                        if t == 0:
                            continue
                        c = _SAME
                        bit = same
                    else:
                        if same:
                            if decode:
                                plane[t, y, x] = plane[t - 1, y, x]
                            continue
                        skip = False
                        for earlier in range(p):
                            if planes[earlier, t, y, x]:
                                skip = True
                        if skip:
                            continue
                        c = _context(plane, t, y, x, height, width)
                        bit = plane[t, y, x]
                    middle = _middle(low, high, prob[c])
                    if decode:
                        bit = 1 if code <= middle else 0
                        if y < 0:
                            same = bit
                        else:
                            plane[t, y, x] = bit
                    if bit:
                        high = middle
                    else:
                        low = middle + 1
                    _update(prob, count, c, bit)
                    while ((low ^ high) & 0xFF000000) == 0:
                        if decode:
                            if at >= len(data) + 4:
                                return -1
                            code = ((code << 8) & 0xFFFFFFFF) | (data[at] if at < len(data) else 0)
                        else:
                            out[at] = high >> 24
                        at += 1
                        low = (low << 8) & 0xFFFFFFFF
                        high = ((high << 8) & 0xFFFFFFFF) | 255
    if not decode:
        out[at] = (low >> 24) + 1 if (low >> 24) < (high >> 24) else high >> 24
        at += 1
    return at


def encode_planes(planes: npt.NDArray[np.uint8]) -> bytes:
    """Code bit planes.

    Parameters
    ----------
    planes : uint8 array of 0 and 1, shape (planes, slices, rows, columns)
        A pixel that is 1 in an earlier plane is 0, and not coded, in the later ones.
    """
    decisions = planes.size + planes.shape[0] * planes.shape[1]
    out = np.empty(decisions * 2 + 16, np.uint8)  # a decision costs at most 12 bits
    used = _code(planes, out, np.empty(0, np.uint8), False)
    return out[:used].tobytes()


def decode_planes(data: bytes, shape: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Decode what `encode_planes` wrote.

    Raises
    ------
    CorruptFrameError
        If the bytes end before the planes do.
    """
    planes = np.zeros(shape, np.uint8)
    if _code(planes, np.empty(0, np.uint8), np.frombuffer(data, np.uint8), True) < 0:
        raise CorruptFrameError("the mask section ends before the mask does")
    return planes
