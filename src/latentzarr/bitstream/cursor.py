"""Bytes written and read front to back, every read checked against what is there."""

from __future__ import annotations

from latentzarr.errors import CorruptFrameError, TruncatedFrameError

__all__ = ["Cursor", "Writer"]


class Writer:
    """Bytes in the making."""

    def __init__(self) -> None:
        self.parts = bytearray()

    def varint(self, value: int) -> None:
        """7 bits a byte, low first, high bit set on all but the last."""
        while value >= 0x80:
            self.parts.append(value & 0x7F | 0x80)
            value >>= 7
        self.parts.append(value)

    def signed(self, value: int) -> None:
        """Zigzag, then `varint`."""
        self.varint(value << 1 if value >= 0 else (-value << 1) - 1)

    def block(self, data: bytes) -> None:
        """Length, then the bytes."""
        self.varint(len(data))
        self.parts += data


class Cursor:
    """Checked reading of bytes, front to back."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, count: int, what: str) -> bytes:
        """The next bytes; ``what`` names them in errors."""
        if count > len(self.data) - self.at:
            raise TruncatedFrameError(f"{what} needs {count} bytes, {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self, what: str) -> int:
        """The next byte."""
        return self.take(1, what)[0]

    def varint(self, what: str, largest: int) -> int:
        """A number of at most ``largest``."""
        value = 0
        for shift in range(0, 70, 7):
            b = self.byte(what)
            value |= (b & 0x7F) << shift
            if b < 0x80:
                if value > largest:
                    raise CorruptFrameError(f"{what} is {value}, more than the {largest} possible here")
                return value
        raise CorruptFrameError(f"{what} is longer than 10 bytes")

    def signed(self, what: str, largest: int) -> int:
        """A number of magnitude at most about ``largest``."""
        value = self.varint(what, 2 * largest)
        return -((value + 1) >> 1) if value & 1 else value >> 1

    def block(self, what: str) -> bytes:
        """Bytes behind their length."""
        return self.take(self.varint(f"length of {what}", 2**40), what)
