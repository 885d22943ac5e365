"""One measurement: encode a case's chunks, decode them again, check every value in float64, and keep the numbers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cases import Case
from missing import Filled
from peers import Peer

__all__ = ["Held", "Row", "encode_within", "error_over_bound", "measure", "measure_ours", "measured_ours"]

Array = npt.NDArray[Any]

TIGHTER = (1.0, 1 - 1e-6, 1 - 1e-4, 0.999, 0.99, 0.9)
"""Factors on the bound asked of a peer, tried until what it returns is within the real bound."""


@dataclass(frozen=True, slots=True)
class Row:
    """One codec on one case: a line of the file of results.

    Attributes
    ----------
    version : str
        Of the codec: a fingerprint of our code and model, or the versions of a peer's packages.
    encoded : int
        Bytes of all chunks, the bytes of masks included.
    mask : int
        The part of ``encoded`` that is masks, where the harness had to store them for a peer.
    error : float
        Largest error over the bound; at most 1 where the bound holds. Integers: over ``floor(bound)``.
    tightened : float
        Smallest factor on the bound that had to be asked for so that it held.
    """

    family: str
    variable: str
    mode: str
    fraction: str
    codec: str
    version: str
    bound: float
    chunks: int
    raw: int
    encoded: int
    mask: int
    error: float
    tightened: float
    encode_mb_s: float
    decode_mb_s: float
    candidates: str
    status: str
    run: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The case it belongs to."""
        return self.variable, self.mode, self.fraction

    @property
    def valid(self) -> bool:
        """Whether it was measured, and within the bound."""
        return self.status == "ok"

    def as_dict(self) -> dict[str, Any]:
        """Columns by name."""
        return asdict(self)


def error_over_bound(original: Array, decoded: Array, present: npt.NDArray[np.bool_], bound: float) -> float:
    """Largest absolute error of the values that are present over the bound, in float64; integers over ``floor(bound)``."""
    if not present.any():
        return 0.0
    difference = np.abs(original[present].astype(np.float64) - decoded[present].astype(np.float64))
    largest = float(difference.max())  # NaN if a value was lost
    limit = bound if original.dtype.kind == "f" else float(np.floor(bound))
    if limit == 0.0:
        return 0.0 if largest == 0.0 else float("inf")
    return largest / limit if np.isfinite(largest) else float("inf")


class Held(NamedTuple):
    """Bytes that hold the bound, and what the try that did took: seconds, and the factor on the bound that was asked for."""

    data: bytes
    decoded: Array
    error: float
    factor: float
    encode: float
    decode: float


def encode_within(peer: Peer, values: Array, present: npt.NDArray[np.bool_], bound: float) -> Held:
    """The first try that holds the bound, of ever smaller bounds asked for; raises if none does."""
    for factor in TIGHTER if peer.bounded else (1.0,):
        started = time.perf_counter()
        data = peer.encode(values, present, bound * factor)
        encoded = time.perf_counter()
        decoded, mask = peer.decode(data, values.shape, values.dtype)
        finished = time.perf_counter()
        if peer.keeps_mask and not np.array_equal(mask if mask is not None else np.empty(0), present):
            raise ValueError("the mask came back changed")
        error = error_over_bound(values, decoded, present, bound)
        if error <= 1.0 or not peer.bounded:
            return Held(data, decoded, error, factor, encoded - started, finished - encoded)
    raise ValueError(f"bound broken {error:.3g}-fold even at {TIGHTER[-1]} of it")


def measure(case: Case, peer: Peer, version: str, chunks: Sequence[Filled], bound: float, run: str) -> Row:
    """A peer on all chunks of a case. What it raises becomes its status."""
    total, error, factor, encode, decode = 0, 0.0, 1.0, 0.0, 0.0
    mask = sum(c.mask_bytes for c in chunks if c.values is None or not peer.keeps_mask)
    status, coded = "ok", 0
    for chunk in chunks:
        if chunk.values is None:
            continue
        coded += chunk.raw_bytes
        try:
            held = encode_within(peer, chunk.values, chunk.present, bound)
        except (ValueError, RuntimeError, MemoryError, TypeError) as problem:
            status = f"{type(problem).__name__}: {problem}"[:120].replace("\n", " ")
            break
        total += len(held.data)
        error, factor = max(error, held.error), min(factor, held.factor)
        encode, decode = encode + held.encode, decode + held.decode
    if status == "ok" and not peer.bounded:
        status = "no bound asked"
    raw = sum(c.raw_bytes for c in chunks)
    return _row(case, peer.name, version, chunks=len(chunks), raw=raw, coded=coded, encoded=total + mask, mask=mask, error=error,
                factor=factor, encode=encode, decode=decode, candidates="", status=status, bound=bound, run=run)  # fmt: skip


def measured_ours(ours: Any, chunk: Array, present: npt.NDArray[np.bool_], bound: float) -> Held:
    """Our codec on one chunk: no second try, whatever comes back."""
    started = time.perf_counter()
    data = ours.encode(chunk, bound)
    encoded = time.perf_counter()
    decoded = ours.decode(data, chunk.shape, chunk.dtype)
    finished = time.perf_counter()
    return Held(data, decoded, error_over_bound(chunk, decoded, present, bound), 1.0, encoded - started, finished - encoded)


def measure_ours(
    case: Case, ours: Any, version: str, chunks: Sequence[Array], filled: Sequence[Filled], bound: float, run: str
) -> Row:
    """Our codec on the original chunks, holes and codes included: those must come back exactly."""
    total, error, encode, decode, raw = 0, 0.0, 0.0, 0.0, 0
    modes: Counter[str] = Counter()
    status = "ok"
    for chunk, parts in zip(chunks, filled, strict=True):
        held = measured_ours(ours, chunk, parts.present, bound)
        decode += held.decode
        encode += held.encode
        raw += chunk.nbytes
        total += len(held.data)
        modes[ours.mode(held.data)] += 1
        error = max(error, held.error)
        if not np.array_equal(chunk[~parts.present], held.decoded[~parts.present], equal_nan=chunk.dtype.kind == "f"):
            status = "missing values changed"
    if error > 1.0:
        status = f"BOUND BROKEN {error:.3g}-fold"
    candidates = " ".join(f"{name}:{count}" for name, count in modes.most_common())
    return _row(case, ours.name, version, chunks=len(chunks), raw=raw, coded=raw, encoded=total, mask=0, error=error, factor=1.0,
                encode=encode, decode=decode, candidates=candidates, status=status, bound=bound, run=run)  # fmt: skip


def _row(
    case: Case,
    codec: str,
    version: str,
    *,
    bound: float,
    chunks: int,
    raw: int,
    coded: int,
    encoded: int,
    mask: int,
    error: float,
    factor: float,
    encode: float,
    decode: float,
    candidates: str,
    status: str,
    run: str,
) -> Row:
    label, mode, fraction = case.key
    return Row(
        family=case.variable.family,
        variable=label,
        mode=mode,
        fraction=fraction,
        codec=codec,
        version=version,
        bound=bound,
        chunks=chunks,
        raw=raw,
        encoded=encoded,
        mask=mask,
        error=round(error, 6),
        tightened=factor,
        encode_mb_s=round(coded / 1e6 / encode, 2) if encode else 0.0,
        decode_mb_s=round(coded / 1e6 / decode, 2) if decode else 0.0,
        candidates=candidates,
        status=status,
        run=run,
    )
