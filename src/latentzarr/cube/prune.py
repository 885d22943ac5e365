"""Keep of a skeleton what is worth its bytes: drop terms, share weights between strides, round weights no finer than they need
(encoder only).

Each step compares estimated bits over all fields of a cube that the weights serve with the bits of the table. Dropping a term
costs ``w**2 / inverse(gram)[j, j]`` of what is left of a channel's energy once the other weights have moved to the new optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.cube.skeleton import Fit, Moments, entropy, solve
from latentzarr.cube.synthesis import WEIGHT_LIMIT
from latentzarr.cube.table import STRIDES

__all__ = ["Weights", "pruned", "whole_weights"]

_TERM_BITS = 40.0  # of a term with its weights in the table as it is stored
_WORTH = 12.0  # estimated bits count so many times: real fields gain more where they are lively than a Gaussian would
_HIGHEST_SHIFT = 20

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Weights as they are stored: int16 (terms, 4), and by how much the sums at each stride are shifted, uint8 (4,)."""

    whole: npt.NDArray[np.int16]
    shifts: npt.NDArray[np.uint8]


def pruned(fit: Fit, moments: Moments, channel: int, fields: float) -> Fit:
    """A fit without the terms that tell less than they cost.

    Parameters
    ----------
    fit : Fit
    moments : Moments
        What it was made from.
    channel : int
    fields : float
        How many fields of the whole cube look at these terms.
    """
    kept = list(range(len(fit.terms)))
    forms = [moments.form(fit.terms, channel, level) for level in range(STRIDES)]
    left = np.array([max(0.0, energy - 2 * w @ c + w @ g @ w) for (g, c, energy), w in zip(forms, fit.weights.T, strict=True)])
    inverse = np.stack([_inverse(gram) for gram, _, _ in forms]) if kept else np.zeros((STRIDES, 0, 0))
    weights = fit.weights.T.copy()
    values = np.array(moments.values)
    while kept:
        diagonal = np.diagonal(inverse, axis1=1, axis2=2)
        more = left[:, None] + weights**2 / np.maximum(diagonal, 1e-300)
        cost = fields * (values[:, None] * (entropy(more) - entropy(left)[:, None])).sum(0)
        j = int(cost.argmin())
        if _WORTH * cost[j] >= _TERM_BITS:
            break
        left = more[:, j]
        row = inverse[:, j] / diagonal[:, j, None]
        weights = weights - row * weights[:, j, None]
        inverse = inverse - row[:, :, None] * inverse[:, None, j]
        del kept[j]
        weights, inverse = np.delete(weights, j, 1), np.delete(np.delete(inverse, j, 1), j, 2)
    return solve(moments, channel, [fit.terms[i] for i in kept]) if len(kept) < len(fit.terms) else fit


def _inverse(gram: Reals) -> Reals:
    size = np.sqrt(np.maximum(np.diag(gram), 1e-12))
    scaled = gram / size[:, None] / size[None]
    found: Reals = np.linalg.inv(scaled + 1e-4 * np.eye(len(gram))) / size[:, None] / size[None]
    return found


def whole_weights(fit: Fit, moments: Moments, channel: int, fields: float) -> Weights:
    """Round weights to whole numbers of as few digits as serve the cube best; a stride may share those of the one before.

    Parameters
    ----------
    fit : Fit
    moments : Moments
    channel : int
    fields : float
        As in `pruned`.
    """
    whole, shifts = np.zeros((len(fit.terms), STRIDES), np.int16), np.zeros(STRIDES, np.uint8)
    for level in range(STRIDES if len(fit.terms) else 0):
        weights = fit.weights[:, level]
        largest = float(np.abs(weights).max())
        top = int(np.clip(np.floor(np.log2((WEIGHT_LIMIT - 1) / largest)), 0, _HIGHEST_SHIFT)) if largest > 0 else 0
        gram, cross, energy = moments.form(fit.terms, channel, level)
        served = _WORTH * fields * moments.values[level]
        best = np.inf
        if level:
            found, best = whole[:, level - 1], served * _bits(_used(whole, shifts, level - 1), gram, cross, energy)
            whole[:, level], shifts[level] = found, shifts[level - 1]
        for shift in range(top + 1):
            rounded = _rounded(weights, shift)
            digits = float(np.log2(1 + 2 * np.abs(rounded.astype(np.float64))).sum())
            bits = served * _bits(rounded.astype(np.float64) * 2.0**-shift, gram, cross, energy) + digits + len(fit.terms)
            if bits < best:
                best, whole[:, level], shifts[level] = bits, rounded, shift
    return Weights(whole, shifts)


def _used(whole: npt.NDArray[np.int16], shifts: npt.NDArray[np.uint8], level: int) -> Reals:
    """Weights at a stride as they are used."""
    used: Reals = whole[:, level] * 2.0 ** -float(shifts[level])
    return used


def _rounded(weights: Reals, shift: int) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(weights * 2.0**shift), 1 - WEIGHT_LIMIT, WEIGHT_LIMIT - 1).astype(np.int16)


def _bits(weights: Reals, gram: Reals, cross: Reals, energy: float) -> float:
    """Bits of a value predicted with some weights."""
    return float(entropy(max(0.0, energy - 2 * float(weights @ cross) + float(weights @ gram @ weights))))
