"""One field of a cube, coded beside a reference field that sums up what is known already; the bound holds whatever that says.

    values -> lattice of the bound -> coarse-to-fine walk that looks at the reference -> bytes -> decoded again and checked

Where that is not possible (repeated rows, exact floats, a bound without a linear lattice) or not shorter, the field is a frame of
its own. `docs/reference/cube.md`, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.cursor import Cursor, Writer
from latentzarr.bitstream.frame import FrameHeader, HierarchyHeader, Mode, Section
from latentzarr.bitstream.hierarchy_header import write_hierarchy
from latentzarr.bitstream.hierarchy_reading import read_hierarchy
from latentzarr.bitstream.planes import encode_planes
from latentzarr.bounds import BoundKind, ErrorBound, violations
from latentzarr.codec.chunk import decode_chunk, encode_chunk, encode_with
from latentzarr.codec.config import CodecConfig
from latentzarr.codec.payload import lattice_of, read_mask
from latentzarr.codec.prepare import LatticeChunk, prepare
from latentzarr.cube.synthesis import LIMIT
from latentzarr.cube.walk import Guide, decode_guided, encode_guided
from latentzarr.errors import CorruptFrameError, FormatError, FrameMismatchError, GuaranteeBrokenError
from latentzarr.mask import restore
from latentzarr.models.weights import Model
from latentzarr.repetition import NO_REPETITION
from latentzarr.scaling import FRACTION, LinearLattice

__all__ = ["OVERHEAD", "DecodedField", "FieldSpec", "decode_field", "encode_field", "nominal"]

OVERHEAD = 64
"""A coded field is never longer than its values and so many bytes."""
_SHORT = 2  # a guided field is not compared with a frame of its own unless asked for, or above raw / this
_ALONE, _GUIDED, _MASKED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """What is the same for all fields of a channel.

    Attributes
    ----------
    shape : (rows, columns)
    dtype : numpy dtype, native byte order
    bound : ErrorBound
        Not range-relative.
    origin, step : float
        Nominal lattice: what others see of this channel.
    mask : bytes
        Mask section (`docs/reference/format.md`, section 8) shared by fields with the same missing values; empty: none.
    fill_value : scalar or None
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    bound: ErrorBound
    origin: float
    step: float
    mask: bytes = b""
    fill_value: Any = None

    def header(self, model: Model) -> FrameHeader:
        """The header that a frame of its own would have."""
        return FrameHeader(Mode.NEURAL, self.dtype, False, self.bound, model.prefix[:4], self.shape, version=2)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedField:
    """What a reader has of a field.

    Attributes
    ----------
    values : array of the field's dtype, shape (rows, columns)
    nominal : int32 array, same shape
        On the channel's nominal lattice, sixteenths of a quantum, magnitudes up to 2**25; a stand-in where values are missing.
    activity : uint8 array, same shape
        How large each quantum was.
    """

    values: npt.NDArray[Any]
    nominal: npt.NDArray[np.int32]
    activity: npt.NDArray[np.uint8]


def encode_field(
    values: npt.NDArray[Any],
    spec: FieldSpec,
    guide: Guide | None,
    model: Model,
    alone: CodecConfig | None = None,
) -> tuple[bytes, DecodedField]:
    """Code a field; what is returned has been decoded and checked.

    Parameters
    ----------
    values : array, shape and dtype as ``spec`` says
    spec : FieldSpec
    guide : Guide or None
        What the walk looks at.
    model : Model
    alone : CodecConfig, optional
        Try a frame of its own as well, coded so; without it only where there is no other way.

    Returns
    -------
    bytes, DecodedField
    """
    frames: list[bytes] = []
    prepared = prepare(values.reshape(-1), spec.bound, spec.shape, spec.fill_value)
    if prepared is not None and _can_be_guided(prepared, spec):
        frame = _pack_guided(prepared, spec, guide, model)
        frames += [frame] if frame is not None else []
    if alone is not None or not frames or len(frames[0]) > values.nbytes // _SHORT:
        config = alone or CodecConfig(bound=spec.bound, model=model)
        frames.append(bytes([_ALONE]) + encode_chunk(values, config, spec.fill_value))
    for frame in sorted(frames, key=len):
        decoded = _decoded_or_none(frame, spec, guide, model) if len(frame) <= values.nbytes + OVERHEAD else None
        if decoded is not None and not violations(values, decoded.values, spec.bound).any():
            return frame, decoded
    frame = bytes([_ALONE]) + encode_with(values, CodecConfig(bound=ErrorBound.lossless(), model=model), [], spec.fill_value)
    decoded = _decoded_or_none(frame, spec, guide, model)
    if decoded is None or violations(values, decoded.values, spec.bound).any():
        raise GuaranteeBrokenError(f"no way of coding held {spec.bound} for a field of {spec.dtype}{spec.shape}; please report")
    return frame, decoded


def _decoded_or_none(frame: bytes, spec: FieldSpec, guide: Guide | None, model: Model) -> DecodedField | None:
    try:
        return decode_field(frame, spec, guide, model)
    except FormatError:
        return None


def _can_be_guided(prepared: LatticeChunk, spec: FieldSpec) -> bool:
    return (
        isinstance(prepared.lattice, LinearLattice)
        and prepared.repetition == NO_REPETITION
        and prepared.geometry.shape == (1, *spec.shape)
        and spec.bound.kind is not BoundKind.NONE
    )


def _pack_guided(chunk: LatticeChunk, spec: FieldSpec, guide: Guide | None, model: Model) -> bytes | None:
    """The bytes of a guided walk; None where it leaves the format's range."""
    assert isinstance(chunk.lattice, LinearLattice)
    seen = None if guide is None else guide.on(chunk.lattice, spec.origin, spec.step)
    candidate = encode_guided(chunk, seen, model)
    if candidate is None:
        return None
    payload, _, lanes = candidate.pack()
    special, mask = chunk.special, b""
    if special.planes:
        mask = bytes([special.planes]) + special.fill + encode_planes(special.bits.reshape(-1, *chunk.coded.shape))
    shared = bool(mask) and mask == spec.mask
    words = (len(payload) - 4 * lanes) // 2
    header = HierarchyHeader(
        geometry=chunk.geometry,
        offset=chunk.lattice.offset,
        root_class=candidate.root_class,
        lanes=lanes,
        sections=(Section(words),),
        lattice=chunk.described,
        snap=chunk.snap,
        adaptation=candidate.adaptation,
        mask=b"" if shared else mask,
    )
    out = Writer()
    out.parts.append(_MASKED if shared else _GUIDED)
    write_hierarchy(out, spec.header(model), header)
    return bytes(out.parts) + payload


def decode_field(data: bytes, spec: FieldSpec, guide: Guide | None, model: Model) -> DecodedField:
    """Decode a field.

    Parameters
    ----------
    data : bytes
        As `encode_field` made them.
    spec : FieldSpec
    guide : Guide or None
        The same that the encoder had.
    model : Model

    Raises
    ------
    FormatError, ModelError
    """
    if not data:
        raise CorruptFrameError("an empty field")
    if data[0] == _ALONE:
        values = decode_chunk(data[1:], spec.shape, spec.dtype, model)
        return DecodedField(values, nominal(values, spec.origin, spec.step), np.zeros(spec.shape, np.uint8))
    if data[0] not in (_GUIDED, _MASKED):
        raise CorruptFrameError(f"unknown kind of field {data[0]}")
    header = spec.header(model)
    cursor = Cursor(data, 1)
    found = read_hierarchy(cursor, header, whole=True)
    if found.coded.shape != (1, *spec.shape) or found.repetition != NO_REPETITION or found.dyadic:
        raise FrameMismatchError(f"a guided field of geometry {found.coded.shape}, expected {(1, *spec.shape)}")
    if data[0] == _MASKED:
        if found.mask or not spec.mask:
            raise CorruptFrameError("a field that shares a mask there is not")
        found = replace(found, mask=spec.mask)
    lattice = lattice_of(header, found)
    if not isinstance(lattice, LinearLattice):
        raise CorruptFrameError("a guided field needs a linear lattice")
    special = read_mask(header, found)
    seen = None if guide is None else guide.on(lattice, spec.origin, spec.step)
    n, activity = decode_guided(data[cursor.at :], special, found, seen, model)
    values = restore(lattice.values(n, spec.dtype if spec.dtype != np.bool_ else np.dtype(np.uint8)), special)
    if spec.dtype == np.bool_:
        if (values > 1).any():
            raise CorruptFrameError("a boolean is neither 0 nor 1")
        values = values.view(np.bool_)
    return DecodedField(values.reshape(spec.shape), _moved(n, lattice, spec).reshape(spec.shape), activity.reshape(spec.shape))


def _moved(n: npt.NDArray[np.int32], lattice: LinearLattice, spec: FieldSpec) -> npt.NDArray[np.int32]:
    """From a field's own lattice to the channel's nominal one: one product, one sum, one rounding, the same everywhere."""
    with np.errstate(invalid="ignore", over="ignore"):
        step, offset = np.float64(lattice.step), np.float64(FRACTION * lattice.offset)
        ratio = step / spec.step
        shift = ((np.float64(lattice.origin) - spec.origin) / spec.step) * FRACTION + offset * ratio
        moved = np.floor(n.astype(np.float64) * ratio + shift + 0.5)
    return np.clip(np.nan_to_num(moved, nan=0.0), -LIMIT, LIMIT).astype(np.int32)


def nominal(values: npt.NDArray[Any], origin: float, step: float) -> npt.NDArray[np.int32]:
    """Values on a channel's nominal lattice; 0 where they are missing or far out of its reach."""
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.floor((values.astype(np.float64) - origin) / step * FRACTION + 0.5)
    known = np.isfinite(moved)
    return np.where(known, np.clip(np.where(known, moved, 0.0), -LIMIT, LIMIT), 0.0).astype(np.int32)
