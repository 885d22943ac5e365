"""The first table: our real bytes beside the classical codecs', on variables the default model never saw, bounds checked.

    python benchmarks/first_table.py [--quick] [--data DIR] [--out benchmarks/results] [--fresh]

Every finished measurement is a line in ``OUT/rows.csv``, so that an interrupted run goes on where it stopped; lines of
another version of a codec are measured again. Speeds of lines taken from earlier runs are from those runs, and the table
says so; ``--fresh`` measures all in one run.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cases import TRAINING_FILES, VARIABLES, Case, Variable, cases, read, tiles
from measure import Row, measure, measure_ours
from missing import fill
from peers import PEERS
from report import write_report

__all__ = ["main"]

FRACTIONS = (1e-2, 1e-3)
MODES = ("tiles", "whole")
PEER_PACKAGES = {
    "sz3": ("pysz",),
    "sperr": ("imagecodecs",),
    "quant+jpegxl": ("imagecodecs",),
    "quant+pcodec": ("pcodec",),
    "zfp": ("zfpy",),
    "16bit+zstd": ("imagecodecs",),
}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure latentzarr beside classical codecs.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LATENTZARR_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--quick", action="store_true", help="first map of each variable only, at most 512 x 512 of it")
    parser.add_argument("--fresh", action="store_true", help="measure everything again, so that all speeds are of one run")
    parser.add_argument("--only", default="", help="only variables whose label contains this")
    parser.add_argument("--peers-only", action="store_true", help="leave our codec out")
    return parser.parse_args(argv)


def _version(codec: str) -> str:
    found = []
    for package in PEER_PACKAGES[codec]:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} ?")
    return ", ".join(found)


def _load(path: Path) -> dict[tuple[str, ...], Row]:
    """Lines of earlier runs; a line that was cut off is dropped."""
    if not path.exists():
        return {}
    rows: dict[tuple[str, ...], Row] = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            try:
                row = Row(**{k: _parse(k, v) for k, v in line.items()})
            except (TypeError, ValueError):
                continue
            rows[(*row.key, row.codec)] = row
    return rows


def _parse(column: str, text: str | None) -> Any:
    if text is None:
        raise ValueError(f"no value for {column}")
    kind = Row.__annotations__[column]
    return {"int": int, "float": float}.get(kind, str)(text)


class _Log:
    """The file of results, a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: Row) -> None:
        columns = list(row.as_dict())
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns)
            if new:
                writer.writeheader()
            writer.writerow(row.as_dict())


def _run_case(
    case: Case, maps: list[Any], extent: float, done: Mapping[tuple[str, ...], Row], run: str, *, with_ours: bool
) -> Iterable[tuple[Row, bool]]:
    """The rows of a case, and whether each is new."""
    chunks = tiles(maps, case.mode)
    if not chunks:
        return
    bound = case.fraction * extent
    filled = None
    for peer in PEERS:
        known = done.get((*case.key, peer.name))
        if known is not None and known.version == _version(peer.name):
            yield known, False
            continue
        filled = filled or [fill(c, case.variable.code) for c in chunks]
        yield measure(case, peer, _version(peer.name), filled, bound, run), True
    if not with_ours:
        return
    from ours import Ours, fingerprint

    known = done.get((*case.key, "latentzarr"))
    if known is not None and known.version == fingerprint():
        yield known, False
        return
    filled = filled or [fill(c, case.variable.code) for c in chunks]
    yield measure_ours(case, Ours(case.variable.code), fingerprint(), chunks, filled, bound, run), True


def _warm_up() -> None:
    """Compile what is compiled on first use, so that no case pays for it."""
    from ours import Ours

    field = np.add.outer(np.sin(np.arange(96) / 9), np.cos(np.arange(96) / 7)).astype(np.float32)
    for values in (field, field.astype(np.float64), np.rint(field * 100).astype(np.int16), np.rint(field + 9).astype(np.uint16)):
        for chunk in (values, np.where(field > 1, np.nan, values) if values.dtype.kind == "f" else values):
            Ours().decode(
                Ours().encode(chunk.astype(values.dtype), 1.0 if values.dtype.kind in "iu" else 0.01), (96, 96), values.dtype
            )


def _unseen(variables: Iterable[Variable]) -> str:
    """Whether the default model saw what it is measured on, in a sentence; raises if it did."""
    from ours import training_data

    listed = training_data()
    stems = {Path(v.file).name for v in variables}
    trained_on = sorted(s for s in stems if s in TRAINING_FILES or any(s in entry for entry in listed))
    if trained_on:
        raise ValueError(f"the default model was trained on {trained_on}: these have no place in the table")
    if not listed:
        return "UNVERIFIED: the model's card names no training data, so it is not shown that these files were unseen."
    return f"The default model's card names its training data ({', '.join(listed)}); none of these files is among them."


def _told(row: Row) -> str:
    ratio = row.raw / max(row.encoded, 1)
    speed = f"{row.encode_mb_s:7.1f} {row.decode_mb_s:7.1f} MB/s"
    result = f"{ratio:8.2f}x  max/bound {row.error:<9.6g} {speed}"
    return f"{'/'.join(row.key):58s} {row.codec:13s} {result}  {row.candidates} {row.status}"


def main(argv: list[str] | None = None) -> int:
    """Run the table; the exit code is 1 if any bound of ours was broken."""
    options = _arguments(argv)
    if not options.data.is_dir():
        print(f"no data at {options.data}; set LATENTZARR_DATA or give --data", file=sys.stderr)
        return 2
    now = datetime.now(UTC)
    run = now.strftime("%Y-%m-%dT%H:%M:%S")
    name = "first-table-quick" if options.quick else "first-table"
    log = _Log(options.out / ("rows-quick.csv" if options.quick else "rows.csv"))
    if options.fresh:
        log.path.unlink(missing_ok=True)
    done = _load(log.path)
    chosen = tuple(v for v in VARIABLES if options.only in v.label)
    seen = "Our codec was not measured."
    if not options.peers_only:
        seen = _unseen(chosen)
        _warm_up()
    rows: list[Row] = []
    last: Variable | None = None
    maps: list[Any] = []
    extent = 0.0
    for case in cases(FRACTIONS, MODES, chosen):
        if case.variable != last:
            last = case.variable
            maps, extent = read(case.variable, options.data, quick=options.quick)
        for row, new in _run_case(case, maps, extent, done, run, with_ours=not options.peers_only):
            rows.append(row)
            if new:
                log.add(row)
                print(_told(row), flush=True)
    paths = write_report(rows, options.out, f"{now:%Y-%m-%d}-{name}", run, seen)
    for path in paths:
        print(path)
    return int(any(r.codec == "latentzarr" and not r.valid for r in rows))


if __name__ == "__main__":
    sys.exit(main())
