"""What the measurements say: a wide CSV, a markdown page with means, wins, losses and the worst case, and one figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from environment import commit, machine
from measure import Row

__all__ = ["GROUPS", "Line", "geometric_mean", "lines", "write_report"]

OURS = "latentzarr"
GROUPS = {"atmosphere and ocean": ("atmosphere", "ocean"), "satellite": ("satellite",), "radar": ("radar",)}
PACKAGES = ("numpy", "numba", "pysz", "imagecodecs", "zfpy", "pcodec")


@dataclass(frozen=True, slots=True)
class Line:
    """One case with all its codecs: a line of the table."""

    family: str
    variable: str
    mode: str
    fraction: str
    rows: dict[str, Row]

    @property
    def best(self) -> Row | None:
        """The smallest peer whose bound held."""
        valid = [r for r in self.rows.values() if r.codec != OURS and r.valid]
        return min(valid, key=lambda r: r.encoded, default=None)

    @property
    def ours(self) -> Row | None:
        """Our row, if it was measured and held its bound."""
        row = self.rows.get(OURS)
        return row if row is not None and row.valid else None

    @property
    def gain(self) -> float | None:
        """Bytes of the best peer over ours; above 1 we are smaller."""
        return self.best.encoded / self.ours.encoded if self.best and self.ours and self.ours.encoded else None


def lines(rows: Iterable[Row]) -> list[Line]:
    """Rows gathered by case, in the order of the cases."""
    found: dict[tuple[str, str, str], Line] = {}
    for row in rows:
        line = found.setdefault(row.key, Line(row.family, row.variable, row.mode, row.fraction, {}))
        line.rows[row.codec] = row
    return list(found.values())


def geometric_mean(values: Sequence[float]) -> float:
    """NaN for none."""
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else math.nan


def write_report(rows: Sequence[Row], out: Path, stem: str, run: str, seen: str) -> list[Path]:
    """Write ``stem.csv``, ``stem.md`` and ``stem.png`` below ``out``; ``seen`` says whether the model knew the data."""
    out.mkdir(parents=True, exist_ok=True)
    table = lines(rows)
    codecs = list(dict.fromkeys(r.codec for r in rows))
    paths = [out / f"{stem}.csv", out / f"{stem}.md", out / f"{stem}.png"]
    _write_csv(table, codecs, paths[0])
    paths[1].write_text(_markdown(table, codecs, rows, paths[2].name, run, seen), encoding="utf-8")
    if any(line.gain for line in table):
        _draw(table, paths[2])
    else:
        paths.pop()
    return paths


def _write_csv(table: Sequence[Line], codecs: Sequence[str], path: Path) -> None:
    columns = ["family", "variable", "chunks", "bound_of_range", "bound", "raw_bytes", "best_peer", "gain", "modes"]
    details = ("encoded", "error", "tightened", "encode_mb_s", "decode_mb_s", "status")
    columns += [f"{codec} {detail}" for codec in codecs for detail in details]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for line in table:
            any_row = next(iter(line.rows.values()))
            cells: dict[str, object] = {
                "family": line.family,
                "variable": line.variable,
                "chunks": line.mode,
                "bound_of_range": line.fraction,
                "bound": any_row.bound,
                "raw_bytes": any_row.raw,
                "best_peer": line.best.codec if line.best else "",
                "gain": f"{line.gain:.4f}" if line.gain else "",
                "modes": line.rows[OURS].candidates if OURS in line.rows else "",
            }
            for codec, row in line.rows.items():
                cells |= {f"{codec} {detail}": getattr(row, detail) for detail in details}
            writer.writerow(cells)


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.valid or row.status == "no bound asked":
        note = f" ({row.error:.3g})" if row.status == "no bound asked" else ""
        return f"{row.encoded:,}{note}"
    return "failed"


def _markdown(table: Sequence[Line], codecs: Sequence[str], rows: Sequence[Row], figure: str, run: str, seen: str) -> str:
    peers = [c for c in codecs if c != OURS]
    text = [
        "# First table: bytes under a bound",
        "",
        *_environment(rows, run),
        seen,
        "",
        "## Gain: best peer's bytes over ours",
        "",
    ]
    text += [
        "| variables | chunks | bound / range | cases | geometric mean | wins | losses | worst case |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group, families in GROUPS.items():
        for mode in dict.fromkeys(line.mode for line in table):
            for fraction in dict.fromkeys(line.fraction for line in table):
                chosen = [x for x in table if x.family in families and x.mode == mode and x.fraction == fraction and x.gain]
                if chosen:
                    text.append(_summary(group, mode, fraction, chosen))
    if any(line.gain for line in table):
        text += ["", f"![gain of each case]({figure})"]
    text += [
        "",
        "## Bytes",
        "",
        "16bit+zstd was asked for no bound: in brackets its own largest error over the bound. It is never the best.",
        "",
    ]
    text += [f"| variable | chunks | bound / range | {' | '.join(peers)} | ours | gain | ours max error / bound | modes |"]
    text += ["|" + "---|" * (len(peers) + 7)]
    for line in table:
        ours = line.rows.get(OURS)
        cells = " | ".join(_bold(_cell(line.rows.get(c)), line.best is not None and line.best.codec == c) for c in peers)
        gain = f"{line.gain:.2f}" if line.gain else "-"
        error, modes = (f"{ours.error:.6g}", ours.candidates if ours.valid else ours.status) if ours else ("-", "-")
        text.append(f"| {line.variable} | {line.mode} | {line.fraction} | {cells} | {_cell(ours)} | {gain} | {error} | {modes} |")
    return "\n".join([*text, "", *_speeds(rows, codecs), *_notes(rows)]) + "\n"


def _bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes else text


def _summary(group: str, mode: str, fraction: str, chosen: Sequence[Line]) -> str:
    gains = [x.gain for x in chosen if x.gain]
    worst = min(chosen, key=lambda x: x.gain or math.inf)
    wins, losses = sum(g > 1 for g in gains), sum(g < 1 for g in gains)
    where = f"{worst.gain:.2f} {worst.variable} ({worst.best.codec if worst.best else ''})"
    return f"| {group} | {mode} | {fraction} | {len(gains)} | {geometric_mean(gains):.3f} | {wins} | {losses} | {where} |"


def _speeds(rows: Sequence[Row], codecs: Sequence[str]) -> list[str]:
    text = [
        "## Speed, MB of raw array a second",
        "",
        "Bytes of all cases over their seconds. Chunks are coded one after the other in one process.",
        "",
    ]
    text += ["| codec | encode | decode |", "|---|---|---|"]
    for codec in codecs:
        mine = [r for r in rows if r.codec == codec and r.encode_mb_s and r.decode_mb_s]
        if mine:
            rate = [_rate(mine, key) for key in (lambda r: r.encode_mb_s, lambda r: r.decode_mb_s)]
            text.append(f"| {codec} | {rate[0]:.1f} | {rate[1]:.1f} |")
    return [*text, ""]


def _rate(rows: Sequence[Row], speed: Callable[[Row], float]) -> float:
    return sum(r.raw for r in rows) / sum(r.raw / speed(r) for r in rows)


def _environment(rows: Sequence[Row], run: str) -> list[str]:
    runs = sorted({r.run for r in rows})
    age = (
        "All measured in this run."
        if runs == [run]
        else f"Measured in {len(runs)} runs since {runs[0]}: compare speeds with care (--fresh)."
    )
    code = sorted({r.version for r in rows if r.codec == OURS})
    return [
        f"{run} UTC; commit {commit()}; code and model {', '.join(code) or 'absent'}.",
        f"{machine(PACKAGES)}. {age}",
    ]


def _notes(rows: Sequence[Row]) -> list[str]:
    tightened = sorted({f"{r.codec} ({r.variable}, {r.mode}, {r.fraction}: {r.tightened:g})" for r in rows if r.tightened < 1})
    failed = sorted(
        {
            f"{r.codec} on {r.variable}, {r.mode}, {r.fraction}: {r.status}"
            for r in rows
            if r.status not in ("ok", "no bound asked")
        }
    )
    text = [
        "## How it was measured",
        "",
        "- The bound is a fraction of the range of the whole variable, codes excluded; maps are a few spread over time and",
        "  level. Many fields lie on the lattice of their 16-bit packing.",
        "- `whole`: a map is a chunk. `tiles`: chunks of 256 x 256, smaller at the edges, where that differs from `whole`.",
        "- Ours: complete frames, headers and checksums included. The default model comes with the package and is not counted;",
        "  a store that carries it in its metadata pays its size once a variable.",
        "- Peers: NaN and codes are filled smoothly (coarse to fine) before the clock starts and the mask is stored as packed",
        "  bits with zstd 19, whose bytes are counted; JPEG-XL has them as a level of the image, which is smaller. Ours gets the",
        "  array as it is, with the code as fill value. Shape and dtype are not counted for anyone (ZFP's and SPERR's own",
        "  headers are). Integers reach SZ3, SPERR and ZFP as floats with a bound of floor(bound) + 0.49 and are rounded.",
        "- Every result is decoded and compared in float64. Where a peer breaks the bound it is asked for a smaller one until",
        "  it holds, and those bytes are counted. Its encode time is the successful call's, without the check; ours includes it.",
    ]
    if tightened:
        text.append(f"- Asked for a smaller bound ({len(tightened)}): {'; '.join(tightened)}.")
    if failed:
        text.append(f"- Did not hold or did not run ({len(failed)}): {'; '.join(failed)}.")
    return text


def _draw(table: Sequence[Line], path: Path) -> None:
    """Gain of every case, one panel a bound, on a logarithmic axis with 1 in the middle."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator

    shown = [x for x in table if x.gain]
    names = list(dict.fromkeys(x.variable for x in shown))
    fractions = list(dict.fromkeys(x.fraction for x in shown))
    size = (5 + 4 * len(fractions), 0.3 * len(names) + 1.6)
    figure, axes = plt.subplots(1, len(fractions), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, fraction in zip(axes[0], fractions, strict=True):
        for mode, marker, inside, edge in (("whole", "o", "C0", "C0"), ("tiles", "s", "none", "C1")):
            points = [(x.gain, names.index(x.variable)) for x in shown if x.fraction == fraction and x.mode == mode and x.gain]
            if points:
                gain, height = np.array(points).T
                axis.scatter(gain, height, marker=marker, s=26, label=mode, facecolors=inside, edgecolors=edge)
        axis.axvline(1, color="0.4", linewidth=1)
        axis.set_xscale("log", base=2)
        axis.set_title(f"bound {fraction} of range")
        axis.set_xlabel("bytes of the best peer / ours")
        axis.xaxis.set_major_locator(FixedLocator([0.5, 0.7, 1, 1.4, 2, 2.8, 4]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.grid(visible=True, axis="both", color="0.9")
        axis.set_axisbelow(True)
    axes[0][0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0][0].invert_yaxis()
    axes[0][-1].legend(loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
