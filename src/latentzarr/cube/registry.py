"""Autoencoders by name: those registered in this process, and those that installed packages offer through an entry point.

A store holds the name and the digest only, never code. Whoever reads it has to have the autoencoder; a package that declares

    [project.entry-points."latentzarr.autoencoders"]
    name = "package.module:factory"

gives it to every process, Dask's workers too. The entry point is loaded when a store or a call names it, not before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from latentzarr.cube.autoencoder import Autoencoder, ChannelScaling, Weights
from latentzarr.cube.latents import LatentDescription
from latentzarr.errors import InvalidConfigError, ModelMismatchError, ModelNotFoundError

__all__ = ["GROUP", "find_autoencoder", "register_autoencoder", "unregister_autoencoder"]

GROUP = "latentzarr.autoencoders"
_known: dict[str, Autoencoder] = {}
_lock = threading.RLock()


def register_autoencoder(
    name: str,
    *,
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any],
    latent: LatentDescription,
    scaling: ChannelScaling | None = None,
    weights: Weights | None = None,
    tensors: bool | None = None,
) -> Autoencoder:
    """Make an autoencoder known to this process, in the place of one of the same name.

    Parameters
    ----------
    name : str
        What stores will name it by.
    encoder : callable or torch module
        Takes float32 of shape (batch, channels, rows, columns), gives latents of shape (batch, latent channels, y, x),
        (batch, y, x) or (batch, n). Nothing may depend on the other items of a batch.
    decoder : callable or torch module
        Takes latents as stored and gives float32 of shape (batch, channels, rows, columns).
        Torch modules, and methods of one, are copied as they are now, put into evaluation mode, and given tensors.
        Anything else is given NumPy arrays.
    latent : LatentDescription
    scaling : ChannelScaling, optional
        Applied before the encoder and undone after the decoder; none by default.
    weights : path, bytes or mapping of str to array, optional
        A safetensors file. For torch modules it is loaded into them, and by default it is made from them (names start
        with ``encoder.`` and ``decoder.``, unless both are methods of one module). For other callables it only identifies
        them; without it a store has no digest to compare.
    tensors : bool, optional
        True: give tensors to functions as well.

    Returns
    -------
    Autoencoder

    Raises
    ------
    InvalidConfigError
        If the parts do not fit together.
    UntrustedModelError
        If the weights are not a safetensors file, are too large, or do not fit the modules.
    OSError
        If the file of weights cannot be read.
    """
    made = Autoencoder.build(
        name, encoder=encoder, decoder=decoder, latent=latent, scaling=scaling, weights=weights, tensors=tensors
    )
    with _lock:
        _known[name] = made
    return made


def unregister_autoencoder(name: str) -> None:
    """Forget a registered autoencoder; nothing happens if there is none."""
    with _lock:
        _known.pop(name, None)


def find_autoencoder(name: str, digest: str | None = None, place: str | None = None) -> Autoencoder:
    """The autoencoder of a name.

    Parameters
    ----------
    name : str
    digest : str, optional
        What its weights must have.
    place : str, optional
        The store that names it, for messages.

    Raises
    ------
    ModelNotFoundError
        If it is neither registered nor offered by an installed package.
    ModelMismatchError
        If its weights have another digest.
    InvalidConfigError
        If the entry point of that name gives something else.
    """
    with _lock:
        if name not in _known:
            _known[name] = _from_entry_point(name, place)
        found = _known[name]
    if digest is not None and found.digest != digest:
        raise ModelMismatchError(
            f"the latents were made by an autoencoder {name!r} with weights {digest}, the one registered here has "
            f"{found.digest or 'no weights'}; register the one they were made by",
            place=place,
        )
    return found


def _from_entry_point(name: str, place: str | None) -> Autoencoder:
    offered = sorted(entry_points(group=GROUP, name=name), key=lambda point: point.value)
    if not offered:
        raise ModelNotFoundError(
            f"autoencoder {name!r} is not known in this process. Register it: latentzarr.register_autoencoder({name!r}, ...) "
            f"in every process that decodes, or install a package with an entry point {name!r} in the group {GROUP!r}. "
            'Without it, xarray.open_dataset(..., engine="latentzarr", decode=False) shows the latents',
            place=place,
        )
    found = offered[0].load()
    if not isinstance(found, Autoencoder) and callable(found):
        found = found()
    if not isinstance(found, Autoencoder) or found.name != name:
        what = f"the autoencoder {found.name!r}" if isinstance(found, Autoencoder) else f"a {type(found).__name__}"
        raise InvalidConfigError(
            f"entry point {offered[0].value!r} should give the autoencoder {name!r} (from latentzarr.Autoencoder.build or "
            f"latentzarr.register_autoencoder), or a function of no arguments that does; it gives {what}",
            place=place,
        )
    return found


def _after_fork() -> None:
    """A lock held by another thread at the fork would never be released in the child."""
    global _lock  # noqa: PLW0603 - replaced whole, in a child that has one thread
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
