"""The xarray engine ``latentzarr``: xarray's own zarr backend, with runtime options, worthwhile chunks and previews added.

    xr.open_dataset(store, engine="latentzarr", chunks={}, device="cpu", threads=2)
    xr.open_dataset(store, engine="latentzarr", scale=4)

Everything the stock engine knows (v2, string dtypes, consolidation, fill values) stays its business. Options never reach the
store: they travel with the opened arrays, into Dask tasks and other processes, and hold while those are read. zarr's default
pipeline hands them on to the codec; its opt-in ``FusedCodecPipeline`` does not for reads of several chunks, where
`latentzarr.set_runtime` or the environment (``LATENTZARR_THREADS``) decide instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import xarray as xr
import zarr
from xarray.backends import BackendEntrypoint, StoreBackendEntrypoint, ZarrBackendEntrypoint
from xarray.backends.common import _normalize_path, datatree_from_dict_with_io_cleanup

from latentzarr.codec.preview import LEVELS
from latentzarr.codec.runtime import using
from latentzarr.dataset.arrays import LatentStore, ReadOptions, our_errors
from latentzarr.dataset.carried import is_hidden, register_carried_models
from latentzarr.dataset.cube_engine import with_cube_variables
from latentzarr.dataset.cube_header import header_of
from latentzarr.dataset.provenance import require_complete
from latentzarr.errors import InvalidConfigError, LatentzarrError

__all__ = ["LatentzarrBackend"]

EXTENSIONS = (".latentzarr", ".lz.zarr")


class LatentzarrBackend(ZarrBackendEntrypoint):
    """Open zarr stores, those with latentzarr arrays in particular.

    Registered as ``engine="latentzarr"`` for `xarray.open_dataset`, `open_mfdataset`, `open_datatree` and `open_groups`. It
    is only guessed for paths that end in ``.latentzarr`` or ``.lz.zarr``: any ``.zarr`` store stays with the engine it had.
    """

    description = "Open zarr stores with latentzarr arrays: device, threads, previews, models carried by the store"
    url = "https://docs.xarray.dev/en/stable/user-guide/io.html#zarr"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Only paths with an extension of our own."""
        return isinstance(filename_or_obj, (str, os.PathLike)) and os.fspath(filename_or_obj).rstrip("/").endswith(EXTENSIONS)

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: Any = True,
        decode_times: Any = True,
        concat_characters: Any = True,
        decode_coords: Any = True,
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: Any = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        mode: Any = "r",
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        zarr_format: int | None = None,
        store: Any = None,
        engine: Any = None,  # noqa: ARG002 - the stock engine takes it too
        use_zarr_fill_value_as_mask: bool | None = None,  # noqa: ARG002 - as in the stock engine, without effect here
        cache_members: bool = True,
        device: str | None = None,
        threads: int | None = None,
        scale: int = 1,
        decode: bool = True,
        cache_bytes: int | None = None,
    ) -> xr.Dataset:
        """Open a group as a data set; parameters of the stock engine as there.

        Parameters
        ----------
        filename_or_obj : str, path or zarr store
        device : str, optional
            Where chunks are decoded: ``"cpu"``.
        threads : int, optional
            Chunks decoded at the same time in a process; 0 for one a core.
        scale : int
            1, or 2, 4 or 8 for a preview: see `latentzarr.dataset.preview`.
        decode : bool
            False: the latents of a cube as they lie, with their coordinates, instead of the variables they stand for.
        cache_bytes : int, optional
            Cubes: how much of what was decoded is held for further reads; by default 256 MiB.

        Raises
        ------
        InvalidConfigError
            For options that cannot be meant.
        IncompleteStoreError
            If the store says that writing it was cut off.
        ModelNotFoundError
            If an array needs a model that neither the store nor this machine has.
        """
        options = _options(device, threads, scale)
        if store is not None and options != ReadOptions():
            raise InvalidConfigError("device, threads and scale need a path or a zarr store, not an opened store=")
        with our_errors():
            if store is None:
                target = _normalize_path(filename_or_obj)
                _prepare(target, group, storage_options, zarr_format)
                store = LatentStore.open_group(
                    target,
                    group=group,
                    mode=mode,
                    consolidated=consolidated,
                    consolidate_on_close=False,
                    storage_options=storage_options,
                    zarr_format=zarr_format,
                    cache_members=cache_members,
                ).with_options(options, lenient=True)
                _require_previews(store, options)
            return _opened(
                store,
                options,
                decode,
                cache_bytes,
                mask_and_scale=mask_and_scale,
                decode_times=decode_times,
                concat_characters=concat_characters,
                decode_coords=decode_coords,
                drop_variables=drop_variables,
                use_cftime=use_cftime,
                decode_timedelta=decode_timedelta,
            )

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: Any = True,
        decode_times: Any = True,
        concat_characters: Any = True,
        decode_coords: Any = True,
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: Any = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        mode: Any = "r",
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        zarr_format: int | None = None,
        device: str | None = None,
        threads: int | None = None,
        scale: int = 1,
        decode: bool = True,
        cache_bytes: int | None = None,
    ) -> xr.DataTree:
        """Open a hierarchy of groups as a tree; parameters and errors as in `open_dataset`."""
        groups = self.open_groups_as_dict(
            filename_or_obj,
            mask_and_scale=mask_and_scale,
            decode_times=decode_times,
            concat_characters=concat_characters,
            decode_coords=decode_coords,
            drop_variables=drop_variables,
            use_cftime=use_cftime,
            decode_timedelta=decode_timedelta,
            group=group,
            mode=mode,
            consolidated=consolidated,
            storage_options=storage_options,
            zarr_format=zarr_format,
            device=device,
            threads=threads,
            scale=scale,
            decode=decode,
            cache_bytes=cache_bytes,
        )
        return datatree_from_dict_with_io_cleanup(groups)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: Any = True,
        decode_times: Any = True,
        concat_characters: Any = True,
        decode_coords: Any = True,
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: Any = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        mode: Any = "r",
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        zarr_format: int | None = None,
        device: str | None = None,
        threads: int | None = None,
        scale: int = 1,
        decode: bool = True,
        cache_bytes: int | None = None,
    ) -> dict[str, xr.Dataset]:
        """Open a hierarchy of groups, one data set for each path; parameters and errors as in `open_dataset`."""
        options = _options(device, threads, scale)
        target = _normalize_path(filename_or_obj)
        parent = str(PurePosixPath("/") / (group or ""))
        found: dict[str, xr.Dataset] = {}
        with our_errors():
            _prepare(target, parent, storage_options, zarr_format)
            stores = LatentStore.open_store(
                target,
                group=parent,
                mode=mode,
                consolidated=consolidated,
                consolidate_on_close=False,
                storage_options=storage_options,
                zarr_format=zarr_format,
            )
            for path, store in stores.items():
                if is_hidden(path):
                    continue
                require_complete(store.get_attrs(), f"{target} {path}")
                name = str(PurePosixPath(path).relative_to(parent)) if group else str(PurePosixPath(path))
                found[name] = _opened(
                    store.with_options(options, lenient=True),
                    options,
                    decode,
                    cache_bytes,
                    lenient=True,
                    mask_and_scale=mask_and_scale,
                    decode_times=decode_times,
                    concat_characters=concat_characters,
                    decode_coords=decode_coords,
                    drop_variables=drop_variables,
                    use_cftime=use_cftime,
                    decode_timedelta=decode_timedelta,
                )
        return found


def _options(device: str | None, threads: int | None, scale: int) -> ReadOptions:
    if isinstance(scale, bool) or scale not in [1 << level for level in range(LEVELS + 1)]:
        raise InvalidConfigError(f"scale must be 1, 2, 4 or 8, got {scale!r}")
    with using(device, threads):  # refuses what cannot be meant here, not in the first task
        return ReadOptions(device, threads, int(scale).bit_length() - 1)


def _prepare(target: Any, group: str | None, storage_options: dict[str, Any] | None, zarr_format: int | None) -> None:
    """Check that writing was finished and register the models the store carries, before zarr builds any codec."""
    at = (group or "").strip("/")
    for path in dict.fromkeys([at, ""]):
        try:
            found = zarr.open_group(
                target,
                mode="r",
                path=path or None,
                storage_options=storage_options,
                zarr_format=zarr_format,  # type: ignore[arg-type]
                use_consolidated=False,
            )
        except LatentzarrError:
            raise
        except Exception:  # noqa: BLE001, S112 - not a group, not there, not readable: the stock engine says it its own way
            continue
        require_complete(found.attrs.asdict(), str(target))
        register_carried_models(found)


def _opened(
    store: Any, options: ReadOptions, decode: bool, cache_bytes: int | None, *, lenient: bool = False, **decoders: Any
) -> xr.Dataset:
    """A group as the stock engine opens it; of a cube, its variables in the place of its latents, unless ``decode`` is False."""
    group = getattr(store, "zarr_group", None)
    cube = header_of(group.attrs.asdict()) if group is not None else None
    if cube is None and not decode and not lenient:
        raise InvalidConfigError("decode=False shows the latents of a cube; this group is none, leave it out")
    if cube is not None and options.level:
        raise InvalidConfigError("there are no previews of a cube; leave scale out")
    ds = _dataset(store, **decoders)
    if cube is None or not decode:
        return ds
    assert group is not None
    dropped = decoders["drop_variables"]
    found = with_cube_variables(ds, group, options, cache_bytes)
    return found.drop_vars([dropped] if isinstance(dropped, str) else list(dropped or ()), errors="ignore")


def _require_previews(store: LatentStore, options: ReadOptions) -> None:
    """A preview needs something to show; what a cube is asked for is answered later.

    Raises
    ------
    InvalidConfigError
    """
    if options.level and header_of(store.zarr_group.attrs.asdict()) is None:
        store.with_options(options)


def _dataset(store: Any, **decoders: Any) -> xr.Dataset:
    backend: BackendEntrypoint = StoreBackendEntrypoint()
    try:
        return backend.open_dataset(store, **decoders)
    except Exception:
        store.close()
        raise
