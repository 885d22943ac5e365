"""A frame from its first byte to its array: payloads (section 3), the walk over its values and their quanta (5 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import CorruptFrameError, FrameMismatchError, TruncatedFrameError
from latentzarr.reference.bits import Cursor, Words, crc32c, fixed_tables
from latentzarr.reference.header import CONSTANT, INDEPENDENT, NEURAL, PCODEC, RASTER, RAW, Header, Tables, run_of, stored_as
from latentzarr.reference.network import ReferenceModel, cubic, neural
from latentzarr.reference.order import Site, activity, reference_of, sites, visits
from latentzarr.reference.raster import read_raster
from latentzarr.reference.values import to_values

__all__ = ["decode_frame", "sections_hold"]

Ints = npt.NDArray[np.int64]
_LIMIT = 2**29


def decode_frame(
    data: bytes, model: bytes | None = None, shape: tuple[int, ...] | None = None, dtype: npt.DTypeLike | None = None
) -> npt.NDArray[Any]:
    """Decode a frame.

    Parameters
    ----------
    data : bytes
        A whole frame.
    model : bytes, optional
        The model file, which neural frames need.
    shape, dtype : optional
        What the array's metadata says; compared with the frame.

    Returns
    -------
    array
        Of ``dtype``, or as the frame says.

    Raises
    ------
    FormatError
        For bytes that are not a frame of this array, or a model that is not the frame's.
    UntrustedModelError
        For bytes that are not a model.
    """
    data = bytes(data)
    head = Header.read(data)
    other_dtype = dtype is not None and np.dtype(dtype).newbyteorder("=") != head.dtype
    if other_dtype or (shape is not None and tuple(shape) != head.shape):
        raise FrameMismatchError(f"the frame holds {head.dtype} {head.shape}, the array has {dtype} {shape}")
    if shape is None and head.count * head.dtype.itemsize > 2**31:
        raise CorruptFrameError(f"the frame claims {head.count} values")
    cursor = Cursor(data, head.end)
    if head.mode in (RAW, CONSTANT):
        values = _plain(cursor, head)
    elif head.mode == PCODEC:
        values = _pcodec(cursor.take(cursor.left), head)
    else:
        values = _hierarchy(head, cursor, model)
    if head.dtype == np.bool_ and (values > 1).any():
        raise CorruptFrameError("a boolean is neither 0 nor 1")
    asked = head.dtype.newbyteorder(">" if head.big_endian else "=") if dtype is None else np.dtype(dtype)
    return np.array(values.astype(asked).reshape(head.shape), order="F" if head.fortran else "C")


def sections_hold(data: bytes) -> bool:
    """Whether the checks of all sections of a hierarchy frame are those of its bytes (section 4)."""
    head = Header.read(data)
    t, _ = Tables.read(head, Cursor(data, head.end))
    blank, places = bytearray(data), [place for place, _ in t.sections if place]
    for place in places:
        blank[place : place + 2] = b"\0\0"
    checksum = 22 if head.version == 1 else 5
    crc, at, left = crc32c(bytes(blank[:checksum])), checksum + 4, sum(count for _, count in t.sections)
    for place, count in t.sections:
        left -= count
        crc, at = crc32c(bytes(blank[at : len(data) - 2 * left]), crc), len(data) - 2 * left
        if place and crc & 0xFFFF != int.from_bytes(data[place : place + 2], "little"):
            return False
    return True


# ------------------------------------------------------------------------------- 3. payloads that are not a hierarchy
def _plain(cursor: Cursor, head: Header) -> npt.NDArray[Any]:
    count = min(head.count, 1) if head.mode == CONSTANT else head.count
    stored = stored_as(head.dtype)
    if cursor.left != count * stored.itemsize:
        raise TruncatedFrameError(f"{count} values in {cursor.left} bytes")
    return np.broadcast_to(np.frombuffer(cursor.take(cursor.left), stored), head.count)


def _pcodec(payload: bytes, head: Header) -> npt.NDArray[Any]:
    import pcodec

    values = np.zeros(head.count, stored_as(head.dtype).newbyteorder("="))
    if not head.count:
        raise CorruptFrameError("pcodec without values")
    try:
        progress = pcodec.standalone.simple_decompress_into(payload, values)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CorruptFrameError(f"pcodec: {error}") from error
    if not progress.finished or progress.n_processed != head.count:
        raise CorruptFrameError("pcodec: another number of values")
    return values


# ------------------------------------------------------------------------------- 5. order of values, 7. decoded values
def _hierarchy(head: Header, cursor: Cursor, model: bytes | None) -> npt.NDArray[Any]:
    t, words = Tables.read(head, cursor)
    missing = np.zeros(t.coded, bool)
    for kind, plane in t.planes.items():
        if kind != 5:
            missing |= plane
    if head.mode == RASTER:
        n = 16 * read_raster(cursor.take(cursor.left), missing, t.ranks)
    else:
        n = _walk(head, t, words, missing, model)
    values = to_values(n, stored_as(head.dtype), t)
    _, rows, columns = t.chunk
    return values[:, run_of(rows, *t.runs[:2])][:, :, run_of(columns, *t.runs[2:])]


def _walk(head: Header, t: Tables, words: Words, missing: npt.NDArray[np.bool_], model: bytes | None) -> Ints:
    n, a = np.zeros(t.coded, np.int64), np.zeros(t.coded, np.int64)
    starts = fixed_tables()
    _root(t, words, starts, n, missing)
    predict: Callable[..., tuple[Ints, Ints]] = cubic
    if head.mode in (NEURAL, INDEPENDENT):
        if model is None or (found := ReferenceModel(model)).digest[: len(head.digest)] != head.digest:
            raise FrameMismatchError(f"the frame needs the model {head.digest.hex()}..")
        if found.order != head.order:
            raise CorruptFrameError(f"a frame of version {head.version} with a model of order {found.order}")
        predict, starts = partial(neural, found, head.mode == NEURAL), found.starts
    for site in sites(t.coded, head.order, t.dyadic, t.snap):
        here = (site.number, *site.here)
        centre, classes = predict(site, n, a, missing)
        coded = ~missing[here].ravel()
        q = np.zeros(coded.size, np.int64)
        q[coded] = words.segment(starts, _table(head, t, site, classes)[coded])
        value = np.clip(centre + site.grade * q, -_LIMIT, _LIMIT)
        if t.snap:
            value = ((value + 8) >> 4) << 4
        shape = n[here].shape
        n[here] = np.where(coded, value, centre).reshape(shape)
        a[here] = activity(q, site.grade).reshape(shape)
    words.finish()
    return n


def _table(head: Header, t: Tables, site: Site, classes: Ints) -> Ints:
    """Section 9: the table of each value of a pass."""
    level, kinds = min(site.level, 2), head.order + 1
    if head.mode in (NEURAL, INDEPENDENT):
        group = (3 if t.snap else level) * kinds + site.kind
        return 64 * group + np.clip(classes + t.adaptation[kinds * level + site.kind] - 128, 0, 63)
    return np.minimum(np.array(t.adaptation)[16 * level + classes], 63)


def _root(t: Tables, words: Words, starts: Ints, n: Ints, missing: npt.NDArray[np.bool_]) -> None:
    k = 0
    for i, looks_at in visits(len(n), t.dyadic):
        gone = missing[i, ::64, ::64]
        root = n[i, ::64, ::64]  # a view
        known = reference_of(n[:, ::64, ::64], looks_at) if looks_at else root
        q = iter(words.segment(starts, np.full(int((~gone).sum()), t.root_class)).tolist())
        for r in range(root.shape[0]):
            for c in range(root.shape[1]):
                prediction = int(known[r, c] + 8) >> 4 if looks_at else k
                if gone[r, c]:
                    root[r, c] = 16 * prediction
                else:
                    k = min(max(prediction + next(q), -(2**25)), 2**25)
                    root[r, c] = 16 * k
