"""Which rows a unit has, and which units are laid out alike."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import fill_integers, kernel


@kernel
def count_levels(codes, ok, ptr, n_levels, out):
    """Levels of one factor that occur in the usable rows of every trial: out (T,)."""
    seen = fill_integers(n_levels, -1)
    for t in range(ptr.size - 1):
        count = 0
        for i in range(ptr[t], ptr[t + 1]):
            if ok[i] and seen[codes[i]] != t:
                seen[codes[i]] = t
                count += 1
        out[t] = count


@kernel
def list_rows(ok, y, lo, hi, rows):
    """Usable rows of a unit into `rows`; returns their number."""
    n = 0
    for i in range(lo, hi):
        if ok[i] and y[i] == y[i]:
            rows[n] = i
            n += 1
    return n


@kernel
def same_rows(rows, candidate, n):
    """Whether the first n of two lists of rows agree."""
    for i in range(n):
        if rows[i] != candidate[i]:
            return False
    return True


@kernel
def same_numbers(left, right):
    """Whether two arrays of one size agree, number by number."""
    a, b = left.reshape(left.size), right.reshape(right.size)
    for i in range(a.size):
        if a[i] != b[i]:
            return False
    return True


@kernel
def same_covariates(numbers, rows, earlier):
    """Whether the numeric columns agree on two lists of rows."""
    for v in range(numbers.shape[0]):
        for i in range(rows.size):
            if numbers[v, rows[i]] != numbers[v, earlier[i]]:
                return False
    return True


@kernel
def largest_count(level_counts):
    """The largest of the level counts, at least one."""
    most = 1
    for f in range(level_counts.size):
        most = max(most, level_counts[f])
    return most


@kernel
def hash_layouts(first_unit, table, out):
    """Numbers out (U,) of the units from `first_unit` on, equal for those laid out alike.

    Levels are numbered as they first occur, whatever they are called; covariates and weights are not looked
    at.  `table` : ``trials.arrays.TrialRows``.
    """
    ok, codes = table.ok, table.codes
    n_factors = codes.shape[0]
    most = largest_count(table.level_counts)
    mark = fill_integers(most, -1)
    number = np.empty(most, np.int64)
    seen = 0
    for unit in range(first_unit, first_unit + out.size):
        trial, y = unit // table.n_labels, table.y[unit % table.n_labels]
        own = np.uint64(1469598103934665603)
        for f in range(n_factors):
            seen += 1
            count = 0
            for i in range(table.ptr[trial], table.ptr[trial + 1]):
                if ok[i] and y[i] == y[i]:
                    code = codes[f, i]
                    if mark[code] != seen:
                        mark[code] = seen
                        number[code] = count
                        count += 1
                    own = (own ^ np.uint64(number[code])) * np.uint64(1099511628211)
            own = own ^ np.uint64(count)
        out[unit - first_unit] = np.int64(own >> np.uint64(1))
