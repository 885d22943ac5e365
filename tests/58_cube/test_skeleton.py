"""Fitting the skeleton: weights that are known come out, and what is left away is not worth its bytes."""

import numpy as np
import pytest

from latentzarr.cube import skeleton as module
from latentzarr.cube.prune import pruned, whole_weights
from latentzarr.cube.skeleton import SampleFields, entropy, estimated_bits, gather_moments, solve
from latentzarr.cube.synthesis import Stencil
from latentzarr.cube.table import Role, Source, Term
from made_cubes import PLACES, made_choice, made_samples, scaled

SAME = Term(Source.SAME, 2, Stencil())
STATIC = Term(Source.STATIC, 3, Stencil())


def test_known_weights_come_out() -> None:
    """The fourth channel is half the third and a static field: least squares says so, but for the noise of the bound."""
    samples = made_samples()
    moments = gather_moments(samples, Role())
    fit = solve(moments, 3, [SAME, STATIC])
    np.testing.assert_allclose(fit.weights[:, 0], [0.5, 1.0], atol=0.05)
    assert fit.bits < solve(moments, 3, [SAME]).bits < solve(moments, 3, []).bits
    assert estimated_bits([fit, fit]) == 2 * fit.bits


def test_fitting_is_deterministic_and_memory_changes_nothing() -> None:
    samples, memory = made_samples(), {}
    for role in (Role(), Role(1, 0), Role(2, 2)):
        alone, shared = gather_moments(samples, role), gather_moments(samples, role, memory=memory)
        for a, b in ((alone.gram, shared.gram), (alone.cross, shared.cross), (alone.energy, shared.energy)):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
    assert memory


def test_a_role_no_run_is_long_enough_for() -> None:
    samples = made_samples(times=3)
    assert gather_moments(samples, Role(3, 0)) is None
    assert gather_moments(samples, Role(1, 1)) is not None


def test_the_gram_of_terms_that_can_be_chosen_together_is_positive() -> None:
    samples = made_samples()
    moments = gather_moments(samples, Role(1, 1))
    terms = [t for t in moments.terms if t.source in (Source.SAME, Source.STATIC) or t.channel == 2]
    for level in range(4):
        gram, cross, energy = moments.form(terms, 2, level)
        assert np.linalg.eigvalsh(gram).min() > -1e-3 * np.diag(gram).max()
        assert (cross**2 <= 1.01 * np.diag(gram) * energy).all()


def test_large_fields_are_looked_at_in_windows(monkeypatch) -> None:
    samples = made_samples(rows=96, columns=96, times=2)
    whole = solve(gather_moments(samples, Role()), 3, [SAME, STATIC])
    monkeypatch.setattr(module, "_MOST_VALUES", 1200)
    monkeypatch.setattr(module, "_FEWEST_VALUES", 1200)
    moments = gather_moments(samples, Role())
    assert moments.counts[0] <= 6 * 1300
    np.testing.assert_allclose(solve(moments, 3, [SAME, STATIC]).weights[:, 0], whole.weights[:, 0], atol=0.05)


def test_small_grids_and_no_statics() -> None:
    samples = made_samples(rows=6, columns=9)
    moments = gather_moments(SampleFields(samples.runs, None, None, None, False), Role(1, 0))
    assert len(moments.gram) == len(moments.counts) == 4
    assert all(np.isfinite(solve(moments, 3, [SAME]).weights).all() for _ in range(2))


def test_entropy_grows_with_variance() -> None:
    bits = entropy(np.array([0.0, 1.0, 100.0, 1e6]))
    assert bits[0] == 0
    assert (np.diff(bits) > 0).all()


@pytest.mark.parametrize("fields", [0.001, 1.0, 1000.0])
def test_pruning_keeps_what_is_worth_its_bytes(fields) -> None:
    moments = gather_moments(made_samples(), Role())
    everything = [t for t in moments.terms if t.source is Source.STATIC or t.channel != 3]
    full = solve(moments, 3, everything)
    fit = pruned(full, moments, 3, fields)
    assert set(fit.terms) <= set(full.terms)
    assert len(fit.terms) < len(full.terms) or fields == 1000.0
    if fields == 0.001:
        assert fit.terms == ()
    else:
        assert {SAME, STATIC} <= set(fit.terms)
        assert fit.bits < full.bits + 0.1
    stored = whole_weights(fit, moments, 3, fields)
    used = stored.whole * 2.0 ** -stored.shifts.astype(float)
    assert stored.whole.shape == (len(fit.terms), 4)
    np.testing.assert_allclose(used[:, 0], fit.weights[:, 0], atol=0.1)


def test_more_fields_are_served_by_finer_weights() -> None:
    moments = gather_moments(made_samples(), Role())
    fit = solve(moments, 3, [SAME, STATIC])
    few, many = (whole_weights(fit, moments, 3, n) for n in (1.0, 1e6))
    assert (many.shifts >= few.shifts).all()
    assert many.shifts[0] > few.shifts[0]


def test_a_choice_is_a_sound_table_with_what_it_should_look_at() -> None:
    samples = made_samples()
    choice = made_choice(samples)
    assert choice.links[1] == (0,)
    assert choice.statics[3]
    again = made_choice(samples)
    assert again.table.to_bytes() == choice.table.to_bytes()
    assert len(made_choice(samples, times=4).table.terms) < len(choice.table.terms)
    assert len(PLACES) == choice.table.channels


def test_scaled_samples_have_other_bounds() -> None:
    samples = made_samples()
    moments = [gather_moments(scaled(samples, f), Role()) for f in (1.0, 0.01)]
    bits = [solve(m, 3, [SAME, STATIC]).bits for m in moments]
    assert bits[1] < bits[0]
