"""Speed and memory of the codec on this machine: importing, the first decode, megabytes a second, peak memory of a chunk.

    python benchmarks/speed.py [--data ../shared/data] [--out benchmarks/results] [--efforts fast,normal,max]

Every figure is a median; SZ3 is timed beside us in the same run, since the machine itself may be noisy. Megabytes are those of
the decoded array. With two threads each works on its own chunk, as zarr's and Dask's pools do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from environment import commit, machine
from latentzarr import CodecConfig, LatentCodec, decode_chunk, encode_chunk
from latentzarr.bitstream.frame import read_header
from peers import Sz3

ROUNDS = 7


def chunks_of(data: Path) -> dict[str, np.ndarray]:
    """Chunks of fields the shipped model never saw."""
    with xr.open_dataset(data / "atmosphere/era5_t_global.nc") as ds:
        field = ds.t.values.reshape(721, 1440)
    with xr.open_dataset(data / "atmosphere/monthly_t_2015.nc", decode_times=False) as ds:
        steps = ds.t.values[:8, 0, :180, :256]
    return {
        "8 x 256 x 256": _moving(field),
        "8 x 180 x 256": np.ascontiguousarray(steps),
        "1 x 256 x 256": np.ascontiguousarray(field[200:456, 300:556]),
        "1 x 721 x 1440": np.ascontiguousarray(field),
        "1 x 64 x 64": np.ascontiguousarray(field[200:264, 300:364]),
    }


def _moving(field: np.ndarray) -> np.ndarray:
    """Eight windows of a map, each three cells further east than the last: a stack of 256 x 256, which the data has none of."""
    return np.stack([field[200:456, 300 + 3 * k : 556 + 3 * k] for k in range(8)])


def rate(work: Callable[[], object], nbytes: int, threads: int) -> float:
    """Median megabytes a second of ``threads`` threads doing ``work`` over and over."""
    repeats = max(1, int(4e6 // nbytes))

    def several(_: int) -> None:
        for _ in range(repeats):
            work()

    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(several, range(threads)))
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            list(pool.map(several, range(threads)))
            seconds.append(time.perf_counter() - begun)
    return threads * repeats * nbytes / statistics.median(seconds) / 1e6


def fresh(code: str) -> float:
    """Seconds that ``code`` prints in a fresh process; median of five."""
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(5)
    ]
    return statistics.median(runs)


def start_up(frame: Path) -> dict[str, float]:
    """Import time over zarr's, and the first decode of a fresh process."""
    importing = "import time, zarr; t = time.perf_counter(); import latentzarr; print(time.perf_counter() - t)"
    decoding = (
        "import latentzarr, time, pathlib; t = time.perf_counter(); "
        f"latentzarr.decode_chunk(pathlib.Path({str(frame)!r}).read_bytes()); print(time.perf_counter() - t)"
    )
    return {"import over zarr, s": fresh(importing), "first decode after import, s": fresh(decoding)}


def peak_memory(frame: Path) -> float:
    """Peak memory that decoding takes, in sizes of the chunk: what NumPy allocates, traced; the kernels' own scratch is fixed."""
    code = (
        "import latentzarr, pathlib, tracemalloc; "
        f"data = pathlib.Path({str(frame)!r}).read_bytes(); x = latentzarr.decode_chunk(data); n = x.nbytes; del x; "
        "tracemalloc.start(); latentzarr.decode_chunk(data); print(tracemalloc.get_traced_memory()[1] / n)"
    )
    return fresh(code)


def _ours(name: str, chunk: np.ndarray, relative: float, config: CodecConfig, scratch: Path) -> dict[str, Any]:
    frame = encode_chunk(chunk, config)
    mode = read_header(frame).mode.name.lower()
    row: dict[str, Any] = {"chunk": name, "bound": relative, "effort": str(config.effort), "mode": mode}
    row["ratio"] = chunk.nbytes / len(frame)
    for threads in (1, 2):
        row[f"encode MB/s, {threads} threads"] = rate(partial(encode_chunk, chunk, config), chunk.nbytes, threads)
        row[f"decode MB/s, {threads} threads"] = rate(partial(decode_chunk, frame), chunk.nbytes, threads)
    path = scratch / f"{name.replace(' ', '')}-{relative:g}.frame"
    path.write_bytes(frame)
    row["peak memory of decoding, chunks"] = peak_memory(path)
    return row


def measure(data: Path, scratch: Path, efforts: list[str]) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {"commit": commit(), "machine": machine(("numpy", "numba", "zarr", "pysz")), "rates": []}
    sz3 = Sz3()
    for name, chunk in chunks_of(data).items():
        for relative in (1e-2, 1e-3):
            bound = relative * float(np.ptp(chunk))
            row: dict[str, Any] = {"chunk": name, "bound": relative, "effort": "SZ3"}
            there = np.ones(chunk.shape, bool)
            packed = sz3.encode(chunk, there, bound)
            row["ratio"] = chunk.nbytes / len(packed)
            row["encode MB/s, 1 threads"] = rate(partial(sz3.encode, chunk, there, bound), chunk.nbytes, 1)
            row["decode MB/s, 1 threads"] = rate(partial(sz3.decode, packed, chunk.shape, chunk.dtype), chunk.nbytes, 1)
            found["rates"].append(row)
            print(json.dumps(row), flush=True)
            for effort in efforts:
                codec = LatentCodec(absolute=bound, effort=effort)
                row = _ours(name, chunk, relative, codec.config, scratch)
                found["rates"].append(row)
                print(json.dumps(row), flush=True)
    found["start"] = start_up(scratch / "1x256x256-0.01.frame")
    print(json.dumps(found["start"]))
    return found


def main() -> None:
    """Measure, print, and keep a dated result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LATENTZARR_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--efforts", default="fast,normal,max")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scratch = options.out / "scratch"
    scratch.mkdir(exist_ok=True)
    found = measure(options.data, scratch, options.efforts.split(","))
    for file in scratch.iterdir():
        file.unlink()
    scratch.rmdir()
    target = options.out / f"{time.strftime('%Y-%m-%d')}-speed.json"
    target.write_text(json.dumps(found, indent=2) + "\n")
    print(f"kept in {target}")


if __name__ == "__main__":
    main()
