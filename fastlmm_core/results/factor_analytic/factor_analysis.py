"""What the factors of ``fa()`` and ``rr()`` say: loadings, scores, variance explained, performance.

The loadings are rotated to their principal axes, so that the first factor explains most; each column has a
sum that is not negative (Smith & Cullis 2018, Euphytica 214:143). Scores have the relationship of the levels
as their covariance: the common effect of level i at coefficient j is sum_r loading_jr score_ir.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.labels import coefficient_labels
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.frames import titled
from fastlmm_core.display.rendering import Table
from fastlmm_core.display.table_group import TableGroup
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, OptionError, nearest_names
from fastlmm_core.formula.expressions import label_of
from fastlmm_core.results.components.component_rows import slope_variances
from fastlmm_core.results.components.correlations import dendrogram
from fastlmm_core.results.factor_analytic.biplot import Biplot
from fastlmm_core.results.factor_analytic.factor_shares import FactorShares, factor_shares
from fastlmm_core.results.genotypes.heritability_levels import left_out
from fastlmm_core.structures.coefficients.factor_loadings import principal_rotation

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

STRUCTURES = ("fa", "rr")
# Squared lengths of two axes nearer than this part of the longest: their directions are not determined.
EQUAL_AXES = 1e-8
SHOWN = 10


@dataclass(frozen=True, eq=False)
class FactorAnalysis(Displayed):
    """The factor-analytic report of one term; made by ``LMMFit.factor_analysis``.

    Attributes
    ----------
    term, group, structure : str
        ``"fa(0 + env | gen, k=2)"``, ``"gen"``, ``"fa"`` or ``"rr"``.
    k : int
        Factors.
    levels, environments : (L,) and (m,) tuples of str
        Rows and coefficients of the term; a coefficient of a factor goes by its level.
    gamma, se_gamma : (m, k)
        Rotated loadings in units of the response and their standard errors by the delta method; NaN where an
        axis is not determined.
    specific, se_specific : (m,)
        Specific variances and their standard errors; 0 and NaN for ``rr`` and at the boundary.
    factor_scores : (L, k)
        Predictions of the factors.
    score_error : (L, k, k)
        Their prediction error covariances.
    effects : (L, m)
        Predictions of the levels in every environment, specific part included.
    shares : FactorShares
        Percentages of variance with their standard errors.
    singular : tuple of str
        What sits at a boundary, in words.
    beside : tuple of str
        In words, which further effects the levels have that are in none of these figures.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> model = "yield ~ county + fa(0 + county | gen, k=1) + (1 | county:rep:block)"
    >>> fit = lmm(model, datasets.load("besag_met"), residual="units | county")
    >>> analysis = fit.factor_analysis()
    >>> print(analysis.loadings.head(2))
    Rotated loadings
     environment     F1  se_F1  specific  se_specific
     C1           6.515  1.375     15.07        16.86
     C2           4.795  1.273      0.00
    """

    term: str
    group: str
    structure: str
    k: int
    levels: tuple[str, ...]
    environments: tuple[str, ...]
    gamma: np.ndarray
    se_gamma: np.ndarray
    specific: np.ndarray
    se_specific: np.ndarray
    factor_scores: np.ndarray
    score_error: np.ndarray
    effects: np.ndarray
    shares: FactorShares
    singular: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """ "F1", "F2", ..."""
        return [f"F{r + 1}" for r in range(self.k)]

    @property
    @titled("Covariance between environments")
    def covariance(self) -> pd.DataFrame:
        """T (m, m) between environments."""
        T = self.gamma @ self.gamma.T + np.diag(self.specific)
        return pd.DataFrame(T, index=list(self.environments), columns=list(self.environments))

    @property
    @titled("Correlations between environments")
    def correlations(self) -> pd.DataFrame:
        """Correlations between environments (m, m); NaN beside a variance of zero."""
        T = self.covariance
        sd = np.sqrt(np.diag(T))
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = np.where(np.outer(sd, sd) > 0.0, T / np.outer(sd, sd), np.nan)
        np.fill_diagonal(correlation, np.where(sd > 0.0, 1.0, np.nan))
        return pd.DataFrame(correlation, index=T.index, columns=T.columns)

    def order(self) -> list[str]:
        """Environments in the order of the dendrogram of their correlations (average linkage of 1 - r).

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> model = "yield ~ county + fa(0 + county | gen, k=1) + (1 | county:rep:block)"
        >>> fit = lmm(model, datasets.load("besag_met"), residual="units | county")
        >>> analysis = fit.factor_analysis()
        >>> sorted(analysis.order())
        ['C1', 'C2', 'C3', 'C4', 'C5', 'C6']
        """
        return [self.environments[j] for j in dendrogram(self.correlations.to_numpy())[0]]

    @cached_property
    @titled("Rotated loadings")
    def loadings(self) -> pd.DataFrame:
        """environment, F1, ..., se_F1, ..., specific, se_specific."""
        frame = pd.DataFrame({"environment": self.environments})
        frame[self.names] = self.gamma
        frame[[f"se_{name}" for name in self.names]] = self.se_gamma
        return frame.assign(specific=self.specific, se_specific=self.se_specific)

    @cached_property
    @titled("Variance explained (%), by environment")
    def explained(self) -> pd.DataFrame:
        """Percentage of the variance in each environment: environment, variance, F1, ..., total.

        Columns ``se_variance``, ``se_F1``, ..., ``se_total`` hold standard errors, NaN at a bound.
        """
        own = self.shares
        frame = pd.DataFrame({"environment": self.environments, "variance": np.diag(self.covariance)})
        frame[self.names] = own.by_environment
        frame = frame.assign(total=own.total, se_variance=own.se_variance)
        frame[[f"se_{name}" for name in self.names]] = own.se_by_environment
        return frame.assign(se_total=own.se_total)

    @cached_property
    @titled("Variance explained (%), by factor")
    def factors(self) -> pd.DataFrame:
        """Share of every factor in all environments together.

        factor, variance, percent, se_percent, cumulative, se_cumulative; errors are NaN at a bound.
        """
        own = self.shares
        return pd.DataFrame(
            {"factor": self.names, "variance": np.sum(self.gamma**2, axis=0), "percent": own.percent,
             "se_percent": own.se_percent, "cumulative": own.cumulative, "se_cumulative": own.se_cumulative}
        )  # fmt: skip

    @property
    def percent_explained(self) -> float:
        """Percentage of the whole variance, trace of T, that the factors explain."""
        return float(self.factors["cumulative"].iloc[-1])

    @cached_property
    @titled("Scores of the factors")
    def scores(self) -> pd.DataFrame:
        """level, F1, ..., se_F1, ...; the errors are roots of the prediction error variances."""
        frame = pd.DataFrame({"level": self.levels})
        frame[self.names] = self.factor_scores
        errors = np.sqrt(np.maximum(np.diagonal(self.score_error, axis1=1, axis2=2), 0.0))
        frame[[f"se_{name}" for name in self.names]] = errors
        return frame

    @property
    @titled("Common effects")
    def common_effects(self) -> pd.DataFrame:
        """Common effects of the levels (L, m): what the factors predict, without the specific part."""
        values = self.factor_scores @ self.gamma.T
        return pd.DataFrame(values, index=list(self.levels), columns=list(self.environments))

    @cached_property
    @titled("Overall performance and stability")
    def performance(self) -> pd.DataFrame:
        """Overall performance and stability: level, OP, se_OP, RMSD, rank (Smith & Cullis 2018).

        OP is the common effect at the mean loading of the first factor; RMSD the root mean square over the
        environments of what the other factors add, small for a stable level and 0 with one factor. OP
        is meant for a first factor whose loadings have one sign.
        """
        mean = float(self.gamma[:, 0].mean())
        deviation = self.factor_scores[:, 1:] @ self.gamma[:, 1:].T
        op = mean * self.factor_scores[:, 0]
        return pd.DataFrame(
            {"level": self.levels, "OP": op, "se_OP": abs(mean) * self.scores["se_F1"],
             "RMSD": np.sqrt(np.mean(deviation**2, axis=1)),
             "rank": pd.Series(op).rank(ascending=False, method="min").astype(int)}
        )  # fmt: skip

    @property
    def biplot(self) -> Biplot:
        """Coordinates for ``plot_biplot``: scores of the levels, loadings of the environments."""
        percent = self.factors["percent"].to_numpy()
        return Biplot(
            self.levels, self.environments, self.factor_scores, self.gamma, percent, "factor ", self.term
        )

    def summary(self, top: int = SHOWN) -> TableGroup:
        """Printable report: factors, environments, and the `top` levels by overall performance.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> model = "yield ~ county + fa(0 + county | gen, k=1) + (1 | county:rep:block)"
        >>> fit = lmm(model, datasets.load("besag_met"), residual="units | county")
        >>> analysis = fit.factor_analysis()
        >>> len(analysis.summary(top=3).tables)
        3
        """
        environments = self.loadings[["environment", *self.names, "specific"]].assign(
            variance=self.explained["variance"], explained=self.explained["total"]
        )
        best = self.performance.sort_values("OP", ascending=False, kind="stable").head(top)
        shown = dict.fromkeys([*self.names, "specific", "variance"], "scale")
        notes = [f"{len(best)} of {len(self.levels)} levels shown."] * (len(best) < len(self.levels))
        if np.any(self.gamma[:, 0] < 0.0):
            notes.append("The first factor has loadings of both signs: OP is no average over environments.")
        notes += [f"At the boundary: {'; '.join(self.singular)}."] * bool(self.singular)
        notes += [f"All is {words}." for words in self.beside]
        return TableGroup(
            f"Factor analysis of {self.term}",
            (
                Table(self.factors, "Variance explained (%):", kinds={"variance": "scale"}),
                Table(environments, "Loadings, specific variances, variance explained (%):",
                      kinds=shown),
                Table(best.reset_index(drop=True), "Overall performance and stability:",
                      kinds={"OP": "scale", "se_OP": "scale", "RMSD": "scale"}),
            ),
            tuple(notes),
        )  # fmt: skip

    def _shown(self) -> TableGroup:
        return self.summary()


def factor_analysis(fit: FitFigures, term: str | None, information: str) -> FactorAnalysis:
    """See ``LMMFit.factor_analysis``."""
    k = _place(fit, term)
    solution, random = fit.solved, fit.design.random[k]
    assert isinstance(solution, StructuredSolution)
    engine = solution.equations.terms[k]
    structure: Any = engine.structure
    own = solution.equations.slices[0][k][0]
    theta = solution.theta[own]
    unit = solution.response.scale * engine.basis  # loadings in the user's coefficients
    turn = principal_rotation(unit @ structure.gamma(theta))
    gamma = unit @ structure.gamma(theta) @ turn
    size = structure.m * structure.k
    move = np.zeros((solution.theta.size, *gamma.shape))
    for at in range(size):
        col, row = divmod(at, structure.m)
        move[own.start + at] = np.outer(unit[:, row], turn[col])
    axes = axis_slopes(gamma, move)
    se_gamma = _errors(fit, axes, information).reshape(gamma.shape)
    specific, se_specific = np.zeros(structure.m), np.full(structure.m, np.nan)
    slopes = np.zeros((structure.m, solution.theta.size))
    if structure.name == "fa":
        variance = solution.sigma2 * np.diag(engine.basis) ** 2
        specific = variance * structure.specific(theta)
        diagonal = np.arange(structure.m)
        slopes[diagonal, own.start + size + diagonal] = 2.0 * variance * theta[size:]
        se_specific = _errors(fit, slopes, information)
    shares = factor_shares(
        gamma,
        axes.reshape(*gamma.shape, -1),
        move,
        specific,
        slopes,
        partial(_errors, fit, information=information),
    )
    least = 1.0 / engine.column_scale  # as `describe_singular` judges variances
    scores, error = solution.scores(k, turn.T)
    return FactorAnalysis(
        term=random.label, group=random.group, structure=structure.name, k=structure.k,
        levels=tuple(map(str, random.levels)),
        environments=coefficient_labels(fit.design.variables, random.columns),
        gamma=gamma, se_gamma=se_gamma, specific=specific, se_specific=se_specific, factor_scores=scores,
        score_error=error, effects=solution.random_effects(k), shares=shares,
        singular=structure.boundary(theta, list(random.columns), least=least), beside=left_out(fit, k),
    )  # fmt: skip


def _place(fit: FitFigures, term: str | None) -> int:
    """The term with factors that is meant."""
    random = fit.design.random
    found = [k for k, own in enumerate(random) if has_factors(own)]
    if not found:
        raise OptionError(
            "no random term has factors: write fa(0 + env | gen, k=2) or rr(0 + env | gen, d=2)"
        )
    if term is None:
        return found[0]
    names = [name for k in found for name in (random[k].group, random[k].label)]
    if term not in names and label_of(term) not in names:
        raise OptionError(f"term={term!r} has no factors{nearest_names(term, names)}")
    return next(k for k in found if {term, label_of(term)} & {random[k].group, random[k].label})


def has_factors(random: Any) -> bool:
    """Whether a random term is one of ``fa()`` or ``rr()`` between several coefficients."""
    return not random.is_spline and random.structure in STRUCTURES and len(random.columns) > 1


def axis_slopes(gamma: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Derivatives (m k, t) of principal axes Gamma (m, k) when they move by dGamma (t, m, k), row by row.

    Axes are eigenvectors of A = Gamma Gamma': dd_r = u_r'dA u_r and du_r = sum_s u_s u_s'dA u_r / (d_r - d_s)
    over all others. NaN where an axis has no length, or one as long beside it.
    """
    left, size, _ = np.linalg.svd(gamma)
    length = np.zeros(len(gamma))
    length[: size.size] = size**2
    product = move @ gamma.T
    change = left.T @ (product + np.swapaxes(product, 1, 2)) @ left
    out = np.full((len(move), *gamma.shape), np.nan)
    for r in range(gamma.shape[1]):
        gap = length[r] - length
        gap[r] = 1.0
        if length[r] <= 0.0 or np.abs(gap).min() <= EQUAL_AXES * length[0]:
            continue
        turned = change[:, :, r] / gap
        turned[:, r] = 0.5 * change[:, r, r] / length[r]
        sign = np.sign(left[:, r] @ gamma[:, r])
        out[:, :, r] = sign * np.sqrt(length[r]) * turned @ left.T
    return out.reshape(len(move), -1).T


def _errors(fit: FitFigures, slopes: np.ndarray, information: str) -> np.ndarray:
    """Standard errors (r,) of functions with derivatives `slopes` (r, t); NaN where nothing varies."""
    known = np.isfinite(slopes).all(axis=1)
    variance = np.full(len(slopes), np.nan)
    try:
        variance[known] = slope_variances(fit, slopes[known], information)
    except InferenceError:
        pass
    return np.sqrt(np.where(variance > 0.0, variance, np.nan))
