"""What a reconstruction did to rare, strong values, which mean errors do not show: quantiles, hits and misses of a threshold.

Compression that smooths keeps the mean and loses the storm. Values that are not finite on either side are left out everywhere,
and weights (of grid cells, `latentzarr.area.latitude_weights`) may make cells count by their area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError

__all__ = ["Contingency", "contingency", "quantile", "relative_quantile_error"]


@dataclass(frozen=True, slots=True)
class Contingency:
    """Events of the original against events of the reconstruction; ``a.merged(b)`` is the table of both together.

    All scores are NaN where the table does not define them.

    Attributes
    ----------
    hits : float
        Weight of the values that are events in both.
    misses : float
        Events of the original only.
    false_alarms : float
        Events of the reconstruction only.
    correct_negatives : float
        Events in neither.
    """

    hits: float = 0.0
    misses: float = 0.0
    false_alarms: float = 0.0
    correct_negatives: float = 0.0

    def merged(self, other: Contingency) -> Contingency:
        """The table of both sets of values."""
        return Contingency(
            self.hits + other.hits,
            self.misses + other.misses,
            self.false_alarms + other.false_alarms,
            self.correct_negatives + other.correct_negatives,
        )

    @property
    def total(self) -> float:
        """Weight of all values compared."""
        return self.hits + self.misses + self.false_alarms + self.correct_negatives

    @property
    def hit_rate(self) -> float:
        """Part of the original's events that are kept; NaN if it has none."""
        return _ratio(self.hits, self.hits + self.misses)

    @property
    def false_alarm_rate(self) -> float:
        """Part of the original's other values that became events; NaN if all are events."""
        return _ratio(self.false_alarms, self.false_alarms + self.correct_negatives)

    @property
    def frequency_bias(self) -> float:
        """Events of the reconstruction over events of the original, 1 at best; NaN if the original has none."""
        return _ratio(self.hits + self.false_alarms, self.hits + self.misses)

    @property
    def csi(self) -> float:
        """Critical success index: hits over everything that is an event in either, 1 at best; NaN without any event."""
        return _ratio(self.hits, self.hits + self.misses + self.false_alarms)

    @property
    def sedi(self) -> float:
        """Symmetric extremal dependence index (Ferro and Stephenson 2011), from -1 to 1, 0 for chance.

        With hit rate H and false alarm rate F, ``(ln F - ln H - ln(1-F) + ln(1-H)) / (ln F + ln H + ln(1-F) + ln(1-H))``. Unlike
        the critical success index it does not sink towards 0 as events become rarer.

        At the edges, the limit: 1 where every event is kept or none is false, -1 where every event is missed or every other
        value is false. So a reconstruction with no false alarms scores 1 however few events it keeps; read it beside
        ``hit_rate``. NaN if the original has no events, or only events, or if the limit does not exist, which is when the
        reconstruction has no events at all, or only events.
        """
        h, f = self.hit_rate, self.false_alarm_rate
        if math.isnan(h) or math.isnan(f):
            return math.nan
        best, worst = h == 1.0 or f == 0.0, h == 0.0 or f == 1.0
        if best or worst:
            return math.nan if best and worst else 1.0 if best else -1.0
        # 1 - H and 1 - F from their own counts: exact where H or F are close to 1
        missed = _ratio(self.misses, self.hits + self.misses)
        quiet = _ratio(self.correct_negatives, self.false_alarms + self.correct_negatives)
        lf, lh, lq, lm = math.log(f), math.log(h), math.log(quiet), math.log(missed)
        return (lf - lh - lq + lm) / (lf + lh + lq + lm)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def contingency(
    original: npt.NDArray[Any], decoded: npt.NDArray[Any], threshold: float, weights: npt.NDArray[np.float64] | None = None
) -> Contingency:
    """The table of the event "at least ``threshold``".

    Parameters
    ----------
    original, decoded : array of equal shape
        Numbers, in the same units.
    threshold : float
        In units of the data.
    weights : float64 array, optional
        Not negative, of a shape that broadcasts to that of the data; 1 for every value if left out.

    Raises
    ------
    InvalidConfigError
        If shapes do not fit, or a weight is negative or not finite.
    """
    x, y, w = _comparable(original, decoded, weights)
    event, predicted = x >= threshold, y >= threshold
    return Contingency(
        hits=float(w[event & predicted].sum()),
        misses=float(w[event & ~predicted].sum()),
        false_alarms=float(w[~event & predicted].sum()),
        correct_negatives=float(w[~event & ~predicted].sum()),
    )


def quantile(values: npt.NDArray[Any], level: float, weights: npt.NDArray[np.float64] | None = None) -> float:
    """The value below which ``level`` of the finite values lie, by weight; NaN if there is none.

    Without weights NumPy's linear interpolation; with weights the smallest value whose weight, added to that of all smaller
    ones, reaches ``level`` of the total.
    """
    if not 0.0 <= level <= 1.0:
        raise InvalidConfigError(f"a quantile is a fraction from 0 to 1, got {level!r}")
    x, _, w = _comparable(values, values, weights)
    if x.size == 0:
        return math.nan
    if weights is None:
        return float(np.quantile(x, level))
    x, w = x[w > 0], w[w > 0]
    if x.size == 0:
        return math.nan
    order = np.argsort(x, kind="stable")
    added = np.cumsum(w[order])
    return float(x[order][min(int(np.searchsorted(added, level * added[-1])), x.size - 1)])


def relative_quantile_error(
    original: npt.NDArray[Any],
    decoded: npt.NDArray[Any],
    level: float = 0.999,
    weights: npt.NDArray[np.float64] | None = None,
) -> float:
    """Quantile of the reconstruction against that of the original, over the latter; negative where extremes were flattened.

    Parameters
    ----------
    original, decoded : array of equal shape
        Values that are not finite in either are left out of both.
    level : float
        0.999 is the measure usual for weather models; below 0.5 the low extremes.
    weights : float64 array, optional
        As in `contingency`.

    Returns
    -------
    float
        NaN if nothing is finite or the quantile of the original is 0.
    """
    x, y, w = _comparable(original, decoded, weights)
    kept = None if weights is None else w
    before, after = quantile(x, level, kept), quantile(y, level, kept)
    return (after - before) / abs(before) if before != 0 else math.nan


def _comparable(
    original: npt.NDArray[Any], decoded: npt.NDArray[Any], weights: npt.NDArray[np.float64] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both as flat float64 without what is not finite on either side, and the weights of what is left."""
    x, y = np.asarray(original, np.float64), np.asarray(decoded, np.float64)
    if x.shape != y.shape:
        raise InvalidConfigError(f"arrays of shapes {x.shape} and {y.shape} cannot be compared")
    finite = np.isfinite(x) & np.isfinite(y)
    if weights is None:
        return x[finite], y[finite], np.ones(int(finite.sum()))
    given = np.asarray(weights, np.float64)
    if not np.isfinite(given).all() or (given < 0).any():
        raise InvalidConfigError("weights must be finite and not negative")
    try:
        w = np.broadcast_to(given, x.shape)
    except ValueError:
        raise InvalidConfigError(f"weights of shape {given.shape} do not fit values of shape {x.shape}") from None
    return x[finite], y[finite], w[finite]
