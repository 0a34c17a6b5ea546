"""Dense Cholesky factors, and solves and inverses with them, by halves: nearly all work is in products.

LAPACK and the triangular routines of BLAS reach a third of the pace of a matrix product where a block has
some hundreds of columns, as most fronts have.  Here the columns are cut into leaves, which BLAS solves; after
leaf t the last s leaves act on the next s in one product, s the largest power of two that divides t + 1.
That is the recursion by halves without recursion (Gustavson 1997, IBM J. Res. Dev. 41; Elmroth, Gustavson,
Jonsson & Kagstrom 2004, SIAM Review 46): the same sums in another order, so the same stability.

Addresses and leading dimensions are those of ``kernels.blas``; only lower triangles are read or written.
"""

from __future__ import annotations

from fastlmm_core.kernels.blas import (
    factorize_block,
    invert_triangle,
    multiply,
    multiply_triangle,
    solve_block_right,
    square_triangle,
    subtract_outer_product,
)
from fastlmm_core.kernels.compile import kernel

# Columns of a leaf: of solves and inverses, and of factorizations.
LEAF, FACTOR_LEAF = 16, 32


@kernel
def solve_triangular_right(blas, work, L, ld_L, transposed, Y, ld_Y, r, m):
    """Y (r, m) <- Y L^-1, or Y L^-T, for the lower triangular L (m, m)."""
    leaves = (m + LEAF - 1) // LEAF
    for step in range(leaves):
        first = (step if transposed else leaves - 1 - step) * LEAF
        last = min(first + LEAF, m)
        own = L + 8 * first * (ld_L + 1)
        solve_block_right(blas, work, own, ld_L, transposed, Y + 8 * first * ld_Y, ld_Y, r, last - first)
        width = ((step + 1) & -(step + 1)) * LEAF
        if transposed and last < m:  # columns are solved from the left to the right
            start, count = last - width, min(width, m - last)
            block = L + 8 * (start * ld_L + last)
            sizes = (r, count, width)
            known, out = Y + 8 * start * ld_Y, Y + 8 * last * ld_Y
            multiply(blas, work, known, ld_Y, block, ld_L, True, out, ld_Y, sizes, True)
        elif not transposed and first > 0:
            start, count = max(0, first - width), min(width, m - first)
            block = L + 8 * (start * ld_L + first)
            sizes = (r, first - start, count)
            known, out = Y + 8 * first * ld_Y, Y + 8 * start * ld_Y
            multiply(blas, work, known, ld_Y, block, ld_L, False, out, ld_Y, sizes, True)


@kernel
def factorize_columns(blas, work, A, ld_A, m, size):
    """The leading m columns of the Cholesky factor of A (size, size), in place of those of A, (size, m).

    Returns 0, or the pivot (from 1) that is not positive; LAPACK passes over NaN, which reaches the last one.
    """
    leaves = (m + FACTOR_LEAF - 1) // FACTOR_LEAF
    for t in range(leaves):
        first = t * FACTOR_LEAF
        last = min(first + FACTOR_LEAF, m)
        own = A + 8 * first * (ld_A + 1)
        failed = factorize_block(blas, work, own, ld_A, last - first)
        if failed != 0:
            return first + failed
        if last < size:
            below = own + 8 * (last - first)
            solve_triangular_right(blas, work, own, ld_A, True, below, ld_A, size - last, last - first)
        if last == m:
            break
        width = ((t + 1) & -(t + 1)) * FACTOR_LEAF
        start, count = last - width, min(width, m - last)
        known, out = A + 8 * (start * ld_A + last), A + 8 * last * (ld_A + 1)
        subtract_outer_product(blas, work, known, ld_A, out, ld_A, count, width, True)
        if last + count < size:
            sizes = (size - last - count, count, width)
            multiply(
                blas, work, known + 8 * count, ld_A, known, ld_A, True, out + 8 * count, ld_A, sizes, True
            )
    return 0


@kernel
def invert_from_cholesky(blas, work, A, ld_A, m):
    """Lower triangle of (L L')^-1 in place of L (m, m)."""
    for first in range(0, m, LEAF):
        invert_triangle(blas, work, A + 8 * first * (ld_A + 1), ld_A, min(LEAF, m - first))
    width = LEAF
    while width < m:  # (L^-1)_21 = -(L_22)^-1 L_21 (L_11)^-1 of every pair of neighbours
        for first in range(0, m - width, 2 * width):
            middle = first + width
            r = min(width, m - middle)
            block = A + 8 * (first * ld_A + middle)
            above, own = A + 8 * first * (ld_A + 1), A + 8 * middle * (ld_A + 1)
            multiply_triangle(blas, work, own, ld_A, True, block, ld_A, r, width, True)
            multiply_triangle(blas, work, above, ld_A, False, block, ld_A, r, width, False)
        width *= 2
    square_triangle(blas, work, A, ld_A, m)
