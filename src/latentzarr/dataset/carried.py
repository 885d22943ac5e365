"""Models that travel with a store: an array of bytes for each, in the group ``.latentzarr/models`` beside the data.

They are ordinary zarr nodes, so tools that copy a hierarchy copy them too. The group's attribute ``digests`` lists them, so
that they are found in stores that cannot list (plain HTTP). They are read outside any codec call, before the data is opened:
zarr has a single event loop, and a codec that reads from a store in the middle of a read would wait for itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr

from latentzarr.errors import ModelMismatchError, UntrustedModelError
from latentzarr.models.store import register_model
from latentzarr.models.weights import MAX_MODEL_BYTES, Model, read_model

__all__ = ["HIDDEN", "carry_model", "is_hidden", "register_carried_models"]

HIDDEN = ".latentzarr"
_MODELS = f"{HIDDEN}/models"
_MOST_MODELS = 64


def is_hidden(path: str) -> bool:
    """Whether a node is the package's own and no data."""
    return HIDDEN in path.split("/")


def carry_model(group: zarr.Group, model: Model) -> None:
    """Put a model into a group; whoever opens the group with ``engine="latentzarr"`` can then read what it coded.

    Parameters
    ----------
    group : zarr.Group
        Open for writing. Consolidate its metadata afterwards, if at all.
    model : Model
    """
    place = group.require_group(_MODELS)
    known = [str(d) for d in place.attrs.get("digests", [])]  # type: ignore[union-attr]
    if model.digest in known:
        return
    data = np.frombuffer(model.blob, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns of format details that do not concern the caller
        array = place.create_array(_name(model.digest), shape=data.shape, dtype=data.dtype, chunks=data.shape, compressors=None)
    array[:] = data
    place.attrs["digests"] = [*known, model.digest]


def register_carried_models(group: zarr.Group) -> tuple[Model, ...]:
    """Make the models that a group carries known to this process.

    Parameters
    ----------
    group : zarr.Group
        Opened without consolidated metadata: with it, zarr builds the codecs of all arrays first, which is too early.

    Returns
    -------
    tuple of Model

    Raises
    ------
    ModelMismatchError
        If bytes do not have the digest they are listed under.
    UntrustedModelError
        If the list or the bytes are not what a model is.
    """
    place = group.get(_MODELS)
    if not isinstance(place, zarr.Group):
        return ()
    return tuple(register_model(m) for m in _read(place))


def _read(place: zarr.Group) -> Iterator[Model]:
    digests: Any = place.attrs.get("digests", [])
    if not isinstance(digests, list) or len(digests) > _MOST_MODELS:
        raise UntrustedModelError(f"'digests' should list at most {_MOST_MODELS} models", place=str(place.store_path))
    for digest in digests:
        array = place.get(_name(str(digest)))
        if not isinstance(array, zarr.Array):
            raise UntrustedModelError(f"model {digest} is listed but not there", place=str(place.store_path))
        if array.dtype != np.uint8 or array.ndim != 1 or array.size > MAX_MODEL_BYTES:
            raise UntrustedModelError(f"model {digest} is stored as {array.dtype}{array.shape}", place=str(array.store_path))
        try:
            yield read_model(np.asarray(array[:]).tobytes(), expected=str(digest))
        except (ModelMismatchError, UntrustedModelError) as error:
            raise error.at(str(array.store_path)) from error


def _name(digest: str) -> str:
    return digest.removeprefix("sha256:")
