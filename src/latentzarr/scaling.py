"""The lattice of a chunk: how whole numbers of sixteenths of a quantum stand for physical values, exactly and everywhere.

A linear lattice multiplies once in float64; a logarithmic one (pointwise relative bounds) computes powers of two in integers.
Both give the same bits on every IEEE machine. `docs/reference/format.md`, section 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.packing import Packing

__all__ = [
    "FRACTION",
    "LATTICE_LIMIT",
    "LinearLattice",
    "LogLattice",
    "integer_lattice",
    "linear_lattice",
    "log_lattice",
    "packed_lattice",
    "step_of",
]

FRACTION = 16
"""Lattice units in a quantum."""
LATTICE_LIMIT = 2**28
"""Encoders keep all values within this many lattice units of the offset."""
_LOG_ONE = 1 << 40


@dataclass(frozen=True, slots=True)
class LinearLattice:
    """``value = origin + (16 * offset + n) * (step / 16)``.

    Attributes
    ----------
    step : float
        Units of the data in a quantum; for integers a whole number below 2**31.
    offset : int
        Whole quanta; ``16 * |offset| + 2**29 < 2**53``.
    origin : float
        0 unless the quanta sit on the lattice of packed data.
    """

    step: float
    offset: int
    origin: float = 0.0

    def coordinates(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Lattice units of values, not rounded."""
        return (values - self.origin) * (FRACTION / self.step) - float(FRACTION * self.offset)

    def values(self, n: npt.NDArray[np.int32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Values of lattice units ``n`` in ``dtype``; integers take the nearest, ties upwards."""
        total = n.astype(np.int64) + FRACTION * self.offset
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return (self.origin + total.astype(np.float64) * (self.step / FRACTION)).astype(dtype)
        exact = (total * int(self.step) + FRACTION // 2) >> 4
        return np.clip(exact, *_integer_limits(dtype)).astype(dtype)


@dataclass(frozen=True, slots=True)
class LogLattice:
    """``|value| = 2**((16 * offset + n) * log_step / 16 / 2**40)``; the sign comes from a plane of its own.

    Attributes
    ----------
    log_step : int
        Units of 2**-40 of log2 in a quantum.
    offset : int
        Whole quanta.
    """

    log_step: int
    offset: int

    def coordinates(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Lattice units of non-zero values, not rounded. Encoder only: log2 may differ between machines, decoding does not."""
        return np.log2(np.abs(values)) * (FRACTION * _LOG_ONE / self.log_step) - float(FRACTION * self.offset)

    def values(self, n: npt.NDArray[np.int32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Magnitudes of lattice units ``n`` in a float ``dtype``."""
        coarse, fine = _power_tables()
        total = n.astype(np.int64) + FRACTION * self.offset
        # |total| < 2**21 * 16 by the encoder; clipped so that no frame can overflow the product
        exponent = (np.clip(total, -(2**62) // self.log_step, 2**62 // self.log_step) * self.log_step) >> 4
        whole = exponent >> 40
        fraction = exponent & (_LOG_ONE - 1)
        mantissa = (coarse[fraction >> 30] * fine[(fraction >> 20) & 1023]) >> 30
        mantissa += (mantissa * (((fraction & 0xFFFFF) * 744_261_118) >> 30)) >> 40
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(mantissa.astype(np.float64), np.clip(whole - 30, -2000, 2000).astype(np.int32)).astype(dtype)


def _integer_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(min(info.max, 2**63 - 1))


@lru_cache(maxsize=1)
def _power_tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """2**(i / 2**10) and 2**(i / 2**20) for i = 0..1023, in units of 2**-30, rounded; from integer square roots alone."""
    bits = 256
    root = 2 << bits
    tables = []
    for _ in range(2):
        for _ in range(10):
            root = math.isqrt(root << bits)
        power, row = 1 << bits, []
        for _ in range(1024):
            row.append((power + (1 << (bits - 31))) >> (bits - 30))
            power = (power * root) >> bits
        tables.append(np.array(row, np.int64))
    return tables[0], tables[1]


def linear_lattice(
    bound: float, largest: float, low: float, high: float, dtype: np.dtype[Any]
) -> tuple[LinearLattice, int] | None:
    """The lattice for an absolute bound on floats, and its slack.

    Parameters
    ----------
    bound : float
    largest, low, high : float
        Largest magnitude, minimum and maximum of the finite values.
    dtype : float dtype of the data

    Returns
    -------
    (LinearLattice, slack) or None
        None where the bound is below twice the resolution of ``dtype`` at ``largest``, or the lattice would be too large.
    """
    resolution = _spacing(largest, dtype) * (1.0 if dtype.itemsize == 8 else 0.51)
    share = max(resolution / bound, 2.0**-60)  # the quotient of a tiny and a huge number is 0
    if not share <= 0.25:
        return None
    slack = math.floor(-math.log2(share))
    step = step_of(bound, slack)
    return _centred(step, low, high, slack)


def _spacing(largest: float, dtype: np.dtype[Any]) -> float:
    """Distance to the next larger number of a float ``dtype``; below its largest finite one, where that is infinite."""
    return float(np.spacing(dtype.type(min(largest, float(np.finfo(dtype).max) / 2)))) * (
        2.0 if largest > np.finfo(dtype).max / 2 else 1.0
    )


def step_of(bound: float, slack: int) -> float:
    """``2 * bound * (1 - 2**-slack)``; ``slack`` 0 means none."""
    return 2.0 * bound * (1.0 - 2.0**-slack) if slack else 2.0 * bound


def _centred(step: float, low: float, high: float, slack: int) -> tuple[LinearLattice, int] | None:
    if not (math.isfinite(step) and step > 0 and math.isfinite(FRACTION / step)):
        return None
    middle = (low / 2 + high / 2) / step
    if not (abs(middle) < 2**48 and (high / 2 - low / 2) / step * FRACTION < LATTICE_LIMIT):
        return None
    return LinearLattice(step, round(middle)), slack


def packed_lattice(bound: float, packing: Packing, low: float, high: float, dtype: np.dtype[Any]) -> LinearLattice | None:
    """The lattice for floats that lie on one already; None where a plain one has quanta nearly as large (it sees between them).

    Parameters
    ----------
    bound : float
        0 for exact values.
    packing : Packing
    low, high : float
        Minimum and maximum of the finite values.
    """
    rounding = _spacing(max(abs(low), abs(high)), dtype) + packing.deviation
    reach = math.floor((bound - rounding) / packing.spacing) if bound > rounding else 0
    step = (2 * reach + 1) * packing.spacing
    if step < 2.2 * bound or not (high - low) / step * FRACTION < LATTICE_LIMIT:
        return None
    return LinearLattice(step, round(((low + high) / 2 - packing.origin) / step), packing.origin)


def integer_lattice(bound: float, low: int, high: int) -> LinearLattice | None:
    """The lattice for integers: quanta of ``2 * floor(bound) + 1``; None where it would be too large."""
    step = 2 * math.floor(bound) + 1
    if step >= 2**31 or max(abs(low), abs(high)) >= 2**47:
        return None
    found = _centred(float(step), float(low), float(high), 0)
    return found[0] if found else None


def log_lattice(relative: float, smallest: float, largest: float, dtype: np.dtype[Any]) -> LogLattice | None:
    """The lattice for a pointwise relative bound.

    Parameters
    ----------
    relative : float
    smallest, largest : float
        Of the magnitudes of the finite non-zero values.

    Returns
    -------
    LogLattice or None
        None where the bound is too tight for ``dtype``, or values are subnormal in it.
    """
    if smallest < float(np.finfo(dtype).tiny):
        return None
    resolution = 0.51 * float(np.finfo(dtype).eps) + 2.0**-27
    if resolution / relative > 0.25:
        return None
    log_step = math.floor(2.0 * math.log2(1.0 + relative - resolution) * _LOG_ONE)
    middle = (math.log2(smallest) + math.log2(largest)) / 2 * _LOG_ONE / log_step
    if log_step < 2**12 or (math.log2(largest) - math.log2(smallest)) * _LOG_ONE / log_step * FRACTION >= 2 * LATTICE_LIMIT:
        return None
    return LogLattice(log_step, round(middle))
