"""The classical codecs of the cubes' comparison, each with the settings that were found to help it.

SZ3 in three settings, since which predictor is best differs by variable; SPERR also with a short axis padded to 9 planes, since
it does not transform along a shorter one at all. One thread each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import imagecodecs
import numpy as np
import numpy.typing as npt
from pysz import sz, szAlgorithm, szConfig, szErrorBoundMode

from cube_layouts import Layout
from peers import QuantJpegXL, Zfp

__all__ = ["CODECS", "CubeCodec", "SperrCube", "Sz3Cube"]

Array = npt.NDArray[Any]

SPERR_AXIS = 9
"""Planes from which on SPERR transforms along the third axis (0.8.4, measured)."""


class CubeCodec(Protocol):
    """A codec of float32 arrays under one absolute bound.

    Attributes
    ----------
    name : str
    family : str
        Settings of one codec have the same; the best of a family is reported.
    version : str
        Of the package.
    """

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def version(self) -> str: ...

    def takes(self, layout: Layout, shape: tuple[int, ...]) -> bool:
        """Whether it can be given arrays of ``shape`` as a layout cuts them, and it is worth trying."""
        ...

    def encode(self, values: Array, bound: float) -> bytes:
        """Bytes of ``values``."""
        ...

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Array:
        """The float32 array of ``shape``."""
        ...


@dataclass(frozen=True, slots=True)
class Sz3Cube:
    """SZ3 with one of its predictors; the default tries two on a sample and takes one."""

    predictor: str = "INTERP_LORENZO"
    family: str = "sz3"
    version: str = f"pysz {version('pysz')}"

    @property
    def name(self) -> str:
        return "sz3" if self.predictor == "INTERP_LORENZO" else f"sz3 {self.predictor.lower()}"

    def takes(self, layout: Layout, shape: tuple[int, ...]) -> bool:  # noqa: ARG002 - any
        return True

    def encode(self, values: Array, bound: float) -> bytes:
        config = szConfig()
        config.errorBoundMode = szErrorBoundMode.ABS
        config.absErrorBound = bound
        config.cmprAlgo = getattr(szAlgorithm, self.predictor)
        return bytes(sz.compress(np.ascontiguousarray(values), config)[0].tobytes())

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Array:
        return sz.decompress(np.frombuffer(data, np.uint8), np.float32, shape)[0].reshape(shape)


@dataclass(frozen=True, slots=True)
class SperrCube:
    """SPERR; ``padded`` repeats the last plane of an axis that is shorter than 9. By point error, or by mean square error.

    Mean square errors are asked for as a peak signal to noise ratio; ``bound`` is then the root mean square error.
    """

    padded: bool = False
    mean_square: bool = False
    family: str = "sperr"
    version: str = f"imagecodecs {version('imagecodecs')}"

    @property
    def name(self) -> str:
        return "sperr" + " padded" * self.padded + " psnr" * self.mean_square

    def takes(self, layout: Layout, shape: tuple[int, ...]) -> bool:  # noqa: ARG002 - of any layout
        return len(shape) == 3 and shape[0] < SPERR_AXIS if self.padded else len(shape) <= 3

    def encode(self, values: Array, bound: float) -> bytes:
        if self.padded and len(values) < SPERR_AXIS:
            values = np.pad(values, ((0, SPERR_AXIS - len(values)), (0, 0), (0, 0)), mode="edge")
        if not self.mean_square:
            return bytes(imagecodecs.sperr_encode(np.ascontiguousarray(values), bound, mode="pwe", numthreads=1))
        extent = float(values.max()) - float(values.min())
        level = 20 * math.log10(extent / bound) if extent > bound else 0.01
        return bytes(imagecodecs.sperr_encode(np.ascontiguousarray(values), level, mode="psnr", numthreads=1))

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Array:
        return (
            np.asarray(imagecodecs.sperr_decode(data, numthreads=1))
            .reshape(-1, *shape[-2:])[: math.prod(shape[:-2])]
            .reshape(shape)
        )


@dataclass(frozen=True, slots=True)
class OfPeer:
    """One of the first table's peers, in the few layouts that it is worth trying in."""

    peer: Zfp | QuantJpegXL
    version: str
    layouts: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.peer.name

    @property
    def family(self) -> str:
        return self.peer.name

    def takes(self, layout: Layout, shape: tuple[int, ...]) -> bool:  # noqa: ARG002 - of any shape
        return layout.name in self.layouts

    def encode(self, values: Array, bound: float) -> bytes:
        return self.peer.encode(values, np.ones(values.shape, bool), bound)

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Array:
        return self.peer.decode(data, shape, np.dtype(np.float32))[0]


@dataclass(frozen=True, slots=True)
class JpegXLMosaic:
    """Levels of the bound as lossless JPEG-XL at effort 9, the planes of a stack one below the other in one image.

    3 to 8 % smaller than an image for each plane: what the image learns of one plane serves the others. Planes as channels of an
    image are much larger.
    """

    name: str = "quant+jpegxl mosaic"
    family: str = "quant+jpegxl"
    version: str = f"imagecodecs {version('imagecodecs')}"

    def takes(self, layout: Layout, shape: tuple[int, ...]) -> bool:  # noqa: ARG002 - of any shape
        return layout.name in ("levels", "times")

    def encode(self, values: Array, bound: float) -> bytes:
        image = values.reshape(-1, values.shape[-1])
        return QuantJpegXL(effort=9).encode(image, np.ones(image.shape, bool), bound)

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Array:
        image = (math.prod(shape[:-1]), shape[-1])
        return QuantJpegXL(effort=9).decode(data, image, np.dtype(np.float32))[0].reshape(shape)


CODECS: tuple[CubeCodec, ...] = (
    Sz3Cube(),
    Sz3Cube("INTERP"),
    Sz3Cube("LORENZO_REG"),
    SperrCube(),
    SperrCube(padded=True),
    OfPeer(QuantJpegXL(), f"imagecodecs {version('imagecodecs')}", ("planes",)),
    JpegXLMosaic(),
    OfPeer(Zfp(), f"zfpy {version('zfpy')}", ("planes", "levels", "times")),
)
