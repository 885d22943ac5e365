"""Windows of latents along time as a torch data set: what a forecast in latent space learns from, read as it is asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError, VariableNotFoundError

try:
    import torch
    from torch import Tensor
    from torch.utils.data import Dataset
except ImportError as error:
    raise ImportError("latentzarr.torch_dataset needs PyTorch: pip install 'latentzarr[torch]'") from error

__all__ = ["LatentArray", "LatentWindows", "Latents", "torch_dataset"]

_LATENT, _STEP, _CHANNEL = "latent", "latent_step", "latent_channel"
_CUBE = ("latent_specific", "latent_common")
_REMEMBERED_BLOCKS = 8
_BLOCK_BYTES = 16 * 2**20


class LatentArray(Protocol):
    """What is used of an xarray.DataArray."""

    dims: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    encoding: dict[Any, Any]

    @property
    def values(self) -> npt.NDArray[Any]:
        """Everything, read now."""
        ...

    def isel(self, indexers: dict[Any, Any]) -> LatentArray:
        """A part, not read yet."""
        ...


class Latents(Protocol):
    """What is used of an xarray.Dataset."""

    @property
    def data_vars(self) -> Any:
        """Names of the data variables, and the variables."""
        ...

    @property
    def coords(self) -> Any:
        """Names of the coordinates, and the coordinates."""
        ...

    def __getitem__(self, key: str) -> Any: ...


class LatentWindows(Dataset[tuple[Tensor, Tensor]]):  # type: ignore[misc]
    """Windows of latents: some steps, and the step that follows after a lead; made by `torch_dataset`.

    Item ``i`` is ``(inputs, target)``: float32 of shape (input_steps, latent channels, y, x), the steps ``i`` to
    ``i + input_steps - 1``, and of shape (latent channels, y, x), the step ``lead`` after the last of them.
    """

    def __init__(self, arrays: Sequence[LatentArray], steps: npt.NDArray[np.float32] | None, input_steps: int, lead: int) -> None:
        first = arrays[0]
        self._arrays, self._steps = tuple(arrays), steps
        self._input_steps, self._lead = input_steps, lead
        self._time, self._length = first.dims[0], first.shape[0]
        step_bytes = max(1, sum(4 * int(np.prod(a.shape[1:])) for a in arrays))
        chunk = int(first.encoding.get("preferred_chunks", {}).get(self._time, 1))
        self._block = max(1, min(chunk, _BLOCK_BYTES // step_bytes))
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, npt.NDArray[np.float32]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = self.__dict__.copy()
        del state["_lock"], state["_blocks"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return max(0, self._length - self._input_steps - self._lead + 1)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        last = i + self._input_steps - 1
        inputs = np.stack([self._step(t) for t in range(i, last + 1)])
        return torch.from_numpy(inputs), torch.from_numpy(self._step(last + self._lead).copy())

    def _step(self, t: int) -> npt.NDArray[np.float32]:
        number = t // self._block
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                block = self._read(slice(number * self._block, (number + 1) * self._block))
                self._blocks[number] = block
                if len(self._blocks) > _REMEMBERED_BLOCKS:
                    self._blocks.popitem(last=False)
            else:
                self._blocks.move_to_end(number)
        step: npt.NDArray[np.float32] = block[t % self._block]
        return step

    def _read(self, part: slice) -> npt.NDArray[np.float32]:
        parts = [a.isel({self._time: part}).values for a in self._arrays]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return values.astype(np.float32) if self._steps is None else (values * self._steps).astype(np.float32)


def torch_dataset(
    lat: Latents, input_steps: int = 2, lead: int = 1, variables: str | Sequence[str] | None = None
) -> LatentWindows:
    """Latents as a map-style torch data set of windows along time.

    Parameters
    ----------
    lat : xarray.Dataset
        Latents, as ``xarray.open_dataset(store, engine="latentzarr", decode=False)`` gives them. Read window by window;
        a few chunks are remembered. Works in workers of a ``DataLoader`` (use ``multiprocessing_context="spawn"``), if it
        was opened from a path.
    input_steps : int
        Steps in a window.
    lead : int
        Steps from the last of the window to the target.
    variables : str or sequence of str, optional
        Which arrays; by default ``latent``; of a cube ``latent_specific``, or ``latent_common`` if that has more channels; else
        all. Several are put together along the axis after time, so they have to agree in the others.

    Returns
    -------
    LatentWindows
        A ``torch.utils.data.Dataset`` of (inputs, target), float32. Continuous latents are in units of the encoder
        (multiplied by ``latent_step``), binary ones -1 and +1, integer ones the integers.

    Raises
    ------
    InvalidConfigError
        If there are fewer steps than a window needs, or the arrays do not fit together.
    VariableNotFoundError
    ImportError
        Without torch.
    """
    if input_steps < 1 or lead < 1:
        raise InvalidConfigError(f"input_steps and lead must be 1 or more, got {input_steps} and {lead}")
    there = [str(n) for n in lat.data_vars]
    if variables is None:
        names = [_LATENT] if _LATENT in there else _of_a_cube(lat, there) or there
    else:
        names = [variables] if isinstance(variables, str) else list(variables)
    unknown = [n for n in names if n not in there]
    if unknown or not names:
        raise VariableNotFoundError(f"no variables {unknown or 'at all'}; there are {there}")
    arrays = [lat[n] for n in names]
    first = arrays[0]
    for name, array in zip(names, arrays, strict=True):
        if len(array.dims) < 2 or array.dims[0] != first.dims[0] or array.dtype.kind not in "fiub":
            raise InvalidConfigError(f"needs numbers along {first.dims[0]!r} first, has {array.dtype}{array.dims}", place=name)
        if (array.shape[0], *array.shape[2:]) != (first.shape[0], *first.shape[2:]):
            raise InvalidConfigError(f"has the shape {array.shape}, {names[0]} has {first.shape}", place=name)
    if first.shape[0] < input_steps + lead:
        raise InvalidConfigError(f"{first.shape[0]} steps are too few for windows of {input_steps} and a lead of {lead}")
    return LatentWindows(arrays, _steps(lat, names, first.dims), input_steps, lead)


def _of_a_cube(lat: Latents, there: Sequence[str]) -> list[str]:
    """Of a cube's latents those of single times, or those of blocks where these hold more."""
    found = [n for n in _CUBE if n in there]
    return sorted(found, key=lambda n: -int(lat[n].shape[1]))[:1]


def _steps(lat: Latents, names: list[str], dims: tuple[Any, ...]) -> npt.NDArray[np.float32] | None:
    """What the latents are multiplied by, shaped to fit a block of them."""
    if names != [_LATENT] or _STEP not in lat.coords:
        return None
    steps = np.asarray(lat[_STEP].values, np.float32)
    if steps.ndim == 0:
        return steps
    return steps.reshape([-1 if d == _CHANNEL else 1 for d in dims])
