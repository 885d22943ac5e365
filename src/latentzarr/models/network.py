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
REFERENCE_INPUTS = 37
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

    Invariants, checked at construction: the shapes agree, ``inputs`` is 25 or 37, ``first`` and ``second`` are multiples of
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
        if inputs not in (SPATIAL_INPUTS, REFERENCE_INPUTS):
            raise UntrustedModelError(f"network array w1 has shape {self.w1.shape}, expected (first, 25 or 37)")
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
        """25 without a reference slice, 37 with one."""
        return int(self.w1.shape[1])

    @property
    def multiply_adds(self) -> int:
        """Multiplications for one value."""
        return self.w1.size + self.w2.size + self.w3.size


@dataclass(frozen=True, slots=True, eq=False)
class NetworkSet:
    """The four networks of a model: row and column passes, without and with a previous slice to look at."""

    rows: IntegerNetwork
    columns: IntegerNetwork
    rows_reference: IntegerNetwork
    columns_reference: IntegerNetwork

    def __post_init__(self) -> None:
        for name, inputs in (
            ("rows", SPATIAL_INPUTS), ("columns", SPATIAL_INPUTS),
            ("rows_reference", REFERENCE_INPUTS), ("columns_reference", REFERENCE_INPUTS),
        ):  # fmt: skip
            network = getattr(self, name)
            if network.inputs != inputs:
                raise UntrustedModelError(f"network {name} has {network.inputs} inputs, expected {inputs}")

    def choose(self, *, columns_pass: bool, reference: bool) -> IntegerNetwork:
        """The network for a kind of pass."""
        if reference:
            return self.columns_reference if columns_pass else self.rows_reference
        return self.columns if columns_pass else self.rows
