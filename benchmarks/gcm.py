"""Cubes of latentzarr, to be read beside the classical codecs on the same cubes: bytes at a bound, what reading a part costs.

    python benchmarks/gcm.py --data FOLDER [--cubes test,hourly,erai] [--bounds 0.01,0.001] [--model FILE] [--quick]

FOLDER holds ``train.nc``, ``test.nc`` and ``hourly.nc`` of ``benchmarks/gcm_simulate.py``; ERA-Interim comes from the development
data. Stores are written with `latentzarr.to_cube`, opened with xarray, and every value compared; bytes are those of refinements,
reference table, static fields, masks and latents. The model's networks are not counted where they are the shipped ones. The
peers' rows come from ``benchmarks/cube_peers.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xarray as xr
import zarr

import latentzarr
from environment import machine
from latentzarr.dataset.cube_finish import shared_bytes
from latentzarr.dataset.cube_header import header_of
from latentzarr.dataset.report import Report

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cube-ours.json"
VARIABLES = ("u", "v", "t", "q", "z", "pr", "ps", "ts")


@dataclass(frozen=True, slots=True)
class Row:
    """One cube at one bound.

    Attributes
    ----------
    cube, bound, block, access, model : what was written
    raw, fields, shared : int
        Bytes as float32, of all bundles, of what is shared.
    by_variable : dict of str to float
        Ratio of each variable, nothing shared counted.
    encode, decode : float
        MB/s of float32, two threads, the check included in encoding.
    worst_bytes, worst_time : float
        Reading one variable at one time: its share of a block's bytes and decoding time, the worst of all variables and times.
    """

    cube: str
    bound: float
    block: int
    access: float
    model: str
    raw: int
    fields: int
    shared: int
    by_variable: dict[str, float]
    encode: float
    decode: float
    worst_bytes: float
    worst_time: float

    @property
    def ratio(self) -> float:
        """Everything counted."""
        return self.raw / (self.fields + self.shared)


def measure(
    name: str, ds: xr.Dataset, bound: float, block: int, access: float, model: latentzarr.Model | None, label: str
) -> Row:
    """Write a cube, open it, compare every value, and read parts of it."""
    ds = ds[[v for v in VARIABLES if v in ds]]
    with TemporaryDirectory() as folder:
        place = str(Path(folder) / "a.cube.zarr")
        bounds = {str(v): f"{100 * bound}% of level range" for v in ds.data_vars}
        started = time.perf_counter()
        report = latentzarr.to_cube(ds, place, bounds, model=model, block=block, access=access, progress=False)
        encode = time.perf_counter() - started
        assert isinstance(report, Report)
        root = zarr.open_group(place, mode="r")
        started = time.perf_counter()
        shown = xr.open_dataset(place, engine="latentzarr").load()
        decode = time.perf_counter() - started
        for v in ds.data_vars:
            extent = ds[v].max(ds[v].dims[-2:]).values, ds[v].min(ds[v].dims[-2:]).values
            axis = 0 if ds[v].dims[0] == "time" else None
            whole = (extent[0].max(axis) - extent[1].min(axis)) if axis == 0 else extent[0] - extent[1]
            allowed = bound * np.asarray(whole, np.float64)[..., None, None]
            error = np.abs(shown[v].values.astype(np.float64) - ds[v].values)
            assert (error <= allowed * (1 + 1e-7)).all(), f"{v} breaks its bound"
        stored = {v.name: v.stored for v in report.variables}
        access_bytes, access_time = parts(place)
        raw = sum(ds[v].nbytes for v in ds.data_vars)
        return Row(
            name, bound, block, access, label, raw, sum(stored.values()), shared_bytes(root),
            {str(v): round(ds[v].nbytes / stored[str(v)], 1) for v in ds.data_vars},
            raw / encode / 1e6, raw / decode / 1e6, access_bytes, access_time,
        )  # fmt: skip


def parts(place: str) -> tuple[float, float]:
    """Shares of bytes and time that reading one variable at one time of the first block takes, the worst of all."""
    from latentzarr.dataset.cube_reader import CubeReader

    group = zarr.open_group(place, mode="r")
    header = header_of(group.attrs.asdict())
    assert header is not None
    _, first = header.block_of(0)
    everything = [(t, c) for t in range(first.length) for c in range(header.channels)]

    def read(keys: list[tuple[int, int]]) -> tuple[float, int]:
        reader = CubeReader(group, 0)
        coder = reader.coder((0, 0))
        touched = {(visit.slice, reader.places[c][0].name) for visit, c in coder.needed(first.length, keys)}
        reader.fields(0, first, (0, 0), keys)  # reads tables and static fields, and warms up
        started = time.perf_counter()
        reader.fields(0, first, (0, 0), keys)
        spent = time.perf_counter() - started
        return spent, sum(sizes[key] for key in touched)

    sizes = _bundle_sizes(group, header, first.length)
    whole = min(read(everything)[0] for _ in range(2)), sum(sizes.values())
    worst_bytes = worst_time = 0.0
    for v in header.variables:
        at = header.first_channel[v.name]
        for t in range(first.length):
            spent, touched = read([(t, at + c) for c in range(v.channels)])
            worst_bytes, worst_time = max(worst_bytes, touched / whole[1]), max(worst_time, spent / whole[0])
    return worst_bytes, worst_time


def _bundle_sizes(group: zarr.Group, header, times: int) -> dict[tuple[int, str], int]:  # type: ignore[no-untyped-def]
    """Bytes of each bundle of a block."""
    from latentzarr.dataset.cube_layout import read_bundle_at, refinement_array

    arrays = {v.name: refinement_array(group, header, v) for v in header.variables}
    return {
        (t, v.name): sum(len(f) for f in read_bundle_at(arrays[v.name], t, (0, 0), v.channels))
        for t in range(times)
        for v in header.variables
    }


def cases(arguments: argparse.Namespace) -> list[tuple[str, xr.Dataset, int, float]]:
    """Name, data, block and access of each cube."""
    found = []
    for name in arguments.cubes.split(","):
        if name == "erai":
            found.append((name, xr.open_dataset(arguments.erai).load(), 1, 0.3))
            continue
        ds = xr.open_dataset(arguments.data / f"{name}.nc")
        ds = ds.isel(time=slice(0, 16 if arguments.quick else ds.sizes["time"] // 8 * 8)).load()
        blocks = (1, 8) if name == "test" else (8, 24)
        found += [(name, ds, block, 0.3) for block in blocks]
        if name == "test" and not arguments.quick:
            found.append((name, ds, 8, 1.0))
    return found


def main() -> None:
    """Measure, keep the rows, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--erai", type=Path, default=Path("../shared/data/atmosphere/erai_pl_20050801.nc"))
    parser.add_argument("--cubes", default="test,hourly,erai")
    parser.add_argument("--bounds", default="0.01,0.001")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    model = latentzarr.load_model(arguments.model) if arguments.model else None
    label = arguments.model.stem if arguments.model else "shipped"
    known = [Row(**row) for row in json.loads(RESULTS.read_text())["rows"]] if RESULTS.exists() else []
    print("| cube | bound | block | access | networks | ratio | without shared | encode | decode | one variable at a time |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for bound in (float(b) for b in arguments.bounds.split(",")):
        for name, ds, block, access in cases(arguments):
            row = measure(name, ds, bound, block, access, model, label)
            same = (row.cube, row.bound, row.block, row.access, row.model)
            known = [k for k in known if (k.cube, k.bound, k.block, k.access, k.model) != same] + [row]
            if not arguments.quick:
                kept = {"machine": machine(("numpy", "zarr", "xarray")), "rows": [asdict(k) for k in known]}
                RESULTS.write_text(json.dumps(kept, indent=1))
            print(
                f"| {name} | {bound:g} | {block} | {access:g} | {label} | {row.ratio:.2f} | {row.raw / row.fields:.2f} "
                f"| {row.encode:.1f} | {row.decode:.1f} | {row.worst_bytes:.2f}, {row.worst_time:.2f} |",
                flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
