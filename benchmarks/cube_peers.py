"""What classical codecs reach on a cube under a bound, each variable by its best codec in its best shape, for one unit of access.

    python benchmarks/cube_peers.py gcm/test.nc gcm/hourly.nc --fractions 1e-2 1e-3
    python benchmarks/cube_peers.py atmosphere/erai_pl_20050801.nc

The unit is what has to be read together: one time of a variable, or blocks of 8, 24 or 28 times. At a unit of n times every
layout of at most n times counts. Favours to the codecs: levels are centred and scaled so that one bound serves all, and the
numbers needed to undo that are not counted; nor are lengths and headers of a container. Every value is checked on decoding; a
codec whose bound breaks by a hair is asked again with a slightly smaller one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cube_codecs import CODECS, CubeCodec
from cube_layouts import LAYOUTS, Layout
from cube_rows import CubeRow, Record
from cube_tables import bounded_tables
from cubes import Cube, Levels, load_cube
from measure import TIGHTER

__all__ = ["Coded", "code", "main", "rounds"]

Array = npt.NDArray[Any]

RESULTS = Path(__file__).parent / "results"
UNITS = {"test": (56, (1, 8, 28)), "hourly": (96, (1, 8, 24))}
"""Times taken of a cube, and its units of access; of other cubes all times, one by one."""

FAILURES = (ValueError, RuntimeError, MemoryError, TypeError, OSError)


class Coded(NamedTuple):
    """A block: its bytes, what they decode to, and the seconds both took."""

    size: int
    values: Array
    encode: float
    decode: float


def rounds(
    codecs: Sequence[CubeCodec], shape: tuple[int, ...], lengths: Sequence[int]
) -> Iterator[tuple[CubeCodec, Layout, int]]:
    """Codecs, layouts and block lengths that a variable of shape (times, levels, rows, columns) can be tried with."""
    for codec in codecs:
        for layout in LAYOUTS:
            for length in lengths:
                block = (length, *shape[1:])
                if length <= shape[0] and layout.fits(block):
                    part = layout.cut(np.empty(block, np.float32))[0]
                    if codec.takes(layout, part.shape):
                        yield codec, layout, length


def code(codec: CubeCodec, layout: Layout, scaled: Array, bound: float) -> Coded:
    """Encode and decode a scaled block of shape (times, levels, rows, columns) in a layout, under one bound."""
    parts = layout.cut(scaled)
    started = time.perf_counter()
    data = [codec.encode(part, bound) for part in parts]
    encoded = time.perf_counter()
    decoded = [codec.decode(d, p.shape) for d, p in zip(data, parts, strict=True)]
    finished = time.perf_counter()
    return Coded(sum(len(d) for d in data), layout.join(decoded, scaled.shape), encoded - started, finished - encoded)


def _within(codec: CubeCodec, layout: Layout, block: Array, levels: Levels, bounds: Array) -> tuple[Coded, float, float]:
    """The first try that holds the bound of every level, its largest error over the bound, and the factor asked for."""
    scaled = ((block - levels.mean) / bounds).astype(np.float32)
    for factor in TIGHTER:
        coded = code(codec, layout, scaled, factor)
        restored = (coded.values.astype(np.float64) * bounds + levels.mean).astype(np.float32)
        error = float((np.abs(restored.astype(np.float64) - block) / bounds).max())
        if error <= 1.0:
            return coded, error, factor
    raise ValueError(f"bound broken {error:.3g}-fold even at {TIGHTER[-1]} of it")


def bounded(cube: Cube, name: str, fraction: float, codec: CubeCodec, layout: Layout, length: int) -> CubeRow:
    """All blocks of a variable at a bound of ``fraction`` of each level's range."""
    values, levels = cube.variables[name], cube.levels[name]
    bounds = np.maximum(fraction * levels.extent, np.finfo(np.float32).tiny)
    size, error, factor, encode, decode, status = 0, 0.0, 1.0, 0.0, 0.0, "ok"
    for start in range(0, cube.steps, length):
        try:
            coded, broken, asked = _within(codec, layout, values[start : start + length], levels, bounds)
        except FAILURES as problem:
            status = f"{type(problem).__name__}: {problem}"[:100].replace("\n", " ")
            break
        size, error, factor = size + coded.size, max(error, broken), min(factor, asked)
        encode, decode = encode + coded.encode, decode + coded.decode
    return CubeRow(
        cube=cube.name, digest=cube.digests[name], steps=cube.steps, target=f"range {fraction:g}", variable=name,
        family=codec.family, codec=codec.name, version=codec.version, layout=layout.name, length=length,
        planes=values.shape[0] * values.shape[1], raw=values.nbytes, encoded=size, error=round(error, 6), tightened=factor,
        encode_mb_s=round(values.nbytes / 1e6 / encode, 1) if encode else 0.0,
        decode_mb_s=round(values.nbytes / 1e6 / decode, 1) if decode else 0.0, status=status,
    )  # fmt: skip


def main() -> None:
    """Measure what is not known, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="cubes as NetCDF; none: only write the tables anew")
    parser.add_argument("--fractions", type=float, nargs="+", default=[1e-2, 1e-3])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    record = Record(options.out / "cube-peers.csv")
    for path in options.files:
        steps, lengths = UNITS.get(path.stem, (None, (1,)))
        cube = load_cube(path, steps)
        for fraction in options.fractions:
            for name, values in cube.variables.items():
                for codec, layout, length in rounds(CODECS, values.shape, lengths):
                    same = (cube.name, cube.digests[name], cube.steps, f"range {fraction:g}", name)
                    if record.has(*same, codec.name, codec.version, layout.name, length):
                        continue
                    row = bounded(cube, name, fraction, codec, layout, length)
                    record.add(row)
                    ratio = f"{row.raw / row.encoded:.2f}" if row.status == "ok" else row.status
                    print(
                        f"{cube.name} {fraction:g} {name:3s} {codec.name:16s} {layout.name:15s} {length:2d} {ratio}", flush=True
                    )
    for path in bounded_tables(record, options.out):
        print(path.read_text())


if __name__ == "__main__":
    main()
