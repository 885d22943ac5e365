"""Encoding and decoding speed of ours and of the peers, in one process and one run, so that the figures can be compared.

Speeds in the rows of cases are of runs at different times, of two processes at once, and for deep chunks of two layouts; these
are not. Chunks are first samples of unlike kinds; a figure is the median over chunks, bounds and rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fields import FIELDS, chunks, load
from further_peers import CONTENDERS, peer_version
from missing import fill
from ours import EFFORTS, Ours
from points import OURS

__all__ = ["Pace", "paces"]

CHUNKS = (
    ("era5_t_global:t", "256"),
    ("monthly_t_2015:t", "64"),
    ("ersst:sst", "deep"),
    ("ostia_20170605:analysed_sst", "128"),
    ("terramesh_scenes:l1c", "whole"),
)
FRACTIONS = (1e-2, 1e-3)
ROUNDS = 3
_AT_LEAST = 0.05  # seconds of a round

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Pace:
    """Median megabytes a second of a codec, of the array's bytes."""

    codec: str
    encode: float
    decode: float


def paces(data: Path, *, quick: bool = False) -> list[Pace]:
    """Ours at every effort, then the peers that are installed."""
    samples = list(_samples(data, CHUNKS[:2] if quick else CHUNKS))
    found = []
    for effort in EFFORTS:
        ours = Ours(effort=effort)
        rates = [_of_ours(ours, values, bound) for values, _, _, bound in samples]
        found.append(_median(f"{OURS} {effort}", rates))
    for peer in CONTENDERS:
        if peer_version(peer.name) is not None:
            rates = [_of_peer(peer, filled, present, bound) for _, filled, present, bound in samples]
            found.append(_median(peer.name, rates))
    return found


def _samples(data: Path, wanted: Iterable[tuple[str, str]]) -> Iterable[tuple[Array, Array, npt.NDArray[np.bool_], float]]:
    """The array, the array without holes, what is present, and the bound."""
    for label, mode in wanted:
        field = next(f for f in FIELDS if f.variable.label == label)
        loaded = load(field, data)
        for chunk in chunks(loaded, mode):
            filled = fill(chunk, field.variable.code)
            if filled.values is not None and filled.present.mean() > 0.5:
                for fraction in FRACTIONS:
                    yield chunk, filled.values, filled.present, fraction * loaded.extent
                break


def _of_ours(ours: Ours, values: Array, bound: float) -> list[tuple[float, float]]:
    encode = partial(ours.encode, values, bound)
    return _rates(encode, partial(ours.decode, encode(), values.shape, values.dtype), values.nbytes)


def _of_peer(peer: Any, values: Array, present: npt.NDArray[np.bool_], bound: float) -> list[tuple[float, float]]:
    encode = partial(peer.encode, values, present, bound)
    return _rates(encode, partial(peer.decode, encode(), values.shape, values.dtype), values.nbytes)


def _rates(encode: Callable[[], object], decode: Callable[[], object], nbytes: int) -> list[tuple[float, float]]:
    return [(_rate(encode, nbytes), _rate(decode, nbytes)) for _ in range(ROUNDS)]


def _rate(work: Callable[[], object], nbytes: int) -> float:
    begun, times = time.perf_counter(), 0
    while True:
        work()
        times += 1
        seconds = time.perf_counter() - begun
        if seconds > _AT_LEAST:
            return times * nbytes / 1e6 / seconds


def _median(name: str, rates: Iterable[list[tuple[float, float]]]) -> Pace:
    encode, decode = zip(*(pair for rounds in rates for pair in rounds), strict=True)
    return Pace(name, statistics.median(encode), statistics.median(decode))
