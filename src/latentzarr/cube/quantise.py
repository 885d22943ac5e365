"""Real components to whole quanta, each chosen by what its error and its bits cost together.

Plain rounding spends bits on lonely small values. Here the cost of a value is guessed from its neighbourhood as a coder would
learn it, and a value goes to the next smaller one, or to 0, where that saves more bits than the error is worth. Only the encoder
does this; a decoder sees whole numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LATENT_TOP", "PRICE", "chosen"]

Floats = npt.NDArray[np.float64]

LATENT_TOP = 2**15 - 1
"""Largest magnitude of a latent."""
PRICE = 0.12
"""Squared quanta that a bit is worth. On the slope of fine quantisation it is 2 ln 2 / 12 = 0.116."""
_LEAST = 1e-4
_DEAD = 0.4


def chosen(values: Floats, area: Floats) -> npt.NDArray[np.int32]:
    """Whole numbers near ``values``.

    Parameters
    ----------
    values : float64 array, shape (times, components, y, x)
        In quanta.
    area : float64 array, shape (y,)
        What an error counts in each row, mean 1.

    Returns
    -------
    int32 array of the same shape
    """
    if values.size == 0:
        return np.zeros(values.shape, np.int32)
    size = np.abs(values)
    expected = _expected(np.floor(size + _DEAD))
    none, each = np.log2(1.0 + expected), np.log2((1.0 + expected) / expected)  # bits of 0, and of every quantum more
    price = PRICE / area[:, None]
    best, cost = np.zeros_like(size), size * size + price * none
    nearest = np.rint(size)
    for smaller in (0.0, 1.0):
        tried = np.maximum(nearest - smaller, 1.0)
        costs = (size - tried) ** 2 + price * (none + tried * each + 1.0)
        better = costs < cost
        best, cost = np.where(better, tried, best), np.where(better, costs, cost)
    return (np.sign(values) * np.minimum(best, LATENT_TOP)).astype(np.int32)


def _expected(size: Floats) -> Floats:
    """Mean magnitude to be expected: half of it the neighbours', half the plane's times how lively the place is."""
    padded = np.pad(size, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    beside = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1] + padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
    across = padded[:, :, :-2, :-2] + padded[:, :, :-2, 2:] + padded[:, :, 2:, :-2] + padded[:, :, 2:, 2:]
    plane = size.mean((2, 3), keepdims=True)
    lively = size.sum(1, keepdims=True) / np.maximum(plane.sum(1, keepdims=True), 1e-9)
    found: Floats = 0.5 * (2.0 * beside + across) / 12.0 + 0.5 * plane * lively + _LEAST
    return found
