"""Which codings of a chunk are worth trying at an effort, and the trying of them; `latentzarr.codec.chunk` checks them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import Mode
from latentzarr.bitstream.tables import fixed_tables
from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.codec.config import Effort
from latentzarr.codec.predictor import Predictor
from latentzarr.codec.prepare import LatticeChunk, with_step
from latentzarr.codec.raster import RasterCandidate, encode_raster, may_win
from latentzarr.codec.search import Candidate, make_candidate
from latentzarr.errors import GuaranteeBrokenError
from latentzarr.geometry import ChunkGeometry, Order
from latentzarr.models.weights import Model
from latentzarr.scaling import LinearLattice

__all__ = ["Way", "aimed", "walks", "with_raster", "worth_trying"]

_RMSE_ROUNDS = 4
_RASTER_SHARE = {Effort.FAST: 0.95, Effort.NORMAL: 0.96, Effort.MAX: 0.99}
"""A raster frame is kept where it has at most this share of the hierarchy's bytes; small chunks are soon decoded anyway."""
_SMALL = 2**16
_NARROWEST = 64


@dataclass(frozen=True, slots=True)
class Way:
    """A predictor, and the order in which it sees the slices."""

    predictor: Predictor
    dyadic: bool = False


def worth_trying(chunk: LatticeChunk, predictors: Sequence[Predictor], effort: Effort, model: Model) -> list[Way]:
    """What fits the chunk.

    Slices unlike each other had better not look at each other, and smooth change asks for dyadic order. With the highest
    effort all there is is tried; normally what codes a window of the chunk in the fewest bytes; with the lowest effort a look
    at the values decides.
    """
    slices = chunk.coded.slices
    ways = [Way(p) for p in predictors if slices > 1 or p.mode is not Mode.INDEPENDENT]
    ways += [Way(p, dyadic=True) for p in predictors if slices > 2 and p.mode is Mode.NEURAL and _can_be_dyadic(p)]
    neural = [way for way in ways if way.predictor.mode.is_neural]
    if effort is Effort.MAX or len(neural) < 2:
        return ways
    if effort is Effort.FAST:
        alike = chunk.slices_are_alike()
        between = alike and chunk.slices_change_smoothly()
        fits = [w for w in neural if (w.predictor.mode is Mode.NEURAL) == alike and w.dyadic == between]
        # cubic looks at one slice only, so it is left out where slices tell of each other
        return fits if fits and alike else fits + [way for way in ways if way not in neural]
    window = _window(chunk)
    tried = [(candidate.bits, i) for i, way in enumerate(neural) if (candidate := _try(window, way, model)) is not None]
    best = [neural[min(tried)[1]]] if tried else neural
    return best + [way for way in ways if way not in neural]


def _window(chunk: LatticeChunk) -> LatticeChunk:
    """The middle of a chunk: a third of its rows and columns, at least 64, of all slices."""
    slices, rows, columns = chunk.coded.shape
    height, width = (min(n, max(_NARROWEST, -(-n // 3))) for n in (rows, columns))
    cut = slice((rows - height) // 2, (rows + height) // 2), slice((columns - width) // 2, (columns + width) // 2)

    def part(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        inside = plane.reshape(slices, rows, columns)[:, cut[0], cut[1]]
        return np.ascontiguousarray(inside).reshape(slices, -1)

    missing = None if chunk.missing is None else part(chunk.missing)
    geometry = ChunkGeometry(slices, cut[0].stop - cut[0].start, cut[1].stop - cut[1].start)
    return replace(chunk, target=part(chunk.target), missing=missing, coded=geometry)


def _can_be_dyadic(predictor: Predictor) -> bool:
    return predictor.order is not Order.TWO_PASSES  # format version 1 knows one order of slices


def with_raster(
    prepared: LatticeChunk, found: list[Candidate | RasterCandidate], effort: Effort
) -> list[Candidate | RasterCandidate]:
    """The candidates, smallest first, with the raster's before them if that is tried and small enough.

    It decodes more slowly and has no previews by prefix, so it must be smaller by a margin that depends on the effort; with
    the lowest effort it is not tried where there is any other.
    """
    if effort is Effort.FAST and found:
        return found
    share = 0.99 if prepared.coded.size <= _SMALL else _RASTER_SHARE[effort]
    most = int(share * found[0].estimated_bytes) if found else prepared.target.nbytes
    candidate = encode_raster(prepared, most) if not found or may_win(prepared, most) else None
    return found if candidate is None else [candidate, *found]


def walks(ready: LatticeChunk, ways: Sequence[Way], model: Model) -> list[Candidate]:
    """What came of the ways that could be gone."""
    return [c for c in (_try(ready, way, model) for way in ways) if c is not None]


def _try(ready: LatticeChunk, way: Way, model: Model) -> Candidate | None:
    """A candidate, or None where the walk leaves the format's range or the predictor breaks its contract."""
    try:
        tables = fixed_tables() if way.predictor.mode is Mode.CUBIC else model.tables
        return make_candidate(ready, way.predictor, tables, dyadic=way.dyadic)
    except GuaranteeBrokenError:
        return None


def aimed(ready: LatticeChunk, flat: npt.NDArray[Any], bound: ErrorBound, model: Model, ways: Sequence[Way]) -> LatticeChunk:
    """For ``bound=none``: change the step until the root mean square error made is the one aimed at."""
    if bound.kind is not BoundKind.NONE or not ways:
        return ready
    for _ in range(_RMSE_ROUNDS):
        assert isinstance(ready.lattice, LinearLattice)
        candidate = _try(ready, ways[0], model)
        if candidate is None:
            return ready
        coded = ready.special.missing == 0
        error = (candidate.walk.n.reshape(-1) - ready.target.reshape(-1))[coded] if coded.any() else np.zeros(1)
        made = float(np.sqrt(np.mean(error**2))) * ready.lattice.step / 16
        if made == 0.0 or 0.97 <= made / bound.value <= 1.0:
            return ready
        ready = with_step(ready, flat, ready.lattice.step * min(max(0.99 * bound.value / made, 0.5), 3.0))
    return ready
