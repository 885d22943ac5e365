"""What the channels of a cube are, as values: a network's first and last layers are made from this, never from a fixed list.

A channel is one variable at one level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.errors import InvalidConfigError, UntrustedModelError

__all__ = ["Channel", "ChannelTable", "LevelKind", "VariableDescription", "odd_channels"]

MAX_CHANNELS = 4096
_MAX_TEXT = 256
_MAX_JSON = 2**21
_FLOATS = ("level", "mean", "std")


class LevelKind(StrEnum):
    """On which axis a level value lies, and in which unit it is kept."""

    NONE = "none"
    PRESSURE = "pressure"  # hPa
    SIGMA = "sigma"  # share of the surface pressure
    HEIGHT = "height"  # m above ground or sea
    DEPTH = "depth"  # m below the surface
    MODEL = "model"  # number from the top
    BAND = "band"  # of an instrument


@dataclass(frozen=True, slots=True)
class Channel:
    """One variable at one level.

    Attributes
    ----------
    variable : str
        Name in the data set.
    kind : LevelKind
    level : float
        Value on the axis of ``kind``; 0 where there is none.
    mean, std : float
        Over the data, in the variable's units; ``std`` is positive.
    standard_name, units : str
        As in CF; may be empty.

    Raises
    ------
    InvalidConfigError
        For an empty name, texts of more than 256 characters, or numbers that are not finite.
    """

    variable: str
    kind: LevelKind = LevelKind.NONE
    level: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    standard_name: str = ""
    units: str = ""

    def __post_init__(self) -> None:
        texts = (self.variable, self.standard_name, self.units)
        if not self.variable or any(len(t) > _MAX_TEXT for t in texts):
            raise InvalidConfigError(f"a channel has a name, and texts of at most {_MAX_TEXT} characters, got {texts!r:.300}")
        numbers = (self.level, self.mean, self.std)
        if not all(map(math.isfinite, numbers)) or self.std <= 0:
            raise InvalidConfigError(f"level, mean and std of {self.name} are finite and std is positive, got {numbers}")

    @property
    def name(self) -> str:
        """For people: ``"t"`` or ``"t 500 pressure"``."""
        return self.variable if self.kind is LevelKind.NONE else f"{self.variable} {self.level:g} {self.kind}"


@dataclass(frozen=True, slots=True)
class VariableDescription:
    """A variable as a data set describes it, free of xarray.

    Attributes
    ----------
    name : str
    attributes : mapping
        Of the variable; ``standard_name`` and ``units`` are read.
    means, deviations : sequence of float
        One for each level, or one.
    levels : sequence of float
        Empty for a variable with a single level.
    level_attributes : mapping
        Of the level coordinate; ``standard_name``, ``units``, ``positive`` are read.
    level_name : str
        Of the level coordinate.
    """

    name: str
    attributes: Mapping[str, Any]
    means: Sequence[float]
    deviations: Sequence[float]
    levels: Sequence[float] = ()
    level_attributes: Mapping[str, Any] = ()  # type: ignore[assignment]
    level_name: str = ""

    def channels(self) -> list[Channel]:
        """The channels of the variable, in the order of its levels."""
        standard, units = (str(self.attributes.get(key, ""))[:_MAX_TEXT] for key in ("standard_name", "units"))
        if len(self.means) != max(len(self.levels), 1) or len(self.deviations) != len(self.means):
            raise InvalidConfigError(f"{self.name} has {max(len(self.levels), 1)} levels but {len(self.means)} means")
        kind, unit = (
            (LevelKind.NONE, 1.0) if not self.levels else _kind_of(dict(self.level_attributes), self.level_name, self.levels)
        )
        return [
            Channel(self.name, kind, float(level) * unit, float(mean), float(std) or 1.0, standard, units)
            for level, mean, std in zip(self.levels or [0.0], self.means, self.deviations, strict=True)
        ]


def _kind_of(attributes: dict[str, Any], name: str, levels: Sequence[float]) -> tuple[LevelKind, float]:
    """The axis of a level coordinate, and what its values are multiplied with."""
    words = f"{attributes.get('standard_name', '')} {attributes.get('long_name', '')} {name}".lower()
    units = str(attributes.get("units", ""))
    if units in ("hPa", "mb", "mbar", "millibar", "millibars"):
        return LevelKind.PRESSURE, 1.0
    if units == "Pa":
        return LevelKind.PRESSURE, 0.01
    if "sigma" in words and max(levels) <= 1.5:
        return LevelKind.SIGMA, 1.0
    if "band" in words or "wavelength" in words:
        return LevelKind.BAND, 1.0
    if "depth" in words or (units in ("m", "meters", "metres") and attributes.get("positive") == "down"):
        return LevelKind.DEPTH, 1.0
    if units in ("m", "meters", "metres", "km"):
        return LevelKind.HEIGHT, 1000.0 if units == "km" else 1.0
    if "isobaric" in words or "pressure" in words:
        return LevelKind.PRESSURE, 1.0
    return (LevelKind.SIGMA if 0 < max(levels) <= 1 else LevelKind.MODEL), 1.0


@dataclass(frozen=True, slots=True)
class ChannelTable:
    """The channels of a cube in their order; no two are the same variable at the same level.

    Raises
    ------
    InvalidConfigError
        For none, more than 4096, or a channel twice.
    """

    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= MAX_CHANNELS:
            raise InvalidConfigError(f"a cube has 1 to {MAX_CHANNELS} channels, got {len(self.channels)}")
        keys = [(c.variable, c.kind, c.level) for c in self.channels]
        if len(set(keys)) != len(keys):
            raise InvalidConfigError(f"channel {next(k for k in keys if keys.count(k) > 1)} is there twice")

    def __len__(self) -> int:
        return len(self.channels)

    def __getitem__(self, index: int) -> Channel:
        return self.channels[index]

    @classmethod
    def of(cls, variables: Sequence[VariableDescription]) -> ChannelTable:
        """All levels of all variables, variable by variable."""
        return cls(tuple(channel for variable in variables for channel in variable.channels()))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in order of first appearance."""
        return tuple(dict.fromkeys(c.variable for c in self.channels))

    def of_variable(self, name: str) -> tuple[int, ...]:
        """Indices of a variable's channels."""
        return tuple(i for i, c in enumerate(self.channels) if c.variable == name)

    @property
    def means(self) -> npt.NDArray[np.float64]:
        """Shape (channels,)."""
        return np.array([c.mean for c in self.channels])

    @property
    def deviations(self) -> npt.NDArray[np.float64]:
        """Shape (channels,)."""
        return np.array([c.std for c in self.channels])

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps([asdict(c) for c in self.channels], sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: object) -> ChannelTable:
        """Read what `to_json` wrote.

        Raises
        ------
        UntrustedModelError
            If the text is not a table: too long, not JSON, unknown or missing keys, wrong types, impossible channels.
        """
        if not isinstance(text, str) or len(text) > _MAX_JSON:
            raise UntrustedModelError(f"a channel table is text of at most {_MAX_JSON} characters")
        try:
            rows: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UntrustedModelError(f"the channel table is not JSON: {error}") from error
        if not isinstance(rows, list) or len(rows) > MAX_CHANNELS:
            raise UntrustedModelError(f"a channel table is a list of at most {MAX_CHANNELS} channels")
        try:
            return cls(tuple(_channel(row) for row in rows))
        except InvalidConfigError as error:
            raise UntrustedModelError(f"the channel table cannot be meant: {error}") from error


def _channel(row: Any) -> Channel:
    wanted = {f.name for f in fields(Channel)}
    if not isinstance(row, dict) or set(row) != wanted:
        raise InvalidConfigError(f"a channel has the entries {sorted(wanted)}")
    if any(not isinstance(row[k], str) for k in wanted - set(_FLOATS)) or row["kind"] not in set(map(str, LevelKind)):
        raise InvalidConfigError(f"an entry of a channel has the wrong type, or {row['kind']!r:.40} is no kind of level")
    if any(not isinstance(row[k], (int, float)) or abs(row[k]) > 1e300 for k in _FLOATS):
        raise InvalidConfigError("level, mean and std are numbers")
    return Channel(**{**row, "kind": LevelKind(row["kind"]), **{k: float(row[k]) for k in _FLOATS}})


def odd_channels(table: ChannelTable) -> npt.NDArray[np.int32]:
    """1 for channels that change their sign when a field is turned upside down (northward winds, vorticity), else 0."""
    words = ("northward", "atmosphere_relative_vorticity", "ocean_relative_vorticity")
    return np.array([int(any(w in c.standard_name for w in words)) for c in table.channels], np.int32)
