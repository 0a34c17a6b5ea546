"""The row (confounded) of joint_tests: what belongs to no single effect (R 4.2.2, emmeans 1.8.4)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm

TABLE = pd.read_csv(Path(__file__).parents[1] / "design" / "reference" / "table.csv")  # a2 never with hi


@pytest.mark.parametrize(
    ("formula", "by", "dropped", "df_num", "df_den", "F"),
    [
        # emmeans takes the difference of F values that it has rounded to three digits
        ("y ~ a*b + x", None, [], [2], [41.0], [5.416]),
        ("y ~ a*b*g + x", None, [0, 4], [14], [19.0], [15.623643]),
        ("y ~ a*b*g + x", "b", [0, 4], [4], [19.0], [20.1495]),
        ("y ~ a*b + x + (1|g)", None, [], [2], [37.0], [20.3905]),
        ("y ~ a*b + x + (1|g)", "b", [], [], [], []),
        ("y ~ a + b + x", None, [], [], [], []),
    ],
)
def test_what_is_left_is_that_of_emmeans(formula, by, dropped, df_num, df_den, F):
    tests = lmm(formula, TABLE.drop(dropped)).joint_tests(by=by, scaled=False)
    left = tests[tests["term"] == "(confounded)"]
    assert left["df_num"].tolist() == df_num
    np.testing.assert_allclose(left["df_den"], df_den, atol=0.05)
    np.testing.assert_allclose(left["F"], F, rtol=2e-4)
    assert (left["status"] == "ok").all()
    assert (left.index >= len(tests) - 1).all()


@pytest.mark.parametrize("formula", ["y ~ a*b + x", "y ~ a*b*g + x + (1|r)"])
def test_sums_of_squares_add_up(formula):
    """Wald statistics of the effects, taken together, and of what is left make that of all comparisons."""
    fit = lmm(formula, TABLE)
    tests = fit.joint_tests(ddf="asymptotic", scaled=False)
    left = tests[tests["term"] == "(confounded)"].iloc[0]
    from fastlmm_core.inference.row_spaces import estimable_part, row_basis
    from fastlmm_core.means.confounded_effects import grid_comparisons
    from fastlmm_core.means.joint_tests import effect_rows, testable_effects
    from fastlmm_core.means.reference_grid import reference_grid

    grid = reference_grid(fit.design, {"x": [-1.0, 1.0]})
    null = fit.design.null_basis
    parts = [estimable_part(L.toarray(), null)[0] for effect in testable_effects(fit.design, grid, ())
             for _, L in effect_rows(grid, effect, (), "equal")]  # fmt: skip
    wald = [fit.linear_functions(rows, ddf="asymptotic").f_test() for rows in
            (row_basis(np.vstack(parts)), grid_comparisons(grid, null, {}))]  # fmt: skip
    assert left["df_num"] == wald[1].df_num - wald[0].df_num
    sums = [test.df_num * test.F for test in wald]
    assert left["df_num"] * left["F"] == pytest.approx(sums[1] - sums[0], rel=1e-6)
