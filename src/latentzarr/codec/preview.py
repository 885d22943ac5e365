"""Decode every ``2**level``-th row and column of a chunk from the front of its bytes.

A frame's sections go from coarse to fine, so a preview at a quarter of the resolution needs the first two of four, usually
a few per cent of the bytes. What is not coded by the hierarchy (constant, exact) is decoded whole and thinned out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import HierarchyHeader, parse_frame, section_checks_out
from latentzarr.codec.chunk import decode_chunk
from latentzarr.codec.payload import decode_hierarchy
from latentzarr.errors import CorruptFrameError, InvalidConfigError
from latentzarr.geometry import default_geometry
from latentzarr.models.weights import Model
from latentzarr.repetition import NO_REPETITION

__all__ = ["LEVELS", "decode_prefix", "preview_axes", "prefix_size"]

LEVELS = 3  # previews at 1/2, 1/4 and 1/8 of the resolution


def preview_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of a chunk that its previews thin out: the last two that are longer than 1.

    Empty where the chunk is read as ``leading x trailing`` (see `latentzarr.geometry.default_geometry`): the coarse places
    are then no rows and columns of the chunk.
    """
    longer = [axis for axis, n in enumerate(shape) if n != 1]
    geometry = default_geometry(shape)
    sizes = [shape[axis] for axis in longer[-2:]]
    plain = [geometry.rows, geometry.columns] == [1] * (2 - len(sizes)) + sizes
    return tuple(longer[-2:]) if plain else ()


def prefix_size(head: bytes, level: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int | None:
    """How many bytes of a frame `decode_prefix` needs.

    Parameters
    ----------
    head : bytes
        The front of a frame, a few kilobytes.
    level : int
        0 to 3.
    shape, dtype
        What the array spec says the chunk is.

    Returns
    -------
    int or None
        None: all of it. `FormatError` other than the two below may only mean that ``head`` is too short.

    Raises
    ------
    FormatError
        `NewerVersionError` and `FrameMismatchError` at once; any other where the header cannot be read (to its end).
    """
    _, hierarchy, start = parse_frame(head, shape, dtype, verify=False)
    if hierarchy is None or not _has_prefix(hierarchy, level, shape):
        return None
    return _end(hierarchy, start, level)


def decode_prefix(
    data: bytes, level: int, shape: tuple[int, ...], dtype: np.dtype[Any], model: Model | None = None
) -> npt.NDArray[Any]:
    """Decode a preview of a chunk.

    Parameters
    ----------
    data : bytes
        As many bytes as `prefix_size` said, or the whole frame.
    level : int
        Every ``2**level``-th row and column, 0 to 3.
    shape, dtype
        What the array spec says the chunk is.
    model : Model, optional
        Tried first; any other is looked for by digest.

    Returns
    -------
    array of ``dtype``
        The chunk with its `preview_axes` thinned out: ``values[..., ::2**level, ::2**level]``, bit for bit what the whole
        chunk decodes to at these places.

    Raises
    ------
    FormatError, ModelError
    InvalidConfigError
        For a level that does not exist.
    """
    if not 0 <= level <= LEVELS:
        raise InvalidConfigError(f"a preview has a level from 0 to {LEVELS}, got {level}")
    header, hierarchy, start = parse_frame(data, shape, dtype, verify=False)
    if hierarchy is None or not _has_prefix(hierarchy, level, shape):
        return _thinned(decode_chunk(data, shape, dtype, model), level, preview_axes(shape))
    count = _sections(level)
    if len(data) < _end(hierarchy, start, level) or not section_checks_out(data, start, hierarchy, count):
        raise CorruptFrameError(f"checksum mismatch in the first {count} sections of a frame; it was damaged or cut short")
    flat = decode_hierarchy(data[: _end(hierarchy, start, level)], header, hierarchy, start, model, level=level)
    axes = preview_axes(shape)
    thin = tuple(-(-n >> level) if axis in axes else n for axis, n in enumerate(shape))
    return flat.reshape(thin).astype(dtype, copy=False)


def _sections(level: int) -> int:
    return LEVELS + 1 - level


def _end(hierarchy: HierarchyHeader, start: int, level: int) -> int:
    return start + 4 * hierarchy.lanes + 2 * sum(s.words for s in hierarchy.sections[: _sections(level)])


def _has_prefix(hierarchy: HierarchyHeader, level: int, shape: tuple[int, ...]) -> bool:
    return (
        level > 0
        and len(hierarchy.sections) > 1
        and hierarchy.repetition == NO_REPETITION
        and hierarchy.geometry == default_geometry(shape)
        and bool(preview_axes(shape))
    )


def _thinned(values: npt.NDArray[Any], level: int, axes: tuple[int, ...]) -> npt.NDArray[Any]:
    step = slice(None, None, 1 << level)
    return values[tuple(step if axis in axes else slice(None) for axis in range(values.ndim))]
