"""The work of a rate-distortion run, a field at a time and several fields at once: only what no earlier run has measured.

A worker is a process of its own, so that codecs that end their process (some do) end one field and not the run.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cases import Case
from fields import Field, applies, chunks, load, sample, shape_of
from further_peers import contender
from missing import Filled, fill
from points import OURS, Point, Points
from scoring import point_of_ours, point_of_peer

__all__ = ["Codec", "Plan", "Task", "bound_of", "measure_all", "wanted", "warm_up"]

Array = npt.NDArray[Any]

_SLOW = ("ebcc",)  # takes twenty times as long as all others together


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run measures, for every field.

    Attributes
    ----------
    peers, efforts : dict of str to str
        Names and versions of the peers, and of the efforts of our codec.
    """

    data: Path
    log: Path
    modes: tuple[str, ...]
    fractions: tuple[float, ...]
    peers: dict[str, str]
    efforts: dict[str, str]
    quick: bool
    run: str


@dataclass(frozen=True, slots=True)
class Task:
    """A field and what to measure on it."""

    field: Field
    plan: Plan


@dataclass(frozen=True, slots=True)
class Codec:
    """Who is measured: name and effort, and the version and the sample that make an old point stale."""

    name: str
    effort: str
    version: str
    sample: str


def wanted(task: Task) -> Iterator[tuple[Case, Codec]]:
    """Case and codec of every point of a field, whether measured already or not."""
    plan, shape = task.plan, shape_of(task.field, task.plan.data)
    for mode in plan.modes:
        if not applies(task.field, mode, shape):
            continue
        digest = sample(task.field, mode, quick=plan.quick)
        for fraction in plan.fractions:
            case = Case(task.field.variable, mode, fraction)
            for name, version in plan.peers.items():
                yield case, Codec(name, "", version, digest)
            for effort, version in plan.efforts.items():
                yield case, Codec(OURS, effort, version, digest)


def bound_of(fraction: float, extent: float, kind: str, others: Sequence[float]) -> float | None:
    """The absolute bound, or None where it says nothing new: floats have no 0, integers no two that allow the same error."""
    bound = fraction * extent
    if kind not in "iu":
        return bound if fraction > 0 else None
    smaller = [f for f in (*others, 0.0) if f < fraction]
    return None if any(np.floor(f * extent) == np.floor(bound) for f in smaller) else bound


def perform(task: Task) -> None:
    """Measure what is missing of a field; the points go to the log, one by one."""
    plan, log = task.plan, Points(task.plan.log)
    missing = _missing(task, log.load())
    if not missing:
        return
    loaded = load(task.field, plan.data)
    mode, pairs = "", list[tuple[Array, Filled]]()
    for case, codecs in missing:
        bound = bound_of(case.fraction, loaded.extent, loaded.maps[0].dtype.kind, plan.fractions)
        if bound is None:
            continue
        if mode != case.mode:
            mode = case.mode
            pairs = [(c, fill(c, case.variable.code)) for c in chunks(loaded, mode, quick=plan.quick)]
        for codec in codecs:
            point = _point(case, codec, pairs, bound, plan.run)
            log.add(point)
            print(point.told(), flush=True)


def _missing(task: Task, known: Mapping[tuple[str, ...], Point]) -> list[tuple[Case, list[Codec]]]:
    """The cases of a field that lack a point, with the codecs that do."""
    found: dict[tuple[str, ...], tuple[Case, list[Codec]]] = {}
    for case, codec in wanted(task):
        if _known(known, case, codec) is None:
            found.setdefault(case.key, (case, []))[1].append(codec)
    return list(found.values())


def _known(known: Mapping[tuple[str, ...], Point], case: Case, codec: Codec) -> Point | None:
    """The point of an earlier run, if it is of this version and this sample."""
    point = known.get((*case.key, codec.name, codec.effort))
    return point if point is not None and (point.version, point.sample) == (codec.version, codec.sample) else None


def _point(case: Case, codec: Codec, pairs: Sequence[tuple[Array, Filled]], bound: float, run: str) -> Point:
    if codec.name == OURS:
        from ours import Ours

        ours = Ours(case.variable.code, codec.effort)
        return point_of_ours(case, ours, codec.version, codec.sample, pairs, bound, run)
    filled = [f for _, f in pairs]
    return point_of_peer(case, contender(codec.name, case.mode), codec.version, codec.sample, filled, bound, run)


def warm_up() -> None:
    """Compile what is compiled on first use, so that no case pays for it."""
    from ours import EFFORTS, Ours

    field = np.add.outer(np.sin(np.arange(96) / 9), np.cos(np.arange(96) / 7)).astype(np.float32)
    integers = (np.rint(field * 100).astype(np.int16), np.rint(field + 9).astype(np.uint16))
    for values in (field, field.astype(np.float64), np.where(field > 1, np.nan, field), np.stack([field] * 3), *integers):
        for effort in EFFORTS:
            ours = Ours(effort=effort)
            ours.decode(ours.encode(values, 1.0 if values.dtype.kind in "iu" else 0.01), values.shape, values.dtype)


def measure_all(tasks: Sequence[Task], jobs: int, without: frozenset[str] = frozenset()) -> list[Point]:
    """All points of the plan, those of earlier runs included, in the order of the tasks; peers ``without`` get no new ones."""
    log = Points(tasks[0].plan.log)
    log.start()
    context = multiprocessing.get_context("spawn")
    starter = warm_up if tasks[0].plan.efforts else None
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=starter) as pool:
        waiting = [pool.submit(perform, task) for task in _in_turn(tasks, without)]
        try:
            for finished in as_completed(waiting):
                finished.result()
        except BrokenProcessPool as problem:
            raise RuntimeError("a codec ended its process; the points so far are kept, start again to go on") from problem
    known = log.load()
    points = (_known(known, case, codec) for task in tasks for case, codec in wanted(task))
    return [p for p in points if p is not None]


def _in_turn(tasks: Sequence[Task], without: frozenset[str]) -> list[Task]:
    """The quick codecs first, so that a run cut short has nearly all; and the largest maps, so that no core waits at the end."""
    ordered = sorted(tasks, key=lambda t: -np.prod(shape_of(t.field, t.plan.data)) * (1 + len(t.field.stacks)))
    quick, slow = [], []
    for task in ordered:
        peers = {n: v for n, v in task.plan.peers.items() if n not in without}
        quick.append(replace(task, plan=replace(task.plan, peers={n: v for n, v in peers.items() if n not in _SLOW})))
        slow.append(replace(task, plan=replace(task.plan, efforts={}, peers={n: v for n, v in peers.items() if n in _SLOW})))
    return quick + slow
