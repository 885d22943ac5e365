"""What coding the leading axis of a chunk together gains: slices that look back, against slices alone and chunks of one slice.

    python benchmarks/leading_axes.py [--data ../shared/data] [--out benchmarks/results]

All variables are of files the shipped model never saw. Sizes are of whole frames; every frame is decoded and its bound checked
by the encoder itself.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import xarray as xr

from environment import commit, machine
from latentzarr import CodecConfig, ErrorBound
from latentzarr.bitstream.frame import read_header
from latentzarr.codec.chunk import encode_with
from latentzarr.codec.predictor import CubicPredictor, Predictor, neural_predictor
from latentzarr.models.store import default_model

CASES = (
    ("atmosphere/monthly_t_2015.nc", "t", "level", slice(0, 8)),
    ("atmosphere/monthly_t_2015.nc", "t", "month", slice(0, 88, 8)),
    ("atmosphere/s2s_mx2t6.nc", "mx2t6", "day", slice(0, 8)),
    ("atmosphere/gfs_20111008.nc", "t", "level", slice(0, 8)),
    ("atmosphere/gfs_20111008.nc", "u", "level", slice(0, 8)),
    ("atmosphere/era5_ensemble_zt.nc", "t", "level, time", slice(0, 8)),
    ("atmosphere/ifs_modellevels.nc", "t", "model level", slice(40, 48)),
    ("ocean/ersst.nc", "sst", "month", slice(0, 8)),
    ("ocean/imos_gsla_2024.nc", "GSLA", "day", slice(0, 2)),
    ("ocean/pop_samoc.nc", "UVEL", "depth", slice(0, 8)),
)


def sizes(values: np.ndarray, bound: ErrorBound) -> tuple[int, int, int, str]:
    """Bytes looking back, alone, as chunks of one slice; and what the encoder would choose."""
    model = default_model()
    config = CodecConfig(bound, model)

    def coded(chunk: np.ndarray, *predictors: Predictor) -> bytes:
        return encode_with(chunk, config, [*predictors, CubicPredictor()])

    back, alone = neural_predictor(model), neural_predictor(model, reference=False)
    chosen = read_header(coded(values, back, alone)).mode.name.lower()
    return len(coded(values, back)), len(coded(values, alone)), sum(len(coded(v, back)) for v in values), chosen


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LATENTZARR_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    lines = [
        "# Leading axes of a chunk",
        "",
        f"{time.strftime('%Y-%m-%d')}; commit {commit()}; {machine(('numpy', 'numba'))}.",
        "",
        "| variable | axis | slices | bound / range | looking back | alone | chunks of one | gain over those | chosen |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    gains: dict[float, list[float]] = {}
    for path, name, axis, part in CASES:
        with xr.open_dataset(options.data / path, decode_times=False) as ds:
            values = ds[name].values
        values = np.ascontiguousarray(values.reshape(-1, *values.shape[-2:])[part])
        extent = float(np.nanmax(values)) - float(np.nanmin(values))
        for relative in (1e-2, 1e-3):
            back, alone, single, chosen = sizes(values, ErrorBound.absolute(relative * extent))
            together = alone if chosen == "independent" else back
            gains.setdefault(relative, []).append(single / together)
            lines.append(
                f"| {Path(path).stem}:{name} | {axis} | {len(values)} | {relative:g} | {back:,} | {alone:,} | {single:,} "
                f"| {single / together:.2f} | {chosen} |"
            )
            print(lines[-1], flush=True)
    lines.append("")
    lines += [f"Geometric mean at {r:g}: {np.exp(np.mean(np.log(g))):.2f}." for r, g in gains.items()]
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{time.strftime('%Y-%m-%d')}-leading-axes.md"
    target.write_text("\n".join(lines) + "\n")
    print(f"kept in {target}")


if __name__ == "__main__":
    main()
