"""The codec as zarr v3 knows it: an array-to-bytes codec named ``latentzarr``, sync and async, plain or inside shards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer

from latentzarr.bitstream.frame import dtype_code
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.runtime import working
from latentzarr.errors import InvalidConfigError, UnsupportedDtypeError
from latentzarr.models.store import find_model, register_model, shipped_model
from latentzarr.models.weights import Model

__all__ = ["CODEC_NAME", "LatentCodec"]

CODEC_NAME = "latentzarr"


def bound_of(
    absolute: float | None,
    relative: float | None,
    lossless: bool,
    rmse: float | None,
    bound: ErrorBound | None,
    exact_zeros: bool,
) -> ErrorBound:
    """The one bound that was given.

    Raises
    ------
    InvalidConfigError
        If none or several were.
    """
    given = [
        *([ErrorBound.absolute(absolute)] if absolute is not None else []),
        *([ErrorBound.relative(relative)] if relative is not None else []),
        *([ErrorBound.lossless()] if lossless else []),
        *([ErrorBound.none(rmse)] if rmse is not None else []),
        *([bound] if bound is not None else []),
    ]
    if len(given) != 1:
        raise InvalidConfigError(f"give exactly one of absolute, relative, lossless, rmse and bound; got {len(given)}")
    return given[0].with_exact_zeros() if exact_zeros else given[0]


def model_of(model: Model | str | None, effort: Effort = Effort.NORMAL) -> Model:
    """A model, the model with a digest, or the one shipped for an effort.

    It is known to this process from now on, as zarr reads metadata back.
    """
    if model is None:
        return shipped_model(effort)
    return find_model(model) if isinstance(model, str) else register_model(model)


@dataclass(frozen=True, init=False)
class LatentCodec(ArrayBytesCodec):
    """Store chunks as the latents of a learned hierarchy, within an error bound that is checked before a byte is written.

    Parameters
    ----------
    absolute : float, optional
        ``|x - x_hat| <= absolute``, in units of the data.
    relative : float, optional
        ``|x - x_hat| <= relative * |x|``, value by value; zeros exact.
    lossless : bool
        Every bit equal.
    rmse : float, optional
        No bound; aims at this root mean square error.
    bound : ErrorBound, optional
        Any of the above as a value.
    exact_zeros : bool
        Zeros come back as zeros (no drizzle where it was dry), over and above the bound.
    model : Model or str, optional
        A model or its digest; by default the one shipped for the effort.
    embed : bool
        Write the model's bytes into the array metadata, so that the store needs nothing else to be read.
    effort : {"fast", "normal", "max"}
        How much time coding may take; the bound is the same. Decoding with the model of ``max`` takes longer, too.

    Raises
    ------
    InvalidConfigError, InvalidBoundError, ModelNotFoundError
    """

    config: CodecConfig

    is_fixed_size = False

    def __init__(
        self,
        *,
        absolute: float | None = None,
        relative: float | None = None,
        lossless: bool = False,
        rmse: float | None = None,
        bound: ErrorBound | None = None,
        exact_zeros: bool = False,
        model: Model | str | None = None,
        embed: bool = True,
        effort: Effort | str = Effort.NORMAL,
    ) -> None:
        chosen = bound_of(absolute, relative, lossless, rmse, bound, exact_zeros)
        level = Effort.of(effort)
        object.__setattr__(self, "config", CodecConfig(chosen, model_of(model, level), embed, level))

    @property
    def bound(self) -> ErrorBound:
        """The bound every chunk is checked against."""
        return self.config.bound

    @property
    def model(self) -> Model:
        """The model chunks are coded with."""
        return self.config.model

    @classmethod
    def from_config(cls, config: CodecConfig) -> LatentCodec:
        """A codec of a configuration."""
        return cls(bound=config.bound, model=config.model, embed=config.embed, effort=config.effort)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LatentCodec:
        """Read array metadata; errors as in `CodecConfig.from_json`."""
        if data.get("name") != CODEC_NAME:
            raise InvalidConfigError(f"not the configuration of {CODEC_NAME!r}: {data.get('name')!r}")
        return cls.from_config(CodecConfig.from_json(data.get("configuration")))

    def to_dict(self) -> dict[str, Any]:
        """As written into array metadata."""
        return {"name": CODEC_NAME, "configuration": self.config.to_json()}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse what cannot be coded before anything is written.

        Raises
        ------
        UnsupportedDtypeError, InvalidConfigError
        """
        native = dtype.to_native_dtype()
        dtype_code(native)
        chunk = getattr(chunk_grid, "chunk_shape", None)
        if chunk is not None and len(chunk) != len(shape):
            raise InvalidConfigError(f"chunks {tuple(chunk)} do not fit an array of shape {shape}")
        if native.kind != "f" and self.bound.kind in (BoundKind.RELATIVE, BoundKind.NONE):
            raise UnsupportedDtypeError(
                f"a {self.bound.kind} bound needs floats, the array is {native}; integers are exact or take an absolute bound"
            )

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Frames vary in size.

        Raises
        ------
        NotImplementedError
        """
        raise NotImplementedError("frames of latentzarr vary in size")

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        with working():
            frame = encode_chunk(chunk_data.as_numpy_array(), self.config, chunk_spec.fill_value)
        return chunk_spec.prototype.buffer.from_bytes(frame)

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        data = chunk_data.to_bytes()
        with working():
            values = decode_chunk(data, chunk_spec.shape, chunk_spec.dtype.to_native_dtype(), self.model)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(np.ascontiguousarray(values).reshape(chunk_spec.shape))

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)
