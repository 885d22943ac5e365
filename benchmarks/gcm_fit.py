"""Fit the networks of a cube's refinement to the training season, for ``gcm.py --model``.

    python benchmarks/gcm_fit.py --data FOLDER --budget "10 min" --out gcm.safetensors

FOLDER as in gcm.py; only ``train.nc`` is read. The steps are those of `latentzarr.fit_cube`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import xarray as xr

import latentzarr
from gcm import VARIABLES


def main() -> None:
    """Fit and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--budget", default="10 min")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    train = xr.open_dataset(arguments.data / "train.nc").load()[list(VARIABLES)]
    model = latentzarr.fit_cube(train, arguments.budget, quality=0.3, block=8, name="gcm")
    if model.refinement is None:
        raise SystemExit("the budget was too short for the networks, or torch is not there")
    latentzarr.save_model(model.refinement, arguments.out)
    print(model, arguments.out)


if __name__ == "__main__":
    main()
