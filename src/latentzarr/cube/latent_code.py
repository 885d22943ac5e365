"""Planes of latents to bytes and back, without loss: fewer bytes than any general code of integers gives on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentzarr.cube.latent_walk import walk_latents
from latentzarr.errors import CorruptFrameError, InvalidConfigError, TruncatedFrameError

__all__ = ["decode_latents", "encode_latents"]

_TOP = 2**26
_MARGIN = 64


def encode_latents(latents: npt.NDArray[np.integer]) -> bytes:
    """Code latents of shape (times, planes, y, x), magnitudes below 2**26; planes best in falling order of variance.

    Raises
    ------
    InvalidConfigError
        For another number of dimensions, or a larger magnitude.
    """
    if latents.ndim != 4 or latents.dtype.kind not in "iu":
        raise InvalidConfigError(f"latents are integers of shape (times, planes, y, x), got {latents.dtype}{latents.shape}")
    if latents.size and (int(latents.max()) >= _TOP or int(latents.min()) <= -_TOP):
        raise InvalidConfigError(f"latents stay below {_TOP} in magnitude")
    values = np.array(latents, np.int32, order="C")
    room = np.empty(5 * values.size + _MARGIN, np.uint8)
    used = walk_latents(values, room, False)
    assert used >= 0
    return room[:used].tobytes()


def decode_latents(data: bytes, shape: tuple[int, int, int, int]) -> npt.NDArray[np.int32]:
    """Latents from what `encode_latents` wrote, int32 of ``shape``.

    Raises
    ------
    TruncatedFrameError
        If the bytes end too early.
    CorruptFrameError
        If they do not end where the values do.
    """
    values = np.zeros(shape, np.int32)
    used = walk_latents(values, np.frombuffer(data, np.uint8).copy(), True)
    if used < 0:
        raise TruncatedFrameError("the code of the latents ends too early")
    if used != len(data):
        raise CorruptFrameError("the code of the latents does not end where the values do")
    return values
