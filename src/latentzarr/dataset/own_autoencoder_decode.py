"""Items of a store of latents decoded by the autoencoder it names: only those asked for, each once while it is remembered.

One decoder call runs at a time in a process, because nobody knows whether somebody else's function may run in two threads.
What was decoded stays in memory up to a limit, so that reading the next variable or level of the same items decodes nothing.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from latentzarr.cube.registry import find_autoencoder
from latentzarr.dataset.own_autoencoder_table import LatentStoreRecord

__all__ = ["CACHE_BYTES", "ItemDecoder", "forget_decoded"]

CACHE_BYTES = 256 * 2**20


class _Cache:
    """The items decoded last, up to a number of bytes; used under the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._items: OrderedDict[Hashable, npt.NDArray[np.float32]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> npt.NDArray[np.float32] | None:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: Hashable, item: npt.NDArray[np.float32]) -> None:
        if item.nbytes > CACHE_BYTES or key in self._items:
            return
        self._items[key] = item
        self._bytes += item.nbytes
        while self._bytes > CACHE_BYTES:
            self._bytes -= self._items.popitem(last=False)[1].nbytes


_cache = _Cache()


def forget_decoded() -> None:
    """Drop all that is remembered in this process."""
    global _cache  # noqa: PLW0603 - replaced whole: after a fork its lock may be held by a thread that is gone
    _cache = _Cache()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_decoded)


@dataclass(frozen=True, slots=True, eq=False)
class ItemDecoder:
    """Decodes items of one store; can be sent to other processes, where the autoencoder is found again by its name.

    Attributes
    ----------
    record : LatentStoreRecord
    latents : zarr.Array
    device : str
    place : str
        The store, for messages.
    """

    record: LatentStoreRecord
    latents: zarr.Array[Any]
    device: str
    place: str

    @property
    def token(self) -> tuple[Hashable, ...]:
        """The same for decoders of one store that give the same values."""
        r = self.record
        return (self.place, r.content, r.autoencoder, r.digest, r.latents, r.item, r.mean, r.std, self.device)

    def items(self, indices: Sequence[npt.NDArray[np.intp]]) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Decode the items at the product of indices along the leading dimensions.

        Parameters
        ----------
        indices : sequence of int arrays
            Ascending and each once, for each leading dimension.

        Yields
        ------
        int
            Number of the item, counted in the order of the indices.
        float32, (channels, rows, columns)
            Scaled as the decoder gives it; not to be written to.

        Raises
        ------
        ModelNotFoundError, ModelMismatchError, InvalidConfigError
            If the autoencoder is not there, or another, or gives something unfit.
        """
        record = self.record
        autoencoder = find_autoencoder(record.autoencoder, record.digest, self.place)
        counts = tuple(len(i) for i in indices)
        leading = tuple(record.sizes[d] for d in record.leading)
        numbers = np.ravel_multi_index(np.ix_(*indices), leading).ravel() if indices else np.zeros(1, np.intp)
        key = (self.token, autoencoder)
        stored: npt.NDArray[Any] | None = None
        for first in range(0, len(numbers), record.batch):
            part = range(first, min(first + record.batch, len(numbers)))
            with _cache.lock:
                found = {i: _cache.get((key, int(numbers[i]))) for i in part}
                wanted = [i for i, item in found.items() if item is None]
                if wanted:
                    if stored is None:  # the whole selection at once: it is small, and chunks hold several items
                        stored = self._read(indices).reshape(np.prod(counts, dtype=int), *record.latents.shape)
                    decoded = autoencoder.to_fields(record.latents.values(stored[wanted]), record.item, self.device)
                    for i, item in zip(wanted, decoded, strict=True):
                        # a view would keep the whole batch alive
                        found[i] = item if len(wanted) == 1 else item.copy()
                        _cache.put((key, int(numbers[i])), item if len(wanted) == 1 else found[i])  # type: ignore[arg-type]
            for i, values in found.items():
                assert values is not None
                yield i, values

    def _read(self, indices: Sequence[npt.NDArray[np.intp]]) -> npt.NDArray[Any]:
        rest = (slice(None),) * len(self.record.latents.shape)
        if not indices:
            return np.asarray(self.latents[...])
        return np.asarray(self.latents.oindex[(*indices, *rest)])
