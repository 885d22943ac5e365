"""Chances, mixed decisions and residuals of raster code (section 13), in Python's integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import isqrt
from typing import Any

from latentzarr.reference.bits import BitReader

__all__ = ["SQUASH", "STRETCH", "Decisions", "clip", "size", "step"]


def clip(x: int, low: int, high: int) -> int:
    """``x``, but at least ``low`` and at most ``high``."""
    return min(max(x, low), high)


def size(x: int) -> int:
    """How large ``x`` is, in quarter octaves."""
    if x == 0:
        return 0
    e = x.bit_length() - 1
    return 4 * e + 1 + ((x >> (e - 2) if e >= 2 else x << (2 - e)) & 3)


def step(d: int) -> int:
    """A difference in nine steps."""
    j = abs(d) if abs(d) <= 2 else (3 if abs(d) <= 5 else 4)
    return 4 + j if d >= 0 else 4 - j


# ------------------------------------------------------------------------------------------------------------ chances
def _tables() -> tuple[list[int], list[int]]:
    one = 2**256
    r = 2 * one
    for _ in range(8):
        r = isqrt(r * one)
    squash, u = {0: 32768}, one
    for d in range(1, 3072):
        u = (u * r) >> 256
        squash[d] = min(65536 * u // (u + one), 65528)
        squash[-d] = 65536 - squash[d]
    stretch, d = [], -3071
    for c in range(4096):
        while d < 3071 and squash[d] < 16 * c + 8:
            d += 1
        stretch.append(d)
    return [squash[d] for d in range(-3071, 3072)], stretch


SQUASH, STRETCH = _tables()


class Counter:
    """A chance that learns."""

    def __init__(self, limit: int, chance: int = 2**21) -> None:
        self.chance, self.count, self.limit = chance, 0, limit

    def learn(self, bit: int) -> None:
        """Move towards a bit."""
        rate = 655360 // (10 * self.count + 16)
        self.chance += ((2**22 - 1 - self.chance) * rate) >> 16 if bit else -((self.chance * rate) >> 16)
        self.count = min(self.count + 1, self.limit)


class Decisions:
    """All counters and weights, by name, and the arithmetic code."""

    def __init__(self, code: bytes) -> None:
        self.reader = BitReader(code)
        self.mixed: dict[Any, Counter] = defaultdict(lambda: Counter(255))
        self.plain: dict[Any, Counter] = defaultdict(lambda: Counter(1020))
        self.level: dict[int, Counter] = defaultdict(lambda: Counter(1020, 4100000))
        self.residual_weights: dict[Any, list[int]] = defaultdict(lambda: [19660] * 8)
        self.copy_weights: dict[Any, list[int]] = defaultdict(lambda: [22937] * 5)

    def alone(self, counter: Counter, low: int, high: int) -> int:
        """A decision with one counter."""
        bit = self.reader.bit_at(clip(counter.chance >> 6, low, high))
        counter.learn(bit)
        return bit

    def mix(self, names: Sequence[Any], weights: list[int], shift: int) -> int:
        """A mixed decision; ``weights`` has that of the constant first."""
        counters = [self.mixed[name] for name in names]
        s = [256, *(STRETCH[c.chance >> 10] for c in counters)]
        p = SQUASH[clip(sum(a * b for a, b in zip(weights, s, strict=True)) >> 16, -3071, 3071) + 3071]
        bit = self.reader.bit_at(p)
        for i, evidence in enumerate(s):
            weights[i] = clip(weights[i] + ((evidence * (65536 * bit - p) + (1 << (shift - 1))) >> shift), -(2**22), 2**22)
        for c in counters:
            c.learn(bit)
        return bit

    def residual(self, contexts: list[int], unrest: int, zero_asked: bool) -> int:
        """``r``, from its nodes."""

        def ask(node: int) -> int:
            names = [(i, context, node) for i, context in enumerate(contexts)]
            return self.mix(names, self.residual_weights[min(unrest >> 2, 23), node], 16)

        if zero_asked and ask(0):
            return 0
        negative = ask(1)
        e = 0
        while e < 26 and ask(2 + e):
            e += 1
        m = 1
        for j in range(e - 1, -1, -1):
            if j == e - 1:
                bit = ask(32 + e)
            elif j == e - 2:
                bit = ask(64 + 2 * e + (m & 1))
            else:
                bit = self.alone(self.plain[e, j], 32, 65504)
            m = 2 * m + bit
        return -m if negative else m
