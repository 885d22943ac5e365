"""Frames written once and decoded for ever: same bits from every version, and no damage that goes unnoticed."""

import numpy as np
import pytest

from golden.make_golden import FEATURES, HERE, MODEL, frame_file, make, read_table, sha256
from latentzarr.bitstream.frame import FORMAT_VERSION, Mode, parse_frame, read_header
from latentzarr.bounds import violations
from latentzarr.codec.chunk import decode_chunk
from latentzarr.errors import FormatError
from latentzarr.models.store import find_model, register_model
from latentzarr.models.weights import load_model
from latentzarr.reference.decode import decode_frame

TABLE = read_table()
every = pytest.mark.parametrize("name", sorted(TABLE))


@pytest.fixture(scope="module")
def model():
    return register_model(load_model(MODEL))


def test_every_feature_has_its_file_and_every_file_its_line():
    assert set(TABLE) == set(FEATURES)
    assert {frame_file(name) for name in TABLE} == set(HERE.glob(f"v{FORMAT_VERSION}-*.lz"))
    assert {line["mode"] for line in TABLE.values()} == {mode.name.lower() for mode in Mode}


@every
def test_a_golden_frame_decodes_to_the_same_bits_for_ever(name, model):
    line, frame = TABLE[name], frame_file(name).read_bytes()
    back = decode_chunk(frame, tuple(line["shape"]), np.dtype(line["dtype"]))
    assert sha256(back) == line["decoded"]
    assert len(frame) == line["bytes"]
    assert back.flags.f_contiguous or not FEATURES[name].fortran
    assert find_model(model.digest) == model


@every
def test_the_plain_reference_decoder_gives_these_bits_too(name, model):
    line, frame = TABLE[name], frame_file(name).read_bytes()
    assert sha256(decode_frame(frame, model.blob, tuple(line["shape"]), np.dtype(line["dtype"]))) == line["decoded"]


@every
def test_the_original_is_the_same_on_every_machine_and_the_bound_holds(name, model):
    line, chunk = TABLE[name], FEATURES[name].make()
    assert sha256(chunk) == line["original"]
    frame = frame_file(name).read_bytes()
    assert not np.any(violations(chunk, decode_chunk(frame, model=model), read_header(frame).bound))


@every
def test_todays_encoder_still_reaches_the_feature(name, model):
    frame, line = make(name, model)
    assert line["mode"] == TABLE[name]["mode"]
    assert len(frame) <= 1.05 * TABLE[name]["bytes"] + 8, "an encoder that got worse"


@every
def test_every_changed_byte_and_every_truncation_is_noticed(name, model):
    frame = frame_file(name).read_bytes()
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
