"""From lattice units to values (section 6), and the special values put in their places (section 11)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.reference.header import Tables

__all__ = ["to_values"]

Ints = npt.NDArray[np.int64]
_SPECIAL = {0: math.nan, 1: math.inf, 2: -math.inf, 4: 0.0}


@np.errstate(over="ignore", under="ignore")
def to_values(n: Ints, dtype: np.dtype[Any], t: Tables) -> npt.NDArray[Any]:
    """Values in ``dtype`` (as stored) of the lattice units ``n``."""
    big = n + 16 * t.offset
    if dtype.kind != "f":
        values = _integers(big, dtype, int(t.step))
    elif t.logarithmic:
        values = _magnitudes(big, t.log_step).astype(dtype)
    else:
        values = (t.origin + big * (t.step / 16)).astype(dtype)
    for kind, plane in t.planes.items():  # in order, a later plane over an earlier one
        if kind == 5:
            values = np.where(plane, -values, values)
        else:
            values = np.where(plane, t.fill if kind == 3 and t.fill is not None else dtype.type(_SPECIAL[kind]), values)
    return values


def _integers(big: Ints, dtype: np.dtype[Any], step: int) -> npt.NDArray[Any]:
    info = np.iinfo(dtype)
    return np.clip((big * step + 8) >> 4, int(info.min), min(int(info.max), 2**63 - 1)).astype(dtype)


def _magnitudes(big: Ints, log_step: int) -> npt.NDArray[np.float64]:
    e = (np.clip(big, -(2**62) // log_step, 2**62 // log_step) * log_step) >> 4
    w, f = e >> 40, e & 2**40 - 1
    a, b = _power_tables()
    m = (a[f >> 30] * b[(f >> 20) & 1023]) >> 30
    m += (m * (((f & 0xFFFFF) * 744261118) >> 30)) >> 40
    return np.ldexp(m.astype(np.float64), np.clip(w - 30, -2000, 2000))


@lru_cache(maxsize=1)
def _power_tables() -> tuple[Ints, Ints]:
    one = 2**256
    r = 2 * one
    tables = []
    for _ in range(2):
        for _ in range(10):
            r = math.isqrt(r * one)
        p, table = one, []
        for _ in range(1024):
            table.append((p + 2**225) >> 226)
            p = (p * r) >> 256
        tables.append(np.array(table))
    return tables[0], tables[1]
