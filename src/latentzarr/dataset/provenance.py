"""The record that travels with the data: what was lossy, by how much, what opens it, and whether the write was finished.

The shape is that of CF-1.12 section 8.4 (a container that names the method, attributes on each variable) under names of
our own, because that section's vocabulary has no word for a neural codec. The container is JSON text in one group
attribute, so that it survives a copy to netCDF, where attributes cannot be nested.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import xarray as xr

from latentzarr import __version__
from latentzarr.bitstream.frame import FORMAT_VERSION
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.codec.zarr_codec import LatentCodec
from latentzarr.errors import IncompleteStoreError, InvalidConfigError

__all__ = [
    "CONTAINER",
    "CUBE",
    "DECODED_BY",
    "IMPLEMENTATION",
    "REPORT",
    "Container",
    "GenerationLossWarning",
    "DecodedCodec",
    "LossyRecord",
    "already_lossy",
    "container_of",
    "lossy_record",
    "marked_decoded",
    "new_container",
    "require_complete",
    "with_history",
]

CONTAINER = "latentzarr"
"""Name of the group attribute that holds the container; what ``lossy_compression`` of a variable points to."""
CUBE = "latentzarr_cube"
"""Name of the group attribute that holds the header of a cube."""
REPORT = "latentzarr_report"
"""Name of the group attribute that holds the report of the write."""
DECODED_BY = "latentzarr_autoencoder"
"""Entry in the encoding of an opened variable: the autoencoder it was decoded by."""
_MARK = "lossy_compression"
WAY_OUT = (
    "coding them again adds a second error to the first. To keep the values as they are, drop the encoding before saving "
    "(ds.drop_encoding().to_zarr(...)) or leave the variable out of 'bounds'; to code them again on purpose, "
    "latentzarr.to_zarr(..., recode=True)"
)


class GenerationLossWarning(UserWarning):
    """Values that were decoded from a lossy store are coded again."""


@dataclass(frozen=True, slots=True)
class Container:
    """What the group attribute ``latentzarr`` says.

    Attributes
    ----------
    algorithm : str
        ``"neural_hierarchy"``.
    implementation : str
        ``"latentzarr version X (frame N)"``.
    model : str
        Digest of the model new chunks are coded with.
    package : str
        What to install to open the store.
    note : str
        How to open it, for people.
    complete : bool
        False from the first byte to the last; True only once everything was written and checked.
    fingerprint : str
        Digest of the settings; a write is only resumed with the same.
    """

    algorithm: str
    implementation: str
    model: str
    package: str
    note: str
    complete: bool
    fingerprint: str = ""

    def to_text(self) -> str:
        """JSON, as it stands in the attribute."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | Mapping[str, Any]) -> Container:
        """Read what `to_text` wrote; entries that a later version added are ignored.

        Raises
        ------
        InvalidConfigError
            If it is not JSON of an object with those entries.
        """
        try:
            data = json.loads(text) if isinstance(text, str) else dict(text)
        except ValueError as error:
            raise InvalidConfigError(f"the group attribute {CONTAINER!r} is not JSON: {error}") from error
        names = [f.name for f in fields(cls)]
        if not isinstance(data, dict) or not set(names[:-1]) <= set(data) or not isinstance(data["complete"], bool):
            raise InvalidConfigError(f"the group attribute {CONTAINER!r} should have the entries {names}, got {str(text)[:200]}")
        return cls(**{name: data[name] for name in names if name in data})


IMPLEMENTATION = f"latentzarr version {__version__} (frame {FORMAT_VERSION})"
_CODED = (
    "Some arrays of this store use the zarr codec 'latentzarr'. Install the package, then xarray.open_zarr, zarr.open and "
    "Dask read it like any other store. 'latentzarr decode IN OUT' writes an ordinary store."
)
_PLAIN = (
    "All arrays use ordinary zarr codecs. Variables with the attribute 'lossy_compression' hold values that are not the "
    "original ones."
)


def new_container(
    model: str, *, complete: bool, fingerprint: str = "", coded: bool = True, before: Container | None = None
) -> Container:
    """A container of this version of the package.

    Parameters
    ----------
    model : str
        Digest.
    complete : bool
    fingerprint : str
    coded : bool
        Whether any array uses our codec.
    before : Container, optional
        Of the store the values came from; says by what they became lossy if nothing is coded now.
    """
    if coded or before is None:
        package, note = ("pip install latentzarr", _CODED) if coded else ("", _PLAIN)
        return Container("neural_hierarchy", IMPLEMENTATION, model, package, note, complete, fingerprint)
    return replace(before, package="", note=_PLAIN, complete=complete, fingerprint=fingerprint)


def container_of(attributes: Mapping[Any, Any]) -> Container | None:
    """The container among a group's or data set's attributes, or None."""
    text = attributes.get(CONTAINER)
    return None if text is None else Container.from_text(text)


def require_complete(attributes: Mapping[Any, Any], place: str) -> None:
    """Refuse a store whose write was cut off.

    Raises
    ------
    IncompleteStoreError
    """
    container = container_of(attributes)
    if container is not None and not container.complete:
        if CUBE in attributes:
            raise IncompleteStoreError(
                "writing this cube was cut off, so parts of it are not there. Write it again from the same data with "
                "latentzarr.to_cube(..., overwrite=True); or remove it",
                place=place,
            )
        raise IncompleteStoreError(
            "writing this store was cut off, parts of it read as missing values. Finish it with "
            "latentzarr.to_zarr(..., resume=True) or 'latentzarr encode --resume', from the same data and settings; or remove it",
            place=place,
        )


@dataclass(frozen=True, slots=True)
class LossyRecord:
    """What the attributes of a lossy variable say.

    Attributes
    ----------
    bound : ErrorBound
        As resolved for coding.
    requested : str
        As asked for, in words.
    max_abs_error : float
        As measured, in units of the data; NaN if not measured yet.
    """

    bound: ErrorBound
    requested: str
    max_abs_error: float = math.nan

    def to_attributes(self) -> dict[str, Any]:
        """Attributes for the variable, all text or numbers."""
        attributes: dict[str, Any] = {
            _MARK: CONTAINER,
            f"{_MARK}_bound": self.bound.value,
            f"{_MARK}_bound_kind": str(self.bound.kind),
            f"{_MARK}_requested": self.requested,
        }
        if self.bound.zeros:
            attributes[f"{_MARK}_zeros"] = "exact"
        if not math.isnan(self.max_abs_error):
            attributes[f"{_MARK}_max_abs_error"] = self.max_abs_error
        return attributes


def lossy_record(attributes: Mapping[Any, Any]) -> LossyRecord | None:
    """Read the attributes of a variable; None if they do not tell of a lossy step of ours."""
    if attributes.get(_MARK) != CONTAINER:
        return None
    kind, zeros = BoundKind(attributes[f"{_MARK}_bound_kind"]), f"{_MARK}_zeros" in attributes
    bound = ErrorBound(kind, float(attributes[f"{_MARK}_bound"]), zeros)
    error = float(attributes.get(f"{_MARK}_max_abs_error", math.nan))
    return LossyRecord(bound, str(attributes.get(f"{_MARK}_requested", bound)), error)


def without_record(attributes: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """Attributes of a variable less those that this module writes."""
    ours = {_MARK, *(f"{_MARK}_{end}" for end in ("bound", "bound_kind", "zeros", "requested", "max_abs_error"))}
    return {name: value for name, value in attributes.items() if name not in ours}


def already_lossy(variable: xr.Variable) -> str:
    """How a variable says that its values were decoded from lossy data; empty if it does not.

    Looks at the attributes (ours and CF's ``quantization``) and, in the encoding, at a lossy codec of ours or an autoencoder.
    """
    if _MARK in variable.attrs:
        record = lossy_record(variable.attrs)
        return (
            f"its attributes say it was coded with a bound of {record.bound}"
            if record
            else "it has the attribute 'lossy_compression'"
        )
    if "quantization" in variable.attrs:
        return f"its attribute 'quantization' says it was quantized ({variable.attrs['quantization']})"
    if DECODED_BY in variable.encoding:
        return f"it was decoded from latents of autoencoder {variable.encoding[DECODED_BY]!r}"
    codec = variable.encoding.get("serializer")
    if isinstance(codec, LatentCodec) and codec.bound.kind is not BoundKind.LOSSLESS:
        return f"it was read from an array coded with a bound of {codec.bound}"
    return ""


class DecodedCodec(LatentCodec):
    """The codec values were decoded by, as an opened variable's encoding carries it; it warns when an array is made with it."""

    def evolve_from_array_spec(self, array_spec: Any) -> Any:  # noqa: ARG002 - zarr passes it
        """Called when an array is made with the codec, plain or inside shards: warn, and be an ordinary codec from then on.

        Warns
        -----
        GenerationLossWarning
            That values decoded under a bound are about to be coded under it once more.
        """
        if self.bound.kind is not BoundKind.LOSSLESS:
            text = f"an array is saved with the lossy codec it was opened with ({self.bound}): {WAY_OUT}"
            warnings.warn(text, GenerationLossWarning, stacklevel=2)
        return LatentCodec.from_config(self.config)


def marked_decoded(encoding: Mapping[Any, Any]) -> dict[Any, Any]:
    """An opened variable's encoding, changed so that saving the variable with it warns."""
    codec = encoding.get("serializer")
    marked = {"serializer": DecodedCodec.from_config(codec.config)} if isinstance(codec, LatentCodec) else {}
    return {**encoding, **marked}


def with_history(attributes: Mapping[Hashable, Any], line: str) -> dict[Hashable, Any]:
    """Attributes with a line, stamped with the time, put before what ``history`` already says (the netCDF custom)."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = str(attributes.get("history", "")).strip()
    entry = f"{stamp}: {line}"
    return {**attributes, "history": f"{entry}\n{before}" if before else entry}
