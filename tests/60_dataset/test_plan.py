"""A plan says what would happen to each variable, why, and what a trial gave; it touches no more data than it must."""

import json
import math

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import latentzarr
from latentzarr.bounds import BoundKind
from latentzarr.dataset.blocks import default_chunks, default_shards, regions
from latentzarr.dataset.example import example_bounds, example_dataset
from latentzarr.dataset.plan import plan
from latentzarr.errors import InvalidBoundError, InvalidConfigError, UnsupportedDtypeError, VariableNotFoundError


@pytest.fixture(scope="module")
def weather():
    return example_dataset(4, 64, 96)


def test_only_what_is_asked_for_is_lossy(weather):
    made = plan(weather, {"t": 0.1}, trial_chunks=0)
    assert made["t"].lossy
    assert [v.name for v in made if v.lossy] == ["t"]
    assert made["cloud"].reason == "mask or flags"
    assert made["latitude"].reason == "coordinate"
    assert made["u"].bound is None


def test_bounds_are_read_as_people_write_them(weather):
    made = plan(weather, {**example_bounds(), "cloud": "lossless"}, trial_chunks=0)
    assert made["t"].bound == latentzarr.ErrorBound.absolute(0.1)
    assert made["q"].bound == latentzarr.ErrorBound.relative(0.02)
    assert made["cloud"].bound == latentzarr.ErrorBound.lossless()
    assert not made["cloud"].lossy
    u = weather.u.values.astype(float)
    assert made["u"].bound.kind is BoundKind.ABSOLUTE
    assert made["u"].bound.value == pytest.approx(0.01 * (u.max() - u.min()))
    assert made["u"].words == "1 % of range"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_range_skips_nan_and_infinities(chunked):
    x = np.linspace(-1, 3, 400, dtype="f4").reshape(20, 20)
    x[0, :5], x[1, 1], x[2, 2] = np.nan, np.inf, -np.inf
    ds = xr.Dataset({"x": (("a", "b"), x)})
    made = plan(ds.chunk(a=7) if chunked else ds, {"x": "1%"}, trial_chunks=0)
    finite = x[np.isfinite(x)].astype(float)
    assert made["x"].bound.value == pytest.approx(0.01 * (finite.max() - finite.min()))


def test_a_constant_or_empty_variable_has_no_range_and_stays_exact():
    ds = xr.Dataset(
        {"c": (("a", "b"), np.full((9, 9), 5.0)), "n": (("a", "b"), np.full((9, 9), np.nan)), "e": ("z", np.zeros(0))}
    )
    made = plan(ds, {"c": "1%", "n": "1%", "e": "1%"})
    assert {made[n].bound.kind for n in "cne"} == {BoundKind.LOSSLESS}


def test_a_trial_gives_ratio_time_and_error(weather):
    trial = plan(weather, {"t": 0.1}, trial_chunks=2)["t"].trials[0]
    assert trial.ratio > 2
    assert 0 < trial.max_abs_error <= 0.1
    assert trial.seconds > 0
    assert sum(trial.modes.values()) >= 1


def test_without_bounds_two_are_proposed_for_floating_point_variables_only(weather):
    made = plan(weather, trial_chunks=1)
    assert [t.words for t in made["t"].trials] == ["1 % of range", "0.1 % of range"]
    assert made["t"].bound is None
    assert not made["cloud"].trials
    assert not made["latitude"].trials
    assert "--bound t=" in str(made)
    assert "<table>" in made._repr_html_()
    assert json.loads(made.to_json())["variables"][0]["name"] == "t"


def test_a_bound_below_the_resolution_says_so():
    x = np.linspace(1e5, 1e5 + 1, 6000, dtype="f4").reshape(60, 100)
    made = plan(xr.Dataset({"p": (("y", "x"), x)}), {"p": 1e-4})
    assert "below the resolution" in made["p"].reason
    assert made["p"].trials[0].max_abs_error == 0


def test_an_unknown_variable_lists_those_present(weather):
    with pytest.raises(VariableNotFoundError, match=r"'tt'.*t, u, q, sst, cloud"):
        plan(weather, {"tt": 0.1})


@pytest.mark.parametrize(
    "values",
    [np.zeros((3, 3), complex), np.array([["a", "b"]]), np.zeros((2, 2), "M8[ns]"), np.array([[None, 1]], object)],
    ids=["complex", "text", "dates", "objects"],
)
def test_what_cannot_be_coded_is_refused_by_name(values):
    with pytest.raises(UnsupportedDtypeError, match=r"^thing: "):
        plan(xr.Dataset({"thing": (("a", "b"), values)}), {"thing": 0.1})


def test_integers_take_an_absolute_bound_only(weather):
    assert plan(weather, {"cloud": 1}, trial_chunks=0)["cloud"].bound.value == 1
    with pytest.raises(UnsupportedDtypeError, match="cloud"):
        plan(weather, {"cloud": "1% relative"})


@pytest.mark.parametrize("bad", ["0.1 m", "five", 0, -1, math.nan, "101% relative"])
def test_bounds_that_cannot_be_meant(weather, bad):
    with pytest.raises(InvalidBoundError, match=r"^t: "):
        plan(weather, {"t": bad})


def test_a_lossy_coordinate_is_refused(weather):
    with pytest.raises(InvalidConfigError, match="coordinate"):
        plan(weather, {"latitude": 0.1})
    assert plan(weather, {"latitude": "lossless"}, trial_chunks=0)["latitude"].bound is not None


def test_sizes_can_be_given_by_dimension(weather):
    made = plan(
        weather,
        {"t": 0.1},
        chunks={"time": 2, "latitude": 32},
        shards={"time": -1, "latitude": 64, "longitude": -1},
        trial_chunks=0,
    )
    assert made["t"].chunks == (2, 32, 96)
    assert made["t"].shards == (4, 64, 96)


@pytest.mark.parametrize(
    ("chunks", "shards"), [({"time": 0}, None), ({"tme": 1}, None), ({"time": 2}, {"time": 3}), ({"time": 1.5}, None)]
)
def test_sizes_that_do_not_fit_are_refused(weather, chunks, shards):
    with pytest.raises(InvalidConfigError):
        plan(weather, {"t": 0.1}, chunks=chunks, shards=shards)


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((1460, 721, 1440), None), ((1460, 37, 721, 1440), (1, 37, 721, 1440)), ((8760, 20), None),
        ((365, 720, 1440), (10, 360, 720)), ((10980, 10980), (1024, 1024)), ((12, 180, 360), None),
        ((10**7,), None), ((3, 5), None), ((100, 300, 300), (7, 300, 300)),
    ],
)  # fmt: skip
def test_default_chunks_and_shards_are_sensible(shape, parts):
    chunks = default_chunks(shape, 4, parts)
    size = 4 * math.prod(chunks)
    assert size <= 4 * 2**20
    assert size >= 200_000 or chunks == shape or math.prod(shape) * 4 < 2**20
    shards = default_shards(shape, chunks, 4, parts)
    if shards is not None:
        assert all(s % c == 0 for s, c in zip(shards, chunks, strict=True))
        assert 4 * math.prod(shards) <= 70 * 2**20


def test_regions_cover_an_array_once():
    seen = np.zeros((5, 7), int)
    for region in regions((5, 7), (2, 3)):
        seen[region] += 1
    assert (seen == 1).all()
    assert not list(regions((0, 4), (1, 4)))


def test_planning_reads_only_the_chunks_it_tries():
    read = []

    def block(info):
        read.append(info)
        return np.random.default_rng(0).normal(size=(1, 64, 64)).astype("f4")

    x = da.concatenate([da.from_delayed(__import__("dask").delayed(block)(i), (1, 64, 64), "f4") for i in range(64)])
    plan(xr.Dataset({"v": (("t", "y", "x"), x)}), {"v": 0.1}, trial_chunks=2)
    assert 0 < len(read) <= 40


def test_the_fingerprint_follows_the_settings(weather):
    one = plan(weather, {"t": 0.1}, trial_chunks=0).fingerprint
    assert one == plan(weather, {"t": "0.1 K"}, trial_chunks=1).fingerprint
    assert one != plan(weather, {"t": 0.2}, trial_chunks=0).fingerprint
    assert one != plan(weather, {"t": 0.1}, chunks={"time": 2}, trial_chunks=0).fingerprint
