"""How to store rain, which is mostly exactly zero and spans orders of magnitude? With a relative bound, zeros stay zeros."""

import numpy as np

import latentzarr
from latentzarr.dataset.example import example_dataset

humid = example_dataset(steps=4).q.values
rain = np.where(humid > np.quantile(humid, 0.8), 1000 * humid**2, 0).astype("float32")

for bound in (latentzarr.ErrorBound.relative(0.02), latentzarr.ErrorBound.absolute(0.01 * float(rain.max()))):
    frame = latentzarr.encode_chunk(rain, latentzarr.CodecConfig(bound))
    back = latentzarr.decode_chunk(frame)
    wet = rain > 0
    print(f"{bound!s:16}  ratio {rain.nbytes / len(frame):6.1f}  dry cells that became wet: {(back[~wet] != 0).sum()}")
    if bound.kind is latentzarr.BoundKind.RELATIVE:
        assert (back[~wet] == 0).all()
        assert (np.abs(back[wet] - rain[wet]) <= 0.02 * rain[wet]).all()
