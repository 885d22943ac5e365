"""Two more peers, LERC and EBCC, and for deep chunks the better of two layouts: the chunk as a volume, or slice by slice.

Both are run as their users' reports advise (docs/explanation/peers.md): LERC with zstd behind it, EBCC with a base ratio that
keeps its bound on small frames, and never with a hole in it.
"""

from __future__ import annotations

import os
import struct
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from measure import error_over_bound
from peers import Peer, QuantJpegXL, QuantPcodec, Sperr, Sz3, Zfp, integer_bound

__all__ = ["CONTENDERS", "BetterLayout", "Ebcc", "Lerc", "contender", "peer_version"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

PACKAGES = {
    "sz3": "pysz",
    "sperr": "imagecodecs",
    "quant+jpegxl": "imagecodecs",
    "quant+pcodec": "pcodec",
    "zfp": "zfpy",
    "lerc+zstd": "imagecodecs",
    "ebcc": "numcodecs-wasm-ebcc",
}


def _joined(parts: Sequence[bytes]) -> bytes:
    """Parts with their lengths before them, but the last's."""
    return struct.pack(f"<{len(parts) - 1}I", *(len(p) for p in parts[:-1])) + b"".join(parts)


def _parted(data: bytes, count: int) -> list[bytes]:
    lengths = struct.unpack_from(f"<{count - 1}I", data)
    at, parts = 4 * (count - 1), []
    for length in (*lengths, len(data)):
        parts.append(data[at : at + length])
        at += length
    return parts


def _maps(values: Array) -> Array:
    return values.reshape(-1, *values.shape[-2:])


@dataclass(frozen=True, slots=True)
class Lerc:
    """LERC (Esri) with zstd, which is smaller everywhere here; integers as they are, deep chunks slice by slice."""

    name: str = "lerc+zstd"
    bounded: bool = True
    keeps_mask: bool = False

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:  # noqa: ARG002 - the harness keeps the mask
        limit = bound if values.dtype.kind == "f" else float(np.floor(bound))
        return _joined(
            [
                bytes(
                    imagecodecs.lerc_encode(
                        np.ascontiguousarray(m), level=limit, compression="zstd", compressionargs={"level": 19}
                    )
                )
                for m in _maps(values)
            ]
        )

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        parts = _parted(data, int(np.prod(shape[:-2], dtype=np.int64)))
        return np.stack([imagecodecs.lerc_decode(p) for p in parts]).reshape(shape).astype(dtype, copy=False), None


@dataclass(frozen=True, slots=True)
class Ebcc:
    """EBCC (wasm), frame by frame as float32, padded to 32 x 32; a base ratio of 10, and 4 where that breaks the bound."""

    name: str = "ebcc"
    bounded: bool = True
    keeps_mask: bool = False

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:
        if values.dtype.kind in "iu" and bound < 1:
            raise ValueError("has no lossless mode")
        for ratio in (10.0, 4.0):
            data = self._encode(values, bound, ratio)
            if error_over_bound(values, self.decode(data, values.shape, values.dtype)[0], present, bound) <= 1.0:
                break
        return data

    def _encode(self, values: Array, bound: float, ratio: float) -> bytes:
        limit = bound if values.dtype.kind == "f" else integer_bound(bound)
        codec = _ebcc(residual="absolute", error=limit, base_cr=ratio)
        frames = _maps(values).astype(np.float32)
        missing = [(0, 0), *((0, max(0, 32 - n)) for n in frames.shape[1:])]
        with _hushed():
            return _joined([bytes(codec.encode(np.ascontiguousarray(f))) for f in np.pad(frames, missing, mode="edge")])

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        codec = _ebcc(residual="absolute", error=1.0)
        rows, columns = shape[-2:]
        whole = (max(rows, 32), max(columns, 32))
        parts = _parted(data, int(np.prod(shape[:-2], dtype=np.int64)))
        frames = [np.asarray(codec.decode(np.frombuffer(p, np.uint8))).reshape(whole)[:rows, :columns] for p in parts]
        values = np.stack(frames).reshape(shape)
        if dtype.kind == "f":
            return values.astype(dtype), None
        info = np.iinfo(dtype)
        return np.clip(np.rint(values.astype(np.float64)), info.min, info.max).astype(dtype), None


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what EBCC writes to the terminal for every frame that misses its bound; the harness finds those itself."""
    sys.stdout.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
        for handle in (*kept, nowhere):
            os.close(handle)


def _ebcc(**options: Any) -> Any:
    """The numcodecs codec; imported here, since starting its wasm takes seconds and it may not be installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("numcodecs_wasm_ebcc").Ebcc(**options)


@dataclass(frozen=True, slots=True)
class BetterLayout:
    """A peer on a deep chunk: the smaller of volume and slices, of those that hold the bound; one byte says which."""

    peer: Peer

    @property
    def name(self) -> str:
        return self.peer.name

    @property
    def bounded(self) -> bool:
        return self.peer.bounded

    @property
    def keeps_mask(self) -> bool:
        return False

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:
        found: list[tuple[bool, int, bytes]] = []
        problem: Exception = ValueError("neither layout")
        for layout in (self._volume, self._slices):
            try:
                data = layout(values, present, bound)
                decoded = self.decode(data, values.shape, values.dtype)[0]
            except (ValueError, RuntimeError, TypeError) as raised:
                problem = raised
                continue
            found.append((error_over_bound(values, decoded, present, bound) > 1.0, len(data), data))
        if not found:
            raise problem
        return min(found)[2]

    def _volume(self, values: Array, present: Mask, bound: float) -> bytes:
        return b"v" + self.peer.encode(values, present, bound)

    def _slices(self, values: Array, present: Mask, bound: float) -> bytes:
        return b"s" + _joined([self.peer.encode(v, p, bound) for v, p in zip(values, present, strict=True)])

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        if data[:1] == b"v":
            return self.peer.decode(data[1:], shape, dtype)[0], None
        return np.stack([self.peer.decode(p, shape[1:], dtype)[0] for p in _parted(data[1:], shape[0])]), None


CONTENDERS: tuple[Peer, ...] = (Sz3(), Sperr(), QuantJpegXL(), QuantPcodec(), Zfp(), Lerc(), Ebcc())
_SLICES_ONLY = ("quant+jpegxl", "lerc+zstd", "ebcc")


def contender(name: str, mode: str) -> Peer:
    """A peer by name, as it is used in a chunk mode."""
    peer = next(p for p in CONTENDERS if p.name == name)
    return BetterLayout(peer) if mode == "deep" and name not in _SLICES_ONLY else peer


def peer_version(name: str) -> str | None:
    """The version of the package behind a peer; None if it is not installed."""
    try:
        return f"{PACKAGES[name]} {version(PACKAGES[name])}"
    except PackageNotFoundError:
        return None
