"""The codec as numcodecs and zarr format 2 know it: a compressor with the id ``latentzarr`` over shaped chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ndarray_copy

from latentzarr.bounds import ErrorBound
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.runtime import working
from latentzarr.codec.zarr_codec import bound_of, model_of
from latentzarr.errors import InvalidConfigError
from latentzarr.models.weights import Model

__all__ = ["LatentNumcodec"]


class LatentNumcodec(Codec):  # type: ignore[misc]
    """numcodecs face of the codec; parameters as in `latentzarr.LatentCodec`.

    The frame carries shape, dtype and memory order, since zarr format 2 passes none of them when decoding.
    """

    codec_id = "latentzarr"

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
        level = Effort.of(effort)
        self.config = CodecConfig(
            bound_of(absolute, relative, lossless, rmse, bound, exact_zeros), model_of(model, level), embed, level
        )

    def encode(self, buf: Any) -> bytes:
        """Code an array (or anything NumPy reads as one); Fortran order and byte order are kept."""
        values: npt.NDArray[Any] = np.asarray(buf)
        fortran = values.flags.f_contiguous and not values.flags.c_contiguous
        with working():
            return encode_chunk(values, self.config, fortran=fortran, big_endian=values.dtype.str[0] == ">")

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a frame to an array, or into ``out``."""
        with working():
            values = decode_chunk(ensure_bytes(buf), model=self.config.model)
        return values if out is None else ndarray_copy(values, out)

    def get_config(self) -> dict[str, Any]:
        """JSON-able configuration with the codec's id."""
        return {"id": self.codec_id, "configuration": self.config.to_json()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LatentNumcodec:
        """Read what `get_config` wrote, or plain keyword arguments.

        Raises
        ------
        InvalidConfigError
        """
        if "configuration" in config:
            found = CodecConfig.from_json(config["configuration"])
            return cls(bound=found.bound, model=found.model, embed=found.embed, effort=found.effort)
        known = {"absolute", "relative", "lossless", "rmse", "exact_zeros", "model", "embed", "effort"}
        given = {k: v for k, v in config.items() if k != "id"}
        if set(given) - known:
            raise InvalidConfigError(f"unknown options of {cls.codec_id!r}: {sorted(set(given) - known)}")
        return cls(**given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatentNumcodec) and self.config == other.config

    def __hash__(self) -> int:
        return hash((self.codec_id, self.config.bound, self.config.model.digest))

    def __repr__(self) -> str:
        return f"LatentNumcodec({self.config.bound}, model={self.config.model.digest[:19]}..)"
