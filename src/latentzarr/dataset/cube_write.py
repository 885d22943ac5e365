"""Write a latent cube: survey, skeleton, metadata marked as incomplete, then block after block, and the mark last."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.codec.chunk import encode_chunk
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.runtime import current_runtime, using
from latentzarr.cube.block import BlockCoder
from latentzarr.cube.bundle import pack_bundle
from latentzarr.cube.choose import Place, choose
from latentzarr.cube.skeleton import SampleFields
from latentzarr.cube.times import LONGEST_BLOCK
from latentzarr.dataset.carried import carry_model
from latentzarr.dataset.cube_header import CUBE, BlockPlace, CubeHeader, CubeVariable
from latentzarr.dataset.cube_layout import add_refinement, refinement_array, write_blob, write_bundles, write_masks
from latentzarr.dataset.cube_plan import (
    CubeBounds,
    Dimensions,
    Survey,
    channel_fields,
    cube_variables,
    default_tile,
    dimensions_of,
    planned_variable,
    runs_of_times,
    survey,
)
from latentzarr.dataset.cube_reader import CubeReader
from latentzarr.dataset.parallel import Advance, ProgressOption, reporting
from latentzarr.dataset.provenance import CONTAINER, IMPLEMENTATION, REPORT, already_lossy, new_container, with_history
from latentzarr.dataset.report import Report, VariableReport
from latentzarr.dataset.storage import (
    Location,
    finish,
    location_of,
    metadata_bytes,
    open_root,
    place_of,
    prepare_target,
    quiet,
    writing,
)
from latentzarr.dataset.tasks import cf_encoding
from latentzarr.errors import AlreadyLossyError, InvalidConfigError
from latentzarr.metrics import ErrorStatistics, measure
from latentzarr.models.store import shipped_model
from latentzarr.models.weights import Model
from latentzarr.scaling import FRACTION

__all__ = ["to_cube"]

_RUNS = 4
_STATIC_TIMES = 32
_LARGEST_SAMPLE = 2**16
_TIMES_IN_SHARD = 8
Tile = tuple[int, int]


def to_cube(
    ds: xr.Dataset,
    store: Any,
    bounds: CubeBounds,
    *,
    model: Model | None = None,
    block: int = 8,
    tile: tuple[int, int] | None = None,
    access: float = 0.35,
    time_dim: str | None = None,
    effort: Effort | str = Effort.NORMAL,
    overwrite: bool = False,
    recode: bool = False,
    verify: bool = True,
    progress: ProgressOption = None,
    group: str = "",
) -> Report:
    """Write variables that share a horizontal grid as one cube, coded jointly, each under its own bound.

    Parameters
    ----------
    ds : xarray.Dataset
        In memory or lazy; variables without a bound, and coordinates, are stored exactly as ordinary arrays.
    store : path, URL or zarr store
    bounds : mapping
        By variable: ``"0.5 K"``, ``"1% of range"`` (of the variable), ``"2% of level range"`` (each level's own), ``"lossless"``,
        or one number for each level (from an ensemble's spread, say).
    model : Model, optional
        Of the refinement; by default the one shipped for the effort.
    block : int
        Times coded together, 1 to 64. A time can be read without other blocks.
    tile : (rows, columns), optional
        Parts of the grid coded by themselves; by default of at most 2**18 values.
    access : float
        Largest share of a block's bytes that reading one variable at one time may need (an estimate; 1: no limit).
    time_dim : str, optional
        By default the first dimension with dates.
    effort : {"fast", "normal", "max"}
        Fast does not try fields as frames of their own.
    overwrite : bool
    recode : bool
        Code values that were decoded from lossy data again, on purpose.
    verify : bool
        Read every block back from the store and compare every value.
    progress : bool or function, optional
    group : str
        Path of the zarr group to write to, for cubes of several grids in one store.

    Returns
    -------
    Report
        Also stored in the attribute ``latentzarr_report``; the bytes of what variables share are in its ``metadata``.

    Raises
    ------
    InvalidConfigError, InvalidBoundError, UnsupportedDtypeError, VariableNotFoundError
    AlreadyLossyError, StoreExistsError, StoreWriteError
    VerificationError
        If what was read back breaks a bound; the store stays marked as incomplete.
    """
    started = clock.perf_counter()
    effort = Effort(effort)
    names = cube_variables(ds, bounds)
    if not recode:
        for name in names:
            why = already_lossy(ds.variables[name])
            if why:
                raise AlreadyLossyError(f"the values were lossy before ({why}); recode=True codes them again", place=name)
    chosen = model or shipped_model(effort)
    dims = dimensions_of(ds, names, time_dim)
    header, seen = _header(ds, names, dims, bounds, chosen, block, tile)
    skeleton = _Skeleton.fit(ds, names, dims, header, seen, block, access, chosen)
    header = replace(header, time_stride=skeleton.time_stride)
    location = location_of(store)
    with writing(place_of(location)):
        if not group:
            prepare_target(location, overwrite=overwrite)
        root = _write_metadata(ds, names, location, group, header, chosen, skeleton)
        written = _Blocks(ds, names, dims, root, header, effort, verify, progress).write(0)
        report = _report(location, header, written, clock.perf_counter() - started).require()
        _finish(location, group, root, replace(header, variables=written.variables(header)), report)
    return replace(report, metadata=metadata_bytes(location) + _shared_bytes(root))


def _header(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, bounds: CubeBounds, model: Model, block: int, tile: Tile | None
) -> tuple[CubeHeader, Survey]:
    times = ds.sizes[dims.time] if dims.time else 1
    if not 1 <= block <= LONGEST_BLOCK:
        raise InvalidConfigError(f"a block has 1 to {LONGEST_BLOCK} times, not {block}")
    if not times:
        raise InvalidConfigError(f"the dimension {dims.time!r} is empty")
    shape = ds.sizes[dims.rows], ds.sizes[dims.columns]
    if min(shape) < 1:
        raise InvalidConfigError(f"the grid {shape} is empty")
    parts = [slice(t, min(t + block, times)) for t in range(0, times, block)]
    seen = survey(ds, names, dims, parts)
    variables, at = [], 0
    for name in names:
        variable = ds.variables[name]
        count = len(channel_fields(variable, dims, slice(0, 1))[0])
        part = slice(at, at + count)
        planned = planned_variable(name, variable, dims, bounds[name], seen.low[part], seen.high[part], _kept_encoding(variable))
        if not planned.refinement:
            raise InvalidConfigError("latents alone (bound 'rmse') need a model with latents, see fit_cube", place=name)
        variables.append(planned)
        at += count
    full, rest = divmod(times, block)
    runs = tuple((n, c) for n, c in ((block, full), (rest, 1)) if n and c)
    sizes = tile or default_tile(*shape)
    if any(not 0 < t for t in sizes):
        raise InvalidConfigError(f"tiles of {sizes} cannot be")
    cut = min(sizes[0], shape[0]), min(sizes[1], shape[1])
    masks, index = _masks(seen.missing)
    at = 0
    for i, v in enumerate(variables):
        of = tuple(index[at : at + v.channels])
        variables[i] = replace(v, masks=of if len(set(of)) > 1 else of[:1])
        at += v.channels
    header = CubeHeader(dims.time, dims.rows, dims.columns, shape, cut, runs, 0, model.digest, "", tuple(variables))
    return header, replace(seen, missing=masks)


def _kept_encoding(variable: xr.Variable) -> dict[str, Any]:
    """Encoding that says what values mean; numbers are stored as decoded, so what packs them is dropped."""
    found = cf_encoding(variable)
    return {k: v for k, v in found.items() if k in ("_FillValue", "missing_value", "units", "calendar", "dtype")}


def _masks(missing: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Different static masks, and which each channel has (-1: none)."""
    known: dict[bytes, int] = {}
    index, kept = [], []
    for plane in missing:
        if not plane.any():
            index.append(-1)
            continue
        key = np.packbits(plane).tobytes()
        if key not in known:
            known[key] = len(kept)
            kept.append(plane)
        index.append(known[key])
    return (np.stack(kept) if kept else np.zeros((0, *missing.shape[1:]), np.uint8)), index


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
        steps.append(float(max(step, extent * 2.0**-20)))
    return origins, steps


@dataclass(frozen=True, eq=False)
class _Skeleton:
    """Bytes of the skeleton and of the static fields, as they are stored."""

    table: bytes
    statics: bytes
    time_stride: int
    masks: npt.NDArray[np.uint8]

    @classmethod
    def fit(
        cls, ds: xr.Dataset, names: Sequence[str], dims: Dimensions, header: CubeHeader, seen: Survey, block: int, access: float,
        model: Model,
    ) -> _Skeleton:  # fmt: skip
        origin, step, places = [], [], []
        for i, v in enumerate(header.variables):
            found = nominal_lattice(v, seen, header.first_channel[v.name])
            origin += found[0]
            step += found[1]
            places += [Place(i, c) for c in range(v.channels)]
        lattice = np.array(origin), np.array(step)
        times = header.times
        means = _means(ds, names, dims, times, lattice) if times >= 8 else None
        height, width = _window(header.shape)
        down, across = (header.shape[0] - height) // 2, (header.shape[1] - width) // 2
        cut = slice(down, down + height), slice(across, across + width)
        runs = [
            np.ascontiguousarray(_on_lattice(ds, names, dims, part, lattice)[..., cut[0], cut[1]])
            for part in runs_of_times(times, max(block, 4) if block > 1 else 1, _RUNS if block > 1 else 2 * _RUNS)
        ]
        periodic = _is_periodic(ds, dims)
        factor = _turning(ds, dims)
        samples = SampleFields(
            runs,
            None if means is None else np.ascontiguousarray(means[:, cut[0], cut[1]]),
            None,
            None if factor is None else factor[cut[0]],
            periodic and width == header.shape[1],
        )
        choice = choose(samples, places, *lattice, block=min(block, times), times=times, access=access)
        table = choice.table
        whole = np.zeros(0, np.int32) if factor is None else np.rint(256 * factor).astype(np.int32)
        table = replace(table, factor=whole, periodic=np.array([periodic], np.uint8))
        statics = [b""] * len(places)
        for c, wanted in enumerate(choice.statics):
            if wanted and means is not None:
                values = (means[c] / FRACTION * step[c] + origin[c]).astype(np.float32)
                config = CodecConfig(bound=ErrorBound.absolute(step[c] / 4), model=model)
                statics[c] = encode_chunk(values, config)
        return cls(table.to_bytes(), pack_bundle(statics), choice.time_stride, seen.missing)


def _window(shape: tuple[int, int]) -> tuple[int, int]:
    """The part of a grid that is sampled: all rows if possible."""
    height = min(shape[0], 256)
    return height, min(shape[1], max(64, _LARGEST_SAMPLE // height))


def _on_lattice(
    ds: xr.Dataset, names: Sequence[str], dims: Dimensions, times: slice, lattice: tuple[Any, Any]
) -> npt.NDArray[np.float64]:
    """All channels at some times, on their nominal lattices, 0 where values are missing."""
    x = np.concatenate([channel_fields(ds.variables[name], dims, times).astype(np.float64) for name in names], axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        on = (x - lattice[0][:, None, None]) * (FRACTION / lattice[1][:, None, None])
    return np.where(np.isfinite(on), on, 0.0)


def _means(ds: xr.Dataset, names: Sequence[str], dims: Dimensions, times: int, lattice: Any) -> npt.NDArray[np.float64]:
    """The mean field of each channel over some times."""
    chosen = np.unique(np.linspace(0, times - 1, min(times, _STATIC_TIMES)).astype(int))
    total = sum(_on_lattice(ds, names, dims, slice(int(t), int(t) + 1), lattice)[0] for t in chosen)
    return np.asarray(total / len(chosen))


def _is_periodic(ds: xr.Dataset, dims: Dimensions) -> bool:
    """Whether the columns are longitudes once around."""
    if dims.columns not in ds.coords or ds[dims.columns].ndim != 1 or ds.sizes[dims.columns] < 8:
        return False
    x = ds[dims.columns]
    if "degree" not in str(x.attrs.get("units", "")).lower() and "lon" not in dims.columns.lower():
        return False
    steps = np.diff(x.values.astype(np.float64))
    return bool(np.allclose(steps, steps[0], rtol=1e-3) and abs(abs(steps[0]) * len(x) - 360) < 0.5 * abs(steps[0]))


def _turning(ds: xr.Dataset, dims: Dimensions) -> npt.NDArray[np.float64] | None:
    """sin(latitude) / (sin(latitude)**2 + 0.05) of each row: how wind follows from pressure; None without latitudes."""
    if dims.rows not in ds.coords or ds[dims.rows].ndim != 1:
        return None
    units = str(ds[dims.rows].attrs.get("units", "")).lower()
    if not (units.startswith("degree") or "lat" in dims.rows.lower()):
        return None
    sine = np.sin(np.deg2rad(ds[dims.rows].values.astype(np.float64)))
    return sine / (sine * sine + 0.05) if np.isfinite(sine).all() else None


def _write_metadata(
    ds: xr.Dataset, names: Sequence[str], location: Location, group: str, header: CubeHeader, model: Model, skeleton: _Skeleton
) -> zarr.Group:
    """Everything but the blocks, marked as incomplete from the first byte on."""
    container = new_container(model.digest, complete=False)
    lossy = ", ".join(f"{v.name} ({v.words})" for v in header.variables)
    attributes = with_history(ds.attrs, f"{IMPLEMENTATION}: latent cube of {lossy}")
    rest = ds.drop_vars(list(names)).assign_attrs({**attributes, CONTAINER: container.to_text()})
    meant = {name: cf_encoding(v) for name, v in rest.variables.items()}
    rest = rest.drop_encoding()
    for name, encoding in meant.items():
        rest[name].encoding = encoding
    with quiet():
        rest.to_zarr(location, group=group or None, mode="w", consolidated=False, zarr_format=3)
    root = open_root(location, "r+")
    if group:
        found = root[group]
        assert isinstance(found, zarr.Group)
        root = found
    carry_model(root, model)
    root.update_attributes({CUBE: header.to_text()})
    write_blob(root, "references", skeleton.table)
    write_blob(root, "statics", skeleton.statics)
    if len(skeleton.masks):
        write_masks(root, skeleton.masks)
    for variable in header.variables:
        add_refinement(root, header, variable, _TIMES_IN_SHARD)
    return root


@dataclass(slots=True)
class _Tally:
    statistics: ErrorStatistics
    stored: int = 0
    values: int = 0
    alone: int = 0
    guided: int = 0


class _Written:
    """What came of the blocks, by variable."""

    def __init__(self, header: CubeHeader) -> None:
        self.of = {v.name: _Tally(ErrorStatistics()) for v in header.variables}

    def variables(self, header: CubeHeader) -> tuple[CubeVariable, ...]:
        """The header's variables with the errors that were measured."""
        return tuple(
            replace(v, largest_error=self.of[v.name].statistics.max_abs, rmse=self.of[v.name].statistics.rmse)
            for v in header.variables
        )


class _Blocks:
    """Code blocks in a few threads, store them in order."""

    def __init__(
        self, ds: xr.Dataset, names: Sequence[str], dims: Dimensions, root: zarr.Group, header: CubeHeader, effort: Effort,
        verify: bool, progress: ProgressOption, only: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.ds, self.names, self.dims, self.root, self.header = ds, names, dims, root, header
        self.effort, self.verify, self.progress = effort, verify, progress
        self.only = set(only or names)
        self.reader = CubeReader(root)
        self.arrays = {v.name: refinement_array(root, v) for v in header.variables}
        self.tiles = [(r, c) for r in range(header.grid[0]) for c in range(header.grid[1])]
        self.coders = {tile: self.reader.coder(tile) for tile in self.tiles}

    def places(self, first_time: int) -> list[tuple[int, BlockPlace]]:
        """Blocks from a time on."""
        found, at = [], first_time
        while at < self.header.times:
            index, place = self.header.block_of(at)
            found.append((index, place))
            at = place.first + place.length
        return found

    def write(self, first_time: int) -> _Written:
        """Code and store all blocks from a time on; ``ds`` starts with that time."""
        written = _Written(self.header)
        places = self.places(first_time)
        runtime = current_runtime()
        total = sum(self.ds[n].nbytes for n in self.names)
        done = 0
        with reporting(self.progress, "writing") as advance, ThreadPoolExecutor(runtime.workers) as pool:
            waiting: list[tuple[BlockPlace, dict[str, Any], dict[Tile, Future[Any]]]] = []
            try:
                for _, place in places:
                    values = self._load(place, first_time)
                    jobs = {t: pool.submit(self._encode, t, place, values, runtime) for t in self.tiles}
                    waiting.append((place, values, jobs))
                    while len(waiting) > max(1, runtime.workers // len(self.tiles)):
                        done += self._store(*waiting.pop(0), written, advance, done, total)
                while waiting:
                    done += self._store(*waiting.pop(0), written, advance, done, total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return written

    def _load(self, place: BlockPlace, first_time: int) -> dict[str, npt.NDArray[Any]]:
        at = slice(place.first - first_time, place.first - first_time + place.length)
        return {name: channel_fields(self.ds.variables[name], self.dims, at) for name in self.names}

    def _encode(self, tile: Tile, place: BlockPlace, values: Mapping[str, npt.NDArray[Any]], runtime: Any) -> Any:
        rows, columns = self.header.tile_slices(tile)
        coder: BlockCoder = self.coders[tile]

        def field(t: int, channel: int) -> npt.NDArray[Any]:
            variable, own = self.reader.places[channel]
            found = values[variable.name]
            return np.ascontiguousarray(found[t, own, rows, columns])

        configs = {}
        if self.effort is not Effort.FAST:
            for c, spec in enumerate(coder.specs):
                configs[c] = CodecConfig(bound=spec.bound, model=coder.model, effort=self.effort)
        with using(runtime.device, runtime.threads):
            return coder.encode(place.length, field, None, configs)

    def _store(
        self, place: BlockPlace, values: Mapping[str, npt.NDArray[Any]], jobs: Mapping[Tile, Future[Any]], written: _Written,
        advance: Advance, done: int, total: int,
    ) -> int:  # fmt: skip
        coded = {tile: job.result() for tile, job in jobs.items()}
        size = 0
        for variable in self.header.variables:
            if variable.name not in self.only:
                continue
            first = self.header.first_channel[variable.name]
            bundles: list[dict[Tile, list[bytes]]] = []
            tally = written.of[variable.name]
            for t in range(place.length):
                frames = {tile: [coded[tile][t, first + c][0] for c in range(variable.channels)] for tile in self.tiles}
                bundles.append(dict(frames))
                for fields in frames.values():
                    tally.stored += len(pack_bundle(fields))
                    tally.alone += sum(f[0] == 0 for f in fields)
                    tally.guided += sum(f[0] != 0 for f in fields)
            write_bundles(self.arrays[variable.name], place.first, bundles)
        for variable in self.header.variables:  # only now, since variables look at each other
            if variable.name in self.only:
                size += self._check(variable, place, values[variable.name], coded, written.of[variable.name])
        advance(self.header.variables[-1].name, done + size, total)
        return size

    def _check(
        self, variable: CubeVariable, place: BlockPlace, original: npt.NDArray[Any], coded: Mapping[Tile, Any], tally: _Tally
    ) -> int:
        """Compare what a reader gets with the original, every value."""
        first = self.header.first_channel[variable.name]
        size = 0
        for tile in self.tiles:
            rows, columns = self.header.tile_slices(tile)
            keys = [(t, first + c) for t in range(place.length) for c in range(variable.channels)]
            if self.verify:
                index, _ = self.header.block_of(place.first)
                fields = self.reader.fields(index, place, tile, keys)
            else:
                fields = {key: coded[tile][key][1] for key in keys}
            for c in range(variable.channels):
                x = original[:, c, rows, columns]
                y = np.stack([fields[t, first + c].values for t in range(place.length)])
                tally.statistics = tally.statistics.merged(measure(x, y, variable.bound(c)))
                size += x.nbytes
                tally.values += x.size
        return size


def _report(location: Location, header: CubeHeader, written: _Written, seconds: float) -> Report:
    reports = []
    for v in header.variables:
        tally = written.of[v.name]
        modes = {name: n for name, n in (("guided", tally.guided), ("alone", tally.alone)) if n}
        reports.append(
            VariableReport(
                v.name, v.largest_bound, v.words, v.dtype, tally.values, tally.values * np.dtype(v.dtype).itemsize, tally.stored, True,
                tally.statistics, modes,
            )
        )  # fmt: skip
    return Report(place_of(location), tuple(reports), seconds)


def _shared_bytes(root: zarr.Group) -> int:
    """Bytes of what the variables of a cube share: skeleton, static fields, masks, latents."""
    total = 0
    for name in ("references", "statics", "masks"):
        array = root.get(f".latentzarr/cube/{name}")
        if isinstance(array, zarr.Array):
            total += int(array.nbytes_stored())
    return total


def _finish(location: Location, group: str, root: zarr.Group, header: CubeHeader, report: Report) -> None:
    """Record what was measured, consolidate, and as the very last write say that the store is complete."""
    container = new_container(header.model, complete=True)
    root.update_attributes({CUBE: header.to_text(), REPORT: replace(report, place="").to_json()})
    if group:
        with quiet():
            root.update_attributes({CONTAINER: container.to_text()})
            zarr.consolidate_metadata(open_root(location, "r+").store)
        return
    finish(location, {}, {CONTAINER: container.to_text()})
