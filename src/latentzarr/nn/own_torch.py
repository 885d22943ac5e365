"""Torch modules of other people, run on NumPy arrays: copied once, moved to a device once, no gradients, no training mode."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import nn

from latentzarr.errors import InvalidConfigError, UntrustedModelError
from latentzarr.models.weights import check_weights

__all__ = ["TensorTransform", "require_device", "transforms"]


class TensorTransform:
    """A function of tensors as a function of arrays.

    Parameters
    ----------
    function : callable
        A module, a method of one, or any function of a tensor.
    place : str
        For messages.
    """

    def __init__(self, function: Callable[[Any], Any], place: str) -> None:
        self._on = {"cpu": function}
        self._place = place
        self._lock = threading.Lock()

    def __call__(self, values: npt.NDArray[Any], device: str) -> npt.NDArray[Any]:
        """Run on a device; values of shape (batch, ...), float32 or int64.

        Raises
        ------
        InvalidConfigError
            If the function gives something else than a tensor, or the device is not there.
        """
        function = self._function_on(device)
        with torch.inference_mode():
            result = function(torch.from_numpy(np.require(values, requirements="W")).to(device))
        if not isinstance(result, torch.Tensor):
            raise InvalidConfigError(
                f"it must give one tensor, it gave a {type(result).__name__}; wrap one that gives several, so that it gives "
                "the mean",
                place=self._place,
            )
        result = result.float() if result.is_floating_point() else result
        return np.asarray(result.cpu().numpy())

    def _function_on(self, device: str) -> Callable[[Any], Any]:
        with self._lock:
            if device not in self._on:
                require_device(device)
                self._on[device] = _moved(self._on["cpu"], device)
            return self._on[device]


def transforms(
    encoder: Callable[[Any], Any], decoder: Callable[[Any], Any], blob: bytes | None, place: str
) -> tuple[TensorTransform, TensorTransform, bytes | None]:
    """Encoder, decoder and weights, from copies of the modules as they are now, or with weights loaded into them.

    Raises
    ------
    UntrustedModelError
        If the weights do not fit the modules.
    """
    encoder, decoder = copy.deepcopy((encoder, decoder))
    first, second = (_module_of(f) for f in (encoder, decoder))
    if first is not None and first is second:
        whole: nn.Module | None = first
    else:
        parts = {name: part for name, part in (("encoder", first), ("decoder", second)) if part is not None}
        whole = nn.ModuleDict(parts) if parts else None
    if whole is not None:
        whole.eval().requires_grad_(requires_grad=False).cpu()
        if blob is None:
            state = {name: tensor.detach().clone().contiguous() for name, tensor in whole.state_dict().items()}
            blob = safetensors.torch.save(state)
        else:
            _load(whole, blob, place)
    return TensorTransform(encoder, f"encoder of {place}"), TensorTransform(decoder, f"decoder of {place}"), blob


def _load(whole: nn.Module, blob: bytes, place: str) -> None:
    check_weights(blob)
    arrays = safetensors.torch.load(blob)
    wanted = {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in arrays.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise UntrustedModelError(f"the weights do not fit the modules, other or missing: {', '.join(odd[:4])}", place=place)
    whole.load_state_dict(arrays)


def _module_of(function: Callable[[Any], Any]) -> nn.Module | None:
    owner = getattr(function, "__self__", function)
    return owner if isinstance(owner, nn.Module) else None


def _moved(function: Callable[[Any], Any], device: str) -> Callable[[Any], Any]:
    module = _module_of(function)
    if module is None:
        return function
    moved = copy.deepcopy(module).to(device)
    return MethodType(function.__func__, moved) if isinstance(function, MethodType) else moved


def require_device(device: str) -> str:
    """The device, if torch has it: ``"cpu"`` or ``"cuda"`` (which one, ``CUDA_VISIBLE_DEVICES`` says).

    Raises
    ------
    InvalidConfigError
    """
    if device == "cpu" or (device == "cuda" and torch.cuda.is_available()):
        return device
    why = "this PyTorch sees no GPU" if device == "cuda" else "there are cpu and cuda"
    raise InvalidConfigError(f"device {device!r} is not supported here: {why}")


if hasattr(os, "register_at_fork"):  # threads of a parent do not exist in a forked child, and torch would wait for them
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
