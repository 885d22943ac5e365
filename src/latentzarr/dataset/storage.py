"""Opening, finishing and naming stores: the few zarr calls that writing, checking and inspecting share, with our errors."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zarr
import zarr.errors
from zarr.core.sync import sync
from zarr.storage import LocalStore

from latentzarr.errors import StoreError, StoreExistsError, StoreWriteError, VariableNotFoundError

__all__ = [
    "Location",
    "drop_block",
    "finish",
    "is_group",
    "is_stored",
    "location_of",
    "metadata_bytes",
    "open_array",
    "open_root",
    "place_of",
    "prepare_target",
    "quiet",
    "writing",
]

_DOCUMENTS = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")

Location = Any
"""A path, a URL, or a zarr store object; as text or object it can be sent to other processes."""


def location_of(store: Any) -> Location:
    """A store argument as tasks in other processes need it: paths made absolute text, everything else as it is."""
    if isinstance(store, Path) or (isinstance(store, str) and "://" not in store):
        return str(Path(store).expanduser().absolute())
    return store


def metadata_bytes(location: Location) -> int:
    """Bytes of all metadata documents of a finished store, the models that codec configurations carry included."""
    store = open_root(location).store

    async def total() -> int:
        keys = [key async for key in store.list() if key.rsplit("/", 1)[-1] in _DOCUMENTS]
        return sum([await store.getsize(key) for key in keys])

    return int(sync(total()))


def place_of(store: Location) -> str:
    """A store by name, for messages."""
    return store if isinstance(store, str) else str(store)


@contextmanager
def quiet() -> Iterator[None]:
    """Without zarr's notes on what is in no specification yet: consolidated metadata and our codec are meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Zarr format 3 specification.*")
        warnings.filterwarnings("ignore", message=".*Zarr V3 specification.*")
        yield


@contextmanager
def writing(place: str, *, resumable: bool = True) -> Iterator[None]:
    """What goes wrong with the medium becomes a `StoreWriteError` that names the store and what to do.

    Raises
    ------
    StoreWriteError
    """
    again = "write again with resume=True" if resumable else "write again with overwrite=True"
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f"the disk is full; make room and {again}"
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            advice = "the place cannot be written to; check permissions or choose another"
        else:
            advice = f"writing failed; once the cause is gone, {again}"
        raise StoreWriteError(f"{advice} ({error})", place=place) from error
    except ValueError as error:
        if "read-only" not in str(error) and "read only" not in str(error):
            raise
        raise StoreWriteError(f"the store was opened read-only; open it for writing ({error})", place=place) from error


def open_root(store: Location, mode: Any = "r", *, consolidated: bool = False) -> zarr.Group:
    """The root group of a store.

    Raises
    ------
    StoreError
        If there is none.
    """
    try:
        return zarr.open_group(store, mode=mode, use_consolidated=consolidated)
    except (FileNotFoundError, zarr.errors.NodeNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise StoreError("there is no zarr group here", place=place_of(store)) from error


def is_group(store: Location, path: str) -> bool:
    """Whether there is a group at a path of a store."""
    try:
        zarr.open_group(store, mode="r", path=path, use_consolidated=False)
    except (FileNotFoundError, zarr.errors.NodeNotFoundError, zarr.errors.GroupNotFoundError):
        return False
    return True


def open_array(store: Location, name: str, *, write_empty: bool = True) -> zarr.Array[Any]:
    """An array of the root group, ready to be written to where the store allows it.

    Parameters
    ----------
    store : path, URL or zarr store
    name : str
    write_empty : bool
        Store chunks that hold nothing but the fill value too, bit by bit.

    Raises
    ------
    VariableNotFoundError
    """
    read_only = bool(getattr(store, "read_only", False))
    try:
        with quiet():
            array = zarr.open_array(store, path=name, mode="r" if read_only else "r+")
    except (FileNotFoundError, zarr.errors.NodeNotFoundError) as error:
        raise VariableNotFoundError(f"the store has no variable {name!r}", place=place_of(store)) from error
    return array.with_config({"write_empty_chunks": write_empty})


def is_stored(array: zarr.Array[Any], index: tuple[int, ...]) -> bool:
    """Whether a block (shard, or chunk without shards) of an array is in the store."""
    key = array.metadata.encode_chunk_key(index)
    return bool(sync((array.store_path / key).exists()))


def drop_block(array: zarr.Array[Any], index: tuple[int, ...]) -> None:
    """Remove a block from the store; zarr would read a damaged shard before it writes over it."""
    sync((array.store_path / array.metadata.encode_chunk_key(index)).delete())


def prepare_target(store: Location, *, overwrite: bool, resumable: bool = True) -> None:
    """Refuse to write over anything, or with ``overwrite`` over anything that is no zarr store.

    Raises
    ------
    StoreExistsError
    """
    place = place_of(store)
    found = None
    with quiet():
        try:
            found = zarr.open(store, mode="r")
        except (FileNotFoundError, zarr.errors.NodeNotFoundError, zarr.errors.GroupNotFoundError, NotADirectoryError):
            pass
        except ValueError:  # metadata that cannot be read is still a store
            found = None
    directory = (
        store.root if isinstance(store, LocalStore) else Path(store) if isinstance(store, str) and "://" not in store else None
    )
    if found is not None:
        if not overwrite:
            more = ", resume=True finishes one that was cut off" if resumable else ""
            raise StoreExistsError(f"there is a store already; overwrite=True replaces it{more}", place=place)
    elif directory is not None and directory.is_dir() and any(directory.iterdir()) and not (directory / "zarr.json").exists():
        raise StoreExistsError("there is a directory that is no zarr store; it is left alone, choose another place", place=place)
    elif directory is not None and directory.is_file():
        raise StoreExistsError("there is a file of that name; choose another place", place=place)


def finish(store: Location, attributes: Mapping[str, Mapping[str, Any]], root: Mapping[str, Any]) -> None:
    """Write attributes of variables, then consolidate, then the root's attributes: the last write says that all is done."""
    with quiet():
        group = open_root(store, "r+")
        for name, values in attributes.items():
            group[name].update_attributes(dict(values))
        consolidated = zarr.consolidate_metadata(group.store, path=group.path or None)
        consolidated.update_attributes(dict(root))
