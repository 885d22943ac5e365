"""Training of a cube's nonlinear part: a correction on top of the closed-form base, zero at first, so it can only get better.

The base is not touched. Samples are the components of fields before and after quantisation; the network learns what the latents
around a place say about what quantisation dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentzarr.cube.analysis import analyse, spatial_modes
from latentzarr.cube.basis import JointBasis
from latentzarr.cube.correction import Correction
from latentzarr.cube.mirror import mirror_matrix
from latentzarr.errors import InvalidConfigError
from latentzarr.nn.cube_net import CorrectionNet
from latentzarr.training.cube_losses import LossWeights, SampleTeaching, alignment, distortion, mirror_error

__all__ = ["CubeSamples", "Progress", "make_samples", "train_correction"]

Floats = npt.NDArray[np.float64]
Teacher = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class CubeSamples:
    """Components of single times in quanta.

    Attributes
    ----------
    true : float32 tensor, shape (n, components, y, x)
    coded : float32 tensor of the same shape, whole numbers
    area : float32 tensor, shape (y,), mean 1
    weight : float32 tensor, shape (components,)
    lessons : float32 tensor, shape (n, features), or None
        What a teacher says of each sample.
    """

    true: Tensor
    coded: Tensor
    area: Tensor
    weight: Tensor
    lessons: Tensor | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stood: step, seconds, mean distortion on held-out samples over that of the base alone, mirror error."""

    step: int
    seconds: float
    relative: float
    mirror: float


def make_samples(
    basis: JointBasis,
    fields: npt.NDArray[np.floating],
    latitude_weights: Floats | None = None,
    channel_weights: Floats | None = None,
    teacher: Teacher | None = None,
) -> CubeSamples:
    """Samples of a base with a block of one time.

    Parameters
    ----------
    fields : float array, shape (times, channels, rows, columns)
    latitude_weights : float64 array, shape (rows,), optional
    channel_weights : float64 array, shape (channels,), optional
        What a squared error of a channel costs, mean 1; spread over components by the share each channel has in them.
    teacher : callable, optional
        From fields of shape (channels, rows, columns) to features of shape (features,).

    Raises
    ------
    InvalidConfigError
        If the base codes several times together.
    """
    if basis.block != 1:
        raise InvalidConfigError(f"a correction is trained for a base with blocks of one time, this one has {basis.block}")
    arrays, every = basis.arrays, tuple(range(len(basis.channels)))
    rows = arrays.common_rows.astype(np.float64) * 2.0**-15
    true, coded = [], []
    for field in fields:
        one = field[None].astype(np.float64)
        modes = spatial_modes(arrays, one, every, periodic=basis.periodic)[0]
        true.append(np.einsum("dk,dyx->kyx", rows, modes, optimize=True) / basis.step)
        coded.append(analyse(arrays, one, every, latitude_weights, exact=basis.exact, periodic=basis.periodic).common)
    patch, down = basis.patch, true[0].shape[1]
    area = np.ones(fields.shape[2]) if latitude_weights is None else np.asarray(latitude_weights, np.float64)
    area = np.pad(area, (0, down * patch - len(area)), mode="edge").reshape(down, patch).mean(1)
    owner = np.repeat(np.ones(len(every)) if channel_weights is None else np.asarray(channel_weights, np.float64), arrays.kept)
    order = np.argsort(arrays.common_index[:, 0])
    lessons = None if teacher is None else torch.tensor(np.stack([teacher(f) for f in fields]), dtype=torch.float32)
    return CubeSamples(
        torch.tensor(np.stack(true), dtype=torch.float32),
        torch.tensor(np.stack(coded)[:, order], dtype=torch.float32),
        torch.tensor(area / area.mean(), dtype=torch.float32),
        torch.tensor(owner @ rows**2, dtype=torch.float32),
        lessons,
    )


def train_correction(
    basis: JointBasis,
    samples: CubeSamples,
    held_out: CubeSamples,
    weights: LossWeights,
    *,
    hidden: int = 64,
    steps: int = 1000,
    seconds: float = 180.0,
    batch: int = 8,
    rate: float = 2e-3,
    seed: int = 0,
    every: int = 50,
) -> tuple[Correction, list[Progress]]:
    """Train until steps or seconds are used up.

    Returns
    -------
    correction : Correction
    progress : list of Progress
        Every ``every`` steps and at the end.
    """
    torch.manual_seed(seed)
    net = CorrectionNet(samples.true.shape[1], hidden, periodic=basis.periodic)
    mirror = torch.tensor(mirror_matrix(basis), dtype=torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: max(1.0 - s / steps, 0.02))
    teaching = SampleTeaching(len(samples.true))
    even = torch.full((len(samples.true),), 1.0 / len(samples.true))
    start, progress = time.monotonic(), [_measured(net, held_out, mirror, 0, 0.0)]
    for step in range(1, steps + 1):
        which = torch.multinomial(teaching.chances() if weights.teaching else even, min(batch, len(even)), replacement=False)
        coded = samples.coded[which]
        losses = distortion(samples.true[which] - coded - net(coded), samples.area, samples.weight)
        loss = losses.mean()
        teaching.seen(which, losses)
        if weights.mirror:
            loss = loss + weights.mirror * mirror_error(net, coded, mirror)
        if weights.alignment and samples.lessons is not None:
            loss = loss + weights.alignment * alignment(net.hidden(coded).mean((2, 3)), samples.lessons[which])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        net.limit()
        late = time.monotonic() - start > seconds
        if step % every == 0 or step == steps or late:
            progress.append(_measured(net, held_out, mirror, step, time.monotonic() - start))
        if late:
            break
    return Correction(**net.to_arrays()), progress


def _measured(net: CorrectionNet, held_out: CubeSamples, mirror: Tensor, step: int, seconds: float) -> Progress:
    with torch.no_grad():
        error = held_out.true - held_out.coded
        before = distortion(error, held_out.area, held_out.weight).mean()
        after = distortion(error - net(held_out.coded), held_out.area, held_out.weight).mean()
        turned = mirror_error(net, held_out.coded[:4], mirror)
        size = net(held_out.coded[:4]).square().mean().clamp_min(1e-12)
    return Progress(step, round(seconds, 1), float(after / before), float(turned / size) if step else 0.0)
