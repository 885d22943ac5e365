"""Where models are found by digest: this process, the package, `LATENTZARR_MODEL_PATH`, the user's cache."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from pathlib import Path

from latentzarr.errors import ModelNotFoundError, UntrustedModelError
from latentzarr.models.weights import Model, load_model, read_model, save_model

__all__ = [
    "cache_directory",
    "default_model",
    "find_model",
    "install_model",
    "known_models",
    "known_shipped",
    "register_model",
    "search_path",
    "shipped_model",
]

_lock = threading.Lock()
_registered: dict[str, Model] = {}
_FEWEST_DIGITS = 8  # that a digest may be shortened to: as many as a frame of version 2 has

SHIPPED = ("fast", "normal", "max", "hierarchy-1")
"""Models that come with the package: one for each effort, and the default of format version 1."""


@lru_cache(maxsize=len(SHIPPED))
def shipped_model(name: str) -> Model:
    """A model that comes with the package, one of `SHIPPED`."""
    return read_model(resources.files("latentzarr.models").joinpath(f"data/{name}.safetensors").read_bytes())


def default_model() -> Model:
    """The shipped model that is used where nothing else is asked for."""
    return shipped_model("normal")


def known_shipped(digest: str) -> Model | None:
    """The shipped model with a digest, given whole or by at least its first 8 digits."""
    wanted = digest.removeprefix("sha256:")
    if len(wanted) < _FEWEST_DIGITS:
        return None
    models = (shipped_model(name) for name in SHIPPED)
    return next((m for m in models if m.digest.removeprefix("sha256:").startswith(wanted)), None)


def cache_directory() -> Path:
    """``LATENTZARR_CACHE``, else ``$XDG_CACHE_HOME/latentzarr``, else ``~/.cache/latentzarr``; models lie in ``models``."""
    chosen = os.environ.get("LATENTZARR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentzarr"


def search_path() -> list[Path]:
    """Directories in which ``<hex digest>.safetensors`` is looked for, in order."""
    listed = [Path(p) for p in os.environ.get("LATENTZARR_MODEL_PATH", "").split(os.pathsep) if p]
    return [*listed, cache_directory() / "models"]


def register_model(model: Model) -> Model:
    """Make a model known to this process (an engine does so with the models a store carries)."""
    with _lock:
        _registered.setdefault(model.digest, model)
    return model


def install_model(model: Model) -> Path:
    """Put a model into the user's cache, where every later process finds it."""
    directory = cache_directory() / "models"
    directory.mkdir(parents=True, exist_ok=True)
    register_model(model)
    return save_model(model, directory / f"{model.digest.removeprefix('sha256:')}.safetensors")


def find_model(digest: str) -> Model:
    """The model with a digest.

    Parameters
    ----------
    digest : str
        ``"sha256:"`` and 64 hexadecimal digits, or at least the first 8 of them.

    Raises
    ------
    ModelNotFoundError
        Naming the digest, the places that were tried and what to do.
    ModelMismatchError, UntrustedModelError
        If a file of that name does not hold that model.
    """
    wanted = digest.removeprefix("sha256:")
    if len(wanted) < _FEWEST_DIGITS or any(c not in "0123456789abcdef" for c in wanted):
        raise ModelNotFoundError(f"{digest!r} is not a model digest: 'sha256:' and at least {_FEWEST_DIGITS} hexadecimal digits")
    with _lock:
        for known, model in _registered.items():
            if known.removeprefix("sha256:").startswith(wanted):
                return model
    shipped = known_shipped(wanted)
    if shipped is not None:
        return shipped
    for directory in search_path():
        for file in sorted(directory.glob(f"{wanted}*.safetensors")) if directory.is_dir() else ():
            model = load_model(file)
            if not model.digest.removeprefix("sha256:").startswith(wanted):
                raise UntrustedModelError(f"the file is named {wanted} but holds {model.digest}", place=str(file))
            return register_model(model)
    tried = ", ".join(["this process", "the installed package", *map(str, search_path())])
    raise ModelNotFoundError(
        f"no model sha256:{wanted}; tried {tried}. Get the file from whoever wrote the data and run "
        "'latentzarr models add FILE', or put it into a directory named by LATENTZARR_MODEL_PATH"
    )


def known_models() -> Iterator[tuple[Model, str]]:
    """All models that can be found, with the place of each."""
    seen: set[str] = set()
    for name in SHIPPED:
        yield shipped_model(name), "package"
        seen.add(shipped_model(name).digest)
    with _lock:
        registered = list(_registered.values())
    for directory in search_path():
        for file in sorted(directory.glob("*.safetensors")) if directory.is_dir() else ():
            model = load_model(file)
            if model.digest not in seen:
                seen.add(model.digest)
                yield model, str(file)
    for model in registered:
        if model.digest not in seen:
            seen.add(model.digest)
            yield model, "this process"
