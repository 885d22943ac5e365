"""Bit planes: exact, cheap where nothing moves, and unable to run away on foreign bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentzarr.bitstream.planes import decode_planes, encode_planes
from latentzarr.errors import CorruptFrameError


def disjoint(planes):
    """A pixel set in an earlier plane is not set in later ones."""
    planes = planes.copy()
    for p in range(1, len(planes)):
        planes[p] &= 1 - planes[:p].max(0)
    return planes


def make(seed, shape, density, repeated):
    rng = np.random.default_rng(seed)
    planes = (rng.random(shape) < density).astype(np.uint8)
    if repeated:
        planes[:] = planes[:, :1]
        planes[:, rng.integers(0, shape[1]) :] ^= rng.random() < 0.5
    return disjoint(planes)


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.99, 1.0]),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_round_trip(seed, shape, density, repeated):
    planes = make(seed, shape, density, repeated)
    data = encode_planes(planes)
    assert (decode_planes(data, shape) == planes).all()
    assert encode_planes(planes) == data


@pytest.mark.parametrize("shape", [(1, 3000, 1, 1), (6, 500, 1, 1), (6, 500, 1, 2), (2, 1, 1, 3000), (2, 1, 3000, 1)])
@pytest.mark.parametrize("kind", ["noise", "alternating", "bursts"])
def test_odd_shapes_with_the_worst_patterns(shape, kind):
    rng = np.random.default_rng(0)
    planes = np.zeros(shape, np.uint8)
    flat = planes.reshape(shape[0], -1)
    if kind == "noise":
        flat[:] = rng.integers(0, 2, flat.shape)
    elif kind == "alternating":
        flat[:, ::2] = 1
    else:  # long quiet, then a surprise: the dearest decisions an adaptive coder can be asked for
        flat[:, ::61] = 1
    planes = disjoint(planes)
    data = encode_planes(planes)
    assert len(data) <= 2 * planes.size + 16
    assert (decode_planes(data, shape) == planes).all()


def test_a_static_mask_costs_next_to_nothing_after_the_first_slice():
    y, x = np.mgrid[:128, :128]
    land = (((y - 60) ** 2 + (x - 50) ** 2) < 40**2).astype(np.uint8)
    one, many = (len(encode_planes(np.broadcast_to(land, (1, t, 128, 128)).copy())) for t in (1, 64))
    assert one < 200
    assert many - one < 24


def test_bytes_that_end_early_are_noticed():
    planes = make(1, (2, 3, 40, 40), 0.5, repeated=False)
    data = encode_planes(planes)
    with pytest.raises(CorruptFrameError):
        decode_planes(data[: len(data) // 2], planes.shape)


@given(st.binary(max_size=200), st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)))
@settings(deadline=None, max_examples=200)
def test_any_bytes_give_disjoint_bits_or_an_error(data, shape):
    try:
        planes = decode_planes(data, shape)
    except CorruptFrameError:
        return
    assert planes.shape == shape
    assert planes.max(initial=0) <= 1
    assert planes.sum(0).max(initial=0) <= 1 or (planes[:, 1:] == planes[:, :-1]).any(), "a repeated slice may overlap"
