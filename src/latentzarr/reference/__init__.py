"""The format page as slow, plain NumPy: an independent decoder that proves the page and holds the fast decoder to it.

It follows `docs/reference/format.md` section by section and shares no code with the codec, only its errors.

>>> import numpy as np
>>> from latentzarr import CodecConfig, ErrorBound, default_model, encode_chunk
>>> frame = encode_chunk(np.arange(12).reshape(3, 4), CodecConfig(ErrorBound.lossless()))
>>> int(decode_frame(frame, default_model().blob)[2, 3])
11
"""

from __future__ import annotations

from latentzarr.reference.decode import decode_frame, sections_hold

__all__ = ["decode_frame", "sections_hold"]
