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
    from latentzarr.cube.autoencoder import Autoencoder, ChannelScaling
    from latentzarr.cube.latents import LatentDescription
    from latentzarr.cube.model import CubeModel, load_cube_model, save_cube_model
    from latentzarr.cube.registry import register_autoencoder
    from latentzarr.dataset.cube_append import append_cube
    from latentzarr.dataset.cube_decode import decode
    from latentzarr.dataset.cube_fit import fit_cube
    from latentzarr.dataset.cube_quality import quality
    from latentzarr.dataset.cube_refine import refine_cube
    from latentzarr.dataset.cube_write import to_cube
    from latentzarr.dataset.own_autoencoder_weights import autoencoder_weights
    from latentzarr.dataset.own_autoencoder_write import encode_latents
    from latentzarr.dataset.plan import plan
    from latentzarr.dataset.verify import verify
    from latentzarr.dataset.write import to_zarr
    from latentzarr.models.store import default_model, find_model, install_model
    from latentzarr.models.weights import Model, load_model, save_model
    from latentzarr.training.fit import fit
    from latentzarr.training.latent_windows import torch_dataset

__version__ = "0.2.0"

_PLACES = {
    "Autoencoder": "cube.autoencoder",
    "BoundKind": "bounds",
    "ChannelScaling": "cube.autoencoder",
    "CodecConfig": "codec.config",
    "CubeModel": "cube.model",
    "ErrorBound": "bounds",
    "LatentCodec": "codec.zarr_codec",
    "LatentDescription": "cube.latents",
    "LatentNumcodec": "codec.numcodecs_codec",
    "Model": "models.weights",
    "Runtime": "codec.runtime",
    "append_cube": "dataset.cube_append",
    "autoencoder_weights": "dataset.own_autoencoder_weights",
    "decode": "dataset.cube_decode",
    "decode_chunk": "codec.chunk",
    "default_model": "models.store",
    "encode_chunk": "codec.chunk",
    "encode_latents": "dataset.own_autoencoder_write",
    "find_model": "models.store",
    "fit": "training.fit",
    "fit_cube": "dataset.cube_fit",
    "install_model": "models.store",
    "load_cube_model": "cube.model",
    "load_model": "models.weights",
    "parse_bound": "bounds",
    "plan": "dataset.plan",
    "quality": "dataset.cube_quality",
    "refine_cube": "dataset.cube_refine",
    "register_autoencoder": "cube.registry",
    "save_cube_model": "cube.model",
    "save_model": "models.weights",
    "set_runtime": "codec.runtime",
    "to_cube": "dataset.cube_write",
    "to_zarr": "dataset.write",
    "torch_dataset": "training.latent_windows",
    "using": "codec.runtime",
    "verify": "dataset.verify",
}

__all__ = [
    "Autoencoder",
    "BoundKind",
    "ChannelScaling",
    "CodecConfig",
    "CubeModel",
    "ErrorBound",
    "LatentCodec",
    "LatentDescription",
    "LatentNumcodec",
    "Model",
    "Runtime",
    "append_cube",
    "autoencoder_weights",
    "decode",
    "decode_chunk",
    "default_model",
    "encode_chunk",
    "encode_latents",
    "find_model",
    "fit",
    "fit_cube",
    "install_model",
    "load_cube_model",
    "load_model",
    "parse_bound",
    "plan",
    "quality",
    "refine_cube",
    "register_autoencoder",
    "save_cube_model",
    "save_model",
    "set_runtime",
    "to_cube",
    "to_zarr",
    "torch_dataset",
    "using",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"latentzarr.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'latentzarr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
