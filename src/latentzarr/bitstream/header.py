"""What every frame says about itself, whatever its mode: a value, the codes of dtypes, and the modes there are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

from latentzarr.bounds import ErrorBound
from latentzarr.errors import UnsupportedDtypeError

__all__ = ["DTYPES", "FrameHeader", "Mode", "dtype_code"]

DTYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "b1")
"""The dtype that each code stands for."""


class Mode(IntEnum):
    """Which candidate a frame holds."""

    RAW = 0
    CONSTANT = 1
    PCODEC = 2
    CUBIC = 3
    NEURAL = 4
    INDEPENDENT = 5

    @property
    def is_hierarchy(self) -> bool:
        """Whether the payload is the hierarchy's."""
        return self in (Mode.CUBIC, Mode.NEURAL, Mode.INDEPENDENT)

    @property
    def is_neural(self) -> bool:
        """Whether a model is needed. INDEPENDENT is NEURAL without a look at the previous slice."""
        return self in (Mode.NEURAL, Mode.INDEPENDENT)


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
        First 8 bytes of the model's SHA-256; zeros where no model is needed.
    shape : tuple of int
    size : int
        Bytes of the whole frame.
    """

    mode: Mode
    dtype: np.dtype[Any]
    fortran: bool
    bound: ErrorBound
    digest: bytes
    shape: tuple[int, ...]
    big_endian: bool = False
    size: int = field(default=0, compare=False)

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
