"""A channel's metadata as a vector, a fixed function and the same in every process: what a base's new rows are made from.

Levels of a variable lie near each other in it, and different variables far apart.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from latentzarr.cube.channels import Channel, LevelKind

__all__ = ["embedding"]

_NAME_SIGNS = 64
_CENTRES = np.linspace(-0.1, 1.1, 25)
_WIDTHS = (0.06, 0.2)
_UNIT_CLASSES = ("K", "m s-1", "Pa", "hPa", "kg kg-1", "m2 s-2", "m", "kg m-2 s-1", "1", "%")


def embedding(channel: Channel) -> npt.NDArray[np.float64]:
    """Fixed features of a channel's metadata, a vector of length 1.

    The product of what the variable is and where the level lies. Variables are told apart by 64 signs drawn from the digest of
    the standard name (of the name where there is none), so that two variables are nearly orthogonal and no list has to know
    them; units and the size of the deviation add a little, which is all that an unknown variable shares with a known one. Levels
    are Gaussian bumps in log pressure (or log height, log depth, share of 137 model levels), so that levels blend.
    """
    digest = hashlib.sha256((channel.standard_name or channel.variable).lower().encode()).digest()
    signs = np.unpackbits(np.frombuffer(digest, np.uint8))[:_NAME_SIGNS] * 2.0 - 1.0
    units = np.array([float(channel.units == u) for u in _UNIT_CLASSES])
    size = np.exp(-0.5 * (np.log10(channel.std) - np.arange(-8.0, 9.0, 2.0)) ** 2)
    variable = np.concatenate([signs / math.sqrt(_NAME_SIGNS), 0.2 * units, 0.1 * size])
    place, kinds = _place(channel), list(LevelKind)
    bumps = [np.exp(-0.5 * ((place - _CENTRES) / w) ** 2) for w in _WIDTHS]
    axis = np.zeros(len(kinds))
    axis[kinds.index(LevelKind.PRESSURE if channel.kind is LevelKind.SIGMA else channel.kind)] = 1.0
    level = np.concatenate([*(b / np.linalg.norm(b) for b in bumps), axis]) if channel.kind is not LevelKind.NONE else None
    where = np.concatenate([np.zeros(len(_WIDTHS) * len(_CENTRES)), axis]) if level is None else level
    found: npt.NDArray[np.float64] = np.kron(variable / np.linalg.norm(variable), where / np.linalg.norm(where))
    return found


def _place(channel: Channel) -> float:
    """Where a level lies between 0 and 1 on its axis."""
    value = abs(channel.level)
    match channel.kind:
        case LevelKind.PRESSURE:
            place = -math.log(max(value, 0.01) / 1000.0) / math.log(1000.0)
        case LevelKind.SIGMA:
            place = -math.log(max(value, 1e-5)) / math.log(1000.0)
        case LevelKind.HEIGHT | LevelKind.DEPTH:
            place = math.log1p(value / 10.0) / math.log1p(6000.0)
        case LevelKind.MODEL:
            place = value / 137.0
        case _:
            place = value / 16.0
    return min(max(place, -0.1), 1.1)
