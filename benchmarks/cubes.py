"""Cubes that compressors are compared on: variables x times x levels on a grid, with the range and mean of every level.

Absolute bounds are a part of each level's own range, so that thin upper air and the surface are held to the same standard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

__all__ = ["Cube", "Levels", "load_cube"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Levels:
    """What is known of a variable's levels over the whole period, in float64, in units of the data.

    Attributes
    ----------
    mean, extent : array of shape (levels, 1, 1)
        Mean, and maximum minus minimum.
    """

    mean: Array
    extent: Array

    @classmethod
    def of(cls, values: Array) -> Levels:
        """Of an array of shape (times, levels, rows, columns)."""
        axes = (0, 2, 3)
        extent = values.max(axis=axes, keepdims=True).astype(np.float64) - values.min(axis=axes, keepdims=True)
        return cls(values.mean(axis=axes, dtype=np.float64, keepdims=True)[0], extent[0])


@dataclass(frozen=True)
class Cube:
    """Variables of one period on one grid.

    Attributes
    ----------
    name : str
        Of the file.
    variables : mapping of str to float32 array of shape (times, levels, rows, columns)
        Single-level variables have one level.
    latitude : array of shape (rows,)
        In degrees.
    """

    name: str
    variables: Mapping[str, Array]
    latitude: Array

    @property
    def steps(self) -> int:
        """Times."""
        return next(iter(self.variables.values())).shape[0]

    @property
    def planes(self) -> int:
        """Fields of one time: levels of all variables."""
        return sum(v.shape[1] for v in self.variables.values())

    @cached_property
    def levels(self) -> dict[str, Levels]:
        """Of each variable."""
        return {name: Levels.of(values) for name, values in self.variables.items()}

    @cached_property
    def digests(self) -> dict[str, str]:
        """8 digits for each variable that change with its values: measurements of other data are not reused."""
        return {n: hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest()[:8] for n, v in self.variables.items()}


def load_cube(path: Path, steps: int | None = None) -> Cube:
    """All float variables of a file that have latitude, longitude and a time or level; the first ``steps`` times.

    A file without a time dimension is one time.
    """
    with xr.open_dataset(path) as dataset:
        variables = {}
        for name, array in dataset.data_vars.items():
            if not {"time", "level"} & set(array.dims) or array.dtype.kind != "f":
                continue
            for dimension, at in (("time", 0), ("level", 1)):
                if dimension not in array.dims:
                    array = array.drop_vars(dimension, errors="ignore").expand_dims(dimension, at)
            ordered = array.transpose("time", "level", "latitude", "longitude").isel(time=slice(steps))
            variables[str(name)] = np.ascontiguousarray(ordered.values, dtype=np.float32)
        return Cube(path.stem, variables, dataset.latitude.values.astype(np.float64))
