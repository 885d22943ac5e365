"""The code of latents gives back what it was given, and refuses what is not its own."""

import numpy as np
import pytest

from latentzarr.cube.latent_code import decode_latents, encode_latents
from latentzarr.errors import FormatError, InvalidConfigError


def made_latents(times: int = 3, planes: int = 12, rows: int = 6, columns: int = 9) -> np.ndarray:
    rng = np.random.default_rng(1)
    spread = 8.0 * 0.7 ** np.arange(planes)[:, None, None] * np.exp(rng.normal(size=(rows, columns)))
    return np.rint(rng.laplace(size=(times, planes, rows, columns)) * spread).astype(np.int32)


@pytest.mark.parametrize("shape", [(3, 12, 6, 9), (1, 1, 1, 1), (1, 40, 1, 3), (2, 2, 5, 1)])
def test_round_trip(shape) -> None:
    latents = made_latents(*shape)
    np.testing.assert_array_equal(decode_latents(encode_latents(latents), shape), latents)


def test_large_values_and_none() -> None:
    latents = np.array([2**26 - 1, -(2**26) + 1, 0, 1], np.int64).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(decode_latents(encode_latents(latents), (1, 1, 2, 2)), latents)
    assert decode_latents(encode_latents(np.zeros((2, 0, 3, 3), np.int16)), (2, 0, 3, 3)).size == 0


def test_zeros_cost_next_to_nothing() -> None:
    assert len(encode_latents(np.zeros((8, 100, 12, 24), np.int16))) < 600


def test_other_arrays_are_refused() -> None:
    for bad in (np.zeros((2, 2), np.int16), np.zeros((1, 1, 1, 1)), np.full((1, 1, 1, 1), 2**26)):
        with pytest.raises(InvalidConfigError):
            encode_latents(bad)


def test_truncated_and_longer_codes_are_refused() -> None:
    latents = made_latents()
    code = encode_latents(latents)
    for bad in (code[:-6], code[: len(code) // 2], b"", code + b"\0" * 5):
        with pytest.raises(FormatError):
            decode_latents(bad, latents.shape)


def test_any_bytes_end() -> None:
    rng = np.random.default_rng(3)
    for size in (0, 1, 5, 300):
        try:
            decode_latents(rng.integers(0, 256, size, np.uint8).tobytes(), (1, 4, 5, 6))
        except FormatError:
            continue
