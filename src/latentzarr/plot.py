"""One picture that shows what coding did to a field: original, reconstruction, error against the bound, and spectra."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bounds import BoundKind, ErrorBound
from latentzarr.errors import InvalidConfigError
from latentzarr.metrics import radial_spectrum

__all__ = ["FieldLabels", "draw_comparison"]

_MISSING = "0.75"


@dataclass(frozen=True, slots=True)
class FieldLabels:
    """What the axes and colours of a field mean.

    Attributes
    ----------
    name : str
        Of the variable, as the title shows it.
    units : str
        Empty if unknown.
    extent : tuple of float or None
        Coordinates of the outer edges: left, right, bottom, top. None: numbers of columns and rows.
    axes : tuple of str
        Labels of the horizontal and the vertical axis.
    note : str
        A line under the title: time and level shown, ratio.
    """

    name: str
    units: str = ""
    extent: tuple[float, float, float, float] | None = None
    axes: tuple[str, str] = ("column", "row")
    note: str = ""


def draw_comparison(
    original: npt.NDArray[Any], decoded: npt.NDArray[Any], bound: ErrorBound | None, labels: FieldLabels, path: str | Path
) -> Path:
    """Draw a field, what came back, the error in units of the bound, and the spectra of all three.

    Parameters
    ----------
    original, decoded : array of shape (rows, columns)
        What is not finite is drawn grey.
    bound : ErrorBound or None
        None or lossless: the error is drawn in units of the data.
    labels : FieldLabels
    path : str or Path
        A picture file; its ending decides the format.

    Raises
    ------
    InvalidConfigError
        If the fields are not two-dimensional, of equal shape, and at least 2 x 2.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, y = np.asarray(original, np.float64), np.asarray(decoded, np.float64)
    if x.ndim != 2 or x.shape != y.shape or min(x.shape) < 2:
        raise InvalidConfigError(f"a picture needs two fields of equal shape, at least 2 x 2; got {x.shape} and {y.shape}")
    x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
    scaled, scale = _in_bounds(x, y, bound)
    figure = Figure(figsize=(11, 7.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(labels.name + (f"\n{labels.note}" if labels.note else ""), fontsize=11)
    halves: Any = figure.subfigures(2, 1)
    upper, lower = halves
    above, below = upper.subplots(1, 2, sharey=True), lower.subplots(1, 2)
    low, high = _limits(x)
    _show(above[0], x, labels, "original", "viridis", low, high)
    image = _show(above[1], y, labels, "reconstruction", "viridis", low, high)
    above[1].set_ylabel("")
    upper.colorbar(image, ax=list(above), label=labels.units or "value", aspect=25, pad=0.01)
    largest = float(np.nanmax(np.abs(scaled), initial=0.0))
    top = 1.0 if scale else max(largest, 1e-300)
    error = _show(below[0], scaled, labels, "error: reconstruction - original", "RdBu_r", -top, top)
    unit = f"error / bound (largest {largest:.3f})" if scale else f"error [{labels.units or 'units of the data'}]"
    lower.colorbar(error, ax=below[0], label=unit, aspect=25, pad=0.01)
    _spectra(below[1], x, y, labels)
    target = Path(path)
    figure.savefig(target)
    return target


def _in_bounds(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], bound: ErrorBound | None
) -> tuple[npt.NDArray[np.float64], bool]:
    """The error in units of what is allowed, and whether there is such a unit."""
    error = y - x
    if bound is None or bound.kind in (BoundKind.LOSSLESS, BoundKind.NONE, BoundKind.RANGE_RELATIVE):
        return error, False
    if bound.kind is BoundKind.ABSOLUTE:
        return error / bound.value, True
    allowed = bound.value * np.abs(x)
    return np.where(allowed > 0, error / np.where(allowed > 0, allowed, 1.0), error), True


def _limits(x: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Colour limits: all but the most extreme half percent on either side."""
    finite = x[np.isfinite(x)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.quantile(finite, [0.005, 0.995]))
    return (low, high) if low < high else (float(finite.min()) - 0.5, float(finite.max()) + 0.5)


def _show(
    axis: Any, field: npt.NDArray[np.float64], labels: FieldLabels, title: str, colours: str, low: float, high: float
) -> Any:
    from matplotlib import colormaps

    colour_map = colormaps[colours].with_extremes(bad=_MISSING)
    rows, columns = field.shape
    aspect = "equal" if 0.25 <= columns / rows <= 4 else "auto"
    image = axis.imshow(
        field, cmap=colour_map, vmin=low, vmax=high, extent=labels.extent, aspect=aspect if labels.extent is None else "auto",
        interpolation="nearest",
    )  # fmt: skip
    axis.set(title=title, xlabel=labels.axes[0], ylabel=labels.axes[1])
    return image


def _spectra(axis: Any, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], labels: FieldLabels) -> None:
    finite = np.isfinite(x) & np.isfinite(y)
    frequency, before = radial_spectrum(x)
    _, after = radial_spectrum(y)
    _, wrong = radial_spectrum(np.where(finite, y - x, 0.0))
    wavelength = 1 / frequency
    axis.loglog(wavelength, before, color="black", linewidth=2.0, label="original")
    axis.loglog(wavelength, after, color="tab:blue", linewidth=1.2, label="reconstruction")
    if (wrong > 0).any():
        axis.loglog(wavelength, wrong, color="tab:red", linewidth=1.2, label="error")
        floor = float(wrong[wrong > 0].min())
        axis.set_ylim(
            bottom=max(min(floor, float(before[before > 0].min(initial=floor))) / 3, 1e-14 * float(before.max(initial=1e-300)))
        )
    axis.set_xlim(wavelength.max(), 2)
    axis.set(title="power spectrum, mean over directions", xlabel="wavelength [grid steps]")
    squared = f"{labels.units}²" if labels.units.isalpha() else f"({labels.units})²"
    axis.set_ylabel(f"power of a wave [{squared}]" if labels.units else "power of a wave")
    ticks = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    axis.set_xticks([t for t in ticks if t <= wavelength.max()], [str(t) for t in ticks if t <= wavelength.max()])
    axis.minorticks_off()
    axis.grid(visible=True, alpha=0.3)
    axis.legend(frameon=False)
