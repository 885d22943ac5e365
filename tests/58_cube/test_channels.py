"""Channels as values: built from a description, read back from JSON, refused when they cannot be meant, embedded smoothly."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentzarr.cube.channels import Channel, ChannelTable, LevelKind, VariableDescription
from latentzarr.cube.embedding import embedding
from latentzarr.errors import InvalidConfigError, LatentzarrError, UntrustedModelError


def made_table() -> ChannelTable:
    attributes = {"standard_name": "air_temperature", "units": "K"}
    levels = {"standard_name": "air_pressure", "units": "Pa"}
    return ChannelTable.of(
        [
            VariableDescription("t", attributes, [280.0, 250.0], [10.0, 8.0], [85000.0, 50000.0], levels, "plev"),
            VariableDescription("tp", {"units": "m"}, [0.1], [0.0]),
        ]
    )


def test_description_becomes_channels() -> None:
    table = made_table()
    assert table.variables == ("t", "tp")
    assert table.of_variable("t") == (0, 1)
    assert table[0].kind is LevelKind.PRESSURE
    assert table[0].level == 850.0  # hPa
    assert table[2].std == 1.0  # a constant variable has no spread to divide by
    assert [c.name for c in table.channels] == ["t 850 pressure", "t 500 pressure", "tp"]


@pytest.mark.parametrize(
    ("attributes", "name", "levels", "kind"),
    [
        ({"units": "hPa"}, "level", [500.0], LevelKind.PRESSURE),
        ({"units": "m", "positive": "down"}, "lev", [5.0], LevelKind.DEPTH),
        ({"units": "m"}, "height", [10.0], LevelKind.HEIGHT),
        ({"standard_name": "atmosphere_sigma_coordinate"}, "level", [0.95], LevelKind.SIGMA),
        ({"long_name": "hybrid level"}, "level", [137.0], LevelKind.MODEL),
        ({}, "band", [4.0], LevelKind.BAND),
        ({}, "depth", [4.0], LevelKind.DEPTH),
    ],
)
def test_kinds_of_levels(attributes, name, levels, kind) -> None:
    found = VariableDescription("x", {}, [0.0], [1.0], levels, attributes, name).channels()
    assert found[0].kind is kind


def test_json_both_ways() -> None:
    table = made_table()
    assert ChannelTable.from_json(table.to_json()) == table


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[0].update(std=0.0),
        lambda rows: rows[0].update(std="1"),
        lambda rows: rows[0].update(level=float("nan")),
        lambda rows: rows[0].update(mean=1e308 * 10),
        lambda rows: rows[0].update(mean=10**400),
        lambda rows: rows[0].update(kind="nowhere"),
        lambda rows: rows[0].update(kind=["none"]),
        lambda rows: rows[0].update(variable=""),
        lambda rows: rows[0].update(units="x" * 1000),
        lambda rows: rows[0].update(other=1),
        lambda rows: rows[0].pop("units"),
        lambda rows: rows.append(rows[0]),
        lambda rows: rows.clear(),
        lambda rows: rows.append("t"),
    ],
)
def test_hostile_tables_are_refused(change) -> None:
    rows = json.loads(made_table().to_json())
    change(rows)
    with pytest.raises(UntrustedModelError):
        ChannelTable.from_json(json.dumps(rows))


@pytest.mark.parametrize("text", [None, 3, "", "{}", "[", "[" * 100_000, "null", '[{"variable": 1}]', " " * 3_000_000])
def test_what_is_no_table_is_refused(text) -> None:
    with pytest.raises(UntrustedModelError):
        ChannelTable.from_json(text)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_any_json_is_a_table_or_our_error(data) -> None:
    try:
        ChannelTable.from_json(json.dumps(data))
    except LatentzarrError:
        return


def test_channels_that_cannot_be_meant() -> None:
    for bad in ({"variable": ""}, {"variable": "t", "std": 0.0}, {"variable": "t", "mean": np.inf}, {"variable": "t" * 999}):
        with pytest.raises(InvalidConfigError):
            Channel(**bad)
    with pytest.raises(InvalidConfigError):
        VariableDescription("t", {}, [0.0], [1.0], [1.0, 2.0]).channels()


def test_near_levels_are_alike_and_variables_are_not() -> None:
    def like(a: Channel, b: Channel) -> float:
        return float(embedding(a) @ embedding(b))

    t500, t480, t50 = (Channel("t", LevelKind.PRESSURE, p, 250.0, 10.0, "air_temperature", "K") for p in (500.0, 480.0, 50.0))
    u500 = Channel("u", LevelKind.PRESSURE, 500.0, 5.0, 10.0, "eastward_wind", "m s-1")
    assert like(t500, t500) == pytest.approx(1.0)
    assert like(t500, t480) > 0.95 > 0.7 > like(t500, t50)
    assert abs(like(t500, u500)) < 0.35


def test_sigma_and_pressure_share_an_axis() -> None:
    a = Channel("t", LevelKind.PRESSURE, 500.0, 0.0, 1.0, "air_temperature", "K")
    b = Channel("temp", LevelKind.SIGMA, 0.5, 0.0, 1.0, "air_temperature", "K")
    assert float(embedding(a) @ embedding(b)) == pytest.approx(1.0)
