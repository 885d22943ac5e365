"""Which fields the first table is measured on, and why: none of the files the default model was trained on, a few maps each.

The files are those of the development data (``LATENTZARR_DATA``); the table names their origin. Ranges are taken over the
whole variable, codes excluded, so that a bound does not depend on which maps were picked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

__all__ = ["TRAINING_FILES", "VARIABLES", "Case", "Variable", "cases", "read", "read_whole", "tiles"]

Array = npt.NDArray[Any]

TRAINING_FILES = (
    "erai_pl_20050801", "ifs_mslp", "era5_surface_201101", "era5land_kerala_2022", "era5land_iberia", "era5_uk_t2m_201903",
    "duacs_mediterranean_adt", "orca025_uv", "fmi_20160928", "s2_l1c_T33UUB",
)  # fmt: skip
"""Files that the default model may have been trained on; a variable of these has no place in the table."""

TILE = 256


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of one file and the maps that are taken from it.

    Attributes
    ----------
    file : str
        Path below the data directory, without ``.nc``.
    name : str
    maps : tuple of tuple of int
        An index into the leading dimensions for each map.
    code : float, optional
        A value that stands for "no data". Neither in the range nor under the bound; it must come back exactly.
    window : tuple of slice, optional
        Part of the map, where the whole would take too long. Said in the table.
    """

    file: str
    name: str
    maps: tuple[tuple[int, ...], ...]
    code: float | None = None
    window: tuple[slice, slice] | None = None

    @property
    def family(self) -> str:
        """``atmosphere``, ``ocean``, ``satellite`` or ``radar``."""
        return self.file.split("/", maxsplit=1)[0]

    @property
    def label(self) -> str:
        """``file:variable``, with the window where there is one."""
        stem = f"{Path(self.file).name}:{self.name}"
        if self.window is None:
            return stem
        rows, columns = self.window
        return f"{stem}[{rows.start}:{rows.stop},{columns.start}:{columns.stop}]"


def _each(*indices: int) -> tuple[tuple[int, ...], ...]:
    return tuple((i,) for i in indices)


VARIABLES: tuple[Variable, ...] = (
    Variable("atmosphere/era5_t_global", "t", ((),)),
    Variable("atmosphere/monthly_t_2015", "t", ((0, 0), (3, 3), (6, 5), (10, 7))),
    Variable("atmosphere/s2s_mx2t6", "mx2t6", _each(0, 8, 16, 24)),
    Variable("atmosphere/era5_ensemble_zt", "z", ((0, 0, 0), (3, 1, 1), (6, 2, 0), (9, 3, 1))),
    Variable("atmosphere/era5_ensemble_zt", "t", ((0, 0, 0), (3, 1, 1), (6, 2, 0), (9, 3, 1))),
    Variable("atmosphere/gfs_20111008", "t", _each(2, 9, 16, 23)),
    Variable("atmosphere/gfs_20111008", "u", _each(2, 9, 16, 23)),
    Variable("atmosphere/gfs_20111008", "r", _each(4, 10, 16, 22)),
    Variable("atmosphere/ifs_modellevels", "t", _each(10, 35, 60, 85, 110, 136)),
    Variable("ocean/ersst", "sst", _each(0, 42, 84, 126)),
    Variable("ocean/ostia_20170605", "analysed_sst", _each(0)),
    Variable("ocean/ostia_20170605", "sst_anomaly", _each(0)),
    Variable("ocean/ostia_monthly", "surface_temperature", _each(0, 17, 34, 51)),
    Variable("ocean/imos_gsla_2024", "GSLA", _each(0, 1)),
    Variable("ocean/imos_gsla_2024", "UCUR", _each(0, 1)),
    Variable("ocean/pop_samoc", "UVEL", ((0, 0), (1, 6), (2, 12), (2, 18))),
    Variable("ocean/coastal_chlorophyll", "conc_chl", _each(0, 3)),
    Variable("satellite/terramesh_scenes", "l1c", ((0, 1), (0, 7), (1, 3), (1, 11), (2, 3), (2, 9))),
    Variable("satellite/terramesh_scenes", "l2a", ((0, 1), (0, 7), (1, 3), (1, 10), (2, 3), (2, 8))),
    Variable("satellite/terramesh_scenes", "s1", ((0, 0), (1, 1), (2, 0))),
    Variable("radar/knmi_201008", "rainfall", _each(0, 24, 40), code=65535),
    Variable("radar/mrms_20190610", "precipitation_rate", _each(0, 2), code=-3.0, window=(slice(512, 1536), slice(3840, 4864))),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: a variable, a chunk mode and a bound."""

    variable: Variable
    mode: str
    fraction: float

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies the case in a file of results."""
        return self.variable.label, self.mode, f"{self.fraction:g}"


def cases(fractions: tuple[float, ...], modes: tuple[str, ...], variables: tuple[Variable, ...] = VARIABLES) -> Iterator[Case]:
    """All cases, a variable at a time, so that its file is read once."""
    for variable in variables:
        for mode in modes:
            for fraction in fractions:
                yield Case(variable, mode, fraction)


def read_whole(variable: Variable, data: Path) -> tuple[Array, float]:
    """The whole variable as it is stored, and its range, missing values and codes excluded."""
    with xr.open_dataset(data / f"{variable.file}.nc", mask_and_scale=False, decode_times=False) as dataset:
        whole: Array = dataset[variable.name].values
    fill = dataset[variable.name].attrs.get("_FillValue")
    if fill is not None and not np.isnan(fill):
        raise ValueError(f"{variable.label} has a fill value of {fill}, which this reader does not expect")
    real = np.isfinite(whole)
    if variable.code is not None:
        real &= whole != variable.code
    return whole, float(whole[real].max()) - float(whole[real].min())


def read(variable: Variable, data: Path, *, quick: bool = False) -> tuple[list[Array], float]:
    """The chosen maps in native byte order, and the range of the whole variable.

    Parameters
    ----------
    variable : Variable
    data : Path
        Directory with ``atmosphere``, ``ocean``, ``satellite`` and ``radar``.
    quick : bool
        Take the first map only, and at most 512 x 512 of it.
    """
    whole, extent = read_whole(variable, data)
    maps = [np.ascontiguousarray(whole[index]) for index in variable.maps[: 1 if quick else None]]
    if variable.window is not None:
        maps = [np.ascontiguousarray(m[variable.window]) for m in maps]
    if quick:
        maps = [np.ascontiguousarray(m[:512, :512]) for m in maps]
    return maps, extent


def tiles(maps: list[Array], mode: str) -> list[Array]:
    """The chunks of a chunk mode: ``whole`` maps, or ``tiles`` of 256 x 256 (smaller at the edges, never padded).

    Empty where ``tiles`` would be the same as ``whole``, so that no result is counted twice.
    """
    if mode == "whole":
        return maps
    if all(max(m.shape) <= TILE for m in maps):
        return []
    return [
        np.ascontiguousarray(m[i : i + TILE, j : j + TILE])
        for m in maps
        for i in range(0, m.shape[0], TILE)
        for j in range(0, m.shape[1], TILE)
    ]
