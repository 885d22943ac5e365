"""Packing: the lattice of packed data is found as it was made, and nothing is found in data that lie on none."""

import numpy as np
import pytest

from latentzarr.bounds import ErrorBound, violations
from latentzarr.codec.chunk import decode_chunk, encode_chunk
from latentzarr.codec.config import CodecConfig
from latentzarr.packing import find_packing


def smooth(size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return 1000 * np.sin(x / 20) + 700 * np.cos(y / 13)


@pytest.mark.parametrize(("spacing", "origin"), [(0.1, 200.0), (2.0**-3, -7.0), (1.0, 0.0), (0.01, 273.15), (1e-4, 1e-3)])
def test_the_lattice_is_found(spacing, origin) -> None:
    values = (origin + spacing * np.rint(smooth())).astype(np.float32).astype(np.float64)
    found = find_packing(values.ravel(), spacing / 4)
    assert found is not None
    assert found.spacing == pytest.approx(spacing, rel=1e-4)
    assert found.deviation <= 0.02 * spacing


def test_nothing_is_found_in_noise_or_constants() -> None:
    rng = np.random.default_rng(0)
    assert find_packing(rng.normal(size=5000), 0.0) is None
    assert find_packing(np.full(100, 3.5), 0.0) is None
    assert find_packing(rng.normal(size=5000), 0.1) is None


def test_lossless_packed_floats_cost_far_less_than_their_bits() -> None:
    """Floats on a power-of-two lattice come back bit for bit from the hierarchy."""
    values = (250 + 2.0**-4 * np.rint(smooth())).astype(np.float32)
    frame = encode_chunk(values, CodecConfig(ErrorBound.lossless()))
    assert decode_chunk(frame).tobytes() == values.tobytes()
    assert len(frame) < values.nbytes / 4


@pytest.mark.parametrize("share", [0.3, 1.0, 1.5, 2.2, 3.7])
def test_bounds_hold_where_quanta_sit_on_the_lattice(share) -> None:
    values = (0.1 * np.rint(smooth())).astype(np.float32)
    bound = ErrorBound.absolute(0.1 * share)
    decoded = decode_chunk(encode_chunk(values, CodecConfig(bound)))
    assert not violations(values, decoded, bound).any()
