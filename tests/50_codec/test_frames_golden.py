"""Frames written once and decoded for ever: same bits from every version, and no damage that goes unnoticed."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from golden.make_golden import FEATURES, HERE, MODELS, TABLES, frame_file, make, read_table, sha256
from latentzarr.bitstream.frame import FORMAT_VERSION, Mode, parse_frame, read_header
from latentzarr.bounds import violations
from latentzarr.codec.chunk import decode_chunk
from latentzarr.errors import FormatError
from latentzarr.models.store import find_model, register_model
from latentzarr.models.weights import load_model
from latentzarr.reference.decode import decode_frame

VERSIONS = range(1, FORMAT_VERSION + 1)
TABLE = {version: read_table(version) for version in VERSIONS}
each_version = pytest.mark.parametrize("version", VERSIONS)
every = pytest.mark.parametrize(("version", "name"), [(version, name) for version in VERSIONS for name in sorted(TABLE[version])])


@pytest.fixture
def model(version):
    return register_model(load_model(MODELS[version]))


@each_version
def test_every_feature_has_its_file_and_every_file_its_line(version):
    assert set(TABLE[version]) == set(FEATURES[version])
    assert {frame_file(version, name) for name in TABLE[version]} == set(HERE.glob(f"v{version}-*.lz"))
    modes = {line["mode"] for line in TABLE[version].values()}
    assert modes == {mode.name.lower() for mode in Mode if version > 1 or mode is not Mode.RASTER}


def test_every_version_has_its_model():
    assert set(FEATURES) == set(MODELS) == set(VERSIONS)
    assert [load_model(MODELS[version]).order for version in VERSIONS] == [*VERSIONS]


def test_the_files_of_released_versions_never_change():
    digest = hashlib.sha256()
    for path in sorted([TABLES[1], MODELS[1], *HERE.glob("v1-*.lz")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    assert digest.hexdigest() == "3c67e9a25c6ff94b474c32f300d4bc121cc94c4070c71ad9a8f75cb2c0e1d681"


@every
def test_a_frame_has_the_version_and_the_order_of_slices_it_stands_for(version, name):
    header, tables, _ = parse_frame(frame_file(version, name).read_bytes())
    feature, line = FEATURES[version][name], TABLE[version][name]
    assert header.version == version
    assert header.mode is feature.mode
    if tables is not None:
        assert tables.dyadic == line.get("dyadic", False)
        assert feature.dyadic in (None, tables.dyadic)
        assert feature.geometry in (None, tables.geometry)


@every
def test_a_golden_frame_decodes_to_the_same_bits_for_ever(version, name, model):
    line, frame = TABLE[version][name], frame_file(version, name).read_bytes()
    back = decode_chunk(frame, tuple(line["shape"]), np.dtype(line["dtype"]))
    assert sha256(back) == line["decoded"]
    assert len(frame) == line["bytes"]
    assert back.flags.f_contiguous or not FEATURES[version][name].fortran
    assert find_model(model.digest) == model


@every
def test_the_plain_reference_decoder_gives_these_bits_too(version, name, model):
    line, frame = TABLE[version][name], frame_file(version, name).read_bytes()
    assert sha256(decode_frame(frame, model.blob, tuple(line["shape"]), np.dtype(line["dtype"]))) == line["decoded"]


@every
def test_the_original_is_the_same_on_every_machine_and_the_bound_holds(version, name, model):
    line, feature = TABLE[version][name], FEATURES[version][name]
    chunk = feature.make()
    assert sha256(chunk) == line["original"]
    frame = frame_file(version, name).read_bytes()
    bound = replace(read_header(frame).bound, zeros=feature.bound.zeros)
    assert not np.any(violations(chunk, decode_chunk(frame, model=model), bound))


@every
def test_todays_encoder_still_reaches_the_feature(version, name, model):
    frame, line = make(FEATURES[version][name], model)
    assert line["mode"] == TABLE[version][name]["mode"]
    assert len(frame) <= 1.05 * TABLE[version][name]["bytes"] + 8, "an encoder that got worse"


@every
def test_every_changed_byte_and_every_truncation_is_noticed(version, name, model):
    frame = frame_file(version, name).read_bytes()
    start = parse_frame(frame)[2]
    damaged = bytearray(frame)
    for at, good in enumerate(frame):
        for change in range(1, 256) if at < start else (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged[at] = good ^ change
            with pytest.raises(FormatError):
                decode_chunk(bytes(damaged))
        damaged[at] = good
        with pytest.raises(FormatError):
            decode_chunk(frame[:at])
    with pytest.raises(FormatError):
        decode_chunk(frame + b"\0")
