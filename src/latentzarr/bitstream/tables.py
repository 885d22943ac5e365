"""Frozen integer frequency tables: how likely each token is in each class, as integers that sum to 2**15.

A table travels as 64 costs of one byte (eighths of a bit). Frequencies follow from costs by integer arithmetic alone, so
every reader on every machine builds the same ones. `docs/reference/format.md`, section 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.tokens import TOKENS, token_costs
from latentzarr.errors import UntrustedModelError

__all__ = ["CLASSES", "SCALE", "SCALE_BITS", "FrequencyTables", "fixed_tables", "frequencies"]

SCALE_BITS = 15
SCALE = 1 << SCALE_BITS
CLASSES = 64
_MOST_GROUPS = 16
_POWERS = np.array([2**30 // 1, 984623403, 902905651, 827970198, 759250125, 696233590, 638447284, 585455093], np.int64)
"""round(2**(30 - k / 8)) for k = 0..7."""
_SLOPES = (534_784, 449_692, 378_144, 317_979)


def frequencies(costs: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Frequencies that sum to 2**15, each at least 1, from costs in eighths of a bit.

    Parameters
    ----------
    costs : integer array, shape (tables, 64), values 0..255

    Returns
    -------
    int32 array, shape (tables, 64)
    """
    c = np.asarray(costs, np.int64)
    weight = _POWERS[c & 7] >> np.minimum(c >> 3, 62)
    freq = 1 + (weight * (SCALE - TOKENS)) // weight.sum(1, keepdims=True)
    largest = freq.argmax(1)  # the first of equals
    freq[np.arange(len(freq)), largest] += SCALE - freq.sum(1)
    return freq.astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class FrequencyTables:
    """One table for each group of passes and class of width.

    Attributes
    ----------
    costs : uint8 array, shape (64 * groups, 64)
        Row ``64 * group + class``; eighths of a bit of each token. 8 groups in order 1, 12 in order 2, 1 for the fixed tables.
    starts : int32 array, shape (64 * groups, 65)
        Cumulative frequencies; ``starts[:, 0] == 0`` and ``starts[:, 64] == 2**15``.

    Raises
    ------
    UntrustedModelError
        If ``costs`` has another shape or dtype, or a table in which no token is likely.
    """

    costs: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int32]

    @classmethod
    def from_costs(cls, costs: npt.NDArray[np.uint8]) -> FrequencyTables:
        """Build the frequencies of ``costs``."""
        if costs.dtype != np.uint8 or costs.ndim != 2 or costs.shape[1] != TOKENS or not _whole(len(costs)):
            raise UntrustedModelError(f"tables must be uint8 (64 * groups, {TOKENS}), are {costs.dtype} {costs.shape}")
        if (costs.min(1) >= 240).any():
            raise UntrustedModelError("a table has no token that costs less than 30 bits")
        starts = np.zeros((len(costs), TOKENS + 1), np.int32)
        starts[:, 1:] = frequencies(costs).cumsum(1)
        return cls(costs, starts)

    @property
    def groups(self) -> int:
        """Groups of 64 tables."""
        return len(self.costs) // CLASSES


def _whole(rows: int) -> bool:
    return 0 < rows <= _MOST_GROUPS * CLASSES and rows % CLASSES == 0


@lru_cache(maxsize=4)
def fixed_tables(groups: int = 1) -> FrequencyTables:
    """The 64 tables of the format itself: two-sided geometric, four widths an octave; the same for each group."""
    rows = []
    for width in range(CLASSES):
        costs = token_costs(_SLOPES[width & 3] >> (width >> 2))
        rows.append(np.clip(costs - costs.min(), 0, 255))
    return FrequencyTables.from_costs(np.tile(np.array(rows, np.uint8), (groups, 1)))
