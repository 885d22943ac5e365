"""A codec on all chunks of a case: bytes, errors, seconds and small-scale power, summed into one point.

What a peer raises becomes the point's status; ours has to return every hole and code as it was, or the status says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cases import Case
from latentzarr.metrics import radial_spectrum
from measure import Held, encode_within, measured_ours
from missing import Filled
from peers import Peer
from points import Point

if TYPE_CHECKING:
    from ours import Ours

__all__ = ["Tally", "point_of_ours", "point_of_peer", "small_power"]

Array = npt.NDArray[Any]

_SMALL = 1 / 3  # cycles per grid step: the highest third of wavenumbers, up to 1/2
_SPECTRA = 6  # maps of a case whose spectrum is taken
_FAILURES = (ValueError, RuntimeError, MemoryError, TypeError, OSError)


@dataclass(slots=True)
class Tally:
    """What is summed over the chunks of a case."""

    encoded: int = 0
    coded: int = 0
    error: float = 0.0
    factor: float = 1.0
    encode: float = 0.0
    decode: float = 0.0
    squares: float = 0.0
    present: int = 0
    power: list[float] = field(default_factory=lambda: [0.0, 0.0])
    modes: Counter[str] = field(default_factory=Counter)
    status: str = "ok"

    def add(self, held: Held, chunk: Filled, *, spectrum: bool) -> None:
        """Add a chunk that was coded; ``chunk.values`` are the original, filled where values are missing."""
        assert chunk.values is not None
        self.encoded += len(held.data)
        self.coded += chunk.raw_bytes
        self.error, self.factor = max(self.error, held.error), min(self.factor, held.factor)
        self.encode, self.decode = self.encode + held.encode, self.decode + held.decode
        original = chunk.values.astype(np.float64)
        decoded = np.where(chunk.present, held.decoded, original).astype(np.float64)
        self.squares += float(np.sum((decoded - original) ** 2))
        self.present += int(chunk.present.sum())
        if spectrum:
            for i, values in enumerate((original, decoded)):
                self.power[i] += small_power(
                    values.reshape(-1, *values.shape[-2:])[values.shape[0] // 2 if values.ndim > 2 else 0]
                )

    def point(self, case: Case, chunks: Sequence[Filled], bound: float, **known: Any) -> Point:
        """The finished line."""
        variable, mode, fraction = case.key
        before, after = self.power
        return Point(
            family=case.variable.family, variable=variable, mode=mode, fraction=fraction, bound=bound, chunks=len(chunks),
            values=sum(c.present.size for c in chunks), raw=sum(c.raw_bytes for c in chunks), error=round(self.error, 6),
            tightened=self.factor, rmse=math.sqrt(self.squares / self.present) if self.present else 0.0,
            detail=after / before if before > 0 else math.nan,
            encode_mb_s=round(self.coded / 1e6 / self.encode, 2) if self.encode else 0.0,
            decode_mb_s=round(self.coded / 1e6 / self.decode, 2) if self.decode else 0.0,
            candidates=" ".join(f"{name}:{count}" for name, count in self.modes.most_common()), status=self.status, **known,
        )  # fmt: skip


def small_power(values: npt.NDArray[np.float64]) -> float:
    """Power of a map in the highest third of wavenumbers; 0 for a map of fewer than 16 rows or columns."""
    if min(values.shape) < 16:
        return 0.0
    frequency, power = radial_spectrum(values)
    return float((power * frequency)[frequency >= _SMALL].sum())


def _watched(chunks: Sequence[Filled]) -> set[int]:
    """Indices of the chunks whose spectrum is taken: a few, spread over those that hold most of their values."""
    full = [i for i, c in enumerate(chunks) if c.values is not None and c.present.mean() > 0.5]
    return {full[int((i + 0.5) * len(full) / _SPECTRA)] for i in range(_SPECTRA)} if full else set()


def point_of_peer(case: Case, peer: Peer, version: str, sample: str, chunks: Sequence[Filled], bound: float, run: str) -> Point:
    """A peer on all chunks; what it raises becomes its status."""
    tally, watched = Tally(), _watched(chunks)
    mask = sum(c.mask_bytes for c in chunks if c.values is None or not peer.keeps_mask)
    for i, chunk in enumerate(chunks):
        if chunk.values is None:
            continue
        try:
            held = encode_within(peer, chunk.values, chunk.present, bound)
        except _FAILURES as problem:
            tally.status = f"{type(problem).__name__}: {problem}"[:120].replace("\n", " ")
            break
        tally.add(held, chunk, spectrum=i in watched)
    tally.encoded += mask
    return tally.point(case, chunks, bound, codec=peer.name, effort="", version=version, sample=sample, encoded=tally.encoded,
                       mask=mask, model=0, run=run)  # fmt: skip


def point_of_ours(
    case: Case,
    ours: Ours,
    version: str,
    sample: str,
    pairs: Sequence[tuple[Array, Filled]],
    bound: float,
    run: str,
    model: int = 0,
) -> Point:
    """Our codec on the original chunks, holes and codes included: those must come back exactly."""
    chunks = [filled for _, filled in pairs]
    tally, watched = Tally(), _watched(chunks)
    for i, (values, chunk) in enumerate(pairs):
        held = measured_ours(ours, values, chunk.present, bound)
        if held.error > 1.0:
            tally.status = f"BOUND BROKEN {held.error:.3g}-fold"
        if not np.array_equal(values[~chunk.present], held.decoded[~chunk.present], equal_nan=values.dtype.kind == "f"):
            tally.status = "missing values changed"
        tally.modes[ours.mode(held.data)] += 1
        if chunk.values is None:
            tally.encoded += len(held.data)
        else:
            tally.add(held, chunk, spectrum=i in watched)
    return tally.point(case, chunks, bound, codec=ours.name, effort=ours.effort, version=version, sample=sample,
                       encoded=tally.encoded + model, mask=0, model=model, run=run)  # fmt: skip
