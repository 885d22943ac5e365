"""The exception tree: drawn as it is, catchable as promised, and able to travel between processes."""

import pickle
import re

import pytest

from latentzarr import errors
from latentzarr.errors import LatentzarrError


def every_error() -> list[type[LatentzarrError]]:
    found, todo = [], [LatentzarrError]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return [e for e in found if e.__module__ == errors.__name__]


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Name -> (parent, built-in parent), read from the drawing at the top of the module."""
    tree, stack = {}, []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ((?:\|  |   |\|- |`- )*)([A-Z]\w+Error)\b(?:\s+\(also (\w+)\))?", line)
        if match:
            depth = len(match[1]) // 3
            stack = [*stack[:depth], match[2]]
            tree[match[2]] = (stack[-2] if depth else None, match[3])
    return tree


def test_the_drawn_tree_is_the_real_tree():
    real = {}
    for error in every_error():
        own = [b.__name__ for b in error.__bases__ if issubclass(b, LatentzarrError)]
        others = [b.__name__ for b in error.__bases__ if not issubclass(b, LatentzarrError)]
        if error is LatentzarrError:
            own, others = [None], []
        real[error.__name__] = (own[0], others[0] if others else None)
        assert len(own) == 1
        assert len(others) <= 1
    assert drawn() == real


def test_all_lists_the_tree():
    assert sorted(errors.__all__) == sorted(e.__name__ for e in every_error())


def test_kinds_are_unique_and_of_one_form():
    kinds = [e.kind for e in every_error()]
    assert len(set(kinds)) == len(kinds)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", k) for k in kinds)
    assert all("kind" in vars(e) for e in every_error())


@pytest.mark.parametrize("error", every_error(), ids=lambda e: e.__name__)
@pytest.mark.parametrize("place", [None, "t, chunk (0, 1)"])
def test_errors_travel_between_processes(error, place):
    raised = error("it is 3, should be 4", place=place)
    back = pickle.loads(pickle.dumps(raised))
    assert type(back) is error
    assert (str(back), back.message, back.place, back.kind) == (str(raised), raised.message, place, error.kind)


def test_a_place_stands_before_the_message_and_places_nest():
    error = errors.CorruptFrameError("checksum mismatch", place="mask")
    assert str(error) == "mask: checksum mismatch"
    outer = error.at("t[0, 3]")
    assert str(outer) == "t[0, 3], mask: checksum mismatch"
    assert type(outer) is errors.CorruptFrameError
    assert str(errors.StoreError("full").at("x.zarr")) == "x.zarr: full"


def test_key_errors_do_not_quote_their_text():
    assert str(errors.VariableNotFoundError("no variable 't'")) == "no variable 't'"
