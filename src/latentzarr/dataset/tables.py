"""Small tables as text and HTML, and numbers as people read them; what plans, reports and facts are shown with."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

__all__ = ["Table", "byte_text", "number_text", "time_text"]


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column names and rows of text, all rows as long as the columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def trimmed(self) -> Table:
        """Without the columns that are empty in every row."""
        used = [i for i in range(len(self.columns)) if any(row[i] for row in self.rows)]
        return Table(self.title, tuple(self.columns[i] for i in used), tuple(tuple(row[i] for i in used) for row in self.rows))

    def to_text(self) -> str:
        """Columns set with spaces."""
        table = self.trimmed()
        lines = [table.columns, *table.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)

    def to_html(self) -> str:
        """For notebooks; everything escaped."""
        table = self.trimmed()
        head = "".join(f"<th>{html.escape(c)}</th>" for c in table.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in table.rows)
        return f"<table><caption>{html.escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def byte_text(count: float) -> str:
    """``1536`` as ``1.5 kB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def number_text(value: float, digits: int = 3) -> str:
    """A number in few digits; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def time_text(seconds: float) -> str:
    """``95`` as ``1 min 35 s``."""
    if math.isnan(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
