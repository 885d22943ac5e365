"""What the points of a rate-distortion run say, as a markdown page: gains over the best peer, quality, speed, and fitting."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fields import MODES
from points import OURS, Point
from report import GROUPS, geometric_mean

if TYPE_CHECKING:
    from fitted import Fitted
    from throughput import Pace

__all__ = ["Duel", "duels", "gains_table", "page"]


@dataclass(frozen=True, slots=True)
class Duel:
    """A case: our point at an effort, the best peer that held its bound, and SZ3's."""

    ours: Point
    best: Point
    sz3: Point | None

    @property
    def gain(self) -> float:
        """Bytes of the best peer over ours; above 1 we are smaller. A broken bound of ours counts for nothing."""
        return self.best.encoded / self.ours.encoded if self.ours.valid else 0.0


def duels(points: Iterable[Point]) -> list[Duel]:
    """All cases that ours and at least one peer were measured on, an effort at a time."""
    cases: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        cases.setdefault(point.case, []).append(point)
    found = []
    for rows in cases.values():
        peers = [p for p in rows if p.codec != OURS and p.valid]
        if peers:
            best, sz3 = min(peers, key=lambda p: p.encoded), next((p for p in peers if p.codec == "sz3"), None)
            found += [Duel(p, best, sz3) for p in rows if p.codec == OURS]
    return found


def _efforts(found: Sequence[Duel]) -> list[str]:
    return list(dict.fromkeys(d.ours.effort for d in found))


def _modes(found: Sequence[Duel]) -> list[str]:
    return [m for m in MODES if any(d.ours.mode == m for d in found)]


def _fractions(found: Sequence[Duel]) -> list[str]:
    return sorted({d.ours.fraction for d in found}, key=lambda f: -float(f))


def _bound(fraction: str) -> str:
    return "lossless" if float(fraction) == 0 else fraction


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows), ""]


def _mean(found: Iterable[Duel]) -> str:
    gains = [d.gain for d in found]
    if not gains:
        return "-"
    return f"{geometric_mean(gains):.3f} ({len(gains)})" if min(gains) > 0 else "BROKEN"


def gains_table(found: Sequence[Duel]) -> list[str]:
    """Geometric means of the gain by effort, mode and bound, with the number of cases."""
    fractions = _fractions(found)
    rows = []
    for effort in _efforts(found):
        for mode in _modes(found):
            mine = [d for d in found if (d.ours.effort, d.ours.mode) == (effort, mode)]
            rows.append([effort, mode, *(_mean(d for d in mine if d.ours.fraction == f) for f in fractions), _mean(mine)])
        mine = [d for d in found if d.ours.effort == effort]
        rows.append([effort, "all", *(_mean(d for d in mine if d.ours.fraction == f) for f in fractions), _mean(mine)])
    return _table(["effort", "chunks", *map(_bound, fractions), "all"], rows)


def _by_group(found: Sequence[Duel]) -> list[str]:
    """The gain in the groups of families that have bars of their own, each with its worst case."""
    fractions, rows = _fractions(found), []
    for effort in _efforts(found):
        for group, families in GROUPS.items():
            for mode in _modes(found):
                cells = []
                for fraction in fractions:
                    of = (effort, mode, fraction)
                    mine = [d for d in found if d.ours.family in families and (d.ours.effort, d.ours.mode, d.ours.fraction) == of]
                    cells.append(f"{_mean(mine)}, {min(d.gain for d in mine):.2f}" if mine else "-")
                rows.append([effort, group, mode, *cells])
    return _table(["effort", "variables", "chunks", *map(_bound, fractions)], rows)


def _record(found: Sequence[Duel], family: str) -> str:
    mine = [d for d in found if d.ours.family == family]
    wins, losses = sum(d.gain > 1 for d in mine), sum(d.gain < 1 for d in mine)
    return f"{wins}:{losses}" if mine else "-"


def _families(found: Sequence[Duel]) -> list[str]:
    return list(dict.fromkeys(d.ours.family for d in found))


def _details(found: Sequence[Duel]) -> list[str]:
    rows = []
    families = _families(found)
    for effort in _efforts(found):
        for mode in _modes(found):
            for fraction in _fractions(found):
                mine = [d for d in found if (d.ours.effort, d.ours.mode, d.ours.fraction) == (effort, mode, fraction)]
                if mine:
                    worst = min(mine, key=lambda d: d.gain)
                    where = f"{worst.gain:.2f} {worst.ours.variable} ({worst.best.codec})"
                    record = [_record(mine, family) for family in families]
                    rows.append([effort, mode, _bound(fraction), _mean(mine), *record, where])
    return _table(["effort", "chunks", "bound / range", "geometric mean (cases)", *families, "worst case (its best peer)"], rows)


def _by_variable(found: Sequence[Duel]) -> list[str]:
    modes, rows = _modes(found), []
    for effort in _efforts(found):
        for variable in dict.fromkeys(d.ours.variable for d in found):
            mine = [d for d in found if (d.ours.effort, d.ours.variable) == (effort, variable)]
            best = Counter(d.best.codec for d in mine).most_common(2)
            cells = [_mean(d for d in mine if d.ours.mode == mode) for mode in modes]
            rows.append([effort, variable, *cells, ", ".join(f"{name} {count}" for name, count in best)])
    return _table(["effort", "variable", *modes, "its best peers, and how often"], rows)


def _quality(found: Sequence[Duel]) -> list[str]:
    rows = []
    for effort in _efforts(found):
        for fraction in (f for f in _fractions(found) if float(f) > 0):
            mine = [(d.ours, d.sz3) for d in found if (d.ours.effort, d.ours.fraction) == (effort, fraction)]
            pairs = [(o, s) for o, s in mine if s is not None and o.valid and o.rmse > 0 and s.rmse > 0]
            seen = [(o.detail, s.detail) for o, s in pairs if math.isfinite(o.detail) and math.isfinite(s.detail)]
            if pairs and seen:
                ours, sz3 = zip(*seen, strict=True)
                ratio = _quartiles([o.rmse / s.rmse for o, s in pairs])
                rows.append([effort, _bound(fraction), str(len(pairs)), ratio, _quartiles(ours), _quartiles(sz3)])
    head = ["effort", "bound / range", "cases", "RMSE, ours / SZ3", "small-scale power, ours", "small-scale power, SZ3"]
    return _table(head, rows)


def _quartiles(values: Sequence[float]) -> str:
    """Median, and the quartiles in brackets."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _speed(paces: Sequence[Pace]) -> list[str]:
    return _table(["codec", "encode, MB/s", "decode, MB/s"], ([p.codec, f"{p.encode:.1f}", f"{p.decode:.1f}"] for p in paces))


def _fitting(fits: Sequence[Fitted]) -> list[str]:
    rows = [
        [
            f.variable, f.learned, f.fraction, f"{f.values:,}", f"{f.peer_bytes:,} ({f.peer})", f"{f.shipped:,}", f"{f.fitted:,}",
            f"{f.model:,}", f"{f.shipped / f.fitted:.3f}", f"{f.peer_bytes / (f.fitted + f.model):.3f}",
            f"{f.pays_from / 1e6:.1f} M" if f.model and math.isfinite(f.pays_from) else "-", f"{f.seconds:.0f}",
        ]
        for f in fits
    ]  # fmt: skip
    head = [
        "variable",
        "learned from",
        "bound / range",
        "values of the rest",
        "best peer",
        "shipped model",
        "fitted",
        "its model",
    ]
    return _table([*head, "shipped / fitted", "peer / (fitted + model)", "model pays from, values", "training, s"], rows)


def _troubles(points: Sequence[Point]) -> list[str]:
    """Peers that had to be asked for less, and what broke a bound or did not run, by codec and reason."""
    peers = [p for p in points if p.codec != OURS]
    text = []
    tightened = Counter(p.codec for p in peers if p.valid and p.tightened < 1)
    if tightened:
        smallest = min(p.tightened for p in peers if p.valid)
        counts = ", ".join(f"{name} {count}" for name, count in tightened.most_common())
        text.append(
            f"- Broke the bound first, and were asked for a smaller one until it held (at least {smallest:g} of it): {counts}."
        )
    reasons: dict[tuple[str, str], list[Point]] = {}
    for p in points:
        if not p.valid:
            kind = "bound broken even at 0.9 of it" if "bound broken" in p.status else p.status
            reasons.setdefault((p.codec, kind), []).append(p)
    for (codec, reason), mine in reasons.items():
        cases = "; ".join("/".join(p.case) for p in mine[:3])
        text.append(
            f"- {codec} is not among the peers of {len(mine)} cases ({reason}): {cases}{' ...' if len(mine) > 3 else ''}."
        )
    return text or ["- Every codec held the bound in every case."]


def page(
    head: Sequence[str], points: Sequence[Point], fits: Sequence[Fitted], paces: Sequence[Pace], figures: Sequence[str]
) -> str:
    """The whole page."""
    found = duels(points)
    parts: list[tuple[str, str, Callable[[], list[str]]]] = [
        ("Gain", "Bytes of the best peer over ours, geometric mean, cases in brackets; above 1 ours is smaller.",
         lambda: gains_table(found)),
        ("Gain by group", "The same by group of families; behind the mean the worst case.", lambda: _by_group(found)),
        ("Wins, losses and the worst case", "Wins:losses by family.", lambda: _details(found)),
        ("By variable", "Geometric mean of the gain over the bounds.", lambda: _by_variable(found)),
        ("Quality at the same bound",
         _QUALITY, lambda: _quality(found)),
    ]  # fmt: skip
    text = ["# Rate and distortion", "", *head, ""]
    for title, said, rows in parts if found else []:
        text += [f"## {title}", "", said, "", *rows()]
    if paces:
        said = "Medians over chunks, bounds and rounds, all in this run and in one process; MB of the array, one thread."
        text += ["## Speed", "", said, "", *_speed(paces)]
    if fits:
        text += ["## Fitted to a variable's own past", "", _FITTING, "", *_fitting(fits)]
    if figures:
        text += ["## Curves", "", *(f"![bits a value against the bound]({name})" for name in figures), ""]
    text += ["## Bounds broken", "", *_troubles(points), ""]
    return "\n".join([*text, *_METHOD]) + "\n"


_QUALITY = (
    "Medians over the cases, quartiles in brackets. Small scales: power in the highest third of wavenumbers, decoded over "
    "original; 1 is best. Where a bound is near the step of a field's lattice, values may come back exactly."
)
_FITTING = (
    "Deep chunks of the rest of a variable, after learning from its first part. The shipped model comes with the package and is "
    "not counted; the fitted one is."
)
_METHOD = [
    "## How it was measured",
    "",
    "- Fields: none of a file that the default model was trained on; samples are fixed in `benchmarks/fields.py`. A bound is a",
    "  fraction of the range of the whole variable; integers may err by the floor of it, and are also coded losslessly.",
    "- Chunks: `64`, `128`, `256` are a spread of square tiles, `whole` a few maps, `deep` 8 to 16 steps, levels, members or",
    "  bands (4 of MRMS). Where a map is no larger than a tile, it appears under `whole` only.",
    "- Ours: complete frames, checksums included. The model comes with the package and is not counted.",
    "- Peers: NaN and codes are filled smoothly before the clock starts and the mask's bytes (bits, zstd 19) are counted;",
    "  JPEG-XL has them as a level of the image. Integers reach SZ3, SPERR, ZFP and EBCC as floats with floor(bound) + 0.49, and",
    "  are rounded. In `deep`, SZ3, SPERR, ZFP and pcodec have the smaller of volume and slices, a chunk at a time; JPEG-XL,",
    "  LERC and EBCC code slices. EBCC has base_cr 10, or 4 where that breaks the bound, and frames padded to 32 x 32.",
    "- Every result is decoded and compared in float64, ours and theirs. A peer that breaks the bound is asked for a smaller",
    "  one, down to 0.9 of it; what still breaks it is never the best peer.",
]
