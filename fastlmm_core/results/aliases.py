"""What statsmodels and broom.mixed call what a fit has; `fastlmm_core.other_names` is the table of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.display.frames import titled
from fastlmm_core.errors import OptionError, name_list
from fastlmm_core.gate import public
from fastlmm_core.inference.linear_functions import DDF_METHODS
from fastlmm_core.options import LEVEL, NAMES, SWITCH, one_of, optional
from fastlmm_core.results.diagnostic_part import DiagnosticPart

# Parts of a model that `tidy` knows, as broom.mixed calls them.
EFFECTS = ("ran_pars", "fixed", "ran_vals")


class Aliases(DiagnosticPart):
    """Other names of what a fit has; tests and p values are those that ``summary()`` shows."""

    @property
    def params(self) -> pd.Series:
        """`beta` by name; statsmodels' MixedLM appends variances, which are in `variance_components`.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> round(float(fit.params["Days"]), 3)
        10.467
        """
        return self._by_name(self.beta, "params")

    @property
    def fe_params(self) -> pd.Series:
        """As `params`: statsmodels' name for the fixed effects alone."""
        return self.params

    @property
    def bse(self) -> pd.Series:
        """`se` by name: model-based standard errors."""
        return self._by_name(self.se, "bse")

    @property
    def bse_fe(self) -> pd.Series:
        """As `bse`."""
        return self.bse

    @property
    def tvalues(self) -> pd.Series:
        """t of every coefficient, as in ``summary()``: `params` over `bse`."""
        return self._by_name(self._summary_effects()["t"].to_numpy(), "tvalues")

    @property
    def pvalues(self) -> pd.Series:
        """p of every coefficient, as in ``summary()``: with Satterthwaite df, residual of a linear model."""
        return self._by_name(self._summary_effects()["p"].to_numpy(), "pvalues")

    def cov_params(self) -> pd.DataFrame:
        """`cov_beta` with names; NaN for columns that were dropped.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> bool((fit.cov_params().loc["Days", "Days"] ** 0.5 - fit.bse["Days"]) < 1e-12)
        True
        """
        kept, names = self.design.kept, list(self.coef_names)
        covariance = np.full((len(names), len(names)), np.nan)
        covariance[np.ix_(kept, kept)] = self.cov_beta
        return pd.DataFrame(covariance, index=names, columns=names)

    @property
    def resid(self) -> np.ndarray:
        """`residuals`."""
        return self.residuals

    @property
    def fittedvalues(self) -> np.ndarray:
        """`fitted`."""
        return self.fitted

    @property
    def llf(self) -> float:
        """`loglik`."""
        return self.loglik

    @property
    def df_resid(self) -> int:
        """`df_residual`."""
        return self.df_residual

    @property
    def random_effects(self) -> dict[str, pd.DataFrame]:
        """``ranef()``: conditional modes by grouping factor."""
        return self.ranef()

    @public(effects=NAMES, conf_int=SWITCH, conf_level=LEVEL, ddf=optional(one_of(DDF_METHODS)))
    @titled("Tidy")
    def tidy(
        self, effects: str | Sequence[str] = ("ran_pars", "fixed"), conf_int: bool = False,
        conf_level: float = 0.95, ddf: str | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Parameters in rows under the names of R's broom.mixed.

        Parameters
        ----------
        effects : str or sequence of {"ran_pars", "fixed", "ran_vals"}
            Standard deviations and correlations, fixed effects, conditional modes.
        conf_int : bool
            Add conf.low and conf.high of fixed effects and conditional modes; for variances see
            ``conf_int()``.
        conf_level : float
        ddf : str, optional
            Of the fixed effects; as in ``summary()`` by default.

        Returns
        -------
        DataFrame
            effect, group, term, estimate, std.error, statistic, df, p.value; with "ran_vals" also level.

        Raises
        ------
        OptionError
            For other effects.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> fit.tidy("ran_pars")["term"].tolist()
        ['sd__(Intercept)', 'sd__Days', 'cor__(Intercept).Days', 'sd__Observation']
        """
        wanted = [effects] if isinstance(effects, str) else list(effects)
        for name in wanted:
            if name not in EFFECTS:
                raise OptionError(f"effects={name!r} is not known; allowed: {name_list(EFFECTS)}")
        parts = {
            "ran_pars": self._tidy_components,
            "fixed": lambda: self._tidy_fixed(conf_int, conf_level, ddf),
            "ran_vals": lambda: self._tidy_modes(conf_int, conf_level),
        }
        found = [parts[name]() for name in wanted]
        columns = list(dict.fromkeys(name for part in found for name in part.columns))
        return pd.concat(found, ignore_index=True).reindex(columns=columns)

    @public()
    @titled("Glance")
    def glance(self) -> pd.DataFrame:
        """Figures of the fit in one row, under the names of R's broom.mixed.

        Returns
        -------
        DataFrame
            nobs, sigma, logLik, AIC, BIC, df.residual; REMLcrit (REML), deviance (ML), or r.squared and
            adj.r.squared of a linear model.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> round(float(fit.glance()["REMLcrit"].iloc[0]), 2)
        1743.63
        """
        row: dict[str, float] = {
            "nobs": self.nobs, "sigma": self.sigma, "logLik": self.loglik, "AIC": self.aic, "BIC": self.bic,
        }  # fmt: skip
        if self.method == "OLS":
            row |= {"r.squared": self.r_squared, "adj.r.squared": self.adj_r_squared}
            row["df.residual"] = self.df_residual
        else:
            row["REMLcrit" if self.reml else "deviance"] = self.criterion
            row["df.residual"] = self.nobs - self.npar  # R counts variance parameters too
        return pd.DataFrame([row])

    @public()
    @titled("Augment")
    def augment(self) -> pd.DataFrame:
        """The rows that were used: response, columns of the model, and what the fit makes of them.

        Returns
        -------
        DataFrame
            Response, variables, .fitted, .resid, .fixed (without random effects), under the names of R's
            broom.mixed.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> fit.augment().columns.tolist()
        ['Reaction', 'Days', 'Subject', '.fitted', '.resid', '.fixed']
        """
        frame = self.design.frame
        own = pd.DataFrame(
            {".fitted": self.fitted, ".resid": self.residuals, ".fixed": self._fixed_fitted()},
            index=frame.index,
        )
        response = pd.DataFrame({self.design.response: self.response}, index=frame.index)
        return pd.concat([response, frame, own], axis=1)

    def _fixed_fitted(self) -> np.ndarray:
        """X beta and the offset (n,)."""
        fixed = self.design.X @ self.beta[self.design.kept]
        return fixed if self.offset is None else fixed + self.offset

    def _by_name(self, values: np.ndarray, name: str) -> pd.Series:
        return pd.Series(values, index=list(self.coef_names), name=name)

    def _summary_effects(self) -> pd.DataFrame:
        from fastlmm_core.results.summary import shown_ddf

        return self.fixed_effects(ddf=shown_ddf(self))

    def _tidy_fixed(self, limits: bool, level: float, ddf: str | None) -> pd.DataFrame:
        from fastlmm_core.results.summary import shown_ddf

        own = self.fixed_effects(ddf=ddf or shown_ddf(self), level=level)
        frame = pd.DataFrame({
            "effect": "fixed", "group": None, "term": own["term"], "estimate": own["estimate"],
            "std.error": own["se"], "statistic": own["t"], "df": own["df"], "p.value": own["p"],
        })  # fmt: skip
        return frame.assign(**{"conf.low": own["lower"], "conf.high": own["upper"]}) if limits else frame

    def _tidy_components(self) -> pd.DataFrame:
        own = self.variance_components
        rows = []
        for group, first, second, value in zip(
            own["group"], own["var1"], own["var2"], own["sd_or_cor"], strict=True
        ):
            one = first if isinstance(first, str) and first else "Observation"
            two = isinstance(second, str) and second != ""
            rows.append(("ran_pars", group, f"cor__{one}.{second}" if two else f"sd__{one}", value))
        return pd.DataFrame(rows, columns=["effect", "group", "term", "estimate"])

    def _tidy_modes(self, limits: bool, level: float) -> pd.DataFrame:
        own = self.blups(level=level)
        frame = pd.DataFrame({
            "effect": "ran_vals", "group": own["group"], "level": own["level"], "term": own["term"],
            "estimate": own["estimate"], "std.error": np.sqrt(own["condvar"]),
        })  # fmt: skip
        if not limits:
            return frame
        half = float(ndtri(0.5 + 0.5 * level)) * frame["std.error"]
        return frame.assign(**{"conf.low": own["estimate"] - half, "conf.high": own["estimate"] + half})
