"""Made fields and their dense covariance, for the tests of this folder."""

import numpy as np
import pandas as pd
from scipy import interpolate


def made_field(rows=9, cols=12, seed=5, lost=0.0, genotypes=27):
    """A field with a smooth trend; `lost` is the share of plots without a row in the table."""
    rng = np.random.default_rng(seed)
    r, c = (grid.ravel() + 1 for grid in np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"))
    gen = rng.permutation(np.resize(np.arange(genotypes), r.size))
    trend = 1.5 * np.sin(r / 2.5) + np.cos(c / 3.0) * r / rows
    y = 10 + trend + rng.normal(size=genotypes)[gen] + 0.5 * rng.normal(size=r.size)
    y = y + 0.5 * rng.normal(size=rows + 1)[r] + 0.4 * rng.normal(size=cols + 1)[c]
    frame = pd.DataFrame({"row": r, "col": c, "gen": [f"g{i:02d}" for i in gen], "yield": y})
    return frame[rng.uniform(size=r.size) >= lost].reset_index(drop=True)


def process_field(rows=9, cols=12, seed=7, rho=(0.5, 0.7), lost=0.0):
    """`made_field` with an autoregressive process in the place of its trend."""
    frame = made_field(rows, cols, seed)
    rng = np.random.default_rng(seed)
    roots = [
        np.linalg.cholesky(r ** np.abs(np.subtract.outer(np.arange(m), np.arange(m))))
        for r, m in zip(rho, (rows, cols), strict=True)
    ]
    process = roots[0] @ rng.normal(size=(rows, cols)) @ roots[1].T
    effect = dict(zip(sorted(set(frame["gen"])), rng.normal(size=frame["gen"].nunique()), strict=True))
    frame["yield"] = 10 + frame["gen"].map(effect) + process.ravel() + 0.4 * rng.normal(size=len(frame))
    return frame[rng.uniform(size=len(frame)) >= lost].reset_index(drop=True)


def penalized_factors(x, n_segments, degree=3, order=2):
    """Eigenvalues d of D'D (0 for polynomials) and B U, from SciPy's B-splines on equal segments."""
    step = (x.max() - x.min()) / n_segments
    knots = x.min() + step * np.arange(-degree, n_segments + degree + 1)
    eye = np.eye(n_segments + degree)
    B = np.column_stack([interpolate.BSpline(knots, own, degree)(x) for own in eye])
    D = np.diff(np.eye(B.shape[1]), n=order, axis=0)
    d, U = np.linalg.eigh(D.T @ D)
    d[:order] = 0.0
    return d, B @ U


def surface_factors(frame, segments):
    """Eigenvalues (2, k) and Z (n, k) of the penalized part of ps(row, col)."""
    (d, F), (e, G) = (
        penalized_factors(frame[name].to_numpy(float), n)
        for name, n in zip(("row", "col"), segments, strict=True)
    )
    Z = np.einsum("ia,ib->iab", F, G).reshape(len(frame), -1)
    pairs = np.array([np.repeat(d, e.size), np.tile(e, d.size)])
    seen = pairs.sum(axis=0) > 1e-12
    return pairs[:, seen], Z[:, seen]


def incidence(values):
    """(n, L) indicator matrix."""
    return pd.get_dummies(values).to_numpy(float)


def dense_criterion(y, X, V):
    """(n - p) log 2 pi + log |V| + log |X'V^-1X| + y'Py."""
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    P = Vi - Vi @ X @ np.linalg.solve(information, X.T @ Vi)
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return (y.size - X.shape[1]) * np.log(2 * np.pi) + logs + y @ P @ y
