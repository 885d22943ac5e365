"""What the latents of an autoencoder are, and how they become integers in a store and numbers for a decoder again.

Continuous latents are rounded to multiples of a step (int16) and given to the decoder as float32. Of binary ones the sign is
kept, eight to a byte, and given back as -1 and +1. Integer ones (indices of a code book) stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError

__all__ = ["LatentDescription", "LatentKind", "StoredLatents", "pack_signs", "unpack_signs"]

_DTYPES = ("int8", "int16", "int32")
_DIMENSIONS = {
    1: ("latent_channel",),
    2: ("latent_y", "latent_x"),
    3: ("latent_channel", "latent_y", "latent_x"),
}


class LatentKind(StrEnum):
    """What the numbers are that an encoder gives."""

    CONTINUOUS = "continuous"
    BINARY = "binary"
    INTEGER = "integer"


@dataclass(frozen=True, slots=True)
class LatentDescription:
    """The latents of an autoencoder, as its author knows them.

    Attributes
    ----------
    kind : {"continuous", "binary", "integer"}
        Real numbers, which are rounded; signs; or whole numbers already (the indices of a code book).
    step : float or sequence of float, optional
        Continuous: the quantisation step, in units of the latents, one for all or one for each latent channel. Required.
    dtype : {"int8", "int16", "int32"}
        What continuous and integer latents are stored as; int16 unless asked for. What does not fit is refused, not clipped.
    packed : bool
        Binary: eight latent channels to a byte, the first in the lowest bit. False stores -1 and +1 as int8.
    downscale : int or (int, int), optional
        The latents have ``ceil(rows / downscale)`` rows, columns alike. Checked, if given.
    shape : callable, optional
        ``shape(rows, columns)`` is the shape of one item's latents. Checked, if given.

    Raises
    ------
    InvalidConfigError
        If these cannot be meant together.
    """

    kind: LatentKind | str
    step: float | Sequence[float] | None = None
    dtype: str = "int16"
    packed: bool = True
    downscale: int | tuple[int, int] | None = None
    shape: Callable[[int, int], Sequence[int]] | None = None

    def __post_init__(self) -> None:
        if self.kind not in list(LatentKind):
            raise InvalidConfigError(f"kind must be one of {', '.join(LatentKind)}, got {self.kind!r}")
        object.__setattr__(self, "kind", LatentKind(self.kind))
        if (self.step is None) == (self.kind is LatentKind.CONTINUOUS):
            which = "need a step, such as step=1/16" if self.step is None else "take no step"
            raise InvalidConfigError(f"{self.kind} latents {which}")
        if self.step is not None:
            steps = tuple(float(s) for s in np.atleast_1d(np.asarray(self.step, np.float64)))
            if not steps or not all(math.isfinite(s) and s > 0 for s in steps):
                raise InvalidConfigError(f"steps must be positive numbers, got {self.step!r}")
            object.__setattr__(self, "step", steps)
        if self.dtype not in _DTYPES:
            raise InvalidConfigError(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")
        if self.downscale is not None:
            factors = tuple(int(f) for f in np.atleast_1d(np.asarray(self.downscale)))
            if len(factors) not in (1, 2) or min(factors) < 1:
                raise InvalidConfigError(f"downscale must be a positive whole number or two, got {self.downscale!r}")
            object.__setattr__(self, "downscale", (factors[0], factors[-1]))

    def stored(self, latents: npt.NDArray[Any], rows: int, columns: int) -> StoredLatents:
        """How latents like these are stored, checked against what was promised of them.

        Parameters
        ----------
        latents : array of shape (batch, ...)
            From the encoder; one, two or three dimensions an item.
        rows, columns : int
            Of the fields they were made from.

        Raises
        ------
        InvalidConfigError
            If the latents are not of a shape or type that fits the description.
        """
        item = latents.shape[1:]
        if len(item) not in _DIMENSIONS or math.prod(item) == 0:
            raise InvalidConfigError(
                f"latents have the shape (batch, channels, y, x), (batch, y, x) or (batch, n), the encoder gave {latents.shape}"
            )
        if self.shape is not None and tuple(self.shape(rows, columns)) != item:
            promised = tuple(self.shape(rows, columns))
            raise InvalidConfigError(f"latents of {rows} x {columns} values should be {promised}, the encoder gave {item}")
        if self.downscale is not None:
            assert isinstance(self.downscale, tuple)
            promised = (-(-rows // self.downscale[0]), -(-columns // self.downscale[1]))
            if item[-2:] != promised:
                raise InvalidConfigError(
                    f"downscale {self.downscale} of {rows} x {columns} values gives {promised}, the encoder gave {item[-2:]}"
                )
        if self.kind is LatentKind.BINARY:
            if self.packed and len(item) == 2:
                raise InvalidConfigError("latents without a channel axis cannot be packed; describe them with packed=False")
            return StoredLatents(LatentKind.BINARY, item, "uint8" if self.packed else "int8", "float32", None, self.packed)
        takes = "float32" if self.kind is LatentKind.CONTINUOUS or latents.dtype.kind == "f" else "int64"
        steps = None if self.step is None else tuple(np.atleast_1d(np.asarray(self.step, np.float64)).tolist())
        if steps is not None and len(steps) > 1 and (len(item) == 2 or len(steps) != item[0]):
            raise InvalidConfigError(f"{len(steps)} steps are given, the latents of an item have the shape {item}")
        return StoredLatents(LatentKind(self.kind), item, self.dtype, takes, steps, False)


@dataclass(frozen=True, slots=True)
class StoredLatents:
    """How latents lie in a store; all that is needed to hand them to a decoder.

    Attributes
    ----------
    kind : LatentKind
    item : tuple of int
        Shape of one item's latents, as the encoder gives and the decoder takes them.
    dtype : {"uint8", "int8", "int16", "int32"}
        Of the stored array.
    takes : {"float32", "int64"}
        What the decoder is given.
    step : tuple of float or None
        One for all or one for each channel.
    packed : bool
    """

    kind: LatentKind
    item: tuple[int, ...]
    dtype: str
    takes: str
    step: tuple[float, ...] | None
    packed: bool

    def __post_init__(self) -> None:
        steps = self.step is None or (len(self.step) in (1, self.item[0]) and all(0 < s < math.inf for s in self.step))
        sound = 1 <= len(self.item) <= 3 and min(self.item) >= 1 and steps and not (self.packed and len(self.item) == 2)
        if not sound or self.dtype not in ("uint8", *_DTYPES) or self.takes not in ("float32", "int64"):
            raise InvalidConfigError(f"no sound description of stored latents: {self!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item in the store."""
        return (-(-self.item[0] // 8), *self.item[1:]) if self.packed else self.item

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of an item's dimensions in the store."""
        names = _DIMENSIONS[len(self.item)]
        return ("latent_byte", *names[1:]) if self.packed else names

    @property
    def unpacked_dimensions(self) -> tuple[str, ...]:
        """Names of an item's dimensions where bits are numbers of their own."""
        return _DIMENSIONS[len(self.item)]

    def integers(self, latents: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Latents of the encoder as they are stored.

        Raises
        ------
        InvalidConfigError
            If the shape is another than before, a value is not finite, no whole number, or does not fit the dtype.
        """
        if latents.shape[1:] != self.item:
            raise InvalidConfigError(f"the encoder gave latents of shape {self.item} before and {latents.shape[1:]} now")
        if latents.dtype.kind == "f" and not np.isfinite(latents).all():
            raise InvalidConfigError("the encoder gave latents that are not finite")
        if self.kind is LatentKind.BINARY:
            return pack_signs(latents > 0) if self.packed else np.where(latents > 0, np.int8(1), np.int8(-1))
        whole = latents if self.step is None else np.rint(latents.astype(np.float64) / self._steps())
        if self.step is None and whole.dtype.kind == "f" and (whole != np.rint(whole)).any():
            raise InvalidConfigError("the latents are described as integers, but the encoder gave fractions")
        limits = np.iinfo(self.dtype)
        low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
        if low < limits.min or high > limits.max:
            raise InvalidConfigError(
                f"latents from {low} to {high} do not fit {self.dtype}; describe them with dtype='int32'"
                + (" or a larger step" if self.step else "")
            )
        return whole.astype(self.dtype)

    def values(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Stored latents as the decoder takes them; ``stored`` has the shape (batch, ...)."""
        if self.kind is LatentKind.BINARY:
            signs = unpack_signs(stored, self.item[0]) if self.packed else stored
            return signs.astype(np.float32)
        if self.step is not None:
            return (stored * self._steps()).astype(np.float32)
        return stored.astype(self.takes)

    def _steps(self) -> npt.NDArray[np.float64]:
        steps = np.asarray(self.step, np.float64)
        return steps if len(steps) == 1 else steps.reshape(-1, *([1] * (len(self.item) - 1)))


def pack_signs(positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Bits of shape (batch, channels, ...) as bytes of shape (batch, ceil(channels / 8), ...), the first channel lowest."""
    return np.packbits(positive, axis=1, bitorder="little")


def unpack_signs(packed: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.int8]:
    """What `pack_signs` packed, as -1 and +1."""
    bits = np.unpackbits(packed, axis=1, count=channels, bitorder="little")
    return (bits.astype(np.int8) << 1) - np.int8(1)
