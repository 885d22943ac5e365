"""What would be written, before the night is spent: bound, chunks and shards of each variable, and a trial on a few chunks.

Lossy is opt-in: a variable without a bound of its own stays exact, and so do coordinates whatever is asked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from latentzarr.bitstream.frame import FORMAT_VERSION, dtype_code
from latentzarr.bounds import BoundKind, ErrorBound, parse_bound
from latentzarr.codec.config import CodecConfig, Effort
from latentzarr.codec.zarr_codec import model_of
from latentzarr.dataset.blocks import chosen_sizes, default_chunks, default_shards, read_region, spread
from latentzarr.dataset.tables import Table, byte_text, number_text, time_text
from latentzarr.dataset.trial import Trial, finite_range, ranges_of, too_tight, try_bound
from latentzarr.errors import InvalidConfigError, LatentzarrError, UnsupportedDtypeError, VariableNotFoundError
from latentzarr.models.weights import Model

__all__ = ["Bounds", "Plan", "Trial", "VariablePlan", "plan"]

Bounds = Mapping[str, str | float | ErrorBound]
_PROPOSED = (0.01, 0.001)
_WORTH_CODING = 4096  # values below which a proposal is pointless
_EAGER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class VariablePlan:
    """What happens to one variable.

    Attributes
    ----------
    name, dims, shape, dtype
        Of the variable.
    bound : ErrorBound or None
        As coded. None: zarr's ordinary codecs.
    words : str
        The bound as asked for; empty if none was.
    reason : str
        Why it is coded as it is, for people.
    chunks, shards : tuple of int or None
        None: zarr's choice, and no shards.
    blockwise : bool
        Written block by block and checked; False: small, or no numbers, written by xarray in one go.
    trials : tuple of Trial
        For ``bound``, or proposals where no bound was given.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    bound: ErrorBound | None
    words: str
    reason: str
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    blockwise: bool = False
    trials: tuple[Trial, ...] = ()

    @property
    def lossy(self) -> bool:
        """Whether values may change."""
        return self.bound is not None and self.bound.kind is not BoundKind.LOSSLESS

    @property
    def numbers(self) -> bool:
        """Whether it is an array of numbers, which can be cut into blocks and compared bit by bit."""
        return np.dtype(self.dtype).kind in "iufb" and len(self.shape) > 0

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def block(self) -> tuple[int, ...]:
        """What one task writes: a shard, or a chunk."""
        return self.shards or self.chunks or self.shape

    def settings(self) -> list[Any]:
        """All that decides what the array in the store looks like, as JSON."""
        bound = None if self.bound is None else [str(self.bound.kind), self.bound.value, self.bound.zeros]
        return [self.name, self.dims, self.shape, self.dtype, bound, self.chunks, self.shards]


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be written.

    Attributes
    ----------
    variables : tuple of VariablePlan
        Data variables and coordinates, in the order of the data set.
    model : Model
    effort : Effort
    """

    variables: tuple[VariablePlan, ...]
    model: Model
    effort: Effort = Effort.NORMAL

    def __getitem__(self, name: str) -> VariablePlan:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise VariableNotFoundError(f"no variable {name!r} in the plan; there are {', '.join(v.name for v in self.variables)}")

    def __iter__(self) -> Iterator[VariablePlan]:
        return iter(self.variables)

    @property
    def fingerprint(self) -> str:
        """Digest of the settings; a write is only resumed with the same."""
        settings = [FORMAT_VERSION, self.model.digest, str(self.effort), [v.settings() for v in self.variables]]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]

    def table(self) -> Table:
        """The plan for people; a line for each trial."""
        columns = ("variable", "size", "bound", "chunks", "shards", "ratio", "time", "largest error", "modes", "why")
        rows = []
        for v in self.variables:
            sizes = ["x".join(map(str, s)) if s else "-" for s in (v.chunks, v.shards)]
            bound = "exact" if v.bound is None else str(v.bound)
            head = [v.name, byte_text(v.nbytes)]
            if v.bound is not None or not v.trials:
                first = v.trials[0] if v.trials else None
                rows.append([*head, bound, *sizes, *_trial_cells(first), v.reason])
                continue
            rows.append([*head, bound, *sizes, "", "", "", "", v.reason])
            rows.extend(
                ["", "", f"{t.words}?", "", "", *_trial_cells(t), f"try --bound {v.name}={t.bound.value:.3g}"] for t in v.trials
            )
        return Table("Plan", columns, tuple(tuple(r) for r in rows))

    def __str__(self) -> str:
        return self.table().to_text()

    def _repr_html_(self) -> str:
        return self.table().to_html()

    def to_json(self) -> str:
        """For programs."""
        variables = [{**asdict(v), "predicted": v.bound is not None and bool(v.trials)} for v in self.variables]
        facts = {"model": self.model.digest, "effort": str(self.effort), "fingerprint": self.fingerprint}
        return json.dumps({**facts, "variables": variables}, default=str)


def _trial_cells(trial: Trial | None) -> list[str]:
    if trial is None:
        return ["", "", "", ""]
    modes = " ".join(f"{mode} {count}" for mode, count in trial.modes.items())
    return [f"{trial.ratio:.1f}", time_text(trial.seconds), number_text(trial.max_abs_error), modes]


def require_dataset(ds: Any) -> None:
    """Refuse what is no data set of one group.

    Raises
    ------
    InvalidConfigError
        Saying how to make one of what was given.
    """
    if isinstance(ds, xr.DataTree):
        groups = ", ".join(path for path in ds.groups if path != "/")
        advice = "write tree[path].to_dataset() each"
        raise InvalidConfigError(f"a data set of one group is written at a time, this tree has {groups}; {advice}")
    if isinstance(ds, xr.DataArray):
        raise InvalidConfigError(f"give a Dataset, not a DataArray: da.to_dataset(name={'t' if ds.name is None else ds.name!r})")
    if not isinstance(ds, xr.Dataset):
        raise InvalidConfigError(f"give an xarray.Dataset, not {type(ds).__name__}")


def plan(
    ds: xr.Dataset,
    bounds: Bounds | None = None,
    *,
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    model: Model | str | None = None,
    effort: Effort | str = Effort.NORMAL,
    trial_chunks: int = 3,
) -> Plan:
    """Decide how each variable would be stored, and try it on a few chunks.

    Parameters
    ----------
    ds : xarray.Dataset
        Lazy data stay lazy: a bound relative to the range reads that variable once, a trial reads its chunks only.
    bounds : mapping of str to str, float or ErrorBound, optional
        By variable name, as `latentzarr.parse_bound` reads them. Variables not named stay exact. Without any,
        floating-point variables are tried at 1 % and 0.1 % of the range found in the chunks tried.
    chunks, shards : mapping of str to int, optional
        By dimension name, -1 for all of it, over the proposed ones.
    model : Model or str, optional
        A model or its digest; by default the one shipped for the effort.
    effort : {"fast", "normal", "max"}
        How much time coding may take; see `latentzarr.LatentCodec`.
    trial_chunks : int
        Chunks to try of each variable; 0 for none.

    Raises
    ------
    VariableNotFoundError
        If a bound names no variable of the data set.
    UnsupportedDtypeError
        If a bound is given for what cannot be coded (dates, complex numbers, text, objects).
    InvalidBoundError, InvalidConfigError
        For bounds that cannot be read, for a lossy bound on a coordinate, for sizes that do not fit.
    """
    require_dataset(ds)
    if bounds is not None and not isinstance(bounds, Mapping):
        raise InvalidConfigError(f"bounds are given by variable, as in {{'t': '0.1 K'}}, not {bounds!r}")
    bounds = dict(bounds or {})
    level = Effort.of(effort)
    chosen = model_of(model, level)
    _check_names(ds, bounds, chunks, shards)
    ranges = ranges_of(ds, {str(n): _parsed(ds, str(n), b) for n, b in bounds.items()})
    planned = []
    for name in ds.variables:
        one = _plan_variable(ds, str(name), bounds, ranges, chunks or {}, shards or {})
        if trial_chunks > 0:
            one = _tried(ds, one, (chosen, level), trial_chunks, propose=not bounds)
        planned.append(one)
    return Plan(tuple(planned), chosen, level)


def _check_names(ds: xr.Dataset, bounds: Bounds, *sizes: Mapping[str, int] | None) -> None:
    for name in bounds:
        if name not in ds.variables:
            raise VariableNotFoundError(
                f"a bound is given for {name!r}, but the data set has {', '.join(map(str, ds.data_vars)) or 'nothing'}"
            )
    for given in sizes:
        for dim in given or {}:
            if dim not in ds.dims:
                raise InvalidConfigError(f"no dimension {dim!r}; the data set has {', '.join(map(str, ds.dims)) or 'none'}")


def _parsed(ds: xr.Dataset, name: str, bound: str | float | ErrorBound) -> ErrorBound:
    variable = ds.variables[name]
    units = variable.attrs.get("units")
    try:
        parsed = parse_bound(bound, None if units is None else str(units))
        dtype_code(variable.dtype)
    except LatentzarrError as error:
        raise error.at(name) from None
    if parsed.kind is BoundKind.LOSSLESS:
        return parsed
    if name in ds.coords:
        raise InvalidConfigError(
            "a coordinate stays exact; leave it out of the bounds, or make it a data variable first", place=name
        )
    if variable.dtype.kind != "f" and (
        parsed.kind not in (BoundKind.ABSOLUTE, BoundKind.RANGE_RELATIVE) or variable.dtype.kind == "b"
    ):
        raise UnsupportedDtypeError(
            f"a bound of {parsed} cannot be kept for {variable.dtype}; give 'lossless'"
            + (" or an absolute bound" if variable.dtype.kind in "iu" else ""),
            place=name,
        )
    return parsed


def _plan_variable(
    ds: xr.Dataset,
    name: str,
    bounds: Bounds,
    ranges: Mapping[str, tuple[float, float]],
    chunks: Mapping[str, int],
    shards: Mapping[str, int],
) -> VariablePlan:
    variable = ds.variables[name]
    dims = tuple(map(str, variable.dims))
    result = VariablePlan(name, dims, variable.shape, variable.dtype.str, None, "", _why_exact(ds, name))
    if name in bounds:
        asked = _parsed(ds, name, bounds[name])
        bound = asked.resolve(*ranges[name]) if name in ranges else asked
        reason = f"asked for {asked}" + ("; constant, so exact" if asked.kind is not bound.kind is BoundKind.LOSSLESS else "")
        if variable.ndim == 0:
            return replace(result, words=str(asked), reason="a single value is stored as it is")
        if "scale_factor" in variable.encoding or "add_offset" in variable.encoding:
            reason += "; packing of the input is dropped"
        result = replace(result, bound=bound, words=str(asked), reason=reason)
    large = variable.chunks is not None or variable.nbytes > _EAGER_BYTES
    if not result.numbers or name in ds.indexes or (result.bound is None and not large):
        return result
    parts = None if variable.chunks is None else tuple(c[0] if c else 1 for c in variable.chunks)
    proposed = default_chunks(variable.shape, variable.dtype.itemsize, parts)
    inner = chosen_sizes(chunks, dims, variable.shape, proposed, "chunks")
    inner = tuple(min(c, max(n, 1)) for c, n in zip(inner, variable.shape, strict=True))
    outer = default_shards(variable.shape, inner, variable.dtype.itemsize, parts)
    if any(dim in shards for dim in dims):
        outer = _checked(chosen_sizes(shards, dims, variable.shape, outer or inner, "shards"), inner, variable.shape, name)
    return replace(result, chunks=inner, shards=outer, blockwise=True)


def _checked(shards: tuple[int, ...], chunks: tuple[int, ...], shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Shards as asked for; one that covers a whole dimension is rounded up to whole chunks."""
    rounded = tuple(math.ceil(s / c) * c if s >= n else s for s, c, n in zip(shards, chunks, shape, strict=True))
    if any(s % c for s, c in zip(rounded, chunks, strict=True)):
        raise InvalidConfigError(f"shards {rounded} are not whole multiples of the chunks {chunks}", place=name)
    return rounded


def _why_exact(ds: xr.Dataset, name: str) -> str:
    variable = ds.variables[name]
    if name in ds.coords:
        return "coordinate"
    if any(name == other.attrs.get("bounds", other.encoding.get("bounds")) for other in ds.variables.values()):
        return "bounds of a coordinate"
    if "flag_values" in variable.attrs or "flag_masks" in variable.attrs or variable.dtype.kind == "b":
        return "mask or flags"
    if variable.dtype.kind not in "iufb":
        return f"{variable.dtype} is not coded"
    if variable.dtype.kind in "iu":
        return "integers, no bound given"
    return "packed, no bound given" if "scale_factor" in variable.encoding else "no bound given"


def _tried(ds: xr.Dataset, one: VariablePlan, using: tuple[Model, Effort], count: int, *, propose: bool) -> VariablePlan:
    """With trials of its bound, or of proposed ones."""
    variable = ds.variables[one.name]
    worth = (
        variable.dtype.kind == "f"
        and variable.ndim > 0
        and variable.size >= _WORTH_CODING
        and one.reason.endswith("no bound given")
    )
    if variable.size == 0 or not ((propose and worth) or (one.bound is not None and one.chunks is not None)):
        return one
    chunks = one.chunks or default_chunks(variable.shape, variable.dtype.itemsize)
    pieces = [read_region(variable, r) for r in spread(variable.shape, chunks, count)]
    if one.bound is not None:
        trial = try_bound(pieces, _config(one.bound, using), one.words, variable.nbytes)
        note = "; the bound is below the resolution of the numbers, so they stay exact" if too_tight(pieces, one.bound) else ""
        return replace(one, trials=(trial,), reason=one.reason + note)
    ranges = [finite_range(p) for p in pieces]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if not low < high:
        return one
    wanted = [ErrorBound.range_relative(value) for value in _PROPOSED]
    trials = tuple(try_bound(pieces, _config(b.resolve(low, high), using), str(b), variable.nbytes) for b in wanted)
    return replace(one, trials=trials)


def _config(bound: ErrorBound, using: tuple[Model, Effort]) -> CodecConfig:
    return CodecConfig(bound, using[0], effort=using[1])
