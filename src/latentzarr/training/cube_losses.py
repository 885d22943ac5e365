"""What training a cube's correction asks for, one term a function; a term is used only where its weight is not zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LossWeights", "SampleTeaching", "alignment", "distortion", "mirror_error", "rate"]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each term counts beside the distortion; 0 leaves it out.

    Attributes
    ----------
    rate : float
        Squared quanta a bit is worth; used where the encoder is trained as well.
    mirror : float
        Equivariance: the correction of mirrored latents is the mirrored correction.
    alignment : float
        Likeness of samples to each other, as a teacher sees it.
    teaching : bool
        Dynamic sample weights.
    """

    rate: float = 0.0
    mirror: float = 0.0
    alignment: float = 0.0
    teaching: bool = False


def distortion(error: Tensor, area: Tensor, weight: Tensor) -> Tensor:
    """Squared error of each sample, by area and by component.

    Parameters
    ----------
    error : (n, components, y, x), quanta
    area : (y,), mean 1
    weight : (components,), what an error of the component costs over its channels

    Returns
    -------
    (n,)
    """
    return (error.square() * weight[:, None, None] * area[:, None]).mean((1, 2, 3))


def rate(values: Tensor, spread: Tensor) -> Tensor:
    """Bits a latent, (n,), under a logistic of ``spread``; values (n, components, y, x) noised, not rounded."""
    half, width = 0.5, spread[:, None, None]
    size = values.abs()
    mass = torch.sigmoid((half - size) / width) - torch.sigmoid((-half - size) / width)
    return -torch.log2(mass.clamp_min(1e-9)).mean((1, 2, 3))


def mirror_error(net: Callable[[Tensor], Tensor], quanta: Tensor, mirror: Tensor) -> Tensor:
    """Mean square difference between correcting what is mirrored east to west and mirroring what is corrected.

    ``mirror``: (components, components), components of the mirrored field from those of the field at the mirrored place.
    """

    def mirrored(x: Tensor) -> Tensor:
        return torch.einsum("kl,nlyx->nkyx", mirror, x.flip(-1))

    return (net(torch.round(mirrored(quanta))) - mirrored(net(quanta))).square().mean()


def alignment(hidden: Tensor, teacher: Tensor) -> Tensor:
    """How differently two sets of features see which samples are alike: (n, ...) and (n, features), any sizes."""

    def likeness(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        flat = torch.nn.functional.normalize(flat - flat.mean(0), dim=1)
        return flat @ flat.T

    return (likeness(hidden) - likeness(teacher)).square().mean()


class SampleTeaching:
    """Dynamic sample weights: samples whose loss no longer falls are drawn less often."""

    def __init__(self, samples: int, least: float = 0.25) -> None:
        self.fast = torch.full((samples,), float("nan"))
        self.slow = torch.full((samples,), float("nan"))
        self.least = least

    def chances(self) -> Tensor:
        """Of drawing each sample, (samples,); a sample never seen counts as the one that teaches most."""
        progress = ((self.slow - self.fast) / self.slow.clamp_min(1e-12)).clamp_min(0.0)
        top = progress.nan_to_num(0.0).max().clamp_min(1e-9)
        share = self.least + (1 - self.least) * (progress / top).nan_to_num(1.0)
        return share / share.sum()

    def seen(self, which: Tensor, losses: Tensor) -> None:
        """Remember what samples cost at this step."""
        found = losses.detach()
        for memory, pace in ((self.fast, 0.5), (self.slow, 0.1)):
            old = memory[which]
            memory[which] = torch.where(old.isnan(), found, old + pace * (found - old))
