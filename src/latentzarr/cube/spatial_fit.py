"""The first step of a fit: spatial modes that all channels share, and how many of them each channel needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.cube.lapped import edge_turn, mirror_half, to_patches

__all__ = ["SpatialFit", "fit_spatial"]

Floats = npt.NDArray[np.float64]

_DROPPED = 0.1  # modes of less variance than this share of the wanted error are not used


@dataclass(frozen=True, slots=True, eq=False)
class SpatialFit:
    """Samples in spatial modes.

    Attributes
    ----------
    turn : float64 array, shape (patch, patch)
    spatial : float64 array, shape (patch * patch, patch * patch)
        Columns are modes, strongest first.
    kept : int32 array, shape (channels,)
    modes : float32 array, shape (times, sum of kept, y, x)
        Of normalised fields.
    lost : float
        Mean square error of leaving the other modes out, in squared scales.
    """

    turn: Floats
    spatial: Floats
    kept: npt.NDArray[np.int32]
    modes: npt.NDArray[np.float32]
    lost: float


def fit_spatial(
    fields: npt.NDArray[np.floating],
    mean: Floats,
    scale: Floats,
    area: Floats,
    patch: int,
    quality: float,
    half: int,
    odd: npt.NDArray[np.int32],
    *,
    periodic: bool,
) -> SpatialFit:
    """Fit spatial modes to fields (times, channels, rows, columns).

    ``area``: of each row of patches, shape (y,); ``half`` and ``odd``, shape (channels,), as in `BasisArrays`.
    """
    turn = edge_turn(patch)
    cut = []
    for field in fields:
        normal = (field.astype(np.float64) - mean[:, None, None]) / scale[:, None, None]
        patches = to_patches(normal, turn, periodic=periodic).astype(np.float32)
        cut.append(np.concatenate([mirror_half(p[None], half, odd=bool(o)) for p, o in zip(patches, odd, strict=True)]))
    root = np.sqrt(area).astype(np.float32)[:, None]
    moment = np.zeros((patch**2,) * 2)
    for c in cut:
        part = np.moveaxis(c * root, 1, 0).reshape(patch**2, -1).astype(np.float64)
        moment += part @ part.T
    spatial = np.linalg.eigh(moment)[1][:, ::-1]
    spatial = spatial * np.where(spatial[np.abs(spatial).argmax(0), np.arange(patch**2)] < 0, -1.0, 1.0)
    single = spatial.astype(np.float32)
    turned = [np.einsum("ms,cmyx->csyx", single, c, optimize=True) for c in cut]
    variance = np.mean([((t * root) ** 2).mean((2, 3), dtype=np.float64) for t in turned], 0)
    above = variance > _DROPPED * quality
    kept = np.where(above.any(1), patch**2 - above[:, ::-1].argmax(1), 1).astype(np.int32)
    lost = float(sum(variance[c, k:].sum() for c, k in enumerate(kept)) / variance.size)
    modes = np.stack([np.concatenate([t[c, :k] for c, k in enumerate(kept)]) for t in turned])
    return SpatialFit(turn, spatial, kept, modes, lost)
