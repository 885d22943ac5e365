"""Which part of a component's life in a block is common to all its times: chosen so that few bits serve the block and one time.

Along time a component is written in cosine modes, slowest first. Its first modes go into the common latent; what is left is
specific to each time. All modes in common cost least for the whole block; none in common costs least to read a single time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["at_times", "cosine_modes", "modes_in_common", "water_level"]

Floats = npt.NDArray[np.float64]


def cosine_modes(block: int) -> Floats:
    """Orthonormal DCT-II modes, shape (block, block), rows from slow to fast."""
    k, t = np.arange(block)[:, None], np.arange(block)
    modes = np.cos(np.pi * (t + 0.5) * k / block) * np.sqrt(2.0 / block)
    modes[0] = np.sqrt(1.0 / block)
    return modes


def modes_in_common(spectrum: Floats, level: float, access: float) -> tuple[npt.NDArray[np.intp], Floats]:
    """How many modes of each component are common.

    Parameters
    ----------
    spectrum : float64 array, shape (components, block)
        Variance of each component in each mode.
    level : float
        Mean square error a value is allowed, the water level of reverse water-filling.
    access : float
        What the bits for one time (common and its own) count beside the bits for the block.

    Returns
    -------
    counts : int array, shape (components,)
    errors : float64 array, shape (components,)
        Expected mean square error at a time.
    """
    components, block = spectrum.shape
    bits = 0.5 * np.log2(1.0 + spectrum / level) * (1.0 + access)
    error = np.minimum(spectrum, level)
    before = np.zeros((components, block + 1))
    lost = np.zeros((components, block + 1))
    before[:, 1:], lost[:, 1:] = np.cumsum(bits, 1), np.cumsum(error, 1)
    rest = np.zeros((components, block + 1))
    rest[:, :-1] = np.cumsum(spectrum[:, ::-1], 1)[:, ::-1] / block
    coded = rest > level
    price = np.where(coded, 0.5 * np.log2(1.0 + rest / level), 0.0) * block * (1.0 + access / block)
    # where nothing is left to be specific, the error of the common part stays; else the specific part mends it
    errors = np.where(coded, np.minimum(rest, level), rest + lost / block)
    total = before + price + errors * block / (2.0 * np.log(2.0) * level)
    counts = block - np.argmin(total[:, ::-1], 1)  # of equal ones the largest
    return counts, errors[np.arange(components), counts]


def water_level(spectrum: Floats, access: float, allowed: float) -> float:
    """The level at which the errors of all components add up to ``allowed``."""
    low, high = 1e-12, float(spectrum.max()) + 1e-9
    for _ in range(50):
        level = float(np.sqrt(low * high))
        if modes_in_common(spectrum, level, access)[1].sum() < allowed:
            low = level
        else:
            high = level
    return level


def at_times(common: Floats, index: npt.NDArray[np.integer], modes: Floats, components: int) -> Floats:
    """Components at all times of a block from its common latents.

    Parameters
    ----------
    common : float64 array, shape (Kc, places)
    index : int array, shape (Kc, 2)
        Component and mode of each.
    modes : float64 array, shape (block, block)
        Rows are modes.
    components : int

    Returns
    -------
    float64 array, shape (block, components, places)
    """
    found = np.zeros((modes.shape[1], components, common.shape[1]))
    for mode in np.unique(index[:, 1]):  # within a mode no component is there twice
        here = np.flatnonzero(index[:, 1] == mode)
        found[:, index[here, 0]] += modes[mode][:, None, None] * common[here]
    return found
