"""What happens to NaN, infinities and fill values? They stay where they are, and cost little where they stand still."""

import numpy as np

import latentzarr
from latentzarr.dataset.example import example_dataset

sst = example_dataset(steps=8).sst.values
codec = latentzarr.CodecConfig(latentzarr.ErrorBound.absolute(0.05))
frame = latentzarr.encode_chunk(sst, codec)
back = latentzarr.decode_chunk(frame)
assert (np.isnan(back) == np.isnan(sst)).all()
assert np.nanmax(np.abs(back - sst)) <= 0.05

one_map = len(latentzarr.encode_chunk(sst[0], codec))
print(f"{np.isnan(sst).mean():.0%} land; one map in {one_map} bytes, eight maps in one chunk in {len(frame)}")

codes = np.where(np.isnan(sst), np.float32(-999), sst)  # a declared fill value comes back exactly
back = latentzarr.decode_chunk(latentzarr.encode_chunk(codes, codec, fill_value=-999))
assert (back == -999).sum() == np.isnan(sst).sum()
