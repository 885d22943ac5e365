"""Quanta as tokens: small ones are tokens of their own, large ones a bucket with raw extra bits, so none needs an escape.

`docs/reference/format.md`, section 8.
"""

from __future__ import annotations

import numba as nb
import numpy as np

__all__ = ["DIRECT", "TOKENS", "token_costs", "zigzag"]

DIRECT = 16
TOKENS = 64


@nb.njit(nogil=True, cache=True, inline="always")
def floor_log2(v):
    """floor(log2(v)) of an integer 1 <= v < 2**31."""
    e = 0
    if v >= 1 << 16:
        v >>= 16
        e += 16
    if v >= 1 << 8:
        v >>= 8
        e += 8
    if v >= 1 << 4:
        v >>= 4
        e += 4
    if v >= 1 << 2:
        v >>= 2
        e += 2
    if v >= 1 << 1:
        e += 1
    return e


@nb.njit(nogil=True, cache=True, inline="always")
def zigzag(q):
    """0, -1, 1, -2, 2, .. as 0, 1, 2, 3, 4, ..; exact for ``|q| < 2**27``."""
    return 2 * q if q >= 0 else -2 * q - 1


@nb.njit(nogil=True, cache=True, inline="always")
def split(z):
    """Token, number of extra bits and their value, of a zigzag number below 2**28."""
    if z < 16:
        return z, 0, 0
    e = floor_log2(z)
    return 16 + 2 * (e - 4) + ((z >> (e - 1)) & 1), e - 1, z & ((1 << (e - 1)) - 1)


@nb.njit(nogil=True, cache=True, inline="always")
def extra_bits(token):
    """How many raw bits follow a token."""
    return 0 if token < 16 else ((token - 16) >> 1) + 3


@nb.njit(nogil=True, cache=True, inline="always")
def join(token, extra):
    """The quantum that a token and its extra bits stand for."""
    z = token
    if token >= 16:
        e = ((token - 16) >> 1) + 4
        z = ((2 | ((token - 16) & 1)) << (e - 1)) | extra
    return z >> 1 if (z & 1) == 0 else -((z + 1) >> 1)


def token_costs(slope: int) -> np.ndarray:
    """Costs in eighths of a bit of the 64 tokens when a quantum costs ``slope / 256`` eighths more for each step from 0."""
    middle = np.zeros(TOKENS, np.int64)
    extra = np.zeros(TOKENS, np.int64)
    for token in range(TOKENS):
        if token < DIRECT:
            middle[token] = (token + 1) >> 1
        else:
            e = ((token - 16) >> 1) + 4
            first = (2 | (token & 1)) << (e - 1)
            extra[token] = e - 1
            middle[token] = (first + (1 << (e - 2))) >> 1
    return ((middle * slope) >> 8) - 8 * extra
