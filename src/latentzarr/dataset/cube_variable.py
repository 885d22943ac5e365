"""One variable of a cube as the header has it: dimensions, channels, bounds, masks, where its refinement lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentzarr.bitstream.frame import dtype_code
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.errors import UnsupportedDtypeError

__all__ = ["MOST_CHANNELS", "CubeVariable", "is_sound_name", "variable_from"]

MOST_CHANNELS = 2**14
_MOST = 2**40


def is_sound_name(name: str) -> bool:
    """Whether a node of a zarr group can have this name."""
    return name not in ("", ".", "..", "zarr.json") and not name.startswith("__") and not set(name) & set("/\\\0")


@dataclass(frozen=True, slots=True)
class CubeVariable:
    """One variable of a cube.

    Attributes
    ----------
    name : str
    dims : tuple of str
        As in the data set; rows and columns among them, the time too unless the variable has none.
    channel_shape : tuple of int
        Sizes of the other dimensions, in the order of ``dims``; a channel is one index of them, in C order.
    dtype : str
        numpy's name, native byte order.
    attributes, encoding : dict
        Of the variable; of the encoding what says what values mean.
    words : str
        The bound as asked for.
    bounds : tuple of ErrorBound
        One for each channel, or one for all.
    refinement : str
        Name of the refinement array; empty: latents only.
    masks : tuple of int
        By channel, which static mask it has; -1: none; one for all channels if there is one entry.
    largest_error : float
        As measured; NaN if it was not.
    rmse : float
    """

    name: str
    dims: tuple[str, ...]
    channel_shape: tuple[int, ...]
    dtype: str
    attributes: dict[str, Any]
    encoding: dict[str, Any]
    words: str
    bounds: tuple[ErrorBound, ...]
    refinement: str
    masks: tuple[int, ...] = (-1,)
    largest_error: float = math.nan
    rmse: float = math.nan

    @property
    def channels(self) -> int:
        """Number of channels."""
        return math.prod(self.channel_shape)

    def bound(self, channel: int) -> ErrorBound:
        """The bound of one of its channels."""
        return self.bounds[channel if len(self.bounds) > 1 else 0]

    @property
    def largest_bound(self) -> ErrorBound:
        """The loosest of its channels' bounds: what holds for the variable as a whole."""
        return max(self.bounds, key=lambda b: b.value)  # a lossless bound has the value 0

    def mask(self, channel: int) -> int:
        """The static mask of one of its channels."""
        return self.masks[channel if len(self.masks) > 1 else 0]

    def problem(self) -> str:
        """What is wrong with it; empty if nothing is."""
        try:
            dtype_code(np.dtype(self.dtype))
        except (TypeError, UnsupportedDtypeError):
            return f"the dtype {self.dtype!r}"
        if len(set(self.dims)) != len(self.dims) or any(not 0 < n < _MOST for n in self.channel_shape):
            return f"the dimensions {self.dims} with sizes {self.channel_shape}"
        if self.channels > MOST_CHANNELS:
            return f"{self.channels} channels, more than {MOST_CHANNELS}"
        if len(self.bounds) not in (1, self.channels) or len(self.masks) not in (1, self.channels):
            return f"{len(self.bounds)} bounds and {len(self.masks)} masks for {self.channels} channels"
        if any(b.kind is BoundKind.RANGE_RELATIVE for b in self.bounds):
            return "a bound that is relative to a range and not resolved"
        return "" if is_sound_name(self.refinement) or not self.refinement else f"the refinement {self.refinement!r}"


def variable_from(data: dict[str, Any]) -> CubeVariable:
    """A variable from the JSON of a header."""
    bounds = tuple(ErrorBound(BoundKind(b["kind"]), b["value"], bool(b["zeros"])) for b in data["bounds"])
    return CubeVariable(
        str(data["name"]),
        tuple(str(d) for d in data["dims"]),
        tuple(int(n) for n in data["channel_shape"]),
        str(data["dtype"]),
        dict(data["attributes"]),
        dict(data["encoding"]),
        str(data["words"]),
        bounds,
        str(data["refinement"]),
        tuple(int(m) for m in data["masks"]),
        float(data["largest_error"]),
        float(data["rmse"]),
    )
