"""The joint base of a cube: integer latents to fields of all channels, a linear map in whole numbers from end to end.

A field of a channel is cut into lapped patches, patches are turned by a spatial basis that all channels share, and what is left
of all channels at one place is a vector that the joint basis spans. Its coordinates in time are written as a *common* latent of
the whole block (the slow modes of each component) and a *specific* latent for each time and group of channels. Decoding one
channel at one time reads the common latents and one slice of the specific ones, and multiplies only its own rows of the basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentzarr.cube.analysis import analyse
from latentzarr.cube.arrays import BasisArrays, BlockLatents
from latentzarr.cube.channels import ChannelTable
from latentzarr.cube.lapped import patch_grid
from latentzarr.cube.latent_synthesis import synthesise
from latentzarr.errors import UntrustedModelError

__all__ = ["BlockLatents", "JointBasis"]

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class JointBasis:
    """A base: the bytes that are its identity and what they hold. Equal when the digests are equal.

    Attributes
    ----------
    digest : str
        ``"sha256:"`` and 64 hexadecimal digits of ``blob``.
    blob : bytes
        The safetensors file.
    channels : ChannelTable
    arrays : BasisArrays
    quality : float
        Normalised mean square error aimed at in the fit.
    periodic : bool
        Whether the last column is a neighbour of the first.
    exact : bool
        Whether all rows are from a fit; false where some were made from metadata alone.

    Raises
    ------
    UntrustedModelError
        If there are more or fewer channels than the arrays are for.
    """

    digest: str
    blob: bytes
    channels: ChannelTable
    arrays: BasisArrays
    quality: float
    periodic: bool
    exact: bool

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.arrays.kept):
            raise UntrustedModelError(f"a base of {len(self.arrays.kept)} channels lists {len(self.channels)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JointBasis) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"JointBasis({len(self.channels)} channels, block of {self.block}, {self.digest[:19]}.., {len(self.blob)} bytes)"

    @property
    def patch(self) -> int:
        """Side of a patch: values in a row or column for each latent."""
        return len(self.arrays.turn)

    @property
    def block(self) -> int:
        """Time steps of a block."""
        return len(self.arrays.time_modes)

    @property
    def step(self) -> float:
        """The quantum of the latents, in scales."""
        return self.arrays.step_size

    @property
    def common_count(self) -> int:
        """Kc: common latents at one place."""
        return len(self.arrays.common_index)

    @property
    def specific_count(self) -> int:
        """Ks: specific latents at one place and time, over all groups."""
        return self.specific_slice(self.groups - 1).stop

    @property
    def groups(self) -> int:
        """Number of groups of channels."""
        return self.arrays.groups

    def group_of(self, channel: int) -> int:
        """The group whose specific latents a channel needs."""
        return int(self.arrays.group[channel])

    def specific_slice(self, group: int) -> slice:
        """Where a group's latents lie among the specific ones."""
        return self.arrays.specific_slice(group)

    def latent_grid(self, rows: int, columns: int) -> tuple[int, int]:
        """Latents down and across for a field."""
        return patch_grid(rows, columns, self.patch)

    def encode(
        self, fields: npt.NDArray[np.float64], present: tuple[int, ...], area: npt.NDArray[np.float64] | None = None
    ) -> BlockLatents:
        """The latents of a block.

        Parameters
        ----------
        fields : float64 array, shape (times, channels, rows, columns)
            In the channels' units; 1 to ``block`` times. Channels that are not present may hold anything.
        present : tuple of int
        area : float64 array, shape (rows,), optional
            Proportional to what a squared error in a row counts; all alike where not given.

        Raises
        ------
        InvalidConfigError
            If shapes or channels are not of this base, none is present, or a value of one that is present is not finite.
        """
        return analyse(self.arrays, fields, present, area, exact=self.exact, periodic=self.periodic)

    def decode(self, common: Int32, specific_t: Int32, channels: Sequence[int], rows: int, columns: int, time: int = 0) -> Int32:
        """Fields of some channels at one time of a block, the same bits on every machine.

        Parameters
        ----------
        common : int32 array, shape (Kc, y, x)
        specific_t : int32 array, shape (Ks, y, x)
            Of this time; only the slices of the channels' groups are read.
        channels : sequence of int
        rows, columns : int
            Of the fields; y and x are those of `latent_grid`.
        time : int
            Which time of the block.

        Returns
        -------
        int32 array, shape (len(channels), rows, columns)
            ``b``; a value is ``mean + scale * b / 1024``.

        Raises
        ------
        InvalidConfigError
            If a shape, channel or time is not of this base.
        """
        return synthesise(self.arrays, common, specific_t, channels, rows, columns, time, periodic=self.periodic)

    def values(self, decoded: Int32, channels: Sequence[int]) -> npt.NDArray[np.float64]:
        """What `decode` returned, in the units of the channels."""
        index = list(channels)
        scale = self.arrays.scale[index][:, None, None]
        return self.arrays.mean[index][:, None, None] + scale * decoded / 1024.0
