"""The command line: plan, encode, verify, inspect, decode, models, demo. An error of ours is one red line and exit code 2."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table as RichTable

from latentzarr.errors import InvalidBoundError, InvalidConfigError, LatentzarrError, StoreError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Error-bounded neural compression for zarr and xarray.")
models_app = typer.Typer(no_args_is_help=True, help="Models: list those that can be found, show one, add one to the cache.")
app.add_typer(models_app, name="models")

P = ParamSpec("P")
R = TypeVar("R")

BoundOption = Annotated[
    list[str] | None, typer.Option("--bound", "-b", help="NAME=BOUND: t=0.1, u=1%, q='2% relative', z=lossless. Repeat.")
]
ChunkOption = Annotated[list[str] | None, typer.Option("--chunk", help="DIMENSION=SIZE of a chunk, -1 for all of it. Repeat.")]
ShardOption = Annotated[list[str] | None, typer.Option("--shard", help="DIMENSION=SIZE of a shard, -1 for all of it. Repeat.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Digest of a model, or a model file; the shipped one by default.")
]
EffortOption = Annotated[str, typer.Option("--effort", help="fast, normal or max: how much time coding may take.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=0, help="Chunks worked on at the same time; 0: one for each core.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def clean(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors of ours become one red line and exit code 2, and an interruption exit code 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except LatentzarrError as error:
            Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="bold red", markup=False, highlight=False)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            Console(stderr=True).print(
                "interrupted; a store that was being written says that it is incomplete, --resume finishes it"
            )
            raise typer.Exit(130) from None

    return run


def _show(table: Any, text: str) -> None:
    """A table with lines on a terminal, plain columns in a pipe."""
    console = Console()
    if not console.is_terminal:
        typer.echo(text)
        return
    trimmed = table.trimmed()
    drawn = RichTable(*trimmed.columns, title=trimmed.title)
    for row in trimmed.rows:
        drawn.add_row(*row)
    console.print(drawn)


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise InvalidBoundError(f"write {option} NAME=VALUE, got {text!r}")
        pairs[name.strip()] = value.strip()
    return pairs


def _sizes(texts: list[str] | None, option: str) -> dict[str, int] | None:
    try:
        return {name: int(value) for name, value in _pairs(texts, option).items()} or None
    except ValueError as error:
        raise InvalidConfigError(f"{option} takes whole numbers, got {texts}") from error


def _model(text: str | None) -> Any:
    from latentzarr.models.store import find_model, register_model
    from latentzarr.models.weights import load_model

    if text is None:
        return None
    return register_model(load_model(Path(text))) if Path(text).is_file() else find_model(text)


def _open(path: str) -> Any:
    from latentzarr.dataset.opening import open_named

    return open_named(path)


def _with_threads(threads: int) -> Any:
    from latentzarr.codec.runtime import using

    return using(threads=threads or None)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Error-bounded neural compression for zarr and xarray."""
    if version:
        from latentzarr import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
@clean
def plan(
    source: Annotated[str, typer.Argument(help="A netCDF file or a zarr store.")],
    bound: BoundOption = None,
    chunk: ChunkOption = None,
    shard: ShardOption = None,
    model: ModelOption = None,
    effort: EffortOption = "normal",
    trial_chunks: Annotated[int, typer.Option(min=0, help="Chunks to try of each variable.")] = 3,
    threads: ThreadsOption = 0,
    json: JsonOption = False,
) -> None:
    """Try a few chunks: ratio, time and error per variable. Without bounds, 1 % and 0.1 % of the range are tried."""
    from latentzarr.dataset.plan import plan as make_plan

    sizes = _sizes(chunk, "--chunk"), _sizes(shard, "--shard")
    with _with_threads(threads), _open(source) as ds:
        bounds = _pairs(bound, "--bound")
        made = make_plan(
            ds, bounds, chunks=sizes[0], shards=sizes[1], model=_model(model), effort=effort, trial_chunks=trial_chunks
        )
    if json:
        typer.echo(made.to_json())
        return
    _show(made.table(), str(made))


@app.command()
@clean
def encode(
    source: Annotated[str, typer.Argument(help="A netCDF file or a zarr store.")],
    target: Annotated[str, typer.Argument(help="The store to write.")],
    bound: BoundOption = None,
    chunk: ChunkOption = None,
    shard: ShardOption = None,
    model: ModelOption = None,
    effort: EffortOption = "normal",
    threads: ThreadsOption = 0,
    overwrite: OverwriteOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish a write that was cut off.")] = False,
    recode: Annotated[bool, typer.Option("--recode", help="Code data that is lossy already a second time.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a store: lossy where a bound is given, exact everywhere else; every value is read back and compared."""
    from latentzarr.dataset.write import to_zarr

    sizes = _sizes(chunk, "--chunk"), _sizes(shard, "--shard")
    with _with_threads(threads), _open(source) as ds:
        report = to_zarr(
            ds, target, _pairs(bound, "--bound"), chunks=sizes[0], shards=sizes[1], model=_model(model), effort=effort,
            overwrite=overwrite, resume=resume, recode=recode,
        )  # fmt: skip
    _tell(report, json)


def _tell(report: Any, json: bool) -> None:
    if json:
        typer.echo(report.to_json())
        return
    text = str(report)
    _show(report.table(), text)
    if Console().is_terminal:
        typer.echo(text.splitlines()[-1])


@app.command()
@clean
def verify(
    original: Annotated[str, typer.Argument(help="What was written: a netCDF file or a zarr store.")],
    store: Annotated[str, typer.Argument(help="The store to check.")],
    variable: Annotated[list[str] | None, typer.Option("--variable", help="Only this one. Repeat.")] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw original, reconstruction, error and spectrum.")] = None,
    threads: ThreadsOption = 0,
    json: JsonOption = False,
) -> None:
    """Compare every value with the original. Exit code 0: all within their bounds; 1: not; 2: could not be compared."""
    from latentzarr.dataset.verify import verify as compare

    _check_figure(figure)
    with _with_threads(threads), _open(original) as ds:
        report = compare(ds, store, variables=variable or None)
        _tell(report, json)
        if figure is not None:
            with _open(store) as decoded:
                _draw(ds, decoded, report, figure)
    if not report.ok:
        raise typer.Exit(1)


def _check_figure(figure: Path | None) -> None:
    """Before the work, not after it: a picture that cannot be written.

    Raises
    ------
    InvalidConfigError
    """
    from latentzarr.errors import InvalidConfigError

    if figure is None:
        return
    if not figure.absolute().parent.is_dir():
        raise InvalidConfigError("the folder of the figure does not exist; make it first", place=str(figure))
    if figure.suffix.lower() not in (".png", ".pdf", ".svg", ".jpg"):
        raise InvalidConfigError("a figure is a .png, .pdf, .svg or .jpg file", place=str(figure))


def _draw(ds: Any, decoded: Any, report: Any, path: Path) -> None:
    """Draw the first variable that has a field, those under a bound before others."""
    from latentzarr.bounds import BoundKind
    from latentzarr.dataset.picture import choose_field
    from latentzarr.plot import FieldLabels, draw_comparison

    def under_bound(v: Any) -> bool:
        return v.bound is not None and v.bound.kind is not BoundKind.LOSSLESS

    for v in sorted((v for v in report if not v.problem and ds[v.name].dtype.kind in "iuf"), key=under_bound, reverse=True):
        pair = choose_field(ds[v.name], decoded[v.name])
        if pair is not None:
            words = "exact" if v.bound is None else f"bound {v.bound}"
            note = ", ".join(filter(None, (pair.place, words, f"{v.ratio:.1f} times smaller")))
            title = str(ds[v.name].attrs.get("long_name", v.name))
            labels = FieldLabels(title, str(ds[v.name].attrs.get("units", "")), pair.extent, pair.axes, note)
            draw_comparison(pair.original, pair.decoded, v.bound, labels, path)
            typer.echo(f"drawn: {path} ({v.name})", err=True)
            return
    raise InvalidConfigError("no variable has two dimensions to draw")


@app.command()
@clean
def inspect(
    store: Annotated[str, typer.Argument(help="A zarr store.")],
    chunks: Annotated[str | None, typer.Option("--chunks", help="List every chunk of this variable.")] = None,
    json: JsonOption = False,
) -> None:
    """Show bound, ratio, ways of coding and model of each variable, from headers alone; nothing is decoded."""
    from latentzarr.dataset.inspect import chunk_facts
    from latentzarr.dataset.inspect import inspect as look
    from latentzarr.dataset.storage import open_array

    if chunks is not None:
        for fact in chunk_facts(open_array(store, chunks)):
            typer.echo(f"{','.join(map(str, fact.index))}  {fact.size} B  {fact.mode}  {fact.bound}  {fact.model}".rstrip())
        return
    facts = look(store)
    if json:
        typer.echo(facts.to_json())
        return
    _show(facts.table(), str(facts))
    if facts.container is not None:
        state = (
            "complete"
            if facts.container.complete
            else "INCOMPLETE: writing was cut off; 'latentzarr encode --resume' finishes it"
        )
        typer.echo(f"written by {facts.container.implementation}, model {facts.container.model}; {state}")


@app.command()
@clean
def decode(
    source: Annotated[str, typer.Argument(help="The coded store.")],
    target: Annotated[str, typer.Argument(help="The ordinary store to write.")],
    overwrite: OverwriteOption = False,
    threads: ThreadsOption = 0,
) -> None:
    """Write an ordinary store that any reader opens; what was lossy stays marked as lossy."""
    from latentzarr.dataset.leave import decode_store

    with _with_threads(threads):
        report = decode_store(source, target, overwrite=overwrite)
    typer.echo(f"{target}: {len(report.variables)} variables, ordinary zarr; {report.verdict}")


@models_app.command("list")
@clean
def models_list() -> None:
    """List the models that can be found, with their places."""
    from latentzarr.models.store import known_models

    for model, place in known_models():
        typer.echo(f"{model.digest}  {len(model.blob)} B  {model.card.name}  ({place})")


@models_app.command("show")
@clean
def models_show(model: Annotated[str, typer.Argument(help="A digest, a file, or fast, normal or max.")] = "normal") -> None:
    """Show a model's card: what it was trained on, its licence, what was measured."""
    from latentzarr.models.store import SHIPPED, shipped_model

    found = shipped_model(model) if model in SHIPPED else _model(model)
    typer.echo(f"digest         {found.digest}\nbytes          {len(found.blob)}")
    card = found.card
    for name in ("name", "architecture", "training", "licence", "parent"):
        typer.echo(f"{name:<14} {getattr(card, name)}".rstrip())
    for name in ("training_data", "measured"):
        for line in getattr(card, name):
            typer.echo(f"{name:<14} {line}")


@models_app.command("add")
@clean
def models_add(file: Annotated[Path, typer.Argument(help="A model file (safetensors).")]) -> None:
    """Check a model file and put it into the cache, where every later process finds it."""
    from latentzarr.models.store import install_model
    from latentzarr.models.weights import load_model

    if not file.is_file():
        raise StoreError("there is no such file", place=str(file))
    model = load_model(file)
    typer.echo(f"{model.digest} added as {install_model(model)}")


@app.command()
@clean
def demo(
    source: Annotated[str | None, typer.Argument(help="A netCDF file or a zarr store; made-up weather by default.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory for the store and the picture.")] = Path("demo-out"),
) -> None:
    """Compress a field or a few, open them with plain xarray and Dask, check every value, draw what changed."""
    from latentzarr.dataset.demonstration import demonstrate

    with nullcontext() if source is None else _open(source) as ds:
        report, stored = demonstrate(ds, out, typer.echo)
        _tell(report, json=False)
        _draw(stored.original, stored.decoded, report, out / "demo.png")
    report.require()


def main() -> None:
    """Entry point of the command ``latentzarr``."""
    os.environ.setdefault("COLUMNS", "160") if not Console().is_terminal else None
    app()
