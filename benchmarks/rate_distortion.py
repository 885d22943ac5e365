"""Rate against distortion: real bytes of ours and of every peer over bounds and chunk modes, on variables the model never saw.

    python benchmarks/rate_distortion.py [--quick] [--data DIR] [--out DIR] [--fresh] [--only SUBSTRING]
                                         [--ours-only | --peers-only] [--modes 256,deep] [--bounds 0.01,0.001]
                                         [--efforts normal] [--jobs N]

Every finished measurement is a line of ``OUT/rate-distortion-rows.csv``: an interrupted run goes on where it stopped. A peer is
measured again when its package changes, ours when our code or model changes. ``--ours-only`` measures ours beside the peers'
lines that are there already, prints the gains and writes no page: for trying a change. ``--peers-only`` does not even load ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cases import TRAINING_FILES
from curves import draw_families
from environment import commit, machine
from fields import FIELDS, MODES, Field
from further_peers import CONTENDERS, peer_version
from points import OURS, Point, Points
from summary import duels, gains_table, page
from work import Plan, Task, measure_all

if TYPE_CHECKING:
    from fitted import Fitted
    from throughput import Pace

__all__ = ["look", "main"]

FRACTIONS = (3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 0.0)
QUICK_FRACTIONS = (1e-2, 1e-3, 0.0)
PACKAGES = ("numpy", "numba", "pysz", "imagecodecs", "zfpy", "pcodec")
JOBS = 2


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure latentzarr beside classical codecs over bounds and chunk modes.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LATENTZARR_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--quick", action="store_true", help="few and small chunks, two bounds, one short fit")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--only", default="", help="only variables whose label contains this")
    parser.add_argument("--modes", default=",".join(MODES), help="chunk modes, with commas between them")
    parser.add_argument("--bounds", help="bounds over the range, with commas between them; 0 is lossless")
    parser.add_argument("--efforts", default="", help="efforts of ours, with commas between them; all unless given")
    parser.add_argument(
        "--without", default="", help="peers not to measure where earlier runs have not, with commas (ebcc is slow)"
    )
    parser.add_argument("--jobs", type=int, default=JOBS, help="fields measured at once")
    side = parser.add_mutually_exclusive_group()
    side.add_argument(
        "--ours-only", action="store_true", help="ours beside the peers' lines that are there; prints the gains only"
    )
    side.add_argument("--peers-only", action="store_true", help="leave our codec out")
    return parser.parse_args(argv)


def _log(out: Path, *, quick: bool) -> Path:
    return out / ("rate-distortion-rows-quick.csv" if quick else "rate-distortion-rows.csv")


def _chosen(only: str) -> list[Field]:
    return [f for f in FIELDS if only in f.variable.label]


def look(
    out: Path,
    data: Path,
    modes: Sequence[str] = MODES,
    fractions: Sequence[float] = FRACTIONS,
    only: str = "",
    *,
    efforts: str = "",
    quick: bool = False,
    jobs: int = JOBS,
) -> list[str]:
    """Measure ours where it is new and return the table of gains over the peers whose lines are in ``out``."""
    plan = Plan(data, _log(out, quick=quick), tuple(modes), tuple(fractions), {}, _efforts(efforts), quick, _now())
    measured = measure_all([Task(f, plan) for f in _chosen(only)], jobs)
    wanted = {p.case: p.sample for p in measured}
    known = Points(plan.log).load().values()
    peers = [p for p in known if p.codec != OURS and wanted.get(p.case) == p.sample]
    return gains_table(duels([*measured, *peers]))


def _efforts(names: str) -> dict[str, str]:
    """Our efforts, all if none is named, and the fingerprint of our code and models; only here is our code needed."""
    from ours import EFFORTS, fingerprint

    chosen = names.split(",") if names else list(EFFORTS)
    if unknown := set(chosen) - set(EFFORTS):
        raise SystemExit(f"no efforts {sorted(unknown)}; there are {', '.join(EFFORTS)}")
    return dict.fromkeys(chosen, fingerprint())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _unseen(chosen: Sequence[Field]) -> str:
    """That the default model saw none of the files, in a sentence; raises if it did."""
    from ours import training_data

    listed = training_data()
    stems = {Path(f.variable.file).name for f in chosen}
    seen = sorted(s for s in stems if s in TRAINING_FILES or any(s in entry for entry in listed))
    if seen:
        raise ValueError(f"the default model was trained on {seen}: these have no place in the table")
    return "The model's card names its training data; none of these files is among them." if listed else "UNVERIFIED: no card."


def _head(points: Sequence[Point], run: str, seen: str, absent: Sequence[str]) -> list[str]:
    code = sorted({p.version for p in points if p.codec == OURS})
    runs = sorted({p.run for p in points})
    age = "in this run" if runs == [run] else f"in {len(runs)} runs since {runs[0] if runs else run}"
    lines = [f"{run} UTC; commit {commit()}; code and model {', '.join(code) or 'absent'}. Rows measured {age}."]
    versions = sorted({v for p in CONTENDERS if (v := peer_version(p.name)) and v.split()[0] not in PACKAGES})
    lines.append(f"{', '.join([machine(PACKAGES), *versions])}.")
    lines.append(seen)
    if absent:
        lines.append(f"NOT MEASURED, since their packages are not installed: {', '.join(absent)}.")
    return lines


def _partly(points: Sequence[Point]) -> list[str]:
    """Which peers were measured on some of the cases only."""
    cases = {p.case for p in points}
    counts = {p.name: sum(q.codec == p.name for q in points) for p in CONTENDERS}
    short = [f"{name} {count} of {len(cases)}" for name, count in counts.items() if 0 < count < len(cases)]
    return [f"Measured on a part of the cases: {', '.join(short)}."] if short else []


def _rest(options: argparse.Namespace, fit_log: Path, run: str) -> tuple[list[Pace], list[Fitted]]:
    """Speeds and fits, after the cases, with the machine to themselves."""
    from fitted import fits
    from throughput import paces
    from work import warm_up

    fitted = fits(options.data, fit_log, run, options.only, quick=options.quick)
    warm_up()
    return paces(options.data, quick=options.quick), fitted


def main(argv: list[str] | None = None) -> int:
    """Run it; the exit code is 1 if any bound of ours was broken."""
    options = _arguments(argv)
    if not options.data.is_dir():
        print(f"no data at {options.data}; set LATENTZARR_DATA or give --data", file=sys.stderr)
        return 2
    modes = tuple(options.modes.split(","))
    if unknown := set(modes) - set(MODES):
        print(f"no chunk modes {sorted(unknown)}; there are {', '.join(MODES)}", file=sys.stderr)
        return 2
    fractions: tuple[float, ...] = QUICK_FRACTIONS if options.quick else FRACTIONS
    if options.bounds:
        fractions = tuple(float(b) for b in options.bounds.split(","))
    if options.ours_only:
        how = {"efforts": options.efforts, "quick": options.quick, "jobs": options.jobs}
        print("\n".join(look(options.out, options.data, modes, fractions, options.only, **how)))
        return 0
    run, log = _now(), _log(options.out, quick=options.quick)
    fit_log = log.with_name(log.name.replace("rows", "fits"))
    if options.fresh:
        log.unlink(missing_ok=True)
        fit_log.unlink(missing_ok=True)
    versions = {p.name: peer_version(p.name) for p in CONTENDERS}
    peers = {name: version for name, version in versions.items() if version is not None}
    efforts = {} if options.peers_only else _efforts(options.efforts)
    chosen = _chosen(options.only)
    seen = "Our codec was not measured." if options.peers_only else _unseen(chosen)
    plan = Plan(options.data, log, modes, fractions, peers, efforts, options.quick, run)
    points = measure_all([Task(f, plan) for f in chosen], options.jobs, frozenset(options.without.split(",")))
    speeds, fitted = ([], []) if options.peers_only else _rest(options, fit_log, run)
    name = "rate-distortion-quick" if options.quick else "rate-distortion"
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{name}"
    figures = draw_families(points, "whole", options.out, stem)
    head = _head(points, run, seen, [n for n, version in versions.items() if version is None])
    head += _partly(points)
    target = options.out / f"{stem}.md"
    target.write_text(page(head, points, fitted, speeds, [f.name for f in figures]), encoding="utf-8")
    Points(options.out / f"{stem}.csv").write(points)
    for path in (target, target.with_suffix(".csv"), *figures):
        print(path)
    return int(any(p.codec == OURS and not p.valid for p in points))


if __name__ == "__main__":
    sys.exit(main())
