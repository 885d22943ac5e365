"""One block's work: write it, read it back, compare every value. A task knows its store by name, so any process can do it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.dataset.blocks import Region, block_index
from latentzarr.dataset.inspect import block_facts
from latentzarr.dataset.storage import Location, drop_block, is_stored, open_array, place_of, quiet, writing
from latentzarr.errors import FormatError, LatentzarrError
from latentzarr.metrics import ErrorStatistics, measure

__all__ = ["CF_ENCODING", "BlockResult", "BlockTask", "cf_encoding"]

CF_ENCODING = ("_FillValue", "missing_value", "scale_factor", "add_offset", "dtype", "_Unsigned", "units", "calendar")
"""Entries of xarray's encoding that say what stored numbers mean; the rest says how they are stored."""


def cf_encoding(variable: xr.Variable) -> dict[str, Any]:
    """The entries of a variable's encoding that say what stored numbers mean."""
    return {key: variable.encoding[key] for key in CF_ENCODING if key in variable.encoding}


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What became of one block, or of several together.

    Attributes
    ----------
    statistics : ErrorStatistics
    modes : tuple of (str, int)
        How many chunks are coded in which way.
    stored : int
        Bytes of the frames; 0 for other codecs.
    seconds : float
    written : int
        Blocks written; those that were there and whole are not.
    """

    statistics: ErrorStatistics = field(default_factory=ErrorStatistics)
    modes: tuple[tuple[str, int], ...] = ()
    stored: int = 0
    seconds: float = 0.0
    written: int = 0

    def merged(self, other: BlockResult) -> BlockResult:
        """Both together."""
        modes = Counter(dict(self.modes))
        modes.update(dict(other.modes))
        return BlockResult(
            self.statistics.merged(other.statistics),
            tuple(modes.most_common()),
            self.stored + other.stored,
            self.seconds + other.seconds,
            self.written + other.written,
        )


@dataclass(frozen=True, slots=True)
class BlockTask:
    """What to do with the blocks of one variable; called with values and the region they belong to.

    Attributes
    ----------
    store : path, URL or zarr store
    name : str
    dims : tuple of str
    block : tuple of int
        Shape of a block: a shard, or a chunk. No two calls share one.
    bound : ErrorBound or None
        None: zarr's ordinary codecs, compared bit by bit.
    encoding : dict
        CF entries by which values become stored numbers.
    write : bool
        False: only compare.
    check : bool
        Compare what was written.
    resume : bool
        Leave blocks that are stored and within the bound.
    """

    store: Location
    name: str
    dims: tuple[str, ...]
    block: tuple[int, ...]
    bound: ErrorBound | None
    encoding: dict[str, Any]
    write: bool = True
    check: bool = True
    resume: bool = False

    def __call__(self, values: npt.NDArray[Any], region: Region) -> BlockResult:
        """Write and check one block.

        Raises
        ------
        StoreWriteError
            If the medium fails.
        """
        start = time.perf_counter()
        exact = self.bound is None or self.bound.kind is BoundKind.LOSSLESS
        array = open_array(self.store, self.name, write_empty=exact)
        stored = self._encoded(np.asarray(values), array.dtype)
        index = block_index(region, self.block)
        statistics, written = None, 0
        present = self.write and self.resume and is_stored(array, index)
        if present:
            statistics = self._compared(array, stored, region)
        if self.write and (statistics is None or statistics.violations):
            with writing(f"{place_of(self.store)}, {self.name}"), quiet():
                if present:
                    drop_block(array, index)
                array[region] = stored
            statistics, written = None, 1
        if statistics is None and self.check:
            statistics = measure(stored, self._read(array, region), self.bound or ErrorBound.lossless())
        facts = block_facts(array, index)
        modes = tuple(Counter(f.mode for f in facts).most_common())
        size = sum(f.size for f in facts)
        return BlockResult(statistics or ErrorStatistics(), modes, size, time.perf_counter() - start, written)

    def _encoded(self, values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Values as the array stores them."""
        if self.encoding or values.dtype.kind == "b":
            variable = xr.Variable(self.dims, values, {}, self.encoding)
            values = np.asarray(xr.conventions.encode_cf_variable(variable, name=self.name).values)
        return values.astype(dtype, copy=False)

    def _compared(self, array: zarr.Array[Any], stored: npt.NDArray[Any], region: Region) -> ErrorStatistics | None:
        """Statistics of a block that is there, or None where it cannot be read."""
        try:
            return measure(stored, self._read(array, region), self.bound or ErrorBound.lossless())
        except (FormatError, ValueError, RuntimeError):
            return None

    def _read(self, array: zarr.Array[Any], region: Region) -> npt.NDArray[Any]:
        try:
            return np.asarray(array[region])
        except LatentzarrError as error:
            raise error.at(f"{self.name}[{', '.join(f'{s.start}:{s.stop}' for s in region)}]") from error
