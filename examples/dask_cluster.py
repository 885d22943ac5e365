"""How to write and read with a Dask cluster? As always: each process codes its own shards, nothing is shared."""

import xarray as xr
from distributed import Client, LocalCluster

import latentzarr
from latentzarr.dataset.example import example_dataset


def main() -> None:
    """Write with two processes, reduce with the same two."""
    ds = example_dataset(steps=16)[["t", "u"]].chunk({"time": 8})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        report = latentzarr.to_zarr(
            ds, "cluster.zarr", bounds={"t": "0.1 K", "u": "1% of range"}, shards={"time": 8}, overwrite=True, progress=False
        )
        print(report)
        again = xr.open_dataset("cluster.zarr", engine="latentzarr", chunks={})
        print("mean", float(again.t.mean().compute()))


if __name__ == "__main__":
    main()
