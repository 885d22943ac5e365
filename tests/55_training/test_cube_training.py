"""The correction of a cube: trained as floats that are whole numbers, the same in integers; each term does what it says."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from latentzarr.cube.channels import Channel, ChannelTable, LevelKind  # noqa: E402
from latentzarr.cube.correction import Correction  # noqa: E402
from latentzarr.cube.fit import fit_basis  # noqa: E402
from latentzarr.cube.mirror import mirror_matrix  # noqa: E402
from latentzarr.errors import InvalidConfigError, UntrustedModelError  # noqa: E402
from latentzarr.nn.cube_net import CorrectionNet  # noqa: E402
from latentzarr.training.cube_losses import LossWeights, SampleTeaching, alignment, distortion, mirror_error, rate  # noqa: E402
from latentzarr.training.cube_train import make_samples, train_correction  # noqa: E402


def made_fields(times: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:24, :32]
    out = np.zeros((times, 2, 24, 32))
    for t in range(times):
        for _ in range(5):
            ky, kx, phase = rng.integers(0, 4), rng.integers(1, 6), rng.uniform(0, 6.3)
            wave = 2 * np.pi * (ky * y / 24 + kx * x / 32) + phase
            out[t] += np.stack([np.sin(wave), np.cos(wave)])
    return out


@pytest.fixture(scope="module")
def case():
    fields = made_fields(24)
    names = ("eastward_wind", "geopotential")
    channels = [Channel(n, LevelKind.NONE, 0.0, 0.0, float(fields[:, i].std()), n) for i, n in enumerate(names)]
    return fit_basis(fields, ChannelTable(tuple(channels)), 1, 3e-2, periodic=True), fields


def trained_net(components: int, *, periodic: bool) -> CorrectionNet:
    torch.manual_seed(0)
    net = CorrectionNet(components, 8, periodic=periodic)
    with torch.no_grad():
        net.leave.copy_(torch.randn(net.leave.shape) * 0.3)
    net.limit()
    return net


@pytest.mark.parametrize("periodic", [True, False])
def test_integers_are_what_was_trained(periodic: bool) -> None:
    net = trained_net(5, periodic=periodic)
    quanta = np.random.default_rng(0).integers(-20, 21, (5, 4, 6))
    found = Correction(**net.to_arrays()).apply(quanta.astype(np.float64), periodic=periodic)
    wanted = net(torch.tensor(quanta[None], dtype=torch.float32))[0].detach().numpy() * 64.0
    assert (found == np.floor(found)).all()
    assert np.abs(found - wanted).max() <= 0.5 + 1e-3


def test_zero_at_first() -> None:
    net = CorrectionNet(5, 8, periodic=True)
    assert float(net(torch.ones(1, 5, 4, 6)).detach().abs().max()) == 0.0


def test_rolled_latents_give_the_rolled_correction() -> None:
    correction = Correction(**trained_net(5, periodic=True).to_arrays())
    quanta = np.random.default_rng(0).integers(-9, 10, (5, 4, 6)).astype(np.float64)
    rolled = correction.apply(np.roll(quanta, 2, 2), periodic=True)
    np.testing.assert_array_equal(rolled, np.roll(correction.apply(quanta, periodic=True), 2, 2))


def test_rolled_latents_give_the_rolled_field(case) -> None:
    basis, fields = case
    latents = basis.encode(fields[:1], (0, 1))
    common, specific = np.roll(latents.common, 1, 2), np.roll(latents.specific[0], 1, 2)
    whole = basis.decode(latents.common, latents.specific[0], (0, 1), 24, 32)
    np.testing.assert_array_equal(basis.decode(common, specific, (0, 1), 24, 32), np.roll(whole, basis.patch, 2))


def test_mirror_matrix_is_what_mirroring_does(case) -> None:
    basis, fields = case
    turned = fields[:1, :, :, ::-1] * np.array([-1.0, 1.0])[:, None, None]
    straight = basis.arrays.common_index[:, 0].argsort()
    plain = basis.encode(fields[:1], (0, 1)).common[straight]
    mirrored = basis.encode(turned, (0, 1)).common[straight]
    guessed = np.einsum("kl,lyx->kyx", mirror_matrix(basis), plain[:, :, ::-1])
    assert np.square(guessed - mirrored).mean() < 0.35 * max(np.square(mirrored).mean(), 0.5)


def test_hostile_corrections_are_refused() -> None:
    arrays = trained_net(5, periodic=True).to_arrays()
    for name, value in (
        ("enter", arrays["enter"].astype(np.int32)),
        ("around", arrays["around"][:, 1:]),
        ("leave", np.full_like(arrays["leave"], 2**15 - 1)),
        ("bias_enter", np.full_like(arrays["bias_enter"], 2**30)),
    ):
        with pytest.raises(UntrustedModelError):
            Correction(**{**arrays, name: value})


def test_training_runs_and_never_leaves_the_exact_range(case) -> None:
    basis, fields = case
    samples = make_samples(basis, fields[:16], teacher=lambda f: f.mean((1, 2)))
    held_out = make_samples(basis, fields[16:])
    weights = LossWeights(mirror=0.1, alignment=0.1, teaching=True)
    correction, progress = train_correction(basis, samples, held_out, weights, hidden=8, steps=30, every=10)
    assert correction.components == basis.arrays.common_rows.shape[1]
    assert progress[0].relative == pytest.approx(1.0)
    assert progress[-1].step == 30
    assert progress[-1].relative < 1.05


def test_training_is_repeatable(case) -> None:
    basis, fields = case
    samples = make_samples(basis, fields[:8])
    found = [train_correction(basis, samples, samples, LossWeights(), hidden=8, steps=5)[0] for _ in range(2)]
    np.testing.assert_array_equal(found[0].leave, found[1].leave)


def test_only_bases_of_single_times(case) -> None:
    basis, fields = case
    several = fit_basis(fields, basis.channels, 4, 3e-2)
    with pytest.raises(InvalidConfigError):
        make_samples(several, fields)


def test_terms_are_zero_where_nothing_is_wrong() -> None:
    quanta = torch.randn(3, 5, 4, 6).round()
    assert float(distortion(torch.zeros(2, 5, 4, 6), torch.ones(4), torch.ones(5)).sum()) == 0.0
    assert float(mirror_error(lambda x: 2.0 * x, quanta, torch.eye(5))) == 0.0
    assert float(alignment(quanta, quanta)) < 1e-10
    small, large = (rate(torch.full((1, 2, 3, 3), v), torch.ones(2)) for v in (0.0, 9.0))
    assert float(small) < float(large)


def test_samples_that_stopped_teaching_are_drawn_less() -> None:
    teaching = SampleTeaching(3)
    for step in range(20):
        teaching.seen(torch.tensor([0, 1]), torch.tensor([1.0, 0.9**step]))
    chances = teaching.chances()
    assert chances[1] > 2 * chances[0]
    assert chances[2] >= chances[1]
