"""How an array is cut: the chunks worth coding together, the shards worth writing together, and reading one piece of a variable.

A block is what one task reads, codes and writes: a shard, or a chunk where there are no shards. Two tasks never share one,
so that parallel writes cannot undo each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.errors import InvalidConfigError

__all__ = [
    "Region",
    "block_index",
    "chosen_sizes",
    "default_chunks",
    "default_shards",
    "grid_shape",
    "read_region",
    "regions",
    "spread",
]

Region = tuple[slice, ...]
Sizes = tuple[int, ...]

_SIDE = 256  # rows and columns of a chunk are near this,
_WHOLE = 384  # or all of them up to here
_STEPS = 8  # leading steps of a chunk
_SMALL_CHUNK = 256 * 1024
_LARGE_CHUNK = 4 * 1024 * 1024
_SHARD = 32 * 1024 * 1024


def _even_part(size: int, near: int, whole: int) -> int:
    """The part of a dimension that a chunk covers: all of it, or one of equally large pieces of about ``near``."""
    return max(size, 1) if size <= whole else math.ceil(size / math.ceil(size / near))


def _divisor(size: int, near: int) -> int:
    """The divisor of ``size`` closest to ``near`` within a factor of two, or 0."""
    fitting = [d for d in range(max(near // 2, 1), min(2 * near, size) + 1) if size % d == 0]
    return min(fitting, key=lambda d: abs(d - near)) if fitting else 0


def _steps(size: int, part: int, wanted: int) -> int:
    """Leading steps of a chunk, up to ``wanted``, fitting into dask chunks of ``part`` steps or made of several of them."""
    if part >= size:
        return max(min(size, wanted), 1)
    if part <= wanted:
        return min(part * (wanted // part), size)
    return next(d for d in range(wanted, 0, -1) if part % d == 0)


def default_chunks(shape: Sizes, itemsize: int, parts: Sizes | None = None) -> Sizes:
    """Chunks of 0.25 to 4 MB: about 256 x 256 of the last two dimensions (all of them if small) and a few leading steps.

    Parameters
    ----------
    shape : tuple of int
        Of the array; sizes may be 0.
    itemsize : int
        Bytes of a value.
    parts : tuple of int, optional
        Sizes of the chunks the data come in (Dask's); respected where they are shorter than the dimension.

    Returns
    -------
    tuple of int
        All at least 1.
    """
    parts = shape if parts is None else parts
    chunks = [1] * len(shape)
    for axis in range(max(len(shape) - 2, 0), len(shape)):
        size, part = max(shape[axis], 1), max(parts[axis], 1)
        even = _even_part(size, _SIDE, _WHOLE)
        if part < size:
            even = (part if part >= _SIDE // 4 else even) if part <= _WHOLE else _divisor(part, _SIDE) or even
        chunks[axis] = even
    budget = max(min(_STEPS, _LARGE_CHUNK // max(math.prod(chunks) * itemsize, 1)), 1)
    for axis in range(len(shape) - 2):
        chunks[axis] = _steps(shape[axis], max(parts[axis], 1), budget)
        budget = max(budget // chunks[axis], 1)
    for axis in reversed(range(len(shape))):
        while math.prod(chunks) * itemsize < _SMALL_CHUNK and chunks[axis] < shape[axis]:
            chunks[axis] = min(2 * chunks[axis], shape[axis])
    return tuple(chunks)


def default_shards(shape: Sizes, chunks: Sizes, itemsize: int, parts: Sizes | None = None) -> Sizes | None:
    """Shards of 16 to 64 MB, whole multiples of chunks, the last dimensions filled first; None where one chunk is all.

    Parameters
    ----------
    shape, chunks, itemsize, parts
        As in `default_chunks`. Along a dimension where ``parts`` are shorter than it, a shard is a whole number of parts
        if those are a whole number of chunks.
    """
    if not shape or 0 in shape or all(c >= n for c, n in zip(chunks, shape, strict=True)):
        return None
    parts = shape if parts is None else parts
    shards = list(chunks)
    for axis in reversed(range(len(shape))):
        size, chunk, part = shape[axis], chunks[axis], parts[axis]
        unit = part if part < size and part % chunk == 0 else chunk
        room = 2 * _SHARD // max(math.prod(shards) // shards[axis] * itemsize, 1)
        if room < unit:
            unit = chunk
        pieces = min(math.ceil(size / unit), max(room // unit, 1))
        even = math.ceil(math.ceil(size / unit) / math.ceil(math.ceil(size / unit) / pieces))
        shards[axis] = even * unit
    return tuple(shards)


def chosen_sizes(wanted: Mapping[str, int], dims: tuple[str, ...], shape: Sizes, default: Sizes, what: str) -> Sizes:
    """Sizes given by dimension name (-1: all of it) over a default.

    Raises
    ------
    InvalidConfigError
        For sizes that are not whole numbers from 1, or -1.
    """
    sizes = []
    for dim, size, fallback in zip(dims, shape, default, strict=True):
        value = wanted.get(dim, fallback)
        if not _is_size(value):
            wanted_form = "must be a whole number from 1, or -1 for all of it"
            raise InvalidConfigError(f"{what} of dimension {dim!r} {wanted_form}, got {value!r}")
        sizes.append(max(size, 1) if value == -1 else int(value))
    return tuple(sizes)


def _is_size(value: Any) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and (int(value) == -1 or int(value) >= 1)


def regions(shape: Sizes, block: Sizes) -> Iterator[Region]:
    """The blocks of an array in C order, those at the edge clipped; none if a size is 0."""
    for index in product(*(range(n) for n in grid_shape(shape, block))):
        yield tuple(slice(i * b, min((i + 1) * b, n)) for i, b, n in zip(index, block, shape, strict=True))


def grid_shape(shape: Sizes, block: Sizes) -> Sizes:
    """How many blocks there are along each dimension."""
    return tuple(math.ceil(n / b) for n, b in zip(shape, block, strict=True))


def block_index(region: Region, block: Sizes) -> Sizes:
    """Place of a region of `regions` in the grid of blocks."""
    return tuple(s.start // b for s, b in zip(region, block, strict=True))


def spread(shape: Sizes, block: Sizes, count: int) -> list[Region]:
    """At most ``count`` blocks of an array, evenly spread over it, the same each time."""
    grid = grid_shape(shape, block)
    total = math.prod(grid)
    places = sorted({int((i + 0.5) * total / count) for i in range(count)}) if total else []
    found = []
    for place in places:
        index = np.unravel_index(place, grid) if grid else ()
        found.append(tuple(slice(int(i) * b, min((int(i) + 1) * b, n)) for i, b, n in zip(index, block, shape, strict=True)))
    return found


def read_region(variable: xr.Variable, region: Region) -> npt.NDArray[Any]:
    """The values of a piece of a variable; nothing else of it is read."""
    piece = variable[region] if variable.ndim else variable
    return np.asarray(piece.values)
