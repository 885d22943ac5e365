"""Progress of training on a terminal; nothing in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from latentzarr.training.loop import Progress

__all__ = ["shown"]


@contextmanager
def shown(report: Callable[[Progress], None] | None, title: str) -> Iterator[Callable[[Progress], None] | None]:
    """What to call with progress: the caller's own function, a bar, or None where nobody looks."""
    console = Console(stderr=True)
    if report is not None or not console.is_terminal:
        yield report
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(title, total=1.0, loss="")
        yield lambda p: bar.update(task, completed=p.done, loss=f"loss {p.loss:.3f}")
