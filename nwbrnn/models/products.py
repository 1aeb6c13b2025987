"""The product of a few rows and a matrix that stays in the processor's cache, as a numba function.

Libraries pack both matrices before they multiply, which takes longer than the product of a few trials. Here,
vector registers hold the sums of a few rows and columns until they are complete, and nothing is packed.
"""

import functools
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

# allow any order of float operations, but keep NaN, by which the caller recognizes divergence
FLOAT_OPERATIONS = {"contract", "reassoc", "nsz", "arcp"}
compile_function = njit(cache=True, nogil=True, error_model="numpy", fastmath=FLOAT_OPERATIONS)

# bytes of a row of sums: two vector registers of AVX-512, or of half its size, since others have fewer or
# smaller registers, and those that do not fit would be moved to memory and back in each step
_ROW = 128 if get_host_cpu_features().get("avx512f") else 64
WIDEST = _ROW // 4  # columns of a tile in float32; a product with fewer columns is slow


def _create_tile(n_rows: int, row: int = _ROW) -> Any:
    """Return a numba function for ``n_rows`` rows and a few columns, of ``row`` bytes, of a product."""

    @intrinsic  # type: ignore[misc,unused-ignore]
    def compute_tile(_: Any, rows: Any, matrix: Any, out: Any, b: Any, i: Any) -> Any:
        signature = types.void(rows, matrix, out, types.intp, types.intp)
        return signature, functools.partial(_build_tile, n_rows, row)

    return compute_tile


def _build_tile(n_rows: int, row_size: int, context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Write the instructions for out[b:b + n_rows, i:i + n] = rows[b:b + n_rows] @ matrix[:, i:i + n].

    Rows beyond the last are the last one again, so that no tile is smaller than the others.
    """
    rows, matrix, out = (
        make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args[:3], args[:3], strict=True)
    )
    b, i = args[3:]
    n_summed, n_columns = cgutils.unpack_tuple(builder, matrix.shape, 2)
    last = builder.sub(cgutils.unpack_tuple(builder, rows.shape, 2)[0], b.type(1))
    wanted = [builder.add(b, b.type(row)) for row in range(n_rows)]
    chosen = [builder.select(builder.icmp_signed("<", row, last), row, last) for row in wanted]
    bits = signature.args[0].dtype.bitwidth
    width = 8 * row_size // bits
    vector = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), width)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)

    def locate(array: Any, row: Any, column: Any, n: Any) -> Any:
        return builder.gep(array.data, [builder.add(builder.mul(row, n), column)])

    sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * width)) for _ in chosen]
    for total in sums:  # again, since the variable is set only once in a function
        builder.store(ir.Constant(vector, [0.0] * width), total)
    with cgutils.for_range(builder, n_summed) as loop:
        place = builder.bitcast(locate(matrix, loop.index, i, n_columns), vector.as_pointer())
        weights = builder.load(place, align=bits // 8)
        for row, total in zip(chosen, sums, strict=True):
            value = builder.load(locate(rows, row, loop.index, n_summed))
            spread = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            spread = builder.shuffle_vector(spread, spread, everywhere)
            # one instruction on processors that have it; the function fma would be slow on all others
            product = builder.fmul(spread, weights, flags=("contract",))
            builder.store(builder.fadd(product, builder.load(total), flags=("contract",)), total)
    for row, total in zip(chosen, sums, strict=True):
        place = builder.bitcast(locate(out, row, i, n_columns), vector.as_pointer())
        builder.store(builder.load(total), place, align=bits // 8)
    return context.get_dummy_value()


_tile_of_2, _tile_of_4, _tile_of_5 = _create_tile(2), _create_tile(4), _create_tile(5)
_half_of_2, _half_of_4, _half_of_5 = (_create_tile(n, _ROW // 2) for n in (2, 4, 5))


@compile_function
def _fill_columns(rows: Any, matrix: Any, out: Any, i: int, is_half: bool) -> None:
    """Compute all rows of the columns of a tile, or of half a tile, that begin at a column."""
    n_rows = rows.shape[0]
    if n_rows <= 2:
        if is_half:
            _half_of_2(rows, matrix, out, 0, i)
        else:
            _tile_of_2(rows, matrix, out, 0, i)
    elif -n_rows % 4 < -n_rows % 5:  # tiles of four rows compute fewer rows twice
        for b in range(0, n_rows, 4):
            if is_half:
                _half_of_4(rows, matrix, out, b, i)
            else:
                _tile_of_4(rows, matrix, out, b, i)
    else:
        for b in range(0, n_rows, 5):
            if is_half:
                _half_of_5(rows, matrix, out, b, i)
            else:
                _tile_of_5(rows, matrix, out, b, i)


@compile_function
def multiply(rows: Any, matrix: Any, out: Any) -> None:
    """Write rows @ matrix to out, shapes (n_rows, m), (m, n) and (n_rows, n), all contiguous.

    Each value is the same sum in the same order, however many rows there are.
    """
    n_rows, n = out.shape
    width = _ROW // out.itemsize
    if n_rows == 0:  # a tile begins with the last row, which would lie before the array
        return
    if n < width:
        for b in range(n_rows):
            for i in range(n):
                out[b, i] = 0
            for j in range(matrix.shape[0]):
                for i in range(n):
                    out[b, i] += rows[b, j] * matrix[j, i]
        return
    for i in range(0, n - n % width, width):
        _fill_columns(rows, matrix, out, i, False)
    if n % width:  # the last columns overlap with others, which are computed twice
        is_half = n % width <= width // 2
        _fill_columns(rows, matrix, out, n - (width // 2 if is_half else width), is_half)
