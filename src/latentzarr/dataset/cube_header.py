"""What a cube says about itself: dimensions, variables with their channels and bounds, blocks, models; a value and its JSON.

`docs/reference/cube.md`, section 3, is the law. The text stands in the group attribute ``latentzarr_cube``; everything is
checked once, when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from latentzarr.cube.times import LONGEST_BLOCK
from latentzarr.dataset.carried import HIDDEN
from latentzarr.dataset.cube_variable import MOST_CHANNELS, CubeVariable, variable_from
from latentzarr.dataset.provenance import CUBE
from latentzarr.errors import InvalidBoundError, InvalidConfigError, StoreError

__all__ = ["CUBE", "CUBE_VERSION", "LATENTS", "BlockPlace", "CubeHeader", "CubeVariable", "header_of", "holds_cube"]

CUBE_VERSION = 1
LATENTS = ("latent_common", "latent_specific")
"""Names of the arrays of latents."""
_MOST = 2**40


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """A block: its first time and how many there are."""

    first: int
    length: int


@dataclass(frozen=True)
class CubeHeader:
    """A cube.

    Attributes
    ----------
    time : str
        Name of the time dimension; empty: there is none.
    rows, columns : str
        Names of the horizontal dimensions.
    shape : tuple of int
        Sizes of rows and columns.
    tile : tuple of int
        Largest sizes of a tile.
    blocks : tuple of (length, count)
        Lengths of the blocks, runs of equal ones together.
    time_stride : int
        See `latentzarr.cube.times`.
    model : str
        Digest of the model of the refinement.
    basis : str
        Digest of the latents' model; empty: there are no latents.
    variables : tuple of CubeVariable
    latent_channels : tuple of int
        For each channel, which channel of the latents' model it is; empty without latents.
    version : int

    Invariants, checked at construction: sizes are positive and tiles no larger than the grid; blocks have 1 to 64 times;
    names are unique; every variable has the horizontal dimensions and is sound.

    Raises
    ------
    StoreError
        If an invariant does not hold.
    """

    time: str
    rows: str
    columns: str
    shape: tuple[int, int]
    tile: tuple[int, int]
    blocks: tuple[tuple[int, int], ...]
    time_stride: int
    model: str
    basis: str
    variables: tuple[CubeVariable, ...]
    latent_channels: tuple[int, ...] = ()
    version: int = field(default=CUBE_VERSION)

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise StoreError(f"the cube's header has {problem}; the store was damaged, or written by something else")

    def _problem(self) -> str:
        if any(not 0 < t <= n < _MOST for t, n in zip(self.tile, self.shape, strict=True)):
            return f"tiles of {self.tile} on a grid of {self.shape}"
        if not self.blocks or any(not 1 <= length <= LONGEST_BLOCK or not 0 < count < _MOST for length, count in self.blocks):
            return f"the blocks {self.blocks}"
        if len({self.time, self.rows, self.columns}) != 3 or (not self.time and self.times != 1):
            return f"the dimensions {self.time!r}, {self.rows!r}, {self.columns!r} and {self.times} times"
        if self.time_stride not in (0, 1, 2, 4, 8, 16, 32):
            return f"a time stride of {self.time_stride}"
        names = [v.name for v in self.variables]
        if len(set(names)) != len(names) or not names:
            return f"the variables {names}"
        for v in self.variables:
            rest = [d for d in v.dims if d not in (self.time, self.rows, self.columns)]
            if not {self.rows, self.columns} <= set(v.dims) or len(rest) != len(v.channel_shape):
                return f"a variable {v.name} of dimensions {v.dims}"
            if (self.time in v.dims) != bool(self.time):
                return f"a variable {v.name} of dimensions {v.dims} where the time is {self.time!r}"
            if v.problem():
                return f"a variable {v.name} with {v.problem()}"
            if not v.refinement and not self.basis:
                return f"a variable {v.name} with neither refinement nor latents"
        if len(self.latent_channels) != (self.channels if self.basis else 0) or min(self.latent_channels, default=0) < 0:
            return f"{len(self.latent_channels)} channels with latents of {self.channels}"
        return "" if self.channels <= MOST_CHANNELS else f"{self.channels} channels, more than {MOST_CHANNELS}"

    @property
    def times(self) -> int:
        """Number of times; 1 where there is no time dimension."""
        return sum(length * count for length, count in self.blocks)

    @cached_property
    def first_channel(self) -> dict[str, int]:
        """By variable, its first channel in the channel table."""
        found, at = {}, 0
        for v in self.variables:
            found[v.name] = at
            at += v.channels
        return found

    @property
    def channels(self) -> int:
        """Channels of all variables."""
        return sum(v.channels for v in self.variables)

    def variable(self, name: str) -> CubeVariable:
        """A variable by name."""
        return next(v for v in self.variables if v.name == name)

    def block_of(self, time: int) -> tuple[int, BlockPlace]:
        """Index and place of the block that holds a time."""
        first = index = 0
        for length, count in self.blocks:
            if time < first + length * count:
                at = (time - first) // length
                return index + at, BlockPlace(first + at * length, length)
            first, index = first + length * count, index + count
        raise InvalidConfigError(f"time {time} of a cube with {self.times}")

    def with_block(self, length: int) -> CubeHeader:
        """With a block more."""
        *before, (last, count) = self.blocks or ((length, 0),)
        more = ((last, count + 1),) if last == length else ((last, count), (length, 1))
        return replace(self, blocks=(*before, *more))

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tiles along rows and columns."""
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])

    def tile_slices(self, tile: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a tile."""
        starts = [i * size for i, size in zip(tile, self.tile, strict=True)]
        stops = [min(s + size, n) for s, size, n in zip(starts, self.tile, self.shape, strict=True)]
        return slice(starts[0], stops[0]), slice(starts[1], stops[1])

    def to_text(self) -> str:
        """JSON, as it stands in the attribute."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> CubeHeader:
        """Read what `to_text` wrote.

        Raises
        ------
        StoreError
            If it is no header, of a later version, or an invariant does not hold.
        """
        try:
            data = json.loads(text)
            version = int(data["version"])
            if version > CUBE_VERSION:
                raise StoreError(
                    f"the cube has format version {version}, this package reads up to {CUBE_VERSION}; install a newer latentzarr"
                )
            variables = tuple(variable_from(v) for v in data["variables"])
            time, rows, columns, model, basis = (str(data[name]) for name in ("time", "rows", "columns", "model", "basis"))
            shape, tile = _pair(data["shape"]), _pair(data["tile"])
            blocks = tuple(_pair(b) for b in data["blocks"])
            stride = int(data["time_stride"])
            latents = tuple(int(c) for c in data["latent_channels"])
            return cls(time, rows, columns, shape, tile, blocks, stride, model, basis, variables, latents, version)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, InvalidBoundError, RecursionError) as error:
            raise StoreError(f"the group attribute {CUBE!r} is no header of a cube: {error!r}") from error


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def header_of(attributes: Mapping[str, Any]) -> CubeHeader | None:
    """The header among a group's attributes, or None."""
    text = attributes.get(CUBE)
    return None if text is None else CubeHeader.from_text(str(text))


def holds_cube(attributes: Mapping[str, Any], names: Container[str]) -> bool:
    """Whether a group's attributes and what it contains say that it is a cube.

    The attribute alone does not: data that were decoded and saved again may keep it, as the record of what they went through.
    Where neither the cube's parts nor its variables are, parts were lost (in a copy of what plain zarr shows, say), and whoever
    reads a variable is told so.

    Raises
    ------
    StoreError
        If the attribute is no header.
    """
    if CUBE not in attributes:
        return False
    if f"{HIDDEN}/cube/references" in names or f"{HIDDEN}/cube/basis" in names:
        return True
    header = header_of(attributes)
    return header is not None and not any(v.name in names for v in header.variables)
