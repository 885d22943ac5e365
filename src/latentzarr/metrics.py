"""What a reconstruction did to the values: error, bias, noise ratio and small-scale power, gathered block by block.

Everything is a sum, a minimum or a maximum, so that statistics of blocks merge into those of the whole and a check never
needs the whole array in memory.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bounds import BoundKind, ErrorBound, violations
from latentzarr.errors import InvalidConfigError

__all__ = ["ErrorStatistics", "bits_per_value", "infill", "measure", "radial_spectrum", "small_scale_power"]

_BLOCK = 1 << 20  # values compared at a time: float64 temporaries stay at a few times 8 MiB
_SMALLEST_SIDE = 16  # a field needs this many rows and columns to have small scales
_SPECTRUM_FIELDS = 2  # fields of a block whose spectrum is taken
_LAST_OCTAVE = 0.25  # cycles per grid step from which on scales are "small"


@dataclass(frozen=True, slots=True)
class ErrorStatistics:
    """Differences between original and decoded values; ``a.merged(b)`` is that of both together.

    Attributes
    ----------
    count : int
        Values compared, finite or not.
    finite : int
        Values that are finite on both sides; all sums run over these.
    violations : int
        Values that break the bound (`latentzarr.bounds.violations`), wrong NaN and infinities included.
    max_abs : float
        Largest ``|x - x_hat|``, in units of the data.
    max_fraction : float
        Largest error as a part of what the bound allows there; 0 where nothing is promised or nothing may differ.
    total, squares : float
        Sums of ``x_hat - x`` and of its square.
    minimum, maximum : float
        Of the original; inf and -inf if nothing is finite.
    power_original, power_decoded : float
        Power at the small scales, summed over the fields that were sampled.
    """

    count: int = 0
    finite: int = 0
    violations: int = 0
    max_abs: float = 0.0
    max_fraction: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    power_original: float = 0.0
    power_decoded: float = 0.0

    def merged(self, other: ErrorStatistics) -> ErrorStatistics:
        """The statistics of both sets of values together."""
        return ErrorStatistics(
            self.count + other.count,
            self.finite + other.finite,
            self.violations + other.violations,
            max(self.max_abs, other.max_abs),
            max(self.max_fraction, other.max_fraction),
            self.total + other.total,
            self.squares + other.squares,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.power_original + other.power_original,
            self.power_decoded + other.power_decoded,
        )

    @property
    def rmse(self) -> float:
        """Root mean square error, in units of the data; NaN if nothing is finite."""
        return math.sqrt(self.squares / self.finite) if self.finite else math.nan

    @property
    def bias(self) -> float:
        """Mean of decoded minus original, in units of the data; NaN if nothing is finite."""
        return self.total / self.finite if self.finite else math.nan

    @property
    def range(self) -> float:
        """Maximum minus minimum of the original, in units of the data; 0 if nothing is finite."""
        return self.maximum - self.minimum if self.finite else 0.0

    @property
    def psnr(self) -> float:
        """Peak signal to noise ratio against the range, in dB; inf if nothing differs, NaN if nothing is finite."""
        if not self.finite:
            return math.nan
        if self.squares == 0.0:
            return math.inf
        return 20 * math.log10(self.range / self.rmse) if self.range > 0 else -math.inf

    @property
    def spectrum_ratio(self) -> float:
        """Decoded over original power at wavelengths below four grid steps; NaN where there are none."""
        return self.power_decoded / self.power_original if self.power_original > 0 else math.nan

    def to_json(self) -> dict[str, Any]:
        """As plain numbers."""
        return asdict(self)


def bits_per_value(stored_bytes: int, values: int) -> float:
    """Bits spent on a value; NaN for an empty array."""
    return 8 * stored_bytes / values if values else math.nan


def measure(original: npt.NDArray[Any], decoded: npt.NDArray[Any], bound: ErrorBound) -> ErrorStatistics:
    """Compare every value of a block.

    Parameters
    ----------
    original, decoded : array of equal shape and dtype
        Numbers or booleans; the last two dimensions are taken as the field for the spectrum.
    bound : ErrorBound
        Not range-relative.

    Raises
    ------
    InvalidBoundError
        If the arrays cannot be compared, or the bound is not resolved.
    """
    result = ErrorStatistics()
    x, y = np.asarray(original), np.asarray(decoded)
    flat_x, flat_y = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(y).reshape(-1)
    if x.shape != y.shape:
        violations(x, y, bound)  # says what is wrong
    for start in range(0, flat_x.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        result = result.merged(_measure_flat(flat_x[part], flat_y[part], bound))
    before, after = _sampled_power(x), _sampled_power(y)
    return result.merged(ErrorStatistics(power_original=before, power_decoded=after))


def _measure_flat(x: npt.NDArray[Any], y: npt.NDArray[Any], bound: ErrorBound) -> ErrorStatistics:
    broken = int(np.count_nonzero(violations(x, y, bound)))
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(x64) & np.isfinite(y64)
    if not finite.all():
        x64, y64 = x64[finite], y64[finite]
    if x64.size == 0:
        return ErrorStatistics(count=x.size, violations=broken)
    with np.errstate(over="ignore"):
        error = y64 - x64
        size = np.abs(error)
        largest = float(size.max())
        squares = float(np.dot(error, error))
    fraction = 0.0
    if bound.kind is BoundKind.ABSOLUTE:
        fraction = largest / bound.value
    elif bound.kind is BoundKind.RELATIVE:
        allowed = bound.value * np.abs(x64)
        possible = allowed > 0
        fraction = float((size[possible] / allowed[possible]).max()) if possible.any() else 0.0
    return ErrorStatistics(
        x.size, x64.size, broken, largest, fraction, float(error.sum()), squares, float(x64.min()), float(x64.max())
    )


def _sampled_power(block: npt.NDArray[Any]) -> float:
    """Power at the small scales of a few fields of a block, the same for every block of that shape."""
    if block.ndim < 2 or min(block.shape[-2:]) < _SMALLEST_SIDE or block.size == 0:
        return 0.0
    fields = block.reshape(-1, *block.shape[-2:])
    chosen = np.unique(np.linspace(0, len(fields) - 1, _SPECTRUM_FIELDS).astype(int))
    return sum(small_scale_power(fields[i]) for i in chosen)


def infill(field: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """A field with what is not finite replaced, along rows by linear interpolation, empty rows by the mean.

    Parameters
    ----------
    field : array of shape (rows, columns)

    Returns
    -------
    float64 array of the same shape
        Zeros if nothing is finite.
    """
    filled = np.array(field, dtype=np.float64)
    bad = ~np.isfinite(filled)
    if not bad.any():
        return filled
    if bad.all():
        return np.zeros_like(filled)
    mean = float(filled[~bad].mean())
    columns = np.arange(filled.shape[1])
    for row in np.flatnonzero(bad.any(axis=1)):
        good = ~bad[row]
        filled[row] = np.interp(columns, columns[good], filled[row, good]) if good.any() else mean
    return filled


def _windowed_power(field: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Frequency (cycles per grid step) and power of every wave of a field, tapered so that edges do not count as detail."""
    if field.ndim != 2 or min(field.shape) < 2:
        raise InvalidConfigError(f"a spectrum needs a field of at least 2 x 2 values, got shape {field.shape}")
    rows, columns = field.shape
    filled = infill(field)
    taper = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1])
    waves = np.fft.rfft2((filled - filled.mean()) * taper)
    power = np.abs(waves) ** 2 / (np.sum(taper**2) * rows * columns)
    power[:, 1 : (columns + 1) // 2] *= 2  # waves that rfft leaves out
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])
    return frequency, power


def small_scale_power(field: npt.NDArray[Any]) -> float:
    """Power at wavelengths of two to four grid steps (the last octave) of a field, in squared units of the data."""
    frequency, power = _windowed_power(np.asarray(field))
    return float(power[(frequency >= _LAST_OCTAVE) & (frequency <= 0.5)].sum())


def radial_spectrum(field: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean power of the waves of a field by wavenumber, averaged over directions.

    Parameters
    ----------
    field : array of shape (rows, columns)
        What is not finite is filled (`infill`).

    Returns
    -------
    frequency : float64 array of shape (n,)
        Middle of each ring, in cycles per grid step, up to 0.5.
    power : float64 array of shape (n,)
        In squared units of the data.

    Raises
    ------
    InvalidConfigError
        If the field has fewer than 2 x 2 values.
    """
    frequency, power = _windowed_power(np.asarray(field))
    rings = max(min(field.shape) // 2, 1)
    ring = np.minimum((frequency * 2 * rings).astype(int), 2 * rings)
    sums = np.bincount(ring.reshape(-1), power.reshape(-1), 2 * rings + 1)
    counts = np.bincount(ring.reshape(-1), minlength=2 * rings + 1)
    middle = (np.arange(rings) + 0.5) / (2 * rings)
    return middle, sums[:rings] / np.maximum(counts[:rings], 1)
