"""Weights of an autoencoder in the store of its latents: safetensors bytes for whoever has the code and not the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from latentzarr.cube.autoencoder import Autoencoder
from latentzarr.dataset.carried import HIDDEN
from latentzarr.dataset.own_autoencoder_table import ATTRIBUTE, LatentStoreRecord
from latentzarr.dataset.storage import location_of, open_root, place_of, quiet
from latentzarr.errors import ModelNotFoundError, StoreError, UntrustedModelError
from latentzarr.models.weights import MAX_FOREIGN_BYTES, check_weights

__all__ = ["autoencoder_weights", "carry_weights"]

_PLACE = f"{HIDDEN}/autoencoders"
_CHUNK = 16 * 2**20


def carry_weights(group: zarr.Group, autoencoder: Autoencoder) -> None:
    """Put an autoencoder's weights into a group that is open for writing."""
    assert autoencoder.weights is not None
    assert autoencoder.digest is not None
    data = np.frombuffer(autoencoder.weights, np.uint8)
    with quiet():
        array = group.require_group(_PLACE).create_array(
            autoencoder.digest.removeprefix("sha256:"), shape=data.shape, chunks=(min(len(data), _CHUNK),), dtype="uint8"
        )
        array[:] = data


def autoencoder_weights(store: Any) -> bytes:
    """The weights that a store of latents carries, as a safetensors file.

    Parameters
    ----------
    store : path, URL or zarr store
        Written by `latentzarr.encode_latents` with ``embed=True``.

    Returns
    -------
    bytes
        To be given to `latentzarr.register_autoencoder` as ``weights``. Checked: their digest is that in the record.

    Raises
    ------
    StoreError
        If this is no store of latents.
    ModelNotFoundError
        If it carries none.
    ModelMismatchError, UntrustedModelError
        If the bytes are not what the record says.
    """
    location = location_of(store)
    place = place_of(location)
    root = open_root(location)
    text = root.attrs.asdict().get(ATTRIBUTE)
    if text is None:
        raise StoreError(f"no store of latents: it has no attribute {ATTRIBUTE!r}", place=place)
    record = LatentStoreRecord.from_text(text, place)
    found = None if record.digest is None else root.get(f"{_PLACE}/{record.digest.removeprefix('sha256:')}")
    if not isinstance(found, zarr.Array):
        raise ModelNotFoundError(
            f"the store names autoencoder {record.autoencoder!r} with weights {record.digest}, but does not carry them",
            place=place,
        )
    if found.dtype != np.uint8 or found.ndim != 1 or found.size > MAX_FOREIGN_BYTES:
        raise UntrustedModelError(f"weights are stored as {found.dtype}{found.shape}", place=place)
    blob = np.asarray(found[:]).tobytes()
    check_weights(blob, expected=record.digest)
    return blob
