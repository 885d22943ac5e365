"""The model of a cube: the base that makes latents, and the networks of the refinement; saved and read as one file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from latentzarr.cube.basis import JointBasis
from latentzarr.cube.basis_file import read_basis
from latentzarr.errors import UntrustedModelError
from latentzarr.models.weights import Model, read_model

__all__ = ["CubeModel", "load_cube_model", "save_cube_model"]

_MAX_BYTES = 2**28


@dataclass(frozen=True, slots=True, eq=False)
class CubeModel:
    """What `latentzarr.fit_cube` gives.

    Attributes
    ----------
    basis : JointBasis
        Fields to latents and back.
    refinement : Model or None
        Networks of the refinement; None: those shipped.
    """

    basis: JointBasis
    refinement: Model | None = None

    def __repr__(self) -> str:
        return f"CubeModel({self.basis!r}, refinement={self.refinement!r})"


def save_cube_model(model: CubeModel, path: str | Path) -> Path:
    """Write a model as a safetensors file, whole or not at all."""
    target = Path(path)
    parts = {"basis": np.frombuffer(model.basis.blob, np.uint8)}
    if model.refinement is not None:
        parts["refinement"] = np.frombuffer(model.refinement.blob, np.uint8)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(safetensors.numpy.save(parts))
    return partial.replace(target)


def load_cube_model(path: str | Path) -> CubeModel:
    """Read what `save_cube_model` wrote.

    Raises
    ------
    UntrustedModelError
        If it is not such a file.
    """
    file = Path(path)
    if file.stat().st_size > _MAX_BYTES:
        raise UntrustedModelError(f"a cube's model has at most {_MAX_BYTES} bytes", place=str(path))
    blob = file.read_bytes()
    if len(blob) < 8 or struct.unpack_from("<Q", blob)[0] > min(len(blob) - 8, 2**16):
        raise UntrustedModelError("not a safetensors file", place=str(path))
    try:
        parts = safetensors.numpy.load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrustedModelError(f"not a safetensors file: {error}", place=str(path)) from error
    if "basis" not in parts or not set(parts) <= {"basis", "refinement"} or any(p.dtype != np.uint8 for p in parts.values()):
        raise UntrustedModelError(f"a cube's model holds 'basis' and 'refinement', not {sorted(parts)}", place=str(path))
    refinement = read_model(parts["refinement"].tobytes()) if "refinement" in parts else None
    return CubeModel(read_basis(parts["basis"].tobytes()), refinement)
