"""Rewrites the worked frame of `format.md` (section 14) from a frame coded here, so that the page cannot disagree with the code.

    python docs/reference/make_hexdump.py

The frame is cubic: it needs no model, so that it stays the same when the shipped one changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr import CodecConfig, ErrorBound
from latentzarr.codec.chunk import encode_with
from latentzarr.codec.predictor import CubicPredictor
from latentzarr.reference import decode_frame
from latentzarr.reference.bits import Cursor

PAGE = Path(__file__).with_name("format.md")
BEGIN, END = "<!-- hexdump: written by make_hexdump.py -->\n", "<!-- end of hexdump -->\n"


def worked_values() -> npt.NDArray[np.float32]:
    """The values of the worked frame."""
    i, j = np.indices((4, 6))
    values = ((3 * i * i + 2 * i * j + 5 * j) / 4 + 270).astype(np.float32)
    values[1, 4] = np.nan
    return values


def worked_frame() -> bytes:
    """The worked frame."""
    return encode_with(worked_values(), CodecConfig(ErrorBound.absolute(0.25)), (CubicPredictor(),))


def fields(frame: bytes) -> Iterator[tuple[int, int, str]]:
    """Start, end and meaning of each field, in order; for frames like the worked one only."""
    cursor = Cursor(frame)

    def field(start: int, text: str) -> tuple[int, int, str]:
        return start, cursor.at, text

    def number(name: str, read: Any) -> tuple[int, int, str]:
        start = cursor.at
        return field(start, f"{name} {read()}")

    for size, text in [
        (2, "magic `Lz`"),
        (1, "format version 2"),
        (1, "mode 3: cubic; bound kind 1: absolute"),
        (1, "dtype 9: float32, C order"),
        (4, "checksum"),
    ]:
        cursor.take(size)
        yield field(cursor.at - size, text)
    yield number("number of dimensions", cursor.varint)
    yield number("rows", cursor.varint)
    yield number("columns", cursor.varint)
    yield number("bound value", lambda: float(np.frombuffer(cursor.take(4), "<f4")[0]))
    assert cursor.varint() == 0b10010
    yield field(cursor.at - 1, "flags: mask, adaptation")
    yield number("offset", cursor.signed_varint)
    yield number("slack", cursor.byte)
    both = cursor.byte()
    yield field(cursor.at - 1, f"root class {2 * (both & 31)}, lanes 2 to the power of {both >> 5}")
    start = cursor.at
    mask = cursor.varint()
    yield field(start, f"mask: {mask} bytes")
    assert cursor.byte() == 1
    yield field(cursor.at - 1, "mask: one plane, NaN")
    cursor.take(mask - 1)
    yield field(cursor.at - mask + 1, "mask: arithmetic code of the plane")
    for name in ("stride 1", "stride 2", "strides 4 and more"):
        cursor.take(16)
        yield field(cursor.at - 16, f"adaptation: table of each context, {name}")
    cursor.take(4)
    yield field(cursor.at - 4, f"state of lane 0: {int.from_bytes(frame[cursor.at - 4 : cursor.at], 'little'):#x}")
    words = cursor.left
    cursor.take(words)
    yield field(cursor.at - words, "words")


def _table(values: npt.NDArray[Any]) -> str:
    return "\n".join(" ".join(f"{'NaN' if np.isnan(x) else format(float(x), '.9g'):>12}" for x in row) for row in values)


def section() -> str:
    """What stands between the marks of the page."""
    frame = worked_frame()
    decoded = decode_frame(frame)
    lines = []
    for start, end, text in fields(frame):
        for at in range(start, end, 8):
            part = " ".join(f"{b:02X}" for b in frame[at : min(at + 8, end)])
            lines.append(f"{at:3d}  {part:<24} {text if at == start else ''}".rstrip())
    return f"""
The 4 x 6 float32 values

```values
{_table(worked_values())}
```

under an absolute bound of 0.25 are, with the cubic predictor, these {len(frame)} bytes:

```hexdump
{chr(10).join(lines)}
```

They decode to

```decoded
{_table(decoded)}
```

`python docs/reference/make_hexdump.py` writes this section; a test decodes it as it stands here.

"""


def main() -> None:
    """Rewrite the section."""
    page = PAGE.read_text("utf-8")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    PAGE.write_text(head + BEGIN + section() + END + tail, "utf-8")


if __name__ == "__main__":
    main()
