"""Make the reference field of a channel: a sum of decoded fields with integer weights, at the stride of a pass.

All sums are of whole numbers below 2**53 carried in float64, so they are exact in any order, on any machine.
`docs/reference/cube.md`, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from latentzarr.errors import CorruptFrameError

__all__ = ["COARSEST_SYNTHESIS", "LIMIT", "MAX_TERMS", "WEIGHT_LIMIT", "Stencil", "add_term", "synthesise"]

LIMIT = 2**25
"""Decoded fields enter with values clipped to this magnitude, in sixteenths of a quantum."""
WEIGHT_LIMIT = 2**15
MAX_TERMS = 2**11
"""All sums stay below 2**53: differences of 2**26, weights of 2**15, 2**11 terms."""
COARSEST_SYNTHESIS = 3
"""Passes at strides above 2**3 look at the field made for stride 2**3."""


@dataclass(frozen=True, slots=True)
class Stencil:
    """How a term looks at a field.

    Attributes
    ----------
    kind : int
        0: the value; 1: the one below less the one above (rows); 2: the one to the right less the one to the left.
    turning : bool
        Multiplied by the factor of the row (the sign and size of the Coriolis parameter's inverse).
    """

    kind: int = 0
    turning: bool = False


@nb.njit(nogil=True, cache=True)
def _add(out, field, stride, weight, kind, periodic):
    """``out += weight * stencil(field)`` on every ``stride``-th row and column; edges are repeated, or wrapped along rows."""
    rows, columns = field.shape
    height, width = (rows + stride - 1) // stride, (columns + stride - 1) // stride
    for r in range(height):
        if kind == 1:
            upper = field[max(r - 1, 0) * stride]
            lower = field[min(r + 1, height - 1) * stride]
            for c in range(width):
                out[r, c] += weight[r] * (np.float64(lower[c * stride]) - np.float64(upper[c * stride]))
            continue
        line = field[r * stride]
        w = weight[r]
        if kind == 0:
            for c in range(width):
                out[r, c] += w * np.float64(line[c * stride])
            continue
        for c in range(1, width - 1):
            out[r, c] += w * (np.float64(line[(c + 1) * stride]) - np.float64(line[(c - 1) * stride]))
        last = width - 1
        before, after = (last, 0) if periodic else (0, last)
        out[r, 0] += w * (np.float64(line[min(1, last) * stride]) - np.float64(line[before * stride]))
        if last > 0:
            out[r, last] += w * (np.float64(line[after * stride]) - np.float64(line[(last - 1) * stride]))


def add_term(
    out: npt.NDArray[np.float64],
    field: npt.NDArray[np.int32],
    stride: int,
    weight: npt.NDArray[np.float64],
    kind: int,
    *,
    periodic: bool,
) -> None:
    """Add one term to a sum.

    Parameters
    ----------
    out : float64 array, shape (ceil(rows / stride), ceil(columns / stride))
        Changed in place.
    field : int32 array, shape (rows, columns)
        Magnitudes up to `LIMIT`.
    stride : int
    weight : float64 array, shape (rows of ``out``,)
        Whole numbers.
    kind : int
        As in `Stencil`.
    periodic : bool
        The last column is next to the first.
    """
    _add(out, field, stride, weight, kind, periodic)


def synthesise(
    fields: Sequence[npt.NDArray[np.int32]],
    stencils: Sequence[Stencil],
    weights: npt.NDArray[np.int16],
    shift: int,
    level: int,
    factor: npt.NDArray[np.int32] | None,
    *,
    periodic: bool,
) -> npt.NDArray[np.float64]:
    """The reference field at one stride.

    Parameters
    ----------
    fields : sequence of int32 arrays, shape (rows, columns)
        One for each term.
    stencils : sequence of Stencil
    weights : int16 array, shape (terms,)
    shift : int
        The sum is divided by ``2**shift`` and rounded to the nearest, ties upwards.
    level : int
        log2 of the stride; above `COARSEST_SYNTHESIS` the same as there.
    factor : int32 array, shape (rows,), or None
        Of each row, in 1/256, magnitudes up to 1024; for turning terms.
    periodic : bool

    Returns
    -------
    float64 array, shape (ceil(rows / stride), ceil(columns / stride))
        Whole numbers.

    Raises
    ------
    CorruptFrameError
        If there are more terms than sums can hold.
    """
    if len(fields) > MAX_TERMS:
        raise CorruptFrameError(f"{len(fields)} terms in a reference, at most {MAX_TERMS} are possible")
    stride = 1 << min(level, COARSEST_SYNTHESIS)
    rows, columns = fields[0].shape
    shape = (-(-rows // stride), -(-columns // stride))
    plain, turned = np.zeros(shape), np.zeros(shape)
    ones = np.ones(shape[0])
    any_turned = False
    for field, stencil, weight in zip(fields, stencils, weights.tolist(), strict=True):
        if weight == 0:
            continue
        any_turned |= stencil.turning
        _add(turned if stencil.turning else plain, field, stride, weight * ones, stencil.kind, periodic)
    if any_turned and factor is not None:
        # rounded to units of 2**10 before it is multiplied, so that every number stays below 2**53
        coarse = np.floor(turned * 2.0**-10 + 0.5)
        plain += 4.0 * (coarse * factor[::stride, None].astype(np.float64))
    return np.floor(plain * 2.0**-shift + 0.5)
