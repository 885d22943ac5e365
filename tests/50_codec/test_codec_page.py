"""The pages of docs/reference say what the code does: schema, examples, sample data and the worked frame."""

import base64
import importlib.util
import json
import re
import zlib
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import zarr
from zarr.core.metadata import ArrayV3Metadata

from latentzarr import CodecConfig, ErrorBound, LatentCodec, decode_chunk
from latentzarr.bitstream.frame import FORMAT_VERSION, Mode, read_header
from latentzarr.codec.config import Effort
from latentzarr.errors import InvalidConfigError, LatentzarrError
from latentzarr.models.store import shipped_model
from latentzarr.reference import decode_frame

PAGES = Path(__file__).parents[2] / "docs" / "reference"
SCHEMA = json.loads((PAGES / "schema.json").read_text("utf-8"))
EXAMPLES = {path.stem: json.loads(path.read_text("utf-8")) for path in (PAGES / "examples").glob("*.json")}
SAMPLE = json.loads((PAGES / "sample_data" / "array" / "zarr.json").read_text("utf-8"))


def valid(codec):
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(codec)


def ours(metadata):
    """The configuration of our codec in array metadata, plain or inside shards."""
    (codec,) = metadata["codecs"]
    return codec["configuration"]["codecs"][0] if codec["name"] == "sharding_indexed" else codec


def script(name):
    spec = importlib.util.spec_from_file_location(name, PAGES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


KINDS = [ErrorBound.absolute(0.1), ErrorBound.relative(0.01), ErrorBound.lossless(), ErrorBound.none(2.0)]


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("bound", KINDS + [bound.with_exact_zeros() for bound in KINDS], ids=str)
def test_what_the_codec_writes_is_valid(bound, embed, effort):
    written = json.loads(json.dumps(LatentCodec(bound=bound, embed=embed, effort=effort).to_dict()))
    jsonschema.validate(written, SCHEMA)
    assert written["configuration"].get("effort", "normal") == effort


DIGEST = "sha256:" + 64 * "0"


@pytest.mark.parametrize(
    "configuration",
    [
        {},
        {"bound": {"kind": "absolute"}},
        {"bound": {"kind": "absolute", "value": 0}},
        {"bound": {"kind": "absolute", "value": "0.1"}},
        {"bound": {"kind": "relative", "value": 1.0}},
        {"bound": {"kind": "range_relative", "value": 0.1}},
        {"bound": {"kind": "lossless", "value": 0.1}},
        {"bound": {"kind": "lossless"}, "version": 2},
        {"bound": {"kind": "lossless"}, "extra": 1},
        {"bound": {"kind": "lossless", "extra": 1}},
        {"bound": {"kind": "absolute", "value": 1, "zeros": "kept"}},
        {"bound": {"kind": "absolute", "value": 1, "zeros": True}},
        {"bound": {"kind": "lossless"}, "effort": "slow"},
        {"bound": {"kind": "lossless"}, "effort": 5},
        {"bound": {"kind": "lossless"}, "effort": None},
        {"bound": {"kind": "lossless"}, "effort": ["max"]},
        {"bound": {"kind": "lossless"}, "model": {}},
        {"bound": {"kind": "lossless"}, "model": {"digest": "md5:0"}},
        {"bound": {"kind": "lossless"}, "model": {"digest": DIGEST, "extra": 1}},
    ],
    ids=lambda c: json.dumps(c)[:50],
)
def test_what_the_page_calls_invalid_is_refused_by_schema_and_code(configuration):
    codec = {"name": "latentzarr", "configuration": configuration}
    assert not valid(codec)
    with pytest.raises(LatentzarrError):
        LatentCodec.from_dict(codec)


def test_the_least_configuration_is_a_bound():
    codec = {"name": "latentzarr", "configuration": {"bound": {"kind": "absolute", "value": 0.5}}}
    assert valid(codec)
    assert LatentCodec.from_dict(codec).bound == ErrorBound.absolute(0.5)


@pytest.mark.parametrize("effort", Effort)
def test_an_effort_without_a_model_is_that_of_the_shipped_one(effort):
    codec = {"name": "latentzarr", "configuration": {"bound": {"kind": "absolute", "value": 0.5}, "effort": str(effort)}}
    assert valid(codec)
    found = LatentCodec.from_dict(codec)
    assert found.config.effort is effort
    assert found.model == shipped_model(effort)


@pytest.mark.parametrize("bound", [{"kind": "absolute", "value": 0.5}, {"kind": "relative", "value": 0.5}, {"kind": "lossless"}])
def test_exact_zeros_may_be_said_of_any_bound(bound):
    codec = {"name": "latentzarr", "configuration": {"bound": bound | {"zeros": "exact"}}}
    assert valid(codec)
    assert LatentCodec.from_dict(codec).bound.zeros == (bound["kind"] == "absolute")


def test_a_model_that_does_not_have_its_digest_is_refused():
    codec = json.loads(json.dumps(ours(SAMPLE)))
    codec["configuration"]["model"]["digest"] = DIGEST
    assert valid(codec)
    with pytest.raises(LatentzarrError):
        LatentCodec.from_dict(codec)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_are_valid_and_read_by_zarr(name):
    jsonschema.validate(ours(EXAMPLES[name]), SCHEMA)
    CodecConfig.from_json(ours(EXAMPLES["array"])["configuration"])  # makes the model of both known
    metadata = ArrayV3Metadata.from_dict(EXAMPLES[name])
    assert ours(json.loads(json.dumps(metadata.to_dict(), default=str))) == ours(EXAMPLES[name])


def test_the_page_shows_a_valid_codec():
    (shown,) = re.findall(r"```json\n(.*?)```", (PAGES / "codec.md").read_text("utf-8"), re.DOTALL)
    jsonschema.validate(json.loads(shown), SCHEMA)


def test_sample_data_decode_to_the_expected_values():
    expected = np.load(PAGES / "sample_data" / "expected.npy")
    array = zarr.open_array(str(PAGES / "sample_data" / "array"), mode="r")
    assert array[:].tobytes() == expected.tobytes()
    assert np.isnan(expected).any()
    assert (expected == -9999).any()


def test_sample_chunks_decode_by_the_reference_with_the_model_in_the_metadata():
    blob = zlib.decompress(base64.b64decode(ours(SAMPLE)["configuration"]["model"]["data"]))
    expected = np.load(PAGES / "sample_data" / "expected.npy")
    sizes = SAMPLE["chunk_grid"]["configuration"]["chunk_shape"]
    padded = np.full([-(-n // size) * size for n, size in zip(expected.shape, sizes, strict=True)], SAMPLE["fill_value"], "f4")
    padded[tuple(slice(n) for n in expected.shape)] = expected
    modes = set()
    root = PAGES / "sample_data" / "array" / "c"
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        place = [int(part) for part in path.relative_to(root).parts]
        chunk = padded[tuple(slice(k * size, (k + 1) * size) for k, size in zip(place, sizes, strict=True))]
        frame = path.read_bytes()
        modes.add(read_header(frame).mode)
        assert frame[2] == 2
        assert decode_frame(frame, blob, shape=tuple(sizes), dtype="<f4").tobytes() == chunk.tobytes()
    assert Mode.NEURAL in modes


def test_sample_data_are_small():
    assert sum(p.stat().st_size for p in (PAGES / "sample_data").rglob("*") if p.is_file()) < 60_000


def test_the_script_makes_the_model_of_the_sample():
    assert script("make_sample_data").small_model().digest == ours(SAMPLE)["configuration"]["model"]["digest"]


def test_the_worked_frame_decodes_to_the_values_the_page_prints():
    page = (PAGES / "format.md").read_text("utf-8")

    def block(kind):
        (text,) = re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)
        return text

    def numbers(text):
        return np.array([[float(word) for word in line.split()] for line in text.splitlines()], np.float32)

    lines = block("hexdump").splitlines()
    frame = bytes.fromhex("".join(line[5:29] for line in lines))
    places = [int(line[:3]) for line in lines]
    assert places == [sum(len(bytes.fromhex(line[5:29])) for line in lines[:k]) for k in range(len(lines))]
    values, decoded = numbers(block("values")), numbers(block("decoded"))
    header = read_header(frame)
    assert (header.version, header.mode) == (FORMAT_VERSION, Mode.CUBIC)
    for read in (decode_frame, decode_chunk):
        np.testing.assert_array_equal(read(frame), decoded)
    makes = script("make_hexdump")
    np.testing.assert_array_equal(makes.worked_values(), values)
    assert np.nanmax(abs(values - decoded)) <= 0.25
    annotated = [line[30:] for line in lines if line[30:]]
    assert annotated == [text for _, _, text in makes.fields(frame)]


def test_unknown_names_are_not_ours():
    with pytest.raises(InvalidConfigError):
        LatentCodec.from_dict({"name": "other", "configuration": {}})
