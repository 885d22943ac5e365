"""Training: what is trained is what is exported, fitting never ends worse, and models come back from disk as they went."""

import numpy as np
import pytest

from latentzarr.bounds import ErrorBound, violations
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import CodecConfig
from latentzarr.errors import InvalidConfigError, UnsupportedDtypeError
from latentzarr.geometry import Order, PassKind
from latentzarr.models.store import default_model, find_model, shipped_model
from latentzarr.models.weights import load_model, save_model

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from latentzarr.codec.kernels import dense  # noqa: E402
from latentzarr.codec.predictor import CubicPredictor, NeuralPredictor  # noqa: E402
from latentzarr.nn.hierarchy_net import HierarchyNet, HierarchyNets  # noqa: E402
from latentzarr.training.calibrate import calibrated, count_cases  # noqa: E402
from latentzarr.training.cases import CaseSource, TrainingField  # noqa: E402
from latentzarr.training.fit import fit, fit_with_result  # noqa: E402
from latentzarr.training.loop import Progress, Schedule, train  # noqa: E402
from latentzarr.training.samples import collect  # noqa: E402
from made_models import any_model  # noqa: E402


def waves(slices: int = 10, rows: int = 48, columns: int = 56) -> np.ndarray:
    t, y, x = np.mgrid[:slices, :rows, :columns].astype(np.float64)
    rng = np.random.default_rng(3)
    field = 20 * np.sin(x / 9 + t / 5) + 15 * np.cos(y / 7 - t / 8) + rng.normal(0, 0.3, t.shape)
    return field.astype(np.float32)


def test_trained_network_is_the_exported_one_to_the_last_bit() -> None:
    """The simulated integer arithmetic in torch gives the accumulators of the compiled kernel exactly."""
    torch.manual_seed(0)
    net = HierarchyNet(25, 32, 16)
    with torch.no_grad():
        net.w3.normal_()
        net.b1.normal_()
        net.b3.normal_()
    rng = np.random.default_rng(1)
    x = rng.integers(-1000, 1000, (25, 100)).astype(np.float32)
    row = 4
    stored = net.to_integer()
    h1, h2, out = np.empty((32, 100), np.float32), np.empty((16, 100), np.float32), np.empty((2, 100), np.float32)
    arrays = [getattr(stored, n).astype(np.float32) for n in ("w1", "b1", "w2", "b2", "w3", "b3")]
    dense(x, arrays[0], arrays[1][row], 25, 32, 100, True, h1)
    dense(h1, arrays[2], arrays[3], 32, 16, 100, True, h2)
    dense(h2, arrays[4], arrays[5][row], 16, 2, 100, False, out)
    twin = HierarchyNet.from_integer(stored).double()
    simulated = twin(torch.from_numpy(x.T / 64).double(), torch.full((100,), row)).detach().numpy()
    np.testing.assert_array_equal(out.T / 16384, simulated)


@pytest.mark.parametrize("model", [default_model(), shipped_model("hierarchy-1"), any_model(Order.THREE_PASSES)], ids=str)
def test_export_and_import_are_inverse(model) -> None:
    nets = HierarchyNets.from_integer(model.networks)
    again = nets.to_integer()
    assert nets.order is again.order is model.order
    assert len(nets.mixture) == 2 * model.tables.groups, "a shape of errors for each group, without and with a reference"
    for kind in list(PassKind)[: model.order.kinds]:
        for reference in (False, True):
            was, found = model.networks.choose(kind, reference=reference), again.choose(kind, reference=reference)
            for array in ("w1", "b1", "w2", "b2", "w3", "b3"):
                np.testing.assert_array_equal(getattr(found, array), getattr(was, array))


def test_fresh_networks_are_of_order_2() -> None:
    nets = HierarchyNets.fresh(8, 16)
    assert nets.order is Order.THREE_PASSES
    assert [n.inputs for n in nets.to_integer().spatial] == [25] * 3
    assert [n.inputs for n in nets.to_integer().reference] == [39] * 3


def mean_bits(nets: HierarchyNets, source: CaseSource) -> float:
    rng = np.random.default_rng(5)
    pool = collect([source.draw(rng) for _ in range(4)], CubicPredictor(nets.order), rng)
    total, count = 0.0, 0
    for (kind, reference), s in pool.items():
        with torch.no_grad():
            out = nets.net(kind, reference)(s.inputs.float() / 64, s.bias_row)
            total += float(nets.bits(out, s.target, s.spread, s.logs, s.group, s.bias_row).sum())
        count += len(s.target)
    return total / count


def test_training_learns() -> None:
    """Fresh networks need fewer bits after 60 steps than before, on the same samples."""
    seen: list[Progress] = []
    nets = HierarchyNets.fresh(8, 8)
    source = CaseSource([TrainingField("waves", waves())], (-3.0, -2.0))
    before = mean_bits(nets, source)
    steps = train(nets, source, Schedule(600.0, cases=3, steps=20, batch=512, warmup=1.0, most_steps=60), 0, seen.append)
    assert steps == 60
    assert len(seen) == 3
    assert mean_bits(nets, source) < 0.95 * before


@pytest.mark.parametrize("model", [default_model(), shipped_model("hierarchy-1")], ids=str)
def test_calibrated_tables_price_what_was_counted_below_what_was_not(model) -> None:
    source = CaseSource([TrainingField("waves", waves())])
    rng = np.random.default_rng(0)
    counts = count_cases([source.draw(rng) for _ in range(6)], NeuralPredictor(model))
    tables = calibrated(counts)
    assert counts.sum() > 1000
    assert counts.shape == (tables.groups, 64, 64)
    assert tables.groups == model.tables.groups == 4 * model.order.kinds
    often = np.unravel_index(counts.reshape(-1, 64).argmax(), (64 * tables.groups, 64))
    assert tables.costs[often] == tables.costs[often[0]].min()


def test_cases_of_several_slices_come_in_either_order_of_slices() -> None:
    source = CaseSource([TrainingField("waves", waves())])
    rng = np.random.default_rng(0)
    cases = [source.draw(rng) for _ in range(40)]
    assert {case.dyadic for case in cases if len(case.target) > 2} == {False, True}
    pool = collect(cases[:8], CubicPredictor(Order.THREE_PASSES), rng)
    assert {kind for kind, _ in pool} == set(PassKind)
    assert {reference for _, reference in pool} == {False, True}
    assert {s.inputs.shape[1] for (_, reference), s in pool.items() if reference} == {39}
    assert any((s.inputs[:, 38] == 64).any() for (_, reference), s in pool.items() if reference), "between two slices"


def test_fit_is_never_worse_on_what_it_held_back_and_its_model_holds_the_bound(tmp_path) -> None:
    data = waves()
    result = fit_with_result(data, "1s", bound=0.2)
    assert result.bytes_after <= result.bytes_before
    assert result.gain >= 1
    path = save_model(result.model, tmp_path / "waves.safetensors")
    loaded = load_model(path)
    assert loaded == result.model
    assert loaded.card == result.model.card
    bound = ErrorBound.absolute(0.2)
    frame = encode_chunk(data, CodecConfig(bound, loaded))
    assert not violations(data, decode_chunk(frame), bound).any()


def test_fit_that_does_not_help_returns_the_model_it_started_from(monkeypatch) -> None:
    import latentzarr.training.fit as module

    sizes = iter([100, 101, 102, 103, 104])
    monkeypatch.setattr(module, "_coded_size", lambda *_: next(sizes))
    assert fit(waves(), 0.2) is default_model()


def test_a_fitted_model_is_known_to_the_process_by_its_digest() -> None:
    model = fit(waves(), "0.5s", bound="1% of range")
    assert find_model(model.digest) == model


@pytest.mark.parametrize("budget", ["soon", "-3s", 0, float("nan"), "1e99s"])
def test_budgets_that_cannot_be_meant(budget) -> None:
    with pytest.raises(InvalidConfigError, match="budget"):
        fit(waves(), budget)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (np.zeros((10, 32, 32), np.float32), InvalidConfigError),
        (np.full((10, 32, 32), np.nan, np.float32), InvalidConfigError),
        (np.zeros((5, 5), np.float32), InvalidConfigError),
        (np.zeros(7, np.float32), InvalidConfigError),
        (np.zeros((10, 32, 32), complex), UnsupportedDtypeError),
    ],
)
def test_data_that_cannot_be_learned_from(data, error) -> None:
    with pytest.raises(error):
        fit(data, 0.1)


def test_integers_and_missing_values_can_be_learned_from() -> None:
    rng = np.random.default_rng(0)
    whole = (waves() * 10 + rng.integers(0, 3, waves().shape)).astype(np.int16)
    assert fit_with_result(whole, "0.3s").gain >= 1
    holes = waves()
    holes[:, :20, :20] = np.nan
    assert fit_with_result(holes, "0.3s").gain >= 1
