"""Which decoded fields a channel looks at, with what weights: the linear skeleton of a cube as a value and as bytes.

The weights come from least squares on the cube's own data or a model's (`latentzarr.cube.skeleton`); reading needs only what
is here. The bytes are a deflated safetensors file, checked before anything is used. `docs/reference/cube.md`, section 6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from latentzarr.cube.synthesis import COARSEST_SYNTHESIS, MAX_TERMS, Stencil
from latentzarr.errors import UntrustedModelError

__all__ = ["MAX_TABLE_BYTES", "STRIDES", "ReferenceTable", "Role", "Source", "Term", "read_table"]

STRIDES = COARSEST_SYNTHESIS + 1
MAX_TABLE_BYTES = 2**26
_MAGIC = b"LZRT\x01"
_MAX_CHANNELS = 2**14
_MAX_ROLES = 2**6
_MAX_SHIFT = 24
_FACTOR_LIMIT = 1024
_ARRAYS: dict[str, np.dtype[Any]] = {
    "origin": np.dtype("f8"), "step": np.dtype("f8"), "order": np.dtype("i4"), "roles": np.dtype("i4"), "terms": np.dtype("i4"),
    "weights": np.dtype("i2"), "shifts": np.dtype("u1"), "factor": np.dtype("i4"), "periodic": np.dtype("u1"),
}  # fmt: skip


class Source(IntEnum):
    """What a term looks at."""

    SAME = 0  # another channel at the same time
    BEFORE = 1  # a channel at the earlier of the two times looked at
    AFTER = 2  # at the later
    STATIC = 3  # the static field of a channel
    BASE = 4  # what the latents say of a channel


@dataclass(frozen=True, slots=True)
class Role:
    """How far away, in steps, the times are that a time looks at; 0: there is none."""

    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """One field that is looked at, in one way."""

    source: Source
    channel: int
    stencil: Stencil


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    terms: tuple[Term, ...]
    weights: npt.NDArray[np.int16]  # (terms, STRIDES)


@dataclass(frozen=True, eq=False)
class ReferenceTable:
    """The skeleton of a cube.

    Attributes
    ----------
    origin, step : float64 arrays, shape (channels,)
        Nominal lattice of each channel: what a decoded value is turned into when others look at it.
    order : int32 array, shape (channels,)
        The order in which the channels of a time are decoded.
    roles : int32 array, shape (roles, 2)
        Steps to the times looked at, before and after; the first has none.
    terms : int32 array, shape (terms, 6)
        Target channel, role, source, source channel, kind of stencil, turning.
    weights : int16 array, shape (terms, 4)
        For strides 1, 2, 4 and more.
    shifts : uint8 array, shape (channels, roles, 4)
    factor : int32 array, shape (rows,)
        Of turning terms, in 1/256; empty where there are none.
    periodic : uint8 array, shape (1,)

    Invariants, checked at construction: shapes and dtypes agree; ``order`` is a permutation; steps are finite and above zero;
    targets and sources exist; what is looked at in the same time comes earlier in the order; numbers stay in their limits.

    Raises
    ------
    UntrustedModelError
        If an invariant does not hold.
    """

    origin: npt.NDArray[np.float64]
    step: npt.NDArray[np.float64]
    order: npt.NDArray[np.int32]
    roles: npt.NDArray[np.int32]
    terms: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int16]
    shifts: npt.NDArray[np.uint8]
    factor: npt.NDArray[np.int32]
    periodic: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise UntrustedModelError(f"a reference table {problem}")

    def _problem(self) -> str:
        for name, dtype in _ARRAYS.items():
            if getattr(self, name).dtype != dtype:
                return f"has {name} of {getattr(self, name).dtype}, not {dtype}"
        channels, roles, terms = len(self.origin), len(self.roles), len(self.terms)
        shapes = {
            "origin": (channels,), "step": (channels,), "order": (channels,), "roles": (roles, 2), "terms": (terms, 6),
            "weights": (terms, STRIDES), "shifts": (channels, roles, STRIDES), "factor": (self.factor.size,), "periodic": (1,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                return f"has {name} of shape {getattr(self, name).shape}, expected {shape}"
        if not 0 < channels <= _MAX_CHANNELS or not 0 < roles <= _MAX_ROLES:
            return f"has {channels} channels and {roles} roles"
        if not (np.isfinite(self.origin).all() and np.isfinite(self.step).all() and (self.step > 0).all()):
            return "has a lattice without a finite step above zero"
        if sorted(self.order.tolist()) != list(range(channels)):
            return "has an order that is no permutation of its channels"
        if (self.roles < 0).any() or self.roles[0].any() or ((self.roles[:, 1] > 0) & (self.roles[:, 0] == 0)).any():
            return "has impossible roles"
        if (
            (np.abs(self.factor.astype(np.int64)) > _FACTOR_LIMIT).any()
            or (self.shifts > _MAX_SHIFT).any()
            or (self.periodic > 1).any()
        ):
            return "has factors or shifts out of their limits"
        return self._problem_of_terms(channels, roles)

    def _problem_of_terms(self, channels: int, roles: int) -> str:
        if not len(self.terms):
            return ""
        target, role, source, looked, kind, turning = self.terms.T
        tops = ((target, channels), (role, roles), (source, len(Source)), (looked, channels), (kind, 3), (turning, 2))
        if any((column < 0).any() or (column >= top).any() for column, top in tops):
            return "has a term that looks at what is not there"
        place = np.empty(channels, np.int64)
        place[self.order] = np.arange(channels)
        if (place[looked] >= place[target])[source == Source.SAME].any():
            return "has a channel that looks at one decoded later"
        reaches = self.roles[role]
        if (reaches[:, 0] == 0)[source == Source.BEFORE].any() or (reaches[:, 1] == 0)[source == Source.AFTER].any():
            return "has a term that looks at a time its role does not have"
        if turning.any() and not self.factor.size:
            return "has turning terms and no factor"
        _, counts = np.unique(target * roles + role, return_counts=True)
        return "has too many terms for one field" if counts.max() > MAX_TERMS else ""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.origin)

    @cached_property
    def _role_of(self) -> dict[tuple[int, int], int]:
        return {(int(b), int(a)): i for i, (b, a) in reversed(list(enumerate(self.roles)))}

    @cached_property
    def _by_target(self) -> dict[tuple[int, int], _Terms]:
        grouped: dict[tuple[int, int], list[int]] = {}
        for i, (target, role) in enumerate(self.terms[:, :2].tolist()):
            grouped.setdefault((target, role), []).append(i)
        return {key: self._some(rows) for key, rows in grouped.items()}

    def _some(self, rows: Sequence[int]) -> _Terms:
        terms = tuple(Term(Source(s), c, Stencil(kind, bool(turning))) for _, _, s, c, kind, turning in self.terms[rows].tolist())
        return _Terms(terms, self.weights[rows])

    def role_index(self, role: Role) -> int:
        """Index of a role; that of the one without times if it is not known."""
        return self._role_of.get((role.before, role.after), 0)

    def terms_of(self, channel: int, role: int) -> tuple[tuple[Term, ...], npt.NDArray[np.int16]]:
        """What a channel looks at in a role, and the weights, shape (terms, 4)."""
        found = self._by_target.get((channel, role))
        return ((), np.zeros((0, STRIDES), np.int16)) if found is None else (found.terms, found.weights)

    def to_bytes(self) -> bytes:
        """As a safetensors file, deflated; columns of terms and weights follow each other, low bytes before high ones."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays["terms"] = _planes(self.terms.T)
        arrays["weights"] = _planes(self.weights.T)
        body = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        return _MAGIC + zlib.compress(body, 9)


def _planes(columns: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of each column, least first: shape (columns, bytes, rows)."""
    little = np.ascontiguousarray(columns).astype(columns.dtype.newbyteorder("<"))
    return np.ascontiguousarray(little.view(np.uint8).reshape(*columns.shape, columns.itemsize).swapaxes(1, 2))


def _rows(planes: npt.NDArray[Any], dtype: np.dtype[Any], columns: int) -> npt.NDArray[Any]:
    """The inverse: shape (rows, columns)."""
    if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape[:2] != (columns, dtype.itemsize):
        raise UntrustedModelError(
            f"columns of shape {planes.shape} in a reference table, expected ({columns}, {dtype.itemsize}, terms)"
        )
    little = np.ascontiguousarray(planes.swapaxes(1, 2)).view(dtype.newbyteorder("<"))[..., 0]
    return np.ascontiguousarray(little.T).astype(dtype)


def _inflated(blob: bytes) -> bytes:
    """The safetensors file inside, at most `MAX_TABLE_BYTES`."""
    if blob[: len(_MAGIC)] != _MAGIC or len(blob) > MAX_TABLE_BYTES:
        raise UntrustedModelError(f"{len(blob)} bytes are no reference table")
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(blob[len(_MAGIC) :], MAX_TABLE_BYTES)
    except zlib.error as error:
        raise UntrustedModelError(f"a reference table is damaged: {error}") from error
    if not inflate.eof or inflate.unused_data:
        raise UntrustedModelError("a reference table is cut short, has bytes behind its end, or is larger than 64 MiB")
    return body


def read_table(blob: bytes) -> ReferenceTable:
    """Turn foreign bytes into a table, or refuse.

    Raises
    ------
    UntrustedModelError
        If the bytes are no deflated safetensors file of at most 64 MiB, or an invariant does not hold.
    """
    body = _inflated(blob)
    if len(body) < 8 or struct.unpack_from("<Q", body)[0] > min(len(body) - 8, 2**16):
        raise UntrustedModelError(f"{len(body)} bytes are no safetensors file")
    arrays: dict[str, Any]
    try:
        arrays = safetensors.numpy.load(body)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrustedModelError(f"not a safetensors file: {error}") from error
    if set(arrays) != set(_ARRAYS):
        raise UntrustedModelError(f"a reference table has the arrays {', '.join(_ARRAYS)}, not {', '.join(sorted(arrays))}")
    arrays["terms"] = _rows(arrays["terms"], _ARRAYS["terms"], 6)
    arrays["weights"] = _rows(arrays["weights"], _ARRAYS["weights"], STRIDES)
    return ReferenceTable(**{name: arrays[name] for name in _ARRAYS})
