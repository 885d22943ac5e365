"""What a cube's latents alone cost at a wanted mean square error, no bound on single values: real bytes, several codes.

    python benchmarks/cube_latents.py --train gcm/train.nc --test gcm/test.nc --block 8 --access 0
    python benchmarks/cube_latents.py --train gcm/train.nc --slow gcm/hourly.nc --first 48 --test gcm/hourly.nc --access 0

The error is that of each variable and level over its variance in the training period, by area, averaged over all of them. The
base is fitted to the training period; what is slow in hourly data is learned from the first hours of ``--slow``, and only later
ones are coded. The quantum is moved until the error is within 1 % of the wanted one.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.bitstream import lossless
from latentzarr.bounds import ErrorBound
from latentzarr.codec.chunk import encode_chunk
from latentzarr.codec.config import CodecConfig
from latentzarr.cube.basis import BlockLatents, JointBasis
from latentzarr.cube.basis_file import build_basis
from latentzarr.cube.channels import ChannelTable, VariableDescription
from latentzarr.cube.fit import fit_basis, step_pair
from latentzarr.cube.latent_code import encode_latents

__all__ = ["load", "main"]

Floats = npt.NDArray[np.float64]


def load(path: Path) -> tuple[Floats, xr.Dataset]:
    """All variables with a time axis as channels, (times, channels, rows, columns), and the data set."""
    ds = xr.open_dataset(path).load()
    found = [ds[n].values.astype(np.float64) for n in ds.data_vars if "time" in ds[n].dims]
    return np.concatenate([v if v.ndim == 4 else v[:, None] for v in found], 1), ds


def _described(ds: xr.Dataset, fields: Floats, weights: Floats) -> ChannelTable:
    mean = (fields * weights[:, None]).mean((0, 2, 3))
    std = np.sqrt(((fields - mean[:, None, None]) ** 2 * weights[:, None]).mean((0, 2, 3)))
    variables, at = [], 0
    for name in (str(n) for n in ds.data_vars if "time" in ds[n].dims):
        levels: list[float] = ds["level"].values.tolist() if "level" in ds[name].dims else []
        here = slice(at, at + max(len(levels), 1))
        about: dict[str, Any] = dict(ds["level"].attrs)
        variables.append(
            VariableDescription(name, ds[name].attrs, mean[here].tolist(), std[here].tolist(), levels, about, "level")
        )
        at = here.stop
    return ChannelTable.of(variables)


def _coded(basis: JointBasis, fields: Floats, starts: list[int], weights: Floats) -> tuple[float, list[BlockLatents]]:
    """Normalised mean square error, and the latents of the blocks."""
    every, errors, latents = range(len(basis.channels)), [], []
    for start in starts:
        block = fields[start : start + basis.block]
        coded = basis.encode(block, tuple(every), weights)
        latents.append(coded)
        for time, field in enumerate(block):
            rows, columns = field.shape[1:]
            values = basis.values(basis.decode(coded.common, coded.specific[time], every, rows, columns, time), every)
            errors.append((((values - field) / basis.arrays.scale[:, None, None]) ** 2 * weights[:, None]).mean())
    return float(np.mean(errors)), latents


def _bytes(latents: list[BlockLatents]) -> dict[str, int]:
    config, blosc = CodecConfig(ErrorBound.lossless()), numcodecs.Blosc("zstd", 9, numcodecs.Blosc.BITSHUFFLE)
    parts = [p.astype(np.int16) for b in latents for p in (b.common, b.specific)]
    common = sum(len(encode_latents(b.common[None])) for b in latents)
    return {
        "latent code": common + sum(len(encode_latents(b.specific)) for b in latents),
        "latent code, times alone": common + sum(len(encode_latents(s[None])) for b in latents for s in b.specific),
        "frames": sum(len(encode_chunk(p, config)) for p in parts),
        "pcodec": sum(len(lossless.compress(p.ravel())) for p in parts),
        "zstd": sum(len(blosc.encode(np.ascontiguousarray(p))) for p in parts),
    }


def main() -> None:
    """Fit, code, print a line for each code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--train", "--test"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--slow", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--block", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=3)
    for name, default in (("--error", 1e-2), ("--access", 1.0)):
        parser.add_argument(name, type=float, default=default)
    parser.add_argument("--groups", action="store_true", help="a group of specific latents for each variable, not one for all")
    options = parser.parse_args()
    train, ds = load(options.train)
    weights = np.cos(np.deg2rad(ds["latitude"].values))
    weights /= weights.mean()
    table = _described(ds, train, weights)
    slow = train if options.slow is None else load(options.slow)[0][: options.first]
    basis = fit_basis(
        slow, table, options.block, options.error, weights, periodic=True, mirrored=1, access=options.access,
        groups=[table.of_variable(v) for v in table.variables] if options.groups else None,
        background=None if options.slow is None else train,
    )  # fmt: skip
    test = load(options.test)[0]
    starts = np.linspace(options.first, len(test) - options.block, options.blocks).astype(int).tolist()
    for _ in range(6):
        error, latents = _coded(basis, test, starts, weights)
        if abs(error / options.error - 1) < 0.01:
            break
        step = step_pair(basis.step * (options.error / error) ** 0.7)
        arrays = dataclasses.replace(basis.arrays, step=step)
        basis = build_basis(arrays, table, quality=basis.quality, periodic=True, exact=True)
    values = sum(len(b.specific) for b in latents) * int(np.prod(test.shape[1:]))
    print(f"error {error:.3e}, Kc {basis.common_count}, Ks {basis.specific_count}, base of {len(basis.blob)} bytes")
    for name, size in _bytes(latents).items():
        print(f"{name:26s} {8 * size / values:.4f} bits a value, {4 * values / size:.1f} times")


if __name__ == "__main__":
    main()
