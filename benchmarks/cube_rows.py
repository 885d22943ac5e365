"""Measurements of the cubes' comparison as lines of one CSV, which is the record and spares measuring twice."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["CubeRow", "Record", "best"]


@dataclass(frozen=True, slots=True)
class CubeRow:
    """A codec on all blocks of a variable, in one layout.

    Attributes
    ----------
    cube, digest : str
        The data.
    steps : int
        Times that were coded, in blocks of ``length``.
    target : str
        ``range 0.01``: a bound as a part of each level's range; ``nmse 0.01``: a normalised mean square error of each level.
    family, codec, version, layout : str
    planes, raw, encoded : int
        Fields, their bytes as float32, bytes of all blocks.
    error : float
        Of a bound: largest error over it. Of a mean square error: the error of the level farthest above the target, or else
        below, over the target.
    tightened : float
        Smallest factor on the bound that had to be asked for so that it held; 1 for mean square errors.
    encode_mb_s, decode_mb_s : float
        One thread; 0 where the search for a mean square error ran in between.
    status : str
        ``ok``, or what the codec raised.
    """

    cube: str
    digest: str
    steps: int
    target: str
    variable: str
    family: str
    codec: str
    version: str
    layout: str
    length: int
    planes: int
    raw: int
    encoded: int
    error: float
    tightened: float
    encode_mb_s: float
    decode_mb_s: float
    status: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes a measurement the same measurement."""
        same = (
            self.cube,
            self.digest,
            self.steps,
            self.target,
            self.variable,
            self.codec,
            self.version,
            self.layout,
            self.length,
        )
        return tuple(str(part) for part in same)


class Record:
    """The lines of a file; a new one is written as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[str, ...], CubeRow] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                for line in csv.DictReader(file):
                    known: dict[str, Any] = {f.name: _parse(str(f.type), line[f.name]) for f in fields(CubeRow)}
                    row = CubeRow(**known)
                    self.rows[row.key] = row

    def has(self, *key: object) -> bool:
        """Whether a line of that `CubeRow.key` is known."""
        return tuple(str(part) for part in key) in self.rows

    def add(self, row: CubeRow) -> None:
        """Keep a line."""
        self.rows[row.key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(CubeRow)], lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(asdict(row))

    def of(self, cube: str, target: str) -> list[CubeRow]:
        """Lines of a cube at one target that are valid."""
        return [r for r in self.rows.values() if r.cube == cube and r.target == target and r.status == "ok"]


def _parse(kind: str, text: str) -> int | float | str:
    return int(text) if kind == "int" else float(text) if kind == "float" else text


def best(rows: Iterable[CubeRow], length: int, families: Sequence[str] = ()) -> dict[str, CubeRow]:
    """The smallest line of each variable among blocks of at most ``length`` times; of all codecs if no families are named."""
    found: dict[str, CubeRow] = {}
    for row in rows:
        if row.length > length or (families and row.family not in families):
            continue
        if row.variable not in found or row.encoded < found[row.variable].encoded:
            found[row.variable] = row
    return found
