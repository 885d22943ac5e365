"""Each command does its work, says it in tables or JSON, and turns errors of ours into one line and an exit code."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import latentzarr
from latentzarr.cli import app
from latentzarr.dataset.example import example_dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli")
    example_dataset(4, 48, 64).to_netcdf(directory / "in.nc")
    assert run("encode", directory / "in.nc", directory / "out.zarr", "--bound", "t=0.1", "-b", "u=1%").exit_code == 0
    return directory


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_plan(place):
    told = run("plan", place / "in.nc", "--bound", "t=0.1 K", "--trial-chunks", 1)
    assert told.exit_code == 0, told.output
    assert "0.1 absolute" in told.stdout
    proposed = run("plan", place / "in.nc", "--trial-chunks", 1, "--json")
    variables = {v["name"]: v for v in json.loads(proposed.stdout)["variables"]}
    assert len(variables["t"]["trials"]) == 2
    assert not variables["cloud"]["trials"]


def test_encode_writes_what_was_asked(place):
    ds, stored = xr.open_dataset(place / "in.nc").load(), xr.open_zarr(place / "out.zarr")
    assert float(abs(ds.t - stored.t).max()) <= 0.1
    assert stored.q.equals(ds.q)
    ds.close()
    told = run(
        "encode", place / "in.nc", place / "two.zarr", "-b", "q=2% relative", "--chunk", "time=2", "--shard", "time=4", "--json"
    )
    report = json.loads(told.stdout)
    assert {v["name"]: v["bound"] for v in report["variables"]}["q"] == {"kind": "relative", "value": 0.02, "zeros": False}
    assert run("encode", place / "in.nc", place / "two.zarr", "-b", "q=2% relative", "--overwrite").exit_code == 0


def test_verify_tells_by_its_exit_code_and_draws(place, tmp_path):
    told = run("verify", place / "in.nc", place / "out.zarr", "--figure", tmp_path / "look.png")
    assert told.exit_code == 0, told.output
    assert "within their bounds" in told.stdout
    assert (tmp_path / "look.png").stat().st_size > 20_000
    with xr.open_dataset(place / "in.nc") as ds:
        (ds + np.float32(1)).assign_coords(time=ds.time).to_netcdf(tmp_path / "other.nc")
    wrong = run("verify", tmp_path / "other.nc", place / "out.zarr", "--variable", "t")
    assert wrong.exit_code == 1
    assert "DOES NOT HOLD" in wrong.stdout


def test_inspect(place):
    told = run("inspect", place / "out.zarr")
    assert "0.1 absolute" in told.stdout
    assert "complete" in told.stdout
    chunks = run("inspect", place / "out.zarr", "--chunks", "t")
    assert chunks.stdout.startswith("0,0,0  ")
    assert json.loads(run("inspect", place / "out.zarr", "--json").stdout)["container"]["complete"]


def test_decode(place, tmp_path):
    told = run("decode", place / "out.zarr", tmp_path / "plain.zarr")
    assert told.exit_code == 0, told.output
    assert xr.open_zarr(tmp_path / "plain.zarr").equals(xr.open_zarr(place / "out.zarr"))


def test_models(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTZARR_CACHE", str(tmp_path / "cache"))
    digest = latentzarr.default_model().digest
    assert digest in run("models", "list").stdout
    assert "licence" in run("models", "show").stdout
    latentzarr.save_model(latentzarr.default_model(), tmp_path / "m.safetensors")
    assert digest in run("models", "add", tmp_path / "m.safetensors").stdout
    assert digest in run("models", "show", digest).stdout
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04pickle")
    assert run("models", "add", tmp_path / "bad.safetensors").exit_code == 2


def test_demo_without_and_with_input(place, tmp_path):
    told = run("demo", place / "in.nc", "--out", tmp_path / "demo")
    assert told.exit_code == 0, told.output
    assert "1% of range" in told.stdout
    assert (tmp_path / "demo" / "demo.png").exists()
    assert xr.open_zarr(tmp_path / "demo" / "demo.zarr").t.shape == (4, 48, 64)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["encode", "IN/in.nc", "IN/x.zarr", "--bound", "nope=0.1"], "'nope'"),
        (["encode", "IN/in.nc", "IN/x.zarr", "--bound", "t"], "NAME=VALUE"),
        (["encode", "IN/in.nc", "IN/x.zarr", "--bound", "t=0.1 m"], "units"),
        (["encode", "IN/in.nc", "IN/x.zarr", "--bound", "t=0.1", "--chunk", "time=x"], "whole numbers"),
        (["encode", "IN/in.nc", "IN/out.zarr", "--bound", "t=0.1"], "--resume|overwrite"),
        (["encode", "IN/none.nc", "IN/x.zarr"], "no such file"),
        (["encode", "IN/out.zarr", "IN/x.zarr", "--bound", "t=0.1"], "recode"),
        (["verify", "IN/in.nc", "IN/none.zarr"], "no zarr group"),
        (["inspect", "IN/none.zarr"], "no zarr group"),
        (["inspect", "IN/out.zarr", "--chunks", "nope"], "no variable"),
        (["decode", "IN/none.zarr", "IN/x.zarr"], "no zarr group"),
        (["models", "show", "sha256:0123456789abcdef"], "tried"),
        (["plan", "IN/in.nc", "--model", "what"], "digest"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(place, words, said):
    told = run(*[w.replace("IN", str(place)) for w in words])
    assert told.exit_code == 2, told.output
    assert told.stderr.startswith("error: ")
    assert len(told.stderr.strip().splitlines()) == 1
    assert any(part in told.stderr for part in said.split("|"))
    assert "Traceback" not in told.output
    assert not (place / "x.zarr").exists()


def test_a_file_that_is_no_data_set(place):
    (place / "text.nc").write_text("hello")
    told = run("plan", place / "text.nc")
    assert told.exit_code == 2
    assert "cannot be opened" in told.stderr


def test_the_installed_command():
    done = subprocess.run(
        [sys.executable, "-c", "from latentzarr.cli import main; main()", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == latentzarr.__version__
