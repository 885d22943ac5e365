"""A base as a file: safetensors with exactly the arrays a base has, capped in size, named by its digest; never pickle."""

from __future__ import annotations

import json
import struct
from dataclasses import fields
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from latentzarr.cube.arrays import BasisArrays
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.channels import ChannelTable
from latentzarr.errors import ModelMismatchError, UntrustedModelError
from latentzarr.models.weights import digest_of

__all__ = ["MAX_BASIS_BYTES", "build_basis", "read_basis"]

MAX_BASIS_BYTES = 256 * 1024 * 1024
_MAX_HEADER = 4 * 1024 * 1024
_KEY = "latentzarr.cube"
_FORMAT = "joint-basis-1"
_SINGLE = tuple(f.name for f in fields(BasisArrays) if not f.name.startswith("specific"))
_PER_GROUP = ("specific_rows", "specific_variance")


def build_basis(arrays: BasisArrays, channels: ChannelTable, *, quality: float, periodic: bool, exact: bool) -> JointBasis:
    """Make a base from its parts; the same parts give the same bytes and digest."""
    named = {name: np.ascontiguousarray(getattr(arrays, name)) for name in _SINGLE}
    for name in _PER_GROUP:
        named |= {f"{name}.{g}": np.ascontiguousarray(a) for g, a in enumerate(getattr(arrays, name))}
    facts = {"format": _FORMAT, "quality": quality, "periodic": periodic, "exact": exact, "groups": arrays.groups}
    facts["channels"] = channels.to_json()
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return read_basis(safetensors.numpy.save(named, metadata={_KEY: text}))


def read_basis(blob: bytes, expected: str | None = None) -> JointBasis:
    """Turn foreign bytes into a base, or refuse.

    Parameters
    ----------
    blob : bytes
        A safetensors file of at most 256 MiB.
    expected : str, optional
        Digest the bytes must have.

    Raises
    ------
    ModelMismatchError
        If the digest is not ``expected``.
    UntrustedModelError
        If the bytes are not safetensors, too large, or hold other arrays than a base has.
    """
    if len(blob) > MAX_BASIS_BYTES:
        raise UntrustedModelError(f"a base has at most {MAX_BASIS_BYTES} bytes, this one {len(blob)}")
    digest = digest_of(blob)
    if expected is not None and digest != expected:
        raise ModelMismatchError(f"the base's bytes have digest {digest}, expected {expected}; fetch it again")
    quality, periodic, exact, groups, channels = _facts(blob)
    try:
        found = safetensors.numpy.load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrustedModelError(f"not a safetensors file: {error}") from error
    wanted = {*_SINGLE, *(f"{name}.{g}" for name in _PER_GROUP for g in range(groups))}
    if set(found) != wanted:
        raise UntrustedModelError(f"the base's arrays are not those of {_FORMAT}: {', '.join(sorted(set(found) ^ wanted)[:4])}")
    if any(a.ndim != 2 for n, a in found.items() if "rows" in n) or any(a.ndim < 1 for a in found.values()):
        raise UntrustedModelError("an array of the base has the wrong number of dimensions")
    per_group: dict[str, Any] = {name: tuple(found[f"{name}.{g}"] for g in range(groups)) for name in _PER_GROUP}
    single: dict[str, Any] = {n: found[n] for n in _SINGLE}
    arrays = BasisArrays(**single, **per_group)
    return JointBasis(digest, blob, channels, arrays, quality, periodic, exact)


def _facts(blob: bytes) -> tuple[float, bool, bool, int, ChannelTable]:
    """Quality, periodic, exact, number of groups and channels, from the file's header."""
    if len(blob) < 8:
        raise UntrustedModelError("not a safetensors file: shorter than its own header")
    (size,) = struct.unpack_from("<Q", blob)
    if size > min(len(blob) - 8, _MAX_HEADER):
        raise UntrustedModelError(f"not a safetensors file: its header claims {size} bytes")
    try:
        facts = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"][_KEY])
        found = tuple(facts[name] for name in ("format", "quality", "periodic", "exact", "groups", "channels"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UntrustedModelError(f"the file does not describe a base under {_KEY!r}: {error}") from error
    form, quality, periodic, exact, groups, table = found
    if form != _FORMAT:
        raise UntrustedModelError(f"a base of the format {form!r:.40} is not known here; install a newer latentzarr")
    channels = ChannelTable.from_json(table)
    numbers = isinstance(quality, float) and quality > 0 and type(groups) is int and 1 <= groups <= len(channels)
    if not numbers or type(periodic) is not bool or type(exact) is not bool:
        raise UntrustedModelError("an entry that describes the base has the wrong type or value")
    return quality, periodic, exact, groups, channels
