"""Find the lattice that packed data lie on (16-bit GRIB or NetCDF packing, codes, decimals), so that quanta can sit on it.

Encoder only: what is found is written down and checked like anything else; a wrong guess costs bytes, never correctness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Packing", "find_packing"]

_PROBE = 1024
_SAMPLE = 16_384
_MOST_LEVELS = 2**22
_ROUGHNESS = 0.02  # how far from the lattice a value may lie, in spacings


@dataclass(frozen=True, slots=True)
class Packing:
    """``value = origin + k * spacing`` for whole ``k``, up to ``deviation``."""

    origin: float
    spacing: float
    deviation: float


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def find_packing(numbers: npt.NDArray[np.float64], smallest_useful: float) -> Packing | None:
    """The lattice that values lie on.

    Parameters
    ----------
    numbers : float64 array, shape (n,)
        Finite values.
    smallest_useful : float
        Spacings below this are not looked for; 0 looks for any.

    Returns
    -------
    Packing or None
    """
    probe = np.unique(numbers[:: max(1, numbers.size // _PROBE)])
    span = float(numbers.max()) - float(numbers.min())
    if not (0.0 < span < math.inf) or (smallest_useful > 0 and len(probe) >= _PROBE):
        return None
    levels = np.unique(numbers[:: max(1, numbers.size // _SAMPLE)])
    noise = 4 * float(np.spacing(np.float32(np.abs(levels).max())))
    gaps = np.diff(levels)
    gaps = gaps[gaps > noise]
    if len(gaps) == 0 or span / float(gaps.min()) > _MOST_LEVELS or gaps.min() < smallest_useful:
        return None
    origin = float(levels[0])
    spacing = _refined(levels - origin, float(gaps.min()))
    if spacing is None or not 1e-300 < spacing < 1e300:
        return None
    exponent = round(math.log2(spacing))
    if abs(2.0**exponent / spacing - 1) < 1e-5:
        spacing = 2.0**exponent
    k = np.rint((numbers - origin) / spacing)
    deviation = float(np.abs(numbers - (origin + k * spacing)).max())
    return Packing(origin, spacing, deviation) if deviation <= _ROUGHNESS * spacing else None


def _refined(steps: npt.NDArray[np.float64], spacing: float) -> float | None:
    """Least squares over a window that doubles, so that a rough first spacing cannot miscount far away."""
    reach = 8.0 * spacing
    while True:
        near = steps[steps <= reach]
        k = np.rint(near / spacing)
        norm = float(k @ k)
        if norm > 0:
            spacing = float(k @ near) / norm
            if not float(np.abs(near - k * spacing).max()) <= 4 * _ROUGHNESS * spacing:
                return None
        if reach >= steps[-1]:
            return spacing
        reach *= 2.0
