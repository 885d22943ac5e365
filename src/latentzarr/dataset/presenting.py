"""What a group of a store is (a cube, latents of a person's own autoencoder, or ordinary arrays), and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import xarray as xr
import zarr

from latentzarr.codec.preview import LEVELS
from latentzarr.codec.runtime import using
from latentzarr.cube.autoencoder import check_device
from latentzarr.dataset.arrays import LatentStore, ReadOptions
from latentzarr.dataset.cube_engine import with_cube_variables
from latentzarr.dataset.cube_header import holds_cube
from latentzarr.dataset.own_autoencoder import holds_latents, presented
from latentzarr.errors import InvalidConfigError

__all__ = ["Asked", "present"]


@dataclass(frozen=True, slots=True)
class Asked:
    """How a user wants a store to be opened; see `latentzarr.dataset.engine.LatentzarrBackend.open_dataset`."""

    device: str | None = None
    threads: int | None = None
    scale: int = 1
    decode: bool = True
    cache_bytes: int | None = None

    def options(self, *, own: bool = False) -> ReadOptions:
        """As arrays take them.

        Parameters
        ----------
        own : bool
            The store holds latents of a person's own autoencoder; the device is for that alone.

        Raises
        ------
        InvalidConfigError
            For what cannot be meant.
        """
        if isinstance(self.scale, bool) or self.scale not in [1 << level for level in range(LEVELS + 1)]:
            raise InvalidConfigError(f"scale must be 1, 2, 4 or 8, got {self.scale!r}")
        if own and self.device is not None:
            check_device(self.device)
        device = None if own else self.device
        with using(device, self.threads):  # refuses what cannot be meant here, not in the first task
            return ReadOptions(device, self.threads, int(self.scale).bit_length() - 1)


def present(
    ds: xr.Dataset,
    store: LatentStore,
    asked: Asked,
    place: str,
    drop_variables: str | Iterable[str] | None,
    *,
    lenient: bool = False,
) -> xr.Dataset:
    """A group as its user wants to see it.

    Parameters
    ----------
    ds : xarray.Dataset
        As the stock engine shows it, lazy.
    store : LatentStore
    asked : Asked
    place : str
        For messages.
    drop_variables : str or iterable of str, optional
    lenient : bool
        Among several groups: one without latents is shown as it is, whatever was asked for.

    Raises
    ------
    InvalidConfigError
        If latents are asked for where there are none, or a preview of latents.
    """
    group = getattr(store, "zarr_group", None)
    if not isinstance(group, zarr.Group):
        return ds
    attributes: dict[str, Any] = group.attrs.asdict()
    own = holds_latents(attributes, group)
    cube = holds_cube(attributes, group)  # type: ignore[arg-type]
    if (own or cube) and asked.scale != 1:
        raise InvalidConfigError(f"scale={asked.scale!r}: there are no previews of a store of latents, leave scale out")
    if own:
        return presented(ds, store, decode=asked.decode, device=asked.device, place=place, drop_variables=drop_variables)
    if not cube:
        if not asked.decode and not lenient:
            raise InvalidConfigError("decode=False shows the latents of a store of latents; this one has none, leave it out")
        return ds
    if not asked.decode:
        return ds
    shown = with_cube_variables(ds, group, asked.options(), asked.cache_bytes)
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    return shown.drop_vars(dropped, errors="ignore")
