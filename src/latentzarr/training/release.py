"""Train the model that the package ships, from the development data, in one command.

    python -m latentzarr.training.release train --data DIR --minutes 40 --out candidate.safetensors
    python -m latentzarr.training.release card --model candidate.safetensors --measured "..." --out default.safetensors

The second command only rewrites the card (and so the digest): networks and tables are those that were measured.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import xarray as xr

from latentzarr.bitstream.tables import fixed_tables
from latentzarr.codec.predictor import NeuralPredictor
from latentzarr.models.card import ModelCard
from latentzarr.models.weights import Model, load_model, save_model
from latentzarr.nn.hierarchy_net import HierarchyNets
from latentzarr.training.calibrate import calibrated, count_cases
from latentzarr.training.cases import CaseSource, TrainingField
from latentzarr.training.loop import Progress, Schedule, train

app = typer.Typer(add_completion=False, help="Train and describe the shipped model.")

_COUNTED_CASES = 600
_MAX_HIDDEN_DEFAULT = "32,16"


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """A file the shipped model learns from: where, whose, and what stands for missing."""

    path: str
    origin: str
    missing_value: float | None = None
    raw: bool = False


FILES = (
    TrainingFile("atmosphere/erai_pl_20050801.nc", "ERA-Interim analysis, ECMWF; free reuse with attribution"),
    TrainingFile("atmosphere/ifs_mslp.nc", "IFS forecast, ECMWF; reuse with attribution"),
    TrainingFile("atmosphere/era5_surface_201101.nc", "ERA5, Copernicus Climate Change Service; CC BY 4.0"),
    TrainingFile("atmosphere/era5_uk_t2m_201903.nc", "ERA5, Copernicus Climate Change Service; CC BY 4.0"),
    TrainingFile("atmosphere/era5land_kerala_2022.nc", "ERA5-Land, Copernicus Climate Change Service; CC BY 4.0"),
    TrainingFile("atmosphere/era5land_iberia.nc", "ERA5-Land, Copernicus Climate Change Service; CC BY 4.0"),
    TrainingFile(
        "ocean/duacs_mediterranean_adt.nc", "SSALTO/DUACS altimetry, Copernicus Marine Service; free reuse with attribution"
    ),
    TrainingFile("ocean/orca025_uv.nc", "NEMO ORCA025-N006, National Oceanography Centre; no licence stated", 0.0),
    TrainingFile("radar/fmi_20160928.nc", "radar composite, Finnish Meteorological Institute; CC BY 4.0", 255.0, True),
    TrainingFile("satellite/s2_l1c_T33UUB.nc", "Copernicus Sentinel-2 L1C; CC BY 4.0, European Commission / ESA", None, True),
)
"""What the shipped model is trained on. Everything else in the development data is for measuring."""


def training_fields(data: Path) -> list[TrainingField]:
    """All variables of `FILES` with maps of at least 20 x 20, as (slices, rows, columns)."""
    fields = []
    for file in FILES:
        with xr.open_dataset(data / file.path, decode_times=False, mask_and_scale=not file.raw) as ds:
            for name, variable in ds.data_vars.items():
                if variable.ndim >= 2 and min(variable.shape[-2:]) >= 20:
                    values = np.ascontiguousarray(variable.values.reshape(-1, *variable.shape[-2:]))
                    fields.append(TrainingField(f"{file.path}:{name}", values, file.missing_value))
    return fields


@app.command("train")
def train_release(
    data: Annotated[Path, typer.Option(help="folder of the development data")],
    out: Annotated[Path, typer.Option(help="safetensors file to write")],
    minutes: Annotated[float, typer.Option(help="training time")] = 40.0,
    hidden: Annotated[str, typer.Option(help="widths of the hidden layers")] = _MAX_HIDDEN_DEFAULT,
    seed: Annotated[int, typer.Option()] = 1,
    name: Annotated[str, typer.Option()] = "default",
    start: Annotated[Path | None, typer.Option(help="go on from this model")] = None,
    rate: Annotated[float, typer.Option(help="first learning rate")] = 4e-3,
) -> None:
    """Train networks, freeze tables, write a model."""
    source = CaseSource(training_fields(data))
    first, second = (int(n) for n in hidden.split(","))
    nets = HierarchyNets.from_integer(load_model(start).networks) if start else HierarchyNets.fresh(first, second)
    begun = time.monotonic()

    def tell(progress: Progress) -> None:
        if progress.steps % 1600 == 0:
            typer.echo(f"{progress.done:6.1%}  {progress.steps} steps  loss {progress.loss:.4f}")
            sys.stdout.flush()

    schedule = Schedule(60 * minutes, rate, warmup=0.0 if start else 0.15)
    steps = train(nets, source, schedule, seed, tell)
    networks = nets.to_integer()
    rng = np.random.default_rng(seed + 1)
    walker = NeuralPredictor(Model.build(networks, fixed_tables(4 * networks.order.kinds), ModelCard("counting")))
    tables = calibrated(count_cases([source.draw(rng) for _ in range(_COUNTED_CASES)], walker))
    card = ModelCard(
        name,
        training_data=tuple(f"{f.path}: {f.origin}" for f in FILES),
        training=f"latentzarr.training.release train --minutes {minutes:g} --hidden {hidden} --seed {seed}"
        + (f" --start {load_model(start).digest}" if start else "")
        + f"; {steps} steps, {time.monotonic() - begun:.0f} s"
        + (f"; the start: {load_model(start).card.training}" if start else ""),
    )
    model = Model.build(networks, tables, card)
    save_model(model, out)
    typer.echo(f"{model}, {networks.spatial[0].multiply_adds} multiplications a value")


@app.command("card")
def rewrite_card(
    model: Annotated[Path, typer.Option(help="model file to read")],
    measured: Annotated[list[str], typer.Option(help="a line on what was measured, with its command; may be repeated")],
    out: Annotated[Path, typer.Option(help="model file to write")],
) -> None:
    """Write measurements into the card of a model."""
    old = load_model(model)
    new = Model.build(old.networks, old.tables, replace(old.card, measured=tuple(measured)))
    save_model(new, out)
    typer.echo(f"{new}")


if __name__ == "__main__":
    app()
