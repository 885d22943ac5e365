"""Blocks of many variables through Dask where the data are Dask's, else through a few threads; memory bounded either way.

Lazy data that are not Dask's (a file opened without ``chunks``) and arrays in memory go through a thread pool that holds one
block for each worker. Dask's data go into one graph, so that what several blocks need is computed once, and run wherever
Dask runs: its threads, or the cluster of the active client.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol

import dask
import xarray as xr
from dask.base import compute, get_scheduler
from dask.callbacks import Callback
from dask.delayed import delayed
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from latentzarr.codec.runtime import current_runtime, using
from latentzarr.dataset.blocks import Region, read_region, regions
from latentzarr.dataset.tasks import BlockResult, BlockTask

__all__ = ["Advance", "ProgressOption", "reporting", "run_blocks"]


class Advance(Protocol):
    """Called in the writing process after each block."""

    def __call__(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` bytes of all variables are finished; the last block was of variable ``name``."""


ProgressOption = bool | Advance | None
"""None: a bar if standard error is a terminal. True, False: a bar, nothing. A function: called after each block."""


@contextmanager
def reporting(progress: ProgressOption, title: str) -> Iterator[Advance]:
    """A function to call after each block, with a bar behind it where one is wanted."""
    if callable(progress):
        yield progress
        return
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda name, done, total: None  # noqa: ARG005
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(title, total=None)

        def advance(name: str, done: int, total: int) -> None:
            bar.update(shown, description=f"{title} {name}", completed=done, total=total)

        yield advance


def run_blocks(tasks: Sequence[BlockTask], variables: Mapping[str, xr.Variable], advance: Advance) -> dict[str, BlockResult]:
    """Do all blocks of all tasks.

    Parameters
    ----------
    tasks : sequence of BlockTask
    variables : mapping of str to xarray.Variable
        The values, by name of the task.
    advance : Advance

    Returns
    -------
    dict of str to BlockResult
        Merged over the blocks of each variable.

    Raises
    ------
    Exception
        Whatever a block raised first; blocks not begun are dropped.
    """
    results = {task.name: BlockResult() for task in tasks}
    total = sum(variables[task.name].nbytes for task in tasks)
    done = 0

    def take(task: BlockTask, region: Region, result: BlockResult) -> None:
        nonlocal done
        results[task.name] = results[task.name].merged(result)
        done += _size(region) * variables[task.name].dtype.itemsize
        advance(task.name, done, total)

    lazy = [task for task in tasks if variables[task.name].chunks is not None]
    _run_threads([task for task in tasks if variables[task.name].chunks is None], variables, take)
    if lazy:
        _run_dask(lazy, variables, take)
    return results


Take = Callable[[BlockTask, Region, BlockResult], None]


def _size(region: Region) -> int:
    size = 1
    for part in region:
        size *= part.stop - part.start
    return size


def _run_threads(tasks: Sequence[BlockTask], variables: Mapping[str, xr.Variable], take: Take) -> None:
    runtime = current_runtime()

    def work(task: BlockTask, region: Region) -> BlockResult:
        with using(runtime.device, runtime.threads):
            return task(read_region(variables[task.name], region), region)

    waiting = ((task, region) for task in tasks for region in regions(variables[task.name].shape, task.block))
    running: dict[Future[BlockResult], tuple[BlockTask, Region]] = {}
    with ThreadPoolExecutor(runtime.workers, thread_name_prefix="latentzarr") as pool:
        try:
            while True:
                for task, region in islice(waiting, runtime.workers - len(running)):
                    running[pool.submit(work, task, region)] = (task, region)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    take(*running.pop(future), future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_dask(tasks: Sequence[BlockTask], variables: Mapping[str, xr.Variable], take: Take) -> None:
    places: dict[str, tuple[BlockTask, Region]] = {}
    blocks = []
    for task in tasks:
        data = variables[task.name].data
        aligned = data.rechunk(tuple(min(b, n) if n else 1 for b, n in zip(task.block, data.shape, strict=True)))
        work = delayed(task, pure=False, traverse=False)
        shape = variables[task.name].shape
        for part, region in zip(
            aligned.to_delayed(optimize_graph=False).reshape(-1), regions(shape, task.block), strict=bool(data.size)
        ):
            block = work(part, region)
            places[str(block.key)] = (task, region)
            blocks.append(block)
    if not blocks:
        return
    client = _active_client()
    if client is not None:
        _run_client(client, blocks, places, take)
        return

    def finished(key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:  # noqa: ARG001
        if str(key) in places:
            take(*places[str(key)], result)

    runtime = current_runtime()
    with Callback(posttask=finished), dask.config.set({"num_workers": dask.config.get("num_workers", runtime.workers)}):
        compute(*blocks)


def _active_client() -> Any:
    """The distributed client that Dask would use now, if any."""
    scheduler = get_scheduler()
    owner = getattr(scheduler, "__self__", None)
    return owner if owner is not None and hasattr(owner, "compute") and hasattr(owner, "scheduler_info") else None


def _run_client(client: Any, blocks: list[Any], places: Mapping[str, tuple[BlockTask, Region]], take: Take) -> None:
    from distributed import as_completed

    futures = client.compute(blocks)
    try:
        for future in as_completed(futures):
            take(*places[str(future.key)], future.result())
            future.release()
    except BaseException:
        client.cancel(futures)
        raise
