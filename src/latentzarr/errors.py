"""Every error the package raises on purpose, as one tree, so that a caller can catch by what it would do about it.

    LatentzarrError
    |- InvalidBoundError      (also ValueError)   a bound that cannot be meant: unknown word, zero, negative, NaN
    |- InvalidConfigError     (also ValueError)   codec configuration, chunk shape, option, argument
    |- UnsupportedDtypeError  (also TypeError)    datetime, complex, string, object, structured
    |- FormatError            (also ValueError)   bytes that are not a frame we can trust
    |  |- CorruptFrameError                       checksum or content contradicts itself
    |  |- TruncatedFrameError                     the bytes end too early
    |  |- NewerVersionError                       written by a later format version
    |  `- FrameMismatchError                      a sound frame, but not of this array (dtype, shape, model)
    |- ModelError
    |  |- ModelNotFoundError  (also LookupError)  no place that was tried holds the digest
    |  |- ModelMismatchError  (also ValueError)   the bytes do not have the digest they claim
    |  `- UntrustedModelError (also ValueError)   a model file with wrong names, shapes, sizes or weights
    |- StoreError
    |  |- IncompleteStoreError                    a write was cut off; resume it or remove the store
    |  |- StoreExistsError    (also FileExistsError)
    |  `- StoreWriteError     (also OSError)      read-only, full disk, lost connection
    |- AlreadyLossyError      (also ValueError)   data that was decoded from a lossy store would be coded again
    |- VariableNotFoundError  (also KeyError)     a bound or request names a variable the data set lacks
    |- VerificationError                          a store does not hold what it promises
    `- GuaranteeBrokenError                       our own promise failed: a defect of the package, please report it

``kind`` is stable and meant for programs; the text is meant for people and may change.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlreadyLossyError",
    "CorruptFrameError",
    "FormatError",
    "FrameMismatchError",
    "GuaranteeBrokenError",
    "IncompleteStoreError",
    "InvalidBoundError",
    "InvalidConfigError",
    "LatentzarrError",
    "ModelError",
    "ModelMismatchError",
    "ModelNotFoundError",
    "NewerVersionError",
    "StoreError",
    "StoreExistsError",
    "StoreWriteError",
    "TruncatedFrameError",
    "UnsupportedDtypeError",
    "UntrustedModelError",
    "VariableNotFoundError",
    "VerificationError",
]


class LatentzarrError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message : str
        What is wrong (with the offending value) and what to do next.
    place : str, optional
        Where: a variable, a chunk, a file, a field of a frame. Put before the message.
    """

    kind: ClassVar[str] = "latentzarr"

    def __init__(self, message: str, *, place: str | None = None) -> None:
        self.message = message
        self.place = place
        super().__init__(message, place)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.place))

    def at(self, place: str) -> LatentzarrError:
        """The same error with ``place`` put in front of what it already says about where."""
        return type(self)(self.message, place=f"{place}, {self.place}" if self.place else place)


def _rebuild(cls: type[LatentzarrError], message: str, place: str | None) -> LatentzarrError:
    return cls(message, place=place)


class InvalidBoundError(LatentzarrError, ValueError):
    kind = "invalid-bound"


class InvalidConfigError(LatentzarrError, ValueError):
    kind = "invalid-config"


class UnsupportedDtypeError(LatentzarrError, TypeError):
    kind = "unsupported-dtype"


class FormatError(LatentzarrError, ValueError):
    kind = "format"


class CorruptFrameError(FormatError):
    kind = "corrupt-frame"


class TruncatedFrameError(FormatError):
    kind = "truncated-frame"


class NewerVersionError(FormatError):
    kind = "newer-version"


class FrameMismatchError(FormatError):
    kind = "frame-mismatch"


class ModelError(LatentzarrError):
    kind = "model"


class ModelNotFoundError(ModelError, LookupError):
    kind = "model-not-found"


class ModelMismatchError(ModelError, ValueError):
    kind = "model-mismatch"


class UntrustedModelError(ModelError, ValueError):
    kind = "untrusted-model"


class StoreError(LatentzarrError):
    kind = "store"


class IncompleteStoreError(StoreError):
    kind = "incomplete-store"


class StoreExistsError(StoreError, FileExistsError):
    kind = "store-exists"


class StoreWriteError(StoreError, OSError):
    kind = "store-write"


class AlreadyLossyError(LatentzarrError, ValueError):
    kind = "already-lossy"


class VariableNotFoundError(LatentzarrError, KeyError):
    kind = "variable-not-found"


class VerificationError(LatentzarrError):
    kind = "verification"


class GuaranteeBrokenError(LatentzarrError):
    kind = "guarantee-broken"
