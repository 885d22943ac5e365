"""Code and decode the fields of a block of times in one tile: which decoded fields each looks at, and in what order.

Reading decodes a field and those it looks at, and nothing else.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentzarr.codec.config import CodecConfig
from latentzarr.cube.field import DecodedField, FieldSpec, decode_field, encode_field
from latentzarr.cube.synthesis import synthesise
from latentzarr.cube.table import STRIDES, ReferenceTable, Source, Term
from latentzarr.cube.times import block_visits, role_of
from latentzarr.cube.walk import Guide
from latentzarr.errors import LatentzarrError
from latentzarr.models.weights import Model
from latentzarr.slices import Visit

__all__ = ["BlockCoder", "Key"]

Key = tuple[int, int]
"""Time in the block, channel."""
_TRIES_ALONE = 0.995  # a channel goes on being tried as a frame of its own where the first time was at most this much longer so


@dataclass(frozen=True, eq=False)
class BlockCoder:
    """What all blocks of a cube (in one tile) have in common.

    Attributes
    ----------
    table : ReferenceTable
    specs : sequence of FieldSpec
        By channel.
    names : sequence of str
        By channel, for errors.
    time_stride : int
        See `latentzarr.cube.times`.
    model : Model
    statics : mapping of int to int32 array, shape (rows, columns)
        By channel, on its nominal lattice.
    """

    table: ReferenceTable
    specs: Sequence[FieldSpec]
    names: Sequence[str]
    time_stride: int
    model: Model
    statics: Mapping[int, npt.NDArray[np.int32]]

    def encode(
        self,
        times: int,
        values: Callable[[int, int], npt.NDArray[Any]],
        base: Callable[[int, int], npt.NDArray[np.int32]] | None = None,
        configs: Mapping[int, CodecConfig] | None = None,
        fields: Mapping[Key, DecodedField] | None = None,
    ) -> dict[Key, tuple[bytes, DecodedField]]:
        """Code a block; every field has been decoded and checked.

        Parameters
        ----------
        times : int
        values : callable
            Field of a time and channel, shape (rows, columns).
        base : callable, optional
            What the latents say of it, on the nominal lattice.
        configs : mapping of int to CodecConfig, optional
            Channels that are tried as frames of their own as well.
        fields : mapping, optional
            Fields that are stored already and looked at, and not coded again.
        """
        done: dict[Key, DecodedField] = dict(fields or {})
        result: dict[Key, tuple[bytes, DecodedField]] = {}
        alone = dict(configs or {})
        for visit in block_visits(times, self.time_stride):
            for channel in self.table.order.tolist():
                key = visit.slice, channel
                if key in done:
                    continue
                spec = self.specs[channel]
                guide = self.guide(visit, channel, done, base)
                data, field = encode_field(values(*key), spec, guide, self.model, alone.get(channel))
                if visit.slice == 0 and data[0] != 0:
                    alone.pop(channel, None)  # the walk beside a reference was shorter: no need to try at other times
                done[key] = field
                result[key] = data, field
        return result

    def decode(
        self,
        times: int,
        wanted: Iterable[Key],
        frame: Callable[[int, int], bytes],
        base: Callable[[int, int], npt.NDArray[np.int32]] | None = None,
        known: Mapping[Key, DecodedField] | None = None,
    ) -> dict[Key, DecodedField]:
        """Decode some fields of a block and all they look at.

        Parameters
        ----------
        times : int
            Of the block.
        wanted : iterable of (time, channel)
        frame : callable
            Coded bytes of a time and channel.
        base : callable, optional
        known : mapping, optional
            Fields decoded before.

        Returns
        -------
        dict
            Those wanted and all that were decoded on the way.

        Raises
        ------
        FormatError, ModelError
            Naming channel and time.
        """
        wanted = list(wanted)
        done: dict[Key, DecodedField] = {}
        held = dict(known or {})
        for visit, channel in self.needed(times, wanted, held):
            key = visit.slice, channel
            try:
                guide = self.guide(visit, channel, ChainMap(done, held), base)
                done[key] = decode_field(frame(*key), self.specs[channel], guide, self.model)
            except LatentzarrError as error:
                raise error.at(f"{self.names[channel]}, time {visit.slice} of its block") from error
        return {**done, **{key: held[key] for key in wanted if key in held}}

    def needed(self, times: int, wanted: Iterable[Key], known: Iterable[Key] = ()) -> list[tuple[Visit, int]]:
        """The fields to decode for those wanted, in order; those known already are left out."""
        have = set(known)
        missing = {key for key in wanted if key not in have}
        found: list[tuple[Visit, int]] = []
        order = self.table.order.tolist()
        for visit in reversed(block_visits(times, self.time_stride)):
            role = self.table.role_index(role_of(visit))
            for channel in reversed(order):
                if (visit.slice, channel) not in missing:
                    continue
                found.append((visit, channel))
                looked = {_key_of(term, visit) for term in self.table.terms_of(channel, role)[0]}
                missing |= {key for key in looked if key is not None and key not in have}
        return found[::-1]

    def guide(
        self,
        visit: Visit,
        channel: int,
        done: Mapping[Key, DecodedField],
        base: Callable[[int, int], npt.NDArray[np.int32]] | None,
    ) -> Guide | None:
        """The reference field of a channel; None where there is nothing to look at."""
        role = self.table.role_index(role_of(visit))
        terms, weights = self.table.terms_of(channel, role)
        seen, kept = [], []
        for i, term in enumerate(terms):
            field = self._looked_at(term, visit, done, base)
            if field is not None:
                seen.append(field)
                kept.append(i)
        if not seen:
            return None
        stencils = [terms[i].stencil for i in kept]
        factor = self.table.factor if self.table.factor.size else None
        levels = tuple(
            synthesise(
                seen, stencils, weights[kept, level], int(self.table.shifts[channel, role, level]), level, factor,
                periodic=bool(self.table.periodic[0]),
            )
            for level in range(STRIDES)
        )  # fmt: skip
        return Guide(levels, self._activity([terms[i] for i in kept], visit, done, channel))

    def _looked_at(
        self,
        term: Term,
        visit: Visit,
        done: Mapping[Key, DecodedField],
        base: Callable[[int, int], npt.NDArray[np.int32]] | None,
    ) -> npt.NDArray[np.int32] | None:
        if term.source is Source.STATIC:
            return self.statics.get(term.channel)
        if term.source is Source.BASE:
            return None if base is None else base(visit.slice, term.channel)
        key = _key_of(term, visit)
        assert key is not None
        return done[key].nominal

    def _activity(
        self, terms: Sequence[Term], visit: Visit, done: Mapping[Key, DecodedField], channel: int
    ) -> npt.NDArray[np.uint8]:
        """How sure the reference is: of the same channel at other times, else of the last channel looked at at this time."""
        for sources in ((Source.BEFORE, Source.AFTER), (Source.SAME,)):
            own = Source.SAME not in sources
            looked = [t for t in terms if t.source in sources and (t.channel == channel or not own)]
            keys = list(dict.fromkeys(_key_of(t, visit) for t in looked))
            found = [done[key].activity for key in keys if key is not None][-len(sources) :]
            if len(found) == 2:
                return ((found[0].astype(np.uint16) + found[1] + 1) >> 1).astype(np.uint8)
            if found:
                return found[0]
        return np.zeros(self.specs[channel].shape, np.uint8)


def _key_of(term: Term, visit: Visit) -> Key | None:
    """The decoded field a term looks at; None for static fields and latents."""
    match term.source:
        case Source.SAME:
            return visit.slice, term.channel
        case Source.BEFORE:
            return visit.before, term.channel
        case Source.AFTER:
            return visit.after, term.channel
        case _:
            return None
