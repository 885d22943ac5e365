"""Lane-interleaved rANS over integer tables: 32-bit states, 16-bit words, 15-bit frequencies, raw bits in the same stream.

After J. Duda, "Asymmetric numeral systems" (arXiv:1311.2540) and F. Giesen, "Interleaved entropy coders" (arXiv:1402.3392).
Symbol ``i`` of a segment belongs to lane ``i % lanes``. A step takes the next ``lanes`` symbols in three phases (token, low
extra bits, high extra bits), lane by lane, so that a vectorised decoder can run each phase over all lanes at once.
`docs/reference/format.md`, section 10.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from latentzarr.bitstream.tokens import extra_bits, join, split, zigzag

__all__ = ["START", "decode_segment", "encode_symbols"]

START = 1 << 16


@nb.njit(nogil=True, cache=True)
def encode_symbols(quanta, tables, ends, starts, lanes):
    """Code all symbols, last first.

    Parameters
    ----------
    quanta : int32 array, shape (n,)
    tables : uint16 array, shape (n,)
        Row of ``starts`` for each symbol.
    ends : int64 array, shape (segments,)
        Where each segment ends in ``quanta``; lanes start anew at each.
    starts : int32 array, shape (rows, 65)
    lanes : int

    Returns
    -------
    words : uint16 array, in the order the decoder reads them
    states : uint32 array, shape (lanes,)
    taken : int64 array, shape (segments,)
        How many words the decoder has read when it has finished each segment.
    """
    total = len(quanta)
    buffer = np.empty(3 * total + 4, np.uint16)
    used = 0
    state = np.full(lanes, np.uint64(65536), np.uint64)
    emitted = np.zeros(len(ends) + 1, np.int64)
    token = np.empty(lanes, np.int64)
    bits = np.empty(lanes, np.int64)
    extra = np.empty(lanes, np.int64)
    for segment in range(len(ends) - 1, -1, -1):
        begin = ends[segment - 1] if segment > 0 else 0
        end = ends[segment]
        steps = (end - begin + lanes - 1) // lanes
        for step in range(steps - 1, -1, -1):
            first = begin + step * lanes
            active = min(lanes, end - first)
            most = 0
            for j in range(active):
                token[j], bits[j], extra[j] = split(zigzag(quanta[first + j]))
                most = max(most, bits[j])
            if most > 16:
                for j in range(active - 1, -1, -1):
                    if bits[j] > 16:
                        b = np.uint64(bits[j] - 16)
                        x = state[j]
                        if x >= np.uint64(1) << (np.uint64(32) - b):
                            buffer[used] = np.uint16(x & np.uint64(65535))
                            used += 1
                            x >>= np.uint64(16)
                        state[j] = (x << b) | np.uint64(extra[j] >> 16)
            if most > 0:
                for j in range(active - 1, -1, -1):
                    if bits[j] > 0:
                        b = np.uint64(min(bits[j], 16))
                        x = state[j]
                        if x >= np.uint64(1) << (np.uint64(32) - b):
                            buffer[used] = np.uint16(x & np.uint64(65535))
                            used += 1
                            x >>= np.uint64(16)
                        state[j] = (x << b) | np.uint64(extra[j] & ((1 << min(bits[j], 16)) - 1))
            for j in range(active - 1, -1, -1):
                row = tables[first + j]
                low = np.uint64(starts[row, token[j]])
                freq = np.uint64(starts[row, token[j] + 1]) - low
                x = state[j]
                if x >= freq << np.uint64(17):
                    buffer[used] = np.uint16(x & np.uint64(65535))
                    used += 1
                    x >>= np.uint64(16)
                state[j] = ((x // freq) << np.uint64(15)) + x % freq + low
        emitted[segment] = used
    words = buffer[:used][::-1].copy()
    taken = np.empty(len(ends), np.int64)
    for segment in range(len(ends)):
        taken[segment] = used - emitted[segment + 1]
    return words, state.astype(np.uint32), taken


@nb.njit(nogil=True, cache=True)
def decode_segment(words, position, limit, state, tables, starts, lanes, quanta):
    """Decode ``len(quanta)`` symbols from ``words[position:limit]``; return the new position, or -1 if the words ran out.

    ``state`` (uint64, shape (lanes,)) is carried over from segment to segment.
    """
    total = len(quanta)
    token = np.empty(lanes, np.int64)
    extra = np.empty(lanes, np.int64)
    for first in range(0, total, lanes):
        active = min(lanes, total - first)
        most = 0
        for j in range(active):
            x = state[j]
            slot = np.int32(x & np.uint64(32767))
            row = starts[tables[first + j]]
            t = 0
            if slot >= row[8]:
                t = 8
                if slot >= row[16]:
                    t = 16
                    while slot >= row[t + 8]:
                        t += 8
            if slot >= row[t + 4]:
                t += 4
            if slot >= row[t + 2]:
                t += 2
            if slot >= row[t + 1]:
                t += 1
            low = np.uint64(row[t])
            freq = np.uint64(row[t + 1]) - low
            x = freq * (x >> np.uint64(15)) + np.uint64(slot) - low
            if x < np.uint64(65536):
                if position >= limit:
                    return -1
                x = (x << np.uint64(16)) | np.uint64(words[position])
                position += 1
            state[j] = x
            token[j] = t
            most = max(most, t)
        if most >= 16:
            for j in range(active):
                extra[j] = 0
                b = extra_bits(token[j])
                if b > 0:
                    b = min(b, 16)
                    x = state[j]
                    extra[j] = np.int64(x & np.uint64((1 << b) - 1))
                    x >>= np.uint64(b)
                    if x < np.uint64(65536):
                        if position >= limit:
                            return -1
                        x = (x << np.uint64(16)) | np.uint64(words[position])
                        position += 1
                    state[j] = x
            if extra_bits(most) > 16:
                for j in range(active):
                    b = extra_bits(token[j]) - 16
                    if b > 0:
                        x = state[j]
                        extra[j] |= np.int64(x & np.uint64((1 << b) - 1)) << 16
                        x >>= np.uint64(b)
                        if x < np.uint64(65536):
                            if position >= limit:
                                return -1
                            x = (x << np.uint64(16)) | np.uint64(words[position])
                            position += 1
                        state[j] = x
        for j in range(active):
            quanta[first + j] = join(token[j], extra[j] if most >= 16 else 0)
    return position
