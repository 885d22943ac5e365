"""What `latentzarr.fit` gains on the later part of a variable when it has learned from the first, with the model's bytes counted.

The rest of the variable is coded in deep chunks by the shipped model, by the fitted one, and by the best peer in its better
layout. A fitted model has to travel with the array: its bytes are those of the array's metadata (zlib, base64).
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import latentzarr
from cases import Case, Variable, read_whole
from fields import Index
from further_peers import CONTENDERS, contender, peer_version
from missing import Filled, fill
from ours import EFFORTS, Ours, fingerprint
from points import Point
from scoring import point_of_ours, point_of_peer

__all__ = ["Fitted", "fits"]

Array = npt.NDArray[Any]

FRACTIONS = (1e-2, 1e-3)
BUDGET = 60.0
QUICK_BUDGET = 5.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What is learned from and what is coded: indices into the leading dimensions."""

    file: str
    name: str
    learn: slice
    rest: tuple[Index, ...]
    said: str


FITS = (
    Fit("atmosphere/s2s_mx2t6", "mx2t6", slice(0, 16), ((slice(16, 26),),), "days 1 to 16 of 26"),
    Fit("atmosphere/monthly_t_2015", "t", slice(0, 8), ((8,), (9,), (10,)), "months 1 to 8 of 11"),
    Fit("ocean/ersst", "sst", slice(0, 96), ((slice(96, 112),), (slice(112, 128),)), "months 1 to 96 of 128"),
    Fit("ocean/ostia_monthly", "surface_temperature", slice(0, 38), ((slice(38, 54),),), "months 1 to 38 of 54"),
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """One variable at one bound.

    Attributes
    ----------
    learned : str
        From what.
    values : int
        Of the rest, all bytes are for these.
    model : int
        Bytes of the fitted model; 0 where fitting did not help and the shipped one was kept.
    seconds : float
        That fitting took, its own checks included.
    """

    variable: str
    learned: str
    fraction: str
    values: int
    shipped: int
    fitted: int
    model: int
    seconds: float
    peer: str
    peer_bytes: int
    version: str
    effort: str
    run: str

    @property
    def key(self) -> tuple[str, str]:
        """What a later line replaces."""
        return self.variable, self.fraction

    @property
    def pays_from(self) -> float:
        """Values of such data from which on the fitted model with its bytes is smaller than the shipped one."""
        saved = (self.shipped - self.fitted) / self.values
        return self.model / saved if saved > 0 else float("inf")


def fits(data: Path, log: Path, run: str, only: str, *, quick: bool) -> list[Fitted]:
    """All fits, those of earlier runs of the same code included; none without torch."""
    if find_spec("torch") is None:
        print("no torch: the part on latentzarr.fit is left out")
        return []
    known = _load(log)
    found = []
    for fit in FITS[: 1 if quick else None]:
        variable = Variable(fit.file, fit.name, ())
        if only not in variable.label:
            continue
        version = f"{fingerprint('training', 'nn')} {fit.learn} {QUICK_BUDGET if quick else BUDGET:g}s {_peer_versions()}"
        old = [known.get((variable.label, f"{fraction:g}")) for fraction in FRACTIONS]
        if all(line is not None and line.version == version for line in old):
            found += [line for line in old if line is not None]
            continue
        for line in _measured(fit, variable, data, version, run, QUICK_BUDGET if quick else BUDGET):
            _add(log, line)
            print(
                f"{line.variable} {line.fraction}: shipped {line.shipped:,}, fitted {line.fitted:,} + {line.model:,}", flush=True
            )
            found.append(line)
    return found


@cache
def _peer_versions() -> str:
    return " ".join(str(peer_version(p.name)) for p in CONTENDERS)


def _measured(fit: Fit, variable: Variable, data: Path, version: str, run: str, budget: float) -> Iterator[Fitted]:
    whole, extent = read_whole(variable, data)
    begun = time.perf_counter()
    learn: Any = whole[fit.learn]
    model = latentzarr.fit(learn, budget, name=variable.label)
    seconds = time.perf_counter() - begun
    pairs = [(chunk, fill(chunk, None)) for chunk in (np.ascontiguousarray(whole[index]) for index in fit.rest)]
    effort = "normal" if "normal" in EFFORTS else next(iter(EFFORTS))
    helped = model.digest != latentzarr.default_model().digest
    for fraction in FRACTIONS:
        case, bound = Case(variable, "rest", fraction), fraction * extent
        shipped = point_of_ours(case, Ours(effort=effort), version, "", pairs, bound, run)
        fitted = point_of_ours(case, Ours(effort=effort, model=model), version, "", pairs, bound, run)
        best = _best(case, [filled for _, filled in pairs], bound, run)
        if not (shipped.valid and fitted.valid):
            raise RuntimeError(f"{variable.label} at {fraction:g}: {shipped.status}, {fitted.status}")
        yield Fitted(
            variable.label, fit.said, f"{fraction:g}", shipped.values, shipped.encoded, fitted.encoded,
            _model_bytes(model, bound) if helped else 0, round(seconds, 1), best.codec, best.encoded, version, effort, run,
        )  # fmt: skip


def _best(case: Case, filled: list[Filled], bound: float, run: str) -> Point:
    """The smallest peer that held the bound."""
    points = [
        point_of_peer(case, contender(p.name, "deep"), "", "", filled, bound, run) for p in CONTENDERS if peer_version(p.name)
    ]
    return min((p for p in points if p.valid), key=lambda p: p.encoded)


def _model_bytes(model: latentzarr.Model, bound: float) -> int:
    """What the model adds to the metadata of an array."""
    config = latentzarr.CodecConfig(latentzarr.ErrorBound.absolute(bound), model)
    return len(json.dumps(config.to_json()["model"]))


def _load(log: Path) -> dict[tuple[str, str], Fitted]:
    if not log.exists():
        return {}
    kinds: dict[str, type] = {"int": int, "float": float, "str": str}
    found = {}
    with log.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                line = Fitted(**{f.name: kinds[str(f.type)](row[f.name] or "") for f in fields(Fitted)})
            except (KeyError, TypeError, ValueError):
                continue
            found[line.key] = line
    return found


def _add(log: Path, line: Fitted) -> None:
    new = not log.exists()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(line)))
        if new:
            writer.writeheader()
        writer.writerow(asdict(line))
