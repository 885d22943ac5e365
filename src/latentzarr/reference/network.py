"""The model and the predictors (sections 7 and 12): what is expected of a value before its bits are read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import UntrustedModelError
from latentzarr.reference.bits import table_starts
from latentzarr.reference.order import CROSSINGS, Site, reference_of

__all__ = ["ReferenceModel", "cubic", "neural"]

Ints = npt.NDArray[np.int64]
_LIMIT = 2**29
_STAND_IN = 2**30 - 1
_KINDS = ("rows", "columns", "crossings")
_ORDERS = {"hierarchy-1": 1, "hierarchy-2": 2}
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
            self.order, arrays = _read_arrays(blob)
            self.starts = _tables(arrays.pop("tables"), self.order)
            names = [kind + behind for behind in ("", "_reference") for kind in _KINDS[: self.order + 1]]
            self.networks = {name: _layers(name, self.order, arrays) for name in names}
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise UntrustedModelError(f"not a model: {error}") from error
        if arrays or len(blob) > 4 * 2**20:
            raise UntrustedModelError(f"not a model: {len(blob)} bytes, with {sorted(arrays)}")


def _read_arrays(blob: bytes) -> tuple[int, dict[str, npt.NDArray[Any]]]:
    """The order and the arrays of a file."""
    size = int.from_bytes(blob[:8], "little")
    if size > 256 * 1024:
        raise ValueError(f"a header of {size} bytes")
    header = json.loads(blob[8 : 8 + size])
    order = _ORDERS[json.loads(header.pop("__metadata__")["latentzarr.card"])["architecture"]]
    data, arrays = blob[8 + size :], {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = _TYPES[entry["dtype"]]
        arrays[name] = np.frombuffer(data[start:end], dtype).reshape(entry["shape"])
    return order, arrays


def _tables(costs: npt.NDArray[Any], order: int) -> Ints:
    if costs.dtype != np.uint8 or costs.shape != ({1: 512, 2: 768}[order], 64) or (costs.min(axis=1) >= 240).any():
        raise ValueError(f"tables of {costs.dtype} {costs.shape}, or one in which no token is likely")
    return table_starts(costs)


def _layers(name: str, order: int, arrays: dict[str, npt.NDArray[Any]]) -> list[tuple[Ints, Ints]]:
    layers = []
    inputs, largest = ({1: 37, 2: 39}[order] if name.endswith("_reference") else 25), 1088
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


# ------------------------------------------------------------------------------------------------------ 7. prediction
def _middle(g: Ints, missing: Ints) -> Ints:
    b = (g[0] + g[1] + 1) >> 1
    return np.where(missing[0] > missing[1], g[1], np.where(missing[1] > missing[0], g[0], b))


def cubic(site: Site, n: Ints, a: Ints, missing: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Centres and classes of the values of a pass by the cubic rule."""
    t = site.number
    g, gone = site.neighbours(n[t]), site.neighbours(missing[t])
    if site.kind == CROSSINGS:
        centre = (9 * g[0:4].sum(axis=0) - g[8:12].sum(axis=0) + 16) >> 5
    else:
        centre = (9 * (g[0] + g[1]) - (g[2] + g[3]) + 8) >> 4
    centre = np.where(site.at(missing[t]) | (gone[0] != gone[1]), _middle(g, gone), np.clip(centre, -_LIMIT, _LIMIT))
    return centre, np.minimum((site.neighbours(a[t])[:8].sum(axis=0) + 4) >> 3, 15)


def _split(s: Ints) -> tuple[Ints, Ints]:
    e = np.frexp(s.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2 s): exact in binary64, as s < 2^53
    return e, np.where(e >= 11, s >> np.maximum(e - 11, 0), s << np.maximum(11 - e, 0))


def _norm(v: Ints, e: Ints, m: Ints) -> Ints:
    return ((((v >> np.maximum(e - 11, 0)) << np.maximum(11 - e, 0)) * (2**24 // m)) + 8192) >> 14


_LIFTS = {16: 0, 13: 5, 11: 9, 10: 11, 9: 13, 8: 16}


def neural(model: ReferenceModel, looks: bool, site: Site, n: Ints, a: Ints, missing: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Centres and classes of the values of a pass by the network of its kind; ``looks`` in mode 4, at the slice's reference."""
    limit = 2**25
    t, looks_at = site.number, site.looks_at if looks else ()
    g, gone = site.neighbours(n[t]), site.neighbours(missing[t])
    b = _middle(g, gone)
    d = np.clip(g - b, -limit, limit)
    s = 64 + abs(d).sum(axis=0)
    if looks_at:
        there = reference_of(n, looks_at)
        g1 = site.neighbours(there)
        b1 = _middle(g1, gone)
        o = np.clip(site.at(there) - b1, -limit, limit)
        d1 = np.clip(g1 - b1, -limit, limit)
        s1 = 64 + np.minimum(abs(d - d1), limit).sum(axis=0)
        temporal = s1 < s
        b = np.where(temporal, b + o, b)
        d = np.where(temporal, np.clip(d - d1, -limit, limit), d)
        s, s1 = np.where(temporal, s1, s), np.where(temporal, s, s1)
    e, m = _split(s)
    lg = 16 * e + ((m - 2048) >> 7)
    x = [*_norm(d, e, m), *(16 * site.neighbours(a[t])[:8]), 2 * (lg - 160)]
    if looks_at:
        e1, m1 = _split(s1)
        x += [_norm(np.clip(o, -s, s), e, m), *_norm(np.clip(d1[:8], -s, s), e, m)]
        x += [2 * (16 * (e1 - e) + ((m1 - 2048) >> 7) - ((m - 2048) >> 7))]
        x += [np.where(temporal, 64, 0), 16 * site.at(reference_of(a, looks_at))]
        if site.order == 2:
            apart = abs(site.at(n[looks_at[0]]) - site.at(n[looks_at[-1]]))  # 0 with one
            x += [_norm(np.minimum(np.minimum(apart, limit), s), e, m), np.full_like(s, 64 if len(looks_at) == 2 else 0)]
    (w1, b1r), (w2, b2), (w3, b3r) = model.networks[_KINDS[site.kind] + ("_reference" if looks_at else "")]
    row = site.level + (6 if site.snap else 0)
    h1 = np.clip((w1 @ np.stack(x) + b1r[row][:, None]) >> 8, 0, 1023)
    h2 = np.clip((w2 @ h1 + b2[:, None]) >> 8, 0, 1023)
    u, v = w3 @ h2 + b3r[row][:, None]
    centre = np.clip(b + ((np.clip(u, -131072, 131072) * s + 131072) >> 18), -_LIMIT, _LIMIT)
    centre = np.where(site.at(missing[t]), np.clip(b, -_STAND_IN, _STAND_IN), centre)
    return centre, np.clip((lg + (v >> 10) - 16 + _LIFTS[site.grade]) >> 2, 0, 63)
