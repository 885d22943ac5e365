"""The correction of a cube's components as torch sees it: zero at first, its integer arithmetic simulated step by step.

As in `hierarchy_net`: weights are rounded to 8 fractional bits and hidden values floored to 6 in every forward pass, gradients
pass straight through, and what is trained is what is exported. Inputs are whole quanta, outputs quanta.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from latentzarr.nn.hierarchy_net import floored, rounded

__all__ = ["CorrectionNet"]

_INPUT_TOP, _HIDDEN_TOP = 15.0, 1023.0
_WEIGHT_ONE, _UNIT = 256.0, 64.0
_ROW_LIMIT = 60.0  # sum of a row's weight magnitudes


class CorrectionNet(nn.Module):
    """(n, components, y, x) of quanta to what to add to them."""

    def __init__(self, components: int, hidden: int, *, periodic: bool) -> None:
        super().__init__()
        self.periodic = periodic
        self.enter = nn.Parameter(torch.randn(hidden, components) * math.sqrt(0.5 / components))
        self.around = nn.Parameter(torch.randn(hidden, hidden, 3, 3) * math.sqrt(1.0 / (9 * hidden)))
        self.leave = nn.Parameter(torch.zeros(components, hidden))
        self.bias_enter = nn.Parameter(torch.rand(hidden) * 0.5)
        self.bias_around = nn.Parameter(torch.rand(hidden) * 0.5)

    def hidden(self, quanta: Tensor) -> Tensor:
        """What the last hidden layer holds, shape (n, hidden, y, x)."""
        whole = quanta.clamp(-_INPUT_TOP, _INPUT_TOP)
        first = _kept(torch.einsum("hk,nkyx->nhyx", rounded(self.enter), whole) + self.bias_enter[:, None, None])
        padded = nn.functional.pad(first, (0, 0, 1, 1))
        padded = nn.functional.pad(padded, (1, 1, 0, 0), mode="circular" if self.periodic else "constant")
        return _kept(nn.functional.conv2d(padded, rounded(self.around), self.bias_around))

    def forward(self, quanta: Tensor) -> Tensor:
        """The correction, in quanta."""
        return torch.einsum("kh,nhyx->nkyx", rounded(self.leave), self.hidden(quanta))

    @torch.no_grad()
    def limit(self) -> None:
        """Pull rows back whose weights could leave the exact range."""
        for weight in (self.enter, self.around, self.leave):
            total = weight.abs().flatten(1).sum(1)
            weight.mul_((_ROW_LIMIT / total.clamp(min=1e-9)).clamp(max=1.0).reshape(-1, *([1] * (weight.ndim - 1))))

    @torch.no_grad()
    def to_arrays(self) -> dict[str, np.ndarray]:
        """Weights and biases as `latentzarr.cube.correction.Correction` has them."""
        found = {}
        for name in ("enter", "around", "leave"):
            weight = torch.round(getattr(self, name).double() * _WEIGHT_ONE).flatten(1)
            found[name] = np.ascontiguousarray(weight.numpy().astype(np.int16))
        for name in ("bias_enter", "bias_around"):
            bias = torch.round(getattr(self, name).double() * _WEIGHT_ONE * _UNIT)
            found[name] = bias.numpy().astype(np.int32)
        return found


def _kept(x: Tensor) -> Tensor:
    return (floored(x * _UNIT) / _UNIT).clamp(0.0, _HIDDEN_TOP / _UNIT)
