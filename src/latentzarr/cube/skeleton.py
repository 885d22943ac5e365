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

Fields = npt.NDArray[np.float64]


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
        Values at each stride.
    """

    terms: dict[Term, int]
    gram: tuple[Fields, ...]
    cross: tuple[Fields, ...]
    energy: tuple[Fields, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Weights of some terms for one channel: float64 (terms, 4), and the bits a field is estimated to cost with them."""

    terms: tuple[Term, ...]
    weights: Fields
    bits: float


def gather_moments(samples: SampleFields, role: Role, seed: int = 0) -> Moments | None:
    """Sums of products for a role; None where no run is long enough for it."""
    rng = np.random.default_rng(seed)
    channels = samples.runs[0].shape[1]
    terms: dict[Term, int] = {}
    gram: list[Fields] = []
    cross: list[Fields] = []
    energy: list[Fields] = []
    counts = [0] * STRIDES
    for at, run in enumerate(samples.runs):
        noisy = run + rng.uniform(-FRACTION / 2, FRACTION / 2, run.shape)
        base = None if samples.bases is None else samples.bases[at]
        for t in _places(len(run), role):
            looked = list(_looked_at(noisy, samples, base, role, t, channels))
            if not terms:
                terms |= {term: i for i, (term, _) in enumerate(looked)}
            for level in range(STRIDES):
                every = slice(None, None, 1 << level)
                if min(run[t, 0, every, every].shape) < _SMALLEST:
                    continue
                factor = None if samples.factor is None else samples.factor[every]
                seen = [seen_through(f[None, every, every], k.stencil, factor, periodic=samples.periodic) for k, f in looked]
                x = innovations(np.concatenate(seen))
                y = innovations(run[t][:, every, every])
                for sums, product in ((gram, x @ x.T), (cross, x @ y.T), (energy, (y * y).sum(1))):
                    if len(sums) <= level:
                        sums.append(product)
                    else:
                        sums[level] = sums[level] + product
                counts[level] += y.shape[1]
    if not gram:
        return None
    while len(gram) < STRIDES:  # too small a grid for the coarsest strides: they take what the finer ones say
        for sums in (gram, cross, energy):
            sums.append(sums[-1])
        counts[len(gram) - 1] = max(1, counts[len(gram) - 2] // 4)
    return Moments(terms, tuple(gram), tuple(cross), tuple(energy), tuple(counts))


def _places(times: int, role: Role) -> range:
    """Times of a run that have what the role looks at; all of a short run, a few of a long one."""
    first, last = role.before, times - role.after
    return range(first, last, max(1, (last - first) // 6))


def _looked_at(
    noisy: Fields, samples: SampleFields, base: Fields | None, role: Role, t: int, channels: int
) -> Iterable[tuple[Term, Fields]]:
    """Every term there can be, and its field."""
    stencils = _STENCILS + (_TURNING if samples.factor is not None else ())
    for c in range(channels):
        for stencil in stencils:
            yield Term(Source.SAME, c, stencil), noisy[t, c]
        if samples.statics is not None:
            yield Term(Source.STATIC, c, Stencil()), samples.statics[c]
        if base is not None:
            yield Term(Source.BASE, c, Stencil()), base[t, c]
        for source, there, distance in (
            (Source.BEFORE, role.before > 0, -role.before),
            (Source.AFTER, role.after > 0, role.after),
        ):
            if there:
                for stencil in _STENCILS:
                    yield Term(source, c, stencil), noisy[t + distance, c]


def solve(moments: Moments, channel: int, terms: Sequence[Term]) -> Fit:
    """Weights of some terms for a channel, and the bits one field is estimated to cost."""
    rows = np.array([moments.terms[term] for term in terms], np.int64)
    weights = np.zeros((len(terms), STRIDES))
    bits = 0.0
    for level in range(STRIDES):
        left = float(moments.energy[level][channel])
        if len(terms):
            cross = moments.cross[level][rows, channel]
            gram = moments.gram[level][np.ix_(rows, rows)]
            size = np.sqrt(np.maximum(np.diag(gram), 1e-12))
            scaled = gram / size[:, None] / size[None] + _RIDGE * np.eye(len(rows))
            weights[:, level] = np.linalg.solve(scaled, cross / size) / size
            left = max(0.0, left - float(2 * weights[:, level] @ cross - weights[:, level] @ gram @ weights[:, level]))
        bits += _values(moments, level) * _entropy(left / max(1, moments.counts[level]))
    return Fit(tuple(terms), weights, bits)


def _values(moments: Moments, level: int) -> float:
    """Values of one field at a stride, relative to each other all that matters; coarser strides are few."""
    return moments.counts[level] / max(1, moments.counts[0])


def _entropy(variance: float) -> float:
    """Bits of a value whose innovation has this variance, in lattice units."""
    return float(0.5 * np.log2(1.0 + _GAUSSIAN * variance / FRACTION**2))


def estimated_bits(fits: Iterable[Fit]) -> float:
    """Of several fields together; only comparisons mean anything."""
    return sum(fit.bits for fit in fits)
