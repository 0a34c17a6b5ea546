"""Ranks and selection intensities against distributions that are known."""

import numpy as np
import pytest
from scipy.special import ndtr

from fastlmm_core.inference.ranking import draw_ranks, expected_ranks, selection_intensity


@pytest.mark.parametrize(
    ("n", "k", "expected"),
    [
        (2, 1, 1 / np.sqrt(np.pi)),
        (3, 1, 1.5 / np.sqrt(np.pi)),
        (5, 1, 1.16296447), (5, 2, 0.5 * (1.16296447 + 0.49501897)),  # Harter 1961, Biometrika 48, table 1
        (10, 1, 1.53875273), (20, 1, 1.86747506),
    ],
)  # fmt: skip
def test_intensity_is_the_mean_of_order_statistics(n, k, expected):
    assert selection_intensity(n, k) == pytest.approx(expected, abs=2e-8)


@pytest.mark.parametrize(("share", "printed"), [(0.01, 2.665), (0.05, 2.063), (0.20, 1.400), (0.50, 0.798)])
def test_intensity_of_large_populations(share, printed):
    """Falconer & Mackay 1996, appendix table A."""
    assert selection_intensity(100_000, round(100_000 * share)) == pytest.approx(printed, abs=6e-4)


def test_all_selected_is_no_selection():
    assert selection_intensity(7, 7) == 0.0
    assert selection_intensity(2, 1) > selection_intensity(3, 2) > 0.0


def test_two_values():
    mean, cov = np.array([1.0, 0.2]), np.array([[0.5, 0.2], [0.2, 0.9]])
    p = ndtr(0.8 / np.sqrt(0.5 + 0.9 - 0.4))
    assert np.allclose(expected_ranks(mean, cov), [2 - p, 1 + p], rtol=1e-12)
    draws = draw_ranks(mean, cov, 40_000, 3)
    assert draws.among(1)[0] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 40_000))
    assert draws.se == pytest.approx(np.sqrt(p * (1 - p)), abs=0.01)
    assert draws.exactly(np.array([0])) == draws.among(1)[0]


def test_draws_agree_with_what_is_exact():
    r = np.random.default_rng(8)
    M = r.normal(size=(12, 12))
    mean, cov = r.normal(size=12), M @ M.T / 12
    draws = draw_ranks(mean, cov, 20_000, 1)
    error = 4 * draws.se / np.sqrt(20_000)
    assert (np.abs(draws.ranks.mean(axis=0) - expected_ranks(mean, cov)) < error + 1e-12).all()
    assert draws.among(12).tolist() == [1.0] * 12
    assert draws.among(3).sum() == pytest.approx(3.0)
    low, high = draws.interval(0.9)
    assert ((draws.ranks >= low) & (draws.ranks <= high)).mean(axis=0).min() >= 0.9


def test_the_same_seed_gives_the_same_ranks():
    mean, cov = np.arange(5.0), np.eye(5)
    assert np.array_equal(draw_ranks(mean, cov, 500, 4).ranks, draw_ranks(mean, cov, 500, 4).ranks)
    assert not np.array_equal(draw_ranks(mean, cov, 500, 4).ranks, draw_ranks(mean, cov, 500, 5).ranks)


def test_known_values_have_known_ranks():
    draws = draw_ranks(np.array([3.0, 1.0, 2.0]), np.zeros((3, 3)), 100, 1)
    assert (draws.ranks == [1, 3, 2]).all()
    assert expected_ranks(np.array([3.0, 1.0, 2.0]), np.zeros((3, 3))).tolist() == [1.0, 3.0, 2.0]
