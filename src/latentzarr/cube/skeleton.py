"""Fit the linear skeleton: by least squares, what decoded fields tell of what interpolation does not know (encoder only).

For a channel and a stride, the part of its values that interpolation misses is regressed on the same part of the fields it may
look at, as they will be decoded (a uniform error of the bound is added). All sums of products are gathered once, so that every
question (is the static field worth its bytes? does wind tell of humidity?) is a small system of equations. At high rates this is
the triangular form of the joint Karhunen-Loeve transform of the details (prediction instead of rotation; Goyal 2001,
doi:10.1109/79.952802).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.cube.innovations import innovations, seen_through
from latentzarr.cube.synthesis import Stencil
from latentzarr.cube.table import STRIDES, Role, Source, Term
from latentzarr.scaling import FRACTION

__all__ = ["Moments", "Fit", "SampleFields", "estimated_bits", "gather_moments", "solve"]

_RIDGE = 1e-4
_STENCILS = (Stencil(0), Stencil(1), Stencil(2))
_TURNING = tuple(Stencil(kind, turning=True) for kind in range(3))
_GAUSSIAN = 2 * np.pi * np.e
_SMALLEST = 4  # rows and columns a stride needs to be looked at
_PLACES = 6  # times a role is fitted to at stride 1, in all runs together; twice as many at every stride above
_MOST_VALUES = 40_000  # of a field, at one time and stride
_FEWEST_VALUES = 2_000
_MOST_PRODUCTS = 2e10  # at one time and stride; many channels are fitted to fewer values
_WINDOWS = 4

Fields = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SampleFields:
    """What the skeleton is fitted to.

    Attributes
    ----------
    runs : sequence of float64 arrays, shape (times, channels, rows, columns)
        Consecutive times, on the channels' nominal lattices, no missing values.
    statics : float64 array, shape (channels, rows, columns), or None
    bases : sequence of float64 arrays like ``runs``, or None
        What the latents say.
    factor : float64 array, shape (rows,), or None
        Of turning terms.
    periodic : bool
    """

    runs: Sequence[Fields]
    statics: Fields | None
    bases: Sequence[Fields] | None
    factor: npt.NDArray[np.float64] | None
    periodic: bool


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums of products of the innovations of all that can be looked at, by stride.

    Attributes
    ----------
    terms : dict of Term to int
        Row of each.
    gram : tuple of float64 arrays, shape (terms, terms)
    cross : tuple of float64 arrays, shape (terms, channels)
    energy : tuple of float64 arrays, shape (channels,)
    counts : tuple of int
        Values that the sums are of, at each stride.
    values : tuple of float
        Values that each stride adds to one field.
    """

    terms: dict[Term, int]
    gram: tuple[Fields, ...]
    cross: tuple[Fields, ...]
    energy: tuple[Fields, ...]
    counts: tuple[int, ...]
    values: tuple[float, ...]

    def form(self, terms: Sequence[Term], channel: int, level: int) -> tuple[Fields, Fields, float]:
        """Mean products at a stride: of terms (terms, terms), of terms and a channel (terms,), of the channel with itself."""
        rows = np.array([self.terms[term] for term in terms], np.int64)
        share = 1.0 / max(1, self.counts[level])
        gram = self.gram[level][np.ix_(rows, rows)]
        return gram * share, self.cross[level][rows, channel] * share, float(self.energy[level][channel]) * share


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Weights of some terms for one channel, float64 (terms, 4), and estimated bits of a field for each value of stride 1."""

    terms: tuple[Term, ...]
    weights: Fields
    bits: float


@dataclass(frozen=True, slots=True, eq=False)
class _Now:
    """What can be looked at at the same time, in one window: innovations and their products, float32."""

    looked: Single  # (terms, values)
    wanted: Single  # (channels, values)
    gram: Single
    cross: Single


Memory = dict[tuple[int, int, int, int], _Now]
"""By run, time, stride and window: what roles that are fitted to the same times share."""


def gather_moments(samples: SampleFields, role: Role, seed: int = 0, memory: Memory | None = None) -> Moments | None:
    """Sums of products for a role; None where no run is long enough for it.

    A time is looked at in a few windows where it has more values than are needed; products are made in float32. Other times are
    only looked at in the same channel: products between channels of other times are left out (0).
    """
    terms: dict[Term, int] = {term: i for i, term in enumerate(_terms(samples, role))}
    channels, *shape = samples.runs[0].shape[1:]
    most = int(np.clip(_MOST_PRODUCTS / len(terms) ** 2, _FEWEST_VALUES, _MOST_VALUES))
    gram: list[Fields] = []
    cross: list[Fields] = []
    energy: list[Fields] = []
    counts = [0] * STRIDES
    for level in range(STRIDES):
        if min(-(-n // (1 << level)) for n in shape) < _SMALLEST:
            break
        products, by_channel, squares = np.zeros((len(terms),) * 2), np.zeros((len(terms), channels)), np.zeros(channels)
        for at, t in _places(samples.runs, role, _PLACES << level):
            places = _windows(shape, level, most, np.random.default_rng((seed, at, t, level)))
            for number, window in enumerate(places):
                key = at, t, level, number
                first, second = (np.random.default_rng((seed, *key, i)) for i in range(2))
                now = _now(samples, at, t, window, first) if memory is None or key not in memory else memory[key]
                if memory is not None:
                    memory[key] = now
                _add_products(products, by_channel, now, _elsewhere(samples, role, at, t, window, second), channels)
                squares += (now.wanted * now.wanted).sum(1, dtype=np.float64)
                counts[level] += now.wanted.shape[1]
        if not counts[level]:
            return None
        gram.append(products)
        cross.append(by_channel)
        energy.append(squares)
    if not gram:
        return None
    while len(gram) < STRIDES:  # too small a grid for the coarsest strides: they take what the finer ones say
        counts[len(gram)] = counts[len(gram) - 1]
        for kept in (gram, cross, energy):
            kept.append(kept[-1])
    finest = shape[0] * shape[1] * 0.75
    return Moments(terms, tuple(gram), tuple(cross), tuple(energy), tuple(counts), tuple(finest / 4**k for k in range(STRIDES)))


def _add_products(gram: Fields, cross: Fields, now: _Now, elsewhere: Sequence[Single], channels: int) -> None:
    """Add the products of one window."""
    size = len(now.looked)
    gram[:size, :size] += now.gram
    cross[:size] += now.cross
    if not elsewhere:
        return
    there = np.concatenate(elsewhere)
    mixed = there @ now.looked.T
    gram[size:, :size] += mixed
    gram[:size, size:] += mixed.T
    cross[size:] += there @ now.wanted.T
    own = size + np.arange(channels)
    for i, first in enumerate(elsewhere):
        for j, second in enumerate(elsewhere):
            gram[own + i * channels, own + j * channels] += np.einsum("ck,ck->c", first, second)


def _places(runs: Sequence[Fields], role: Role, most: int) -> list[tuple[int, int]]:
    """Runs and times that have what the role looks at, the middle of every run first, so that roles share them."""
    by_run = []
    for at, run in enumerate(runs):
        middle = len(run) // 2
        times = sorted(range(role.before, len(run) - role.after), key=lambda t: (abs(t - middle), t))
        by_run.append([(at, t) for t in times])
    in_turn = [found[k] for k in range(max(map(len, by_run))) for found in by_run if k < len(found)]
    first = sum(1 for found in by_run if found)
    if first > most:  # more runs than are needed: some of them, evenly
        return [in_turn[k * first // most] for k in range(most)]
    return in_turn[:most]


def _windows(shape: Sequence[int], level: int, most: int, rng: np.random.Generator) -> list[tuple[slice, slice]]:
    """Parts of a field at a stride that add at most so many values together; the whole where that is few enough."""
    stride = 1 << level
    rows, columns = (-(-n // stride) for n in shape)
    if 3 * rows * columns <= 4 * most:
        return [(slice(None, None, stride), slice(None, None, stride))]
    area = 4 * most / 3 / _WINDOWS
    height = min(rows, max(_SMALLEST, int(np.sqrt(area))))
    width = min(columns, max(_SMALLEST, int(area / height)))
    found = []
    for _ in range(_WINDOWS):
        y, x = (2 * int(rng.integers(0, (n - m) // 2 + 1)) for n, m in ((rows, height), (columns, width)))
        found.append((slice(y * stride, (y + height) * stride, stride), slice(x * stride, (x + width) * stride, stride)))
    return found


def _noisy(samples: SampleFields, at: int, t: int, window: tuple[slice, slice], rng: np.random.Generator) -> Single:
    """All channels of a time as they will be decoded."""
    cut = samples.runs[at][t][:, *window].astype(np.float32)
    return cut + rng.uniform(-FRACTION / 2, FRACTION / 2, cut.shape).astype(np.float32)


def _periodic(samples: SampleFields, window: tuple[slice, slice]) -> bool:
    return samples.periodic and window[1].start is None


def _now(samples: SampleFields, at: int, t: int, window: tuple[slice, slice], rng: np.random.Generator) -> _Now:
    factor = None if samples.factor is None else samples.factor[window[0]].astype(np.float32)
    fields = _noisy(samples, at, t, window, rng)
    stencils = _STENCILS + (_TURNING if factor is not None else ())
    parts = [seen_through(fields, stencil, factor, periodic=_periodic(samples, window)) for stencil in stencils]
    if samples.statics is not None:
        parts.append(samples.statics[:, *window].astype(np.float32))
    if samples.bases is not None:
        parts.append(samples.bases[at][t][:, *window].astype(np.float32))
    looked = np.concatenate([innovations(part) for part in parts])
    wanted = innovations(samples.runs[at][t][:, *window].astype(np.float32))
    return _Now(looked, wanted, looked @ looked.T, looked @ wanted.T)


def _elsewhere(
    samples: SampleFields, role: Role, at: int, t: int, window: tuple[slice, slice], rng: np.random.Generator
) -> list[Single]:
    """Innovations of all channels at other times, for each time and stencil float32 (channels, values)."""
    found = []
    for distance in (-role.before, role.after):
        if distance:
            fields = _noisy(samples, at, t + distance, window, rng)
            found += [innovations(seen_through(fields, s, None, periodic=_periodic(samples, window))) for s in _STENCILS]
    return found


def _terms(samples: SampleFields, role: Role) -> list[Term]:
    """Every term there can be, as their products are laid out."""
    channels = range(samples.runs[0].shape[1])
    stencils = _STENCILS + (_TURNING if samples.factor is not None else ())
    found = [Term(Source.SAME, c, stencil) for stencil in stencils for c in channels]
    if samples.statics is not None:
        found += [Term(Source.STATIC, c, Stencil()) for c in channels]
    if samples.bases is not None:
        found += [Term(Source.BASE, c, Stencil()) for c in channels]
    for source, distance in ((Source.BEFORE, role.before), (Source.AFTER, role.after)):
        if distance:
            found += [Term(source, c, stencil) for stencil in _STENCILS for c in channels]
    return found


def solve(moments: Moments, channel: int, terms: Sequence[Term]) -> Fit:
    """Weights of some terms for a channel, and the bits one field is estimated to cost."""
    weights = np.zeros((len(terms), STRIDES))
    bits = 0.0
    for level in range(STRIDES):
        gram, cross, left = moments.form(terms, channel, level)
        if len(terms):
            size = np.sqrt(np.maximum(np.diag(gram), 1e-12))
            scaled = gram / size[:, None] / size[None] + _RIDGE * np.eye(len(terms))
            weights[:, level] = np.linalg.solve(scaled, cross / size) / size
            left = max(0.0, left - float(2 * weights[:, level] @ cross - weights[:, level] @ gram @ weights[:, level]))
        bits += moments.values[level] / moments.values[0] * entropy(left)
    return Fit(tuple(terms), weights, bits)


def entropy(variance: Any) -> Any:
    """Bits of a value whose innovation has this variance, in lattice units; a number or an array."""
    return 0.5 * np.log2(1.0 + _GAUSSIAN * np.maximum(variance, 0.0) / FRACTION**2)


def estimated_bits(fits: Iterable[Fit]) -> float:
    """Of several fields together; only comparisons mean anything."""
    return sum(fit.bits for fit in fits)
