"""`latentzarr.fit`: fine-tune a model to one variable's own data, and keep it only if it is better on a part it never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latentzarr.bounds import BoundKind, ErrorBound, parse_bound
from latentzarr.budget import seconds_of
from latentzarr.codec.predictor import NeuralPredictor
from latentzarr.codec.prepare import prepare
from latentzarr.codec.search import make_candidate
from latentzarr.errors import InvalidConfigError, UnsupportedDtypeError
from latentzarr.geometry import ChunkGeometry, default_geometry
from latentzarr.models.card import ModelCard
from latentzarr.models.store import default_model, register_model
from latentzarr.models.weights import Model
from latentzarr.nn.hierarchy_net import HierarchyNets
from latentzarr.training.calibrate import calibrated, count_cases
from latentzarr.training.cases import CaseSource, TrainingField
from latentzarr.training.loop import Progress, Schedule, train

__all__ = ["FitResult", "fit", "fit_with_result"]

_HELD_BACK = 5  # one part in this
_TUNING_RATE = 1.5e-3
_COUNTED_CASES = 60
_PARENT_WEIGHTS = (300.0, 3000.0)
_DEFAULT_BOUNDS = (1e-2, 1e-3)


class ArrayLike(Protocol):
    """What can be fitted to: a NumPy array, an xarray DataArray, a zarr or Dask array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came of fitting.

    Attributes
    ----------
    model : Model
        The fitted model, or the parent where fitting did not help.
    bytes_before, bytes_after : int
        Size of the part held back, coded with the parent and with ``model``.
    steps : int
        Training steps taken.
    """

    model: Model
    bytes_before: int
    bytes_after: int
    steps: int

    @property
    def gain(self) -> float:
        """How many times smaller the part held back became; at least 1."""
        return self.bytes_before / max(1, self.bytes_after)


def fit(
    data: ArrayLike,
    budget: str | float = "60s",
    *,
    bound: str | float | ErrorBound | None = None,
    model: Model | None = None,
    name: str = "fitted",
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
) -> Model:
    """Fine-tune a model to one variable.

    Parameters
    ----------
    data : array, shape (.., rows, columns)
        Floats, or integers; loaded into memory. The last fifth of the slices (of few slices: of the rows) is held back.
    budget : str or float
        Wall-clock time for training: ``"60s"``, ``"5 min"``, or seconds.
    bound : str, float or ErrorBound, optional
        Absolute or range-relative bound that the data will be stored at; by default bounds from 1e-4 to 6e-2 of the range.
    model : Model, optional
        Where to start; the shipped model.
    name : str
        For the model card.
    seed : int
    report : callable, optional
        Told of progress; by default a bar on a terminal, nothing in a pipe.

    Returns
    -------
    Model
        Never worse than ``model`` on the part held back: if it would be, ``model`` itself. Registered in this process; keep
        it with `latentzarr.save_model`.

    Raises
    ------
    InvalidConfigError
        If the data are too small, constant or missing, or the budget cannot be read.
    ImportError
        Without torch: install ``latentzarr[torch]``.
    """
    return fit_with_result(data, budget, bound=bound, model=model, name=name, seed=seed, report=report).model


def fit_with_result(
    data: ArrayLike,
    budget: str | float = "60s",
    *,
    bound: str | float | ErrorBound | None = None,
    model: Model | None = None,
    name: str = "fitted",
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
) -> FitResult:
    """`fit`, with what it gained; parameters and errors alike."""
    from latentzarr.training.show import shown

    seconds = seconds_of(budget)
    parent = model or default_model()
    learn, held = _split(np.asarray(data))
    finite = learn[np.isfinite(learn)].astype(np.float64)
    extent = float(finite.max() - finite.min()) if finite.size else 0.0
    if not (np.isfinite(extent) and extent > 0):
        raise InvalidConfigError("there is nothing to learn from constant data or data without finite values")
    absolute = _absolute_bounds(bound, extent)
    logs = np.log10([b / extent for b in absolute])
    span = (float(logs[0]) - 0.15, float(logs[0]) + 0.15) if bound is not None else (-4.1, -1.2)
    source = CaseSource([TrainingField(name, learn)], span)
    nets = HierarchyNets.from_integer(parent.networks)
    with shown(report, f"fitting {name}") as told:
        steps = train(nets, source, Schedule(seconds, _TUNING_RATE, warmup=0.0), seed, told)
    rng = np.random.default_rng(seed + 1)
    networks = nets.to_integer()
    cases = [source.draw(rng) for _ in range(_COUNTED_CASES)]
    card = ModelCard(
        name,
        training=f"latentzarr.fit, {seconds:g} s, {steps} steps, seed {seed}, from {parent.digest}",
        training_data=(f"{name}: user's own data, shape {tuple(np.shape(data))}",),
        parent=parent.digest,
    )
    candidates = []
    for base in (networks, parent.networks):  # tables alone can help, too
        probe = NeuralPredictor(Model.build(base, parent.tables, card))
        counts = count_cases(cases, probe)
        candidates += [Model.build(base, calibrated(counts, parent.tables, weight), card) for weight in _PARENT_WEIGHTS]
    before = _coded_size(held, absolute, parent)
    sizes = [_coded_size(held, absolute, candidate) for candidate in candidates]
    best = int(np.argmin(sizes))
    if sizes[best] >= before:
        return FitResult(parent, before, before, steps)
    return FitResult(register_model(candidates[best]), before, sizes[best], steps)


def _absolute_bounds(bound: str | float | ErrorBound | None, extent: float) -> Sequence[float]:
    if bound is None:
        return [b * extent for b in _DEFAULT_BOUNDS]
    resolved = parse_bound(bound).resolve(0.0, extent)
    if resolved.kind is not BoundKind.ABSOLUTE:
        raise InvalidConfigError(f"fit takes an absolute or range-relative bound, got {bound}")
    return [resolved.value]


def _split(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Slices to learn from and slices held back, both (slices, rows, columns)."""
    if values.dtype.kind not in "fiu":
        raise UnsupportedDtypeError(f"fit takes floats or integers, got {values.dtype}")
    if values.ndim < 2 or values.size == 0:
        raise InvalidConfigError(f"fit needs at least rows and columns, got shape {values.shape}")
    g: ChunkGeometry = default_geometry(values.shape)
    grid = np.ascontiguousarray(values).reshape(g.shape)
    if g.slices >= _HELD_BACK:
        cut = g.slices - g.slices // _HELD_BACK
        return grid[:cut], grid[cut:]
    cut = g.rows - g.rows // _HELD_BACK
    if g.rows // _HELD_BACK < 8 or g.columns < 8:
        raise InvalidConfigError(f"data of shape {values.shape} are too small to learn from and to hold a part back")
    return grid[:, :cut], grid[:, cut:]


def _coded_size(held: npt.NDArray[Any], bounds: Sequence[float], model: Model) -> int:
    """Estimated bytes of the held-back slices (at most 16 of them), coded by the network alone, over all bounds."""
    total = 0
    for bound in bounds:
        for first in range(0, min(len(held), 16), 8):
            part = np.ascontiguousarray(held[first : first + 8])
            chunk = prepare(part.reshape(-1), ErrorBound.absolute(bound), part.shape, None)
            candidate = None if chunk is None else make_candidate(chunk, NeuralPredictor(model), model.tables)
            total += part.nbytes if candidate is None else candidate.estimated_bytes
    return total
