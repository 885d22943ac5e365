"""Fine-tuning to a cube: walks beside references are the codec's own, and the result is never larger on what was held back."""

import numpy as np
import pytest

from latentzarr.cube.skeleton import SampleFields
from latentzarr.cube.walk import encode_guided
from latentzarr.errors import InvalidConfigError
from latentzarr.models.store import default_model, find_model, shipped_model
from made_cubes import made_choice, made_samples

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from latentzarr.codec.predictor import CubicPredictor, NeuralPredictor  # noqa: E402
from latentzarr.codec.prepare import prepare  # noqa: E402
from latentzarr.geometry import Order, PassKind  # noqa: E402
from latentzarr.training import cube_refine as module  # noqa: E402
from latentzarr.training import guided  # noqa: E402
from latentzarr.training.cube_refine import CubeSource, fit_refinement, size_of  # noqa: E402
from latentzarr.training.guided import CubeCases, collect_guided, walk_guided  # noqa: E402


@pytest.fixture(scope="module")
def samples() -> SampleFields:
    return made_samples()


@pytest.fixture(scope="module")
def choices(samples):
    return [made_choice(samples), made_choice(samples, coarser=4.0)]


@pytest.fixture(autouse=True)
def few_cases(monkeypatch) -> None:
    monkeypatch.setattr(module, "_COUNTED_CASES", 20)


@pytest.mark.parametrize("model", [default_model(), shipped_model("fast")], ids=str)
def test_a_walk_for_training_is_the_codecs_own(samples, choices, model, monkeypatch) -> None:
    """Quanta, classes and groups are those that the compiled walk of the cube codes."""
    chunks = []

    def remembered(*given):
        chunks.append(prepare(*given))
        return chunks[-1]

    monkeypatch.setattr(guided, "prepare", remembered)
    cases, coded = CubeCases(samples, choices, model).block(0, 0, 0, 4, 1.0, model)
    assert len(cases) == len(chunks) == 16
    assert coded > 0
    assert sum(case.seen is not None for case in cases) >= 12
    for case, chunk in list(zip(cases, chunks, strict=True))[::3]:
        walked = walk_guided(case, NeuralPredictor(model))
        candidate = encode_guided(chunk, case.seen, model)
        np.testing.assert_array_equal(walked.quanta, candidate.walk.quanta)
        np.testing.assert_array_equal(walked.classes, candidate.walk.classes)
        np.testing.assert_array_equal(walked.groups, candidate.walk.groups)
        np.testing.assert_array_equal(walked.n[-1], candidate.walk.n[-1])


def test_samples_come_with_and_without_references(samples, choices) -> None:
    rng = np.random.default_rng(0)
    source = CubeCases(samples, choices, default_model())
    cases = [source.draw(rng) for _ in range(40)]
    assert {case.seen is None for case in cases} == {True, False}
    assert all(case.price > 0 for case in cases)
    pool = collect_guided(cases, CubicPredictor(Order.THREE_PASSES), rng)
    assert set(pool) == {(kind, reference) for kind in PassKind for reference in (False, True)}
    assert {s.inputs.shape[1] for (_, reference), s in pool.items() if reference} == {39}
    assert {s.inputs.shape[1] for (_, reference), s in pool.items() if not reference} == {25}


def test_cases_are_drawn_alike_from_the_same_seed(samples, choices) -> None:
    drawn = []
    for _ in range(2):
        rng, source = np.random.default_rng(3), CubeCases(samples, choices, default_model())
        drawn.append([source.draw(rng) for _ in range(10)])
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one.target, other.target)
        assert one.price == other.price


def test_fitting_is_reproducible_and_never_larger_on_what_was_held_back(samples, choices) -> None:
    found = [fit_refinement(samples, choices, 600.0, seed=1, most_steps=12) for _ in range(2)]
    assert found[0] == found[1]
    assert find_model(found[0].digest) == found[0]
    _, held = CubeSource(samples, choices).split()
    assert np.prod(np.divide(size_of([held], found[0]), size_of([held], default_model()))) <= 1


def test_what_does_not_help_is_not_kept(samples, choices, monkeypatch) -> None:
    monkeypatch.setattr(module, "size_of", lambda _, model: [100 if model == default_model() else 101])
    assert fit_refinement(samples, choices, 600.0, most_steps=1) is default_model()


def test_times_are_held_back_of_a_single_run(samples, choices) -> None:
    one = SampleFields(samples.runs[:1], samples.statics, samples.runs[:1], samples.factor, samples.periodic)
    learn, held = CubeSource(one, choices).split()
    assert len(learn.samples.runs[0]) == len(learn.samples.bases[0]) == 4
    assert len(held.samples.runs[0]) == len(held.samples.bases[0]) == 1


def test_what_cannot_be_learned_from(samples, choices) -> None:
    with pytest.raises(InvalidConfigError, match="skeleton"):
        fit_refinement(samples, [], 1.0)
    with pytest.raises(InvalidConfigError, match="time"):
        fit_refinement(samples, choices, 0.0)
    one = SampleFields([samples.runs[0][:1]], samples.statics, None, samples.factor, samples.periodic)
    with pytest.raises(InvalidConfigError, match="one time"):
        fit_refinement(one, choices, 1.0)
