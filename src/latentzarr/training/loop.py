"""The training loop: draw cases, walk them with the network of the moment, learn from what was seen, until time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from latentzarr.bitstream.tables import fixed_tables
from latentzarr.codec.hierarchy import Walk
from latentzarr.codec.predictor import CubicPredictor, NeuralPredictor, Predictor
from latentzarr.geometry import PassKind
from latentzarr.models.card import ModelCard
from latentzarr.models.weights import Model
from latentzarr.nn.hierarchy_net import HierarchyNets
from latentzarr.training.cases import Case
from latentzarr.training.samples import Samples, collect, walk_case

__all__ = ["Drawn", "Progress", "Schedule", "train"]

_SMALLEST_RATE = 0.02


class Drawn(Protocol):
    """What cases are drawn from."""

    def draw(self, rng: np.random.Generator) -> Case:
        """A case."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to train.

    Attributes
    ----------
    seconds : float
        Wall-clock time.
    most_steps : int
        Stop after as many steps even if time is left; 0: no limit. With it, and time enough, training is reproducible.
    rate : float
        First learning rate of Adam; falls along a cosine to 2 % of it.
    cases : int
        Cases drawn at a time.
    steps : int
        Steps taken on them before others are drawn.
    batch : int
        Values of each kind of pass in a step.
    warmup : float
        Share of the time in which cases are walked with cubic interpolation, since the networks know nothing yet.
    """

    seconds: float
    rate: float = 4e-3
    cases: int = 20
    steps: int = 80
    batch: int = 4096
    warmup: float = 0.15
    most_steps: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands: share of the time gone, steps taken, mean loss since the last report."""

    done: float
    steps: int
    loss: float


def train(
    nets: HierarchyNets,
    source: Drawn,
    schedule: Schedule,
    seed: int,
    report: Callable[[Progress], None] | None = None,
    walk: Callable[[Any, Predictor], Walk | None] = walk_case,
) -> int:
    """Train networks in place.

    Parameters
    ----------
    nets : HierarchyNets
    source : CaseSource or alike
    schedule : Schedule
    seed : int
    report : callable, optional
        Called whenever new cases are drawn.
    walk : callable
        How a case is walked.

    Returns
    -------
    int
        Steps taken.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    optimiser = torch.optim.Adam(nets.parameters(), schedule.rate, betas=(0.9, 0.99))
    start, steps, losses = time.monotonic(), 0, [math.nan]

    def share() -> float:
        by_steps = steps / schedule.most_steps if schedule.most_steps else 0.0
        return max((time.monotonic() - start) / schedule.seconds, by_steps)

    while (done := share()) < 1:
        walker: Predictor = CubicPredictor(nets.order) if done < schedule.warmup else _walker(nets)
        pool = collect([source.draw(rng) for _ in range(schedule.cases)], walker, rng, walk)
        if report is not None:
            report(Progress(done, steps, float(np.mean(losses))))
        losses = []
        total = sum(float(samples.weight.sum()) for samples in pool.values())
        for _ in range(schedule.steps if pool else 0):
            done = share()
            if done >= 1:
                break
            for parameters in optimiser.param_groups:
                parameters["lr"] = schedule.rate * ((1 - _SMALLEST_RATE) * 0.5 * (1 + math.cos(math.pi * done)) + _SMALLEST_RATE)
            losses.append(_step(nets, optimiser, pool, schedule.batch, total))
            steps += 1
    return steps


def _step(
    nets: HierarchyNets, optimiser: torch.optim.Optimizer, pool: dict[tuple[PassKind, bool], Samples], size: int, total: float
) -> float:
    loss = torch.zeros(())
    for (kind, reference), samples in pool.items():
        batch = samples.batch(size)
        out = nets.net(kind, reference)(batch.inputs.float() / 64, batch.bias_row)
        bits = nets.bits(out, batch.target, batch.spread, batch.logs, batch.group, batch.bias_row)
        loss = loss + (bits * batch.weight).mean() * (len(samples.target) / total)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(nets.parameters(), 1.0)
    optimiser.step()
    for net in (*nets.spatial, *nets.reference):
        net.limit()
    return float(loss.detach())


def _walker(nets: HierarchyNets) -> NeuralPredictor:
    """The networks as the codec would run them; their tables do not matter to a walk."""
    return NeuralPredictor(Model.build(nets.to_integer(), fixed_tables(4 * nets.order.kinds), ModelCard("in training")))
