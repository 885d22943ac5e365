"""Training cases of a cube: fields beside the references they are coded with, walked as `latentzarr.cube.walk` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bounds import ErrorBound
from latentzarr.codec import kernels
from latentzarr.codec.hierarchy import Walk
from latentzarr.codec.predictor import Predictor, SliceStates
from latentzarr.codec.prepare import prepare
from latentzarr.codec.walking import checked, coded_only, root_of
from latentzarr.cube.block import BlockCoder, Key
from latentzarr.cube.choose import Choice
from latentzarr.cube.field import DecodedField, FieldSpec, encode_field
from latentzarr.cube.skeleton import SampleFields
from latentzarr.cube.synthesis import COARSEST_SYNTHESIS, LIMIT
from latentzarr.cube.times import block_visits
from latentzarr.cube.walk import Seen
from latentzarr.geometry import ChunkGeometry, PassKind, passes
from latentzarr.models.weights import Model
from latentzarr.scaling import FRACTION, LinearLattice
from latentzarr.slices import Visit
from latentzarr.training.cases import Case
from latentzarr.training.samples import Samples, collect

__all__ = ["CubeCases", "GuidedCase", "collect_guided", "walk_guided"]

_DROPPED = 0.12  # of the references, so that fields without one are learned too
_FIRST_BLOCKS = 2
_MOST_BLOCKS = 8
_FIELDS_OF_A_BLOCK = 160
_DRAWS_OF_A_BLOCK = 320
_BEYOND = np.log(2.0)  # bounds are drawn from half the smallest to twice the largest of the skeletons


@dataclass(frozen=True, slots=True, eq=False)
class GuidedCase(Case):
    """A case of two slices: what is looked at (its values are shown stride by stride, ``target`` is 0 there), and a field."""

    seen: Seen | None = None


def walk_guided(case: GuidedCase, predictor: Predictor) -> Walk | None:
    """Walk a field beside its reference in closed loop, pass by pass; None where a value leaves the format's range."""
    geometry, order = ChunkGeometry(*case.target.shape), predictor.order
    rows, columns = geometry.rows, geometry.columns
    target = case.target.reshape(2, -1)
    states = SliceStates.empty(geometry, case.missing.reshape(2, -1).astype(np.uint8) if case.missing.any() else None)
    visit = Visit(1, 0 if case.seen is not None else -1)
    if case.seen is not None:
        states.activity[0] = case.seen.activity.reshape(-1)
        _show(states, case.seen, COARSEST_SYNTHESIS)
    quanta = np.empty(rows * columns, np.int32)
    n, mask = states.n, states.missing[min(1, len(states.missing) - 1)]
    at = kernels.quantise_root(
        target[1], mask, states.any_missing, n[0], n[0], visit.references, *root_of(geometry), columns, case.half_open, n[1],
        quanta,
    )  # fmt: skip
    classes, groups = [np.zeros(at, np.uint8)], [np.full(at, order.groups, np.uint8)]
    for step in passes(rows, columns, order):
        if case.seen is not None:
            _show(states, case.seen, step.level)
        found = checked(predictor, states, step, visit)
        count = kernels.quantise_pass(
            target[1], mask, states.any_missing, found.centre, step.rows, step.columns, columns, case.snap, case.half_open,
            step.grade(snap=case.snap)[0], n[1], states.activity[1], quanta[at:],
        )  # fmt: skip
        if count < 0:
            return None
        classes.append(coded_only(found.classes, states, step, 1))
        groups.append(np.full(count, step.group, np.uint8))
        at += count
    return Walk(quanta[:at], np.concatenate(classes), np.concatenate(groups), np.array([at], np.int64), (1, 1, 1, 1), n[1:])


def _show(states: SliceStates, seen: Seen, level: int) -> None:
    at = min(level, COARSEST_SYNTHESIS)
    grid = states.n[0].reshape(states.geometry.rows, states.geometry.columns)
    grid[:: 1 << at, :: 1 << at] = seen.levels[at]


def collect_guided(
    cases: Sequence[GuidedCase], predictor: Predictor, rng: np.random.Generator
) -> dict[tuple[PassKind, bool], Samples]:
    """Walk fields beside their references and gather samples, of fields with a reference and of those without."""
    return collect(cases, predictor, rng, walk_guided)


@dataclass(slots=True, eq=False)
class CubeCases:
    """Draws fields and their references from blocks of a cube, which are coded with a model from time to time.

    Attributes
    ----------
    samples : SampleFields
        On the lattices of the first choice's table.
    choices : sequence of Choice
        Skeletons of the same cube, at several bounds.
    model : Model
        What blocks are coded with, so that references are made of what a reader would have.
    longest : int
        Times of a block, at most.
    """

    samples: SampleFields
    choices: Sequence[Choice]
    model: Model
    longest: int = 8
    _blocks: list[list[GuidedCase]] = field(default_factory=list)
    _left: int = 0

    def draw(self, rng: np.random.Generator) -> GuidedCase:
        """A field with its reference, or now and then without."""
        while self._left <= 0 or len(self._blocks) < _FIRST_BLOCKS:
            self._blocks = [*self._blocks[-_MOST_BLOCKS + 1 :], self._new_block(rng)]
            self._left = _DRAWS_OF_A_BLOCK
        self._left -= 1
        block = self._blocks[int(rng.integers(len(self._blocks)))]
        case = block[int(rng.integers(len(block)))]
        return replace(case, seen=None) if rng.random() < _DROPPED else case

    def _new_block(self, rng: np.random.Generator) -> list[GuidedCase]:
        """Some fields of a block at a drawn bound."""
        steps = [float(np.exp(np.mean(np.log(c.table.step / self.choices[0].table.step)))) for c in self.choices]
        drawn = rng.uniform(np.log(min(steps)) - _BEYOND, np.log(max(steps)) + _BEYOND)
        at = int(np.abs(np.log(steps) - drawn).argmin())
        run = int(rng.integers(len(self.samples.runs)))
        times = min(self.longest, len(self.samples.runs[run]))
        first = int(rng.integers(len(self.samples.runs[run]) - times + 1))
        cases, coded = self.block(at, run, first, times, float(np.exp(drawn)) / steps[at], self.model)
        kept = rng.choice(len(cases), min(len(cases), _FIELDS_OF_A_BLOCK), replace=False)
        price = 8.0 * coded / sum(case.target[1].size for case in cases)
        return [replace(cases[i], price=price) for i in kept]

    def block(self, at: int, run: int, first: int, times: int, factor: float, model: Model) -> tuple[list[GuidedCase], int]:
        """Code a block with a model: every field that has a lattice beside its reference, and the bytes of all.

        Parameters
        ----------
        at : int
            Which choice.
        run, first, times : int
            Which part of the samples.
        factor : float
            The bound, relative to that of the choice.
        model : Model
        """
        choice, fields = self.choices[at], self.samples.runs[run]
        table, unit = choice.table, self.choices[0].table
        scale = unit.step / (table.step * factor)
        shift = (unit.origin - table.origin) / (table.step * factor)
        spec = FieldSpec(fields.shape[2:], np.dtype(np.float32), ErrorBound.absolute(0.5), 0.0, 1.0)

        def lattice(values: npt.NDArray[Any], channel: int) -> npt.NDArray[np.float64]:
            moved: npt.NDArray[np.float64] = values.astype(np.float64) * scale[channel] + FRACTION * shift[channel]
            return moved

        def whole(values: npt.NDArray[Any], channel: int) -> npt.NDArray[np.int32]:
            return np.clip(np.rint(lattice(values, channel)), -LIMIT, LIMIT).astype(np.int32)

        def base(t: int, channel: int) -> npt.NDArray[np.int32]:
            assert self.samples.bases is not None
            return whole(self.samples.bases[run][first + t, channel], channel)

        latents = base if self.samples.bases is not None else None
        statics = {}
        if self.samples.statics is not None:
            statics = {c: whole(self.samples.statics[c], c) for c, looked in enumerate(choice.statics) if looked}
        coder = BlockCoder(table, [spec] * table.channels, [""] * table.channels, choice.time_stride, model, statics)
        done: dict[Key, DecodedField] = {}
        cases, coded = [], 0
        for visit in block_visits(times, choice.time_stride):
            for channel in table.order.tolist():
                guide = coder.guide(visit, channel, done, latents)
                values = (lattice(fields[first + visit.slice, channel], channel) / FRACTION).astype(np.float32)
                data, done[visit.slice, channel] = encode_field(values, spec, guide, model)
                coded += len(data)
                chunk = prepare(values.reshape(-1), spec.bound, spec.shape, None)
                if chunk is None or chunk.coded.shape != (1, *spec.shape) or not isinstance(chunk.lattice, LinearLattice):
                    continue
                seen = None if guide is None else guide.on(chunk.lattice, spec.origin, spec.step)
                target = np.concatenate([np.zeros_like(chunk.target), chunk.target]).reshape(2, *spec.shape)
                cases.append(GuidedCase(target, np.zeros((2, 1, 1), np.bool_), chunk.snap, chunk.half_open, seen=seen))
        return cases, coded
