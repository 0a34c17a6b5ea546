"""Several relationships of the same individuals: additive, dominance and epistasis, against dense algebra."""

import numpy as np
import pandas as pd
from tabular import as_table, random_parents, tabular_A

from fastlmm_core import Covariance, Pedigree, lmm

N = 50
SHARES = {"A": 1.2, "D": 0.5, "AA": 0.3}


def dominance(A, sire, dam):
    """Cockerham (1954), without inbreeding: a quarter of a_ss a_dd + a_sd a_ds of both pairs of parents."""
    D = np.eye(N)
    for i in range(N):
        for j in range(i):
            if min(sire[i], dam[i], sire[j], dam[j]) >= 0:
                same = A[sire[i], sire[j]] * A[dam[i], dam[j]]
                D[i, j] = D[j, i] = 0.25 * (same + A[sire[i], dam[j]] * A[dam[i], sire[j]])
    return D


def test_additive_dominance_and_epistasis_stand_beside_each_other():
    rng = np.random.default_rng(7)
    sire, dam = random_parents(rng, N, 12, 0.0)
    A = tabular_A(sire, dam)
    parts = {"A": A, "D": dominance(A, sire, dam), "AA": A * A}
    table = as_table(sire, dam)
    names = list(table["id"])
    pedigree = Pedigree(table, check_sex=False)
    np.testing.assert_allclose(pedigree.relationship(names), A, atol=1e-14)
    related = {"A": pedigree, "D": Covariance(parts["D"], names), "AA": pedigree.relationship(names) ** 2}
    rows = rng.integers(5, N - 4, 90)
    frame = pd.DataFrame({"animal": np.array(names)[rows], "sex": rng.choice(["F", "M"], 90)})
    G = sum(share * parts[name] for name, share in SHARES.items())
    Z, X = np.eye(N)[rows], np.column_stack([np.ones(90), frame["sex"] == "M"]).astype(float)
    frame["y"] = 5 + (np.linalg.cholesky(G) @ rng.normal(size=N))[rows] + rng.normal(size=90)
    fit = lmm(
        "y ~ sex + (1 | vm(animal, A)) + (1 | vm(animal, D)) + (1 | vm(animal, AA))", frame,
        relationships=related,
        fixed_parameters={**{f"vm(animal, {name})": own for name, own in SHARES.items()}, "Residual": 0.9},
    )  # fmt: skip
    V_inv = np.linalg.inv(Z @ G @ Z.T + 0.9 * np.eye(90))
    cov = np.linalg.inv(X.T @ V_inv @ X)
    beta = cov @ X.T @ V_inv @ frame["y"].to_numpy()
    e = V_inv @ (frame["y"].to_numpy() - X @ beta)
    np.testing.assert_allclose(fit.beta, beta, atol=1e-10)
    for name, share in SHARES.items():
        own = fit.ranef()[f"vm(animal, {name})"].loc[names]
        np.testing.assert_allclose(own.iloc[:, 0], share * parts[name] @ Z.T @ e, atol=1e-10)
    # the value of an individual is all three, with the error of their sum
    values = fit.genotype_values("vm(animal, D)", average="sex").to_frame().set_index("animal").loc[names]
    K = np.tile([1.0, 0.5], (N, 1))
    C = G @ Z.T
    np.testing.assert_allclose(values["estimate"], K @ beta + C @ e, atol=1e-10)
    left = K - C @ V_inv @ X
    variance = np.diag(G - C @ V_inv @ C.T + left @ cov @ left.T)
    np.testing.assert_allclose(values["se"], np.sqrt(variance), atol=1e-10)
