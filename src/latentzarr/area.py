"""Errors and spectra on the sphere: cells count by their area, and scales are measured along circles of latitude.

A plain mean over a latitude-longitude grid gives the poles as much weight as the tropics, although their cells are slivers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError

__all__ = ["AreaError", "area_error", "latitude_weights", "zonal_power", "zonal_spectrum_ratio"]


def latitude_weights(latitude: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Weights of rows by the cosine of their latitude, 1 on average.

    Parameters
    ----------
    latitude : array of shape (rows,)
        In degrees, from -90 to 90.

    Returns
    -------
    float64 array of shape (rows, 1)
        So that they broadcast to fields of shape (..., rows, columns).

    Raises
    ------
    InvalidConfigError
        If it is no list of latitudes.
    """
    degrees = np.asarray(latitude, np.float64)
    if degrees.ndim != 1 or degrees.size == 0 or not (np.abs(degrees) <= 90).all():
        raise InvalidConfigError("latitudes are a list of degrees from -90 to 90")
    cosine = np.maximum(np.cos(np.radians(degrees)), 0.0)
    mean = float(cosine.mean())
    weights = cosine / mean if mean > 1e-12 else np.ones_like(cosine)  # a grid of nothing but poles
    return weights[:, None]


@dataclass(frozen=True, slots=True)
class AreaError:
    """Weighted sums of the differences; ``a.merged(b)`` is that of both together.

    Attributes
    ----------
    weight : float
        Of all values that are finite on both sides.
    total, squares : float
        Weighted sums of ``x_hat - x`` and of its square.
    power, sum : float
        Weighted sums of ``x**2`` and ``x``, about ``centre``.
    centre : float
        What the original is measured from; the same in everything that is merged.
    largest : float
        Largest ``|x_hat - x|``, whatever its weight.
    """

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    sum: float = 0.0
    power: float = 0.0
    centre: float = 0.0
    largest: float = 0.0

    def merged(self, other: AreaError) -> AreaError:
        """The sums of both sets of values together."""
        if self.weight == 0.0 or other.weight == 0.0:
            return other if self.weight == 0.0 else self
        if self.centre != other.centre:
            raise InvalidConfigError("errors that were measured about different centres do not merge")
        return AreaError(
            self.weight + other.weight,
            self.total + other.total,
            self.squares + other.squares,
            self.sum + other.sum,
            self.power + other.power,
            self.centre,
            max(self.largest, other.largest),
        )

    @property
    def rmse(self) -> float:
        """Weighted root mean square error, in units of the data; NaN for nothing."""
        return math.sqrt(self.squares / self.weight) if self.weight > 0 else math.nan

    @property
    def bias(self) -> float:
        """Weighted mean of decoded minus original, in units of the data; NaN for nothing."""
        return self.total / self.weight if self.weight > 0 else math.nan

    @property
    def variance(self) -> float:
        """Weighted variance of the original, in squared units of the data; NaN for nothing."""
        return max(self.power / self.weight - (self.sum / self.weight) ** 2, 0.0) if self.weight > 0 else math.nan

    @property
    def normalised_mse(self) -> float:
        """Mean square error over the variance of the original; NaN if that is 0."""
        return self.squares / self.weight / self.variance if self.weight > 0 and self.variance > 0 else math.nan


def area_error(
    original: npt.NDArray[Any], decoded: npt.NDArray[Any], latitude: npt.NDArray[Any], centre: float = 0.0
) -> AreaError:
    """Errors of fields by area.

    Parameters
    ----------
    original, decoded : array of shape (..., rows, columns)
        Values that are not finite on either side are left out.
    latitude : array of shape (rows,)
        In degrees.
    centre : float
        Near the mean of the data if its variance is wanted and small beside its mean.

    Raises
    ------
    InvalidConfigError
        If shapes do not fit.
    """
    x, y = np.asarray(original, np.float64), np.asarray(decoded, np.float64)
    if x.shape != y.shape or x.ndim < 2 or x.shape[-2] != np.size(latitude):
        raise InvalidConfigError(f"fields of shapes {x.shape} and {y.shape} on {np.size(latitude)} latitudes do not fit")
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return AreaError(centre=centre)
    w = np.broadcast_to(latitude_weights(latitude), x.shape)[finite]
    about, error = x[finite] - centre, y[finite] - x[finite]
    return AreaError(
        weight=float(w.sum()),
        total=float(w @ error),
        squares=float(w @ error**2),
        sum=float(w @ about),
        power=float(w @ about**2),
        centre=centre,
        largest=float(np.abs(error).max()),
    )


def zonal_power(fields: npt.NDArray[Any], latitude: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Power along circles of latitude by wavenumber, averaged over fields and, by area, over latitudes.

    Parameters
    ----------
    fields : array of shape (..., rows, columns)
        Columns go once around the globe. Circles on which anything is not finite are left out.
    latitude : array of shape (rows,)
        In degrees.

    Returns
    -------
    float64 array of shape (columns // 2 + 1,)
        Squared units of the data, for wavenumbers from 0; they add up to the mean square. NaN if no circle is whole.
    """
    x = np.asarray(fields, np.float64)
    if x.ndim < 2 or x.shape[-2] != np.size(latitude) or x.shape[-1] == 0:
        raise InvalidConfigError(f"fields of shape {x.shape} on {np.size(latitude)} latitudes do not fit")
    columns = x.shape[-1]
    w = np.broadcast_to(latitude_weights(latitude)[:, 0], x.shape[:-1])
    whole = np.isfinite(x).all(axis=-1)
    weight = float(w[whole].sum())
    if weight == 0:
        return np.full(columns // 2 + 1, math.nan)
    power = np.abs(np.fft.rfft(x[whole], axis=-1) / columns) ** 2
    power[:, 1 : (columns + 1) // 2] *= 2  # waves that rfft leaves out
    return np.asarray(w[whole] @ power / weight)


def zonal_spectrum_ratio(
    original: npt.NDArray[Any], decoded: npt.NDArray[Any], latitude: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Decoded over original power of each zonal wavenumber: 1 is right, below it smoothed, above it noisy.

    Returns
    -------
    float64 array of shape (columns // 2 + 1,)
        NaN where the original has no power. Circles that are not whole in either are left out of both.
    """
    x, y = np.asarray(original, np.float64), np.asarray(decoded, np.float64)
    if x.shape != y.shape:
        raise InvalidConfigError(f"fields of shapes {x.shape} and {y.shape} cannot be compared")
    holes = ~(np.isfinite(x) & np.isfinite(y))
    before = zonal_power(np.where(holes, math.nan, x), latitude)
    after = zonal_power(np.where(holes, math.nan, y), latitude)
    return np.divide(after, before, out=np.full_like(before, math.nan), where=before > 0)
