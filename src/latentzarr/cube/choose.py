"""Choose what looks at what: order of variables, terms of each channel, static fields, distance of times; then the weights.

Every choice is made on estimated bits of the sample fields (`latentzarr.cube.skeleton`). A variable that looks at another must
wait for it when it is read alone, so such links are only made where they gain, and as long as reading one variable at one time
needs no more than a given share of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.cube.prune import Weights, pruned, whole_weights
from latentzarr.cube.skeleton import Fit, Memory, Moments, SampleFields, gather_moments, solve
from latentzarr.cube.synthesis import Stencil
from latentzarr.cube.table import STRIDES, ReferenceTable, Role, Source, Term
from latentzarr.cube.times import block_visits, needed_times, role_of, roles_of

__all__ = ["Choice", "Place", "choose"]

_LEAST_GAIN = 0.02  # of a variable's bits, for looking at another
_LEAST_TIME_GAIN = 0.01
_OWN_CHANNELS = 6
_OTHER_CHANNELS = 5
_STATIC_COST = 1.3  # a static field costs about as much as the field itself, coded once
_STRIDES_OF_TIMES = (1, 2, 4, 8)
_ALL_STENCILS = (Stencil(0), Stencil(1), Stencil(2))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a channel belongs: the index of its variable, and its position along the variable's levels."""

    variable: int
    position: int


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What was chosen.

    Attributes
    ----------
    table : ReferenceTable
    time_stride : int
        As in `latentzarr.cube.times`.
    statics : tuple of bool
        By channel, whether its static field is looked at by any.
    links : tuple of tuple of int
        By variable, the variables it looks at.
    closure : tuple of float
        By variable, the estimated share of a block's bytes that reading it at one time needs at most.
    """

    table: ReferenceTable
    time_stride: int
    statics: tuple[bool, ...]
    links: tuple[tuple[int, ...], ...]
    closure: tuple[float, ...]


class _Chooser:
    """The questions asked of the moments, one after the other."""

    def __init__(self, samples: SampleFields, places: Sequence[Place], block: int, times: int, access: float) -> None:
        self.samples, self.places, self.block, self.times, self.access = samples, places, block, times, access
        self.memory: Memory = {}
        moments = gather_moments(samples, Role(), memory=self.memory)
        assert moments is not None
        self.moments: dict[Role, Moments | None] = {Role(): moments}
        self.still = moments
        self.variables = 1 + max(p.variable for p in places)
        self.of = [[c for c, p in enumerate(places) if p.variable == v] for v in range(self.variables)]
        self.statics = [False] * len(places)
        self.links: list[list[int]] = [[] for _ in range(self.variables)]

    def at(self, role: Role) -> Moments | None:
        if role not in self.moments:
            self.moments[role] = gather_moments(self.samples, role, memory=self.memory)
        return self.moments[role]

    def own(self, channel: int) -> list[Term]:
        """Terms of a channel that need no other variable."""
        here = self.places[channel]
        lower = [c for c in self.of[here.variable] if c < channel][-_OWN_CHANNELS:]
        terms = [Term(Source.SAME, c, Stencil()) for c in lower]
        if self.statics[channel]:
            terms.append(Term(Source.STATIC, channel, Stencil()))
        if self.samples.bases is not None:
            terms.append(Term(Source.BASE, channel, Stencil()))
        return terms

    def across(self, channel: int, variable: int) -> list[Term]:
        """Terms that look at another variable: the channels that tell most, from all sides, turning ones too."""
        most = _OTHER_CHANNELS if len(self.of[self.places[channel].variable]) > 1 else 2 * _OTHER_CHANNELS
        stencils = [*_ALL_STENCILS]
        if self.samples.factor is not None:
            stencils += [Stencil(kind, turning=True) for kind in range(3)]
        tells = {c: sum(self._tells(channel, Term(Source.SAME, c, s)) for s in stencils) for c in self.of[variable]}
        kept = sorted(self.of[variable], key=lambda c: -tells[c])[:most]
        return [Term(Source.SAME, c, s) for c in sorted(kept) for s in stencils]

    def _tells(self, channel: int, term: Term) -> float:
        row = self.still.terms[term]
        told = 0.0
        for level in range(2):
            gram = float(self.still.gram[level][row, row])
            energy = float(self.still.energy[level][channel])
            told += float(self.still.cross[level][row, channel]) ** 2 / max(gram * energy, 1e-30)
        return told

    def in_time(self, channel: int, role: Role) -> list[Term]:
        terms = []
        for source, there in ((Source.BEFORE, role.before), (Source.AFTER, role.after)):
            if there:
                terms += [Term(source, channel, s) for s in _ALL_STENCILS]
        return terms

    def terms(self, channel: int, role: Role) -> list[Term]:
        """All that was chosen for a channel so far."""
        found = self.own(channel) + self.in_time(channel, role)
        for variable in self.links[self.places[channel].variable]:
            found += self.across(channel, variable)
        return found

    def fit(self, channel: int, role: Role) -> Fit:
        moments = self.at(role)
        if moments is None:  # no run of samples is long enough: as if it stood alone, what is before looked at with weight 0
            return solve(self.still, channel, self.terms(channel, Role()))
        return solve(moments, channel, self.terms(channel, role))

    def served(self, role: Role, time_stride: int) -> float:
        """How many fields of a channel a role has in the whole cube."""
        here = sum(role_of(visit) == role for visit in block_visits(self.block, time_stride))
        return here * self.times / self.block

    def stored(self, channel: int, role: Role, fields: float) -> tuple[Fit, Weights]:
        """What is worth its bytes of a fit, and the weights as they are stored."""
        moments = self.at(role)
        known = moments if moments is not None else self.still
        fit = pruned(self.fit(channel, role), known, channel, fields)
        return fit, whole_weights(fit, known, channel, fields)

    def bits(self, variable: int, role: Role) -> float:
        return sum(self.fit(c, role).bits for c in self.of[variable])

    def choose_statics(self) -> None:
        if self.samples.statics is None:
            return
        blocks = max(1.0, self.times / self.block)
        worth = blocks * (1 + 0.4 * (self.block - 1))  # times look at each other too, and need the static field less
        for c in range(len(self.places)):
            without = self.fit(c, Role()).bits
            self.statics[c] = True
            self.statics[c] = (without - self.fit(c, Role()).bits) * worth > _STATIC_COST * without

    def choose_time_stride(self) -> int:
        """The distance of the times that look back, by estimated bits of a whole block."""
        if self.block == 1:
            return 0
        alone = self.block * sum(self.bits(v, Role()) for v in range(self.variables))
        best, stride = alone * (1 - _LEAST_TIME_GAIN), 0
        for tried in _STRIDES_OF_TIMES:
            roles = [role_of(v) for v in block_visits(self.block, tried)]
            if tried > self.block // 2 or any(self.at(role) is None for role in set(roles)):
                continue
            by_role = {role: sum(self.bits(v, role) for v in range(self.variables)) for role in set(roles)}
            total = sum(by_role[role] for role in roles)
            if total < best:
                best, stride = total, tried
        return stride

    def choose_links(self, time_stride: int) -> tuple[float, ...]:
        """Which variables look at which others, the largest gains first; returns what reading each then needs."""
        share = self._times_needed(time_stride)
        before = [self.bits(v, Role()) for v in range(self.variables)]
        gains = []
        for v in range(self.variables):
            for w in range(self.variables):
                if v != w:
                    self.links[v] = [w]
                    gains.append((before[v] - self.bits(v, Role()), v, w))
                    self.links[v] = []
        now = list(before)
        for _, v, w in sorted(gains, reverse=True):
            if v in self._closure(w):
                continue
            self.links[v].append(w)
            bits = self.bits(v, Role())
            tried = [*now[:v], bits, *now[v + 1 :]]
            reach = [self._part(tried, self._closure(u), share) for u in range(self.variables)]
            own = [self._part(tried, {u}, share) for u in range(self.variables)]
            # what a variable needs by itself is no fault of a link
            too_far = any(r > max(self.access, o) for r, o in zip(reach, own, strict=True))
            if now[v] - bits < _LEAST_GAIN * before[v] or too_far:
                self.links[v].pop()
            else:
                now = tried
        return tuple(self._part(now, self._closure(v), share) for v in range(self.variables))

    def _times_needed(self, time_stride: int) -> tuple[float, float]:
        """What one time of a block needs at most: the share of the bytes, and of the times."""
        plan = block_visits(self.block, time_stride)
        still = sum(self.bits(v, Role()) for v in range(self.variables))
        bits = {v.slice: still for v in plan}
        for visit in plan:
            if self.at(role_of(visit)) is not None:
                bits[visit.slice] = sum(self.bits(v, role_of(visit)) for v in range(self.variables))
        needed = [[v.slice for v in needed_times(self.block, time_stride, [t])] for t in range(self.block)]
        total = max(sum(bits.values()), 1e-300)
        return max(sum(bits[t] for t in some) for some in needed) / total, max(map(len, needed)) / self.block

    def _part(self, bits: Sequence[float], variables: set[int], times: tuple[float, float]) -> float:
        """The part of a block that some variables make up at the times needed: of the bytes, or of the fields if that is more."""
        fields = sum(len(self.of[v]) for v in variables) / len(self.places)
        return max(times[0] * sum(bits[v] for v in variables) / max(sum(bits), 1e-300), times[1] * fields)

    def _closure(self, variable: int) -> set[int]:
        found, todo = {variable}, [variable]
        while todo:
            for w in self.links[todo.pop()]:
                if w not in found:
                    found.add(w)
                    todo.append(w)
        return found

    def order(self) -> list[int]:
        """Variables after those they look at."""
        placed: list[int] = []
        while len(placed) < self.variables:
            placed += [v for v in range(self.variables) if v not in placed and set(self.links[v]) <= set(placed)]
        return placed


def choose(
    samples: SampleFields,
    places: Sequence[Place],
    origin: npt.NDArray[np.float64],
    step: npt.NDArray[np.float64],
    *,
    block: int,
    times: int,
    access: float,
) -> Choice:
    """Choose and fit a skeleton.

    Parameters
    ----------
    samples : SampleFields
    places : sequence of Place
        By channel; the channels of a variable follow each other.
    origin, step : float64 arrays, shape (channels,)
        Nominal lattices, in units of the data.
    block : int
        Times in a block.
    times : int
        Of the whole cube.
    access : float
        Largest share of a block's bytes that reading one variable at one time may need, 0 to 1.
    """
    chooser = _Chooser(samples, places, block, times, access)
    chooser.choose_statics()
    time_stride = chooser.choose_time_stride()
    closure = chooser.choose_links(time_stride)
    roles = roles_of(block, time_stride)
    order = [c for v in chooser.order() for c in chooser.of[v]]
    terms: list[tuple[int, ...]] = []
    weights: list[npt.NDArray[np.int16]] = []
    shifts = np.zeros((len(places), len(roles), STRIDES), np.uint8)
    for r, role in enumerate(roles):
        for c in range(len(places)):
            found = chooser.stored(c, role, chooser.served(role, time_stride))
            shifts[c, r] = found[1].shifts
            for term, row in zip(found[0].terms, found[1].whole, strict=True):
                if row.any():
                    terms.append((c, r, term.source, term.channel, term.stencil.kind, int(term.stencil.turning)))
                    weights.append(row)
    factor = np.zeros(0, np.int32) if samples.factor is None else np.rint(256 * samples.factor).astype(np.int32)
    table = ReferenceTable(
        origin,
        step,
        np.array(order, np.int32),
        np.array([(role.before, role.after) for role in roles], np.int32),
        np.array(terms, np.int32).reshape(-1, 6),
        np.array(weights, np.int16).reshape(-1, STRIDES),
        shifts,
        factor,
        np.array([samples.periodic], np.uint8),
    )
    looked = {t[3] for t in terms if t[2] == Source.STATIC}
    links = tuple(tuple(sorted(found)) for found in chooser.links)
    return Choice(table, time_stride, tuple(c in looked for c in range(len(places))), links, closure)
