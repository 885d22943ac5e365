"""Data that is big in every dimension, for anybody, by one command: a public general circulation model run for two seasons.

    python benchmarks/gcm_simulate.py [--out ~/.cache/latentzarr/gcm] [--python python3.11] [--discard]

`jcm` (PyPI, Apache licence; SPEEDY physics, T63 grid of 96 x 192, 8 levels, packaged terrain and climatological forcing) goes
into an environment of its own below ``--out``, since it pins JAX. Then, on two cores in about 25 minutes, with 6 GB of memory:

- ``train.nc``: 60 days from the end of January, every 12 hours, after 30 days of spin-up;
- ``test.nc``: 30 days of August, every 12 hours, after 30 days of spin-up from the first of July: another season;
- ``hourly.nc``: the 4 days after those, every hour.

What exists is not made again. ``--discard`` removes the model's own files (5 GB) as soon as what is kept of them is written.
On another machine the same versions give other weather after some weeks, since the model is chaotic and floats differ.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gcm_extract import extract

MODEL = "jcm==3.0.0"

COMMON = (
    "physics=speedy",
    "grid=speedy_t31_l8",
    "grid.spectral_truncation=63",
    "terrain=from_file",
    "forcing=from_file",
    "forcing.align=wrap_year",
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the model.

    Attributes
    ----------
    name : str
        Of its folder and of what is kept of it.
    options : tuple of str
        What it adds to ``COMMON``.
    outputs : tuple of str
        Files it leaves that are kept, in its folder.
    leaves : tuple of str
        Other files that a later run needs.
    skip_days : float
        Spin-up at the start of ``outputs``.
    """

    name: str
    options: tuple[str, ...]
    outputs: tuple[str, ...]
    leaves: tuple[str, ...] = ()
    skip_days: float = 0.0


RUNS = (
    Run("train", ("run.total_time=90", "run.save_interval=0.5"), ("outputs/run/model_state.nc",), skip_days=30),
    Run(
        "test",
        (
            "run.start_time=2000-07-01",
            "run.total_time=60",
            "run.save_interval=0.5",
            "run.chunk_days=30",
            "run.output_prefix=test",
            "run.checkpoint_path=state.ckpt",
        ),
        ("test_day60.nc",),
        leaves=("state.ckpt",),
    ),
    Run(
        "hourly",
        (
            "init=from_state",
            "init.file=../test/state.ckpt",
            "run.start_time=2000-08-30",
            "run.total_time=4",
            "run.save_interval='1 hour'",
        ),
        ("outputs/run/model_state.nc",),
    ),
)


def environment(folder: Path, python: str) -> Path:
    """The interpreter of an environment that has the model."""
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        say(f"making {folder} with {MODEL}")
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", MODEL], check=True)
    return interpreter


def boundary(interpreter: Path) -> Path:
    """Where the model keeps terrain and forcing of the T63 grid."""
    find = "import importlib.util as u; print(u.find_spec('jcm').submodule_search_locations[0])"
    found = subprocess.run([str(interpreter), "-c", find], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip()) / "data" / "bc" / "t63"


def simulate(run: Run, folder: Path, interpreter: Path, files: Path) -> None:
    """Run the model in ``folder``, which afterwards holds ``run.outputs``; its log is ``run.log``."""
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / name).exists() for name in (*run.outputs, *run.leaves)):
        say(f"{run.name}: the model's output exists")
        return
    where = (f"terrain.file={files / 'terrain.nc'}", f"forcing.file={files / 'forcing.nc'}", "hydra.run.dir=outputs/run")
    command = [str(interpreter), "-m", "jcm.main", *COMMON, *where, *run.options]
    say(f"{run.name}: {' '.join(command)}")
    started = time.monotonic()
    with (folder / "run.log").open("w") as log:
        status = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    missing = [name for name in run.outputs if not (folder / name).exists()]
    if status or missing:
        raise SystemExit(f"{run.name}: the model ended with {status}, without {missing}; see {folder / 'run.log'}")
    say(f"{run.name}: {(time.monotonic() - started) / 60:.1f} minutes")


def say(text: str) -> None:
    """A line of progress, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "latentzarr" / "gcm"
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("LATENTZARR_GCM", default)))
    parser.add_argument("--python", default=sys.executable, help="what makes the model's environment (3.11 or later)")
    parser.add_argument("--discard", action="store_true", help="remove the model's own files once they are not needed")
    options = parser.parse_args()
    out: Path = options.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    wanted = [run for run in RUNS if not (out / f"{run.name}.nc").exists()]
    if any(run.name == "hourly" for run in wanted) and not (out / "runs/test/state.ckpt").exists():
        wanted = [run for run in RUNS if run in wanted or run.name == "test"]  # the hourly run starts where the test ended
    for run in wanted:
        interpreter = environment(out / "venv", options.python)
        files = boundary(interpreter)
        folder = out / "runs" / run.name
        simulate(run, folder, interpreter, files)
        target = extract([folder / name for name in run.outputs], files / "terrain.nc", out / f"{run.name}.nc", run.skip_days)
        say(f"kept {target} ({target.stat().st_size / 1e6:.0f} MB)")
        if options.discard:
            for path in folder.glob("**/*.nc"):
                path.unlink()
    if options.discard and all((out / f"{run.name}.nc").exists() for run in RUNS):
        shutil.rmtree(out / "runs", ignore_errors=True)
    say(f"complete: {out}")


if __name__ == "__main__":
    main()
