"""Summary of a fit: reads like lme4's for a mixed model and like R's lm for a linear model."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table, format_p, format_significant, shared_decimals
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, check_option
from fastlmm_core.means.estimates import DDF_WORDS
from fastlmm_core.results.components.correlations import correlation_table
from fastlmm_core.results.components.structured_blocks import (
    BY_LAG,
    WIDEST,
    ComponentBlock,
    is_diagonal,
    residual_blocks,
    term_blocks,
)
from fastlmm_core.results.fit_notes import fit_notes

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart


@dataclass(frozen=True, repr=False)
class Summary(Displayed):
    """What `LMMFit.summary` returns: prints itself; every table is there as a DataFrame.

    Parameters
    ----------
    heading : str
        Kind of model and criterion it was fitted by.
    formula : str
        Formula as given.
    facts : tuple of str
        Criterion line(s), or the residual error and R² of a linear model.
    residuals : Table
        Quartiles of the residuals, one row.
    random : Table or None
        Variances, standard deviations, correlations; None for a linear model.
    counts : str
        Observations and levels of each grouping factor.
    fixed : Table
        Coefficients with SE, df, t and p.
    notes : tuple of str
        Dropped rows and columns, singular terms, convergence.
    correlations : Table or None
        Genetic and residual correlations with standard errors, where a model of several traits has both.
    """

    heading: str
    formula: str
    facts: tuple[str, ...]
    residuals: Table
    random: Table | None
    counts: str
    fixed: Table
    notes: tuple[str, ...]
    correlations: Table | None = None

    @property
    def fixed_effects(self) -> pd.DataFrame:
        """Coefficients: term, estimate, se, df, t, p (unrounded)."""
        return self.fixed.to_frame()

    @property
    def random_effects(self) -> pd.DataFrame | None:
        """Random effects as displayed: Groups, Name, Variance, Std.Dev., Corr columns (unrounded)."""
        return None if self.random is None else self.random.to_frame()

    @property
    def residual_quantiles(self) -> pd.DataFrame:
        """Minimum, quartiles and maximum of the residuals, scaled by sigma in a mixed model."""
        return self.residuals.to_frame()

    def _parts(self) -> list[str | Table]:
        parts: list[str | Table] = [f"{self.heading}\nFormula: {self.formula}"]
        facts = "\n".join(self.facts)
        if self.random is None:
            return [*parts, self.residuals, self.fixed, f"{facts}\n{self.counts}", *self.notes]
        beside = [] if self.correlations is None else [self.correlations]
        return [*parts, facts, self.residuals, self.random, *beside, self.counts, self.fixed, *self.notes]

    def _shown(self) -> Summary:
        return self

    def __str__(self) -> str:
        lines, notes = [], len(self.notes)
        parts = self._parts()
        for part in parts[: len(parts) - notes]:
            lines.append(str(part) + "\n")
        return "\n".join([*lines, *self.notes]).rstrip()

    def _repr_html_(self) -> str:
        shown = []
        for part in self._parts():
            if isinstance(part, Table):
                shown.append(part.to_html())
            else:
                shown.append("<p>" + html.escape(part).replace("\n", "<br>") + "</p>")
        return "<div>\n" + "\n".join(shown) + "\n</div>"


def shown_ddf(fit: RandomPart) -> str:
    """Df method of the coefficients that a summary shows where none is named.

    It belongs to the model-based standard errors that lme4 prints: Satterthwaite for a mixed model, residual
    for a linear one.
    """
    return "residual" if fit.method == "OLS" else "satterthwaite"


def summarize(
    fit: RandomPart, ddf: str | None = None, digits: int = 4, information: str | None = None
) -> Summary:
    """Summary of a fit.

    Parameters
    ----------
    fit : LMMFit
        The fitted model.
    ddf : {"satterthwaite", "kenward-roger", "residual", "asymptotic"}, optional
        Degrees of freedom of the coefficients, by default `shown_ddf`, or, where a note says why there are
        none, "asymptotic". "kenward-roger" shows the adjusted standard errors.
    digits : int
        Significant digits of the smallest standard error.
    information : str, optional
        As in ``LMMFit.fixed_effects``.

    Returns
    -------
    Summary

    Raises
    ------
    OptionError
        For an unknown `ddf`.
    """
    linear = fit.method == "OLS"
    shown = check_option("ddf", ddf or shown_ddf(fit), DDF_WORDS)
    notes = fit_notes(fit)
    try:
        fixed = fixed_table(fit, shown, digits, information)
    except InferenceError as error:
        if ddf is not None or information is not None:
            raise
        fixed = fixed_table(fit, "asymptotic", digits)  # nobody asked for others, and the fit can be seen
        notes += (f"No {DDF_WORDS[shown]} degrees of freedom: {error}.",)
    return Summary(
        heading="Linear model fit by least squares" if linear else f"Linear mixed model fit by {fit.method}",
        formula=formula_text(fit),
        facts=_linear_facts(fit) if linear else _criterion_facts(fit),
        residuals=residual_table(fit),
        random=None if linear else random_table(fit, digits),
        counts=_counts(fit),
        fixed=fixed,
        notes=notes,
        correlations=trait_correlations(fit) if fit.structured else None,
    )


def brief(fit: RandomPart) -> str:
    """What a session shows of a fit: model, criterion, variances, and what the reader must know."""
    kind = "Linear model by least squares" if fit.method == "OLS" else f"Linear mixed model by {fit.method}"
    count = f"{fit.nobs:,} rows, {fit.rank} fixed effects"
    facts = count if fit.method == "OLS" else f"{count}, -2 log-likelihood {fit.criterion:.2f}"
    variances = []
    for k, term in enumerate(fit.design.random):
        own = fit.term_variances(k)
        listed = [format_significant(float(value), 4) for value in own[:MOST_BRIEF]]
        variances.append(f"{term.group} {', '.join(listed + ['...'] * (len(own) > MOST_BRIEF))}")
    if np.isfinite(fit.sigma):
        variances.append(f"Residual {format_significant(fit.sigma**2, 4)}")
    lines = [f"{kind}: {formula_text(fit)}", facts]
    lines += [f"Variances: {'; '.join(variances)}"] if variances else []
    return "\n".join([*lines, *fit_notes(fit)])


def formula_text(fit: RandomPart) -> str:
    """The formula, and below it the residual where it is not independent with one variance."""
    if not fit.structured or fit.design.residual.is_plain:
        return str(fit.formula)
    return f"{fit.formula}\nResidual: {fit.design.residual.text}"


def _criterion_facts(fit: RandomPart) -> tuple[str, ...]:
    if fit.method == "REML":
        return (f"REML criterion at convergence: {fit.criterion:.1f}",)
    return (f"AIC {fit.aic:.1f}  BIC {fit.bic:.1f}  logLik {fit.loglik:.1f}  -2*logLik {fit.criterion:.1f}",)


def _linear_facts(fit: RandomPart) -> tuple[str, ...]:
    f = fit.f_statistic
    lines = [
        f"Residual standard error: {format_significant(fit.sigma, 4)} "
        f"on {fit.df_residual:g} degrees of freedom"
    ]
    if f is not None and np.isfinite(f.F):
        lines.append(
            f"R²: {format_significant(fit.r_squared, 4)}, "
            f"adjusted R²: {format_significant(fit.adj_r_squared, 4)}"
        )
        p = format_significant(f.p, 4) if f.p >= 1e-4 else format_p(f.p)
        lines.append(f"F-statistic: {format_significant(f.F, 4)} on {f.df1:g} and {f.df2:g} df, p-value: {p}")
    return tuple(lines)


def residual_table(fit: RandomPart) -> Table:
    """Quartiles of the residuals: Pearson over sigma in a mixed model, weighted in a linear one."""
    linear = fit.method == "OLS"
    pearson = np.asarray(fit.residuals_pearson, dtype=float)
    unit: Any = 1.0 if linear or fit.sigma == 0 else fit.sigma
    known = fit.structured and fit.design.residual.kind == "known"
    if np.isnan(unit) or known:  # each residual over its own deviation
        assert isinstance(fit.solved, StructuredSolution)
        unit = fit.solved.residual_sd
        pearson = np.asarray(fit.residuals, dtype=float)
    quantiles = np.quantile(pearson / unit, [0, 0.25, 0.5, 0.75, 1])
    title = "Scaled residuals:"
    if linear:
        title = "Residuals:" if fit.weights is None else "Weighted residuals:"
    frame = pd.DataFrame([quantiles], columns=["Min", "1Q", "Median", "3Q", "Max"])
    middle = np.array([quantiles[3] - quantiles[1]])
    return Table(frame, title, decimals=shared_decimals(middle, 4) if linear else 4)


def random_table(fit: RandomPart, digits: int = 4) -> Table:
    """Variances and standard deviations by group, correlations to the right as lme4 places them."""
    if fit.structured:
        return structured_random_table(fit, digits)
    components = fit.variance_components
    rows: list[dict[str, Any]] = []
    first = 0  # labels do not tell terms apart: "rep.1" is a second term of rep, or a column of that name
    for term in fit.design.random:
        names = list(term.columns)
        m = len(names)
        own = components.iloc[first : first + (m * (m + 1) // 2 if term.structure == "us" else m)]
        first += len(own)
        for i, name in enumerate(names):
            row = _component(own, name, None)
            shown = {"Groups": term.group if i == 0 else "", "Name": name, "Variance": row["estimate"],
                     "Std.Dev.": row["sd_or_cor"]}  # fmt: skip
            if term.structure == "us":
                for j, earlier in enumerate(names[:i]):
                    header = "Corr" + " " * j  # printed alike: one heading over all of them
                    shown[header] = _component(own, earlier, name)["sd_or_cor"]
            rows.append(shown)
    residual = components.iloc[-1]
    rows.append({"Groups": "Residual", "Name": "", "Variance": residual["estimate"],
                 "Std.Dev.": residual["sd_or_cor"]})  # fmt: skip
    frame = pd.DataFrame(rows)
    kinds = {name: "cor" for name in frame.columns if str(name).startswith("Corr")}
    return Table(frame, "Random effects:", kinds=kinds, digits=digits)


def structured_random_table(fit: RandomPart, digits: int = 4) -> Table:
    """Variances, standard deviations and correlations of every block, the residual's last."""
    rows: list[dict[str, Any]] = []
    for block in [*term_blocks(fit), *residual_blocks(fit)]:
        group = block.group if block.level is None else f"{block.group} {block.level}"
        alone = group.startswith("Residual") and len(block.names) == 1
        if block.T is None:
            for i, (name, variance) in enumerate(zip(block.names, block.extra["variances"], strict=True)):
                dim = max(0.0, float(block.extra["effective_dim"][i]))
                rows.append({"Groups": group if i == 0 else "", "Name": f"{name}, edf {dim:.1f}",
                             "Variance": variance, "Std.Dev.": np.sqrt(variance)})  # fmt: skip
            continue
        sd = np.sqrt(np.diag(block.T))
        names = block.names
        if is_one_variance(block):
            names = [f"{names[0]} to {block.extra.get('last', names[-1])}"]
        plain = not shows_correlations(block)
        for i, name in enumerate(names):
            shown = {"Groups": group if i == 0 else "", "Name": "" if alone else name,
                     "Variance": block.T[i, i], "Std.Dev.": sd[i]}  # fmt: skip
            for j in range(0 if plain else i):
                product = sd[i] * sd[j]
                shown["Corr" + " " * j] = block.T[i, j] / product if product > 0 else np.nan
            rows.append(shown)
    frame = pd.DataFrame(rows)
    kinds = {name: "cor" for name in frame.columns if str(name).startswith("Corr")}
    return Table(frame, "Random effects:", kinds=kinds, digits=digits)


# Variances of one term that a session shows.
MOST_BRIEF = 4
# More rows of correlations with their errors are left to `fit.correlations`.
MOST_CORRELATIONS = 30


def is_one_variance(block: ComponentBlock) -> bool:
    """An autoregressive process with the same variance everywhere."""
    return block.struct == "ar1" and len(block.names) > 1


def shows_correlations(block: ComponentBlock) -> bool:
    """Whether the correlations of a block stand beside its variances."""
    assert block.T is not None
    if block.struct in BY_LAG or len(block.names) > WIDEST:
        return False
    return not is_diagonal(block.T)


def trait_correlations(fit: RandomPart) -> Table | None:
    """Correlations of terms and residual with standard errors, where both have them for the same traits."""
    residual, terms = residual_blocks(fit), term_blocks(fit)
    traits = [set(block.names) for block in residual if block.T is not None and shows_correlations(block)]
    if not any(block.T is not None and len(block.names) > 1 and shows_correlations(block)
               and any(len(own) == len(block.names) for own in traits) for block in terms):  # fmt: skip
        return None
    frame = correlation_table(fit, None, "average").frame
    if len(frame) > MOST_CORRELATIONS:
        return None
    frame = frame.drop(columns=["lower", "upper"])
    return Table(frame, "Correlations (se from average information):", kinds={"estimate": "t", "se": "t"})


def _component(components: pd.DataFrame, first: str, second: str | None) -> pd.Series:
    var1, var2 = components["var1"], components["var2"]
    if second is None:
        hit = (var1 == first) & (var2.isna() | (var2 == ""))
    else:
        hit = ((var1 == first) & (var2 == second)) | ((var1 == second) & (var2 == first))
    return components[hit].iloc[0]


def _counts(fit: RandomPart) -> str:
    text = f"Number of obs: {fit.nobs}"
    levels = {term.group: len(term.levels) for term in fit.design.random if not term.is_spline}
    if levels:
        text += ", groups: " + "; ".join(f"{group}, {n}" for group, n in levels.items())
    # a column of numbers is one coefficient, also where its numbers name replicates or years
    numbers = [name for name, own in fit.design.variables.items() if own.kind == "numeric" and not own.points]
    if numbers:
        text += f", covariate{'s' if len(numbers) > 1 else ''}: {', '.join(numbers)}"
    return text


def fixed_table(fit: RandomPart, ddf: str, digits: int = 4, information: str | None = None) -> Table:
    """Coefficients with standard error, df, t and p by one df method; dropped columns are left out."""
    effects = fit.fixed_effects(ddf=ddf, information=information)
    kept = effects[effects["estimate"].notna()]
    frame = kept[["term", "estimate", "se", "df", "t", "p"]].reset_index(drop=True)
    title = "Coefficients:" if fit.method == "OLS" else f"Fixed effects ({DDF_WORDS[ddf]} df):"
    return Table(frame, title, digits=digits, max_rows=200)
