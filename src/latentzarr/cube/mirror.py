"""What mirroring a field east to west does to a base's components: the symmetry that a correction may be asked to respect."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentzarr.cube.basis import JointBasis

__all__ = ["mirror_matrix"]


def mirror_matrix(basis: JointBasis) -> npt.NDArray[np.float64]:
    """Components of the mirrored field at a place from those of the field at the mirrored place, (components, components).

    Lapping is symmetric, so a mirrored field has mirrored patches. Components of an eastward wind change their sign.
    """
    arrays, patch = basis.arrays, basis.patch
    spatial = arrays.spatial.astype(np.float64) * 2.0**-15
    turned = spatial.T @ spatial.reshape(patch, patch, -1)[:, ::-1].reshape(patch**2, -1)
    rows = arrays.common_rows.astype(np.float64) * 2.0**-15
    found = np.zeros((rows.shape[1],) * 2)
    for channel, kept in enumerate(arrays.kept):
        place, _ = arrays.rows_of(channel)
        about = basis.channels[channel]
        sign = -1.0 if about.standard_name.startswith("eastward") else 1.0
        found += sign * rows[place].T @ turned[:kept, :kept] @ rows[place]
    return found
