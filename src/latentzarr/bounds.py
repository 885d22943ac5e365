"""Error bounds: what a user may ask for, how it is written down, and the one test of whether a value is within it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidBoundError

__all__ = ["BoundKind", "ErrorBound", "parse_bound", "violations"]


class BoundKind(StrEnum):
    """How the number of a bound is meant."""

    ABSOLUTE = "absolute"
    RANGE_RELATIVE = "range_relative"
    RELATIVE = "relative"
    LOSSLESS = "lossless"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """What a decoded value may differ from the original by.

    Invariants, checked at construction:

    1. ``absolute``: ``|x - x_hat| <= value``, in the units of the data; ``value`` finite and > 0.
    2. ``range_relative``: ``value * (max - min)`` of the whole variable, resolved to ``absolute`` before anything is
       coded; 0 < ``value`` < 1.
    3. ``relative``: ``|x - x_hat| <= value * |x|`` for every value by itself, zeros exact; 0 < ``value`` < 1.
    4. ``lossless``: every bit equal; ``value`` is 0.
    5. ``none``: nothing is promised; ``value`` > 0 is the root mean square error aimed at, in the units of the data.

    Whatever the kind, NaN, +inf and -inf stay where they are. With ``zeros``, zeros do, too (dry stays dry): nothing that was 0
    becomes anything else. Lossless and relative bounds keep them anyway, and have no such mark.

    Raises
    ------
    InvalidBoundError
        If an invariant does not hold.
    """

    kind: BoundKind
    value: float = 0.0
    zeros: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in set(BoundKind):
            raise InvalidBoundError(f"{self.kind!r} is no kind of bound; there are {', '.join(BoundKind)}")
        object.__setattr__(self, "kind", BoundKind(self.kind))
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float, np.integer, np.floating)):
            raise InvalidBoundError(f"a bound is a number, not {self.value!r}")
        object.__setattr__(self, "value", float(self.value))
        if self.kind in (BoundKind.LOSSLESS, BoundKind.RELATIVE):
            object.__setattr__(self, "zeros", False)
        if self.kind is BoundKind.LOSSLESS:
            if self.value != 0.0:
                raise InvalidBoundError(f"a lossless bound has no value, got {self.value}")
            return
        if not math.isfinite(self.value) or self.value <= 0.0:
            raise InvalidBoundError(f"a bound must be finite and above zero, got {self.value}; for exact data ask for 'lossless'")
        if self.kind in (BoundKind.RELATIVE, BoundKind.RANGE_RELATIVE) and self.value >= 1.0:
            raise InvalidBoundError(f"a {self.kind} bound must be below 1 (100 %), got {self.value}")

    @classmethod
    def absolute(cls, value: float) -> ErrorBound:
        """``|x - x_hat| <= value``, in the units of the data."""
        return cls(BoundKind.ABSOLUTE, value)

    @classmethod
    def range_relative(cls, value: float) -> ErrorBound:
        """``|x - x_hat| <= value * (max - min)`` of the whole variable."""
        return cls(BoundKind.RANGE_RELATIVE, value)

    @classmethod
    def relative(cls, value: float) -> ErrorBound:
        """``|x - x_hat| <= value * |x|`` for every value by itself."""
        return cls(BoundKind.RELATIVE, value)

    @classmethod
    def lossless(cls) -> ErrorBound:
        """Every bit equal."""
        return cls(BoundKind.LOSSLESS)

    @classmethod
    def none(cls, rmse: float) -> ErrorBound:
        """No promise; aims at a root mean square error of ``rmse``, in the units of the data."""
        return cls(BoundKind.NONE, rmse)

    def resolve(self, minimum: float, maximum: float) -> ErrorBound:
        """The same bound with a range-relative value made absolute.

        Parameters
        ----------
        minimum, maximum : float
            Over the finite values of the whole variable. A constant variable (or one without finite values) becomes
            lossless, which costs nothing.
        """
        if self.kind is not BoundKind.RANGE_RELATIVE:
            return self
        value = self.value * (float(maximum) - float(minimum))
        if not (math.isfinite(value) and value > 0.0):
            return ErrorBound.lossless()
        return ErrorBound(BoundKind.ABSOLUTE, value, self.zeros)

    def with_exact_zeros(self) -> ErrorBound:
        """The same bound, with zeros kept as they are."""
        return replace(self, zeros=True)

    def with_value(self, value: float) -> ErrorBound:
        """The same kind of bound at another value."""
        return replace(self, value=value)

    def __str__(self) -> str:
        zeros = ", exact zeros" if self.zeros else ""
        match self.kind:
            case BoundKind.LOSSLESS:
                return "lossless"
            case BoundKind.NONE:
                return f"no bound, RMSE {self.value:g}{zeros}"
            case BoundKind.ABSOLUTE:
                return f"{self.value:g} absolute{zeros}"
            case BoundKind.RANGE_RELATIVE:
                return f"{100 * self.value:g} % of range{zeros}"
            case _:
                return f"{100 * self.value:g} % relative"


_NUMBER = r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf)"
_TEXT = re.compile(rf"^\s*{_NUMBER}\s*(?P<percent>%)?\s*(?P<words>.*?)\s*$", re.IGNORECASE)
_RANGE_WORDS = {"of range", "range", "of the range", "range_relative", "range-relative"}
_RELATIVE_WORDS = {"relative", "rel", "pointwise", "of value", "pointwise relative"}
_ABSOLUTE_WORDS = {"", "absolute", "abs"}
_ZERO_WORDS = {"exact zeros", "zeros exact", "keep zeros"}
_NONE_WORDS = {"rmse", "rms", "none"}


def parse_bound(text: str | float | ErrorBound, units: str | None = None) -> ErrorBound:
    """Read a bound as people write it.

    Parameters
    ----------
    text : str, float or ErrorBound
        ``"0.1"``, ``"0.1 K"``, ``"1% of range"``, ``"1%"`` (of range), ``"2% relative"``, ``"0.02 relative"``,
        ``"0.1 rmse"`` (no bound, aims at it), ``"lossless"``. A plain number is absolute. ``", exact zeros"`` behind any of
        them keeps zeros as they are.
    units : str, optional
        Units of the variable. A unit in the text must be the same; nothing is converted.

    Raises
    ------
    InvalidBoundError
        For words or units that are not known, and for values no bound can have.
    """
    if isinstance(text, ErrorBound):
        return text
    if not isinstance(text, str):
        return ErrorBound.absolute(text)
    head, comma, tail = text.rpartition(",")
    if comma and " ".join(tail.lower().split()) in _ZERO_WORDS:
        return parse_bound(head, units).with_exact_zeros()
    if text.strip().lower() in ("lossless", "exact"):
        return ErrorBound.lossless()
    found = _TEXT.match(text)
    if found is None:
        raise InvalidBoundError(
            f"cannot read the bound {text!r}; write '0.1', '0.1 K', '1% of range', '2% relative', '0.1 rmse' or 'lossless'"
        )
    number = float(found["number"]) / (100.0 if found["percent"] else 1.0)
    words = " ".join(found["words"].split())
    lower = words.lower()
    if lower in _RANGE_WORDS or (found["percent"] and not words):
        return ErrorBound.range_relative(number)
    if lower in _RELATIVE_WORDS:
        return ErrorBound.relative(number)
    if found["percent"]:
        raise InvalidBoundError(f"cannot read {words!r} in the bound {text!r}; write '1% of range' or '1% relative'")
    if lower in _NONE_WORDS:
        return ErrorBound.none(number)
    if lower in _ABSOLUTE_WORDS or (units is not None and words == " ".join(units.split())):
        return ErrorBound.absolute(number)
    known = f"the variable's units are {units!r}" if units else "the variable has no units attribute"
    raise InvalidBoundError(f"the bound {text!r} is in {words!r}, but {known}; units are compared, never converted")


def violations(original: npt.NDArray[Any], decoded: npt.NDArray[Any], bound: ErrorBound) -> npt.NDArray[np.bool_]:
    """Where ``decoded`` breaks ``bound`` against ``original``: the one test that the whole package relies on.

    Parameters
    ----------
    original, decoded : array of equal shape and dtype
        Integers, or floats of any width and byte order.
    bound : ErrorBound
        Not range-relative: resolve it first. ``none`` asks only for the places of NaN and inf.

    Returns
    -------
    array of bool, same shape
        True where the promise does not hold. NaN must meet NaN, an infinity the same infinity; the differences of
        finite floats are taken in float64 (64-bit integers exactly); lossless compares bits.
    """
    if bound.kind is BoundKind.RANGE_RELATIVE:
        raise InvalidBoundError("a range-relative bound must be resolved against the whole variable first")
    x, y = np.asarray(original), np.asarray(decoded)
    if x.shape == y.shape == ():  # NumPy turns arrays without dimensions into scalars, whose wrap-around arithmetic warns
        return violations(x.reshape(1), y.reshape(1), bound).reshape(())
    if x.shape != y.shape or x.dtype.newbyteorder("=") != y.dtype.newbyteorder("="):
        raise InvalidBoundError(f"cannot compare {x.dtype}{x.shape} with {y.dtype}{y.shape}")
    if bound.kind is BoundKind.LOSSLESS:
        return _bits(x) != _bits(y)
    if x.dtype.kind in "iub":
        return _integer_violations(x, y, bound)
    with np.errstate(invalid="ignore"):  # signalling NaN
        x64, y64 = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(x64)
    moved = (x64 == 0) & (y64 != 0) if bound.zeros else np.zeros(x.shape, bool)
    same_special = (np.isnan(x64) & np.isnan(y64)) | (x64 == y64)
    if bound.kind is BoundKind.NONE:
        return np.where(finite, ~np.isfinite(y64) | moved, ~same_special)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(x64 - y64)
        limit = bound.value if bound.kind is BoundKind.ABSOLUTE else bound.value * np.abs(x64)
        return np.where(finite, ~(error <= limit) | moved, ~same_special)


def _bits(x: npt.NDArray[Any]) -> npt.NDArray[np.unsignedinteger[Any]]:
    native = np.ascontiguousarray(x.astype(x.dtype.newbyteorder("="), copy=False)).reshape(x.shape)
    return native.view(np.dtype(f"u{x.dtype.itemsize}"))


def _integer_violations(x: npt.NDArray[Any], y: npt.NDArray[Any], bound: ErrorBound) -> npt.NDArray[np.bool_]:
    moved = (x == 0) & (y != 0) if bound.zeros else np.zeros(x.shape, bool)
    if bound.kind is BoundKind.NONE:
        return moved
    larger = np.maximum(x, y).astype(np.uint64)
    error = larger - np.minimum(x, y).astype(np.uint64)  # exact in wrap-around arithmetic
    if bound.kind is BoundKind.ABSOLUTE:
        return (error > np.uint64(min(math.floor(bound.value), 2**64 - 1))) | moved
    magnitude = np.where(x < 0, np.uint64(0) - x.astype(np.uint64), x.astype(np.uint64))
    return error.astype(np.float64) > bound.value * magnitude.astype(np.float64)
