"""Writes `sample_data/` (a small array with the values it must decode to) and `examples/` (array metadata), by one command.

    python docs/reference/make_sample_data.py

They hold a small model of their own, made here from a formula, so that they stay valid when the shipped model changes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ShardingCodec

from latentzarr import ErrorBound, LatentCodec, Model
from latentzarr.bitstream.tables import FrequencyTables, fixed_tables
from latentzarr.geometry import Order, PassKind
from latentzarr.models.card import ModelCard
from latentzarr.models.network import REFERENCE_INPUTS, SPATIAL_INPUTS, IntegerNetwork, NetworkSet

HERE = Path(__file__).parent
ARRAY, EXPECTED, EXAMPLES = HERE / "sample_data" / "array", HERE / "sample_data" / "expected.npy", HERE / "examples"


def _weights(shape: tuple[int, int], largest: int) -> npt.NDArray[np.int16]:
    """Small numbers of both signs that look like no pattern."""
    k = np.arange(1, shape[0] * shape[1] + 1).reshape(shape)
    return (k * k * 31 % 101 % (2 * largest + 1) - largest).astype(np.int16)


def small_model() -> Model:
    """Networks with 8 units a layer, which correct the middle of the neighbours a little."""

    def network(inputs: int) -> IntegerNetwork:
        stride = np.arange(12)[:, None]
        b1 = (20000 + 512 * stride + 100 * np.arange(8)).astype(np.int32)
        b3 = np.concatenate([0 * stride, 4096 - 512 * stride], axis=1).astype(np.int32)
        w1, w2, w3 = _weights((8, inputs), 20), _weights((8, 8), 9), _weights((2, 8), 4)
        return IntegerNetwork(w1, b1, w2, np.full(8, 3000, np.int32), w3, b3)

    networks = [tuple(network(n) for _ in PassKind) for n in (SPATIAL_INPUTS, REFERENCE_INPUTS[Order.THREE_PASSES])]
    tables = FrequencyTables.from_costs(np.tile(fixed_tables().costs, (4 * len(PassKind), 1)))
    return Model.build(NetworkSet(*networks), tables, ModelCard("sample", training="none: made from a formula"))


def sample_values() -> npt.NDArray[np.float32]:
    """Slices that move slowly, with a missing corner and a few special values."""
    t, i, j = np.indices((3, 20, 33))
    values = ((i * i - 2 * i * j + 3 * j * (j - 9) + 11 * t * i) / 64 + (7 * i + 13 * j + t) % 5 / 32 + 270).astype(np.float32)
    values[:, :5, 25:] = np.nan
    values[2, 16:] = -9999
    values[1, 9, 9] = np.inf
    return values


def _create(store: Any, codec: Any, values: npt.NDArray[Any], chunks: tuple[int, ...]) -> Any:
    return zarr.create_array(
        store=store, shape=values.shape, chunks=chunks, dtype=values.dtype, fill_value=-9999, serializer=codec, compressors=None
    )


def main() -> None:
    """Write everything anew."""
    model, values = small_model(), sample_values()
    for folder in (ARRAY.parent, EXAMPLES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    codec = LatentCodec(bound=ErrorBound.absolute(0.05), model=model)
    array = _create(str(ARRAY), codec, values, (2, 16, 16))
    array[:] = values
    np.save(EXPECTED, array[:])
    digest_only = LatentCodec(bound=ErrorBound.relative(0.01), model=model, embed=False)
    shards = ShardingCodec(chunk_shape=(2, 8, 8), codecs=[digest_only])
    for name, found in (("array", array), ("sharded", _create({}, shards, values, (2, 16, 16)))):
        metadata = found.metadata.to_buffer_dict(zarr.core.buffer.default_buffer_prototype())["zarr.json"].to_bytes()
        text = json.dumps(json.loads(metadata), indent=2)
        (EXAMPLES / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
