"""Measure before writing: ranges of whole variables, read lazily, and what coding a few chunks gives."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute

from latentzarr.bitstream.frame import Mode, read_header
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import CodecConfig
from latentzarr.codec.runtime import current_runtime
from latentzarr.dataset.blocks import read_region, regions
from latentzarr.metrics import ErrorStatistics, measure

__all__ = ["Trial", "finite_range", "ranges_of", "too_tight", "try_bound"]

_SLAB_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Trial:
    """What coding a few chunks gave.

    Attributes
    ----------
    bound : ErrorBound
        As coded: absolute, relative, none or lossless.
    words : str
        The bound as asked for.
    ratio : float
        Bytes of the values over bytes of their frames.
    seconds : float
        Predicted for the whole variable on this machine, reading not included.
    max_abs_error, rmse : float
        Over the chunks tried, in units of the data.
    modes : dict of str to int
        How many chunks were coded in which way.
    """

    bound: ErrorBound
    words: str
    ratio: float
    seconds: float
    max_abs_error: float
    rmse: float
    modes: dict[str, int]


def ranges_of(ds: xr.Dataset, parsed: Mapping[str, ErrorBound]) -> dict[str, tuple[float, float]]:
    """Minimum and maximum over the finite values of the whole of each variable whose bound is relative to its range."""
    lazy, ranges = {}, {}
    for name, bound in parsed.items():
        if bound.kind is not BoundKind.RANGE_RELATIVE:
            continue
        variable = ds.variables[name]
        if variable.size == 0:
            ranges[name] = (0.0, 0.0)
        elif variable.chunks is not None:
            lazy[name] = _lazy_range(variable.data)
        else:
            pieces = [finite_range(read_region(variable, r)) for r in regions(variable.shape, _slab(variable))]
            ranges[name] = (min(p[0] for p in pieces), max(p[1] for p in pieces))
    for name, (low, high) in compute(lazy)[0].items():
        ranges[name] = (float(low), float(high))
    return {name: r if r[0] <= r[1] else (0.0, 0.0) for name, r in ranges.items()}


def _slab(variable: xr.Variable) -> tuple[int, ...]:
    """Leading steps of at most a few MB."""
    block = list(variable.shape)
    for axis in range(variable.ndim):
        rest = math.prod(block) // block[axis] * variable.dtype.itemsize
        block[axis] = max(1, min(block[axis], _SLAB_BYTES // max(rest, 1)))
    return tuple(block)


def finite_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Minimum and maximum of what is finite; (inf, -inf) if nothing is."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)


def _lazy_range(data: Any) -> tuple[Any, Any]:
    if data.dtype.kind != "f":
        return data.min(), data.max()
    finite = dask.array.isfinite(data)
    return dask.array.where(finite, data, np.inf).min(), dask.array.where(finite, data, -np.inf).max()


def too_tight(pieces: list[npt.NDArray[Any]], bound: ErrorBound) -> bool:
    """Whether a bound is below what the numbers themselves can resolve, judged by the pieces tried."""
    if bound.kind is not BoundKind.ABSOLUTE or pieces[0].dtype.kind != "f":
        return bound.kind is BoundKind.ABSOLUTE and bound.value < 1
    largest = max(max(abs(low), abs(high)) for low, high in map(finite_range, pieces))
    return math.isfinite(largest) and bound.value < 0.5 * float(np.spacing(pieces[0].dtype.type(largest)))


def try_bound(pieces: list[npt.NDArray[Any]], config: CodecConfig, words: str, nbytes: int) -> Trial:
    """Code pieces of a variable and compare what they decode to.

    Parameters
    ----------
    pieces : list of array
        Of the shape of a chunk, or smaller at an edge; at least one.
    config : CodecConfig
    words : str
        The bound as asked for.
    nbytes : int
        Bytes of the whole variable, for the time predicted.
    """
    bound = config.bound
    encode_chunk(
        pieces[0][tuple(slice(0, 20) for _ in pieces[0].shape)], config
    )  # compiled kernels are loaded before the clock starts
    statistics, coded, modes = ErrorStatistics(), 0, dict.fromkeys((m.name.lower() for m in Mode), 0)
    start = time.perf_counter()
    frames = [encode_chunk(p, config) for p in pieces]
    seconds = time.perf_counter() - start
    for piece, frame in zip(pieces, frames, strict=True):
        decoded = decode_chunk(frame, piece.shape, piece.dtype, config.model)
        statistics = statistics.merged(measure(piece, decoded, bound))
        coded += len(frame)
        modes[read_header(frame).mode.name.lower()] += 1
    tried = sum(p.nbytes for p in pieces)
    whole = seconds * nbytes / tried / current_runtime().workers
    found = {mode: count for mode, count in modes.items() if count}
    return Trial(bound, words, tried / coded, whole, statistics.max_abs, statistics.rmse, found)
