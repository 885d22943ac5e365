"""The record of a store of latents: which autoencoder, which channels, which errors. JSON in one attribute of the group."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from latentzarr import __version__
from latentzarr.cube.latents import LatentKind, StoredLatents
from latentzarr.errors import IncompleteStoreError, InvalidConfigError, NewerVersionError

__all__ = [
    "ATTRIBUTE",
    "FIRST_MISSING",
    "LATENT",
    "MISSING",
    "STEP",
    "ChannelError",
    "CodedVariable",
    "LatentStoreRecord",
    "plain",
    "strict",
]

ATTRIBUTE = "latentzarr_autoencoder"
"""Name of the group attribute that holds the record."""
LATENT, STEP = "latent", "latent_step"
"""Names of the arrays of latents and of their quantisation steps."""
MISSING, FIRST_MISSING = "latent_missing", "latent_missing_first"
"""Where values are NaN: the mask of the first item, and for each item what differs from that."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class CodedVariable:
    """A variable that is stored as latents.

    Attributes
    ----------
    name, dtype : str
        As in the original; the dtype as NumPy writes it (``"<f4"``).
    dimensions : tuple of str
    levels : tuple of str
        Those that make channels: neither leading dimensions nor rows and columns.
    shape : tuple of int
    first, channels : int
        Its channels are ``first`` to ``first + channels - 1``.
    labels : tuple of str
        Of its channels, for people.
    attributes, encoding : dict
    """

    name: str
    dtype: str
    dimensions: tuple[str, ...]
    levels: tuple[str, ...]
    shape: tuple[int, ...]
    first: int
    channels: int
    labels: tuple[str, ...]
    attributes: dict[str, Any]
    encoding: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChannelError:
    """What coding did to a channel, measured by the process that wrote it.

    Attributes
    ----------
    variable, label : str
    values : int
        Finite values compared.
    rmse, max_abs, bias : float
        Root mean square and largest of ``decoded - original``, and its mean, in units of the data.
    normalized_mse : float
        Mean square over the variance of the channel.
    minimum, maximum : float
        Of the original.
    """

    variable: str
    label: str
    values: int
    rmse: float
    max_abs: float
    bias: float
    normalized_mse: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class LatentStoreRecord:
    """All that a reader needs beside the arrays and the autoencoder itself.

    Attributes
    ----------
    autoencoder : str
    digest : str or None
        Of the weights.
    latents : StoredLatents
    leading : tuple of str
        Dimensions along which items lie; the last is the one batches are taken from.
    field : tuple of str
        Dimensions of rows and columns.
    sizes : dict of str to int
        Of those dimensions.
    mean, std : tuple of float or None
        Of the scaling, for each channel.
    variables : tuple of CodedVariable
    order : tuple of str
        Names of all data variables.
    batch : int
        Items a call of the decoder was given when errors were measured.
    errors : tuple of ChannelError
    content : str
        Digest of all latents.
    complete : bool
        False from the first byte to the last.
    guarantee : str
        ``"none"``.
    implementation : str
    """

    autoencoder: str
    digest: str | None
    latents: StoredLatents
    leading: tuple[str, ...]
    field: tuple[str, str]
    sizes: dict[str, int]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    variables: tuple[CodedVariable, ...]
    order: tuple[str, ...]
    batch: int
    errors: tuple[ChannelError, ...] = ()
    content: str = ""
    complete: bool = False
    guarantee: str = "none"
    implementation: str = f"latentzarr version {__version__}"

    @property
    def channels(self) -> int:
        """Of a field, all variables together."""
        return sum(v.channels for v in self.variables)

    @property
    def item(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an item."""
        return (self.channels, self.sizes[self.field[0]], self.sizes[self.field[1]])

    @property
    def items(self) -> int:
        """Number of items."""
        return math.prod(self.sizes[d] for d in self.leading)

    def to_text(self) -> str:
        """JSON, as it stands in the attribute."""
        return json.dumps(strict({"version": _VERSION, **asdict(self)}), allow_nan=False)

    @classmethod
    def from_text(cls, text: Any, place: str) -> LatentStoreRecord:
        """Read what `to_text` wrote.

        Raises
        ------
        NewerVersionError
        InvalidConfigError
            If it is no such record, or contradicts itself.
        """
        try:
            data = _loose(json.loads(text))
            if data.pop("version") > _VERSION:
                raise NewerVersionError(f"attribute {ATTRIBUTE!r} is of a later version; update latentzarr", place=place)
            latents = data["latents"]
            variables = tuple(CodedVariable(**{**v, **_tuples(v)}) for v in data["variables"])
            stored = StoredLatents(**{**latents, **_tuples(latents), "kind": LatentKind(latents["kind"])})
            known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
            known |= {
                **_tuples(known),
                "latents": stored,
                "variables": variables,
                "errors": tuple(ChannelError(**e) for e in data["errors"]),
            }
            record = cls(**known)
            record._check()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, NewerVersionError):
                raise
            raise InvalidConfigError(f"attribute {ATTRIBUTE!r} cannot be read: {error!r}", place=place) from error
        return record

    def _check(self) -> None:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and len(numbers) != self.channels:
                raise ValueError(f"{name} has {len(numbers)} numbers for {self.channels} channels")
        first = 0
        for v in self.variables:
            sizes = dict(zip(v.dimensions, v.shape, strict=True))
            if any(sizes[d] != self.sizes[d] for d in (*self.leading, *self.field)) or v.first != first or self.batch < 1:
                raise ValueError(f"variable {v.name} does not fit the sizes")
            if set(v.dimensions) != {*self.leading, *v.levels, *self.field}:
                raise ValueError(f"variable {v.name} has the dimensions {v.dimensions}")
            if math.prod(sizes[d] for d in v.levels) != v.channels or np.dtype(v.dtype).kind != "f":
                raise ValueError(f"variable {v.name} does not have {v.channels} channels of {v.dtype}")
            first += v.channels

    def require_complete(self, place: str) -> LatentStoreRecord:
        """The record, if writing the store was finished.

        Raises
        ------
        IncompleteStoreError
        """
        if not self.complete:
            raise IncompleteStoreError(
                "writing this store of latents was cut off, parts of it are not there. Write it again with "
                "latentzarr.encode_latents(..., overwrite=True), or remove it",
                place=place,
            )
        return self


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) for name, value in data.items() if isinstance(value, list)}


def strict(data: Any) -> Any:
    """JSON has no word for NaN and infinities: each becomes an object, ``{"float": "nan"}``."""
    if isinstance(data, dict):
        return {key: strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [strict(value) for value in data]
    return {"float": repr(data)} if isinstance(data, float) and not math.isfinite(data) else data


def _loose(data: Any) -> Any:
    if isinstance(data, dict):
        return float(data["float"]) if set(data) == {"float"} else {key: _loose(value) for key, value in data.items()}
    return [_loose(value) for value in data] if isinstance(data, list) else data


def plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes or encoding as JSON has them: NumPy's numbers and arrays as Python's, as zarr stores them too."""

    def one(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.dtype):
            return value.str
        return list(map(one, value)) if isinstance(value, list | tuple) else value

    return {str(name): one(value) for name, value in attributes.items()}
