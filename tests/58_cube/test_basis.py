"""The joint base: whole numbers in, whole numbers out, the same for any subset of channels, close to the field."""

import json

import numpy as np
import pytest
import safetensors.numpy

from latentzarr.cube.basis import JointBasis
from latentzarr.cube.basis_file import read_basis
from latentzarr.cube.channels import Channel, ChannelTable, LevelKind
from latentzarr.cube.fit import fit_basis
from latentzarr.cube.lapped import mirror_half
from latentzarr.errors import InvalidConfigError, ModelMismatchError, UntrustedModelError


def made_fields(times: int, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Smooth moving fields of two variables on three levels and one without levels, shape (times, 7, rows, columns)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    out = np.zeros((times, 7, rows, columns))
    for _ in range(12):
        ky, kx = rng.integers(0, 4), rng.integers(1, 6)
        phase, speed, size = rng.uniform(0, 6.3), rng.normal(), 1.0 / (1 + ky + kx)
        for t in range(times):
            wave = np.cos(2 * np.pi * (ky * y / rows + kx * x / columns) + phase + 0.3 * speed * t)
            other = np.sin(2 * np.pi * (ky * y / rows + kx * x / columns) + phase + 0.3 * speed * t)
            for c in range(3):
                out[t, c] += size * (1 + 0.2 * c) * wave
                out[t, 3 + c] += size * (1 - 0.2 * c) * other
            out[t, 6] += size * (wave + other)
    return out + 0.02 * rng.standard_normal(out.shape)


def made_table(fields: np.ndarray) -> ChannelTable:
    mean, std = fields.mean((0, 2, 3)), fields.std((0, 2, 3))
    names = [
        ("northward_wind", 850.0),
        ("northward_wind", 500.0),
        ("northward_wind", 200.0),
        ("t", 850.0),
        ("t", 500.0),
        ("t", 200.0),
        ("ps", None),
    ]
    return ChannelTable(
        tuple(
            Channel(n, LevelKind.NONE if lev is None else LevelKind.PRESSURE, lev or 0.0, float(m), float(s), n, "K")
            for (n, lev), m, s in zip(names, mean, std, strict=True)
        )
    )


@pytest.fixture(scope="module", params=[0, 1, 2])
def fitted(request) -> tuple[JointBasis, np.ndarray]:
    fields = made_fields(16, 32, 48)
    groups = [[0, 1, 2], [3, 4, 5], [6]]
    return fit_basis(fields, made_table(fields), 4, 3e-3, groups=groups, periodic=True, mirrored=request.param), fields


def decoded(basis: JointBasis, fields: np.ndarray, present: tuple[int, ...]) -> np.ndarray:
    latents = basis.encode(fields, present)
    rows, columns = fields.shape[2:]
    every = range(len(basis.channels))
    return np.stack(
        [basis.values(basis.decode(latents.common, s, every, rows, columns, t), every) for t, s in enumerate(latents.specific)]
    )


def nmse(basis: JointBasis, fields: np.ndarray, found: np.ndarray) -> np.ndarray:
    return (((found - fields) / basis.arrays.scale[:, None, None]) ** 2).mean((0, 2, 3))


def test_error_wanted_is_met_on_the_fit_data(fitted) -> None:
    basis, fields = fitted
    error = np.mean(
        [nmse(basis, fields[s : s + 4], decoded(basis, fields[s : s + 4], tuple(range(7)))).mean() for s in range(0, 16, 4)]
    )
    assert 0.8 * basis.quality < error < 1.2 * basis.quality


def test_integer_decode_is_the_float_decode_rounded(fitted) -> None:
    basis, fields = fitted
    latents = basis.encode(fields[:4], tuple(range(7)))
    a, one = basis.arrays, 2.0**-15
    modes = a.time_modes * 2.0**-14
    for t in range(4):
        common = np.zeros((a.common_rows.shape[1], *latents.common.shape[1:]))
        for (k, j), plane in zip(a.common_index, latents.common, strict=True):
            common[k] += modes[j, t] * plane * basis.step
        for channel in (0, 4, 6):
            whole, part = a.rows_of(channel)
            group = basis.group_of(channel)
            specific = latents.specific[t, basis.specific_slice(group)] * basis.step
            patches = np.einsum("sk,kyx->syx", a.common_rows[whole] * one, common)
            patches += np.einsum("sk,kyx->syx", a.specific_rows[group][part] * one, specific)
            patches = np.einsum("ms,syx->myx", a.spatial[:, : a.kept[channel]] * one, patches)
            patches = mirror_half(patches[None], int(a.mirrored[0]), odd=bool(a.odd[channel]))[0]
            p, (down, across) = basis.patch, patches.shape[1:]
            field = patches.reshape(p, p, down, across).transpose(2, 0, 3, 1).reshape(down * p, across * p)
            turn, h = a.turn * one, p // 2
            field = np.roll((np.roll(field, -h, 1).reshape(-1, p) @ turn).reshape(field.shape), h, 1)
            inner = field[h:-h].T.reshape(-1, p) @ turn
            field[h:-h] = inner.reshape(field.shape[1], -1).T
            got = basis.decode(latents.common, latents.specific[t], [channel], 32, 48, t)[0]
            assert np.abs(got - field * 1024).max() < 2.0


def test_any_subset_and_order_of_channels_decodes_the_same(fitted) -> None:
    basis, fields = fitted
    latents = basis.encode(fields[:4], tuple(range(7)))
    whole = basis.decode(latents.common, latents.specific[2], range(7), 32, 48, 2)
    for subset in ([3], [6, 0], [5, 4, 3, 2, 1, 0]):
        part = basis.decode(latents.common, latents.specific[2], subset, 32, 48, 2)
        np.testing.assert_array_equal(part, whole[subset])


def test_other_groups_and_times_are_not_looked_at(fitted) -> None:
    basis, fields = fitted
    latents = basis.encode(fields[:4], tuple(range(7)))
    wanted = basis.decode(latents.common, latents.specific[1], [4], 32, 48, 1)
    other = latents.specific[1].copy()
    keep = basis.specific_slice(basis.group_of(4))
    other[: keep.start], other[keep.stop :] = 99, -99
    np.testing.assert_array_equal(basis.decode(latents.common, other, [4], 32, 48, 1), wanted)


@pytest.mark.parametrize(("rows", "columns"), [(32, 48), (30, 45), (9, 17), (8, 8), (5, 3), (1, 1)])
def test_shapes_not_divisible_by_the_patch(fitted, rows: int, columns: int) -> None:
    basis, _ = fitted
    fields = made_fields(4, 32, 48)[:, :, :rows, :columns]
    found = decoded(basis, fields, tuple(range(7)))
    assert found.shape == fields.shape
    assert np.isfinite(found).all()
    if rows >= 8:
        assert nmse(basis, fields, found).mean() < 0.1


def test_last_block_may_be_short(fitted) -> None:
    basis, fields = fitted
    assert basis.encode(fields[:3], tuple(range(7))).specific.shape[0] == 3
    assert nmse(basis, fields[:3], decoded(basis, fields[:3], tuple(range(7)))).mean() < 3 * basis.quality


def test_missing_channel_is_recorded_and_guessed(fitted) -> None:
    basis, fields = fitted
    torn = fields[:4].copy()
    torn[:, 1] = np.nan
    latents = basis.encode(torn, (0, 2, 3, 4, 5, 6))
    assert latents.present == (0, 2, 3, 4, 5, 6)
    error = nmse(basis, fields[:4], decoded(basis, torn, latents.present))
    assert error[[0, 2, 3, 4, 5, 6]].mean() < 5 * basis.quality
    assert error[1] < 0.5  # far below climatology's 1


def test_encode_refuses_what_it_cannot_code(fitted) -> None:
    basis, fields = fitted
    torn = fields[:4].copy()
    torn[0, 1, 0, 0] = np.inf
    for bad, present in ((torn, (0, 1)), (fields[:5], (0,)), (fields[:4], ()), (fields[:4], (7,)), (fields[:4, :6], (0,))):
        with pytest.raises(InvalidConfigError):
            basis.encode(bad, present)


def test_decode_refuses_other_shapes(fitted) -> None:
    basis, fields = fitted
    latents = basis.encode(fields[:4], (0,))
    with pytest.raises(InvalidConfigError):
        basis.decode(latents.common[1:], latents.specific[0], [0], 32, 48)
    for channels, time in (([7], 0), ([0], 4), ([-1], 0)):
        with pytest.raises(InvalidConfigError):
            basis.decode(latents.common, latents.specific[0], channels, 32, 48, time)


def test_extreme_latents_stay_whole_numbers(fitted) -> None:
    basis, _ = fitted
    common = np.full((basis.common_count, 4, 6), 2**31 - 1, np.int32)
    specific = np.full((basis.specific_count, 4, 6), -(2**31), np.int32)
    assert basis.decode(common, specific, range(7), 32, 48).shape == (7, 32, 48)


def test_one_time_alone() -> None:
    fields = made_fields(6, 24, 32)
    basis = fit_basis(fields, made_table(fields), 1, 1e-2)
    error = np.mean([nmse(basis, fields[t : t + 1], decoded(basis, fields[t : t + 1], tuple(range(7)))) for t in range(6)])
    assert error < 1.3e-2


def test_same_bytes_same_digest(fitted) -> None:
    basis, _ = fitted
    again = read_basis(basis.blob, expected=basis.digest)
    assert again == basis
    assert again.channels == basis.channels
    with pytest.raises(ModelMismatchError):
        read_basis(basis.blob, expected="sha256:" + "0" * 64)


@pytest.mark.parametrize("cut", [0, 3, 8, 100, 5000])
def test_truncated_files_are_refused(fitted, cut: int) -> None:
    with pytest.raises(UntrustedModelError):
        read_basis(fitted[0].blob[:cut])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("turn", lambda a: a[:-1]),
        ("kept", lambda a: a * 0),
        ("kept", lambda a: a + 1000),
        ("group", lambda a: a + 1),
        ("group", lambda a: a - 7),
        ("common_index", lambda a: a + 1000),
        ("common_index", lambda a: a * 0),
        ("common_rows", lambda a: a.astype(np.int32)),
        ("common_variance", lambda a: a * np.nan),
        ("common_variance", lambda a: a[:-1]),
        ("specific_rows.1", lambda a: a[1:]),
        ("specific_variance.0", lambda a: -a),
        ("scale", lambda a: a * 0),
        ("mean", lambda a: a + np.inf),
        ("odd", lambda a: a + 2),
        ("mirrored", lambda a: a + 3),
        ("step", lambda a: a * 0),
        ("step", lambda a: a + np.array([0, 1000], np.int32)),
        ("spatial", lambda a: a[0]),
        ("time_modes", lambda a: np.zeros((100, 100), np.int16)),
    ],
)
def test_hostile_arrays_are_refused(fitted, name: str, change) -> None:
    blob = fitted[0].blob
    arrays = safetensors.numpy.load(blob)
    size = int.from_bytes(blob[:8], "little")
    metadata = json.loads(blob[8 : 8 + size])["__metadata__"]
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    with pytest.raises(UntrustedModelError):
        read_basis(safetensors.numpy.save(arrays, metadata=metadata))
    del arrays[name]
    with pytest.raises(UntrustedModelError):
        read_basis(safetensors.numpy.save(arrays, metadata=metadata))
