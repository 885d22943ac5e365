"""Compiled steps of the encoder's search for tables: count tokens by class, price every shift, name every symbol's row."""

from __future__ import annotations

import numba as nb

from latentzarr.bitstream.tokens import split, zigzag

__all__ = ["count_by_class", "price_shifts", "rows_of"]

_CLASSES = 64


@nb.njit(nogil=True, cache=True)
def count_by_class(quanta, groups, classes, counts):
    """Add to ``counts[group, class, token]``; return the number of raw extra bits."""
    raw = 0
    for i in range(len(quanta)):
        token, bits, _ = split(zigzag(quanta[i]))
        counts[groups[i], classes[i], token] += 1
        raw += bits
    return raw


@nb.njit(nogil=True, cache=True)
def price_shifts(counts, cost, first_rows, largest, total):
    """``total[group, largest + shift]``: bits of a group's symbols if every class used the table ``shift`` further on.

    ``counts`` is (groups, 64, tokens); ``first_rows`` the first row of ``cost`` for each group.
    """
    for group in range(len(first_rows)):
        for k in range(_CLASSES):
            some = 0
            for token in range(counts.shape[2]):
                some += counts[group, k, token]
            if some == 0:
                continue
            for shift in range(-largest, largest + 1):
                row = first_rows[group] + min(max(k + shift, 0), _CLASSES - 1)
                bits = 0.0
                for token in range(counts.shape[2]):
                    if counts[group, k, token]:
                        bits += counts[group, k, token] * cost[row, token]
                total[group, largest + shift] += bits


@nb.njit(nogil=True, cache=True)
def rows_of(groups, classes, row_of, root_row, out):
    """``out[i]``: the row of the tables that codes symbol ``i``; the group after the last is the root."""
    for i in range(len(groups)):
        out[i] = root_row if groups[i] == len(row_of) else row_of[groups[i], classes[i]]
