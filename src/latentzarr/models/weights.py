"""The one door by which weights come in: safetensors with exactly the expected names, shapes and dtypes, capped, no pickle."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from latentzarr.bitstream.tables import FrequencyTables
from latentzarr.errors import ModelMismatchError, UntrustedModelError
from latentzarr.geometry import Order, PassKind
from latentzarr.models.card import ModelCard
from latentzarr.models.network import IntegerNetwork, NetworkSet

__all__ = [
    "MAX_FOREIGN_BYTES",
    "MAX_MODEL_BYTES",
    "Model",
    "array_bytes",
    "check_weights",
    "digest_of",
    "load_model",
    "read_model",
    "save_model",
]

MAX_MODEL_BYTES = 4 * 1024 * 1024
MAX_FOREIGN_BYTES = 2 * 1024**3
"""Of the weights of an autoencoder that is not ours."""
_MOST_HEADER_BYTES = 256 * 1024
_MOST_FOREIGN_HEADER_BYTES = 16 * 1024**2
_MOST_FOREIGN_ARRAYS, _LONGEST_NAME = 65_536, 512
_CARD_KEY = "latentzarr.card"
_KINDS = tuple(kind.name.lower() for kind in PassKind)
_ORDERS = {"hierarchy-1": Order.TWO_PASSES, "hierarchy-2": Order.THREE_PASSES}
_ARRAYS = tuple(f.name for f in fields(IntegerNetwork))


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model: the bytes that are its identity and what they hold. Equal when the digests are equal.

    Attributes
    ----------
    digest : str
        ``"sha256:"`` and 64 hexadecimal digits of ``blob``.
    blob : bytes
        The safetensors file.
    networks : NetworkSet
    tables : FrequencyTables
    card : ModelCard
    """

    digest: str
    blob: bytes
    networks: NetworkSet
    tables: FrequencyTables
    card: ModelCard

    @classmethod
    def build(cls, networks: NetworkSet, tables: FrequencyTables, card: ModelCard) -> Model:
        """Make a model from its parts; the same parts give the same bytes and digest."""
        arrays: dict[str, np.ndarray] = {"tables": tables.costs}
        for name, network in zip(_names(networks.order), (*networks.spatial, *networks.reference), strict=True):
            for array in _ARRAYS:
                arrays[f"{name}.{array}"] = np.ascontiguousarray(getattr(network, array))
        card = replace(card, architecture=next(name for name, order in _ORDERS.items() if order is networks.order))
        blob = safetensors.numpy.save(arrays, metadata={_CARD_KEY: card.to_json()})
        return read_model(blob)

    @property
    def order(self) -> Order:
        """The order of passes the model predicts; decides the version of the frames it codes."""
        return self.networks.order

    @property
    def prefix(self) -> bytes:
        """First 8 bytes of the digest, as they stand in every frame."""
        return bytes.fromhex(self.digest.removeprefix("sha256:")[:16])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Model({self.card.name!r}, {self.digest[:19]}.., {len(self.blob)} bytes)"

    def __reduce__(self) -> tuple[Any, ...]:
        return (read_model, (self.blob,))


def digest_of(blob: bytes) -> str:
    """``"sha256:..."`` of a model's bytes."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def read_model(blob: bytes, expected: str | None = None) -> Model:
    """Turn foreign bytes into a model, or refuse.

    Parameters
    ----------
    blob : bytes
        A safetensors file of at most 4 MiB.
    expected : str, optional
        Digest the bytes must have.

    Raises
    ------
    ModelMismatchError
        If the digest is not ``expected``.
    UntrustedModelError
        If the bytes are not safetensors, too large, or hold other arrays than a model has, or weights that could leave
        the exact range of the arithmetic.
    """
    if len(blob) > MAX_MODEL_BYTES:
        raise UntrustedModelError(f"a model has at most {MAX_MODEL_BYTES} bytes, this one {len(blob)}")
    digest = digest_of(blob)
    if expected is not None and digest != expected:
        raise ModelMismatchError(f"the model's bytes have digest {digest}, expected {expected}; fetch it again")
    card = _read_card(blob)
    try:
        arrays = safetensors.numpy.load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrustedModelError(f"not a safetensors file: {error}") from error
    order = _ORDERS[card.architecture]
    names = _names(order)
    wanted = {"tables", *(f"{n}.{a}" for n in names for a in _ARRAYS)}
    if set(arrays) != wanted:
        odd = sorted(set(arrays) ^ wanted)
        raise UntrustedModelError(f"the model's arrays are not those of {card.architecture}: {', '.join(odd[:4])}")
    found = [IntegerNetwork(*(arrays[f"{n}.{a}"] for a in _ARRAYS)) for n in names]
    networks = NetworkSet(tuple(found[: order.kinds]), tuple(found[order.kinds :]))
    tables = FrequencyTables.from_costs(arrays["tables"])
    if tables.groups != 4 * order.kinds:
        raise UntrustedModelError(
            f"a model of {card.architecture} has tables for {4 * order.kinds} groups, this one {tables.groups}"
        )
    return Model(digest, blob, networks, tables, card)


def _names(order: Order) -> list[str]:
    """Names of the networks in a file: by kind of pass, then the same with ``_reference``."""
    return [kind + ending for ending in ("", "_reference") for kind in _KINDS[: order.kinds]]


def check_weights(blob: bytes, expected: str | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the weights of an autoencoder that is not ours, or a refusal.

    Parameters
    ----------
    blob : bytes
        A safetensors file of at most 2 GiB, with at most 65,536 arrays whose names have at most 512 characters.
    expected : str, optional
        Digest the bytes must have.

    Raises
    ------
    ModelMismatchError
        If the digest is not ``expected``.
    UntrustedModelError
        If the bytes are something else.

    Returns
    -------
    dict of str to tuple of int
    """
    if len(blob) > MAX_FOREIGN_BYTES:
        raise UntrustedModelError(f"weights have at most {MAX_FOREIGN_BYTES} bytes, these {len(blob)}")
    if expected is not None and digest_of(blob) != expected:
        raise ModelMismatchError(f"the weights have digest {digest_of(blob)}, expected {expected}; fetch them again")
    header = _read_header(blob, _MOST_FOREIGN_HEADER_BYTES)
    header.pop("__metadata__", None)
    if len(header) > _MOST_FOREIGN_ARRAYS or max(map(len, header), default=0) > _LONGEST_NAME:
        raise UntrustedModelError(f"weights have at most {_MOST_FOREIGN_ARRAYS} arrays, names at most {_LONGEST_NAME} characters")
    try:
        entries = safetensors.deserialize(blob)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, TypeError) as error:
        raise UntrustedModelError(f"not a safetensors file: {error}") from error
    return {str(name): tuple(entry["shape"]) for name, entry in entries}


def array_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A safetensors file of arrays by name; the same arrays give the same bytes."""
    return bytes(safetensors.numpy.save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}))


def _read_header(blob: bytes, largest: int) -> dict[str, Any]:
    if len(blob) < 8:
        raise UntrustedModelError("not a safetensors file: shorter than its own header")
    (size,) = struct.unpack_from("<Q", blob)
    if size > min(len(blob) - 8, largest):
        raise UntrustedModelError(f"not a safetensors file: its header claims {size} bytes")
    try:
        header = json.loads(blob[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise UntrustedModelError(f"not a safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise UntrustedModelError("not a safetensors file: its header is no object")
    return header


def _read_card(blob: bytes) -> ModelCard:
    header = _read_header(blob, _MOST_HEADER_BYTES)
    try:
        text = header["__metadata__"][_CARD_KEY]
    except (KeyError, TypeError) as error:
        raise UntrustedModelError(f"the file carries no model card under {_CARD_KEY!r}: {error}") from error
    card = ModelCard.from_json(text)
    if card.architecture not in _ORDERS:
        raise UntrustedModelError(f"architecture {card.architecture!r} is not known here; install a newer latentzarr")
    return card


def load_model(path: str | Path) -> Model:
    """Read a model file; errors as in `read_model`, and `OSError`."""
    file = Path(path)
    if file.stat().st_size > MAX_MODEL_BYTES:
        raise UntrustedModelError(f"a model has at most {MAX_MODEL_BYTES} bytes", place=str(path))
    try:
        return read_model(file.read_bytes())
    except UntrustedModelError as error:
        raise error.at(str(path)) from error


def save_model(model: Model, path: str | Path) -> Path:
    """Write a model as a safetensors file, whole or not at all."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(model.blob)
    return partial.replace(target)
