"""The whole codec on one page: a chunk of values in, a frame out, and back.

    split off special values -> lattice of the bound -> coarse-to-fine or raster walk -> entropy code -> decode and check

Candidates are tried from the smallest up; the first whose own bytes decode within the bound is kept. The last one stores
every bit, so there always is one. This file knows a `Predictor`, not torch, zarr or xarray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream import lossless
from latentzarr.bitstream.frame import FrameHeader, Mode, dtype_code, pack_frame, parse_frame, stored_bound
from latentzarr.bounds import BoundKind, ErrorBound, violations
from latentzarr.codec.candidates import aimed, walks, with_raster, worth_trying
from latentzarr.codec.config import CodecConfig
from latentzarr.codec.payload import as_booleans, decode_hierarchy, pack_hierarchy
from latentzarr.codec.predictor import CubicPredictor, Predictor, neural_predictor
from latentzarr.codec.prepare import prepare
from latentzarr.codec.raster import RasterCandidate
from latentzarr.codec.search import Candidate
from latentzarr.errors import CorruptFrameError, FormatError, GuaranteeBrokenError
from latentzarr.geometry import Order
from latentzarr.models.weights import Model

__all__ = ["decode_chunk", "encode_chunk", "decode_with", "encode_with"]

_NO_MODEL = bytes(8)
_PCODEC_TRIAL_SHARE = 6  # the lossless candidate is tried when the best so far is above raw / this


def encode_chunk(
    values: npt.NDArray[Any],
    config: CodecConfig,
    fill_value: Any = None,
    *,
    fortran: bool = False,
    big_endian: bool = False,
) -> bytes:
    """Code a chunk; what is returned has been decoded and checked.

    Parameters
    ----------
    values : array of any shape, layout and byte order
        Floats of 16 to 64 bits, integers of 8 to 64 bits, or bool.
    config : CodecConfig
    fill_value : scalar, optional
        The array's fill value; values equal to it come back exactly.
    fortran : bool
        Record that readers should get Fortran order (zarr format 2).
    big_endian : bool
        Record that readers who ask for no dtype should get big-endian values (zarr format 2).

    Raises
    ------
    UnsupportedDtypeError
    """
    neural: list[Predictor] = [neural_predictor(config.model, reference=r) for r in (True, False)]
    cubic = CubicPredictor(config.model.order)
    return encode_with(values, config, [*neural, cubic], fill_value, raster=True, fortran=fortran, big_endian=big_endian)


def encode_with(
    values: npt.NDArray[Any],
    config: CodecConfig,
    predictors: Sequence[Predictor],
    fill_value: Any = None,
    *,
    raster: bool = False,
    fortran: bool = False,
    big_endian: bool = False,
) -> bytes:
    """`encode_chunk` with other predictors; the bound holds whatever they predict. ``raster``: try that mode as well."""
    array = np.asarray(values)
    dtype_code(array.dtype)  # refuses what cannot be coded
    flat = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)).reshape(-1)
    order = predictors[0].order if predictors else config.model.order
    bound = _effective(config.bound, flat.dtype)
    if order is not Order.TWO_PASSES:
        bound = stored_bound(bound, flat.dtype)
    header = FrameHeader(Mode.RAW, flat.dtype, fortran, bound, _NO_MODEL, array.shape, big_endian, version=int(order))
    if flat.size == 0:
        return pack_frame(header, b"")
    for frame in _candidates(header, flat, bound, config, predictors, fill_value, raster=raster):
        if _holds(frame, flat, header, config.model, predictors):
            return frame
    raise GuaranteeBrokenError(
        f"no candidate held {bound} for a chunk of {flat.dtype}{array.shape}, not even the exact one; please report"
    )


def decode_with(data: bytes, predictors: Sequence[Predictor], model: Model | None = None) -> npt.NDArray[Any]:
    """`decode_chunk` of what `encode_with` wrote with the same predictors."""
    return _decode(bytes(data), None, None, model, predictors)


def _effective(bound: ErrorBound, dtype: np.dtype[Any]) -> ErrorBound:
    """Integers are exact unless an absolute error of one or more is allowed."""
    if dtype.kind == "f" or (dtype.kind in "iu" and bound.kind is BoundKind.ABSOLUTE and bound.value >= 1):
        return bound
    return ErrorBound.lossless()


def _holds(frame: bytes, flat: npt.NDArray[Any], header: FrameHeader, model: Model, predictors: Sequence[Predictor]) -> bool:
    """Decode a frame's own bytes and compare every value; without a bound, refuse what is far from the aim."""
    try:
        decoded = _decode(frame, header.shape, flat.dtype, model, predictors).reshape(-1)
    except FormatError:
        return False
    except GuaranteeBrokenError:  # a predictor that does not even keep its shapes
        return False
    if violations(flat, decoded, header.bound).any():
        return False
    return header.bound.kind is not BoundKind.NONE or _rmse(flat, decoded) <= 2 * header.bound.value


def _rmse(flat: npt.NDArray[Any], decoded: npt.NDArray[Any]) -> float:
    """Root mean square error over the finite values, of which there is at least one or the error is 0."""
    finite = np.isfinite(flat)
    with np.errstate(over="ignore"):
        error = flat[finite].astype(np.float64) - decoded[finite].astype(np.float64)
        return float(np.sqrt(np.sum(error * error) / max(error.size, 1)))


def _candidates(
    header: FrameHeader,
    flat: npt.NDArray[Any],
    bound: ErrorBound,
    config: CodecConfig,
    predictors: Sequence[Predictor],
    fill_value: Any,
    *,
    raster: bool,
) -> Iterator[bytes]:
    """Frames, the smallest first, ending with one that is exact."""
    model = config.model
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    first = flat[:1].tobytes()
    if flat[-1:].tobytes() == first and flat.tobytes() == first * flat.size:
        yield pack_frame(_as(header, Mode.CONSTANT), little[:1].tobytes())
    found: list[Candidate | RasterCandidate] = []
    prepared = prepare(flat, bound, header.shape, fill_value)
    if prepared is not None:
        ways = worth_trying(prepared, predictors, config.effort, model)
        prepared = aimed(prepared, flat, bound, model, ways)
        found += sorted(walks(prepared, ways, model), key=lambda c: c.estimated_bytes)
        if raster and header.version > 1 and bound.kind is not BoundKind.NONE:
            found = with_raster(prepared, found, config.effort)
    exact: bytes | None = None
    if not found or found[0].estimated_bytes > flat.nbytes / _PCODEC_TRIAL_SHARE:
        exact = _exact(header, flat, little)
    for candidate in found:
        if exact is not None and len(exact) <= candidate.estimated_bytes:
            break
        assert prepared is not None
        digest = model.prefix if candidate.mode.is_neural else _NO_MODEL
        yield pack_hierarchy(_as(header, candidate.mode, digest), prepared, candidate)
    yield exact if exact is not None else _exact(header, flat, little)
    yield pack_frame(header, little.tobytes())


def _as(header: FrameHeader, mode: Mode, digest: bytes = _NO_MODEL) -> FrameHeader:
    return replace(header, mode=mode, digest=digest)


def _exact(header: FrameHeader, flat: npt.NDArray[Any], little: npt.NDArray[Any]) -> bytes:
    packed = lossless.compress(flat)
    if len(packed) < flat.nbytes:
        return pack_frame(_as(header, Mode.PCODEC), packed)
    return pack_frame(header, little.tobytes())


def decode_chunk(
    data: bytes,
    shape: tuple[int, ...] | None = None,
    dtype: np.dtype[Any] | str | None = None,
    model: Model | None = None,
) -> npt.NDArray[Any]:
    """Decode a frame.

    Parameters
    ----------
    data : bytes
        A whole frame; for a prefix see `latentzarr.codec.preview`.
    shape, dtype : optional
        What the array spec says; compared with the frame.
    model : Model, optional
        Tried first; any other is looked for by digest.

    Returns
    -------
    array
        Of ``shape`` and ``dtype`` (byte order included), or as the frame says; C order unless recorded otherwise.

    Raises
    ------
    FormatError, ModelError
    """
    wanted = None if dtype is None else np.dtype(dtype)
    values = _decode(bytes(data), shape, wanted, model, None)
    return values if wanted is None else values.astype(wanted, copy=False)


def _decode(
    data: bytes,
    shape: tuple[int, ...] | None,
    dtype: np.dtype[Any] | None,
    model: Model | None,
    predictors: Sequence[Predictor] | None,
) -> npt.NDArray[Any]:
    header, hierarchy, start = parse_frame(data, shape, dtype)
    if hierarchy is not None:
        flat = decode_hierarchy(data, header, hierarchy, start, model, predictors)
    else:
        flat = _decode_plain(data, header, start)
    shaped = flat.reshape(header.shape)
    if dtype is None and header.big_endian:
        shaped = shaped.astype(shaped.dtype.newbyteorder(">"))
    return np.asarray(shaped, order="F") if header.fortran else shaped


def _decode_plain(data: bytes, header: FrameHeader, start: int) -> npt.NDArray[Any]:
    little = header.dtype.newbyteorder("<")
    size = header.dtype.itemsize
    if header.mode is Mode.PCODEC:
        if header.count == 0:
            raise CorruptFrameError("an empty chunk is stored raw")
        values = np.empty(header.count, header.dtype)
        lossless.decompress_into(data[start:], values)
        return as_booleans(values.view(np.uint8)) if header.dtype == np.bool_ else values
    expected = size if header.mode is Mode.CONSTANT and header.count else size * header.count
    if len(data) - start != expected:
        raise CorruptFrameError(f"a {header.mode.name.lower()} payload should have {expected} bytes, has {len(data) - start}")
    stored = np.frombuffer(data, little, offset=start)
    if header.dtype == np.bool_:
        stored = as_booleans(stored.view(np.uint8))
    if header.mode is Mode.CONSTANT and header.count:
        return np.full(header.count, stored[0].astype(header.dtype))
    return stored.astype(header.dtype)
