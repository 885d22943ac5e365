"""Which fields the rate-distortion run measures and how they are cut into chunks, fixed here before anything is measured.

Every variable is of a file that the default model never saw (`cases.TRAINING_FILES`). A sample is a spread of tiles or maps, the
same in every run; a mode in which a variable would have the same chunks as in ``whole`` is left out for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cases import VARIABLES, Variable, read_whole

__all__ = ["FIELDS", "MODES", "Field", "Loaded", "applies", "chunks", "load", "sample", "shape_of"]

Array = npt.NDArray[Any]
Index = tuple[int | slice, ...]

MODES = ("64", "128", "256", "whole", "deep")
"""Chunks of so many rows and columns; of a map; of several maps of consecutive steps, levels, members or bands."""

TILES = {"64": 48, "128": 16, "256": 6}
"""Tiles taken of all maps together."""

WHOLE_VALUES = 1_100_000
"""Maps are taken until they have so many values, at least one."""

QUICK_TILES = {"64": 6, "128": 3, "256": 1}
QUICK_SIDE = 256


@dataclass(frozen=True, slots=True)
class Field:
    """A variable, its maps, and the stacks that are its deep chunks.

    Attributes
    ----------
    variable : Variable
    stacks : tuple of index
        Into the leading dimensions, one of them a slice: the axis that is coded together.
    axis : str
        What that axis is.
    window : pair of slice, optional
        Part of the map that a stack takes, where whole maps would be too large a chunk.
    """

    variable: Variable
    stacks: tuple[Index, ...] = ()
    axis: str = ""
    window: tuple[slice, slice] | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a field holds: maps, stacks and the range of the whole variable."""

    maps: list[Array]
    stacks: list[Array]
    extent: float


def _two(first: int, second: int, length: int, *, before: Index = (), after: Index = ()) -> tuple[Index, ...]:
    return tuple((*before, slice(start, start + length), *after) for start in (first, second))


_MORE = (
    Variable("atmosphere/gfs_20111008", "gh", ((2,), (9,), (16,), (23,))),
    Variable("atmosphere/ifs_modellevels", "q", ((10,), (35,), (60,), (85,), (110,), (136,))),
    Variable("ocean/pop_samoc", "WVEL", ((0, 0), (1, 6), (2, 12), (2, 18))),
    Variable("satellite/terramesh_scenes", "dem", ((0,), (1,), (2,))),
)

_ALL_BANDS = tuple((scene, slice(None)) for scene in (0, 2))
_STACKS: dict[str, tuple[tuple[Index, ...], str, tuple[slice, slice] | None]] = {
    "monthly_t_2015:t": (((3, slice(None)), (slice(0, 8), 5)), "level, month", None),
    "s2s_mx2t6:mx2t6": (_two(0, 13, 12), "day", None),
    "era5_ensemble_zt:z": (((slice(None), 0, 0), (slice(None), 3, 1)), "member", None),
    "era5_ensemble_zt:t": (((slice(None), 0, 0), (slice(None), 3, 1)), "member", None),
    "gfs_20111008:t": (_two(0, 13, 13), "level", None),
    "gfs_20111008:u": (_two(0, 13, 13), "level", None),
    "gfs_20111008:gh": (_two(0, 13, 13), "level", None),
    "gfs_20111008:r": (_two(0, 13, 12), "level", None),
    "ifs_modellevels:t": (_two(40, 100, 16), "level", None),
    "ifs_modellevels:q": (_two(40, 100, 16), "level", None),
    "ersst:sst": (_two(0, 64, 16), "month", None),
    "ostia_monthly:surface_temperature": (_two(0, 32, 16), "month", None),
    "pop_samoc:UVEL": (((0, slice(0, 16)), (2, slice(0, 16))), "depth", None),
    "pop_samoc:WVEL": (((0, slice(0, 16)), (2, slice(0, 16))), "depth", None),
    "terramesh_scenes:l1c": (_ALL_BANDS, "band", None),
    "terramesh_scenes:l2a": (_ALL_BANDS, "band", None),
    "knmi_201008:rainfall": (_two(0, 24, 8), "frame", (slice(254, 510), slice(222, 478))),
    "mrms_20190610:precipitation_rate": (((slice(0, 4),),), "frame", (slice(896, 1152), slice(4224, 4480))),
}


def _field(variable: Variable) -> Field:
    return Field(variable, *_STACKS.get(f"{Path(variable.file).name}:{variable.name}", ((), "", None)))


def _ordered() -> tuple[Field, ...]:
    """By family, the files of a family together."""
    both = (*VARIABLES, *_MORE)
    families = list(dict.fromkeys(v.family for v in both))
    files = list(dict.fromkeys(v.file for v in both))
    return tuple(_field(v) for v in sorted(both, key=lambda v: (families.index(v.family), files.index(v.file))))


FIELDS: tuple[Field, ...] = _ordered()


def shape_of(field: Field, data: Path) -> tuple[int, int]:
    """Rows and columns of the maps, without reading them."""
    with xr.open_dataset(data / f"{field.variable.file}.nc", mask_and_scale=False, decode_times=False) as dataset:
        rows, columns = dataset[field.variable.name].shape[-2:]
    if field.variable.window is not None:
        first, second = field.variable.window
        rows, columns = len(range(rows)[first]), len(range(columns)[second])
    return rows, columns


def applies(field: Field, mode: str, shape: tuple[int, int]) -> bool:
    """Whether a field has chunks of a mode that differ from its whole maps."""
    if mode == "deep":
        return bool(field.stacks)
    return mode == "whole" or max(shape) > int(mode)


def load(field: Field, data: Path) -> Loaded:
    """Maps, stacks and range."""
    whole, extent = read_whole(field.variable, data)
    maps = [whole[index] for index in field.variable.maps]
    if field.variable.window is not None:
        maps = [m[field.variable.window] for m in maps]
    stacks = [whole[index] for index in field.stacks]
    if field.window is not None:
        stacks = [s[:, *field.window] for s in stacks]
    return Loaded([np.ascontiguousarray(m) for m in maps], [np.ascontiguousarray(s) for s in stacks], extent)


def chunks(loaded: Loaded, mode: str, *, quick: bool = False) -> list[Array]:
    """The chunks of a mode; ``quick`` takes few and small ones."""
    if mode == "deep":
        stacks = [np.ascontiguousarray(s[:, :QUICK_SIDE, :QUICK_SIDE]) for s in loaded.stacks[:1]] if quick else loaded.stacks
        return list(stacks)
    if mode == "whole":
        if quick:
            return [np.ascontiguousarray(loaded.maps[0][:QUICK_SIDE, :QUICK_SIDE])]
        return _spread(loaded.maps, max(1, WHOLE_VALUES // loaded.maps[0].size))
    side = int(mode)
    tiles = [
        m[i : i + side, j : j + side] for m in loaded.maps for i in range(0, m.shape[0], side) for j in range(0, m.shape[1], side)
    ]
    return [np.ascontiguousarray(t) for t in _spread(tiles, (QUICK_TILES if quick else TILES)[mode])]


def _spread(items: Sequence[Array], count: int) -> list[Array]:
    """So many of the items, evenly spaced."""
    if count >= len(items):
        return list(items)
    return [items[int((i + 0.5) * len(items) / count)] for i in range(count)]


def sample(field: Field, mode: str, *, quick: bool) -> str:
    """8 digits that change with what is measured: rows of another sample are not reused."""
    sizes = (QUICK_TILES, QUICK_SIDE) if quick else (TILES.get(mode), WHOLE_VALUES if mode == "whole" else 0)
    parts = (field.variable, mode, sizes, (field.stacks, field.window) if mode == "deep" else ())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
