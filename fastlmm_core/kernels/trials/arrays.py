"""The arrays that the kernels of a run of units share, by name.

A unit is a trial and a trait: unit u of the table is trial u // n_labels with trait u % n_labels.  Arrays
with an axis of length U have a row for each unit of the run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Columns of `UnitResults.integers`; from TERMS on the order of the random terms (K), their numbers of levels
# (K) and the numbers of levels of the factors.
STATUS, ROWS, RANK, COLUMNS, RANDOM, TERMS = range(6)


class TrialRows(NamedTuple):
    """A table of trials as ``batch.compiled.coded`` codes it.

    Attributes
    ----------
    n_labels : int
    ptr : (T + 1,) int64
        Rows of trial t are ptr[t]:ptr[t + 1].
    ok : (N,) bool
        Rows whose explanatory columns are complete.
    y : (n_labels, N); codes : (n_factors, N) int32; numbers : (n_numeric, N); weights : (N,)
    level_counts : (n_factors,) int64
        Levels of each factor in the whole table.
    """

    n_labels: int
    ptr: np.ndarray
    ok: np.ndarray
    y: np.ndarray
    codes: np.ndarray
    numbers: np.ndarray
    weights: np.ndarray
    level_counts: np.ndarray


class FitOptions(NamedTuple):
    """How units are fitted and what is kept of them.

    Attributes
    ----------
    reml : bool
    tables : int
        1 when fixed effects are wanted, 2 when means are: keep what ``trials.rows`` needs.
    with_projection : bool
        Z'PZ is needed, too.
    tolerance, max_iterations : of the search
    stop : (1,) uint8
        What is left is not wanted any more when it turns to 1; read before every unit.
    """

    reml: bool
    tables: int
    with_projection: bool
    tolerance: float
    max_iterations: int
    stop: np.ndarray


class UnitResults(NamedTuple):
    """What a fit leaves of every unit.

    Attributes
    ----------
    offsets : (U, 1 + n_factors) int64
        Where the unit's rows start in `UnitBlups.rows`, and by factor in `levels`.
    integers : (U, 5 + 2 K + n_factors) int64
        Status, n, rank, fixed columns, random coefficients; see TERMS.
    figures : (U, 4)
        Criterion, sigma2, iterations, singular.
    levels : (.,) int64
        Codes in the table of the levels that occur.
    theta, natural : (U, d); average : (U, d + 1, d + 1); bases : (U, K, w, w)
    numbers : (U, n_numeric)
        Means of the numeric columns.
    """

    offsets: np.ndarray
    integers: np.ndarray
    figures: np.ndarray
    levels: np.ndarray
    theta: np.ndarray
    natural: np.ndarray
    average: np.ndarray
    bases: np.ndarray
    numbers: np.ndarray


class UnitStore(NamedTuple):
    """Numbers and integers for ``trials.rows``, and where those of each unit start.

    Attributes
    ----------
    values : float64; places : int64
    values_at, places_at : (U,) int64
    """

    values: np.ndarray
    values_at: np.ndarray
    places: np.ndarray
    places_at: np.ndarray


class UnitBlups(NamedTuple):
    """BLUPs of all units, level by level and coefficient by coefficient.

    Attributes
    ----------
    cells : (.,) int64
        Cell of the grouping.
    rows : (., 3)
        Estimate, prediction error variance, conditional variance.
    terms : (U, K, 5)
        Prior variance of the first coefficient, trace and total of the prediction error covariance, mean of
        the reciprocal replications, and the number of levels; of the levels that have an effect in some row,
        none where it is not a plain effect of theirs.
    """

    cells: np.ndarray
    rows: np.ndarray
    terms: np.ndarray


class RowArrays(NamedTuple):
    """One table of fixed effects or means: rows of unit u start at offsets[u].

    Attributes
    ----------
    offsets : (U, 2) int64
        Of rows and of contrasts.
    sizes : (U, 4) int64
        Rows, contrasts, means that are compared with each other, place of the control among these.
    rows, contrasts : (., 3)
        Estimate, standard error, df; NaN where not estimable.
    """

    offsets: np.ndarray
    sizes: np.ndarray
    rows: np.ndarray
    contrasts: np.ndarray


class RowQuestion(NamedTuple):
    """What a table is of.

    Attributes
    ----------
    coefficients : bool
        The coefficients; else the means over the levels of the factors `spec`.
    mode : int
        One of ``trials.inference.KENWARD_ROGER`` and its like.
    fixed, random : tuples of ``kernels.trials.design``
    spec : (f,) int64
    shifts : (U,)
        Added to every mean.
    """

    coefficients: bool
    mode: int
    fixed: tuple
    random: tuple
    spec: np.ndarray
    shifts: np.ndarray


class Directions(NamedTuple):
    """Directions E_j of the natural parameters as pairs of random scalars.

    Attributes
    ----------
    ptr : (d + 1,) int64
        Pairs of parameter j are ptr[j]:ptr[j + 1].
    left, right : (.,) int64
        (E_j b)[left] = b[right], and the other way round where they differ.
    """

    ptr: np.ndarray
    left: np.ndarray
    right: np.ndarray


class Variances(NamedTuple):
    """What degrees of freedom of one unit rest on.

    Attributes
    ----------
    counted : bool
        Whether the variance parameters count; else the df are `plain`.
    plain : float
    directions : Directions
    natural : (d,)
        Variances and covariances relative to sigma2.
    covariance : (d + 1, d + 1)
        Of (sigma2 natural, sigma2).
    sigma2 : float
    """

    counted: bool
    plain: float
    directions: Directions
    natural: np.ndarray
    covariance: np.ndarray
    sigma2: float


class UnitRows(NamedTuple):
    """Linear functions of the fixed effects of one unit.

    Attributes
    ----------
    inside : sparse rows (ptr, column, value) in inside coefficients
    estimates : (r,)
    b : (r, q); h : (r, d, q); K_phi : (r, p)
        As ``trials.inference.prepare_rows`` gives them.
    products, norms : (r, c), (r,)
        Products with the null vectors and what they are judged against.
    """

    inside: tuple
    estimates: np.ndarray
    b: np.ndarray
    h: np.ndarray
    K_phi: np.ndarray
    products: np.ndarray
    norms: np.ndarray
