"""What a cube's write ends with: what was counted and measured, and the last write, which says that all is done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import zarr

from latentzarr.dataset.cube_blocks import STORED_TIMES, Written
from latentzarr.dataset.cube_header import CUBE, LATENTS, CubeHeader
from latentzarr.dataset.provenance import CONTAINER, REPORT, new_container
from latentzarr.dataset.report import Report, VariableReport
from latentzarr.dataset.storage import Location, finish, open_root, place_of, quiet

__all__ = ["finish_cube", "report_of", "shared_bytes"]


def report_of(location: Location, header: CubeHeader, written: Written, seconds: float) -> Report:
    """What was counted and measured, by variable."""
    reports = []
    for v in header.variables:
        tally = written.of[v.name]
        modes = {name: n for name, n in (("guided", tally.guided), ("alone", tally.alone)) if n}
        reports.append(
            VariableReport(
                v.name, v.largest_bound, v.words, v.dtype, tally.values, tally.values * np.dtype(v.dtype).itemsize, tally.stored,
                True, tally.statistics, modes or {"latents": 1},
            )
        )  # fmt: skip
    return Report(place_of(location), tuple(reports), seconds)


def shared_bytes(root: zarr.Group) -> int:
    """Bytes of what the variables of a cube share: skeleton, static fields, masks, latents."""
    total = 0
    shared = [f".latentzarr/cube/{name}" for name in ("references", "statics", "masks", "basis")]
    for name in (*shared, *LATENTS):
        array = root.get(name)
        if isinstance(array, zarr.Array):
            total += int(array.nbytes_stored())
    return total


def finish_cube(location: Location, group: str, root: zarr.Group, header: CubeHeader, report: Report) -> None:
    """Record what was measured, consolidate, and as the very last write say that the store is complete."""
    if STORED_TIMES in root.attrs:
        del root.attrs[STORED_TIMES]
    container = new_container(header.model, complete=True)
    root.update_attributes({CUBE: header.to_text(), REPORT: replace(report, place="").to_json()})
    if group:
        with quiet():
            root.update_attributes({CONTAINER: container.to_text()})
            zarr.consolidate_metadata(open_root(location, "r+").store)
        return
    finish(location, {}, {CONTAINER: container.to_text()})
