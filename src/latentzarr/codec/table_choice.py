"""Which of a model's tables, or of the format's own, codes which class of which group of passes (format page, section 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import Mode
from latentzarr.bitstream.tables import CLASSES, FrequencyTables, fixed_tables
from latentzarr.codec.predictor import CUBIC_CONTEXTS
from latentzarr.geometry import Order

__all__ = ["TableChoice", "combined_starts", "first_fixed_row", "tables_group"]


@dataclass(frozen=True, slots=True, eq=False)
class TableChoice:
    """Which row of the tables codes which class.

    Attributes
    ----------
    starts : int32 array, shape (rows, 65)
        The model's rows and the 64 fixed ones.
    row_of : uint16 array, shape (groups, 64)
        Row for each group and class.
    root_row : int
    """

    starts: npt.NDArray[np.int32]
    row_of: npt.NDArray[np.uint16]
    root_row: int

    @classmethod
    def make(
        cls, mode: Mode, order: Order, tables: FrequencyTables, adaptation: bytes, root_class: int, *, snap: bool
    ) -> TableChoice:
        """From a frame's adaptation bytes; see `docs/reference/format.md`, section 9."""
        starts = combined_starts(tables)
        fixed = first_fixed_row(tables)
        row_of = np.zeros((order.groups, CLASSES), np.uint16)
        given = np.frombuffer(adaptation, np.uint8).astype(np.int64)
        for group in range(order.groups):
            if mode is Mode.CUBIC:
                at = CUBIC_CONTEXTS * (group // order.kinds)
                row_of[group, :CUBIC_CONTEXTS] = fixed + np.minimum(given[at : at + CUBIC_CONTEXTS], CLASSES - 1)
            else:
                shift = int(given[group]) - 128 if len(given) else 0
                row_of[group] = CLASSES * tables_group(group, order, snap=snap) + np.clip(
                    np.arange(CLASSES) + shift, 0, CLASSES - 1
                )
        return cls(starts, row_of, fixed + root_class)


def tables_group(group: int, order: Order, *, snap: bool) -> int:
    """Which group of a model's tables codes a group of passes; exact integers have tables of their own."""
    return order.groups + group % order.kinds if snap else group


def first_fixed_row(tables: FrequencyTables) -> int:
    """Where the fixed tables start in `combined_starts`."""
    return len(tables.costs)


_combined: dict[int, tuple[FrequencyTables, npt.NDArray[np.int32]]] = {}


def combined_starts(tables: FrequencyTables) -> npt.NDArray[np.int32]:
    """The rows of ``tables`` and of the fixed tables in one array, made once for each model."""
    known = _combined.get(id(tables))
    if known is None or known[0] is not tables:
        if len(_combined) > 16:
            _combined.clear()
        known = (tables, np.concatenate([tables.starts, fixed_tables().starts]))
        _combined[id(tables)] = known
    return known[1]
