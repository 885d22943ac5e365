"""Write the golden files: one frame for each feature of the format, which every later version must decode to the same bits.

    python tests/golden/make_golden.py          # what is missing
    python tests/golden/make_golden.py --anew   # all frames of the latest version; only before that version is released

Each format version has its own frames, table and model (whose card says how it was trained), and those of a released one are
never written again. The arrays come from integer arithmetic alone, so that every machine makes the same ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.bitstream.frame import FORMAT_VERSION, FrameHeader, Mode, parse_frame
from latentzarr.bitstream.tables import fixed_tables
from latentzarr.bounds import ErrorBound, violations
from latentzarr.codec.chunk import decode_with, encode_with
from latentzarr.codec.config import CodecConfig
from latentzarr.codec.payload import pack_hierarchy
from latentzarr.codec.predictor import CubicPredictor, Predictor, neural_predictor
from latentzarr.codec.prepare import prepare
from latentzarr.codec.search import make_candidate
from latentzarr.geometry import ChunkGeometry
from latentzarr.models.weights import Model, load_model

HERE = Path(__file__).parent
MODELS = {1: HERE / "model.safetensors", 2: HERE / "model-2.safetensors"}
TABLES = {1: HERE / "golden.json", 2: HERE / "golden-2.json"}

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


def moving(slices: int) -> Array:
    """Waves that become other waves from slice to slice, and a little noise."""
    first, other = smooth((40, 52), rough=9), smooth((40, 52), 5, rough=9)
    return np.stack([as_float(first + (t * other >> 3) + (noise((40, 52), t) >> 6)) for t in range(slices)])


def moving_mask() -> Array:
    """The same with a standing mask, and one that comes and goes."""
    x = moving(6)
    x[:, 5:20, 10:30], x[1, 30:, :9], x[4, ::5, 40:], x[:, 0, 0] = np.nan, np.nan, np.inf, -np.inf
    return x


def decimals() -> Array:
    """What unpacking 8-bit codes gives: offset + code * scale."""
    return (np.float64(-12.5) + (smooth((40, 52)) >> 4) * np.float64(0.375)).astype("<f4")


def copied() -> Array:
    """Steps, level ground, and columns in pairs."""
    x = smooth((40, 52)) >> 6
    x[10:25, 8:40] = 5
    return np.repeat(x, 2, 1).astype("<i2")


def gaps() -> Array:
    """One value in nine, here and there one later."""
    x = smooth((40, 52), rough=5) >> 5
    return (9 * x + x * x % 7 + 4096).astype("<u2")


def spikes() -> Array:
    """Far apart from each other, here and there."""
    x = smooth((40, 52)).astype("<i4")
    return np.where(noise((40, 52), 5) > 508, x << 8, x)


@dataclass(frozen=True, slots=True)
class Feature:
    """What a golden file is for and how it is made.

    Attributes
    ----------
    what : str
    mode : Mode
        That the frame must have.
    make : callable
        Gives the array.
    bound, fill, fortran, big_endian
        As for `latentzarr.codec.chunk.encode_chunk`.
    candidates : tuple of Mode
        Hierarchies that the encoder may choose from; their order of passes is that of the version's model. None where the mode
        is the raster mode, which is tried for no other feature.
    dyadic : bool, optional
        The order of slices, whatever the encoder would choose; there must be one candidate.
    geometry : ChunkGeometry, optional
        To be written instead of the one by rule; ``dyadic`` must be given.
    """

    what: str
    mode: Mode
    make: Callable[[], Array]
    bound: ErrorBound = QUARTER
    fill: Any = None
    fortran: bool = False
    big_endian: bool = False
    candidates: tuple[Mode, ...] = (Mode.NEURAL,)
    dyadic: bool | None = None
    geometry: ChunkGeometry | None = None


FIRST = {
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


IN_BOTH = (
    "raw empty scalar constant pcodec-float pcodec-integer "
    "cubic cubic-slices neural-float32 neural-float64 neural-float16 one-row integers-exact integers-bound bool relative mask "
    "sections none slices-independent repetition packed packed-exact big-endian fortran"
)

SECOND = {name: FIRST[name] for name in IN_BOTH.split()} | {
    "one-column": Feature(
        "geometry written, a single column",
        Mode.NEURAL,
        lambda: as_float(smooth((200,))),
        dyadic=False,
        geometry=ChunkGeometry(1, 200, 1),
    ),
    "columns-alike": Feature(
        "repetition, a single coded column", Mode.NEURAL, lambda: np.repeat(as_float(smooth((70, 1))), 30, 1)
    ),
    "slices": Feature("slices that look back", Mode.NEURAL, lambda: moving(5), dyadic=False),
    "slices-dyadic": Feature("slices that look at two", Mode.NEURAL, lambda: moving(7), dyadic=True),
    "slices-two": Feature("dyadic order of two slices", Mode.NEURAL, lambda: moving(2), dyadic=True),
    "slices-dyadic-cubic": Feature(
        "roots that look at two", Mode.CUBIC, lambda: moving(5), candidates=(Mode.CUBIC,), dyadic=True
    ),
    "slices-dyadic-independent": Feature(
        "only roots look at others", Mode.INDEPENDENT, lambda: moving(5), candidates=(Mode.INDEPENDENT,), dyadic=True
    ),
    "slices-exact": Feature(
        "integer slices that look at two",
        Mode.NEURAL,
        lambda: (64 * moving(5)).astype("<i2"),
        ErrorBound.lossless(),
        dyadic=True,
    ),
    "slices-mask": Feature("slices that look at two, with masks", Mode.NEURAL, moving_mask, dyadic=True),
    "slices-roots": Feature(
        "several roots a slice",
        Mode.NEURAL,
        lambda: as_float(smooth((5, 70, 131), rough=9)),
        ErrorBound.absolute(2.0),
        dyadic=True,
    ),
    "zeros": Feature("zeros that stay zeros", Mode.NEURAL, signed, QUARTER.with_exact_zeros()),
    "zeros-integers": Feature(
        "integer zeros that stay zeros",
        Mode.NEURAL,
        lambda: (64 * signed()).astype("<i2"),
        ErrorBound.absolute(20.0).with_exact_zeros(),
    ),
    "raster": Feature("value by value", Mode.RASTER, lambda: as_float(smooth((40, 52)))),
    "raster-copies": Feature("level ground and copies", Mode.RASTER, copied, ErrorBound.lossless()),
    "raster-slices": Feature(
        "two slices before", Mode.RASTER, lambda: np.stack([copied() * k for k in (3, 4, 5, 1)]), ErrorBound.lossless()
    ),
    "raster-ranks": Feature("values with gaps", Mode.RASTER, lambda: np.stack([gaps(), gaps() + 1]), ErrorBound.lossless()),
    "raster-mask": Feature(
        "missing values in slices", Mode.RASTER, lambda: np.stack([masked(), masked() + 1, masked() * 2]), fill=-999.0
    ),
    "raster-relative": Feature("logarithmic, zeros and signs", Mode.RASTER, signed, ErrorBound.relative(0.02)),
    "raster-spikes": Feature("large residuals", Mode.RASTER, spikes, ErrorBound.absolute(9.0)),
    "raster-row": Feature("one dimension", Mode.RASTER, lambda: as_float(smooth((200,)))),
    "raster-repetition": Feature(
        "rows and columns repeated", Mode.RASTER, lambda: np.repeat(np.repeat(as_float(smooth((30, 40))), 2, 0), 3, 1)[1:, 2:]
    ),
    "raster-zeros": Feature("zeros that stay zeros", Mode.RASTER, signed, QUARTER.with_exact_zeros()),
}

FEATURES = {1: FIRST, 2: SECOND}
"""What each format version has golden files for."""


def sha256(values: Array) -> str:
    """Of the values in C order, little-endian."""
    little = np.asarray(values, order="C").astype(values.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()


def frame_file(version: int, name: str) -> Path:
    """Where the frame of a feature lies."""
    return HERE / f"v{version}-{name}.lz"


def read_table(version: int) -> dict[str, dict[str, Any]]:
    """What is known of the golden files of a version; empty before the first."""
    return dict(json.loads(TABLES[version].read_text())) if TABLES[version].exists() else {}


def predictor_of(mode: Mode, model: Model) -> Predictor:
    """What codes a hierarchy, in the model's order of passes."""
    return CubicPredictor(model.order) if mode is Mode.CUBIC else neural_predictor(model, reference=mode is Mode.NEURAL)


def encode(feature: Feature, chunk: Array, model: Model) -> bytes:
    """The frame that the encoder chooses among the candidates, or the one that the feature asks for."""
    raster = feature.mode is Mode.RASTER
    predictors = [] if raster else [predictor_of(mode, model) for mode in feature.candidates]
    if feature.dyadic is None:
        config = CodecConfig(feature.bound, model)
        order = {"fortran": feature.fortran, "big_endian": feature.big_endian}
        return encode_with(chunk, config, predictors, feature.fill, raster=raster, **order)
    (predictor,), (mode,) = predictors, feature.candidates
    ready = prepare(chunk.reshape(-1), feature.bound, chunk.shape, feature.fill)
    assert ready is not None
    if feature.geometry is not None:
        size = (feature.geometry.slices, -1)
        ready = replace(ready, target=ready.target.reshape(size), geometry=feature.geometry, coded=feature.geometry)
    tables = fixed_tables() if mode is Mode.CUBIC else model.tables
    candidate = make_candidate(ready, predictor, tables, dyadic=feature.dyadic)
    assert candidate is not None
    digest = model.prefix if mode.is_neural else bytes(8)
    header = FrameHeader(mode, chunk.dtype, False, feature.bound, digest, chunk.shape, version=int(model.order))
    return pack_hierarchy(header, ready, candidate)


def make(feature: Feature, model: Model) -> tuple[bytes, dict[str, Any]]:
    """The frame of a feature and its line in the table."""
    chunk = feature.make()
    frame = encode(feature, chunk, model)
    header, tables, _ = parse_frame(frame)
    back = decode_with(frame, [predictor_of(mode, model) for mode in feature.candidates], model)
    bound = replace(header.bound, zeros=feature.bound.zeros)
    if header.mode is not feature.mode or violations(chunk, back, bound).any():
        raise SystemExit(f"{feature.what!r} is {header.mode.name}, not {feature.mode.name}; choose another array or bound")
    line = {
        "what": feature.what,
        "mode": header.mode.name.lower(),
        "dtype": str(chunk.dtype),
        "shape": list(chunk.shape),
        "bytes": len(frame),
        "original": sha256(chunk),
        "decoded": sha256(back),
    }
    if tables is not None and header.version > 1:
        line["dyadic"] = tables.dyadic
    return frame, line


def missing(version: int) -> list[str]:
    """Features of a version that have no line or no file."""
    table = read_table(version)
    return [name for name in FEATURES[version] if name not in table or not frame_file(version, name).exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anew", action="store_true", help="delete the frames of the latest format version first")
    if parser.parse_args().anew:
        for old in [TABLES[FORMAT_VERSION], *HERE.glob(f"v{FORMAT_VERSION}-*.lz")]:
            old.unlink(missing_ok=True)
    lost = {version: missing(version) for version in FEATURES if version < FORMAT_VERSION}
    if any(lost.values()):
        raise SystemExit(f"golden files of released versions are lost, take them from the repository: {lost}")
    table, model = read_table(FORMAT_VERSION), load_model(MODELS[FORMAT_VERSION])
    for name in missing(FORMAT_VERSION):
        frame, table[name] = make(FEATURES[FORMAT_VERSION][name], model)
        frame_file(FORMAT_VERSION, name).write_bytes(frame)
        print(f"{name:26} {table[name]['mode']:11} {len(frame):6} bytes")
    TABLES[FORMAT_VERSION].write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
