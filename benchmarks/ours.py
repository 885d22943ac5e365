"""latentzarr behind the calls of the table: real frames through the codec's one door, as zarr would store them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import latentzarr
from latentzarr.bitstream.frame import read_header
from latentzarr.bounds import ErrorBound
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.models.store import shipped_model
from latentzarr.models.weights import Model

__all__ = ["EFFORTS", "Ours", "fingerprint", "training_data"]

Array = npt.NDArray[Any]

EFFORTS: dict[str, dict[str, Any]] = {str(effort): {"effort": effort} for effort in Effort}
"""What is measured as which effort: keywords for `CodecConfig` beside the bound and the model shipped for it."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The codec with its default model.

    Attributes
    ----------
    code : float, optional
        The array's fill value, as zarr would hand it to the codec.
    effort : str
        One of `EFFORTS`.
    model : Model, optional
        The one shipped for the effort unless given.
    """

    code: float | None = None
    effort: str = "normal"
    model: Model | None = None
    name: str = "latentzarr"
    bounded: bool = True

    def encode(self, values: Array, bound: float) -> bytes:
        """One frame. Integers have an integer bound; below 1 they are exact."""
        limit = float(np.floor(bound)) if values.dtype.kind in "iu" else bound
        absolute = ErrorBound.absolute(limit) if limit > 0 else ErrorBound.lossless()
        config = CodecConfig(absolute, self.model or shipped_model(self.effort), **EFFORTS[self.effort])
        frame: bytes = encode_chunk(values, config, fill_value=self.code)
        return frame

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The array of a frame."""
        decoded: Array = decode_chunk(data, shape=shape, dtype=dtype, model=self.model)
        return decoded

    def mode(self, data: bytes) -> str:
        """Which candidate the frame holds."""
        mode = read_header(data).mode
        return str(getattr(mode, "name", mode)).lower()


def training_data() -> tuple[str, ...]:
    """What the cards of the shipped models say they were trained on; empty where any says nothing."""
    listed = [shipped_model(effort).card.training_data for effort in EFFORTS]
    return tuple(dict.fromkeys(str(entry) for entries in listed for entry in entries)) if all(listed) else ()


@cache
def fingerprint(*more: str) -> str:
    """12 digits that change with the package's code and its model, and with folders ``more``: stale results are not reused."""
    root = Path(latentzarr.__file__).parent
    digest = hashlib.sha256()
    for folder in ("bitstream", "codec", "models", ".", *more):
        pattern = "**/*" if folder != "." else "*.py"
        for path in sorted((root / folder).glob(pattern)):
            if path.suffix in (".py", ".safetensors", ".json"):
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
