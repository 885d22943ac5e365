"""Raster code as section 13 of the page says it: one value after the other, from neighbours to prediction to decisions."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from latentzarr.errors import CorruptFrameError
from latentzarr.reference.bits import Cursor, read_planes
from latentzarr.reference.chances import Decisions, clip, size, step

__all__ = ["read_raster"]

Ints = npt.NDArray[np.int64]


class Slice:
    """The ``k``, errors and misses of a slice, with what stands outside it."""

    def __init__(self, rows: int, columns: int, before: Slice | None) -> None:
        self.shape = rows, columns
        self.k = [[0] * columns for _ in range(rows)]
        self.e: dict[tuple[int, int], int] = defaultdict(int)
        self.m: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 10)
        self.corner = before.k[0][0] if before else 0

    def near(self, i: int, j: int, here: tuple[int, int]) -> int:
        """``k`` at a place that is decoded, or stands outside, as seen from ``here``; of the slice at hand."""
        columns = self.shape[1]
        if i < 0:
            return self.near(0, min(j, columns - 1 if here[0] else here[1]) - 1, here)
        if j < 0:
            return self.k[i - 1][0] if i else self.corner
        return self.k[i][min(j, columns - 1)]

    def clipped(self, i: int, j: int) -> int:
        """``k`` at the nearest place inside; of a finished slice."""
        return self.k[clip(i, 0, self.shape[0] - 1)][clip(j, 0, self.shape[1] - 1)]


class Raster:
    """The state that goes on from slice to slice, and the slices themselves."""

    def __init__(self, code: bytes, missing: npt.NDArray[np.bool_]) -> None:
        self.decisions = Decisions(code)
        self.missing = missing
        self.a, self.b = [0] * 21, [0] * 21
        self.bias: dict[int, int] = defaultdict(int)
        self.worth: dict[tuple[int, int], int] = defaultdict(lambda: 32768)
        self.slices: list[Slice] = []

    def read(self) -> Ints:
        """All ``k``."""
        count, rows, columns = self.missing.shape
        for t in range(count):
            now = Slice(rows, columns, self.slices[-1] if t else None)
            for i in range(rows):
                for j in range(columns):
                    if self.missing[t, i, j]:
                        beside = i == 0 or (j > 0 and not self.missing[t, i, j - 1])
                        now.k[i][j] = now.near(i, j - 1, (i, j)) if beside else now.near(i - 1, j, (i, j))
                        now.e[i, j] = now.e[i, j - 1] if j else now.e[i - 1, j]
                        now.m[i, j] = now.m[i - 1, j]
                    else:
                        self.value(t, now, i, j)
            self.slices.append(now)
        self.decisions.reader.finish()
        return np.array([s.k for s in self.slices], np.int64)

    def value(self, t: int, now: Slice, i: int, j: int) -> None:
        """One value: level ground, or prediction, copies and residual."""

        def at(up: int, left: int) -> int:
            return now.near(i - up, j - left, (i, j))

        def old(back: int, down: int, right: int) -> int:
            return self.slices[t - back].clipped(i + down, j + right) if t >= back else 0

        w, ww, n, nw, ne, nn = at(0, 1), at(0, 2), at(1, 0), at(1, 1), at(1, -1), at(2, 0)
        nww, nee, nnw, nne = at(1, 2), at(1, -2), at(2, 1), at(2, -1)
        p, pw, pn, pe, ps = old(1, 0, 0), old(1, 0, -1), old(1, -1, 0), old(1, 0, 1), old(1, 1, 0)
        d, m = self.decisions, now.m
        flat = w == n == nw == ne == ww
        if flat:
            tests = [
                p == pw,
                pn == pw,
                pe == pw,
                ps == pw,
                nn == w,
                nee == w,
                nww == w,
                p == w,
                nne == w,
                nnw == w,
                w == 0,
                t == 0,
            ]
            if d.alone(d.level[sum(x << k for k, x in enumerate(tests))], 4, 65532):
                now.k[i][j], now.e[i, j], m[i, j] = w, 0, [x >> 1 for x in m[i - 1, j]]
                return
        # prediction
        x = [2 * v - w - n for v in (w, nw, ne, ww, nn, nne, nee, nww, nnw)]
        if t > 0:
            more = old(1, -1, -1), old(1, -1, 1), old(1, 1, -1), old(1, 1, 1)
            x += [2 * v - pw - pn for v in (p, pw, pe, ps, *more)]
        if t > 1:
            x += [2 * old(2, *o) - old(2, 0, -1) - old(2, -1, 0) for o in ((0, 0), (0, -1), (0, 1), (1, 0))]
        base = 8 * (w + n)
        learned = [base + (sum(c * v for c, v in zip(weights, x, strict=False)) >> 13) for weights in (self.a, self.b)]
        centres = [
            *(clip(c, -(2**30), 2**30) for c in learned),
            16 * w,
            16 * n,
            16 * (w + n - nw),
            16 * (w + ne - n),
            16 * (2 * n - nn),
        ]
        centres += [16 * (w + p - pw), 16 * (n + p - pn), 16 * p] if t else [4 * (w + n + ne + nw)]
        near = zip(m[i - 1, j], m[i - 1, j - 1], m[i - 1, j + 1], m[i, j - 1], m[i, j - 2], strict=True)
        g = [((2**25 // (2 + 2 * a + b + c + 2 * e + f)) ** 2 >> 20) + 1 for a, b, c, e, f in near][: len(centres)]
        moved = sum(share * (c - base) for share, c in zip(g, centres, strict=True)) // sum(g)
        e_w, e_n, e_ne = now.e[i, j - 1], abs(now.e[i - 1, j]), abs(now.e[i - 1, j + 1])
        e_nw, e_ww = abs(now.e[i - 1, j - 1]), abs(now.e[i, j - 2])
        unrest = min(95, size((2 * abs(e_w) + 2 * e_n + e_nw + e_ne + e_ww + abs(now.e[i - 2, j])) >> 1))
        calm = min(unrest >> 4, 3)
        place = 4 * (9 * step(w - n) + step(ne - n)) + calm
        prediction = clip(base + moved + (self.bias[place] >> 12), -(2**30), 2**30)
        nearest = (prediction + 8) >> 4
        slope = size(abs(w - nw) + abs(n - nw) + abs(n - ne) + abs(w - ww) + abs(n - nn)) >> 1
        past = 0
        if t:
            e = self.slices[-1].e
            past = min(size(2 * abs(e[i, j]) + abs(e[i, j + 1]) + abs(e[i + 1, j])) >> 2, 11)
        # copies
        same = sum(x << k for k, x in enumerate([w == n, w == nw, n == nw, n == ne, w == ww, n == nn, flat]))
        tests = [p == pw, p == pn, p == pe, p == w, p == n, pw == w, pn == n, pe == ne]
        like = sum(x << k for k, x in enumerate(tests))
        ground = 8 * same + min(unrest >> 3, 7)
        candidates = [(0, w)] * (not flat) + [(1, n)] * (n != w) + [(2, p)] * (t > 0 and p not in (w, n))
        asked, k = [], None
        for which, v in candidates:
            if self.worth[which, ground] <= 2048:
                continue
            asked.append(which)
            away = abs(16 * v - prediction)
            names = [ground, 4 * like + (same & 3), 4 * unrest + min(away >> 3, 3)]
            names.append(256 * min(slope, 15) + 8 * min(size(away), 31) + min(past, 7))
            named = [("copy", which, number, name) for number, name in enumerate(names)]
            if d.mix(named, d.copy_weights[which, same & 63], 14):
                k = v
                break
        copied = k is not None
        if k is None:
            excluded = (flat and nearest == w) or any(v == nearest for which, v in candidates if which in asked)
            contexts = [
                unrest,
                12 * min(slope >> 1, 11) + min(size(abs(e_w)) >> 2, 11),
                8 * past + min(unrest >> 3, 7),
                4 * (9 * step(w - nearest) + step(n - nearest)) + calm,
                4 * (9 * step((p if t else ne) - nearest) + step((e_w + 8) >> 4)) + calm,
                16 * min(unrest, 23) + ((prediction + 8) & 15),
                24 * min(size(abs(e_w) + e_ww) >> 1, 31) + min(size(e_n + e_ne + e_nw) >> 1, 23),
            ]
            k = clip(nearest + d.residual(contexts, unrest, not excluded), -(2**25), 2**25)
        # after a value
        for which, v in candidates:
            if which in asked or not copied:
                self.worth[which, ground] += (65536 * (k == v) - self.worth[which, ground]) >> 5
        now.k[i][j] = k
        now.e[i, j] = clip(16 * k - prediction, -(2**24), 2**24)
        self.bias[place] = clip(self.bias[place] + 64 * now.e[i, j], -(2**40), 2**40)
        misses = [min(abs(16 * k - c), 2**19) for c in centres]
        m[i, j] = misses + [0] * (10 - len(misses))
        s = 64 + sum(v * v for v in x)
        for weights, centre, shift in ((self.a, centres[0], 14), (self.b, centres[1], 13)):
            pull = (16 * k - centre) * 2**20 // s
            for number, v in enumerate(x):
                weights[number] = clip(weights[number] + ((pull * v) >> shift), -(2**22), 2**22)


def read_raster(code: bytes, missing: npt.NDArray[np.bool_], ranks: bytes) -> Ints:
    """Whole quanta of a raster frame, shape (slices, rows, columns)."""
    k = Raster(code, missing).read()
    if not ranks:
        return k
    cursor = Cursor(ranks)
    low, width = cursor.signed_varint(), cursor.varint()
    if abs(low) > 2**25 or not 1 <= width <= 2**16 or width * len(k) > k.size:
        raise CorruptFrameError(f"ranks of {width} values from {low}")
    plane = read_planes(cursor.take(cursor.left), [0], (len(k), 1, width))[0]
    for t in range(len(k)):
        values, coded = low + np.flatnonzero(plane[t, 0]), ~missing[t]
        if coded.any() and not (k[t][coded].min() >= 0 and k[t][coded].max() < len(values)):
            raise CorruptFrameError(f"a rank in slice {t} that no value has")
        k[t][coded] = values[k[t][coded]]
    return k
