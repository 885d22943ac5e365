"""The classical codecs the first table compares with, each behind the same two calls, run as a careful user would run them.

Shape and dtype are given at decoding, as zarr gives them. Arrays have 2 or 3 dimensions and come with their holes filled
(`missing.fill`) and a mask, which the harness stores and counts unless the codec has a better way to keep it. Integers go to
codecs of floats as floats and are rounded after decoding. A bound that rounding breaks by a hair is no reason to drop a
codec: the harness asks again with a slightly smaller one (`measure.encode_within`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

import imagecodecs
import numpy as np
import numpy.typing as npt
import zfpy
from pcodec import ChunkConfig, standalone
from pysz import sz, szConfig, szErrorBoundMode

__all__ = ["PEERS", "Pack16", "Peer", "QuantJpegXL", "QuantPcodec", "Sperr", "Sz3", "Zfp", "integer_bound"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
_STEP = struct.Struct("<fq")


class Peer(Protocol):
    """A codec of arrays under an absolute bound.

    Attributes
    ----------
    name : str
    bounded : bool
        False: it was asked for no bound, and its result is reported but never counted as the best.
    keeps_mask : bool
        True: the bytes say what is missing, no mask is stored beside them.
    """

    @property
    def name(self) -> str: ...

    @property
    def bounded(self) -> bool: ...

    @property
    def keeps_mask(self) -> bool: ...

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:
        """Bytes of ``values``; raises if the codec cannot take them."""
        ...

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Mask | None]:
        """An array of ``shape`` and ``dtype``, and the mask if the codec keeps it."""
        ...


def integer_bound(bound: float) -> float:
    """What a codec of floats may err by so that the rounded integer is within ``floor(bound)``."""
    return float(np.floor(bound)) + 0.49


def _as_float(values: Array, bound: float) -> tuple[Array, float]:
    if values.dtype.kind == "f":
        return values, bound
    return values.astype(_carrier(values.dtype)), integer_bound(bound)


def _carrier(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float type that carries values of ``dtype`` exactly (64-bit integers beyond 2**53 aside)."""
    return dtype if dtype.kind == "f" else np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def _restore(decoded: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    whole = decoded.reshape(shape)
    if dtype.kind == "f":
        return whole.astype(dtype, copy=False)
    info = np.iinfo(dtype)
    return np.clip(np.rint(whole.astype(np.float64)), info.min, info.max).astype(dtype)


@dataclass(frozen=True, slots=True)
class Sz3:
    """SZ3 through pysz, in its default mode (interpolation and Lorenzo)."""

    name: str = "sz3"
    bounded: bool = True
    keeps_mask: bool = False

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:  # noqa: ARG002 - the harness keeps the mask
        floats, limit = _as_float(values, bound)
        config = szConfig()
        config.errorBoundMode = szErrorBoundMode.ABS
        config.absErrorBound = limit
        data, _ = sz.compress(np.ascontiguousarray(floats), config)
        return bytes(data.tobytes())

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        decoded, _ = sz.decompress(np.frombuffer(data, np.uint8), _carrier(dtype), shape)
        return _restore(decoded, shape, dtype), None


@dataclass(frozen=True, slots=True)
class Sperr:
    """SPERR through imagecodecs, pointwise error. Never give it NaN: it ends the process."""

    name: str = "sperr"
    bounded: bool = True
    keeps_mask: bool = False

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:  # noqa: ARG002 - the harness keeps the mask
        floats, limit = _as_float(values, bound)
        if not np.isfinite(floats).all():
            raise ValueError("SPERR must not be given NaN or infinities")
        return bytes(imagecodecs.sperr_encode(np.ascontiguousarray(floats), limit, mode="pwe", numthreads=1))

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        return _restore(imagecodecs.sperr_decode(data, numthreads=1), shape, dtype), None


@dataclass(frozen=True, slots=True)
class Zfp:
    """ZFP with a fixed accuracy."""

    name: str = "zfp"
    bounded: bool = True
    keeps_mask: bool = False

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:  # noqa: ARG002 - the harness keeps the mask
        floats, limit = _as_float(values, bound)
        return bytes(zfpy.compress_numpy(np.ascontiguousarray(floats), tolerance=limit, write_header=True))

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        return _restore(zfpy.decompress_numpy(data), shape, dtype), None


def _quantise(values: Array, bound: float) -> tuple[bytes, npt.NDArray[np.uint32]]:
    """Header (12 bytes) and levels from 0; steps of ``2 * bound``, for integers the widest step that keeps the bound."""
    if values.dtype.kind == "f":
        step = float(np.float32(2 * bound))
        step = step if step <= 2 * bound else float(np.nextafter(np.float32(2 * bound), np.float32(0)))
        rounded = np.rint(values.astype(np.float64) / step)
        low = int(rounded.min())
        shifted = rounded - low
    else:
        step = 2 * float(np.floor(bound)) + 1
        low = int(values.min())
        shifted = ((values.astype(np.int64) - low + int(bound)) // int(step)).astype(np.float64)
    if shifted.max() >= 2**32 - 1:
        raise ValueError("more than 2**32 levels")
    return _STEP.pack(step, low), shifted.astype(np.uint32)


def _dequantise(header: bytes, levels: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    step, low = _STEP.unpack(header)
    whole = levels.reshape(shape)
    if dtype.kind == "f":
        floats: Array = ((whole.astype(np.float64) + low) * step).astype(dtype)
        return floats
    info = np.iinfo(dtype)
    integers: Array = np.clip(whole.astype(np.int64) * int(step) + low, info.min, info.max).astype(dtype)
    return integers


@dataclass(frozen=True, slots=True)
class QuantJpegXL:
    """Levels of the bound, then lossless JPEG-XL (effort 7), map by map; two 16-bit images where 65,536 levels are too few.

    Missing values are level 0 of the image: up to 18 % smaller here than a fill and a mask beside it.
    """

    name: str = "quant+jpegxl"
    bounded: bool = True
    keeps_mask: bool = True
    effort: int = 7

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:
        header, levels = _quantise(values, bound)
        holes = not present.all()
        if holes:
            levels = np.where(present, levels + np.uint32(1), np.uint32(0))
        top = int(levels.max())
        maps = levels.reshape(-1, *levels.shape[-2:])
        if top < 65536:
            images = maps.astype(np.uint8 if top < 256 else np.uint16)
        else:
            images = np.concatenate([maps >> 16, maps & 0xFFFF]).astype(np.uint16)
        parts = [
            bytes(imagecodecs.jpegxl_encode(image, lossless=True, effort=self.effort, usecontainer=False, numthreads=1))
            for image in images
        ]
        sizes = struct.pack(f"<{len(parts) - 1}I", *(len(p) for p in parts[:-1]))
        return header + struct.pack("<HB", len(parts), holes) + sizes + b"".join(parts)

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Mask]:
        count, holes = struct.unpack_from("<HB", data, _STEP.size)
        at = _STEP.size + 3
        sizes = struct.unpack_from(f"<{count - 1}I", data, at)
        at += 4 * (count - 1)
        images = []
        for size in (*sizes, len(data)):
            images.append(imagecodecs.jpegxl_decode(data[at : at + size], numthreads=1))
            at += size
        levels = np.stack(images).astype(np.uint32)
        maps = int(np.prod(shape[:-2], dtype=np.int64))
        if count > maps:
            levels = (levels[:maps] << np.uint32(16)) | levels[maps:]
        levels = levels.reshape(shape)
        present = levels > 0 if holes else np.ones(shape, bool)
        values = levels - np.uint32(1) * present if holes else levels
        return _dequantise(data[: _STEP.size], values, shape, dtype), present


@dataclass(frozen=True, slots=True)
class QuantPcodec:
    """Levels of the bound, then pcodec."""

    name: str = "quant+pcodec"
    bounded: bool = True
    keeps_mask: bool = False

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:  # noqa: ARG002 - the harness keeps the mask
        header, levels = _quantise(values, bound)
        return header + bytes(standalone.simple_compress(np.ascontiguousarray(levels).ravel(), ChunkConfig()))

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        return _dequantise(data[: _STEP.size], np.asarray(standalone.simple_decompress(data[_STEP.size :])), shape, dtype), None


@dataclass(frozen=True, slots=True)
class Pack16:
    """What many archives do: 16 bits over the range of the chunk, bytes shuffled, zstd. No bound is asked of it."""

    name: str = "16bit+zstd"
    bounded: bool = False
    keeps_mask: bool = False
    level: int = 9

    def encode(self, values: Array, present: Mask, bound: float) -> bytes:  # noqa: ARG002 - the seam has them, this codec not
        if values.dtype.kind == "f":
            low, high = float(values.min()), float(values.max())
            scale = (high - low) / 65535 or 1.0
            packed = np.rint((values.astype(np.float64) - low) / scale).astype("<u2")
        else:
            low, scale = float(values.min()), 1.0
            packed = (values.astype(np.int64) - int(low)).astype("<u2")
        shuffled = packed.reshape(-1, 1).view(np.uint8).T.tobytes()
        return struct.pack("<dd", low, scale) + bytes(imagecodecs.zstd_encode(shuffled, level=self.level))

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, None]:
        low, scale = struct.unpack_from("<dd", data)
        planes = np.frombuffer(imagecodecs.zstd_decode(data[16:]), np.uint8).reshape(2, -1)
        packed = np.ascontiguousarray(planes.T).view("<u2").reshape(shape)
        return _restore(packed.astype(np.float64) * scale + low, shape, dtype), None


PEERS: tuple[Peer, ...] = (Sz3(), Sperr(), QuantJpegXL(), QuantPcodec(), Zfp(), Pack16())
