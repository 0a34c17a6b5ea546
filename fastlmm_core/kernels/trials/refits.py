"""Many responses of one design fitted in one call without the interpreter: the fits of a bootstrap."""

from __future__ import annotations

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.trials.fit import fit_response


@kernel
def refit_responses(
    equations, design, weights, Y, reml, tolerance, max_iterations, status, figures, thetas, betas
):
    """Fit every row of Y (k, n); the other arguments are those of ``trials.fit.fit_response``.

    Fills `status` (k,), criterion, sigma2, iterations and singularity in `figures` (k, 4), and `thetas`
    (k, n_theta), `betas` (k, p) in the inside parametrisation.
    """
    for j in range(Y.shape[0]):
        status[j], fit = fit_response(equations, design, weights, Y[j], reml, tolerance, max_iterations)
        for s in range(4):
            figures[j, s] = fit.numbers[s]
        for s in range(fit.theta.size):
            thetas[j, s] = fit.theta[s]
        for s in range(fit.beta.size):
            betas[j, s] = fit.beta[s]
