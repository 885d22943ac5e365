"""Compiled: pick one neighbour of every value of a block of a pass, by strides inside a row, by index at its edges.

A *block* is up to `BLOCK` values of a pass in C order. Arrays over a block have the length `BLOCK`, and loops over them run to
`padded` values: a whole number of vectors, so that no scalar loop finishes them; what stands beyond the block is never read
again.
"""

from __future__ import annotations

import numba as nb
from llvmlite import ir
from numba.extending import intrinsic

__all__ = ["BLOCK", "padded", "pick"]

BLOCK = 256
_VECTOR = 32
_LANES = 8
_EDGE = 2  # columns of a pass at either end whose neighbours may be mirrored
_SHORT = 12  # rows of fewer columns are picked by index alone


@nb.njit(nogil=True, cache=True, inline="always")
def padded(count):
    """``count`` rounded up to whole vectors."""
    return (count + _VECTOR - 1) // _VECTOR * _VECTOR


@intrinsic
def _take_vector(typingctx, source, start, step, out, at):  # noqa: ARG001 - numba's protocol
    """``out[at : at + 8] = source[start : start + 8 * step : step]`` as one load, one shuffle and one store of vectors.

    Written in LLVM's own terms, which hold on every machine; left to itself, LLVM makes gathers of such loops, several times
    as slow. Nothing is checked: ``source`` has ``start + 8 * step`` values, ``step`` is a literal.
    """
    if not isinstance(step, nb.types.IntegerLiteral):
        raise nb.errors.RequireLiteralValue("step")
    every = step.literal_value

    def generate(context, builder, signature, arguments):
        given, begin, _, to, place = arguments
        from_array = context.make_array(signature.args[0])(context, builder, given)
        to_array = context.make_array(signature.args[3])(context, builder, to)
        narrow = context.get_data_type(signature.args[0].dtype)
        wide = context.get_data_type(signature.args[3].dtype)
        size = context.get_abi_sizeof(narrow), context.get_abi_sizeof(wide)
        many = ir.VectorType(narrow, _LANES * every)
        begins = builder.bitcast(builder.gep(from_array.data, [begin]), many.as_pointer())
        loaded = builder.load(begins, align=size[0])
        mask = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [every * k for k in range(_LANES)])
        taken = builder.shuffle_vector(loaded, ir.Constant(many, ir.Undefined), mask)
        result = ir.VectorType(wide, _LANES)
        if isinstance(wide, ir.FloatType):
            taken = builder.uitofp(taken, result)
        elif size[0] < size[1]:
            taken = builder.zext(taken, result)
        builder.store(taken, builder.bitcast(builder.gep(to_array.data, [place]), result.as_pointer()), align=size[1])
        return context.get_dummy_value()

    return nb.types.void(source, nb.intp, step, out, nb.intp), generate


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _every(source, start, step, run, out, at):
    """``out[at : at + run]``: every ``step``-th of ``source`` from ``start``."""
    whole = max(run - 1, 0) // _LANES * _LANES  # the last value's vector could reach beyond the array
    if step == 2:
        for j in range(0, whole, _LANES):
            _take_vector(source, start + 2 * j, 2, out, at + j)
    elif step == 4:
        for j in range(0, whole, _LANES):
            _take_vector(source, start + 4 * j, 4, out, at + j)
    else:
        whole = 0
    for j in range(whole, run):
        out[at + j] = source[start + step * j]


@nb.njit(nogil=True, cache=True, no_cpython_wrapper=True)
def pick(source, neighbour_rows, neighbour_columns, width, first, count, out):
    """``out[k]``: the neighbour of value ``first + k`` of a pass, row by row."""
    columns = len(neighbour_columns)
    step = neighbour_columns[_EDGE + 1] - neighbour_columns[_EDGE] if columns >= _SHORT else 0
    r = first // columns
    c = first - r * columns
    k = 0
    while k < count:
        end = min(c + count - k, columns)
        start = neighbour_rows[r] * width
        inner, outer = (max(c, _EDGE), min(end, columns - _EDGE)) if columns >= _SHORT else (end, end)
        if inner >= outer:
            inner = outer = end
        for j in range(c, inner):
            out[k + j - c] = source[start + neighbour_columns[j]]
        if outer > inner:
            _every(source, start + neighbour_columns[inner], step, outer - inner, out, k + inner - c)
        for j in range(outer, end):
            out[k + j - c] = source[start + neighbour_columns[j]]
        k += end - c
        c = 0
        r += 1
