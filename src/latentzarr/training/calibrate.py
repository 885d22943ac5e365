"""Freeze the tables: count which token occurred in which class on training cases, and smooth what was seen too rarely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.tables import CLASSES, SCALE, FrequencyTables, fixed_tables
from latentzarr.bitstream.tokens import DIRECT, TOKENS
from latentzarr.codec.hierarchy import Walk, tables_group
from latentzarr.codec.kernels.tables import count_by_class
from latentzarr.codec.predictor import Predictor
from latentzarr.training.cases import Case
from latentzarr.training.samples import walk_case

__all__ = ["calibrated", "count_cases"]

_OWN = 50.0  # counts that the pooled table is worth against a class's own
_POOLED = 20.0  # counts that the fixed table is worth against the pooled one


def count_cases(
    cases: Sequence[Case], predictor: Predictor, walk: Callable[[Any, Predictor], Walk | None] = walk_case
) -> npt.NDArray[np.float64]:
    """How often each token occurred, shape (groups of tables, 64, 64): group, class, token."""
    order = predictor.order
    total = np.zeros((4 * order.kinds, CLASSES, TOKENS))
    for case in cases:
        walked = walk(case, predictor)
        if walked is None:
            continue
        counts = np.zeros((order.groups + 1, CLASSES, TOKENS), np.int64)
        count_by_class(walked.quanta, walked.groups, walked.classes, counts)
        for group, seen in enumerate(counts[:-1]):
            total[tables_group(group, order, snap=case.snap)] += seen
    return total


def calibrated(
    counts: npt.NDArray[np.float64], parent: FrequencyTables | None = None, parent_weight: float = 0.0
) -> FrequencyTables:
    """Tables of what was counted.

    Parameters
    ----------
    counts : float array, shape (groups of tables, 64, 64)
    parent : FrequencyTables, optional
        Tables to fall back on, class by class; without them classes of all groups are pooled, and those fall back on the
        fixed tables.
    parent_weight : float
        Counts that a parent's table is worth.
    """
    seen = counts.copy()
    for token in range(1, DIRECT - 1, 2):  # signs are alike
        seen[..., token] = seen[..., token + 1] = (seen[..., token] + seen[..., token + 1]) / 2
    if parent is None:
        fixed = np.diff(fixed_tables().starts, axis=1) / SCALE
        exact = 3 * len(seen) // 4  # from here on the groups of exact integers
        pooled = np.concatenate([np.repeat(part.sum(0, keepdims=True), len(part), 0) for part in (seen[:exact], seen[exact:])])
        prior, weight = (pooled + _POOLED * fixed) / (pooled.sum(-1, keepdims=True) + _POOLED), _OWN
    else:
        prior, weight = np.diff(parent.starts, axis=1).reshape(seen.shape) / SCALE, parent_weight
    likely = (seen + weight * prior) / (seen.sum(-1, keepdims=True) + weight)
    costs = np.round(-8.0 * np.log2(np.maximum(likely, 2.0**-31)))
    costs -= costs.min(-1, keepdims=True)
    return FrequencyTables.from_costs(np.clip(costs, 0, 255).astype(np.uint8).reshape(-1, TOKENS))
