"""Products with a matrix that stays in the processor's cache, as numba functions.

Libraries pack both matrices before they multiply, which takes longer than the product of a few trials. Here,
one of them is packed once for all steps of a loop, into panels as wide as two vector registers, and vector
registers hold the sums of a few rows and the columns of a panel until they are complete.
"""

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

# allow any order of float operations, but keep NaN, by which the caller recognizes divergence
FLOAT_OPERATIONS = {"contract", "reassoc", "nsz", "arcp"}
compile_function = njit(cache=True, nogil=True, error_model="numpy", fastmath=FLOAT_OPERATIONS)

# bytes of a row of a panel: two vector registers of AVX-512, or of half its size, since others have fewer or
# smaller registers, and those that do not fit would be moved to memory and back in each step
_ROW = 128 if get_host_cpu_features().get("avx512f") else 64
_BLOCK = 200  # rows of a panel that fit into the nearest cache beside what they are multiplied with


def _create_tile(n_rows: int, row: int = _ROW, *, add: bool = False) -> Any:
    """Return a numba function for ``n_rows`` rows and a few columns, of ``row`` bytes, of a product."""

    @intrinsic  # type: ignore[misc,unused-ignore]
    def compute_tile(_: Any, rows: Any, panel: Any, out: Any, b: Any, i: Any) -> Any:
        signature = types.void(rows, panel, out, types.intp, types.intp)
        return signature, functools.partial(_build_tile, n_rows, row, add)

    return compute_tile


def _build_tile(  # noqa: PLR0913, PLR0917  # numba gives the last four
    n_rows: int,
    row_size: int,
    add: bool,
    context: Any,
    builder: Any,
    signature: Any,
    args: Any,  # noqa: FBT001
) -> Any:
    """Write the instructions for out[b:b + n_rows, i:i + n] = rows[b:b + n_rows] @ panel[:, :n].

    With ``add``, the product is added to what is there. Rows beyond the last are the last one again, so that
    no tile is smaller than the others.
    """
    rows, panel, out = (
        make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args[:3], args[:3], strict=True)
    )
    b, i = args[3:]
    total_rows, n_summed = cgutils.unpack_tuple(builder, rows.shape, 2)
    last = builder.sub(total_rows, b.type(1))
    wanted = [builder.add(b, b.type(row)) for row in range(n_rows)]
    chosen = [builder.select(builder.icmp_signed("<", row, last), row, last) for row in wanted]
    bits = signature.args[0].dtype.bitwidth
    width = 8 * row_size // bits
    vector = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), width)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)

    def locate(array: Any, row: Any, column: Any, kind: Any) -> Any:
        first, second = cgutils.unpack_tuple(builder, array.strides, 2)
        offset = builder.add(builder.mul(row, first), builder.mul(column, second))
        return builder.bitcast(cgutils.pointer_add(builder, array.data, offset), kind.as_pointer())

    places = [locate(out, row, i, vector) for row in chosen]
    sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * width)) for _ in chosen]
    for total, place in zip(sums, places, strict=True):  # again: a variable is set only once in a function
        first = builder.load(place, align=bits // 8) if add else ir.Constant(vector, [0.0] * width)
        builder.store(first, total)
    with cgutils.for_range(builder, n_summed) as loop:
        weights = builder.load(locate(panel, loop.index, b.type(0), vector), align=bits // 8)
        for row, total in zip(chosen, sums, strict=True):
            value = builder.load(locate(rows, row, loop.index, vector.element))
            spread = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            spread = builder.shuffle_vector(spread, spread, everywhere)
            # one instruction on processors that have it; the function fma would be slow on all others
            product = builder.fmul(spread, weights, flags=("contract",))
            builder.store(builder.fadd(product, builder.load(total), flags=("contract",)), total)
    for place, total in zip(places, sums, strict=True):
        builder.store(builder.load(total), place, align=bits // 8)
    return context.get_dummy_value()


_tile_of_2, _tile_of_4, _tile_of_5 = _create_tile(2), _create_tile(4), _create_tile(5)
_half_tile = _create_tile(5, _ROW // 2)  # only one, since there is at most one column of them in a product
_add_tile, _add_half_tile = _create_tile(5, add=True), _create_tile(5, _ROW // 2, add=True)


@compile_function
def pad(n: int, itemsize: int) -> int:
    """Return how many columns the product with a matrix of n columns has: a multiple of half a panel."""
    half = _ROW // itemsize // 2
    return (n + half - 1) // half * half


@compile_function
def create_panels(n_rows: int, matrix: Any) -> Any:
    """Return panels, (n_panels, n_rows, width), for n_rows rows with as many columns as a matrix."""
    width = _ROW // matrix.itemsize
    return np.zeros(((matrix.shape[1] + width - 1) // width, n_rows, width), matrix.dtype)


@compile_function
def fill_panels(matrix: Any, panels: Any) -> None:
    """Copy a matrix to panels, whose columns beyond the last of the matrix stay as they are."""
    width = panels.shape[2]
    for p in range(panels.shape[0]):
        n = min(width, matrix.shape[1] - p * width)
        for k in range(matrix.shape[0]):
            row, out = matrix[k], panels[p, k]
            if n == width:  # a known number of columns becomes vector instructions
                for i in range(width):
                    out[i] = row[p * width + i]
            else:
                for i in range(n):
                    out[i] = row[p * width + i]


@compile_function
def pack(matrix: Any) -> Any:
    """Return the panels of a matrix, 0 beyond its last column."""
    panels = create_panels(matrix.shape[0], matrix)
    fill_panels(matrix, panels)
    return panels


@compile_function
def _fill_columns(rows: Any, panel: Any, out: Any, i: int, is_half: bool) -> None:
    """Compute all rows of the columns of a tile, or of half a tile, that begin at a column."""
    n_rows = rows.shape[0]
    if is_half:
        for b in range(0, n_rows, 5):
            _half_tile(rows, panel, out, b, i)
    elif n_rows <= 2:
        _tile_of_2(rows, panel, out, 0, i)
    elif -n_rows % 4 < -n_rows % 5:  # tiles of four rows compute fewer rows twice
        for b in range(0, n_rows, 4):
            _tile_of_4(rows, panel, out, b, i)
    else:
        for b in range(0, n_rows, 5):
            _tile_of_5(rows, panel, out, b, i)


@compile_function
def multiply(rows: Any, panels: Any, out: Any) -> None:
    """Write rows @ matrix to out, from the panels of the matrix, (n_rows, m) and (n_rows, pad(n)).

    Each value is the same sum in the same order, however many rows there are.
    """
    if rows.shape[0] == 0:  # a tile begins with the last row, which would lie before the array
        return
    width = panels.shape[2]
    for p in range(panels.shape[0]):
        _fill_columns(rows, panels[p], out, p * width, out.shape[1] - p * width < width)


@compile_function
def multiply_once(rows: Any, matrix: Any) -> Any:
    """Return rows @ matrix, shape (n_rows, pad(n)), of the shapes (n_rows, m) and (m, n)."""
    out = np.empty((rows.shape[0], pad(matrix.shape[1], matrix.itemsize)), matrix.dtype)
    multiply(rows, pack(matrix), out)
    return out


@compile_function
def sum_products(left: Any, right: Any) -> Any:
    """Return left.T @ right, shape (m, pad(n)), of the shapes (n_rows, m) and (n_rows, n)."""
    out = np.zeros((left.shape[1], pad(right.shape[1], right.itemsize)), right.dtype)
    panels = create_panels(_BLOCK, right)
    width = panels.shape[2]
    for k in range(0, left.shape[0], _BLOCK):
        block = left[k : k + _BLOCK].T
        fill_panels(right[k : k + _BLOCK], panels)
        for p in range(panels.shape[0]):
            is_half = out.shape[1] - p * width < width
            for b in range(0, block.shape[0], 5):
                if is_half:
                    _add_half_tile(block, panels[p], out, b, p * width)
                else:
                    _add_tile(block, panels[p], out, b, p * width)
    return out
