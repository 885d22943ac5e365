"""The hierarchy's network as torch sees it: the integer arithmetic simulated step by step, gradients passed straight through.

Weights are rounded to 8 fractional bits and hidden values floored to 6 in every forward pass, so that what is trained is what
will be exported (quantisation-aware training; Jacob et al. 2018, arXiv:1712.05877). Inputs and outputs are in real units:
integer inputs divided by 64, centre in units of the mean spread, width in log2 of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latentzarr.geometry import GRADES, Order, PassKind
from latentzarr.models.network import (
    BIAS_ROWS,
    HIDDEN_TOP,
    LEVELS,
    REFERENCE_INPUTS,
    SPATIAL_INPUTS,
    IntegerNetwork,
    NetworkSet,
)

__all__ = ["HierarchyNet", "HierarchyNets", "floored", "rounded"]

_WEIGHT_ONE = 256
_UNIT = 64
_ROW_LIMIT = 60.0  # sum of a row's weight magnitudes; keeps every accumulator below 2**24


class _Floor(torch.autograd.Function):
    """floor with the gradient of the identity."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:  # noqa: ARG004 - torch passes it
        return torch.floor(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]


def rounded(weight: Tensor) -> Tensor:
    """A weight with 8 fractional bits; the gradient passes."""
    return weight + (torch.round(weight * _WEIGHT_ONE) / _WEIGHT_ONE - weight).detach()


def floored(x: Tensor) -> Tensor:
    """The floor; the gradient passes."""
    whole: Tensor = _Floor.apply(x)
    return whole


def _hidden(x: Tensor) -> Tensor:
    return (floored(x * _UNIT) / _UNIT).clamp(0.0, HIDDEN_TOP / _UNIT)


class HierarchyNet(nn.Module):
    """One network: (values, inputs) -> (values, 2), centre and log2 width."""

    def __init__(self, inputs: int, first: int, second: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(first, inputs) * math.sqrt(1.5 / inputs))
        self.b1 = nn.Parameter(torch.zeros(BIAS_ROWS, first))
        self.w2 = nn.Parameter(torch.randn(second, first) * math.sqrt(2.0 / first))
        self.b2 = nn.Parameter(torch.zeros(second))
        self.w3 = nn.Parameter(torch.zeros(2, second))
        self.b3 = nn.Parameter(torch.zeros(BIAS_ROWS, 2))
        with torch.no_grad():
            self.b3[:, 1] = -1.0

    def forward(self, x: Tensor, bias_row: Tensor) -> Tensor:
        """Outputs for inputs ``x`` (integers / 64) and the bias row of each value."""
        h1 = _hidden(x @ rounded(self.w1).T + self.b1[bias_row])
        h2 = _hidden(h1 @ rounded(self.w2).T + self.b2)
        return h2 @ rounded(self.w3).T + self.b3[bias_row]

    @torch.no_grad()
    def limit(self) -> None:
        """Pull rows back whose weights could leave the exact range."""
        for weight in (self.w1, self.w2, self.w3):
            total = weight.abs().sum(1, keepdim=True)
            weight.mul_((_ROW_LIMIT / total).clamp(max=1.0))

    @torch.no_grad()
    def to_integer(self) -> IntegerNetwork:
        """The network as it is stored and run."""

        def whole(parameter: Tensor, one: int, dtype: type[np.integer]) -> np.ndarray:
            return np.ascontiguousarray(torch.round(parameter.double() * one).numpy().astype(dtype))

        weight, bias = (_WEIGHT_ONE, np.int16), (_WEIGHT_ONE * _UNIT, np.int32)
        return IntegerNetwork(
            *(whole(getattr(self, name), *(weight if name[0] == "w" else bias)) for name in ("w1", "b1", "w2", "b2", "w3", "b3"))
        )

    @classmethod
    @torch.no_grad()
    def from_integer(cls, network: IntegerNetwork) -> HierarchyNet:
        """The trainable twin of a stored network."""
        net = cls(network.inputs, *network.hidden)
        for name in ("w1", "b1", "w2", "b2", "w3", "b3"):
            one = _WEIGHT_ONE if name[0] == "w" else _WEIGHT_ONE * _UNIT
            getattr(net, name).copy_(torch.from_numpy(getattr(network, name).astype(np.float32) / one))
        return net


class HierarchyNets(nn.Module):
    """The networks of a model and the shape of their errors: a mixture of two logistics for each group of passes."""

    def __init__(self, spatial: Sequence[HierarchyNet], reference: Sequence[HierarchyNet]) -> None:
        super().__init__()
        self.spatial, self.reference = nn.ModuleList(spatial), nn.ModuleList(reference)
        groups = 2 * 4 * len(spatial)  # without and with a reference; as many as a model has groups of tables
        sizes = [GRADES[level if self.order is Order.THREE_PASSES else 0][0] / 32 for level in range(LEVELS)]
        self.half = torch.tensor(sizes + LEVELS * [0.5])
        self.mixture = nn.Parameter(torch.tensor([[1.5, -2.0]]).repeat(groups, 1))

    @property
    def order(self) -> Order:
        """The order of passes the networks predict."""
        return Order.TWO_PASSES if len(self.spatial) == 2 else Order.THREE_PASSES

    def net(self, kind: PassKind, reference: bool) -> HierarchyNet:
        """The network for a kind of pass."""
        found = (self.reference if reference else self.spatial)[kind]
        assert isinstance(found, HierarchyNet)
        return found

    @classmethod
    def fresh(cls, first: int, second: int) -> HierarchyNets:
        """Untrained networks of given widths."""
        inputs = SPATIAL_INPUTS, REFERENCE_INPUTS[Order.THREE_PASSES]
        return cls(*([HierarchyNet(n, first, second) for _ in PassKind] for n in inputs))

    @classmethod
    def from_integer(cls, networks: NetworkSet) -> HierarchyNets:
        """The trainable twins of a model's networks."""
        return cls(*([HierarchyNet.from_integer(n) for n in some] for some in (networks.spatial, networks.reference)))

    def to_integer(self) -> NetworkSet:
        """The networks as they are stored and run."""
        kinds = list(PassKind)[: self.order.kinds]
        return NetworkSet(*(tuple(self.net(kind, reference).to_integer() for kind in kinds) for reference in (False, True)))

    def bits(self, out: Tensor, target: Tensor, spread: Tensor, logs: Tensor, group: Tensor, bias_row: Tensor) -> Tensor:
        """Code length of each value.

        Parameters
        ----------
        out : (n, 2), from a network
        target : (n,), true value minus middle, in quanta
        spread, logs : (n,), as in the format page, section 7
        bias_row : (n,), level, and 6 more for exact integers: says how large a quantum is
        group : (n,), the group of tables, after those without a reference the same for those with one
        """
        error = (target - out[:, 0] * spread / 256.0).abs()
        narrow = torch.exp2((logs / 16.0 + out[:, 1] - 8.0).clamp(-9.0, 14.0))
        ratio, weight = self.mixture[group].unbind(1)
        share = torch.sigmoid(weight)
        half = self.half[bias_row]
        likely = (1 - share) * _mass(error, narrow, half) + share * _mass(error, narrow * torch.exp(ratio), half)
        return -torch.log2(likely.clamp_min(1e-9))


def _mass(error: Tensor, width: Tensor, half: Tensor) -> Tensor:
    """Probability that a logistic of ``width`` puts on the quantum of twice ``half`` around ``error``."""
    return torch.sigmoid((half - error) / width) - torch.sigmoid((-half - error) / width)
