"""What a write or a check found, per variable: bytes, ratios, errors, spectrum and the ways of coding that were chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.dataset.tables import Table, byte_text, number_text, time_text
from latentzarr.errors import InvalidConfigError, VariableNotFoundError, VerificationError
from latentzarr.metrics import ErrorStatistics, bits_per_value

__all__ = ["Report", "VariableReport"]


@dataclass(frozen=True, slots=True)
class VariableReport:
    """One variable.

    Attributes
    ----------
    name : str
    bound : ErrorBound or None
        As coded. None: zarr's ordinary codecs, exact.
    words : str
        The bound as asked for.
    dtype : str
    values : int
        Number of values.
    nbytes, stored : int
        Bytes of the values, and of their chunks in the store.
    checked : bool
        Whether every value was compared with the original.
    statistics : ErrorStatistics
    modes : dict of str to int
        How many chunks are coded in which way; empty for other codecs.
    seconds : float
        Spent on coding, writing and checking, summed over parallel tasks.
    problem : str
        Why the variable could not be compared at all; empty if it could.
    """

    name: str
    bound: ErrorBound | None
    words: str
    dtype: str
    values: int
    nbytes: int
    stored: int
    checked: bool
    statistics: ErrorStatistics
    modes: dict[str, int]
    seconds: float = math.nan
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether every value compared is within the bound (exact variables: equal)."""
        return not self.problem and self.statistics.violations == 0

    @property
    def trouble(self) -> str:
        """What is wrong, in words; meant for variables that are not ``ok``."""
        s = self.statistics
        broken = f"{s.violations} of {s.count} values break the bound, the largest error is {s.max_abs:g}"
        return self.problem or broken

    @property
    def ratio(self) -> float:
        """Bytes of the values over bytes stored."""
        return self.nbytes / self.stored if self.stored else math.nan

    @property
    def ratio_float32(self) -> float:
        """Bytes the values take as float32 over bytes stored."""
        return 4 * self.values / self.stored if self.stored else math.nan

    @property
    def ratio_packed(self) -> float:
        """Bytes the values take as packed 16-bit integers over bytes stored."""
        return 2 * self.values / self.stored if self.stored else math.nan

    @property
    def bits_per_value(self) -> float:
        """Bits stored for a value."""
        return bits_per_value(self.stored, self.values)


@dataclass(frozen=True, slots=True)
class Report:
    """All variables of a store.

    Attributes
    ----------
    place : str
        The store.
    variables : tuple of VariableReport
    seconds : float
        Wall-clock time.
    metadata : int
        Bytes of the store's metadata, models carried in it included; 0 where the store is not finished.
    """

    place: str
    variables: tuple[VariableReport, ...]
    seconds: float = math.nan
    metadata: int = 0

    def __getitem__(self, name: str) -> VariableReport:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise VariableNotFoundError(f"no variable {name!r} in the report; there are {', '.join(v.name for v in self.variables)}")

    def __iter__(self) -> Iterator[VariableReport]:
        return iter(self.variables)

    @property
    def ok(self) -> bool:
        """Whether every variable is within its bound."""
        return all(v.ok for v in self.variables)

    def require(self) -> Report:
        """The report, if every variable is within its bound.

        Raises
        ------
        VerificationError
            Naming each variable that is not.
        """
        wrong = [f"{v.name}: {v.trouble}" for v in self.variables if not v.ok]
        if wrong:
            raise VerificationError("; ".join(wrong), place=self.place)
        return self

    def table(self) -> Table:
        """For people."""
        columns = (
            "variable", "bound", "bytes", "ratio", "/float32", "/16-bit", "largest error", "of bound", "RMSE", "bias", "PSNR",
            "small scales", "modes", "time", "check",
        )  # fmt: skip
        return Table(self.place, columns, tuple(_row(v) for v in self.variables))

    def __str__(self) -> str:
        raw, stored = sum(v.nbytes for v in self.variables), sum(v.stored for v in self.variables)
        whole = f"{byte_text(raw)} in {byte_text(stored)}" + (f", {raw / stored:.1f} times smaller" if stored else "")
        if self.metadata:
            whole += f"; with {byte_text(self.metadata)} of metadata and models {raw / (stored + self.metadata):.1f} times"
        timed = "" if math.isnan(self.seconds) else f", {time_text(self.seconds)}"
        return f"{self.table().to_text()}\n{whole}{timed}. {self.verdict}"

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        if not self.ok:
            broken = [v.name for v in self.variables if not v.ok and v.statistics.violations]
            other = [f"{v.name} ({v.problem})" for v in self.variables if not v.ok and not v.statistics.violations]
            said = f"THE BOUND DOES NOT HOLD for {', '.join(broken)}." if broken else ""
            return " ".join(filter(None, (said, f"Not as in the original: {', '.join(other)}." if other else "")))
        checked = sum(v.values for v in self.variables if v.checked)
        return f"All {checked:,} values checked are within their bounds." if checked else "No values were compared."

    def _repr_html_(self) -> str:
        return self.table().to_html()

    def to_json(self) -> str:
        """For programs, and for the store's attributes; NaN and infinities as Python's json writes them: null."""
        data = {
            "place": self.place,
            "seconds": self.seconds,
            "metadata": self.metadata,
            "variables": [asdict(v) for v in self.variables],
        }
        return json.dumps(_finite(data))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Raises
        ------
        InvalidConfigError
            If it is not a report.
        """
        try:
            data = json.loads(text)
            return cls(
                data["place"],
                tuple(_variable(v) for v in data["variables"]),
                _number(data["seconds"]),
                int(data.get("metadata", 0)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidConfigError(f"not a report of latentzarr: {error!r}") from error


_EMPTY = ErrorStatistics()


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _number(value: float | None, default: float = math.nan) -> float:
    return default if value is None else value


def _variable(data: dict[str, Any]) -> VariableReport:
    bound = data["bound"]
    numbers = data["statistics"]
    known: dict[str, Any] = {f.name: _number(numbers[f.name], getattr(_EMPTY, f.name)) for f in fields(ErrorStatistics)}
    statistics = ErrorStatistics(**known)
    return VariableReport(
        **{
            **data,
            "bound": None if bound is None else ErrorBound(BoundKind(bound["kind"]), bound["value"], bound.get("zeros", False)),
            "statistics": statistics,
            "seconds": _number(data["seconds"]),
        }
    )


def _row(v: VariableReport) -> tuple[str, ...]:
    s = v.statistics
    bound = "exact" if v.bound is None else str(v.bound)
    if v.words and v.bound is not None and v.words != bound:
        bound += f" ({v.words})"
    check = v.problem or ("not compared" if not v.checked else "holds" if v.ok else f"BROKEN at {s.violations} values")
    head = (v.name, bound, byte_text(v.stored), number_text(v.ratio), number_text(v.ratio_float32), number_text(v.ratio_packed))
    modes = " ".join(f"{mode} {count}" for mode, count in v.modes.items())
    lossy = v.checked and v.bound is not None and v.bound.kind is not BoundKind.LOSSLESS
    errors = ["", "", "", "", "", ""]
    if lossy or s.violations:
        of_bound = f"{100 * s.max_fraction:.1f} %" if s.max_fraction else ""
        psnr = "" if math.isnan(s.psnr) else f"{s.psnr:.1f} dB"
        errors = [
            number_text(s.max_abs, 4),
            of_bound,
            number_text(s.rmse),
            number_text(s.bias, 2),
            psnr,
            number_text(s.spectrum_ratio, 4),
        ]
    return (*head, *errors, modes, time_text(v.seconds), check)
