"""BLAS and LAPACK inside kernels, through the C addresses that SciPy exports.

Numba cannot cache a kernel that holds a function pointer, so the addresses travel as an int64 array
(``ADDRESSES``) in the arguments, and every operand as the address of its data.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from fastlmm_core.kernels.compile import kernel

# Columns of a symmetric product whose upper triangle is left out beyond their own block.
TRIANGLE_BLOCK = 48

DGEMM, DSYMM, DTRSM, DTRMM, DSYRK, DTRSV, DGEMV, DPOTRF, DTRTRI, DLAUUM = range(10)
ADDRESSES = np.array(
    [
        get_cython_function_address(f"scipy.linalg.cython_{library}", routine)
        for library, routine in (
            ("blas", "dgemm"),
            ("blas", "dsymm"),
            ("blas", "dtrsm"),
            ("blas", "dtrmm"),
            ("blas", "dsyrk"),
            ("blas", "dtrsv"),
            ("blas", "dgemv"),
            ("lapack", "dpotrf"),
            ("lapack", "dtrtri"),
            ("lapack", "dlauum"),
        )
    ],
    dtype=np.int64,
)


def _emit_call(typingctx, address, arguments):
    """Call the routine at `address` with a tuple of operand addresses, all int64."""
    signature = types.void(types.int64, arguments)

    def codegen(context, builder, signature, args):
        pointer = ir.IntType(8).as_pointer()
        values = cgutils.unpack_tuple(builder, args[1], len(signature.args[1]))
        function = ir.FunctionType(ir.VoidType(), [pointer] * len(values))
        target = builder.inttoptr(args[0], function.as_pointer())
        builder.call(target, [builder.inttoptr(value, pointer) for value in values])
        return context.get_dummy_value()

    return signature, codegen


def _call_by_address(address, arguments):
    """The same call from Python."""
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arguments))(int(address))(*map(int, arguments))


# With NUMBA_DISABLE_JIT=1 there is no code that the call could be emitted into.
call_fortran: Any = _call_by_address if config.DISABLE_JIT else intrinsic(_emit_call)  # type: ignore[attr-defined]


@kernel
def make_workspace():
    """Flags ``N T L U R`` (uint8), integers (8,) int32 and scalars (1, -1, 0) float64 that calls point to."""
    flags = np.array([78, 84, 76, 85, 82], dtype=np.uint8)
    return flags, np.zeros(8, dtype=np.int32), np.array([1.0, -1.0, 0.0])


@kernel
def solve_block_right(blas, work, L, ld_L, transposed, Y, ld_Y, r, m):
    """Y (r, m) <- Y L^-1, or Y L^-T, for the lower triangular L (m, m); addresses of column-major data."""
    flags, numbers, scalars = work
    numbers[0], numbers[1], numbers[2], numbers[3] = r, m, ld_L, ld_Y
    f, i, s = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data), np.int64(scalars.ctypes.data)
    op = f + 1 if transposed else f
    call_fortran(blas[DTRSM], (f + 4, f + 2, op, f, i, i + 4, s, L, i + 8, Y, i + 12))


@kernel
def solve_triangular_vector(blas, work, L, ld_L, transposed, y, m):
    """y (m,) <- L^-1 y, or L^-T y."""
    flags, numbers, _ = work
    numbers[0], numbers[1], numbers[2] = m, ld_L, 1
    f, i = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data)
    op = f + 1 if transposed else f
    call_fortran(blas[DTRSV], (f + 2, op, f, i, L, i + 4, y, i + 8))


@kernel
def multiply_vector(blas, work, A, ld_A, transposed, x, y, r, m):
    """y <- A x, or A' x, for A (r, m)."""
    flags, numbers, scalars = work
    numbers[0], numbers[1], numbers[2], numbers[3] = r, m, ld_A, 1
    f, i, s = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data), np.int64(scalars.ctypes.data)
    op = f + 1 if transposed else f
    call_fortran(blas[DGEMV], (op, i, i + 4, s, A, i + 8, x, i + 12, s + 16, y, i + 12))


@kernel
def multiply(blas, work, A, ld_A, B, ld_B, transposed, out, ld_out, sizes, subtract):
    """out (a, b) <- A B, or A B', for A (a, k); with `subtract` out <- out - A B.

    `sizes` is (a, b, k).
    """
    flags, numbers, scalars = work
    numbers[0], numbers[1], numbers[2] = sizes
    numbers[3], numbers[4], numbers[5] = ld_A, ld_B, ld_out
    f, i, s = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data), np.int64(scalars.ctypes.data)
    op = f + 1 if transposed else f
    alpha, beta = (s + 8, s) if subtract else (s, s + 16)
    call_fortran(blas[DGEMM], (f, op, i, i + 4, i + 8, alpha, A, i + 12, B, i + 16, beta, out, i + 20))


@kernel
def subtract_outer_product(blas, work, A, ld_A, out, ld_out, n, m, add):
    """Lower triangle of out (n, n) <- -A A' for A (n, m); with `add` out <- out - A A'."""
    flags, numbers, scalars = work
    numbers[0], numbers[1], numbers[2], numbers[3] = n, m, ld_A, ld_out
    f, i, s = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data), np.int64(scalars.ctypes.data)
    beta = s if add else s + 16
    call_fortran(blas[DSYRK], (f + 2, f, i, i + 4, s + 8, A, i + 8, beta, out, i + 12))


@kernel
def factorize_block(blas, work, A, ld_A, m):
    """Cholesky factor in the lower triangle of A (m, m); 0, or the pivot (from 1) that is not positive."""
    flags, numbers, _ = work
    numbers[0], numbers[1], numbers[2] = m, ld_A, 0
    f, i = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data)
    call_fortran(blas[DPOTRF], (f + 2, i, A, i + 4, i + 8))
    return numbers[2]


@kernel
def multiply_symmetric_left(blas, work, S, ld_S, start, place, Y, ld_Y, out, ld_out, m):
    """out (r, m) <- -S Y for a symmetric S (r, r) held by its lower triangle in blocks.

    Rows start[k] to start[k + 1] of Y belong to the rows and columns of S from place[k] on.  A large S goes
    by blocks even where it is all in one place: dsymm copies the triangle element by element, which for a
    narrow Y costs a quarter of the product, while the blocks off the diagonal are plain matrices to dgemm.
    """
    flags, numbers, scalars = work
    f, i, s = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data), np.int64(scalars.ctypes.data)
    numbers[1], numbers[2], numbers[3], numbers[4] = m, ld_S, ld_Y, ld_out
    for k in range(place.size):
        numbers[0] = start[k + 1] - start[k]
        own = S + 8 * (place[k] * ld_S + place[k])
        here, there = Y + 8 * start[k], out + 8 * start[k]
        call_fortran(
            blas[DSYMM],
            (f + 2, f + 2, i, i + 4, s + 8, own, i + 8, here, i + 12, s + 16, there, i + 16),
        )
    for b in range(place.size):
        for a in range(b + 1, place.size):
            numbers[0], numbers[5] = start[a + 1] - start[a], start[b + 1] - start[b]
            part = S + 8 * (place[b] * ld_S + place[a])
            Y_a, out_a = Y + 8 * start[a], out + 8 * start[a]
            Y_b, out_b = Y + 8 * start[b], out + 8 * start[b]
            call_fortran(
                blas[DGEMM],
                (f, f, i, i + 4, i + 20, s + 8, part, i + 8, Y_b, i + 12, s, out_a, i + 16),
            )
            call_fortran(
                blas[DGEMM],
                (f + 1, f, i + 20, i + 4, i, s + 8, part, i + 8, Y_a, i + 12, s, out_b, i + 16),
            )


@kernel
def subtract_transposed_product(blas, work, Y, ld_Y, W, ld_W, out, ld_out, r, m):
    """Lower triangle of out (m, m) <- out - Y' W for Y, W (r, m) whose product is symmetric."""
    flags, numbers, scalars = work
    numbers[2], numbers[3], numbers[4], numbers[5] = r, ld_Y, ld_W, ld_out
    f, i, s = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data), np.int64(scalars.ctypes.data)
    for b in range(0, m, TRIANGLE_BLOCK):
        numbers[0], numbers[1] = m - b, min(TRIANGLE_BLOCK, m - b)
        call_fortran(
            blas[DGEMM],
            (f + 1, f, i, i + 4, i + 8, s + 8, Y + 8 * (b * ld_Y), i + 12, W + 8 * (b * ld_W), i + 16, s,
             out + 8 * (b * ld_out + b), i + 20),
        )  # fmt: skip


@kernel
def multiply_triangle(blas, work, L, ld_L, left, B, ld_B, r, m, minus):
    """B (r, m) <- L B with `left`, else B L, for a lower triangular L; with `minus` less that."""
    flags, numbers, scalars = work
    numbers[0], numbers[1], numbers[2], numbers[3] = r, m, ld_L, ld_B
    f, i, s = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data), np.int64(scalars.ctypes.data)
    side, alpha = f + 2 if left else f + 4, s + 8 if minus else s
    call_fortran(blas[DTRMM], (side, f + 2, f, f, i, i + 4, alpha, L, i + 8, B, i + 12))


@kernel
def invert_triangle(blas, work, L, ld_L, m):
    """L (m, m) <- L^-1, lower triangular."""
    flags, numbers, _ = work
    numbers[0], numbers[1], numbers[2] = m, ld_L, 0
    f, i = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data)
    call_fortran(blas[DTRTRI], (f + 2, f, i, L, i + 4, i + 8))


@kernel
def square_triangle(blas, work, L, ld_L, m):
    """Lower triangle of L'L in place of the lower triangular L (m, m)."""
    flags, numbers, _ = work
    numbers[0], numbers[1], numbers[2] = m, ld_L, 0
    f, i = np.int64(flags.ctypes.data), np.int64(numbers.ctypes.data)
    call_fortran(blas[DLAUUM], (f + 2, i, L, i + 4, i + 8))
