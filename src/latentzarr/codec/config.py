"""What a codec is told, as a value and as JSON: the bound and the model, nothing about machines."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.errors import InvalidConfigError
from latentzarr.models.store import default_model, find_model, known_shipped, register_model, shipped_model
from latentzarr.models.weights import MAX_MODEL_BYTES, Model, read_model

__all__ = ["CodecConfig"]

_KEYS = {"version", "bound", "model", "effort"}


class Effort(StrEnum):
    """How much time coding may take: which shipped model is used where none is given, and which candidates are tried.

    ``fast`` a small network; ``normal``; ``max`` a large network and every candidate there is. All keep the same bound.
    """

    FAST = "fast"
    NORMAL = "normal"
    MAX = "max"

    @classmethod
    def of(cls, given: str) -> Effort:
        """The effort of a name.

        Raises
        ------
        InvalidConfigError
        """
        try:
            return cls(given)
        except ValueError as error:
            raise InvalidConfigError(f"an effort is one of {', '.join(cls)}, got {given!r}") from error


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """The configuration of the codec.

    Attributes
    ----------
    bound : ErrorBound
        Not range-relative: a codec sees one chunk, a range belongs to the whole variable. `latentzarr.to_zarr` resolves
        it; by hand, ``bound.resolve(minimum, maximum)`` does.
    model : Model
        The shipped one unless given.
    embed : bool
        Whether the model's bytes are written into the JSON, so that a store needs nothing else to be read.
    effort : Effort
        Only how chunks are coded; frames are read alike, whatever it was.

    Raises
    ------
    InvalidConfigError
        For a range-relative bound.
    """

    bound: ErrorBound
    model: Model = field(default_factory=default_model)
    embed: bool = True
    effort: Effort = Effort.NORMAL

    def __post_init__(self) -> None:
        if self.bound.kind is BoundKind.RANGE_RELATIVE:
            raise InvalidConfigError(
                f"a bound of {self.bound} needs the range of the whole variable; use latentzarr.to_zarr, or resolve it first: "
                "ErrorBound.range_relative(0.01).resolve(float(da.min()), float(da.max()))"
            )

    def to_json(self) -> dict[str, Any]:
        """As it stands in array metadata; see `docs/reference/codec.md`."""
        bound: dict[str, Any] = {"kind": str(self.bound.kind)}
        if self.bound.kind is not BoundKind.LOSSLESS:
            bound["value"] = self.bound.value
        if self.bound.zeros:
            bound["zeros"] = "exact"
        model: dict[str, Any] = {"digest": self.model.digest}
        if self.embed:
            model["data"] = base64.b64encode(zlib.compress(self.model.blob, 9)).decode("ascii")
        effort = {} if self.effort is Effort.NORMAL else {"effort": str(self.effort)}
        return {"version": 1, "bound": bound, "model": model, **effort}

    @classmethod
    def from_json(cls, data: Any) -> CodecConfig:
        """Read what `to_json` wrote.

        Raises
        ------
        InvalidConfigError
            For unknown keys, wrong types, or a later version.
        ModelError
            If the model cannot be found, or its bytes are not what they claim.
        """
        if not isinstance(data, dict) or set(data) - _KEYS or "bound" not in data:
            raise InvalidConfigError(f"the configuration of 'latentzarr' has the keys {sorted(_KEYS)}, got {_keys(data)}")
        if data.get("version", 1) != 1:
            raise InvalidConfigError(f"configuration version {data['version']!r} is not known here; install a newer latentzarr")
        bound = data["bound"]
        known = isinstance(bound, dict) and not set(bound) - {"kind", "value", "zeros"} and bound.get("zeros", "exact") == "exact"
        if not known or bound.get("kind") not in set(map(str, BoundKind)):
            raise InvalidConfigError(
                f"'bound' has a 'kind' of {[str(k) for k in BoundKind]}, a 'value' and perhaps 'zeros': 'exact', got {bound!r}"
            )
        model = data.get("model")
        effort = Effort.of(data.get("effort", "normal"))
        found, embed = (shipped_model(effort), True) if model is None else _read_model(model)
        return cls(ErrorBound(BoundKind(bound["kind"]), bound.get("value", 0.0), "zeros" in bound), found, embed, effort)


def _keys(data: Any) -> Any:
    return sorted(data) if isinstance(data, dict) else type(data).__name__


def _read_model(model: Any) -> tuple[Model, bool]:
    if not isinstance(model, dict) or set(model) - {"digest", "data"} or not isinstance(model.get("digest"), str):
        raise InvalidConfigError(f"'model' has a 'digest' and perhaps 'data', got {_keys(model)}")
    if "data" not in model:
        return find_model(model["digest"]), False
    known = known_shipped(model["digest"])
    if known is not None and known.digest == model["digest"]:
        return known, True
    try:
        packed = base64.b64decode(model["data"], validate=True)
        inflate = zlib.decompressobj()
        blob = inflate.decompress(packed, MAX_MODEL_BYTES + 1)
    except (binascii.Error, zlib.error, TypeError, ValueError) as error:
        raise InvalidConfigError(f"the embedded model {model['digest']} cannot be unpacked: {error}") from error
    return register_model(read_model(blob, expected=model["digest"])), True
