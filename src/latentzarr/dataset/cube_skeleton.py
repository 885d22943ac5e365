"""The skeleton of a cube: sample its data, choose and fit what looks at what, and make the static fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.codec.chunk import encode_chunk
from latentzarr.codec.config import CodecConfig
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.bundle import pack_bundle
from latentzarr.cube.choose import Choice, Place, choose
from latentzarr.cube.innovations import innovations
from latentzarr.cube.skeleton import SampleFields
from latentzarr.cube.synthesis import LIMIT
from latentzarr.cube.table import STRIDES, ReferenceTable
from latentzarr.dataset.cube_header import CubeHeader, CubeVariable
from latentzarr.dataset.cube_survey import Dimensions, Survey, channel_fields, fields_of, runs_of_times
from latentzarr.models.weights import Model
from latentzarr.scaling import FRACTION

__all__ = ["Sampled", "Skeleton", "is_periodic", "nominal_lattice", "sample", "turning_factor"]

_RUNS = 4
_LEAST_TIMES = 8  # with fewer there is no static field
_LEAST_SAMPLE = 4
_LEAST_DETAIL = 1e-10  # squares of sixteenths of a quantum: nothing that would ever be coded
_STEPS = 1e-300, 1e300
_STATIC_TIMES = 32
_LARGEST_SAMPLE = 2**16


def nominal_lattice(variable: CubeVariable, seen: Survey, first: int) -> tuple[list[float], list[float]]:
    """Origin and step of the lattice on which others see each channel of a variable."""
    origins, steps = [], []
    for c in range(variable.channels):
        bound, low, high = variable.bound(c), float(seen.low[first + c]), float(seen.high[first + c])
        extent = high - low if np.isfinite(high - low) and high > low else 1.0
        step = extent / 1000
        if bound.kind is BoundKind.ABSOLUTE:
            step = 2 * bound.value
        elif np.dtype(variable.dtype).kind in "iub":
            step = 1.0
        mean = float(seen.mean[first + c])
        origins.append(mean if np.isfinite(mean) else 0.0)
        steps.append(float(np.clip(max(step, extent * 2.0**-20), *_STEPS)))
    return origins, steps


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """Samples of a cube, and what is needed to choose a skeleton from them.

    Attributes
    ----------
    samples : SampleFields
        Of a window of the grid.
    places : tuple of Place
    origin, step : float64 arrays, shape (channels,)
        Nominal lattices.
    factor : float64 array, shape (rows,), or None
        Of turning terms, of all rows.
    periodic : bool
        The columns go once around.
    static_times : tuple of int
        Times that static fields are means of.
    """

    samples: SampleFields
    places: tuple[Place, ...]
    origin: npt.NDArray[np.float64]
    step: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64] | None
    periodic: bool
    static_times: tuple[int, ...]

    def choose(self, block: int, times: int, access: float) -> Choice:
        """What looks at what; nothing at nothing where interpolation tells all there is (constants, all missing)."""
        left = max(float(np.mean(innovations(run.reshape(-1, *run.shape[-2:])) ** 2)) for run in self.samples.runs)
        if left < _LEAST_DETAIL:
            channels = len(self.places)
            variables = 1 + max(place.variable for place in self.places)
            return Choice(_empty_table(self.origin, self.step), 0, (False,) * channels, ((),) * variables, (0.0,) * variables)
        return choose(self.samples, self.places, self.origin, self.step, block=block, times=times, access=access)


def sample(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, header: CubeHeader, seen: Survey, block: int,
    basis: JointBasis | None = None,
) -> Sampled:  # fmt: skip
    """Sample a data set on the nominal lattices of a cube's channels."""
    origin, step, places = [], [], []
    for i, v in enumerate(header.variables):
        found = nominal_lattice(v, seen, header.first_channel[v.name])
        origin += found[0]
        step += found[1]
        places += [Place(i, c) for c in range(v.channels)]
    lattice = np.array(origin), np.array(step)
    times = header.times
    window = _window(header.shape)
    whole = slice(0, header.shape[0]), slice(0, header.shape[1])
    runs, bases = [], []
    for part in runs_of_times(times, max(block, 4) if block > 1 else 1, _RUNS if block > 1 else 2 * _RUNS):
        on = _on_lattice(ds, names, dims, part, window if basis is None else whole, lattice)
        if basis is not None:
            bases.append(np.ascontiguousarray(_of_base(on, basis, header, lattice)[..., window[0], window[1]]))
            on = np.ascontiguousarray(on[..., window[0], window[1]])
        runs.append(on)
    chosen = np.unique(np.linspace(0, times - 1, min(times, _STATIC_TIMES)).astype(int)).tolist()
    means = None
    if times >= _LEAST_TIMES:
        means = sum(_on_lattice(ds, names, dims, slice(t, t + 1), window, lattice)[0] for t in chosen) / len(chosen)
    periodic, factor = is_periodic(ds, dims), turning_factor(ds, dims)
    samples = SampleFields(
        [_continued(run) for run in runs],
        None if means is None else _continued(means),
        [_continued(base) for base in bases] or None,
        None if factor is None else np.resize(factor[window[0]], max(_LEAST_SAMPLE, window[0].stop - window[0].start)),
        periodic and window[1] == whole[1],
    )
    return Sampled(samples, tuple(places), *lattice, factor, periodic, tuple(chosen))


@dataclass(frozen=True, eq=False)
class Skeleton:
    """What is stored of the skeleton: the table's bytes, a bundle of static fields for each tile; and the time stride."""

    table: bytes
    statics: Mapping[tuple[int, int], bytes]
    time_stride: int

    @classmethod
    def fit(
        cls, ds: xr.Dataset, names: Sequence[str], dims: Dimensions, header: CubeHeader, seen: Survey, block: int, access: float,
        model: Model, basis: JointBasis | None = None,
    ) -> Skeleton:  # fmt: skip
        """Sample a data set, choose what looks at what, and code the static fields."""
        found = sample(ds, names, dims, header, seen, block, basis)
        choice = found.choose(min(block, header.times), header.times, access)
        whole = np.zeros(0, np.int32) if found.factor is None else np.rint(256 * found.factor).astype(np.int32)
        table = replace(choice.table, factor=whole, periodic=np.array([found.periodic], np.uint8))
        wanted = [c for c, looked_at in enumerate(choice.statics) if looked_at]
        statics = _static_bundles(ds, dims, header, found.static_times, wanted, found.step, model)
        return cls(table.to_bytes(), statics, choice.time_stride)


def _of_base(
    fields: npt.NDArray[np.float64], basis: JointBasis, header: CubeHeader, lattice: tuple[Any, Any]
) -> npt.NDArray[np.float64]:
    """What latents of these fields would say, on the same lattices; blocks as long as the base has them."""
    channels = list(header.latent_channels)
    origin, unit = lattice[0][:, None, None], lattice[1][:, None, None] / FRACTION
    said = np.empty_like(fields)
    for first in range(0, len(fields), basis.block):
        part = slice(first, min(first + basis.block, len(fields)))
        every = np.zeros((part.stop - first, len(basis.channels), *header.shape))
        every[:, channels] = fields[part] * unit + origin
        latents = basis.encode(every, tuple(sorted(channels)))
        for t in range(part.stop - first):
            decoded = basis.decode(latents.common, latents.specific[t], channels, *header.shape, time=t)
            said[first + t] = (basis.values(decoded, channels) - origin) / unit
    return said


def _empty_table(origin: npt.NDArray[np.float64], step: npt.NDArray[np.float64]) -> ReferenceTable:
    channels = len(origin)
    return ReferenceTable(
        origin,
        step,
        np.arange(channels, dtype=np.int32),
        np.zeros((1, 2), np.int32),
        np.zeros((0, 6), np.int32),
        np.zeros((0, STRIDES), np.int16),
        np.zeros((channels, 1, STRIDES), np.uint8),
        np.zeros(0, np.int32),
        np.zeros(1, np.uint8),
    )


def _static_bundles(
    ds: xr.Dataset, dims: Dimensions, header: CubeHeader, times: Sequence[int], wanted: Sequence[int], step: Any, model: Model
) -> dict[tuple[int, int], bytes]:
    """The mean fields of some channels, coded tile by tile."""
    tiles = list(np.ndindex(*header.grid))
    frames = {tile: [b""] * header.channels for tile in tiles}
    for v in header.variables:
        first = header.first_channel[v.name]
        of = [c - first for c in wanted if first <= c < first + v.channels]
        if not of:
            continue
        mean = mean_fields((channel_fields(ds.variables[v.name], dims, slice(t, t + 1))[0] for t in times), of)
        for c, field in zip(of, mean, strict=True):
            config = CodecConfig(bound=ErrorBound.absolute(step[first + c] / 4), model=model)
            for tile in tiles:
                frames[tile][first + c] = encode_chunk(np.ascontiguousarray(field[header.tile_slices(tile)]), config)
    return {tile: pack_bundle(found) for tile, found in frames.items()}


def mean_fields(fields: Iterable[npt.NDArray[Any]], channels: Sequence[int]) -> npt.NDArray[np.float32]:
    """The mean over times of some channels where values are finite, 0 where they never are.

    Parameters
    ----------
    fields : iterable of arrays, shape (channels, rows, columns)
    channels : sequence of int
    """
    total: Any = 0.0
    count: Any = 0
    for field in fields:
        x = field[list(channels)].astype(np.float64)
        known = np.isfinite(x)
        total, count = total + np.where(known, x, 0.0), count + known
    with np.errstate(over="ignore"):
        return np.asarray(total / np.maximum(count, 1)).astype(np.float32)


def _window(shape: tuple[int, int]) -> tuple[slice, slice]:
    """The part of a grid that is sampled: all rows if possible."""
    height = min(shape[0], 256)
    width = min(shape[1], max(64, _LARGEST_SAMPLE // height))
    down, across = (shape[0] - height) // 2, (shape[1] - width) // 2
    return slice(down, down + height), slice(across, across + width)


def _on_lattice(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, times: slice, window: tuple[slice, slice], lattice: tuple[Any, Any]
) -> npt.NDArray[np.float64]:
    """All channels at some times in a window, on their nominal lattices, 0 where values are missing."""
    part = fields_of(ds, names, dims, times, window)
    x = np.concatenate([part[name].astype(np.float64) for name in names], axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        on = (x - lattice[0][:, None, None]) * (FRACTION / lattice[1][:, None, None])
    return np.where(np.isfinite(on), np.clip(on, -LIMIT, LIMIT), 0.0)


def _continued(fields: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fields of fewer rows or columns than regressions need, continued with their edges; others as they are."""
    few = [(0, max(0, _LEAST_SAMPLE - n)) for n in fields.shape[-2:]]
    return np.pad(fields, [(0, 0)] * (fields.ndim - 2) + few, mode="edge") if any(after for _, after in few) else fields


def is_periodic(ds: xr.Dataset, dims: Dimensions) -> bool:
    """Whether the columns are longitudes once around."""
    if dims.columns not in ds.coords or ds[dims.columns].dtype.kind not in "iuf" or ds.sizes[dims.columns] < 8:
        return False
    x = ds[dims.columns]
    if "degree" not in str(x.attrs.get("units", "")).lower() and "lon" not in dims.columns.lower():
        return False
    steps = np.diff(x.values.astype(np.float64))
    return bool(np.allclose(steps, steps[0], rtol=1e-3) and abs(abs(steps[0]) * len(x) - 360) < 0.5 * abs(steps[0]))


def turning_factor(ds: xr.Dataset, dims: Dimensions) -> npt.NDArray[np.float64] | None:
    """sin(latitude) / (sin(latitude)**2 + 0.05) of each row: how wind follows from pressure; None without latitudes."""
    if dims.rows not in ds.coords or ds[dims.rows].dtype.kind not in "iuf":
        return None
    units = str(ds[dims.rows].attrs.get("units", "")).lower()
    if not (units.startswith("degree") or "lat" in dims.rows.lower()):
        return None
    sine = np.sin(np.deg2rad(ds[dims.rows].values.astype(np.float64)))
    return sine / (sine * sine + 0.05) if np.isfinite(sine).all() else None
