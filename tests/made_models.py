"""Models that nobody trained, for tests of what must hold for all."""

import numpy as np

from latentzarr.bitstream.tables import FrequencyTables, fixed_tables
from latentzarr.geometry import Order
from latentzarr.models.card import ModelCard
from latentzarr.models.network import REFERENCE_INPUTS, SPATIAL_INPUTS, IntegerNetwork, NetworkSet
from latentzarr.models.weights import Model


def any_network(inputs, hidden, rng):
    """Weights that make use of the whole range they may have, with outputs that still predict something."""

    def layer(shape, largest, top, rows):
        w = rng.normal(size=shape)
        w = (w * np.reshape(largest, (-1, 1)) / top / np.abs(w).sum(1, keepdims=True)).astype(np.int16)
        return w, rng.integers(-20_000, 20_000, (*rows, shape[0])).astype(np.int32)

    first = layer((hidden[0], inputs), 16_000_000, 1088, (12,))
    second = layer(hidden[::-1], 8_000_000, 1023, ())
    return IntegerNetwork(*first, *second, *layer((2, hidden[1]), [1_500_000, 60_000], 1023, (12,)))


def any_tables(order):
    """The fixed tables, in another order for each group."""
    rng = np.random.default_rng(0)
    costs = fixed_tables().costs
    groups = [costs[np.clip(np.arange(64) + rng.integers(-9, 10), 0, 63)] for _ in range(4 * order.kinds)]
    return FrequencyTables.from_costs(np.concatenate(groups))


def any_model(order, hidden=(8, 16), seed=0):
    """A model of an order with random networks."""
    rng = np.random.default_rng((seed, *hidden))
    inputs = SPATIAL_INPUTS, REFERENCE_INPUTS[Order(order)]
    networks = NetworkSet(*(tuple(any_network(n, hidden, rng) for _ in range(order.kinds)) for n in inputs))
    return Model.build(networks, any_tables(order), ModelCard("random"))
