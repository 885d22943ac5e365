"""The model card: who trained a model on what, how good it was on data it never saw; a value that travels inside the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from latentzarr.errors import UntrustedModelError

__all__ = ["ModelCard"]

_MAX_CARD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Facts about a model, for people; nothing here changes how a frame is decoded.

    Attributes
    ----------
    name : str
        For people; the digest is the identity.
    architecture : str
        ``"hierarchy-2"``: the integer networks of frames of format version 2; ``"hierarchy-1"``: of version 1.
    training_data : tuple of str
        Origin and licence of what the model was trained on.
    training : str
        Script, duration, seed.
    licence : str
        Of the weights.
    measured : tuple of str
        Rate-distortion on files never seen in training, with the command that measured it.
    parent : str
        Digest of the model it was fitted from, or empty.
    """

    name: str
    architecture: str = "hierarchy-1"
    training_data: tuple[str, ...] = ()
    training: str = ""
    licence: str = "Apache-2.0"
    measured: tuple[str, ...] = ()
    parent: str = ""

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: object) -> ModelCard:
        """Read what `to_json` wrote.

        Raises
        ------
        UntrustedModelError
            If the text is not a card: too long, not JSON, unknown keys, wrong types.
        """
        if not isinstance(text, str):
            raise UntrustedModelError(f"a model card is text, not {type(text).__name__}")
        if len(text) > _MAX_CARD_BYTES:
            raise UntrustedModelError(f"a model card has at most {_MAX_CARD_BYTES} characters, this one {len(text)}")
        try:
            data: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UntrustedModelError(f"the model card is not JSON: {error}") from error
        strings = {"name", "architecture", "training", "licence", "parent"}
        lists = {"training_data", "measured"}
        if not isinstance(data, dict) or not set(data) <= strings | lists or "name" not in data:
            raise UntrustedModelError("the model card has unknown or missing entries")
        if any(not isinstance(data[k], str) for k in strings & set(data)):
            raise UntrustedModelError("an entry of the model card should be text")
        if any(not isinstance(data[k], list) or any(not isinstance(s, str) for s in data[k]) for k in lists & set(data)):
            raise UntrustedModelError("an entry of the model card should be a list of texts")
        return cls(**{k: tuple(v) if k in lists else v for k, v in data.items()})  # type: ignore[arg-type]
