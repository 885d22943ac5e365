"""The same examples in every run: a red test is red for everybody, and a run takes as long as the one before."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")
