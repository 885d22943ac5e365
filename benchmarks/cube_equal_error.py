"""What classical codecs need on a cube where no bound is asked, only a mean square error: the regime of latents alone.

    python benchmarks/cube_equal_error.py gcm/test.nc --train gcm/train.nc [--targets 4e-4 1e-2]

Neural compressors of weather quote bits per value at a normalised mean square error. Here every level of every variable is
brought to the same one: weighted by area, over the variance of that level in the training period. SZ3 gets there by its bound,
SPERR by its target of mean square error, each level by a scale of its own that is searched until it is within 2 % (the numbers
needed to undo the scaling are not counted). Layouts and units of access are those of cube_peers.py.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cube_codecs import CubeCodec, SperrCube, Sz3Cube
from cube_layouts import Layout
from cube_peers import FAILURES, RESULTS, UNITS, code, rounds
from cube_rows import CubeRow, Record
from cube_tables import equal_error_tables
from cubes import Cube, load_cube
from latentzarr.area import latitude_weights

__all__ = ["brought_to", "main", "variances"]

Array = npt.NDArray[Any]

CODECS: tuple[CubeCodec, ...] = (
    Sz3Cube(),
    Sz3Cube("INTERP"),
    SperrCube(mean_square=True),
    SperrCube(padded=True, mean_square=True),
)
TOLERANCE = 0.02
TRIES = 14
SLOPES = (0.5, 2.5)
"""Of log error against log scale; 2 where quanta are small, less where most of the field is below them."""


def variances(train: Cube) -> dict[str, Array]:
    """Of each level, by area, over all times: arrays of shape (levels,) in squared units of the data."""
    weights = latitude_weights(train.latitude)
    found = {}
    for name, values in train.variables.items():
        x = values.astype(np.float64)
        mean = (weights * x).mean(axis=(0, 2, 3), keepdims=True)
        found[name] = (weights * (x - mean) ** 2).mean(axis=(0, 2, 3))
    return found


def brought_to(target: float, trial: Callable[[Array], tuple[int, Array]], levels: int) -> tuple[int, Array]:
    """Bytes and errors of scales at which every level's error is ``target``, within the tolerance.

    Where none are found, since a codec changes its mind between two scales, the fewest bytes of those that stay below; where none
    do, the nearest.

    Parameters
    ----------
    target : float
        Normalised mean square error.
    trial : callable
        From scales of shape (levels,) to bytes and normalised mean square errors of shape (levels,); scale 1 is a first guess,
        larger ones err more.
    levels : int

    Returns
    -------
    size : int
    errors : array of shape (levels,)
    """
    scales, slopes = np.zeros(levels), np.full(levels, 1.6)  # logarithms
    before: tuple[Array, Array] | None = None
    chosen: tuple[tuple[bool, float], int, Array] | None = None
    for _ in range(TRIES):
        size, errors = trial(np.exp(scales))
        off = np.log(np.maximum(errors, 1e-12) / target)
        worst = float(np.abs(np.expm1(off)).max())
        below = bool((errors <= (1 + TOLERANCE) * target).all())
        rank = (not below, size if below else worst) if worst > TOLERANCE else (False, -1.0)
        if chosen is None or rank < chosen[0]:
            chosen = rank, size, errors
        if worst <= TOLERANCE:
            break
        if before is not None:
            step = scales - before[0]
            moved = np.abs(step) > 1e-9
            measured = np.divide(off - before[1], step, out=slopes.copy(), where=moved)
            slopes = np.where(moved, np.clip(measured, *SLOPES), slopes)
        before = scales.copy(), off
        wrong = np.abs(np.expm1(off)) > TOLERANCE / 4
        scales = scales - np.where(wrong, np.clip(off, -1.5, 1.5) / slopes, 0.0)
    assert chosen is not None
    return chosen[1], chosen[2]


def equal_error(cube: Cube, name: str, variance: Array, target: float, codec: CubeCodec, layout: Layout, length: int) -> CubeRow:
    """All blocks of a variable at a normalised mean square error."""
    values, levels = cube.variables[name], cube.levels[name]
    weights = latitude_weights(cube.latitude)
    deviation = np.sqrt(variance)[:, None, None]
    bound = math.sqrt(target) * (1.0 if isinstance(codec, SperrCube) else math.sqrt(3.0))

    def trial(scales: Array) -> tuple[int, Array]:
        size, squares = 0, np.zeros(len(scales))
        unit = deviation * scales[:, None, None]
        for start in range(0, cube.steps, length):
            block = values[start : start + length]
            coded = code(codec, layout, ((block - levels.mean) / unit).astype(np.float32), bound)
            size += coded.size
            error = coded.values.astype(np.float64) * unit + levels.mean - block
            squares += (weights * error**2).mean(axis=(2, 3)).sum(axis=0)
        return size, squares / cube.steps / variance

    status = "ok"
    try:
        size, errors = brought_to(target, trial, values.shape[1])
        worst = float(errors.max() / target) if errors.max() > (1 + TOLERANCE) * target else float(errors.min() / target)
    except FAILURES as problem:
        size, worst, status = 0, 0.0, f"{type(problem).__name__}: {problem}"[:100].replace("\n", " ")
    if status == "ok" and worst > 1 + TOLERANCE:
        status = f"a level stays at {worst:.3g} of the error"
    return CubeRow(
        cube=cube.name, digest=cube.digests[name], steps=cube.steps, target=f"nmse {target:g}", variable=name,
        family=codec.family, codec=codec.name, version=codec.version, layout=layout.name, length=length,
        planes=values.shape[0] * values.shape[1], raw=values.nbytes, encoded=size, error=round(worst, 4), tightened=1.0,
        encode_mb_s=0.0, decode_mb_s=0.0, status=status,
    )  # fmt: skip


def _measure(cube: Cube, spread: dict[str, Array], targets: Sequence[float], lengths: Sequence[int], record: Record) -> None:
    for target in targets:
        for name, values in cube.variables.items():
            for codec, layout, length in rounds(CODECS, values.shape, lengths):
                same = (cube.name, cube.digests[name], cube.steps, f"nmse {target:g}", name)
                if record.has(*same, codec.name, codec.version, layout.name, length):
                    continue
                row = equal_error(cube, name, spread[name], target, codec, layout, length)
                record.add(row)
                bits = f"{8 * row.encoded / (row.raw / 4):.4f} bits a value at {row.error:.3f} of {target:g}, {row.status}"
                print(f"{cube.name} {name:3s} {codec.name:18s} {layout.name:15s} {length:2d} {bits}", flush=True)


def main() -> None:
    """Measure what is not known, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="cubes as NetCDF; none: only write the table anew")
    parser.add_argument("--train", type=Path, help="the period whose variances count")
    parser.add_argument("--targets", type=float, nargs="+", default=[1e-2, 4e-4])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    record = Record(options.out / "cube-equal-error.csv")
    if options.files:
        spread = variances(load_cube(options.train))
        for path in options.files:
            _measure(load_cube(path, UNITS.get(path.stem, (None,))[0]), spread, options.targets, options.lengths, record)
    for path in equal_error_tables(record, options.out):
        print(path.read_text())


if __name__ == "__main__":
    main()
