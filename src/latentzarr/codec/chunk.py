"""The whole codec on one page: a chunk of values in, a frame out, and back.

    split off special values -> lattice of the bound -> coarse-to-fine walk -> entropy code -> decode again and check

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
from latentzarr.bitstream.frame import FrameHeader, Mode, dtype_code, pack_frame, parse_frame
from latentzarr.bitstream.tables import fixed_tables
from latentzarr.bounds import BoundKind, ErrorBound, violations
from latentzarr.codec.config import CodecConfig
from latentzarr.codec.payload import as_booleans, decode_hierarchy, pack_hierarchy
from latentzarr.codec.predictor import CubicPredictor, Predictor, neural_predictor
from latentzarr.codec.prepare import LatticeChunk, prepare, with_step
from latentzarr.codec.search import Candidate, make_candidate
from latentzarr.errors import CorruptFrameError, FormatError, GuaranteeBrokenError
from latentzarr.models.weights import Model
from latentzarr.scaling import LinearLattice

__all__ = ["decode_chunk", "encode_chunk", "decode_with", "encode_with"]

_NO_MODEL = bytes(8)
_PCODEC_TRIAL_SHARE = 6  # the lossless candidate is tried when the best so far is above raw / this
_RMSE_ROUNDS = 4


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
    return encode_with(values, config, [*neural, CubicPredictor()], fill_value, fortran=fortran, big_endian=big_endian)


def encode_with(
    values: npt.NDArray[Any],
    config: CodecConfig,
    predictors: Sequence[Predictor],
    fill_value: Any = None,
    *,
    fortran: bool = False,
    big_endian: bool = False,
) -> bytes:
    """`encode_chunk` with other predictors; the bound holds whatever they predict."""
    array = np.asarray(values)
    dtype_code(array.dtype)  # refuses what cannot be coded
    flat = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)).reshape(-1)
    bound = _effective(config.bound, flat.dtype)
    header = FrameHeader(Mode.RAW, flat.dtype, fortran, bound, _NO_MODEL, array.shape, big_endian)
    if flat.size == 0:
        return pack_frame(header, b"")
    for frame in _candidates(header, flat, bound, config.model, predictors, fill_value):
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
    header: FrameHeader, flat: npt.NDArray[Any], bound: ErrorBound, model: Model, predictors: Sequence[Predictor], fill_value: Any
) -> Iterator[bytes]:
    """Frames, the smallest first, ending with one that is exact."""
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    first = flat[:1].tobytes()
    if flat[-1:].tobytes() == first and flat.tobytes() == first * flat.size:
        yield pack_frame(_as(header, Mode.CONSTANT), little[:1].tobytes())
    found = []
    prepared = prepare(flat, bound, header.shape, fill_value)
    if prepared is not None:
        predictors = _worth_trying(prepared, predictors)
        prepared = _aim(prepared, flat, bound, model, predictors)
        coded = [c for c in (_try(prepared, p, model) for p in predictors) if c is not None]
        coded.sort(key=lambda c: c.estimated_bytes)
        found = [(c.estimated_bytes, c) for c in coded]
    exact: bytes | None = None
    if not found or found[0][0] > flat.nbytes / _PCODEC_TRIAL_SHARE:
        exact = _exact(header, flat, little)
    for size, candidate in found:
        if exact is not None and len(exact) <= size:
            break
        assert prepared is not None
        digest = model.prefix if candidate.mode.is_neural else _NO_MODEL
        yield pack_hierarchy(_as(header, candidate.mode, digest), prepared, candidate)
    yield exact if exact is not None else _exact(header, flat, little)
    yield pack_frame(header, little.tobytes())


def _worth_trying(chunk: LatticeChunk, predictors: Sequence[Predictor]) -> Sequence[Predictor]:
    """Of the two neural ways, only the one that fits: slices that are unlike each other had better not look at each other."""
    modes = {p.mode for p in predictors}
    if not {Mode.NEURAL, Mode.INDEPENDENT} <= modes:
        return predictors
    unwanted = Mode.INDEPENDENT if chunk.slices_are_alike() else Mode.NEURAL
    return [p for p in predictors if p.mode is not unwanted]


def _as(header: FrameHeader, mode: Mode, digest: bytes = _NO_MODEL) -> FrameHeader:
    return replace(header, mode=mode, digest=digest)


def _exact(header: FrameHeader, flat: npt.NDArray[Any], little: npt.NDArray[Any]) -> bytes:
    packed = lossless.compress(flat)
    if len(packed) < flat.nbytes:
        return pack_frame(_as(header, Mode.PCODEC), packed)
    return pack_frame(header, little.tobytes())


def _try(ready: LatticeChunk, predictor: Predictor, model: Model) -> Candidate | None:
    """A candidate, or None where the walk leaves the format's range or the predictor breaks its contract."""
    try:
        return make_candidate(ready, predictor, fixed_tables() if predictor.mode is Mode.CUBIC else model.tables)
    except GuaranteeBrokenError:
        return None


def _aim(
    ready: LatticeChunk, flat: npt.NDArray[Any], bound: ErrorBound, model: Model, predictors: Sequence[Predictor]
) -> LatticeChunk:
    """For ``bound=none``: change the step until the root mean square error made is the one aimed at."""
    if bound.kind is not BoundKind.NONE or not predictors:
        return ready
    for _ in range(_RMSE_ROUNDS):
        assert isinstance(ready.lattice, LinearLattice)
        candidate = _try(ready, predictors[0], model)
        if candidate is None:
            return ready
        coded = ready.special.missing == 0
        error = (candidate.walk.n.reshape(-1) - ready.target.reshape(-1))[coded] if coded.any() else np.zeros(1)
        made = float(np.sqrt(np.mean(error**2))) * ready.lattice.step / 16
        if made == 0.0 or 0.97 <= made / bound.value <= 1.0:
            return ready
        ready = with_step(ready, flat, ready.lattice.step * min(max(0.99 * bound.value / made, 0.5), 3.0))
    return ready


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
