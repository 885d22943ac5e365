"""Marks that xarray's own test suite uses; see `test_xarray_conformance.py`."""

from __future__ import annotations


def pytest_configure(config):
    for mark in ("flaky", "network", "skip_if_param", "skip_with_dask_array", "xfail_with_dask_array"):
        config.addinivalue_line("markers", f"{mark}: used by xarray's test suite")
