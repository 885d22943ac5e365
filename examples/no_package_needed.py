"""How to hand data to somebody without the package? Decode to an ordinary store, which says that it was lossy."""

import xarray as xr

import latentzarr
from latentzarr.dataset.example import example_dataset
from latentzarr.dataset.leave import decode_store

ds = example_dataset(steps=4)[["t"]]
latentzarr.to_zarr(ds, "ours.zarr", bounds={"t": "0.1 K"}, overwrite=True, progress=False)
decode_store("ours.zarr", "plain.zarr", overwrite=True)

plain = xr.open_zarr("plain.zarr")
print({k: v for k, v in plain.t.attrs.items() if "lossy" in k})
assert float(abs(plain.t - ds.t).max()) <= 0.1
