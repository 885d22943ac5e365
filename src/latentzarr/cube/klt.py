"""Principal directions of many samples, in closed form where they are few enough to hold, by a randomised search where not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["principal"]

Floats = npt.NDArray[np.float64]

_SMALL = 4608
_CHUNK = 4096
_EXTRA = 32
_POWERS = 3


def principal(samples: npt.NDArray[np.float32], least: float, most: int) -> tuple[Floats, Floats]:
    """Directions in which samples vary, strongest first.

    Parameters
    ----------
    samples : float32 array, shape (n, dimensions)
        Anomalies, already multiplied with the square roots of their weights over n.
    least : float
        Directions of less variance are left out; one is always kept.
    most : int
        How many at most.

    Returns
    -------
    variances : float64 array, shape (k,)
    directions : float64 array, shape (dimensions, k)
        Orthonormal columns; the largest entry of each is positive, so that the same samples give the same signs.
    """
    n, dimensions = samples.shape
    if dimensions <= min(n, _SMALL):
        variances, directions = _descending(_second_moment(samples), most)
    elif n <= _SMALL:
        variances, places = _descending(_second_moment(np.ascontiguousarray(samples.T)), most)
        sound = variances > max(float(variances[0]) * 1e-12, 0.0)
        variances, places = variances[sound], places[:, sound]
        directions = samples.T.astype(np.float64) @ places / np.sqrt(variances)
    else:
        variances, directions = _searched(samples, most)
    count = max(int((variances > least).sum()), 1)
    variances, directions = np.maximum(variances[:count], 1e-12), directions[:, :count]
    signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(count)])
    return variances, np.ascontiguousarray(directions * np.where(signs == 0, 1.0, signs))


def _second_moment(samples: npt.NDArray[np.float32]) -> Floats:
    total = np.zeros((samples.shape[1],) * 2)
    for start in range(0, len(samples), _CHUNK):
        part = samples[start : start + _CHUNK].astype(np.float64)
        total += part.T @ part
    return total


def _descending(moment: Floats, most: int) -> tuple[Floats, Floats]:
    variances, directions = np.linalg.eigh(moment)
    return variances[::-1][:most], directions[:, ::-1][:, :most]


def _searched(samples: npt.NDArray[np.float32], most: int) -> tuple[Floats, Floats]:
    """Randomised subspace iteration (Halko, Martinsson, Tropp 2011) with a fixed seed."""
    count = min(most + _EXTRA, *samples.shape)
    span = np.random.default_rng(0).standard_normal((samples.shape[1], count)).astype(np.float32)
    for _ in range(_POWERS):
        span = np.linalg.qr(samples.T @ (samples @ span))[0]
    variances, turned = _descending(_second_moment(samples @ span), most)
    return variances, span.astype(np.float64) @ turned
