"""Code the blocks of a cube in a few threads, store them in order, and compare what a reader gets with what was given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from latentzarr.bounds import ErrorBound
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.runtime import current_runtime, using
from latentzarr.cube.block import BlockCoder, Key
from latentzarr.cube.bundle import pack_bundle
from latentzarr.cube.field import DecodedField
from latentzarr.dataset.cube_header import BlockPlace, CubeHeader, CubeVariable
from latentzarr.dataset.cube_layout import read_bundle_at, refinement_array, write_bundles
from latentzarr.dataset.cube_reader import CubeReader
from latentzarr.dataset.cube_survey import Dimensions, fields_of
from latentzarr.dataset.parallel import Advance, ProgressOption, reporting
from latentzarr.metrics import ErrorStatistics, infill, measure

__all__ = ["STORED_TIMES", "BlockWriter", "Tally", "Written"]

STORED_TIMES = "latentzarr_cube_stored"
"""Name of the group attribute that counts the times stored so far, while a cube is written."""

Tile = tuple[int, int]


@dataclass(slots=True)
class Tally:
    """What was counted and measured of a variable."""

    statistics: ErrorStatistics
    stored: int = 0
    values: int = 0
    alone: int = 0
    guided: int = 0


class Written:
    """What came of the blocks, by variable."""

    def __init__(self, header: CubeHeader) -> None:
        self.of = {v.name: Tally(ErrorStatistics()) for v in header.variables}

    def variables(self, header: CubeHeader) -> tuple[CubeVariable, ...]:
        """The header's variables with the errors that were measured."""
        return tuple(self._measured(v) for v in header.variables)

    def _measured(self, v: CubeVariable) -> CubeVariable:
        statistics = self.of[v.name].statistics
        if not statistics.finite and not math.isnan(v.largest_error):
            return v
        largest, rmse = statistics.max_abs, statistics.rmse
        if not math.isnan(v.largest_error):  # blocks that were there before
            largest, rmse = max(largest, v.largest_error), math.nan
        bounds = v.bounds if v.refinement else (ErrorBound.none(rmse if rmse > 0 else 1e-300),)
        return replace(v, largest_error=largest, rmse=rmse, bounds=bounds)


class BlockWriter:
    """Code blocks in a few threads, store them in order."""

    def __init__(
        self, ds: xr.Dataset, names: Sequence[str], dims: Dimensions, root: zarr.Group, header: CubeHeader, effort: Effort,
        verify: bool, progress: ProgressOption, only: Sequence[str] | None = None, before: CubeReader | None = None,
    ) -> None:  # fmt: skip
        self.latents, self.before = before is None and bool(header.basis), before
        self.ds, self.names, self.dims, self.root, self.header = ds, names, dims, root, header
        self.effort, self.verify, self.progress = effort, verify, progress
        self.only = set(only or names)
        self.reader = CubeReader(root, header=header)
        self.refined = any(v.refinement for v in header.variables)
        self.arrays = {v.name: refinement_array(root, header, v) for v in header.variables if v.refinement}
        self.tiles = [(r, c) for r in range(header.grid[0]) for c in range(header.grid[1])]
        self.coders = {tile: self.reader.coder(tile) for tile in self.tiles} if self.refined else {}

    def places(self, first_time: int) -> list[tuple[int, BlockPlace]]:
        """Blocks from a time on."""
        found, at = [], first_time
        while at < self.header.times:
            index, place = self.header.block_of(at)
            found.append((index, place))
            at = place.first + place.length
        return found

    def write(self, first_time: int, stored: int = 0) -> Written:
        """Code and store all blocks from a time on.

        Parameters
        ----------
        first_time : int
            ``ds`` starts with it.
        stored : int
            Times that an earlier write stored already: they are compared with the data, and kept.

        Raises
        ------
        FormatError
            If what was stored is damaged.
        """
        written = Written(self.header)
        places = self.places(first_time)
        runtime = current_runtime()
        total = sum(self.ds[n].nbytes for n in self.names)
        done = 0
        with reporting(self.progress, "writing") as advance, ThreadPoolExecutor(runtime.workers) as pool:
            waiting: list[tuple[BlockPlace, dict[str, Any], dict[Tile, Future[Any]]]] = []
            try:
                for index, place in places:
                    values = self._load(place, first_time)
                    if place.first + place.length <= stored:
                        done += self._keep(place, values, written, advance, done, total)
                        continue
                    if self.latents:
                        self._write_latents(index, place, values)
                    jobs = {t: pool.submit(self._encode, t, place, values, runtime) for t in self.tiles if self.refined}
                    waiting.append((place, values, jobs))
                    while len(waiting) > max(1, runtime.workers // len(self.tiles)):
                        done += self._store(*waiting.pop(0), written, advance, done, total)
                while waiting:
                    done += self._store(*waiting.pop(0), written, advance, done, total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return written

    def _keep(
        self, place: BlockPlace, values: Mapping[str, npt.NDArray[Any]], written: Written, advance: Advance, done: int, total: int
    ) -> int:
        """Compare a block that is stored already."""
        size = 0
        for variable in self.header.variables:
            tally = written.of[variable.name]
            for t in range(place.length if variable.refinement else 0):
                for tile in self.tiles:
                    found = read_bundle_at(self.arrays[variable.name], place.first + t, tile, variable.channels)
                    tally.stored += len(pack_bundle(found))
                    tally.alone += sum(f[:1] == b"\0" for f in found)
                    tally.guided += sum(f[:1] != b"\0" for f in found)
            size += self._check(variable, place, values[variable.name], None, tally)
        advance(self.header.variables[-1].name, done + size, total)
        return size

    def _write_latents(self, index: int, place: BlockPlace, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Latents of a block, made from all its channels; gaps are filled in smoothly."""
        base = self.reader.base
        assert base is not None
        every = np.zeros((place.length, len(base.basis.channels), *self.header.shape))
        for channel, of_base in enumerate(self.header.latent_channels):
            variable, own = self.reader.places[channel]
            for t in range(place.length):
                every[t, of_base] = infill(values[variable.name][t, own])
        base.arrays.write(index, place, base.basis.encode(every, tuple(sorted(self.header.latent_channels))))

    def _load(self, place: BlockPlace, first_time: int) -> dict[str, npt.NDArray[Any]]:
        at = slice(place.first - first_time, place.first - first_time + place.length)
        return fields_of(self.ds, self.names, self.dims, at)

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
            known = self._kept(tile, place)
            return coder.encode(place.length, field, self.reader.base_of(place, tile), configs, known)

    def _kept(self, tile: Tile, place: BlockPlace) -> dict[Key, DecodedField]:
        """Fields that are stored already and stay as they are, as a reader has them."""
        if self.before is None:
            return {}
        kept = [c for c, (v, _) in enumerate(self.reader.places) if v.name not in self.only]
        index, _ = self.header.block_of(place.first)
        return self.before.fields(index, place, tile, [(t, c) for t in range(place.length) for c in kept])

    def _store(
        self, place: BlockPlace, values: Mapping[str, npt.NDArray[Any]], jobs: Mapping[Tile, Future[Any]], written: Written,
        advance: Advance, done: int, total: int,
    ) -> int:  # fmt: skip
        coded = {tile: job.result() for tile, job in jobs.items()}
        size = 0
        for variable in self.header.variables:
            if variable.name not in self.only or not variable.refinement:
                continue
            first = self.header.first_channel[variable.name]
            bundles: list[dict[Tile, Sequence[bytes]]] = []
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
        if self.before is None:  # else the cube stays as it is until its header changes
            self.root.attrs[STORED_TIMES] = place.first + place.length
        advance(self.header.variables[-1].name, done + size, total)
        return size

    def _check(
        self,
        variable: CubeVariable,
        place: BlockPlace,
        original: npt.NDArray[Any],
        coded: Mapping[Tile, Any] | None,
        tally: Tally,
    ) -> int:
        """Compare what a reader gets with the original, every value."""
        first = self.header.first_channel[variable.name]
        size = 0
        for tile in self.tiles:
            rows, columns = self.header.tile_slices(tile)
            keys = [(t, first + c) for t in range(place.length) for c in range(variable.channels)]
            if self.verify or coded is None or not variable.refinement:
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
