"""Eigenvalues and eigenvectors of small symmetric matrices."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel

# QL steps for one eigenvalue; two or three are usual.
MOST_STEPS = 60
PRECISION = 2.0**-52


@kernel
def reflect_columns(T, rows):
    """Make the symmetric `T` (d, d) tridiagonal by reflections, in place; `rows` becomes Q' where A = Q T Q'.

    Golub & Van Loan (2013), section 8.3.1.
    """
    d = T.shape[0]
    v = np.empty(d)
    w = np.empty(d)
    for k in range(d - 2):
        below = 0.0
        for i in range(k + 2, d):
            below += T[i, k] * T[i, k]
        if below == 0.0:
            continue
        first = T[k + 1, k]
        length = np.sqrt(first * first + below)
        v[k + 1] = first + length if first >= 0.0 else first - length
        for i in range(k + 2, d):
            v[i] = T[i, k]
        factor = 2.0 / (v[k + 1] * v[k + 1] + below)
        inner = 0.0
        for i in range(k + 1, d):
            total = 0.0
            for j in range(k + 1, d):
                total += T[i, j] * v[j]
            w[i] = factor * total
            inner += w[i] * v[i]
        for i in range(k + 1, d):
            w[i] -= 0.5 * factor * inner * v[i]
        for i in range(k + 1, d):
            for j in range(k + 1, d):
                T[i, j] -= v[i] * w[j] + w[i] * v[j]
        T[k + 1, k] = -length if first >= 0.0 else length
        for c in range(d):
            total = 0.0
            for i in range(k + 1, d):
                total += v[i] * rows[i, c]
            for i in range(k + 1, d):
                rows[i, c] -= factor * total * v[i]


@kernel
def rotate_to_diagonal(diagonal, off, rows):
    """Implicit QL steps on a tridiagonal matrix: eigenvalues in `diagonal` (d,), eigenvectors in `rows`.

    `off` (d,) are the elements beside the diagonal, the last unused (Golub & Van Loan 2013, section 8.3.3;
    Dubrulle, Martin & Wilkinson 1968).
    """
    d = diagonal.size
    for low in range(d):
        for _ in range(MOST_STEPS):
            high = low
            while high < d - 1:
                if abs(off[high]) <= PRECISION * (abs(diagonal[high]) + abs(diagonal[high + 1])):
                    break
                high += 1
            if high == low:
                break
            half = (diagonal[low + 1] - diagonal[low]) / (2.0 * off[low])
            root = np.sqrt(half * half + 1.0)
            g = diagonal[high] - diagonal[low] + off[low] / (half + (root if half >= 0.0 else -root))
            sine, cosine, moved = 1.0, 1.0, 0.0
            split = False
            for i in range(high - 1, low - 1, -1):
                f, b = sine * off[i], cosine * off[i]
                r = np.sqrt(f * f + g * g)
                off[i + 1] = r
                if r == 0.0:
                    diagonal[i + 1] -= moved
                    split = True
                    break
                sine, cosine = f / r, g / r
                g = diagonal[i + 1] - moved
                r = (diagonal[i] - g) * sine + 2.0 * cosine * b
                moved = sine * r
                diagonal[i + 1] = g + moved
                g = cosine * r - b
                for c in range(d):
                    x, y = rows[i, c], rows[i + 1, c]
                    rows[i + 1, c] = sine * x + cosine * y
                    rows[i, c] = cosine * x - sine * y
            if not split:
                diagonal[low] -= moved
                off[low] = g
            off[high] = 0.0


@kernel
def diagonalize(matrix):
    """Eigenvalues (d,), unsorted, and eigenvectors (d, d) in columns of a small symmetric matrix."""
    d = matrix.shape[0]
    largest = 0.0
    for a in range(d):
        for b in range(d):
            if not abs(matrix[a, b]) <= largest:  # also takes NaN, which then stays
                largest = abs(matrix[a, b])
    values = np.zeros(d)
    vectors = np.zeros((d, d))
    for a in range(d):
        vectors[a, a] = 1.0
    if largest == 0.0:
        return values, vectors
    if not np.isfinite(largest):
        values.fill(np.nan)
        return values, vectors
    T = np.empty((d, d))
    for a in range(d):
        for b in range(d):
            T[a, b] = matrix[a, b] / largest
    rows = vectors.copy()
    reflect_columns(T, rows)
    off = np.zeros(d)
    for a in range(d):
        values[a] = T[a, a]
        if a + 1 < d:
            off[a] = T[a + 1, a]
    rotate_to_diagonal(values, off, rows)
    for a in range(d):
        values[a] *= largest
        for b in range(d):
            vectors[a, b] = rows[b, a]
    return values, vectors
