"""The lossless candidate: pcodec's standalone format around a chunk's values, one after the other in C order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pcodec import ChunkConfig, standalone

from latentzarr.errors import CorruptFrameError

__all__ = ["compress", "decompress_into"]


def compress(values: npt.NDArray[Any]) -> bytes:
    """Code native-endian values of shape (n,), n >= 1, bit by bit exactly; NaN payloads and signs of zeros included."""
    return bytes(standalone.simple_compress(_codable(values), ChunkConfig(compression_level=8, enable_8_bit=True)))


def decompress_into(data: bytes, values: npt.NDArray[Any]) -> None:
    """Decode into ``values`` (native-endian, shape (n,)), which fixes how much memory is used.

    Raises
    ------
    CorruptFrameError
        If the bytes are not pcodec's, or hold another number of values.
    """
    try:
        progress = standalone.simple_decompress_into(data, _codable(values))
    except (RuntimeError, ValueError, TypeError) as error:
        raise CorruptFrameError(f"the lossless payload cannot be decoded: {error}") from error
    if progress.n_processed != len(values) or not progress.finished:
        raise CorruptFrameError(f"the lossless payload holds {progress.n_processed} values, not the {len(values)} of the chunk")


def _codable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """There are no booleans in pcodec; a view shares the memory."""
    return values.view(np.uint8) if values.dtype == np.bool_ else values
