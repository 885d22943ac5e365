"""For tests of this package and of whatever builds on it: hypothesis strategies for chunks and bounds, and hostile predictors.

    from hypothesis import given
    from latentzarr.testing import bounds, chunks

    @given(chunks(), bounds())
    def test_my_store_keeps_the_bound(chunk, bound): ...

Needs ``hypothesis`` (extra ``test``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from latentzarr.bitstream.frame import Mode
from latentzarr.bounds import ErrorBound
from latentzarr.codec.predictor import CubicPredictor, Prediction, Predictor, SliceStates
from latentzarr.geometry import Order, Pass
from latentzarr.slices import Visit

__all__ = [
    "DTYPES",
    "EDGE_VALUES",
    "HOSTILE_PREDICTORS",
    "LAYOUTS",
    "PATTERNS",
    "Drifting",
    "Extreme",
    "Negated",
    "Noise",
    "NotANumber",
    "Raising",
    "WrongShape",
    "Zeros",
    "bounds",
    "chunks",
    "dtypes",
    "fill_values",
    "make_chunk",
    "shapes",
]

DTYPES = tuple(
    np.dtype(order + name)
    for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
    for order in ("<", ">")
    if name[1] != "1" or order == "<"
)
"""Every dtype the codec takes, in both byte orders."""

EDGE_VALUES = (
    math.nan,
    math.inf,
    -math.inf,
    0.0,
    -0.0,
    5e-324,
    -1e-310,
    1e-45,
    6e-8,
    65504.0,
    3.4e38,
    -1.7e308,
    1e20,
    -9999.0,
    1.0,
)
"""What breaks arithmetic: specials, signed zeros, subnormals and the largest numbers of each float, fill values in use."""

_SIDES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 63, 64, 65, 66, 130)
_LARGEST_CHUNK = 3000

Field = Callable[[tuple[int, ...], np.random.Generator], npt.NDArray[np.float64]]


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    total = np.zeros(shape)
    for axis, n in enumerate(shape):
        wave = np.sin(np.arange(n) * rng.uniform(0.02, 0.7) + rng.uniform(0, 6)) * rng.uniform(0.5, 20)
        total += wave.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return total


def _sparse(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.where(rng.random(shape) < 0.05, rng.normal(size=shape) * 100, 0.0)


def _magnitudes(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.asarray(rng.normal(size=shape) * 10.0 ** rng.uniform(-320, 300, shape))


PATTERNS: dict[str, Field] = {
    "constant": lambda shape, rng: np.full(shape, rng.normal() * 100),
    "smooth": _smooth,
    "noise": lambda shape, rng: np.asarray(rng.normal(size=shape)),
    "smooth_and_noise": lambda shape, rng: _smooth(shape, rng) + 0.1 * rng.normal(size=shape),
    "huge_offset": lambda shape, rng: 1e5 + 0.01 * _smooth(shape, rng),
    "sparse": _sparse,
    "steps": lambda shape, rng: np.floor(_smooth(shape, rng)),
    "two_levels": lambda shape, rng: np.where(rng.random(shape) < 0.5, -1e6, 1e6),
    "subnormal": lambda shape, rng: np.asarray(rng.normal(size=shape) * 1e-309),
    "magnitudes": _magnitudes,
}
"""Ways to fill a chunk: ``pattern(shape, generator)`` gives float64."""

LAYOUTS: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "c": lambda a: a,
    "fortran": lambda a: np.asarray(a, order="F"),
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "every_other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "read_only": lambda a: _read_only(a.copy()),
}
"""The same values in other places of memory."""


def _read_only(a: npt.NDArray[Any]) -> npt.NDArray[Any]:
    a.flags.writeable = False
    return a


def make_chunk(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    pattern: str,
    seed: int,
    edges: tuple[float, ...] = (),
    whole_range: bool = False,
) -> npt.NDArray[Any]:
    """A chunk of a pattern.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy dtype
    pattern : str
        A key of `PATTERNS`.
    seed : int
    edges : tuple of float
        Put at random places; for integers only what they can hold.
    whole_range : bool
        For integers: values over the whole range of the dtype instead of the pattern.
    """
    rng = np.random.default_rng(seed)
    native = dtype.newbyteorder("=")
    values = PATTERNS[pattern](shape, rng)
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.kind == "b":
            array = np.asarray(values > np.median(values)) if values.size else values.astype(bool)
        elif dtype.kind == "f":
            array = values.astype(native)
        else:
            limits = np.iinfo(native)
            if whole_range:
                array = rng.integers(limits.min, limits.max, shape, native, endpoint=True)
            else:
                array = np.clip(np.nan_to_num(np.floor(values)), max(limits.min, -(2.0**62)), min(limits.max, 2.0**62)).astype(
                    native
                )
        array = np.asarray(array)
        flat = array.reshape(-1)
        for edge in edges if flat.size else ():
            if dtype.kind == "f" or (math.isfinite(edge) and dtype.kind != "b" and limits.min <= edge <= limits.max):
                at = rng.integers(0, flat.size, max(1, int(flat.size * rng.uniform(0, 0.3))))
                flat[at] = np.float64(edge).astype(native)
    return array.astype(dtype)


def dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    """Any dtype the codec takes."""
    return st.sampled_from(DTYPES)


@st.composite
def shapes(draw: st.DrawFn, *, empty: bool = True) -> tuple[int, ...]:
    """Shapes of 0 to 4 dimensions, sizes of 1 often and of 0 now and then."""
    sides = draw(st.lists(st.sampled_from(_SIDES), max_size=4))
    while math.prod(sides) > _LARGEST_CHUNK:
        sides[sides.index(max(sides))] //= 2
    if empty and sides and draw(st.integers(0, 15)) == 0:
        sides[draw(st.integers(0, len(sides) - 1))] = 0
    return tuple(sides)


@st.composite
def chunks(draw: st.DrawFn, *, dtype: np.dtype[Any] | None = None, empty: bool = True) -> npt.NDArray[Any]:
    """Chunks of any dtype, shape, pattern and memory layout, often with values that break arithmetic."""
    made = make_chunk(
        draw(shapes(empty=empty)),
        dtype or draw(dtypes()),
        draw(st.sampled_from(sorted(PATTERNS))),
        draw(st.integers(0, 2**32 - 1)),
        tuple(draw(st.lists(st.sampled_from(EDGE_VALUES), max_size=3))),
        draw(st.booleans()),
    )
    return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](made)


def bounds() -> st.SearchStrategy[ErrorBound]:
    """Bounds of every kind a codec takes (range-relative ones are resolved before), from far too tight to far too loose."""
    sizes = st.one_of(
        st.sampled_from([1e-3, 0.1, 0.5, 1.0, 2.5, 100.0]), st.floats(-320, 300).map(lambda e: max(10.0**e, 5e-324))
    )
    shares = st.one_of(st.sampled_from([1e-4, 1e-2, 0.1, 0.5]), st.floats(-18, -0.01).map(lambda e: 10.0**e))
    return st.one_of(
        sizes.map(ErrorBound.absolute),
        shares.map(ErrorBound.relative),
        sizes.map(ErrorBound.none),
        st.just(ErrorBound.lossless()),
    )


@st.composite
def fill_values(draw: st.DrawFn, chunk: npt.NDArray[Any]) -> Any:
    """None, a value of the chunk, or any other that its dtype holds."""
    choice = draw(st.sampled_from(["none", "own", "zero", "other"]))
    if choice == "none":
        return None
    if choice == "own" and chunk.size:
        return chunk.reshape(-1)[draw(st.integers(0, chunk.size - 1))]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(0 if choice == "zero" else -9999.0 if chunk.dtype.kind == "f" else 1).astype(chunk.dtype)[()]


@dataclass
class Zeros:
    """Predicts nothing at all."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        return Prediction(np.zeros(step.size, np.int32), np.zeros(step.size, np.uint8))


@dataclass
class Negated:
    """Predicts the opposite of what is likely, and is sure of it."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        found = CubicPredictor().predict(states, step, visit)
        return Prediction(-found.centre, (15 - np.minimum(found.classes, 15)).astype(np.uint8))


@dataclass
class Noise:
    """Predicts something else each time it is asked: no reader could follow."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        draw = self.generator.integers
        return Prediction(draw(-1000, 1000, step.size, np.int32), draw(0, 64, step.size, np.uint8))


@dataclass
class Extreme:
    """Predicts the ends of the range, alternating or always the same, or what lies beyond them."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES
    value: int = 2**29
    alternate: bool = False

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        centre = np.full(step.size, self.value, np.int32)
        if self.alternate:
            centre[::2] *= -1
        return Prediction(centre, np.full(step.size, 63, np.uint8))


@dataclass
class NotANumber:
    """Predicts NaN, which no integer array can hold."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        nan: Any = np.full(step.size, np.nan)
        return Prediction(nan, np.zeros(step.size, np.uint8))


@dataclass
class WrongShape:
    """Predicts one value too few."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        return Prediction(np.zeros(step.size - 1, np.int32), np.zeros(step.size - 1, np.uint8))


@dataclass
class Drifting:
    """Right at first, a little further off with every call: what a float network does between two machines."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES
    calls: int = 0

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        self.calls += 1
        found = CubicPredictor().predict(states, step, visit)
        return Prediction((found.centre + self.calls // 8).astype(np.int32), found.classes)


@dataclass
class Raising:
    """Fails after some calls. Encoding fails with it: an error is no wrong frame."""

    mode: Mode = Mode.NEURAL
    order: Order = Order.THREE_PASSES
    after: int = 0

    def predict(self, states: SliceStates, step: Pass, visit: Visit) -> Prediction:
        """See `latentzarr.codec.predictor.Predictor`."""
        self.after -= 1
        if self.after < 0:
            raise RuntimeError("this predictor fails on purpose")
        return Zeros().predict(states, step, visit)


HOSTILE_PREDICTORS: dict[str, Callable[[Mode, Order], Predictor]] = {
    "zeros": Zeros,
    "negated": Negated,
    "noise": Noise,
    "highest": Extreme,
    "lowest": lambda mode, order: Extreme(mode, order, -(2**29)),
    "alternating": lambda mode, order: Extreme(mode, order, 2**29, alternate=True),
    "beyond": lambda mode, order: Extreme(mode, order, 2**31 - 1),
    "not_a_number": NotANumber,
    "wrong_shape": WrongShape,
    "drifting": Drifting,
}
"""Makers of predictors that cost bytes and must never cost correctness (`Raising` apart: it costs the chunk)."""
