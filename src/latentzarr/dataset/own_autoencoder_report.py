"""What encoding with a person's own autoencoder did to each channel: measured where it was written, promised nowhere."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.dataset.own_autoencoder_table import ChannelError, CodedVariable, strict
from latentzarr.dataset.tables import Table, byte_text, number_text, time_text
from latentzarr.errors import InvalidConfigError, VariableNotFoundError
from latentzarr.metrics import bits_per_value

__all__ = ["ChannelSums", "LatentReport"]


@dataclass(frozen=True, slots=True)
class LatentReport:
    """A store of latents, as written.

    Attributes
    ----------
    place : str
        The store.
    autoencoder : str
    channels : tuple of ChannelError
    values : int
        Of all encoded variables.
    nbytes, stored : int
        Bytes of the encoded variables, and of their latents and masks in the store.
    seconds : float
    """

    place: str
    autoencoder: str
    channels: tuple[ChannelError, ...]
    values: int
    nbytes: int
    stored: int
    seconds: float

    def __getitem__(self, variable: str) -> tuple[ChannelError, ...]:
        """The channels of a variable."""
        found = tuple(c for c in self.channels if c.variable == variable)
        if not found:
            there = list(dict.fromkeys(c.variable for c in self.channels))
            raise VariableNotFoundError(f"no variable {variable!r} in the report; there are {', '.join(there)}")
        return found

    @property
    def ratio(self) -> float:
        """Bytes of the variables over bytes stored."""
        return self.nbytes / self.stored if self.stored else math.nan

    @property
    def bits_per_value(self) -> float:
        """Bits stored for a value."""
        return bits_per_value(self.stored, self.values)

    @property
    def normalized_mse(self) -> float:
        """Mean over the channels of the mean square error over the channel's variance; channels that do not vary left out."""
        each = [c.normalized_mse for c in self.channels if math.isfinite(c.normalized_mse)]
        return float(np.mean(each)) if each else math.nan

    def table(self) -> Table:
        """For people."""
        columns = ("channel", "from", "to", "RMSE", "largest error", "bias", "normalised MSE")
        rows = tuple((c.label, *_texts(c.minimum, c.maximum, c.rmse, c.max_abs, c.bias, c.normalized_mse)) for c in self.channels)
        return Table(self.place, columns, rows)

    def __str__(self) -> str:
        return (
            f"{self.table().to_text()}\n{byte_text(self.nbytes)} in {byte_text(self.stored)} of latents, "
            f"{number_text(self.ratio, 4)} times smaller, {number_text(self.bits_per_value)} bits a value, "
            f"normalised MSE {number_text(self.normalized_mse)}, {time_text(self.seconds)}. "
            f"Errors as measured here with autoencoder {self.autoencoder!r}; nothing is guaranteed."
        )

    def _repr_html_(self) -> str:
        return self.table().to_html()

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(strict(asdict(self)), allow_nan=False)


def _texts(*numbers: float) -> tuple[str, ...]:
    return tuple(number_text(n) for n in numbers)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelSums:
    """Sums over the values of a variable's channels; ``a.merged(b)`` are those of both together.

    Attributes
    ----------
    shift : float64, (channels,)
        Taken from values before they are squared; the first finite one.
    sums : float64, (6, channels)
        Count, sum and sum of squares of ``x - shift``, sum and sum of squares of ``decoded - x``, largest ``|decoded - x|``.
    extent : float64, (2, channels)
        Minimum and maximum.
    """

    shift: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    extent: npt.NDArray[np.float64]

    @classmethod
    def of(cls, original: npt.NDArray[Any], decoded: npt.NDArray[Any], before: ChannelSums | None) -> ChannelSums:
        """Compare a batch, both of shape (batch, channels, rows, columns), and add it to what was compared before.

        Raises
        ------
        InvalidConfigError
            If a decoded value is not finite where the original is.
        """
        channels = original.shape[1]
        shift = np.full(channels, np.nan) if before is None else before.shift.copy()
        sums, extent = np.zeros((6, channels)), np.tile([[np.inf], [-np.inf]], channels)
        for c in range(channels):
            x, y = (a[:, c].astype(np.float64).ravel() for a in (original, decoded))
            finite = np.isfinite(x)
            x, y = x[finite], y[finite]
            if not x.size:
                continue
            if not np.isfinite(y).all():
                raise InvalidConfigError("the decoder gave values that are not finite")
            shift[c] = x[0] if np.isnan(shift[c]) else shift[c]
            e, d = y - x, x - shift[c]
            sums[:, c] = x.size, d.sum(), d @ d, e.sum(), e @ e, np.abs(e).max()
            extent[:, c] = x.min(), x.max()
        if before is not None:
            sums = np.vstack([sums[:5] + before.sums[:5], np.maximum(sums[5:], before.sums[5:])])
            extent = np.stack([np.minimum(extent[0], before.extent[0]), np.maximum(extent[1], before.extent[1])])
        return cls(shift, sums, extent)

    def errors(self, variable: CodedVariable) -> tuple[ChannelError, ...]:
        """For each channel; NaN where there is nothing to compare, or nothing varies."""
        found = []
        for c, label in enumerate(variable.labels):
            count, total, squares, bias, error, largest = map(float, self.sums[:, c])
            empty = ChannelError(variable.name, label, 0, *(math.nan,) * 6)
            if count:
                variance = max(squares / count - (total / count) ** 2, 0.0)
                # rounding leaves a little variance in a channel that is constant
                varies = self.extent[0, c] < self.extent[1, c] and variance > 0
                normalized = error / count / variance if varies else math.nan
                empty = replace(
                    empty, values=int(count), rmse=math.sqrt(error / count), max_abs=largest, bias=bias / count,
                    normalized_mse=normalized, minimum=float(self.extent[0, c]), maximum=float(self.extent[1, c]),
                )  # fmt: skip
            found.append(empty)
        return tuple(found)
