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

from latentzarr.dataset.arrays import LatentStore, ReadOptions, our_errors
from latentzarr.dataset.carried import is_hidden, register_carried_models
from latentzarr.dataset.cube_header import holds_cube
from latentzarr.dataset.own_autoencoder import holds_latents, require_finished
from latentzarr.dataset.presenting import Asked, present
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
            Where chunks are decoded: ``"cpu"``; of a store of latents (`latentzarr.encode_latents`) also ``"cuda"``.
        threads : int, optional
            Chunks decoded at the same time in a process; 0 for one a core.
        scale : int
            1, or 2, 4 or 8 for a preview: see `latentzarr.dataset.preview`.
        decode : bool
            False: the latents of a cube or of an autoencoder as they lie, with their coordinates.
        cache_bytes : int, optional
            Cubes: how much of what was decoded is held for further reads; by default 256 MiB.

        Raises
        ------
        InvalidConfigError
            For options that cannot be meant.
        IncompleteStoreError
            If the store says that writing it was cut off.
        ModelNotFoundError
            If an array needs a model that neither the store nor this machine has; if latents need an autoencoder that is
            not registered.
        ModelMismatchError
            If that autoencoder has other weights.
        """
        asked = Asked(device, threads, scale, decode, cache_bytes)
        with our_errors():
            own, cube = (
                (False, False)
                if store is not None
                else _prepare(_normalize_path(filename_or_obj), group, storage_options, zarr_format)
            )
        options = asked.options(own=own)
        if store is not None and options != ReadOptions():
            raise InvalidConfigError("device, threads and scale need a path or a zarr store, not an opened store=")
        with our_errors():
            opened = store is None
            if opened:
                target = _normalize_path(filename_or_obj)
                store = LatentStore.open_group(
                    target,
                    group=group,
                    mode=mode,
                    consolidated=consolidated,
                    consolidate_on_close=False,
                    storage_options=storage_options,
                    zarr_format=zarr_format,
                    cache_members=cache_members,
                ).with_options(options, lenient=own or cube)
            shown = _dataset(
                store,
                mask_and_scale=mask_and_scale,
                decode_times=decode_times,
                concat_characters=concat_characters,
                decode_coords=decode_coords,
                drop_variables=drop_variables,
                use_cftime=use_cftime,
                decode_timedelta=decode_timedelta,
            )
            return present(shown, store, asked, str(filename_or_obj), drop_variables) if opened else shown

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
        asked = Asked(device, threads, scale, decode, cache_bytes)
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
            own = {path for path, s in stores.items() if holds_latents(s.get_attrs(), s.array_keys())}
            options = asked.options(own=bool(own))
            several = sum(not is_hidden(path) for path in stores) > 1
            for path, store in stores.items():
                if is_hidden(path):
                    continue
                require_complete(store.get_attrs(), f"{target} {path}")
                require_finished(store.get_attrs(), f"{target} {path}")
                name = str(PurePosixPath(path).relative_to(parent)) if group else str(PurePosixPath(path))
                shown = _dataset(
                    store.with_options(options, lenient=True),
                    mask_and_scale=mask_and_scale,
                    decode_times=decode_times,
                    concat_characters=concat_characters,
                    decode_coords=decode_coords,
                    drop_variables=drop_variables,
                    use_cftime=use_cftime,
                    decode_timedelta=decode_timedelta,
                )
                found[name] = present(shown, store, asked, f"{target} {path}", drop_variables, lenient=several)
        return found


def _prepare(
    target: Any, group: str | None, storage_options: dict[str, Any] | None, zarr_format: int | None
) -> tuple[bool, bool]:
    """Check that writing was finished and register the models the store carries, before zarr builds any codec.

    Returns
    -------
    own, cube : bool
        Whether the group holds the latents of a person's own autoencoder, or a cube.
    """
    own = cube = False
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
        attributes = found.attrs.asdict()
        require_complete(attributes, str(target))
        require_finished(attributes, str(target))
        register_carried_models(found)
        own |= path == at and holds_latents(attributes, found)
        cube |= path == at and holds_cube(attributes, found)  # type: ignore[arg-type]
    return own, cube


def _dataset(store: Any, **decoders: Any) -> xr.Dataset:
    backend: BackendEntrypoint = StoreBackendEntrypoint()
    try:
        return backend.open_dataset(store, **decoders)
    except Exception:
        store.close()
        raise
