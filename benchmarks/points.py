"""One point of a rate-distortion curve, and the file of points that makes a run resumable.

Points are kept in a CSV, a line each, appended as soon as it is measured; several processes may append to the same file.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

__all__ = ["OURS", "Point", "Points"]

OURS = "latentzarr"


@dataclass(frozen=True, slots=True)
class Point:
    """A line of the file of results.

    Attributes
    ----------
    fraction : str
        Bound over the range of the variable; "0" is lossless.
    effort : str
        Of ours; empty for peers.
    version, sample : str
        Of the codec and of what was measured: a line of another version or sample is measured again.
    encoded : int
        Bytes of all chunks, masks and a model of its own included.
    mask, model : int
        Those parts of ``encoded``.
    error : float
        Largest error over the bound; at most 1 where it holds. Integers: over ``floor(bound)``.
    tightened : float
        Smallest factor on the bound that had to be asked for so that it held.
    rmse : float
        Over the values that are present, in units of the data.
    detail : float
        Power in the highest third of wavenumbers, decoded over original; NaN where there is none.
    """

    family: str
    variable: str
    mode: str
    fraction: str
    codec: str
    effort: str
    version: str
    sample: str
    bound: float
    chunks: int
    values: int
    raw: int
    encoded: int
    mask: int
    model: int
    error: float
    tightened: float
    rmse: float
    detail: float
    encode_mb_s: float
    decode_mb_s: float
    candidates: str
    status: str
    run: str

    @property
    def case(self) -> tuple[str, str, str]:
        """The case it belongs to."""
        return self.variable, self.mode, self.fraction

    @property
    def key(self) -> tuple[str, ...]:
        """What a later line with the same key replaces."""
        return (*self.case, self.codec, self.effort)

    @property
    def valid(self) -> bool:
        """Whether it was measured, and within the bound."""
        return self.status == "ok"

    @property
    def bits(self) -> float:
        """Bits a value."""
        return 8 * self.encoded / self.values

    def told(self) -> str:
        """In a line of the terminal."""
        who = f"{self.codec} {self.effort}".strip()
        speed = f"{self.encode_mb_s:7.1f} {self.decode_mb_s:7.1f} MB/s"
        return f"{'/'.join(self.case):58s} {who:18s} {self.bits:8.4f} bits  max/bound {self.error:<9.6g} {speed}  {self.status}"


class Points:
    """The CSV of points; the last line of a key counts, a line cut off is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[tuple[str, ...], Point]:
        """All points by key."""
        if not self.path.exists():
            return {}
        kinds: dict[str, type] = {"int": int, "float": float, "str": str}
        found: dict[tuple[str, ...], Point] = {}
        with self.path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                try:
                    point = Point(**{f.name: kinds[str(f.type)](line[f.name] or "") for f in fields(Point)})
                except (KeyError, TypeError, ValueError):
                    continue
                found[point.key] = point
        return found

    def start(self) -> None:
        """Make the file with its head line, if there is none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or self.path.stat().st_size == 0:
            self.path.write_text(",".join(f.name for f in fields(Point)) + "\n", encoding="utf-8")

    def add(self, point: Point) -> None:
        """Append in one write, so that lines of several processes never mix."""
        with io.StringIO() as text:
            csv.writer(text, lineterminator="\n").writerow(asdict(point).values())
            line = text.getvalue().encode()
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    def write(self, points: Iterable[Point]) -> None:
        """Replace the file."""
        self.path.unlink(missing_ok=True)
        self.start()
        for point in points:
            self.add(point)
