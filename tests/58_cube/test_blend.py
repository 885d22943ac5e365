"""Rows made from metadata: known channels keep theirs, a level between two others is guessed well, and all travels as bytes."""

import numpy as np
import pytest

from latentzarr.cube.basis_file import read_basis
from latentzarr.cube.blend import adapted, blend_weights
from latentzarr.cube.channels import Channel, ChannelTable, LevelKind
from latentzarr.cube.fit import fit_basis

PRESSURES = (1000.0, 850.0, 700.0, 500.0, 300.0)


def made_fields(times: int) -> np.ndarray:
    """One variable whose waves tilt smoothly with height, shape (times, 5, 24, 32)."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:24, :32]
    height = -np.log(np.array(PRESSURES) / 1000.0)
    out = np.zeros((times, 5, 24, 32))
    for t in range(times):
        for _ in range(6):
            ky, kx, phase = rng.integers(0, 3), rng.integers(1, 4), rng.uniform(0, 6.3)
            wave = 2 * np.pi * (ky * y / 24 + kx * x / 32) + phase
            out[t] += np.cos(wave - 0.8 * height[:, None, None]) * (1 + height[:, None, None])
    return out


def made_table(fields: np.ndarray, which: list[int]) -> ChannelTable:
    mean, std = fields.mean((0, 2, 3)), fields.std((0, 2, 3))
    made = [Channel("t", LevelKind.PRESSURE, PRESSURES[i], mean[i], std[i], "air_temperature", "K") for i in which]
    return ChannelTable(tuple(made))


@pytest.fixture(scope="module")
def case():
    fields = made_fields(40)
    seen = [0, 1, 3, 4]
    basis = fit_basis(fields[:32, seen], made_table(fields, seen), 1, 1e-2, periodic=True)
    return fields, basis


def error_of(basis, fields: np.ndarray, present: tuple[int, ...]) -> np.ndarray:
    total = np.zeros(fields.shape[1])
    every = range(fields.shape[1])
    for field in fields:
        latents = basis.encode(field[None], present)
        found = basis.values(basis.decode(latents.common, latents.specific[0], every, *field.shape[1:]), every)
        total += (((found - field) / basis.arrays.scale[:, None, None]) ** 2).mean((1, 2))
    return total / len(fields)


def test_level_never_seen_is_coded_and_guessed(case) -> None:
    fields, basis = case
    wider = adapted(basis, made_table(fields, [0, 1, 2, 3, 4]))
    assert not wider.exact
    assert error_of(wider, fields[32:], (0, 1, 2, 3, 4))[2] < 0.2
    assert error_of(wider, fields[32:], (0, 1, 3, 4))[2] < 0.2  # not even there when encoding


def test_known_channels_keep_their_rows(case) -> None:
    fields, basis = case
    assert adapted(basis, basis.channels) == basis
    wider = adapted(basis, made_table(fields, [0, 1, 2, 3, 4]))
    for old, new in enumerate((0, 1, 3, 4)):
        np.testing.assert_array_equal(
            basis.arrays.common_rows[basis.arrays.rows_of(old)[0]], wider.arrays.common_rows[wider.arrays.rows_of(new)[0]]
        )


def test_a_subset_of_channels_is_a_base(case) -> None:
    fields, basis = case
    fewer = adapted(basis, made_table(fields, [3, 0]))
    assert len(fewer.channels) == 2
    assert read_basis(fewer.blob, fewer.digest) == fewer
    assert error_of(fewer, fields[32:, [3, 0]], (0, 1)).mean() < 0.05


def test_weights_of_a_known_channel_are_nearly_its_own(case) -> None:
    _, basis = case
    weights = blend_weights(basis.channels[1], basis.channels)
    assert weights.argmax() == 1
    assert weights[1] > 0.8
