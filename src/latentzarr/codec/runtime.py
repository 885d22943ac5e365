"""Runtime options: how this process decodes, never what is stored. Context variable, then process default, then environment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from latentzarr.errors import InvalidConfigError

__all__ = ["Runtime", "current_runtime", "set_runtime", "using", "working"]

_DEVICES = ("cpu",)


@dataclass(frozen=True, slots=True)
class Runtime:
    """How to decode and encode.

    Attributes
    ----------
    device : str
        ``"cpu"``.
    threads : int
        Chunks worked on at the same time in this process; also bounds memory.
    """

    device: str = "cpu"
    threads: int = 0

    def __post_init__(self) -> None:
        if self.device not in _DEVICES:
            raise InvalidConfigError(f"device {self.device!r} is not supported by this version; use one of {', '.join(_DEVICES)}")
        if self.threads < 0:
            raise InvalidConfigError(f"threads must be 0 (one for each core) or more, got {self.threads}")

    @property
    def workers(self) -> int:
        """``threads``, or one for each core this process may use."""
        if self.threads:
            return self.threads
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_context: ContextVar[Runtime | None] = ContextVar("latentzarr_runtime", default=None)
_process: Runtime | None = None
_lock = threading.Lock()
_semaphores: dict[int, threading.BoundedSemaphore] = {}


def _from_environment() -> Runtime:
    threads = os.environ.get("LATENTZARR_THREADS", "0")
    if not threads.isdigit():
        raise InvalidConfigError(f"LATENTZARR_THREADS must be a whole number, is {threads!r}")
    return Runtime(os.environ.get("LATENTZARR_DEVICE", "cpu"), int(threads))


def current_runtime() -> Runtime:
    """What holds here and now."""
    return _context.get() or _process or _from_environment()


def set_runtime(runtime: Runtime | None) -> None:
    """Set (or with None clear) the default of this process."""
    global _process  # noqa: PLW0603 - the one process-wide default
    _process = runtime


@contextmanager
def using(device: str | None = None, threads: int | None = None) -> Iterator[Runtime]:
    """Other options inside a ``with`` block, for this context only."""
    now = current_runtime()
    chosen = replace(now, device=device or now.device, threads=now.threads if threads is None else threads)
    token = _context.set(chosen)
    try:
        yield chosen
    finally:
        _context.reset(token)


@contextmanager
def working() -> Iterator[None]:
    """Hold one of the process's places for work on a chunk, so that zarr's and Dask's pools cannot pile up memory."""
    workers = current_runtime().workers
    with _lock:
        semaphore = _semaphores.setdefault(workers, threading.BoundedSemaphore(workers))
    with semaphore:
        yield


def _after_fork() -> None:
    """A lock held by another thread at the fork would never be released in the child."""
    global _lock  # noqa: PLW0603 - replaced whole, in a child that has one thread
    _lock = threading.Lock()
    _semaphores.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
