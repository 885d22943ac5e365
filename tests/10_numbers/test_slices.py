"""The order of slices: each once, none before what it looks at, and in dyadic order ever finer halves."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.slices import Visit, visits

SLICES = st.integers(1, 300)


@pytest.mark.parametrize("dyadic", [False, True])
@given(slices=SLICES)
@settings(deadline=None)
def test_every_slice_is_visited_once_after_those_it_looks_at(dyadic, slices):
    known = {-1}
    for visit in visits(slices, dyadic=dyadic):
        assert visit.slice not in known
        assert {visit.before, visit.after} <= known
        assert visit.references == len({visit.before, visit.after} - {-1})
        known.add(visit.slice)
    assert known == set(range(-1, slices))


@pytest.mark.parametrize("dyadic", [False, True])
@given(slices=SLICES)
def test_only_the_first_slice_looks_at_none(dyadic, slices):
    first, *rest = visits(slices, dyadic=dyadic)
    assert first == Visit(0)
    assert all(visit.references > 0 and visit.before >= 0 for visit in rest)
    assert all(visit.before < visit.slice for visit in rest)


@given(SLICES)
def test_in_order_each_looks_at_the_one_before_it(slices):
    assert visits(slices, dyadic=False) == tuple(Visit(t, t - 1) for t in range(slices))


@given(SLICES)
def test_in_dyadic_order_all_but_the_ends_lie_in_the_middle_of_two(slices):
    plan = visits(slices, dyadic=True)
    assert plan[1:2] == ((Visit(slices - 1, 0),) if slices > 1 else ())
    for visit in plan[2:]:
        assert visit.references == 2
        assert visit.slice == (visit.before + visit.after) // 2
        assert visit.before < visit.slice < visit.after


@given(SLICES)
def test_in_dyadic_order_gaps_are_halved_from_round_to_round(slices):
    plan = visits(slices, dyadic=True)
    round_of = {visit.slice: 0 for visit in plan[:2]}
    for visit in plan[2:]:
        round_of[visit.slice] = 1 + max(round_of[visit.before], round_of[visit.after])
        assert visit.after - visit.before <= math.ceil((slices - 1) / 2 ** (round_of[visit.slice] - 1))
    order = [(round_of[visit.slice], visit.slice) for visit in plan[2:]]
    assert order == sorted(order), "round after round, each from left to right"


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (1, [(0,)]),
        (2, [(0,), (1, 0)]),
        (3, [(0,), (2, 0), (1, 0, 2)]),
        (4, [(0,), (3, 0), (1, 0, 3), (2, 1, 3)]),
        (5, [(0,), (4, 0), (2, 0, 4), (1, 0, 2), (3, 2, 4)]),
        (8, [(0,), (7, 0), (3, 0, 7), (1, 0, 3), (5, 3, 7), (2, 1, 3), (4, 3, 5), (6, 5, 7)]),
        (
            9,
            [(0,), (8, 0), (4, 0, 8), (2, 0, 4), (6, 4, 8), (1, 0, 2), (3, 2, 4), (5, 4, 6), (7, 6, 8)],
        ),
    ],
)
def test_dyadic_order_of_a_few(slices, expected):
    assert visits(slices, dyadic=True) == tuple(Visit(*e) for e in expected)
