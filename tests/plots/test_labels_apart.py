"""Names in a figure cover neither points nor each other, and those away from their point are joined to it."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fastlmm_core.plots.labels_apart import NEAREST, write_labels


@pytest.mark.parametrize("seed", range(3))
def test_names_among_many_points(seed):
    x, y = np.random.default_rng(seed).normal(size=(2, 300))
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    ax.plot(x, y, "o", markersize=4)
    best = np.argsort(-x)[:15]
    write_labels(ax, x[best], y[best], [f"L{k:03d}" for k in best])
    places = ax.transData.transform(np.column_stack([x, y]))
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(box.contains(*place) for box in boxes for place in places)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    plt.close(figure)


def test_a_name_away_from_its_point_is_joined_to_it():
    """Nine points in a bunch: the names that find no place beside their own have a line to it."""
    x, y = (0.02 * own.ravel() for own in np.mgrid[0:3, 0:3])
    figure, ax = plt.subplots()
    ax.plot([*x, -1, 1], [*y, -1, 1], "o")
    write_labels(ax, x, y, [f"genotype {k}" for k in range(9)])
    away = [np.hypot(*text.xyann) > NEAREST + 0.5 for text in ax.texts]
    assert any(away) and not all(away)
    assert [text.arrow_patch is not None for text in ax.texts] == away
    plt.close(figure)
