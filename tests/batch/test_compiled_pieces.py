"""The pieces of the compiled path against those of the general one, at the same variance parameters.

With NUMBA_DISABLE_JIT=1 alone: each piece would be compiled for this file as it is nowhere else. The whole
kernels have the figures of `lmm` for the same models in test_against_lmm.py, as they are compiled.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numba import config
from trial_data import INCOMPLETE, incomplete_plots

from fastlmm_core import prepare
from fastlmm_core.batch import make_plan
from fastlmm_core.batch.compiled.coded import code_trials
from fastlmm_core.batch.compiled.contrasts import contrasts_among
from fastlmm_core.batch.compiled.runs import trial_rows
from fastlmm_core.batch.trials import collect_trials
from fastlmm_core.engine.equations.confounding import Confounded
from fastlmm_core.inference import kenward_roger, satterthwaite
from fastlmm_core.inference.heritability import harmonic_replication
from fastlmm_core.inference.linear_functions import linear_functions
from fastlmm_core.inference.variance_parameters import VarianceParameterInference
from fastlmm_core.kernels.compile import fill_integers
from fastlmm_core.kernels.equations.columns import multiply_columns_transposed
from fastlmm_core.kernels.outcomes import OK
from fastlmm_core.kernels.search.information import (
    average_information,
    expected_information,
    invert_information,
    sum_traces,
)
from fastlmm_core.kernels.trials.arrays import FitOptions, TrialRows, UnitBlups, UnitRows, Variances
from fastlmm_core.kernels.trials.blups import infer_random
from fastlmm_core.kernels.trials.contrasts import infer_contrasts
from fastlmm_core.kernels.trials.fit import fit_response, subtract_least_squares
from fastlmm_core.kernels.trials.inference import (
    compress_rows,
    form_covariances,
    judge_rows,
    list_directions,
    number_random,
    prepare_rows,
    project_identity,
    solve_fixed,
    with_fixed_part,
)
from fastlmm_core.kernels.trials.parameters import differentiate_covariance, invert_observed
from fastlmm_core.kernels.trials.rows import diagonal_of, is_estimable, make_rows, multiply_null
from fastlmm_core.kernels.trials.units import build_design, code_design, read_rows
from fastlmm_core.reml.fitting import solve_equations
from fastlmm_core.reml.information import average_matrix, expected_matrix, traces
from fastlmm_core.reml.natural import natural_parameters
from fastlmm_core.results.blups import (
    conditional_variance_blocks,
    prediction_error_blocks,
    prediction_error_sums,
)

if not config.DISABLE_JIT:
    pytest.skip(
        "compiled code has these pieces within whole kernels alone; kernels/test_uncompiled.py runs them",
        allow_module_level=True,
    )


@dataclass(frozen=True)
class Both:
    """A model of one trial by the kernels, and by the general path at the theta that these found."""

    y: Any
    w: Any
    rows: TrialRows
    fixed: tuple
    n_levels: Any
    groups: Any
    columns: tuple
    design: Any
    equations: Any
    fit: Any
    prepared: Any
    solved: Any
    spec: Any
    by: tuple

    @property
    def random(self):
        """Number of every random scalar of the kernels, q, first and term of every node."""
        pattern = self.equations.system.pattern
        return number_random(pattern.start, pattern.term, self.design.parameters.sizes.size)

    @property
    def projection(self):
        """Z'PZ by the kernels, and the directions of the natural parameters."""
        at, q, first, term = self.random
        M = project_identity(self.equations, self.fit.factors, self.fit.L, at, q)
        return M, list_directions(first, term, self.design.parameters)

    @property
    def natural(self):
        return form_covariances(self.fit.theta, self.design.parameters, self.fit.factors)


@pytest.fixture(scope="module", params=INCOMPLETE)
def both(request):
    formula, by = INCOMPLETE[request.param]
    weights = "w" if request.param == "weighted" else None
    frame = incomplete_plots()
    table = collect_trials(frame, make_plan(formula, by="trial", weights=weights, emmeans="*".join(by)))
    coded = code_trials(table)
    rows, fixed, random = trial_rows(table, coded), coded.fixed_arrays(), coded.random_arrays()
    place = fill_integers(max(len(own) for own in coded.levels), -1)
    valid, used, w, local, _, n_levels = read_rows(rows, np.arange(len(frame)), len(frame), place)
    assert valid and (place == -1).all()
    status, columns, groups = code_design(fixed, random, local, n_levels, rows.numbers, used)
    assert status == OK
    status, design, equations = build_design(fixed, columns, groups, local, n_levels, w, True, 1)
    assert status == OK
    options = FitOptions(True, 2, True, 1e-11, 200, np.zeros(1, np.uint8))
    y = frame["y"].to_numpy()
    status, fit = fit_response(equations, design, w, y, True, options.tolerance, options.max_iterations)
    assert status == OK
    prepared = prepare(formula, frame, weights=weights)
    solved = solve_equations(prepared.equations, y, fit.theta, reml=True, factor=prepared.factor)
    spec = np.array([coded.factors.index(name) for name in by])
    return Both(
        y, w, rows, fixed, n_levels, groups, columns, design, equations, fit, prepared, solved, spec, by
    )  # fmt: skip


def dense(columns, shape):
    """Compressed columns (n, p) in full."""
    out = np.zeros(shape)
    indptr, indices, data = columns
    for j in range(shape[1]):
        out[indices[indptr[j] : indptr[j + 1]], j] = data[indptr[j] : indptr[j + 1]]
    return out


def test_columns_groups_and_their_order(both):
    design = both.prepared.design
    X = design._X_full.toarray()
    np.testing.assert_array_equal(dense(both.columns, X.shape), X)
    first = 0
    for k, term in enumerate(design.random):
        assert both.groups.counts[k] == len(term.levels)
        np.testing.assert_array_equal(both.groups.codes[k], term.codes)
        first += both.groups.widths[k]
    assert first == both.groups.values.shape[1]


def test_rank_and_null_vectors(both):
    design = both.prepared.design
    np.testing.assert_array_equal(both.design.kept, design.kept)
    if design.null_basis is None:
        assert both.design.null.size == 0
    else:
        np.testing.assert_allclose(both.design.null, design.null_basis, atol=1e-10)


def test_standardized_columns_and_bases(both):
    e = both.prepared.equations
    np.testing.assert_array_equal(both.equations.shift, e.coding.shift)
    np.testing.assert_array_equal(both.equations.scale, e.coding.scale)
    for k, term in enumerate(e.terms):
        np.testing.assert_allclose(both.design.bases[k, : term.m, : term.m], term.basis, rtol=1e-12)
    for own, expected in zip(both.design.parameters, e.parameters, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_least_squares(both):
    beta, residual = np.empty(both.design.kept.size), np.empty(both.y.size)
    subtract_least_squares(both.equations, both.design, both.w, both.y, beta, residual)
    np.testing.assert_allclose(beta, both.solved.response.beta_start, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(residual, both.solved.response.residual, atol=1e-9)


def test_criterion_and_solution(both):
    solved, fit = both.solved, both.fit
    np.testing.assert_allclose(fit.numbers[:2], [solved.criterion, solved.sigma2], rtol=1e-11)
    np.testing.assert_allclose(fit.beta, solved.beta, rtol=1e-9, atol=1e-9)


def test_natural_parameters_and_their_slopes(both):
    solved, parameters = both.solved, natural_parameters(both.solved)
    np.testing.assert_allclose(both.natural, parameters.values, rtol=1e-13)
    J = differentiate_covariance(both.fit.theta, both.design.parameters)
    for k, term in enumerate(solved.equations.terms):
        at = np.flatnonzero(solved.equations.theta_term == k)
        slopes = term.structure.covariance_jacobian(both.fit.theta[at])
        row, col = solved.equations.theta_row[at], solved.equations.theta_col[at]
        np.testing.assert_allclose(J[np.ix_(at, at)], slopes[:, row, col].T, rtol=1e-13)


def test_information(both):
    solved, parameters, fit = both.solved, natural_parameters(both.solved), both.fit
    M, directions = both.projection
    np.testing.assert_allclose(sum_traces(M, directions), traces(solved, parameters), rtol=1e-9)
    expected = expected_information(M, directions, both.natural, float(solved.dof))
    np.testing.assert_allclose(expected, expected_matrix(solved, parameters), rtol=1e-8, atol=1e-9)
    average = average_information(
        both.equations, fit.factors, fit.L, both.design.parameters, fit.projected, both.natural,
        solved.r2, solved.sigma2,
    )  # fmt: skip
    np.testing.assert_allclose(average, average_matrix(solved, parameters), rtol=1e-8, atol=1e-9)


def covariances(both):
    """Covariance of the variance parameters by method: that of the kernels and the general one."""
    solved, fit, natural = both.solved, both.fit, both.natural
    M, directions = both.projection
    expected = expected_information(M, directions, natural, float(solved.dof))
    status, adjusted = invert_information(expected, solved.sigma2)
    assert status == OK
    at, q, first, term = both.random
    Zy = np.empty(q)
    Zy[at[at >= 0]] = fit.projected[at >= 0, 0]
    average = average_matrix(solved, natural_parameters(solved))
    plain = invert_observed(
        M, Zy, (first, term), both.design.parameters, fit.theta, natural, average, expected, solved.sigma2,
        float(solved.dof),
    )  # fmt: skip
    groups = tuple(own.group for own in both.prepared.design.random)
    inference = VarianceParameterInference(solved, groups, Confounded({}, {}))
    return {
        "kenward-roger": (adjusted, inference.covariance("kenward-roger", "expected")),
        "satterthwaite": (plain, inference.covariance("satterthwaite", "expected")),
    }


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
def test_covariance_of_the_variance_parameters(both, ddf):
    own, expected = covariances(both)[ddf]
    np.testing.assert_allclose(own, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
def test_standard_errors_and_degrees_of_freedom(both, ddf):
    solved, fit, design = both.solved, both.fit, both.design
    r = np.random.default_rng(0)
    K = r.normal(size=(5, design.p_full))
    K[:2, 1:] *= r.uniform(size=(2, design.p_full - 1)) < 0.4
    inside = compress_rows(K, design.kept, both.equations.shift, both.equations.scale)
    whole = np.zeros((5, design.kept.size))
    for i in range(5):
        whole[i, inside[1][inside[0][i] : inside[0][i + 1]]] = inside[2][inside[0][i] : inside[0][i + 1]]
    expected_rows = np.asarray((solved.equations.to_user.T @ K[:, design.kept].T).T)
    np.testing.assert_allclose(whole, expected_rows, rtol=1e-12, atol=1e-12)

    at, q, _, _ = both.random
    M, directions = both.projection
    B, phi = solve_fixed(both.equations, fit.factors, fit.L, design.fixed_rows, at, q)
    adjusted = ddf == "kenward-roger"
    b, h, K_phi = prepare_rows(inside, B, phi, M, directions, adjusted)
    cov = covariances(both)[ddf][1]
    found = np.empty((5, 3))
    variances = Variances(True, 0.0, directions, both.natural, cov, solved.sigma2)
    judge_rows(b, h, diagonal_of(inside, K_phi), variances, found)

    parameters = natural_parameters(solved)
    general_B, phi_K = solved.solve_fixed(expected_rows)
    phi_rows = expected_rows @ phi_K
    gradients = kenward_roger.covariance_gradients(solved, parameters, general_B, phi_rows)
    unadjusted = solved.sigma2 * np.diag(phi_rows)
    more = kenward_roger.covariance_adjustment(solved, parameters, general_B, cov) if adjusted else 0.0
    np.testing.assert_allclose(found[:, 1] ** 2, unadjusted + np.diag(more * np.eye(5)), rtol=1e-8)
    df = satterthwaite.degrees_of_freedom(unadjusted, np.einsum("iaa->ia", gradients), cov)
    np.testing.assert_allclose(found[:, 2], df, rtol=1e-7)


def test_projection_with_the_fixed_part():
    """Of any Z, X and V: Z' V^-1 Z."""
    r = np.random.default_rng(6)
    Z, X, half = r.normal(size=(20, 7)), r.normal(size=(20, 4)), r.normal(size=(20, 25))
    precision = np.linalg.inv(half @ half.T)
    phi = np.linalg.inv(X.T @ precision @ X)
    B = phi @ X.T @ precision @ Z
    projected = Z.T @ precision @ Z - B.T @ np.linalg.solve(phi, B)
    found = with_fixed_part(projected, B, phi)
    np.testing.assert_allclose(found, Z.T @ precision @ Z, rtol=1e-10, atol=1e-12)


def test_contrasts_are_those_of_linear_functions(both):
    solved, fit, design = both.solved, both.fit, both.design
    K = np.random.default_rng(1).normal(size=(6, design.p_full))
    at, q, _, _ = both.random
    M, directions = both.projection
    B, phi = solve_fixed(both.equations, fit.factors, fit.L, design.fixed_rows, at, q)
    inside = compress_rows(K, design.kept, both.equations.shift, both.equations.scale)
    b, h, K_phi = prepare_rows(inside, B, phi, M, directions, True)
    cov = covariances(both)["kenward-roger"][1]
    variances = Variances(True, 0.0, directions, both.natural, cov, solved.sigma2)
    estimates = multiply_columns_transposed(*inside, fit.beta)
    norms, lost = np.ones(6), np.zeros((6, 0))
    family = contrasts_among("pairwise", 3, -1)  # within each three of the six
    found = np.empty((2 * family.size, 3))
    weights = (np.array([0, family.size]), family.ptr, family.mean, family.data)
    rows = UnitRows(inside, estimates, b, h, K_phi, lost, norms)
    assert infer_contrasts(weights, 0, 3, rows, variances, found, 0) == 2 * family.size

    groups = tuple(own.group for own in both.prepared.design.random)
    functions = linear_functions(
        VarianceParameterInference(solved, groups, Confounded({}, {})), K, kept=design.kept,
        null_products=None, norms=norms,
        ddf="kenward-roger", information="expected", df_residual=float(solved.dof),
    )  # fmt: skip
    A = sp.csr_array((family.data, family.mean, family.ptr), shape=(family.size, 3))
    estimate, se, df, _ = functions.contrast_statistics(sp.block_diag([A, A]))
    for own, expected in zip(found.T, (estimate, se, df), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-7)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_rows_of_means_and_whether_they_can_be_estimated(both):
    fit, design = both.prepared.fit(), both.design
    means = fit.emmeans(list(both.by), ddf="residual")
    expected = means.K.toarray() if hasattr(means.K, "toarray") else np.asarray(means.K)
    numbers = both.rows.numbers.mean(axis=1)
    K = make_rows(False, both.fixed, both.n_levels, both.spec, numbers, len(expected), design.p_full)
    np.testing.assert_allclose(K, expected, rtol=1e-12, atol=1e-12)
    products, norms = np.zeros((len(K), design.null.shape[1])), np.ones(len(K))
    general, scale = fit.design.null_products(K)
    if design.null.size:
        multiply_null(K, design.null, design.norm, products, norms)
        np.testing.assert_allclose(products, general.toarray(), atol=1e-9)
        np.testing.assert_allclose(norms, scale, rtol=1e-10)
    estimable = [is_estimable(products, norms, i) for i in range(len(K))]
    np.testing.assert_array_equal(estimable, fit.design.estimable(K))


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_predictions_and_their_variances(both):
    fit, groups = both.fit, both.groups
    K, size = groups.counts.size, int(np.sum(groups.counts * groups.widths))
    found = UnitBlups(np.zeros(size, np.int64), np.empty((size, 3)), np.zeros((1, K, 5)))
    offset = 0
    status = infer_random(
        both.equations, both.design, groups, fit, both.natural, offset, found, found.terms[0]
    )  # fmt: skip
    assert status == OK
    given = replace(both.prepared.fit(), solved=both.solved)  # of the same theta
    pev = prediction_error_blocks(both.solved)
    conditional = conditional_variance_blocks(given)
    for k in range(K):
        m = int(groups.widths[k])
        own = found.rows[offset : offset + int(groups.counts[k]) * m].reshape(-1, m, 3)
        np.testing.assert_allclose(own[:, :, 0], both.solved.user_random_effects(k), rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(own[:, :, 1], np.diagonal(pev[k], axis1=1, axis2=2), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(
            own[:, :, 2], np.diagonal(conditional[k], axis1=1, axis2=2), rtol=1e-8, atol=1e-10
        )
        offset += own.shape[0] * m
        if m == 1:
            term = given.design.random[k]
            variance, trace, total, reciprocal, _ = found.terms[0, k]
            np.testing.assert_allclose(variance, given.term_variances(k)[0], rtol=1e-12)
            np.testing.assert_allclose((trace, total), prediction_error_sums(both.solved, k), rtol=1e-8)
            np.testing.assert_allclose(1.0 / reciprocal, harmonic_replication(term.codes), rtol=1e-13)
