"""Which bound? Try a few on one map and look at size and error together."""

import numpy as np

import latentzarr
from latentzarr.dataset.example import example_dataset

t = example_dataset(steps=1).t.values[0]
print(" bound K   ratio   bits/value   RMSE K")
for bound in (1.0, 0.5, 0.2, 0.1, 0.05, 0.02):
    frame = latentzarr.encode_chunk(t, latentzarr.CodecConfig(latentzarr.ErrorBound.absolute(bound)))
    error = latentzarr.decode_chunk(frame).astype("float64") - t
    assert np.abs(error).max() <= bound
    print(f"{bound:8g} {t.nbytes / len(frame):7.1f} {8 * len(frame) / t.size:12.2f} {np.sqrt((error**2).mean()):8.4f}")
