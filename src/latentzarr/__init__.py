"""Any zarr or xarray array as neural latents under an error bound that holds, opened again by plain xarray, zarr and Dask.

>>> import numpy as np, latentzarr
>>> codec = latentzarr.LatentCodec(absolute=0.1)
>>> codec.bound
ErrorBound(kind=<BoundKind.ABSOLUTE: 'absolute'>, value=0.1)

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentzarr.bounds import BoundKind, ErrorBound, parse_bound
    from latentzarr.codec.chunk import decode_chunk, encode_chunk
    from latentzarr.codec.config import CodecConfig
    from latentzarr.codec.numcodecs_codec import LatentNumcodec
    from latentzarr.codec.runtime import Runtime, set_runtime, using
    from latentzarr.codec.zarr_codec import LatentCodec
    from latentzarr.dataset.cube_write import to_cube
    from latentzarr.dataset.plan import plan
    from latentzarr.dataset.verify import verify
    from latentzarr.dataset.write import to_zarr
    from latentzarr.models.store import default_model, find_model, install_model
    from latentzarr.models.weights import Model, load_model, save_model
    from latentzarr.training.fit import fit

__version__ = "0.2.0"

_PLACES = {
    "BoundKind": "bounds",
    "CodecConfig": "codec.config",
    "ErrorBound": "bounds",
    "LatentCodec": "codec.zarr_codec",
    "LatentNumcodec": "codec.numcodecs_codec",
    "Model": "models.weights",
    "Runtime": "codec.runtime",
    "decode_chunk": "codec.chunk",
    "default_model": "models.store",
    "encode_chunk": "codec.chunk",
    "find_model": "models.store",
    "fit": "training.fit",
    "install_model": "models.store",
    "load_model": "models.weights",
    "parse_bound": "bounds",
    "plan": "dataset.plan",
    "save_model": "models.weights",
    "set_runtime": "codec.runtime",
    "to_cube": "dataset.cube_write",
    "to_zarr": "dataset.write",
    "using": "codec.runtime",
    "verify": "dataset.verify",
}

__all__ = [
    "BoundKind",
    "CodecConfig",
    "ErrorBound",
    "LatentCodec",
    "LatentNumcodec",
    "Model",
    "Runtime",
    "decode_chunk",
    "default_model",
    "encode_chunk",
    "find_model",
    "fit",
    "install_model",
    "load_model",
    "parse_bound",
    "plan",
    "save_model",
    "set_runtime",
    "to_cube",
    "to_zarr",
    "using",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"latentzarr.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'latentzarr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
