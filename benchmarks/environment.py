"""Where a measurement was made: commit, processor, versions; what every kept result names."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

__all__ = ["commit", "machine"]


def _git(*words: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()


def commit() -> str:
    """The commit measured, and whether the tree had changes on top."""
    return (_git("rev-parse", "--short", "HEAD") or "none") + (" with changes" if _git("status", "--porcelain") else "")


def machine(packages: Sequence[str]) -> str:
    """Processor, cores, system and versions, in one line."""
    named = ", ".join(f"{p} {version(p)}" for p in packages)
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {named}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
