"""xarray's own tests of a zarr backend, run through our engine: it may fail nowhere that the stock engine does not.

A test that fails is run again with the stock engine in the same environment. If that fails too, the trouble is not ours and
the test is marked so; if it does not, the failure stands.
"""

from __future__ import annotations

import contextlib
import functools
import inspect

import pytest
import xarray as xr
from xarray.tests.conftest import *  # noqa: F403 - fixtures of the suite
from xarray.tests.test_backends import TestZarrDirectoryStore as Suite
from xarray.tests.test_backends import default_zarr_format  # noqa: F401 - a fixture, too

# the suite looks after its own warnings
pytestmark = pytest.mark.filterwarnings("ignore")

_FAILURES = (Exception, pytest.fail.Exception)
_VERDICT = "the stock zarr engine fails here too"


def _stock(test):
    stock = type(test)()
    stock.engine_under_test = "zarr"
    return stock


def _held_against_stock(method):
    """A test of the suite that asks the stock engine before it fails."""
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def asynchronous(self, *args, **kwargs):
            try:
                await method(self, *args, **kwargs)
            except _FAILURES:
                try:
                    await method(_stock(self), *args, **kwargs)
                except _FAILURES:
                    pytest.xfail(_VERDICT)
                raise

        return asynchronous

    @functools.wraps(method)
    def plain(self, *args, **kwargs):
        try:
            method(self, *args, **kwargs)
        except _FAILURES:
            try:
                method(_stock(self), *args, **kwargs)
            except _FAILURES:
                pytest.xfail(_VERDICT)
            raise

    return plain


class TestThroughOurEngine(Suite):
    engine_under_test = "latentzarr"

    @contextlib.contextmanager
    def open(self, path, **kwargs):
        with xr.open_dataset(path, engine=self.engine_under_test, mode="r", **kwargs, **self.version_kwargs) as ds:
            yield ds


for _name, _method in inspect.getmembers(Suite, inspect.isfunction):
    if _name.startswith("test_"):
        setattr(TestThroughOurEngine, _name, _held_against_stock(_method))

del Suite  # or it would be collected a second time
