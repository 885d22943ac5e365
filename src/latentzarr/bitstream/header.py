"""What every frame says about itself, whatever its mode: a value, the codes of dtypes, and the modes there are."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

from latentzarr.bitstream.cursor import Cursor, Writer
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.errors import UnsupportedDtypeError
from latentzarr.geometry import Order

__all__ = ["DIGEST_SIZE", "DTYPES", "FrameHeader", "Mode", "dtype_code", "read_bound", "stored_bound", "write_bound"]

DTYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "b1")
"""The dtype that each code stands for."""


DIGEST_SIZE = 4
"""Bytes of a model's digest in a frame of version 2."""
_LARGEST_WHOLE_BOUND = 2**53


class Mode(IntEnum):
    """Which candidate a frame holds."""

    RAW = 0
    CONSTANT = 1
    PCODEC = 2
    CUBIC = 3
    NEURAL = 4
    INDEPENDENT = 5
    RASTER = 6

    @property
    def is_hierarchy(self) -> bool:
        """Whether the payload is the hierarchy's, or begins with the same tables (RASTER)."""
        return self in (Mode.CUBIC, Mode.NEURAL, Mode.INDEPENDENT, Mode.RASTER)

    @property
    def is_neural(self) -> bool:
        """Whether a model is needed. INDEPENDENT is NEURAL without a look at the previous slice."""
        return self in (Mode.NEURAL, Mode.INDEPENDENT)

    @property
    def version(self) -> int:
        """The first format version that has the mode, which is the one a writer writes."""
        return 2 if self is Mode.RASTER else 1


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What every frame says about itself.

    Attributes
    ----------
    mode : Mode
    dtype : numpy dtype, native byte order
    fortran : bool
        The chunk came in Fortran order and is returned so (zarr format 2).
    big_endian : bool
        The chunk came in big-endian byte order and is returned so where no dtype is asked for (zarr format 2).
    bound : ErrorBound
        As resolved for coding: never range-relative.
    digest : bytes
        First bytes of the model's SHA-256, 8 in version 1, 4 in version 2; zeros or none where no model is needed.
    shape : tuple of int
    size : int
        Bytes of the whole frame.
    version : int
        Of the format: 1 or 2.
    """

    mode: Mode
    dtype: np.dtype[Any]
    fortran: bool
    bound: ErrorBound
    digest: bytes
    shape: tuple[int, ...]
    big_endian: bool = False
    size: int = field(default=0, compare=False)
    version: int = 1

    @property
    def order(self) -> Order:
        """The order of passes in a hierarchy of this version."""
        return Order(self.version)

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def dtype_code(dtype: np.dtype[Any]) -> int:
    """The byte that stands for a dtype in a frame, whatever its byte order.

    Raises
    ------
    UnsupportedDtypeError
        For dtypes that are not integers, floats of 16 to 64 bits, or booleans.
    """
    name = f"{dtype.kind}{dtype.itemsize}"
    if name not in DTYPES or dtype.names is not None:
        raise UnsupportedDtypeError(
            f"dtype {dtype} cannot be coded; supported are float16/32/64, integers of 8 to 64 bits and bool. "
            "Leave this variable to zarr's own codecs"
        )
    return DTYPES.index(name)


def stored_bound(bound: ErrorBound, dtype: np.dtype[Any]) -> ErrorBound:
    """The largest bound, not above the one given, that a frame of version 2 has bytes for.

    Integers: whole numbers. Floats of up to 32 bits: a float32, at most one part in 2**23 less; float64: the bound itself.
    What is below the smallest float32 becomes lossless.
    """
    if bound.kind is BoundKind.LOSSLESS or dtype == np.float64:
        return bound
    if dtype.kind != "f":
        return bound.with_value(min(math.floor(bound.value), _LARGEST_WHOLE_BOUND))
    with np.errstate(over="ignore", under="ignore"):
        value = np.float32(min(bound.value, float(np.finfo(np.float32).max)))
        if float(value) > bound.value:
            value = np.nextafter(value, np.float32(0))
    return bound.with_value(float(value)) if value > 0 else ErrorBound.lossless()


def write_bound(out: Writer, bound: ErrorBound, dtype: np.dtype[Any]) -> None:
    """The value of a bound that `stored_bound` gave."""
    if bound.kind is BoundKind.LOSSLESS:
        return
    if dtype.kind != "f":
        out.varint(int(bound.value))
    else:
        out.parts += struct.pack("<d" if dtype == np.float64 else "<f", bound.value)


def read_bound(cursor: Cursor, kind: BoundKind, dtype: np.dtype[Any]) -> float:
    """What `write_bound` wrote; 0 for a lossless bound."""
    if kind is BoundKind.LOSSLESS:
        return 0.0
    if dtype.kind != "f":
        return float(cursor.varint("the bound", _LARGEST_WHOLE_BOUND))
    form = "<d" if dtype == np.float64 else "<f"
    return float(struct.unpack(form, cursor.take(struct.calcsize(form), "the bound"))[0])
