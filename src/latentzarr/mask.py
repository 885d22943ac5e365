"""Values that are not coded as numbers: NaN, infinities, the fill value, exact zeros; split off and put back exactly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Plane", "SpecialValues", "restore", "split_special"]


class Plane(IntFlag):
    """Kinds of bit planes, in the order in which they are coded."""

    NAN = 1
    POSITIVE_INFINITY = 2
    NEGATIVE_INFINITY = 4
    FILL = 8
    ZERO = 16
    NEGATIVE = 32

    @property
    def special(self) -> tuple[Plane, ...]:
        """The planes among these that take values away from coding (all but the sign)."""
        return tuple(p for p in Plane if p in self and p is not Plane.NEGATIVE)


@dataclass(frozen=True, slots=True, eq=False)
class SpecialValues:
    """Which values of a chunk are special, and how.

    Attributes
    ----------
    planes : Plane
        The kinds that occur.
    bits : uint8 array of 0 and 1, shape (number of planes, values)
        One row for each kind, in the order of `Plane`; a value has at most one special kind.
    missing : uint8 array of 0 and 1, shape (values,)
        1 where a value is special and so not coded.
    fill : bytes
        The fill value in little-endian bytes, where `Plane.FILL` occurs.
    """

    planes: Plane
    bits: npt.NDArray[np.uint8]
    missing: npt.NDArray[np.uint8]
    fill: bytes = b""

    @property
    def any_missing(self) -> bool:
        """Whether any value is special."""
        return bool(self.planes.special)


def split_special(values: npt.NDArray[Any], fill_value: Any, *, logarithmic: bool, zeros: bool = False) -> SpecialValues:
    """Find the special values of a chunk.

    Parameters
    ----------
    values : native-endian array, shape (values,)
    fill_value : scalar or None
        The array's fill value; finite ones become a plane, so that padding and declared missing values stay exact.
    logarithmic : bool
        Whether zeros and signs need planes (pointwise relative bounds).
    zeros : bool
        Whether zeros are special. Integers have one plane for a fill value and none for zeros, so theirs are special only where
        the fill value does not occur.
    """
    found: list[tuple[Plane, npt.NDArray[np.bool_]]] = []
    fill = b""
    finite = np.ones(values.shape, bool)
    filled = np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            found.append((Plane.NAN, np.isnan(values)))
            found.append((Plane.POSITIVE_INFINITY, values == np.inf))
            found.append((Plane.NEGATIVE_INFINITY, values == -np.inf))
    if fill_value is not None:
        with np.errstate(invalid="ignore", over="ignore"):  # a fill value of another dtype, which no value can equal
            fill_value = np.asarray(fill_value).astype(values.dtype)
    if fill_value is None or not (values == fill_value).any():
        integer_zeros = zeros and values.dtype.kind != "f"
        fill_value = values.dtype.type(0) if integer_zeros else _outlying(values[finite] if not finite.all() else values)
    if fill_value is not None:
        scalar = np.asarray(fill_value)
        if np.isfinite(scalar) and (scalar != 0 or not (logarithmic or (zeros and values.dtype.kind == "f"))):
            filled = values == scalar
            found.append((Plane.FILL, filled))
            fill = scalar.astype(scalar.dtype.newbyteorder("<")).tobytes()
    if logarithmic or (zeros and values.dtype.kind == "f"):
        found.append((Plane.ZERO, values == 0))
    if logarithmic:
        found.append((Plane.NEGATIVE, finite & (values < 0) & ~filled))
    kept = [(p, b) for p, b in found if b.any()]
    planes = Plane(sum(p for p, _ in kept))
    bits = np.array([b for _, b in kept], np.uint8).reshape(len(kept), *values.shape)
    special = [b for p, b in kept if p is not Plane.NEGATIVE]
    missing = np.logical_or.reduce(special).astype(np.uint8) if special else np.zeros(values.shape, np.uint8)
    return SpecialValues(planes, bits, missing, fill if Plane.FILL in planes else b"")


def _outlying(numbers: npt.NDArray[Any]) -> Any:
    """The largest or smallest value, if it stands farther off than all others are apart: most likely an undeclared code."""
    if numbers.size < 2:
        return None
    probe = numbers[:: max(1, numbers.size // 512)]
    for extreme in (numbers.max(), numbers.min()):
        if not _stands_off(probe, extreme) or not _stands_off(numbers, extreme):
            continue
        return extreme
    return None


_FEW = 16  # values that are all alike tell little of how far off another is


def _stands_off(numbers: npt.NDArray[Any], extreme: Any) -> bool:
    rest = numbers[numbers != extreme]
    if rest.size == 0:
        return False
    low, high, far = float(rest.min()), float(rest.max()), float(extreme)
    if low == high and rest.size < _FEW:
        return False
    return max(low - far, far - high) > 2.0 * (high - low)


def restore(values: npt.NDArray[Any], special: SpecialValues) -> npt.NDArray[Any]:
    """Put special values back into decoded ``values`` (changed in place and returned).

    Parameters
    ----------
    values : native-endian array, shape (values,)
    special : SpecialValues
    """
    dtype = values.dtype
    for plane, bits in zip((p for p in Plane if p in special.planes), special.bits, strict=True):
        at = bits.astype(bool)
        match plane:
            case Plane.NEGATIVE:
                np.negative(values, where=at, out=values)
            case Plane.FILL:
                values[at] = np.frombuffer(special.fill, dtype.newbyteorder("<"))[0]
            case Plane.ZERO:
                values[at] = 0
            case Plane.NAN:
                values[at] = np.nan
            case Plane.POSITIVE_INFINITY:
                values[at] = np.inf
            case _:
                values[at] = -np.inf
    return values
