"""Read how much time a person gives a fit."""

from __future__ import annotations

import re

from latentzarr.errors import InvalidConfigError

__all__ = ["seconds_of"]

_BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|sec|seconds|m|min|minutes|h|hours)?\s*$")


def seconds_of(budget: str | float) -> float:
    """``"60s"``, ``"5 min"``, ``"2h"`` or a number as seconds.

    Raises
    ------
    InvalidConfigError
        If it is no positive time.
    """
    found = _BUDGET.match(budget) if isinstance(budget, str) else None
    if isinstance(budget, str) and found is None:
        raise InvalidConfigError(f"cannot read the budget {budget!r}; write '60s', '5 min' or seconds")
    value = float(found[1]) * {"m": 60.0, "h": 3600.0}.get((found[2] or "s")[0], 1.0) if found else float(budget)
    if not 0 < value < 1e7:
        raise InvalidConfigError(f"a budget is a positive time, got {budget!r}")
    return value
