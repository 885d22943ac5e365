"""A small network that corrects a base's components at the resolution of its latents, in whole numbers.

Most components are coded as 0 most of the time; what the others say around a place tells a little of what was dropped. Weights
have 8 fractional bits, hidden values 6, inputs are whole quanta up to 15: every sum stays below 2**53 by far and below 2**24 as
checked, so that float32 on any device gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.errors import UntrustedModelError

__all__ = ["HIDDEN_BITS", "HIDDEN_TOP", "INPUT_TOP", "WEIGHT_BITS", "Correction"]

Floats = npt.NDArray[np.float64]

INPUT_TOP = 15
HIDDEN_TOP = 1023
WEIGHT_BITS = 8
HIDDEN_BITS = 6
_LIMIT = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """Three layers: 1 x 1, 3 x 3 over the latent grid, 1 x 1.

    Attributes
    ----------
    enter : int16 array, shape (hidden, components)
    around : int16 array, shape (hidden, hidden * 9)
        Of the 3 x 3 values in C order, hidden value by hidden value.
    leave : int16 array, shape (components, hidden)
    bias_enter, bias_around : int32 arrays, shape (hidden,)
        14 fractional bits.

    Raises
    ------
    UntrustedModelError
        If shapes disagree or a sum could reach 2**24.
    """

    enter: npt.NDArray[np.int16]
    around: npt.NDArray[np.int16]
    leave: npt.NDArray[np.int16]
    bias_enter: npt.NDArray[np.int32]
    bias_around: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        hidden, components = self.enter.shape if self.enter.ndim == 2 else (0, 0)
        shapes = ((hidden, components), (hidden, 9 * hidden), (components, hidden), (hidden,), (hidden,))
        arrays: tuple[npt.NDArray[np.integer], ...] = self.enter, self.around, self.leave, self.bias_enter, self.bias_around
        kinds = (np.int16, np.int16, np.int16, np.int32, np.int32)
        if any(a.shape != s or a.dtype != k for a, s, k in zip(arrays, shapes, kinds, strict=True)) or not 1 <= hidden <= 256:
            raise UntrustedModelError("the arrays of a correction do not fit each other")
        tops = (INPUT_TOP << HIDDEN_BITS, HIDDEN_TOP, HIDDEN_TOP)
        biases = (self.bias_enter, self.bias_around, np.zeros(components, np.int32))
        for weights, bias, top in zip(arrays[:3], biases, tops, strict=True):
            reach = np.abs(weights.astype(np.int64)).sum(1) * top + np.abs(bias.astype(np.int64))
            if reach.max() >= _LIMIT:
                raise UntrustedModelError(f"a sum of the correction could reach {reach.max()}; float32 is exact below 2**24")

    @property
    def components(self) -> int:
        """Components it reads and corrects."""
        return self.enter.shape[1]

    def apply(self, components: Floats, *, periodic: bool) -> Floats:
        """What to add to components, in whole numbers of 2**-6 quanta.

        Parameters
        ----------
        components : float64 array, shape (components, y, x)
            In quanta; rounded to whole ones and clipped to 15 for the network.
        periodic : bool
            Whether the last column is a neighbour of the first; other edges see zeros.
        """
        count, down, across = components.shape
        one = 2.0**HIDDEN_BITS
        whole = np.clip(np.floor(components + 0.5), -INPUT_TOP, INPUT_TOP).reshape(count, -1)
        first = _hidden(self.enter.astype(np.float64) @ (whole * one) + self.bias_enter[:, None])
        padded = np.pad(first.reshape(-1, down, across), ((0, 0), (1, 1), (0, 0)))
        padded = np.pad(padded, ((0, 0), (0, 0), (1, 1)), mode="wrap" if periodic else "constant")
        seen = np.stack([padded[:, i : i + down, j : j + across] for i in range(3) for j in range(3)], 1)
        second = _hidden(self.around.astype(np.float64) @ seen.reshape(-1, down * across) + self.bias_around[:, None])
        return np.floor(self.leave.astype(np.float64) @ second * 2.0**-WEIGHT_BITS + 0.5).reshape(count, down, across)


def _hidden(sums: Floats) -> Floats:
    return np.clip(np.floor(sums * 2.0**-WEIGHT_BITS), 0.0, float(HIDDEN_TOP))
