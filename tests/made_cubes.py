"""A small cube whose channels tell of each other, and skeletons of it."""

import numpy as np

from latentzarr.cube.choose import Choice, Place, choose
from latentzarr.cube.skeleton import SampleFields


def smooth(rng, shape, times=3):
    """Noise that neighbours share."""
    field = rng.normal(size=shape)
    for _ in range(times):
        for axis in (-1, -2):
            field = (np.roll(field, 1, axis) + 2 * field + np.roll(field, -1, axis)) / 4
    return field


def made_samples(runs=3, times=5, rows=32, columns=48, scale=600.0, seed=0):
    """Two variables: three levels that resemble each other, and one field made of the lowest level and a static one."""
    rng = np.random.default_rng(seed)
    static = smooth(rng, (4, rows, columns)) * scale
    found = []
    for _ in range(runs):
        old = smooth(rng, (rows, columns))
        run = np.empty((times, 4, rows, columns))
        for t in range(times):
            old = 0.9 * old + 0.4 * smooth(rng, (rows, columns))
            for level in range(3):
                run[t, level] = scale * ((1 - 0.1 * level) * old + 0.1 * smooth(rng, (rows, columns)))
            run[t, 3] = 0.5 * run[t, 2] + static[3]
        found.append(run)
    return SampleFields(found, static, None, np.linspace(-1, 1, rows), True)


PLACES = (Place(0, 0), Place(0, 1), Place(0, 2), Place(1, 0))


def made_choice(samples, block=4, times=400, coarser=1.0) -> Choice:
    """A skeleton; ``coarser``: how many times larger the bound is than that of the samples."""
    step = np.full(4, coarser)
    return choose(scaled(samples, 1 / coarser), PLACES, np.zeros(4), step, block=block, times=times, access=1.0)


def scaled(samples, factor):
    """The same samples on another lattice."""
    return SampleFields(
        [run * factor for run in samples.runs],
        None if samples.statics is None else samples.statics * factor,
        None,
        samples.factor,
        samples.periodic,
    )
