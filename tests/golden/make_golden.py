"""Write the golden files: one frame for each feature of the format, which every later version must decode to the same bits.

    python tests/golden/make_golden.py          # what is missing
    python tests/golden/make_golden.py --anew   # all of it, the model included; only before a format version is released

The arrays come from integer arithmetic alone, so that every machine makes the same ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import FORMAT_VERSION, Mode, read_header
from latentzarr.bounds import ErrorBound, violations
from latentzarr.codec.chunk import decode_with, encode_with
from latentzarr.codec.config import CodecConfig
from latentzarr.codec.predictor import CubicPredictor, neural_predictor
from latentzarr.models.store import default_model
from latentzarr.models.weights import Model, load_model, save_model

HERE = Path(__file__).parent
MODEL = HERE / "model.safetensors"
TABLE = HERE / "golden.json"

QUARTER = ErrorBound.absolute(0.25)

Array = npt.NDArray[Any]


def noise(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.int64]:
    """Integers from -512 to 511, from a multiplicative hash of the index."""
    x = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed << 32)
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (29, 0xC4CEB9FE1A85EC53)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x >> np.uint64(54)).astype(np.int64) - 512).reshape(shape)


def wave(n: int, period: int) -> npt.NDArray[np.int64]:
    """Parabolas up and down, from -1024 to 1024: a smooth wave in integers."""
    i = np.arange(n, dtype=np.int64)
    u = i % period
    height = 4096 * u * (period - u) // (period * period)
    return np.where(i // period % 2 == 0, height, -height)


def smooth(shape: tuple[int, ...], seed: int = 1, rough: int = 6) -> npt.NDArray[np.int64]:
    """Waves along every axis and noise ``2**rough`` times smaller than it could be."""
    total = noise(shape, seed) >> rough
    for axis, n in enumerate(shape):
        lie = [-1 if i == axis else 1 for i in range(len(shape))]
        total = total + wave(n, 23 + 14 * axis + seed).reshape(lie) + (wave(n, 7 + axis) >> 2).reshape(lie)
    return total


def as_float(values: npt.NDArray[np.int64], dtype: str = "<f4", denominator: int = 64) -> Array:
    """Integers over a power of two: exact in every float."""
    return (values / denominator).astype(dtype)


def masked() -> Array:
    x = as_float(smooth((40, 52)))
    x[5:20, 10:30], x[0, 0], x[1, 1:3], x[30:, 40:] = np.nan, np.inf, -np.inf, -999.0
    return x


def signed() -> Array:
    x = as_float(smooth((40, 52)))
    x[::7] = 0
    return x


def decimals() -> Array:
    """What unpacking 8-bit codes gives: offset + code * scale."""
    return (np.float64(-12.5) + (smooth((40, 52)) >> 4) * np.float64(0.375)).astype("<f4")


@dataclass(frozen=True)
class Feature:
    """What a golden file is for and how it is made."""

    what: str
    mode: Mode
    make: Callable[[], Array]
    bound: ErrorBound = QUARTER
    fill: Any = None
    fortran: bool = False
    big_endian: bool = False
    candidates: tuple[Mode, ...] = (Mode.NEURAL,)


FEATURES = {
    "raw": Feature("stored as it is", Mode.RAW, lambda: as_float(noise((3, 4), 1)), ErrorBound.lossless(), candidates=()),
    "empty": Feature("no value", Mode.RAW, lambda: as_float(noise((0, 4), 1))),
    "scalar": Feature("no dimension", Mode.CONSTANT, lambda: as_float(noise((1,), 3)).reshape(())),
    "constant": Feature("one value everywhere", Mode.CONSTANT, lambda: np.full((20, 30), -2.5)),
    "pcodec-float": Feature(
        "lossless floats", Mode.PCODEC, lambda: as_float(smooth((40, 52)), "<f8", 1 << 20) ** 2, ErrorBound.lossless()
    ),
    "pcodec-integer": Feature(
        "64-bit integers", Mode.PCODEC, lambda: (smooth((40, 52)) << 40).astype("<i8"), ErrorBound.lossless()
    ),
    "cubic": Feature("fixed predictor", Mode.CUBIC, lambda: as_float(smooth((40, 52))), candidates=(Mode.CUBIC,)),
    "cubic-slices": Feature(
        "fixed predictor, slices, mask", Mode.CUBIC, lambda: np.stack([masked(), masked() + 1]), candidates=(Mode.CUBIC,)
    ),
    "neural-float32": Feature("network, float32", Mode.NEURAL, lambda: as_float(smooth((40, 52)))),
    "neural-float64": Feature(
        "network, float64", Mode.NEURAL, lambda: as_float(smooth((40, 52)), "<f8"), ErrorBound.absolute(0.3)
    ),
    "neural-float16": Feature(
        "network, float16", Mode.NEURAL, lambda: as_float(smooth((40, 52)), "<f2"), ErrorBound.absolute(0.7)
    ),
    "one-row": Feature("one dimension, several roots", Mode.NEURAL, lambda: as_float(smooth((200,)))),
    "integers-exact": Feature("integers, snapped", Mode.NEURAL, lambda: smooth((40, 52)).astype("<i2"), ErrorBound.lossless()),
    "integers-bound": Feature(
        "integers, a bound", Mode.NEURAL, lambda: smooth((40, 52)).astype("<i4"), ErrorBound.absolute(20.0)
    ),
    "bool": Feature("booleans", Mode.NEURAL, lambda: smooth((64, 80)) > 300),
    "relative": Feature("logarithmic, zeros and signs", Mode.NEURAL, signed, ErrorBound.relative(0.02)),
    "mask": Feature("NaN, infinities and fill value", Mode.NEURAL, masked, fill=-999.0),
    "sections": Feature(
        "sections and lanes", Mode.NEURAL, lambda: as_float(smooth((120, 136), rough=2)), ErrorBound.absolute(0.02)
    ),
    "fortran": Feature("Fortran order", Mode.NEURAL, lambda: as_float(smooth((40, 52))), fortran=True),
    "none": Feature("no bound, an aim", Mode.NEURAL, lambda: as_float(smooth((40, 52))), ErrorBound.none(0.2)),
    "slices": Feature("slices that look back", Mode.NEURAL, lambda: as_float(smooth((4, 40, 52)))),
    "slices-independent": Feature(
        "slices that do not look back",
        Mode.INDEPENDENT,
        lambda: as_float(smooth((3, 40, 52), rough=2)),
        candidates=(Mode.INDEPENDENT,),
    ),
    "big-endian": Feature("big-endian, as recorded", Mode.NEURAL, lambda: as_float(smooth((40, 52)), ">f4"), big_endian=True),
    "slices-exact": Feature(
        "integer slices that look back", Mode.NEURAL, lambda: smooth((3, 40, 52)).astype("<u2"), ErrorBound.lossless()
    ),
    "slices-mask": Feature("slices with a standing mask", Mode.NEURAL, lambda: np.stack([masked(), masked() + 1, masked() + 3])),
    "repetition": Feature(
        "rows and columns repeated", Mode.NEURAL, lambda: np.repeat(np.repeat(as_float(smooth((30, 40))), 2, 0), 3, 1)[1:, 2:]
    ),
    "packed": Feature("values on a lattice of their own", Mode.NEURAL, decimals, ErrorBound.absolute(0.6)),
    "packed-exact": Feature("lossless on a lattice of their own", Mode.NEURAL, decimals, ErrorBound.lossless()),
}


def sha256(values: Array) -> str:
    """Of the values in C order, little-endian."""
    little = np.asarray(values, order="C").astype(values.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()


def frame_file(name: str) -> Path:
    """Where the frame of a feature lies."""
    return HERE / f"v{FORMAT_VERSION}-{name}.lz"


def read_table() -> dict[str, dict[str, Any]]:
    """What is known of the golden files; empty before the first."""
    return dict(json.loads(TABLE.read_text())) if TABLE.exists() else {}


def make(name: str, model: Model) -> tuple[bytes, dict[str, Any]]:
    """The frame of a feature and its line in the table."""
    feature = FEATURES[name]
    chunk = feature.make()
    known = {
        Mode.NEURAL: neural_predictor(model),
        Mode.INDEPENDENT: neural_predictor(model, reference=False),
        Mode.CUBIC: CubicPredictor(),
    }
    predictors = [known[mode] for mode in feature.candidates]
    frame = encode_with(
        chunk, CodecConfig(feature.bound, model), predictors, feature.fill, fortran=feature.fortran, big_endian=feature.big_endian
    )
    header = read_header(frame)
    back = decode_with(frame, predictors, model)
    if header.mode is not feature.mode or violations(chunk, back, header.bound).any():
        raise SystemExit(f"{name} should be {feature.mode.name} and is {header.mode.name}; choose another array or bound")
    line = {
        "what": feature.what,
        "mode": header.mode.name.lower(),
        "dtype": str(chunk.dtype),
        "shape": list(chunk.shape),
        "bytes": len(frame),
        "original": sha256(chunk),
        "decoded": sha256(back),
    }
    return frame, line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anew", action="store_true", help="delete all golden files of this format version first")
    if parser.parse_args().anew:
        for old in [MODEL, TABLE, *HERE.glob(f"v{FORMAT_VERSION}-*.lz")]:
            old.unlink(missing_ok=True)
    if not MODEL.exists():
        save_model(default_model(), MODEL)
    model, table = load_model(MODEL), read_table()
    for name in FEATURES:
        if name not in table or not frame_file(name).exists():
            frame, table[name] = make(name, model)
            frame_file(name).write_bytes(frame)
            print(f"{name:16} {table[name]['mode']:9} {len(frame):6} bytes")
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
