"""The compiled steps of the hierarchy. `latentzarr.reference` says the same in plain NumPy; tests hold the two equal."""

from latentzarr.codec.kernels.inputs import average, inputs_of_pass
from latentzarr.codec.kernels.network import dense, predict_pass
from latentzarr.codec.kernels.values import cubic_pass, quantise_pass, quantise_root, reconstruct_pass, reconstruct_root
from latentzarr.codec.kernels.walk import decode_passes, encode_passes

__all__ = [
    "average",
    "cubic_pass",
    "decode_passes",
    "dense",
    "encode_passes",
    "inputs_of_pass",
    "predict_pass",
    "quantise_pass",
    "quantise_root",
    "reconstruct_pass",
    "reconstruct_root",
]
