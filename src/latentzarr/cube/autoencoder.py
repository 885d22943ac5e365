"""An autoencoder that somebody else trained: a name, two functions, the digest of its weights, and what its latents are.

The package runs it and keeps what it gives; it knows nothing of its layers. Torch is loaded only where a torch module is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latentzarr.cube.latents import LatentDescription
from latentzarr.errors import InvalidConfigError
from latentzarr.models.weights import MAX_FOREIGN_BYTES, array_bytes, check_weights, digest_of

__all__ = ["Autoencoder", "ChannelScaling", "Transform", "Weights", "check_device"]

Weights = str | Path | bytes | Mapping[str, npt.NDArray[Any]]
"""A safetensors file, its bytes, or arrays by name."""
_LONGEST_NAME = 200


class Transform(Protocol):
    """One half of an autoencoder."""

    def __call__(self, values: npt.NDArray[Any], device: str) -> npt.NDArray[Any]:
        """Values of shape (batch, ...) turned into others of shape (batch, ...), computed on ``device``."""
        ...


@dataclass(frozen=True, slots=True)
class ChannelScaling:
    """What is taken from a channel's values before they are encoded: ``(x - mean) / std``.

    Attributes
    ----------
    mean, std : float or sequence of float
        In units of the data; one for all channels or one for each, in the order of the channels. ``std`` is positive.
    """

    mean: float | Sequence[float]
    std: float | Sequence[float]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            numbers = tuple(float(v) for v in np.atleast_1d(np.asarray(getattr(self, name), np.float64)).ravel())
            if not numbers or not all(map(math.isfinite, numbers)) or (name == "std" and min(numbers) <= 0):
                raise InvalidConfigError(f"{name} of a scaling must be finite{', positive' * (name == 'std')} numbers")
            object.__setattr__(self, name, numbers)

    def of(self, channels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and standard deviation as float64 of shape (channels,).

        Raises
        ------
        InvalidConfigError
            If there are others than one or ``channels`` numbers.
        """
        both = []
        for name in ("mean", "std"):
            numbers = np.asarray(getattr(self, name), np.float64)
            if len(numbers) not in (1, channels):
                raise InvalidConfigError(f"the scaling has {name} for {len(numbers)} channels, the data have {channels}")
            both.append(np.broadcast_to(numbers, (channels,)))
        return both[0], both[1]


@dataclass(frozen=True, slots=True, eq=False)
class Autoencoder:
    """A registered autoencoder; made by `build`.

    Attributes
    ----------
    name : str
    encode, decode : Transform
    latent : LatentDescription
    scaling : ChannelScaling or None
    digest : str or None
        ``"sha256:..."`` of ``weights``; None where no weights are known, so that nothing can tell one decoder from another.
    weights : bytes or None
        A safetensors file.
    """

    name: str
    encode: Transform
    decode: Transform
    latent: LatentDescription
    scaling: ChannelScaling | None
    digest: str | None
    weights: bytes | None

    @classmethod
    def build(
        cls,
        name: str,
        *,
        encoder: Callable[[Any], Any],
        decoder: Callable[[Any], Any],
        latent: LatentDescription,
        scaling: ChannelScaling | None = None,
        weights: Weights | None = None,
        tensors: bool | None = None,
    ) -> Autoencoder:
        """Describe an autoencoder without registering it; parameters and errors as `latentzarr.register_autoencoder`."""
        if not 0 < len(name) <= _LONGEST_NAME:
            raise InvalidConfigError(f"an autoencoder needs a name of 1 to {_LONGEST_NAME} characters, got {name!r}")
        place = f"autoencoder {name!r}"
        for what, function in (("encoder", encoder), ("decoder", decoder)):
            if not callable(function):
                raise InvalidConfigError(f"the {what} cannot be called, it is a {type(function).__name__}", place=place)
        blob = None if weights is None else _blob(weights)
        encode: Transform
        decode: Transform
        if _is_torch(encoder) or _is_torch(decoder) or tensors:
            own_torch = import_module("latentzarr.nn.own_torch")
            encode, decode, blob = own_torch.transforms(encoder, decoder, blob, place)
        else:
            encode, decode = _OnArrays(encoder, name), _OnArrays(decoder, name)
        if blob is not None:
            check_weights(blob)
        return cls(name, encode, decode, latent, scaling, None if blob is None else digest_of(blob), blob)

    def to_latents(self, fields: npt.NDArray[np.float32], device: str = "cpu") -> npt.NDArray[Any]:
        """Encode scaled fields.

        Parameters
        ----------
        fields : float32, (batch, channels, rows, columns)
        device : str

        Returns
        -------
        array, (batch, ...)

        Raises
        ------
        InvalidConfigError
            If the encoder gives something else than one array with as many items.
        """
        latents = np.asarray(self.encode(np.ascontiguousarray(fields), device))
        if latents.ndim == 0 or latents.shape[0] != fields.shape[0] or latents.dtype.kind not in "fiub":
            raise InvalidConfigError(
                f"the encoder was given {fields.shape} and gave {latents.dtype}{latents.shape}; it must give one array of "
                "numbers with as many items (wrap one that gives several, so that it gives the mean)",
                place=f"autoencoder {self.name!r}",
            )
        return latents

    def to_fields(self, latents: npt.NDArray[Any], shape: tuple[int, ...], device: str = "cpu") -> npt.NDArray[np.float32]:
        """Decode latents to scaled fields.

        Parameters
        ----------
        latents : array, (batch, ...)
            As `StoredLatents.values` gives them.
        shape : tuple of int
            (channels, rows, columns) of the fields.
        device : str

        Returns
        -------
        float32, (batch, channels, rows, columns)

        Raises
        ------
        InvalidConfigError
            If the decoder gives something else.
        """
        fields = np.asarray(self.decode(np.ascontiguousarray(latents), device))
        if fields.shape != (len(latents), *shape) or fields.dtype.kind not in "fiub":
            raise InvalidConfigError(
                f"the decoder was given latents {latents.shape} and gave {fields.dtype}{fields.shape}, "
                f"not fields of {(len(latents), *shape)}",
                place=f"autoencoder {self.name!r}",
            )
        return fields.astype(np.float32, copy=False)


@dataclass(frozen=True, slots=True)
class _OnArrays:
    """A function of NumPy arrays; runs where Python runs."""

    function: Callable[[Any], Any]
    name: str

    def __call__(self, values: npt.NDArray[Any], device: str) -> npt.NDArray[Any]:
        if device != "cpu":
            raise InvalidConfigError(
                f"device {device!r} needs torch modules, or tensors=True when registering; this one takes arrays",
                place=f"autoencoder {self.name!r}",
            )
        result = self.function(values)
        return np.asarray(result.detach() if hasattr(result, "detach") else result)


def check_device(device: str) -> str:
    """The device, if autoencoders can run there.

    Raises
    ------
    InvalidConfigError
        Naming the device.
    """
    if device == "cpu":
        return device
    try:
        own_torch = import_module("latentzarr.nn.own_torch")
    except ImportError as error:
        raise InvalidConfigError(f"device {device!r} is not supported here: PyTorch is not installed; use cpu") from error
    return str(own_torch.require_device(device))


def _is_torch(function: Any) -> bool:
    """Whether something is a torch module or a method of one; told without loading torch."""
    owner = getattr(function, "__self__", function)
    return any(c.__module__ == "torch.nn.modules.module" and c.__name__ == "Module" for c in type(owner).__mro__)


def _blob(weights: Weights) -> bytes:
    if isinstance(weights, bytes):
        return weights
    if isinstance(weights, str | Path):
        file = Path(weights)
        if file.stat().st_size > MAX_FOREIGN_BYTES:
            raise InvalidConfigError(f"weights have at most {MAX_FOREIGN_BYTES} bytes", place=str(weights))
        return file.read_bytes()
    return array_bytes(weights)
