"""What a cube's values are worth, level by level: errors weighted by area, spectra, extremes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from latentzarr.area import AreaError, area_error, latitude_weights, zonal_spectrum_ratio
from latentzarr.dataset.cube_survey import Dimensions, channel_fields, dimensions_of
from latentzarr.dataset.tables import Table, number_text
from latentzarr.errors import VariableNotFoundError
from latentzarr.extremes import Contingency, contingency, relative_quantile_error

__all__ = ["LevelQuality", "Quality", "quality"]

_EXTREME = 0.999
_SMALL = 4  # scales shorter than a 4th of what the grid can hold are called small


@dataclass(frozen=True, slots=True)
class LevelQuality:
    """One variable at one level.

    Attributes
    ----------
    variable, level : str
    error : AreaError
        Weighted by the area of the rows.
    quantile_error : float
        Relative error of the 99.9 % quantile.
    small_scales : float
        Decoded over original power of zonal wavenumbers in the upper quarter, their mean; huge where the original has next to
        none (fields of spectral models).
    threshold : float
        What counts as an event; NaN: none was asked for.
    events : Contingency
    """

    variable: str
    level: str
    error: AreaError
    quantile_error: float
    small_scales: float
    threshold: float
    events: Contingency


@dataclass(frozen=True, slots=True)
class Quality:
    """All variables and levels."""

    levels: tuple[LevelQuality, ...]

    def table(self) -> Table:
        """For people."""
        columns = (
            "variable", "level", "RMSE", "largest", "bias", "normalised MSE", "99.9 % quantile", "small scales", "above", "SEDI",
            "CSI",
        )  # fmt: skip
        return Table("Quality, weighted by area", columns, tuple(_row(v) for v in self.levels))

    def __str__(self) -> str:
        return self.table().to_text()


def quality(
    original: xr.Dataset,
    decoded: xr.Dataset,
    thresholds: Mapping[str, float] | None = None,
    *,
    time_dim: str | None = None,
    times_together: int = 8,
) -> Quality:
    """Compare decoded data with the original, level by level.

    Parameters
    ----------
    original, decoded : xarray.Dataset
        Read a few times at a time; every data variable that both have, of floats.
    thresholds : mapping of str to float, optional
        By variable, above what an event begins: rain of so much, wind of so much.
    time_dim : str, optional
    times_together : int

    Returns
    -------
    Quality

    Raises
    ------
    InvalidConfigError
        If the variables do not lie on one grid.
    VariableNotFoundError
        For thresholds of variables that are not there.
    """
    names = [
        str(n) for n in original.data_vars if n in decoded.data_vars and original[n].dtype.kind == "f" and original[n].ndim > 1
    ]
    unknown = set(thresholds or {}) - set(names)
    if unknown or not names:
        raise VariableNotFoundError(f"no variable {min(unknown)!r} to compare" if unknown else "there is nothing to compare")
    dims = dimensions_of(original, names, time_dim)
    rows = original[dims.rows].values if dims.rows in original.coords else np.zeros(original.sizes[dims.rows])
    latitude = np.asarray(rows, np.float64) if np.abs(np.asarray(rows, np.float64)).max() <= 90 else np.zeros(len(rows))
    times = original.sizes[dims.time] if dims.time else 1
    parts = [slice(t, min(t + times_together, times)) for t in range(0, times, times_together)]
    found: list[LevelQuality] = []
    for name in names:
        threshold = (thresholds or {}).get(name, np.nan)
        pairs = (
            (channel_fields(original.variables[name], dims, p), channel_fields(decoded.variables[name], dims, p)) for p in parts
        )
        found += _of_variable(original, name, dims, list(pairs), latitude, threshold)
    return Quality(tuple(found))


def _of_variable(
    ds: xr.Dataset, name: str, dims: Dimensions, pairs: list[tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]],
    latitude: npt.NDArray[np.float64], threshold: float,
) -> list[LevelQuality]:  # fmt: skip
    labels = _labels(ds, name, dims, pairs[0][0].shape[1])
    weights = latitude_weights(latitude)
    found = []
    for c, label in enumerate(labels):
        error, events = AreaError(), Contingency()
        for x, y in pairs:
            error = error.merged(area_error(x[:, c], y[:, c], latitude))
            if not np.isnan(threshold):
                events = events.merged(contingency(x[:, c], y[:, c], threshold, weights))
        x, y = (np.concatenate([p[i][:, c] for p in pairs]) for i in range(2))
        ratio = zonal_spectrum_ratio(x, y, latitude)
        upper = ratio[-max(1, len(ratio) // _SMALL) :]
        small = float(np.nanmean(upper)) if np.isfinite(upper).any() else np.nan
        extreme = relative_quantile_error(x, y, _EXTREME, weights)
        found.append(LevelQuality(name, label, error, float(extreme), small, threshold, events))
    return found


def _labels(ds: xr.Dataset, name: str, dims: Dimensions, channels: int) -> list[str]:
    """Levels as their coordinate has them, or numbered."""
    rest = [d for d in ds[name].dims if d not in (dims.time, dims.rows, dims.columns)]
    if not rest:
        return [""]
    if len(rest) == 1 and rest[0] in ds.coords:
        values = ds[rest[0]].values
        return [f"{v:g}" if values.dtype.kind == "f" else str(v) for v in values]
    return [str(i) for i in range(channels)]


def _row(v: LevelQuality) -> tuple[str, ...]:
    events = ("", "", "")
    if not np.isnan(v.threshold):
        events = (number_text(v.threshold), number_text(v.events.sedi), number_text(v.events.csi))
    return (
        v.variable,
        v.level,
        number_text(v.error.rmse),
        number_text(v.error.largest),
        number_text(v.error.bias, 2),
        number_text(v.error.normalised_mse),
        f"{100 * v.quantile_error:+.2f} %" if np.isfinite(v.quantile_error) else "",
        number_text(v.small_scales),
        *events,
    )
