"""Fine-tune the networks of a model to a cube: to fields beside references that sum up decoded fields, in closed loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latentzarr.codec.predictor import NeuralPredictor
from latentzarr.cube.choose import Choice
from latentzarr.cube.skeleton import SampleFields
from latentzarr.errors import InvalidConfigError
from latentzarr.models.card import ModelCard
from latentzarr.models.store import default_model, register_model
from latentzarr.models.weights import Model
from latentzarr.nn.hierarchy_net import HierarchyNets
from latentzarr.training.calibrate import calibrated, count_cases
from latentzarr.training.guided import CubeCases, GuidedCase, walk_guided
from latentzarr.training.loop import Drawn, Progress, Schedule, train

__all__ = ["CubeSource", "Mixed", "Refined", "fit_refinement", "refine", "size_of"]

_RATE = 1.5e-3
_CASES = 40
_COUNTED_CASES = 300
_PARENT_WEIGHT = 300.0  # counts that a parent's table is worth
_HELD_BACK = 5  # one part in this
_MEASURED_TIMES = 5


@dataclass(frozen=True, slots=True, eq=False)
class CubeSource:
    """Samples of a cube and skeletons of it, fitted at several bounds.

    Attributes
    ----------
    samples : SampleFields
        On the lattices of the first choice's table; no missing values.
    choices : sequence of Choice
    """

    samples: SampleFields
    choices: Sequence[Choice]

    @property
    def times(self) -> int:
        """Times of all runs."""
        return sum(len(run) for run in self.samples.runs)

    def split(self) -> tuple[CubeSource, CubeSource]:
        """What to learn from, and times held back: the last runs, or the last times of a single one.

        Raises
        ------
        InvalidConfigError
            If there is a single time.
        """
        runs, bases = list(self.samples.runs), self.samples.bases
        if len(runs) > 1:
            cut = len(runs) - max(1, len(runs) // _HELD_BACK)
            parts = [(runs[:cut], None if bases is None else bases[:cut]), (runs[cut:], None if bases is None else bases[cut:])]
        elif len(runs[0]) > 1:
            cut = len(runs[0]) - max(1, len(runs[0]) // _HELD_BACK)
            halves = slice(None, cut), slice(cut, None)
            parts = [([runs[0][half]], None if bases is None else [bases[0][half]]) for half in halves]
        else:
            raise InvalidConfigError("a cube of one time is too small to learn from and to hold a time back")
        learn, held = (CubeSource(replace(self.samples, runs=r, bases=b), self.choices) for r, b in parts)
        return learn, held


@dataclass(frozen=True, slots=True)
class Mixed:
    """Draws from several sources in turn, at random."""

    sources: Sequence[CubeCases]

    def draw(self, rng: np.random.Generator) -> GuidedCase:
        """A case of any of them."""
        return self.sources[int(rng.integers(len(self.sources)))].draw(rng)


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What came of it.

    Attributes
    ----------
    model : Model
        The fitted model, or the parent where fitting did not help.
    gain : float
        How many times smaller the times held back became, geometric mean over sources and skeletons; 1 for the parent.
    steps : int
    """

    model: Model
    gain: float
    steps: int


def fit_refinement(
    samples: SampleFields,
    choices: Sequence[Choice],
    seconds: float,
    parent: Model | None = None,
    name: str = "cube",
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
    most_steps: int = 0,
) -> Model:
    """Fine-tune a model to one cube.

    Parameters
    ----------
    samples : SampleFields
        On the lattices of the table of the first choice; the last fifth of the runs (or times) is held back.
    choices : sequence of Choice
        Skeletons fitted to the cube at one bound or several; bounds in between and around are drawn.
    seconds : float
        Wall-clock time for training.
    parent : Model, optional
        Where to start; the shipped model.
    name : str
        For the model card.
    seed : int
    report : callable, optional
    most_steps : int
        Stop after as many steps; with it, and time enough, the result is reproducible.

    Returns
    -------
    Model
        Never larger than ``parent`` on the times held back: if it would be, ``parent`` itself. Registered in this process.

    Raises
    ------
    InvalidConfigError
        If there is a single time, no choice, or no time to train.
    """
    if not choices or not seconds > 0:
        raise InvalidConfigError("fitting a cube's networks takes at least one skeleton and some time")
    source = CubeSource(samples, choices)
    start = parent or default_model()
    nets = HierarchyNets.from_integer(start.networks)
    card = ModelCard(name, training_data=(f"{name}: user's own cube",), parent=start.digest)
    schedule = Schedule(seconds, _RATE, cases=_CASES, warmup=0.0, most_steps=most_steps)
    return refine([source], nets, start, schedule, card, seed, report).model


def refine(
    sources: Sequence[CubeSource],
    nets: HierarchyNets,
    parent: Model,
    schedule: Schedule,
    card: ModelCard,
    seed: int,
    report: Callable[[Progress], None] | None = None,
) -> Refined:
    """Train networks in place on several cubes, calibrate tables, and keep the smallest on what was held back.

    Parameters
    ----------
    sources : sequence of CubeSource
        Those of a single time are learned from only; at least one has more.
    nets : HierarchyNets
    parent : Model
        What blocks that are looked at are coded with, and what is kept if nothing is better.
    schedule : Schedule
    card : ModelCard
        Its account of the training is filled in.
    seed : int
    report : callable, optional

    Raises
    ------
    InvalidConfigError
        If no source has more than one time.
    """
    if all(source.times < 2 for source in sources):
        raise InvalidConfigError("a cube of one time is too small to learn from and to hold a time back")
    parts = [source.split() if source.times > 1 else (source, None) for source in sources]
    cases = Mixed([CubeCases(learn.samples, learn.choices, parent) for learn, _ in parts])
    drawn: Drawn = cases
    steps = train(nets, drawn, schedule, seed, report, walk_guided)
    rng = np.random.default_rng(seed + 1)
    networks = nets.to_integer()
    told = f"guided walks, {schedule.seconds:g} s, {steps} steps, rate {schedule.rate:g}, seed {seed}, from {parent.digest}"
    card = replace(card, training=told)
    counted = [cases.draw(rng) for _ in range(_COUNTED_CASES)]
    candidates = []
    for base, weight in ((networks, _PARENT_WEIGHT), (parent.networks, 4 * _PARENT_WEIGHT)):  # tables alone can help, too
        probe = NeuralPredictor(Model.build(base, parent.tables, card))
        counts = count_cases(counted, probe, walk_guided)
        candidates.append(Model.build(base, calibrated(counts, parent.tables, weight), card))
    held = [part for _, part in parts if part is not None]
    before = size_of(held, parent)
    gains = [float(np.exp(np.mean(np.log(np.divide(before, size_of(held, model)))))) for model in candidates]
    best = int(np.argmax(gains))
    if gains[best] <= 1:
        return Refined(parent, 1.0, steps)
    return Refined(register_model(candidates[best]), gains[best], steps)


def size_of(sources: Sequence[CubeSource], model: Model) -> list[int]:
    """Bytes of the fields of one block of every source, coded with every one of its skeletons."""
    sizes = []
    for source in sources:
        cases = CubeCases(source.samples, source.choices, model)
        times = min(_MEASURED_TIMES, len(source.samples.runs[-1]))
        sizes += [cases.block(at, len(source.samples.runs) - 1, 0, times, 1.0, model)[1] for at in range(len(source.choices))]
    return sizes
