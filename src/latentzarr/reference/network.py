"""The model and the predictors (sections 5, 7 and 12): what is expected of a value before its bits are read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import UntrustedModelError
from latentzarr.reference.bits import table_starts

__all__ = ["ReferenceModel", "Site", "cubic", "neural"]

Ints = npt.NDArray[np.int64]
Part = tuple[slice, slice]
_LIMIT = 2**29
_NAMES = ("rows", "columns", "rows_reference", "columns_reference")
_TYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype("u1"), "I16": np.dtype("<i2"), "I32": np.dtype("<i4")}


# ----------------------------------------------------------------------------------------------------------- 12. model
class ReferenceModel:
    """A model as its arrays say it.

    Parameters
    ----------
    blob : bytes
        A safetensors file: 8 bytes of header length, a JSON header, then the arrays one after the other.

    Raises
    ------
    UntrustedModelError
        For other arrays than section 12 names, or weights that section 7 refuses.
    """

    def __init__(self, blob: bytes) -> None:
        self.digest = hashlib.sha256(blob).digest()
        try:
            arrays = _read_arrays(blob)
            self.starts = _tables(arrays.pop("tables"))
            self.networks = {name: _layers(name, arrays) for name in _NAMES}
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise UntrustedModelError(f"not a model: {error}") from error
        if arrays or len(blob) > 4 * 2**20:
            raise UntrustedModelError(f"not a model: {len(blob)} bytes, with {sorted(arrays)}")


def _read_arrays(blob: bytes) -> dict[str, npt.NDArray[Any]]:
    size = int.from_bytes(blob[:8], "little")
    if size > 256 * 1024:
        raise ValueError(f"a header of {size} bytes")
    header = json.loads(blob[8 : 8 + size])
    if json.loads(header.pop("__metadata__")["latentzarr.card"])["architecture"] != "hierarchy-1":
        raise ValueError("the card names another architecture")
    data, arrays = blob[8 + size :], {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = _TYPES[entry["dtype"]]
        arrays[name] = np.frombuffer(data[start:end], dtype).reshape(entry["shape"])
    return arrays


def _tables(costs: npt.NDArray[Any]) -> Ints:
    if costs.dtype != np.uint8 or costs.shape != (512, 64) or (costs.min(axis=1) >= 240).any():
        raise ValueError(f"tables of {costs.dtype} {costs.shape}, or one in which no token is likely")
    return table_starts(costs)


def _layers(name: str, arrays: dict[str, npt.NDArray[Any]]) -> list[tuple[Ints, Ints]]:
    layers = []
    inputs, largest = (37 if name.endswith("_reference") else 25), 1088
    for layer in (1, 2, 3):
        w, b = arrays.pop(f"{name}.w{layer}"), arrays.pop(f"{name}.b{layer}")
        outputs = 2 if layer == 3 else len(w)
        if (layer < 3 and (outputs % 8 or not 8 <= outputs <= 256)) or (w.dtype.itemsize, b.dtype.itemsize) != (2, 4):
            raise ValueError(f"layer {layer} of {name}")
        if w.shape != (outputs, inputs) or b.shape != ((outputs,) if layer == 2 else (12, outputs)):
            raise ValueError(f"layer {layer} of {name} has shapes {w.shape}, {b.shape}")
        w, b = w.astype(np.int64), b.astype(np.int64)
        if ((abs(w).sum(axis=1) * largest + abs(b)) >= 2**24).any():
            raise ValueError(f"layer {layer} of {name} can leave the exact range")
        layers.append((w, b))
        inputs, largest = outputs, 1023
    return layers


# ------------------------------------------------------------------------------------------------- 5. order of values
_ROW_PASS = [(-1, 0), (1, 0), (-3, 0), (3, 0), (-1, -2), (-1, 2), (1, -2), (1, 2)]
_ROW_PASS += [(-3, -2), (-3, 2), (3, -2), (3, 2), (-1, -4), (-1, 4), (1, -4), (1, 4)]
_COLUMN_PASS = [(0, -1), (0, 1), (0, -3), (0, 3), (-1, -1), (-1, 1), (1, -1), (1, 1)]
_COLUMN_PASS += [(-2, -1), (-2, 1), (2, -1), (2, 1), (-1, -3), (-1, 3), (1, -3), (1, 3)]


def _inside(i: int, d: int, stride: int, size: int) -> int:
    sign = 1 if d > 0 else -1
    steps = (d, -d, -sign, sign) if d % 2 else (d, -d)
    return next((i + k * stride for k in steps if 0 <= i + k * stride < size), i)


def _part(s: int, column_pass: bool) -> Part:
    return (slice(0, None, s), slice(s, None, 2 * s)) if column_pass else (slice(s, None, 2 * s), slice(0, None, 2 * s))


@lru_cache(maxsize=16)
def _neighbours(stride: int, column_pass: bool, shape: tuple[int, int]) -> tuple[Ints, Ints]:
    """Rows and columns of the neighbours of all values of a pass: two arrays that index a plane together."""
    offsets, here = _COLUMN_PASS if column_pass else _ROW_PASS, _part(stride, column_pass)
    rows = [[_inside(i, d, stride, shape[0]) for i in range(shape[0])[here[0]]] for d, _ in offsets]
    columns = [[_inside(j, d, stride, shape[1]) for j in range(shape[1])[here[1]]] for _, d in offsets]
    return np.array(rows)[:, :, None], np.array(columns)[:, None, :]


@dataclass(frozen=True, slots=True)
class Site:
    """A pass over one slice: which values it visits. The arrays of a frame are (slices, rows, columns)."""

    number: int
    stride: int
    column_pass: bool
    snap: bool
    shape: tuple[int, int]

    @property
    def here(self) -> Part:
        """Rows and columns of the pass."""
        return _part(self.stride, self.column_pass)

    def neighbours(self, plane: npt.NDArray[Any]) -> Ints:
        """Values of ``plane`` at the 16 neighbours, (16, values of the pass)."""
        return plane[_neighbours(self.stride, self.column_pass, self.shape)].reshape(16, -1).astype(np.int64)


# ------------------------------------------------------------------------------------------------------ 7. prediction
def _middle(g: Ints, missing: Ints) -> Ints:
    b = (g[0] + g[1] + 1) >> 1
    return np.where(missing[0] > missing[1], g[1], np.where(missing[1] > missing[0], g[0], b))


def cubic(site: Site, n: Ints, a: Ints, missing: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Centres and classes of the values of a pass by the cubic rule."""
    t = site.number
    g, gone = site.neighbours(n[t]), site.neighbours(missing[t])
    centre = np.clip((9 * (g[0] + g[1]) - (g[2] + g[3]) + 8) >> 4, -_LIMIT, _LIMIT)
    use_middle = missing[t][site.here].ravel() | (gone[0] != gone[1])
    classes = np.minimum((site.neighbours(a[t])[:8].sum(axis=0) + 4) >> 3, 15)
    return np.where(use_middle, _middle(g, gone), centre), classes


def _split(s: Ints) -> tuple[Ints, Ints]:
    e = np.frexp(s.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2 s): exact in binary64, as s < 2^53
    return e, np.where(e >= 11, s >> np.maximum(e - 11, 0), s << np.maximum(11 - e, 0))


def _norm(v: Ints, e: Ints, m: Ints) -> Ints:
    return ((((v >> np.maximum(e - 11, 0)) << np.maximum(11 - e, 0)) * (2**24 // m)) + 8192) >> 14


def neural(
    model: ReferenceModel, looks_back: bool, site: Site, n: Ints, a: Ints, missing: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Centres and classes of the values of a pass by the network of its kind."""
    limit = 2**25
    t = site.number
    g, gone = site.neighbours(n[t]), site.neighbours(missing[t])
    b = _middle(g, gone)
    d = np.clip(g - b, -limit, limit)
    s = 64 + abs(d).sum(axis=0)
    if looks_back and t:
        g1 = site.neighbours(n[t - 1])
        b1 = _middle(g1, gone)
        o = np.clip(n[t - 1][site.here].ravel() - b1, -limit, limit)
        d1 = np.clip(g1 - b1, -limit, limit)
        s1 = 64 + np.minimum(abs(d - d1), limit).sum(axis=0)
        temporal = s1 < s
        b = np.where(temporal, b + o, b)
        d = np.where(temporal, np.clip(d - d1, -limit, limit), d)
        s, s1 = np.where(temporal, s1, s), np.where(temporal, s, s1)
    e, m = _split(s)
    lg = 16 * e + ((m - 2048) >> 7)
    x = [*_norm(d, e, m), *(16 * site.neighbours(a[t])[:8]), 2 * (lg - 160)]
    if looks_back and t:
        e1, m1 = _split(s1)
        x += [_norm(np.clip(o, -s, s), e, m), *_norm(np.clip(d1[:8], -s, s), e, m)]
        x += [2 * (16 * (e1 - e) + ((m1 - 2048) >> 7) - ((m - 2048) >> 7))]
        x += [np.where(temporal, 64, 0), 16 * a[t - 1][site.here].ravel()]
    name = ("columns" if site.column_pass else "rows") + ("_reference" if looks_back and t else "")
    (w1, b1r), (w2, b2), (w3, b3r) = model.networks[name]
    row = site.stride.bit_length() - 1 + (6 if site.snap else 0)
    h1 = np.clip((w1 @ np.stack(x) + b1r[row][:, None]) >> 8, 0, 1023)
    h2 = np.clip((w2 @ h1 + b2[:, None]) >> 8, 0, 1023)
    u, v = w3 @ h2 + b3r[row][:, None]
    centre = np.clip(b + ((np.clip(u, -131072, 131072) * s + 131072) >> 18), -_LIMIT, _LIMIT)
    return np.where(missing[t][site.here].ravel(), b, centre), np.clip((lg + (v >> 10) - 16) >> 2, 0, 63)
