"""Encoder only: walk a chunk with a predictor, choose the tables that code its quanta in the fewest bytes, and pack them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import Mode, Section
from latentzarr.bitstream.rans import encode_symbols
from latentzarr.bitstream.tables import CLASSES, SCALE_BITS, FrequencyTables
from latentzarr.bitstream.tokens import TOKENS
from latentzarr.codec.hierarchy import TableChoice, Walk, combined_starts, encode_walk, first_fixed_row, tables_group
from latentzarr.codec.kernels.tables import count_by_class, price_shifts, rows_of
from latentzarr.codec.predictor import CUBIC_CONTEXTS, Predictor
from latentzarr.codec.prepare import LatticeChunk
from latentzarr.geometry import Order

__all__ = ["Candidate", "candidate_of", "make_candidate"]

_LARGEST_SHIFT = 8
_SECTIONED_BYTES = 2048
_LANE_SHARE = 100  # lane states may cost one part in this of the words
_LANES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A walk with its tables chosen, not yet packed.

    Attributes
    ----------
    mode : Mode
    order : Order
    dyadic : bool
        Slices are visited in dyadic order.
    walk : Walk
    adaptation : bytes
    root_class : int
    choice : TableChoice
    bits : float
        Estimated size of all symbols.
    """

    mode: Mode
    order: Order
    dyadic: bool
    walk: Walk
    adaptation: bytes
    root_class: int
    choice: TableChoice
    bits: float = field(compare=False)

    @property
    def estimated_bytes(self) -> int:
        """Estimated payload and adaptation."""
        return int(self.bits / 8) + len(self.adaptation) + 8

    def pack(self) -> tuple[bytes, tuple[Section, ...], int]:
        """Payload (lane states, then words), sections, and number of lanes."""
        walk = self.walk
        rows = np.empty(len(walk.quanta), np.uint16)
        rows_of(walk.groups, walk.classes, self.choice.row_of, self.choice.root_row, rows)
        lanes = max(n for n in _LANES if n == 1 or 4 * n * _LANE_SHARE <= self.bits / 8)
        words, states, taken = encode_symbols(walk.quanta, rows, walk.ends, self.choice.starts, lanes)
        whole = Section(len(words))
        sections: tuple[Section, ...] = (whole,)
        if 2 * len(words) >= _SECTIONED_BYTES:
            reached = [int(taken[s - 1]) for s in walk.section_segments]
            sections = tuple(Section(b - a) for a, b in zip([0, *reached[:-1]], reached, strict=True))
        return states.astype("<u4").tobytes() + words.astype("<u2").tobytes(), sections, lanes


_costs: dict[int, tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]] = {}


def _token_bits(starts: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Bits of each token in each row, shape (rows, 64), raw extra bits left out; made once for each model."""
    known = _costs.get(id(starts))
    if known is None or known[0] is not starts:
        if len(_costs) > 16:
            _costs.clear()
        known = (starts, SCALE_BITS - np.log2(np.diff(starts, axis=1)))
        _costs[id(starts)] = known
    return known[1]


def make_candidate(
    chunk: LatticeChunk, predictor: Predictor, tables: FrequencyTables, *, dyadic: bool = False
) -> Candidate | None:
    """Walk a chunk and choose tables; None where the walk leaves the format's range."""
    walk = encode_walk(
        chunk.target, chunk.missing, chunk.coded, predictor, snap=chunk.snap, half_open=chunk.half_open, dyadic=dyadic
    )
    return None if walk is None else candidate_of(walk, predictor, tables, snap=chunk.snap, dyadic=dyadic)


def candidate_of(walk: Walk, predictor: Predictor, tables: FrequencyTables, *, snap: bool, dyadic: bool) -> Candidate:
    """Choose the tables that code a walk in the fewest bytes."""
    order = predictor.order
    cost = _token_bits(combined_starts(tables))
    fixed = cost[first_fixed_row(tables) :]
    by_group = np.zeros((order.groups + 1, CLASSES, TOKENS), np.int64)
    raw = count_by_class(walk.quanta, walk.groups, walk.classes, by_group)
    root_costs = fixed @ by_group[-1].sum(0)
    step = 1 if order is Order.TWO_PASSES else 2  # version 2 has bytes for even classes only
    root_class = step * int(root_costs[::step].argmin())
    if predictor.mode is Mode.CUBIC:
        adapt = _adapt_cubic(by_group[:-1], fixed, order)
    else:
        adapt = _adapt_neural(by_group[:-1], cost, order, snap=snap)
    choice = TableChoice.make(predictor.mode, order, tables, adapt[0], root_class, snap=snap)
    bits = float(root_costs[root_class]) + adapt[1] + raw
    return Candidate(predictor.mode, order, dyadic, walk, adapt[0], root_class, choice, bits)


def _adapt_cubic(counts: npt.NDArray[np.int64], fixed: npt.NDArray[np.float64], order: Order) -> tuple[bytes, float]:
    """The best fixed table for each of 3 x 16 contexts, and the bits they cost."""
    merged = counts.reshape(3, order.kinds, CLASSES, TOKENS).sum(1)[:, :CUBIC_CONTEXTS].reshape(3 * CUBIC_CONTEXTS, TOKENS)
    bits = merged @ fixed.T
    best = bits.argmin(1)
    return best.astype(np.uint8).tobytes(), float(bits[np.arange(len(best)), best].sum())


def _adapt_neural(
    counts: npt.NDArray[np.int64], cost: npt.NDArray[np.float64], order: Order, *, snap: bool
) -> tuple[bytes, float]:
    """How far to shift the classes of each group, if that saves more than it costs, and the bits of all groups."""
    total = np.zeros((order.groups, 2 * _LARGEST_SHIFT + 1))
    first_rows = np.array([CLASSES * tables_group(group, order, snap=snap) for group in range(order.groups)])
    price_shifts(counts, cost, first_rows, _LARGEST_SHIFT, total)
    plain = float(total[:, _LARGEST_SHIFT].sum())
    most = total.shape[1] - (order is not Order.TWO_PASSES)  # version 2 has half a byte for a shift: -8 to 7
    best = total[:, :most].argmin(1)
    shifted = float(total[:, :most].min(1).sum())
    if plain - shifted <= (8 if order is Order.TWO_PASSES else 4) * (order.groups + 1):
        return b"", plain
    return bytes(int(128 + b) - _LARGEST_SHIFT for b in best), shifted
