"""The integer network of the hierarchy as a value: its arrays, what they must satisfy, and nothing that computes.

A network maps the integer inputs of one value to two accumulators, centre and width (`docs/reference/format.md`,
section 7). All arithmetic is exact in float32 as long as every partial sum stays below 2**24; the check that this holds
for *these* weights is made here, once, before a network can be used at all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from latentzarr.errors import UntrustedModelError
from latentzarr.geometry import Order, PassKind

__all__ = [
    "ACCUMULATOR_LIMIT",
    "BIAS_ROWS",
    "HIDDEN_TOP",
    "INPUT_TOP",
    "LEVELS",
    "REFERENCE_INPUTS",
    "SPATIAL_INPUTS",
    "IntegerNetwork",
    "NetworkSet",
]

SPATIAL_INPUTS = 25
REFERENCE_INPUTS = {Order.TWO_PASSES: 37, Order.THREE_PASSES: 39}
LEVELS = 6
BIAS_ROWS = 2 * LEVELS
INPUT_TOP = 1088
HIDDEN_TOP = 1023
ACCUMULATOR_LIMIT = 2**24
_MAX_HIDDEN = 256

Integers = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class IntegerNetwork:
    """Three dense layers with integer weights (8 fractional bits) and biases (14 fractional bits).

    Attributes
    ----------
    w1 : int16 array, shape (first, inputs)
    b1 : int32 array, shape (12, first)
        One bias row for each level (log2 of the stride); six more for exact integers.
    w2 : int16 array, shape (second, first)
    b2 : int32 array, shape (second,)
    w3 : int16 array, shape (2, second)
    b3 : int32 array, shape (12, 2)

    Invariants, checked at construction: the shapes agree, ``inputs`` is 25, 37 or 39, ``first`` and ``second`` are multiples of
    8 up to 256, and for every output of every layer ``sum(|w|) * largest input + |b| < 2**24``.

    Raises
    ------
    UntrustedModelError
        If an invariant does not hold.
    """

    w1: npt.NDArray[np.int16]
    b1: npt.NDArray[np.int32]
    w2: npt.NDArray[np.int16]
    b2: npt.NDArray[np.int32]
    w3: npt.NDArray[np.int16]
    b3: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        for field in fields(self):
            wanted = np.int16 if field.name.startswith("w") else np.int32
            found = getattr(self, field.name).dtype
            if found != wanted:
                raise UntrustedModelError(f"network array {field.name} must be {wanted.__name__}, is {found}")
        first, inputs = self.w1.shape if self.w1.ndim == 2 else (0, 0)
        second = self.w2.shape[0] if self.w2.ndim == 2 else 0
        shapes = {"b1": (BIAS_ROWS, first), "w2": (second, first), "b2": (second,), "w3": (2, second), "b3": (BIAS_ROWS, 2)}
        if inputs not in (SPATIAL_INPUTS, *REFERENCE_INPUTS.values()):
            raise UntrustedModelError(f"network array w1 has shape {self.w1.shape}, expected (first, 25, 37 or 39)")
        for width in (first, second):
            if not 8 <= width <= _MAX_HIDDEN or width % 8:
                raise UntrustedModelError(f"a hidden layer has {width} units, expected a multiple of 8 up to {_MAX_HIDDEN}")
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise UntrustedModelError(f"network array {name} has shape {getattr(self, name).shape}, expected {shape}")
        for layer, top in ((1, INPUT_TOP), (2, HIDDEN_TOP), (3, HIDDEN_TOP)):
            weights = np.abs(getattr(self, f"w{layer}").astype(np.int64)).sum(1)
            biases = np.abs(getattr(self, f"b{layer}").astype(np.int64))
            largest = int((weights * top + biases).max())
            if largest >= ACCUMULATOR_LIMIT:
                raise UntrustedModelError(
                    f"layer {layer} could reach {largest}, beyond its accumulator's exact range 2**24; train with smaller weights"
                )

    @property
    def hidden(self) -> tuple[int, int]:
        """Widths of the two hidden layers."""
        return int(self.w1.shape[0]), int(self.w2.shape[0])

    @property
    def inputs(self) -> int:
        """25 without a reference slice; with one, 37 in order 1 and 39 in order 2."""
        return int(self.w1.shape[1])

    @property
    def multiply_adds(self) -> int:
        """Multiplications for one value."""
        return self.w1.size + self.w2.size + self.w3.size


@dataclass(frozen=True, slots=True, eq=False)
class NetworkSet:
    """The networks of a model: one for each kind of pass, without and with decoded slices to look at.

    Attributes
    ----------
    spatial, reference : tuple of IntegerNetwork
        By `latentzarr.geometry.PassKind`; two of each in order 1, three in order 2.

    Invariants, checked at construction: as many networks as the order has kinds, each with the number of inputs of its place.

    Raises
    ------
    UntrustedModelError
        If an invariant does not hold.
    """

    spatial: tuple[IntegerNetwork, ...]
    reference: tuple[IntegerNetwork, ...]

    def __post_init__(self) -> None:
        if len(self.spatial) != len(self.reference) or len(self.spatial) not in (2, 3):
            raise UntrustedModelError(f"a model has 2 or 3 networks of each sort, not {len(self.spatial)}, {len(self.reference)}")
        for sort, networks, inputs in (
            ("spatial", self.spatial, SPATIAL_INPUTS),
            ("reference", self.reference, REFERENCE_INPUTS[self.order]),
        ):
            for kind, network in zip(PassKind, networks, strict=False):
                if network.inputs != inputs:
                    raise UntrustedModelError(
                        f"the {sort} network for {kind.name.lower()} has {network.inputs} inputs, expected {inputs}"
                    )

    @property
    def order(self) -> Order:
        """The order of passes the networks are for."""
        return Order.TWO_PASSES if len(self.spatial) == 2 else Order.THREE_PASSES

    def choose(self, kind: PassKind, *, reference: bool) -> IntegerNetwork:
        """The network for a kind of pass."""
        return (self.reference if reference else self.spatial)[kind]
