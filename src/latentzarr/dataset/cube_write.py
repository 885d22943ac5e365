"""Write a latent cube: survey, skeleton, metadata marked as incomplete, then block after block, and the mark last."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from latentzarr.bounds import ErrorBound
from latentzarr.codec.config import Effort
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.model import CubeModel
from latentzarr.dataset.carried import carry_model
from latentzarr.dataset.cube_blocks import STORED_TIMES, BlockWriter
from latentzarr.dataset.cube_finish import finish_cube, report_of, shared_bytes
from latentzarr.dataset.cube_fit import base_for
from latentzarr.dataset.cube_header import CUBE, CubeHeader
from latentzarr.dataset.cube_latents import create_latents
from latentzarr.dataset.cube_layout import add_refinement, write_blob, write_masks, write_statics
from latentzarr.dataset.cube_plan import CubeBounds, cube_variables, planned_header
from latentzarr.dataset.cube_resume import cube_begun, resumed_cube
from latentzarr.dataset.cube_skeleton import Skeleton
from latentzarr.dataset.cube_survey import dimensions_of
from latentzarr.dataset.own_autoencoder_report import LatentReport
from latentzarr.dataset.parallel import ProgressOption
from latentzarr.dataset.provenance import (
    CONTAINER,
    IMPLEMENTATION,
    already_lossy,
    new_container,
    with_history,
)
from latentzarr.dataset.report import Report
from latentzarr.dataset.storage import (
    Location,
    is_group,
    location_of,
    metadata_bytes,
    open_root,
    place_of,
    prepare_target,
    quiet,
    writing,
)
from latentzarr.dataset.tasks import cf_encoding
from latentzarr.errors import AlreadyLossyError, InvalidConfigError, StoreExistsError
from latentzarr.models.store import register_model, shipped_model
from latentzarr.models.weights import Model

__all__ = ["to_cube"]


def to_cube(
    ds: xr.Dataset,
    store: Any,
    bounds: CubeBounds | None = None,
    *,
    model: CubeModel | Model | str | None = None,
    block: int = 8,
    tile: tuple[int, int] | None = None,
    access: float = 0.3,
    time_dim: str | None = None,
    effort: Effort | str = Effort.NORMAL,
    overwrite: bool = False,
    resume: bool = False,
    recode: bool = False,
    verify: bool = True,
    progress: ProgressOption = None,
    group: str = "",
) -> Report | LatentReport:
    """Write variables that share a horizontal grid as one cube, coded jointly, each under its own bound.

    Parameters
    ----------
    ds : xarray.Dataset
        In memory or lazy; variables without a bound, and coordinates, are stored exactly as ordinary arrays.
    store : path, URL or zarr store
    bounds : mapping, optional
        By variable: ``"0.5 K"``, ``"1% of range"`` (of the variable), ``"2% of level range"`` (each level's own), ``"lossless"``,
        or one number for each level (from an ensemble's spread, say).
        Without bounds the cube has latents alone: the error is reported and nothing is promised.
    model : CubeModel, Model or str, optional
        From `latentzarr.fit_cube`: latents are stored too. A `Model`: networks of the refinement, no latents; by default those
        shipped for the effort. A name: a registered autoencoder, without bounds (`latentzarr.encode_latents`).
    block : int
        Times coded together, 1 to 64. A time can be read without other blocks.
    tile : (rows, columns), optional
        Parts of the grid coded by themselves; by default of at most 2**18 values.
    access : float
        Largest share of a block's bytes and fields that reading one variable at one time may need (an estimate; 1: no limit).
    time_dim : str, optional
        By default the first dimension with dates.
    effort : {"fast", "normal", "max"}
        Fast does not try fields as frames of their own.
    overwrite : bool
    resume : bool
        Finish a write that was cut off: blocks that are stored are compared with the data and kept, the rest is written with the
        skeleton that is there. Without such a store it is an ordinary write.
    recode : bool
        Code values that were decoded from lossy data again, on purpose.
    verify : bool
        Read every block back from the store and compare every value.
    progress : bool or function, optional
    group : str
        Path of the zarr group to write to, for cubes of several grids in one store.

    Returns
    -------
    Report
        Also stored in the attribute ``latentzarr_report``; the bytes of what variables share are in its ``metadata``.

    Raises
    ------
    InvalidConfigError, InvalidBoundError, UnsupportedDtypeError, VariableNotFoundError
    AlreadyLossyError, StoreExistsError, StoreWriteError
    VerificationError
        If what was read back breaks a bound; the store stays marked as incomplete.
    """
    started = clock.perf_counter()
    effort = Effort(effort)
    if not 0 <= access <= 1:
        raise InvalidConfigError(f"access is a share of 0 to 1, not {access}")
    if isinstance(model, str):
        from latentzarr.dataset.own_autoencoder_write import encode_latents

        return encode_latents(
            ds, store, model, time_dim=time_dim, overwrite=overwrite, recode=recode, progress=progress, bounds=bounds
        )
    basis = model.basis if isinstance(model, CubeModel) else None
    asked = bounds if bounds is not None else _no_bounds(ds, basis)
    names = cube_variables(ds, asked)
    if not recode:
        _refuse_recoding(ds, names)
    networks = model.refinement if isinstance(model, CubeModel) else model
    chosen = register_model(networks or shipped_model(effort))
    dims = dimensions_of(ds, names, time_dim)
    begun = cube_begun(location_of(store), group) if resume else None
    if begun is not None:
        return resumed_cube(ds, names, dims, store, group, *begun, asked, effort, verify, progress, started)
    header, seen = planned_header(ds, names, dims, asked, chosen, block, tile, latents_alone=bounds is None)
    if basis is not None:
        if block > basis.block:
            raise InvalidConfigError(f"the model's latents are for blocks of at most {basis.block} times, not {block}")
        basis, matched = base_for(ds, names, dims, header, basis)
        alone = tuple(replace(v, refinement="", words="latents alone") for v in header.variables)
        planned = header.variables if bounds is not None else alone
        header = replace(header, basis=basis.digest, latent_channels=matched, variables=planned)
    skeleton = None
    if bounds is not None:
        skeleton = Skeleton.fit(ds, names, dims, header, seen, block, access, chosen, basis)
        header = replace(header, time_stride=skeleton.time_stride)
    location = location_of(store)
    with writing(place_of(location)):
        if not group:
            prepare_target(location, overwrite=overwrite)
        elif not overwrite and is_group(location, group):
            raise StoreExistsError(f"there is a group {group!r} already; overwrite=True replaces it", place=place_of(location))
        root = _write_metadata(ds, names, location, group, header, chosen, skeleton, seen.missing)
        if basis is not None:
            create_latents(root, ds, header, basis)
        root.attrs[STORED_TIMES] = 0  # from here on the write can be resumed
        written = BlockWriter(ds, names, dims, root, header, effort, verify, progress).write(0)
        header = replace(header, variables=written.variables(header))
        report = report_of(location, header, written, clock.perf_counter() - started).require()
        finish_cube(location, group, root, header, report)
    return replace(report, metadata=metadata_bytes(location) + shared_bytes(root))


def _no_bounds(ds: xr.Dataset, basis: JointBasis | None) -> CubeBounds:
    """Latents alone for all variables that a base knows."""
    if basis is None:
        raise InvalidConfigError("a cube needs bounds, or a model with latents from latentzarr.fit_cube")
    return {n: ErrorBound.none(1.0) for n in basis.channels.variables if n in ds.data_vars}


def _refuse_recoding(ds: xr.Dataset, names: Sequence[str]) -> None:
    for name in names:
        why = already_lossy(ds.variables[name])
        if why:
            raise AlreadyLossyError(f"the values were lossy before ({why}); recode=True codes them again", place=name)


def _write_metadata(
    ds: xr.Dataset, names: Sequence[str], location: Location, group: str, header: CubeHeader, model: Model,
    skeleton: Skeleton | None, masks: npt.NDArray[np.uint8],
) -> zarr.Group:  # fmt: skip
    """Everything but the blocks, marked as incomplete from the first byte on."""
    container = new_container(model.digest, complete=False)
    lossy = ", ".join(f"{v.name} ({v.words})" for v in header.variables)
    attributes = with_history(ds.attrs, f"{IMPLEMENTATION}: latent cube of {lossy}")
    rest = ds.drop_vars(list(names)).assign_attrs({**attributes, CONTAINER: container.to_text(), CUBE: header.to_text()})
    meant = {name: cf_encoding(v) for name, v in rest.variables.items()}
    rest = rest.drop_encoding()
    for name, encoding in meant.items():
        rest[name].encoding = encoding
    with quiet():
        rest.to_zarr(location, group=group or None, mode="w", consolidated=False, zarr_format=3)
    root = open_root(location, "r+")
    if group:
        found = root[group]
        assert isinstance(found, zarr.Group)
        root = found
    carry_model(root, model)
    if len(masks):
        write_masks(root, masks, header.tile)
    if skeleton is not None:
        write_blob(root, "references", skeleton.table)
        write_statics(root, header, skeleton.statics)
        for variable in header.variables:
            add_refinement(root, header, variable)
    return root
