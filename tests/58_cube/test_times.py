"""The order of the times of a block: each once, none before what it looks at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentzarr.cube.table import Role
from latentzarr.cube.times import LONGEST_BLOCK, block_visits, needed_times, role_of, roles_of
from latentzarr.errors import InvalidConfigError

times = st.integers(1, LONGEST_BLOCK)
strides = st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64, 128])


@given(times=times, stride=strides)
def test_every_time_once_and_none_before_those_it_looks_at(times, stride):
    visits = block_visits(times, stride)
    assert sorted(v.slice for v in visits) == list(range(times))
    known = set()
    for visit in visits:
        assert {t for t in (visit.before, visit.after) if t >= 0} <= known
        assert visit.before < visit.slice
        assert visit.after < 0 or visit.after > visit.slice > visit.before >= 0
        assert stride or visit.references == 0
        known.add(visit.slice)
    assert visits[0].references == 0


@given(times=times, stride=strides, data=st.data())
def test_what_some_times_need_is_closed_in_order_and_no_more(times, stride, data):
    wanted = data.draw(st.sets(st.integers(0, times - 1)))
    needed = needed_times(times, stride, wanted)
    visits = block_visits(times, stride)
    assert [v for v in visits if v in needed] == list(needed)
    found = {v.slice for v in needed}
    assert wanted <= found
    looked_at = {t for v in needed for t in (v.before, v.after) if t >= 0}
    assert found == wanted | looked_at


def test_blocks_as_documented():
    assert [(v.slice, v.before, v.after) for v in block_visits(8, 4)] == [
        (0, -1, -1), (4, 0, -1), (2, 0, 4), (1, 0, 2), (3, 2, 4), (6, 4, -1), (5, 4, 6), (7, 6, -1),
    ]  # fmt: skip
    assert [(v.slice, v.before) for v in block_visits(3, 1)] == [(0, -1), (1, 0), (2, 1)]
    assert all(v.references == 0 for v in block_visits(5, 0))


@given(times=times, stride=strides)
def test_roles_are_those_of_the_visits(times, stride):
    roles = roles_of(times, stride)
    assert roles[0] == Role()
    assert set(roles) == {role_of(v) for v in block_visits(times, stride)}
    assert len(set(roles)) == len(roles)


@pytest.mark.parametrize(("times", "stride"), [(0, 0), (LONGEST_BLOCK + 1, 0), (4, 3), (4, -1), (-1, 1)])
def test_what_no_block_can_be(times, stride):
    with pytest.raises(InvalidConfigError):
        block_visits(times, stride)
