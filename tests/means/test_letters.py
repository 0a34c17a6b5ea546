"""Compact letter display."""

from __future__ import annotations

import numpy as np
import pytest

from fastlmm_core.means.letters import compact_letters, letter_columns


def symmetric_pattern(k, pairs):
    different = np.zeros((k, k), dtype=bool)
    for i, j in pairs:
        different[i, j] = different[j, i] = True
    return different


def shares(letters):
    sets = [set(x) for x in letters]
    return np.array([[bool(a & b) for b in sets] for a in sets])


def test_irregular_pattern_of_eight_means():
    pairs = [(0, 6), (0, 7), (1, 3), (1, 4), (1, 6), (2, 3), (2, 7), (3, 6), (5, 6), (5, 7)]
    pattern = symmetric_pattern(8, pairs)
    np.testing.assert_array_equal(shares(compact_letters(pattern)), ~pattern)


def test_chain():
    assert compact_letters(symmetric_pattern(4, [(0, 2), (0, 3), (1, 3)])) == ["a", "ab", "bc", "c"]


def test_all_alike_and_all_different():
    assert compact_letters(np.zeros((3, 3), dtype=bool)) == ["a", "a", "a"]
    assert compact_letters(~np.eye(3, dtype=bool)) == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(12))
def test_two_share_a_letter_exactly_when_they_do_not_differ(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 14))
    pattern = np.triu(rng.random((k, k)) < rng.random(), 1)
    pattern |= pattern.T
    columns = letter_columns(pattern)
    together = (columns.astype(int).T @ columns.astype(int)) > 0
    np.testing.assert_array_equal(together, ~pattern | np.eye(k, dtype=bool))
    inside = columns.astype(int) @ columns.astype(int).T >= columns.sum(axis=1)[:, None]
    np.testing.assert_array_equal(inside, np.eye(len(columns), dtype=bool))


def test_hundreds_of_means():
    value = np.sort(np.random.default_rng(1).normal(size=300))
    columns = letter_columns(np.abs(value[:, None] - value[None, :]) > 1.0)
    # for intervals of equal length the letters are runs of neighbours
    for column in columns:
        used = np.flatnonzero(column)
        assert used[-1] - used[0] + 1 == used.size
