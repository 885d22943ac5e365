"""How to look at a large store without reading it all? Open it at an eighth of the resolution, from the front of its bytes."""

import xarray as xr

import latentzarr
from latentzarr.dataset.example import example_dataset

ds = example_dataset(steps=4, rows=360, columns=720)[["t"]]
latentzarr.to_zarr(ds, "preview.zarr", bounds={"t": "0.1 K"}, overwrite=True, progress=False)

whole = xr.open_dataset("preview.zarr", engine="latentzarr", chunks={})
small = xr.open_dataset("preview.zarr", engine="latentzarr", scale=8)
print("whole", dict(whole.t.sizes), "preview", dict(small.t.sizes))
assert (small.t.values == whole.t.values[..., ::8, ::8]).all()  # the same values, not an average
