"""Values that never occur in a slice need no code: a slice's values as their ranks among those that do occur.

Sensor counts that were scaled after they were counted leave gaps, a tenth of the bytes in some satellite bands.
`docs/reference/format.md`, section 13.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.cursor import Cursor, Writer
from latentzarr.bitstream.planes import decode_planes, encode_planes
from latentzarr.errors import CorruptFrameError

__all__ = ["from_ranks", "to_ranks"]

_WIDEST = 2**16
_LOWEST = 2**25
_WORTH = 2  # bits a rank must save for each bit of the plane
_TAILS = (0.01, 0.99)  # gaps among rare values prove nothing

Ints = npt.NDArray[np.int32]


def to_ranks(k: Ints, missing: npt.NDArray[np.uint8] | None) -> tuple[Ints, bytes]:
    """Ranks of whole quanta, and what a frame must say of them.

    Parameters
    ----------
    k : int32 array, shape (slices, rows, columns)
    missing : uint8 array, same shape, optional

    Returns
    -------
    ranks : int32 array, same shape
        In slices where ranks pay; in the others the distance from the smallest of ``k``.
    described : bytes
        Empty where ranks pay in no slice; ``ranks`` is ``k`` then.
    """
    low = int(k.min())
    width = int(k.max()) - low + 1
    if width > _WIDEST or width * len(k) > k.size:
        return k, b""
    plane = np.ones((1, len(k), 1, width), np.uint8)
    ranks = k - np.int32(low)
    for t in range(len(k)):
        used = _used(ranks[t], None if missing is None else missing[t] == 0, width)
        if used is not None:
            plane[0, t, 0] = used
            ranks[t] = (np.cumsum(used, dtype=np.int32) - 1)[ranks[t]]
    if plane.all():
        return k, b""
    out = Writer()
    out.signed(low)
    out.varint(width)
    return ranks, bytes(out.parts) + encode_planes(plane)


def _used(offsets: Ints, present: npt.NDArray[np.bool_] | None, width: int) -> npt.NDArray[np.bool_] | None:
    """Which values occur in a slice, or None where saying so costs more than it saves."""
    changes = offsets[1:, 1:] != offsets[1:, :-1]
    changes &= offsets[1:, 1:] != offsets[:-1, 1:]
    if present is not None:
        changes &= present[1:, 1:]
    counts = np.bincount(offsets.ravel() if present is None else offsets[present], minlength=width)
    if not counts.any():
        return None
    first, last = np.searchsorted(np.cumsum(counts), [share * counts.sum() for share in _TAILS])
    density = np.count_nonzero(counts[first : last + 1]) / (last - first + 1)
    occurring = np.flatnonzero(counts)
    if -np.log2(density) * np.count_nonzero(changes) <= _WORTH * (occurring[-1] - occurring[0] + 1):
        return None
    return counts > 0


def from_ranks(ranks: Ints, missing: npt.NDArray[np.uint8] | None, described: bytes) -> Ints:
    """Whole quanta of the ranks that a frame coded; 0 where missing.

    Raises
    ------
    CorruptFrameError
        If the description is damaged, or a rank is none of a value that occurs.
    """
    cursor = Cursor(described)
    low, width = cursor.signed("smallest value", _LOWEST), cursor.varint("range of values", _WIDEST)
    if width == 0 or width * len(ranks) > ranks.size:
        raise CorruptFrameError(f"ranks among {width} values in slices of shape {ranks.shape[1:]}")
    plane = decode_planes(described[cursor.at :], (1, len(ranks), 1, width))[0, :, 0]
    k = np.zeros_like(ranks)
    for t in range(len(ranks)):
        present = np.ones(ranks.shape[1:], bool) if missing is None else missing[t] == 0
        values, inside = np.flatnonzero(plane[t]), ranks[t][present]
        if inside.size and (inside.min() < 0 or inside.max() >= len(values)):
            raise CorruptFrameError(f"a rank in slice {t} is not below {len(values)}")
        k[t][present] = low + values[inside]
    return k
