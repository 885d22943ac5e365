"""The table of references as bytes: what comes back is what went, and foreign bytes do no harm."""

import dataclasses
import zlib

import numpy as np
import pytest
import safetensors.numpy

from latentzarr.cube import table as module
from latentzarr.cube.table import MAX_TABLE_BYTES, ReferenceTable, Role, Source, read_table
from latentzarr.errors import UntrustedModelError
from made_cubes import made_choice, made_samples


@pytest.fixture(scope="module")
def table() -> ReferenceTable:
    return made_choice(made_samples()).table


def packed(arrays) -> bytes:
    return b"LZRT\x01" + zlib.compress(safetensors.numpy.save(arrays))


def unpacked(blob) -> dict:
    return safetensors.numpy.load(zlib.decompress(blob[5:]))


def test_bytes_and_back(table) -> None:
    again = read_table(table.to_bytes())
    for field in dataclasses.fields(ReferenceTable):
        was, found = getattr(table, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(found, was)
        assert found.dtype == was.dtype
    assert again.to_bytes() == table.to_bytes()


def test_a_table_without_terms_and_bytes_and_back(table) -> None:
    empty = dataclasses.replace(table, terms=table.terms[:0], weights=table.weights[:0])
    assert read_table(empty.to_bytes()).terms.shape == (0, 6)


def test_a_term_costs_a_few_bytes(table) -> None:
    assert len(table.terms) > 20
    assert len(table.to_bytes()) < 800 + 10 * len(table.terms)


def test_terms_of_a_channel_come_with_their_weights(table) -> None:
    role = table.role_index(Role(*map(int, table.roles[-1])))
    terms, weights = table.terms_of(3, role)
    assert weights.shape == (len(terms), 4)
    assert any(term.source is Source.SAME and term.channel == 2 for term in terms)
    assert table.terms_of(0, 0)[0] == () or all(term.source is Source.STATIC for term in table.terms_of(0, 0)[0])
    assert table.role_index(Role(60, 60)) == 0


@pytest.mark.parametrize("cut", [0, 4, 5, 6, 40, -1])
def test_cut_short(table, cut) -> None:
    with pytest.raises(UntrustedModelError):
        read_table(table.to_bytes()[:cut])


def test_every_damaged_byte_is_refused_or_read_as_a_sound_table(table) -> None:
    blob = table.to_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(blob), 200).tolist():
        damaged = bytearray(blob)
        damaged[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(UntrustedModelError):
            read_table(bytes(damaged))


def test_bytes_behind_the_end(table) -> None:
    with pytest.raises(UntrustedModelError, match="behind"):
        read_table(table.to_bytes() + b"\0")


def test_a_bomb_is_not_inflated() -> None:
    bomb = b"LZRT\x01" + zlib.compress(bytes(MAX_TABLE_BYTES + 1), 9)
    assert len(bomb) < 100_000
    with pytest.raises(UntrustedModelError, match="larger"):
        read_table(bomb)


def test_no_safetensors_inside() -> None:
    for body in (b"", b"1234567", b"\xff" * 64, (10**6).to_bytes(8, "little") + bytes(100)):
        with pytest.raises(UntrustedModelError):
            read_table(b"LZRT\x01" + zlib.compress(body))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("terms", lambda a: a[:5]),
        ("terms", lambda a: a[:, :3]),
        ("terms", lambda a: a.astype(np.int32)),
        ("terms", lambda a: a[..., :-1]),
        ("weights", lambda a: a[0]),
        ("weights", lambda a: a[:, :1]),
        ("origin", lambda a: a[:-1]),
        ("step", lambda a: a * 0),
        ("step", lambda a: a * np.nan),
        ("order", lambda a: a * 0),
        ("order", lambda a: a[::-1]),
        ("roles", lambda a: a + 1),
        ("roles", lambda a: -a),
        ("shifts", lambda a: a + np.uint8(25)),
        ("shifts", lambda a: a[:, :, :3]),
        ("factor", lambda a: a + np.int32(5000)),
        ("periodic", lambda a: a + np.uint8(2)),
        ("periodic", lambda a: a.astype(np.int8)),
    ],
)
def test_arrays_that_break_an_invariant(table, name, change) -> None:
    arrays = unpacked(table.to_bytes())
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    with pytest.raises(UntrustedModelError):
        read_table(packed(arrays))


def test_missing_and_unknown_arrays(table) -> None:
    arrays = unpacked(table.to_bytes())
    with pytest.raises(UntrustedModelError, match="arrays"):
        read_table(packed({**arrays, "more": np.zeros(1)}))
    del arrays["shifts"]
    with pytest.raises(UntrustedModelError, match="arrays"):
        read_table(packed(arrays))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 4, "not there"),
        (1, 9, "not there"),
        (2, 5, "not there"),
        (3, -1, "not there"),
        (4, 3, "not there"),
        (5, 2, "not there"),
    ],
)
def test_terms_that_look_at_what_is_not_there(table, column, value, message) -> None:
    terms = table.terms.copy()
    terms[0, column] = value
    with pytest.raises(UntrustedModelError, match=message):
        dataclasses.replace(table, terms=terms)


def one_term(table, *term):
    return dataclasses.replace(table, terms=np.array([term], np.int32), weights=np.ones((1, 4), np.int16))


def test_terms_that_look_ahead(table) -> None:
    first, last = int(table.order[0]), int(table.order[-1])
    with pytest.raises(UntrustedModelError, match="later"):
        one_term(table, first, 0, Source.SAME, last, 0, 0)
    with pytest.raises(UntrustedModelError, match="time its role"):
        one_term(table, last, 0, Source.BEFORE, last, 0, 0)
    with pytest.raises(UntrustedModelError, match="no factor"):
        dataclasses.replace(one_term(table, last, 0, Source.SAME, first, 0, 1), factor=np.zeros(0, np.int32))


def test_too_many_terms_for_one_field(table, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_TERMS", 2)
    with pytest.raises(UntrustedModelError, match="too many"):
        dataclasses.replace(table)
