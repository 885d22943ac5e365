"""Raster mode around its compiled walk: whole quanta of a chunk to bytes and back, and when to try it at all.

It suits data with copies, level ground and gaps between values (sensors, radar, nearest-neighbour grids), which a walk from
coarse to fine cannot see. `docs/reference/format.md`, section 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import Mode, Section
from latentzarr.codec.kernels.raster import ABOVE, BELOW, LEFT, RIGHT, walk_raster
from latentzarr.codec.prepare import LatticeChunk
from latentzarr.codec.ranks import from_ranks, to_ranks
from latentzarr.errors import CorruptFrameError
from latentzarr.geometry import ChunkGeometry

__all__ = ["RasterCandidate", "decode_raster", "encode_raster", "may_win"]

Ints = npt.NDArray[np.int32]

_BAND, _EVERY = 16, 64
_SMALL = 2**15
_HEAD_START = 0.85  # bands are coded in more bits than the whole: their edges, and what there was no time to learn


@dataclass(frozen=True, slots=True, eq=False)
class RasterCandidate:
    """A chunk in raster code.

    Attributes
    ----------
    payload : bytes
    adaptation : bytes
        What the frame says of the values that occur; empty without ranks.
    """

    payload: bytes
    adaptation: bytes
    mode: Mode = Mode.RASTER
    root_class: int = 0

    @property
    def estimated_bytes(self) -> int:
        """Payload and ranks."""
        return len(self.payload) + len(self.adaptation)

    def pack(self) -> tuple[bytes, tuple[Section, ...], int]:
        """Payload, and neither sections nor lanes."""
        return self.payload, (), 1


def encode_raster(chunk: LatticeChunk, most: int) -> RasterCandidate | None:
    """Code a chunk, or give up where that takes more than ``most`` bytes."""
    missing = None if chunk.missing is None else chunk.missing.reshape(chunk.coded.shape)
    ranks, described = to_ranks(_quanta(chunk), missing)
    payload = _encode(ranks, missing, most - len(described)) if most > len(described) else None
    return None if payload is None else RasterCandidate(payload, described)


def decode_raster(
    payload: bytes, missing: npt.NDArray[np.uint8] | None, geometry: ChunkGeometry, described: bytes
) -> npt.NDArray[np.int32]:
    """Decode what `encode_raster` wrote.

    Parameters
    ----------
    payload : bytes
    missing : uint8 array, shape (slices, rows * columns), optional
    geometry : ChunkGeometry
    described : bytes
        `RasterCandidate.adaptation`.

    Returns
    -------
    int32 array, shape (slices, rows, columns)
        Lattice units.

    Raises
    ------
    CorruptFrameError
        If the bytes do not end where the values do.
    """
    around, inside = _surrounded(geometry.shape)
    data = np.frombuffer(payload, np.uint8)
    holes = np.zeros((1, 1), np.uint8) if missing is None else missing
    used = walk_raster(around, holes, missing is not None, data.copy(), True)
    if used != len(payload):
        raise CorruptFrameError("the raster code does not end where the values do")
    k = np.ascontiguousarray(inside)
    if described:
        k = from_ranks(k, None if missing is None else missing.reshape(geometry.shape), described)
    return k * np.int32(16)


def may_win(chunk: LatticeChunk, most: int) -> bool:
    """Whether coding all of a chunk in ``most`` bytes is likely enough: of large chunks 16 of every 64 rows are coded first."""
    _, rows, _ = chunk.coded.shape
    if chunk.coded.size < _SMALL or rows < _EVERY:
        return True
    bands = rows // _EVERY
    kept = (_EVERY * np.arange(bands)[:, None] + np.arange(_BAND)).ravel()
    sample, missing = np.ascontiguousarray(_quanta(chunk)[:, kept]), None
    share = len(kept) / rows
    if chunk.missing is not None:
        missing = np.ascontiguousarray(chunk.missing.reshape(chunk.coded.shape)[:, kept])
        share = float((missing == 0).sum()) / max(float((chunk.missing == 0).sum()), 1.0)
    ranks, _ = to_ranks(sample, missing)
    return _encode(ranks, missing, int(most * share / _HEAD_START) + 1) is not None


def _quanta(chunk: LatticeChunk) -> Ints:
    """The nearest whole quantum of every value, shape (slices, rows, columns)."""
    t = chunk.target
    k = np.ceil((t - 8.0) * 0.0625 - 1e-9) if chunk.half_open else np.floor(t * 0.0625 + 0.5)
    return k.astype(np.int32).reshape(chunk.coded.shape)


def _encode(k: Ints, missing: npt.NDArray[np.uint8] | None, most: int) -> bytes | None:
    """The code of ``k``, or None where it takes more than ``most`` bytes."""
    around, inside = _surrounded(k.shape)
    inside[:] = k
    holes = np.zeros((1, 1), np.uint8) if missing is None else missing.reshape(len(k), -1)
    out = np.empty(most, np.uint8)
    used = walk_raster(around, holes, missing is not None, out, False)
    return None if used < 0 else out[:used].tobytes()


def _surrounded(shape: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Room for values and what stands around them, a slice of zeros first, and a view of the values alone."""
    slices, rows, columns = shape
    around = np.zeros((1 + slices, ABOVE + rows + BELOW, LEFT + columns + RIGHT), np.int32)
    return around, around[1:, ABOVE : ABOVE + rows, LEFT : LEFT + columns]
