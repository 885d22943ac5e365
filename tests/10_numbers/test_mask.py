"""Special values leave a chunk and come back in their places."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.mask import Plane, restore, split_special
from latentzarr.testing import DTYPES, chunks, fill_values


def native(chunk):
    flat = np.ascontiguousarray(chunk).reshape(-1)
    return flat.astype(flat.dtype.newbyteorder("="))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_split_and_restore_give_back_every_special_value(data):
    chunk = data.draw(chunks(empty=False).filter(lambda c: c.dtype.kind != "b"))
    values = native(chunk)
    fill = data.draw(fill_values(chunk))
    logarithmic = values.dtype.kind == "f" and data.draw(st.booleans())
    special = split_special(values, fill, logarithmic=logarithmic)
    assert special.bits.shape == (len([p for p in Plane if p in special.planes]), values.size)
    assert special.any_missing == bool(special.missing.any())
    if special.any_missing or special.planes:
        assert special.bits.any(1).all(), "a plane without a value costs bytes for nothing"
    kept = special.missing == 0
    if values.dtype.kind == "f":
        assert np.isfinite(values[kept]).all()
    coded = np.where(kept, np.abs(values) if logarithmic else values, values.dtype.type(7))
    back = restore(coded.astype(values.dtype), special)
    assert ((back == values) | ((back != back) & (values != values))).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_planes_are_disjoint_but_for_the_sign(dtype):
    values = np.array([np.nan, np.inf, -np.inf, -9999, 0, -0.0, -3, 3], dtype)
    special = split_special(values, -9999, logarithmic=True)
    assert special.planes == Plane(63)
    assert (special.bits[:5].sum(0) == special.missing).all()
    assert special.missing.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert special.bits[5].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert special.fill == np.array([-9999], dtype).astype(np.dtype(dtype).newbyteorder("<")).tobytes()


def test_nothing_special_costs_nothing():
    special = split_special(np.arange(5.0), -9999.0, logarithmic=False)
    assert special.planes == Plane(0)
    assert special.bits.shape == (0, 5)
    assert not special.any_missing
    assert special.fill == b""
    assert restore(np.arange(5.0), special).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, None])
def test_fill_values_without_a_number_need_no_plane_of_their_own(fill):
    special = split_special(np.array([np.nan, np.inf, 1.0]), fill, logarithmic=False)
    assert Plane.FILL not in special.planes
    assert special.missing.tolist() == [1, 1, 0]


def test_a_fill_value_of_zero_is_the_zero_plane_of_a_relative_bound():
    special = split_special(np.array([0.0, -0.0, 2.0]), 0.0, logarithmic=True)
    assert special.planes == Plane.ZERO
    assert split_special(np.array([0.0, 2.0]), 0.0, logarithmic=False).planes == Plane.FILL


def test_signs_alone_take_no_value_away():
    special = split_special(np.array([-1.0, 2.0]), None, logarithmic=True)
    assert special.planes == Plane.NEGATIVE
    assert not special.any_missing
    assert restore(np.array([1.0, 2.0]), special).tolist() == [-1, 2]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind in "fiu"], ids=str)
@pytest.mark.parametrize("fill", [1e300, -1e300, np.nan, -1, 2**63])
def test_fill_values_that_the_dtype_cannot_hold_do_no_harm(dtype, fill):
    values = np.ones(3, dtype.newbyteorder("="))
    special = split_special(values, fill, logarithmic=False)
    assert (restore(values.copy(), special) == values).all()
