"""The cubes' comparison as markdown: ratios by unit of access and bound, and which codec and shape is best for each variable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cube_rows import CubeRow, Record, best
from environment import machine

__all__ = ["bounded_tables", "equal_error_tables", "ratio"]

FAMILIES = ("sz3", "sperr", "quant+jpegxl", "zfp")
PACKAGES = ("numpy", "pysz", "imagecodecs", "zfpy")

BOUNDED = """\
Ratio of float32 bytes to real bytes; the bound is a part of each level's own range over the cube's period. Every variable
counts with its best setting and layout among those of at most as many times as the unit of access has; in *best*, with
its best codec as well. All bounds were checked on decoding. Lines of all tries: cube-peers.csv."""

EQUAL_ERROR = """\
Every level of every variable at the same normalised mean square error (NMSE), within 2 %, or below it where a codec cannot
be brought nearer: weighted by area, over the variance of that level in the training period. Bits per value of all variables
together, and the ratio to float32. Every variable counts with its best setting and layout among those of at most as many
times as the unit of access has."""


def ratio(rows: Sequence[CubeRow]) -> float:
    """Float32 bytes over bytes of all variables; 0 for none."""
    encoded = sum(r.encoded for r in rows)
    return sum(r.raw for r in rows) / encoded if encoded else 0.0


def _targets(record: Record, cube: str, kind: str) -> list[str]:
    """Targets of a kind that were measured, the loosest first."""
    found = {r.target for r in record.rows.values() if r.cube == cube and r.target.startswith(kind)}
    return sorted(found, key=lambda t: -float(t.split()[1]))


def _cubes(record: Record, kind: str) -> list[str]:
    return list(dict.fromkeys(r.cube for r in record.rows.values() if r.target.startswith(kind)))


def _unit(length: int) -> str:
    return "one time" if length == 1 else f"{length} times"


def bounded_tables(record: Record, out: Path) -> list[Path]:
    """Write ``cube-peers.md`` from the lines of a bound."""
    text = ["# Classical codecs on cubes, under a bound", "", f"{machine(PACKAGES)}; one thread.", ""]
    text += [BOUNDED]
    for cube in _cubes(record, "range"):
        targets = _targets(record, cube, "range")
        lengths = sorted({r.length for r in record.rows.values() if r.cube == cube})
        rows = record.of(cube, targets[0])
        planes = sum(r.planes for r in best(rows, 1).values())
        steps = rows[0].steps
        text += ["", f"## {cube}", "", f"{steps} times, {planes // steps} fields each, {ratio_raw(rows):.0f} MB.", ""]
        text += ["| bound | unit | " + " | ".join(FAMILIES) + " | best |", "|---|---|" + "---|" * (len(FAMILIES) + 1)]
        for target in targets:
            rows = record.of(cube, target)
            for length in lengths:
                cells = [f"{ratio(list(best(rows, length, (f,)).values())):.1f}" for f in FAMILIES]
                text.append(
                    f"| {target} | {_unit(length)} | {' | '.join(cells)} | **{ratio(list(best(rows, length).values())):.1f}** |"
                )
        text += ["", "Best by variable:", "", "| bound | variable | " + " | ".join(_unit(n) for n in lengths) + " |"]
        text += ["|---|---|" + "---|" * len(lengths)]
        for target in targets:
            chosen = [best(record.of(cube, target), n) for n in lengths]
            for name in chosen[0]:
                cells = [f"{ratio([c[name]]):.1f} ({c[name].codec}, {_shape(c[name])})" for c in chosen]
                text.append(f"| {target} | {name} | {' | '.join(cells)} |")
        failed = [r for r in record.rows.values() if r.cube == cube and r.status != "ok"]
        text += ["", *(f"Failed: {r.codec}, {r.layout}, {r.length} times, {r.variable}, {r.target}: {r.status}." for r in failed)]
    path = out / "cube-peers.md"
    path.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    return [path]


def _shape(row: CubeRow) -> str:
    return row.layout + (f" of {row.length}" if row.length > 1 else "")


def ratio_raw(rows: Sequence[CubeRow]) -> float:
    """Megabytes of the variables as float32."""
    return sum({r.variable: r.raw for r in rows}.values()) / 1e6


def equal_error_tables(record: Record, out: Path) -> list[Path]:
    """Write ``cube-equal-error.md`` from the lines of a mean square error."""
    text = [
        "# Classical codecs on cubes, at equal mean square error, no bound asked",
        "",
        f"{machine(PACKAGES)}; one thread.",
        "",
    ]
    text += [EQUAL_ERROR]
    for cube in _cubes(record, "nmse"):
        lengths = sorted({r.length for r in record.rows.values() if r.cube == cube and r.target.startswith("nmse")})
        text += [
            "",
            f"## {cube}",
            "",
            "| NMSE | unit | codec | bits per value | ratio | farthest level off by |",
            "|---|---|---|---|---|---|",
        ]
        for target in _targets(record, cube, "nmse"):
            rows = record.of(cube, target)
            for length in lengths:
                for families in (("sz3",), ("sperr",), ()):
                    chosen = list(best(rows, length, families).values())
                    name = families[0] if families else "**best**"
                    off = max((abs(r.error - 1) for r in chosen), default=0.0)
                    found = ratio(chosen)
                    text.append(
                        f"| {target.split()[1]} | {_unit(length)} | {name} | {32 / found:.4f} | {found:.1f} | {100 * off:.1f} % |"
                    )
        text += [
            "",
            "Best by variable, bits per value:",
            "",
            "| NMSE | variable | " + " | ".join(_unit(n) for n in lengths) + " |",
        ]
        text += ["|---|---|" + "---|" * len(lengths)]
        for target in _targets(record, cube, "nmse"):
            by_length = [best(record.of(cube, target), n) for n in lengths]
            for name in by_length[0]:
                cells = [f"{32 / ratio([c[name]]):.4f} ({c[name].codec}, {_shape(c[name])})" for c in by_length]
                text.append(f"| {target.split()[1]} | {name} | {' | '.join(cells)} |")
    path = out / "cube-equal-error.md"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return [path]
