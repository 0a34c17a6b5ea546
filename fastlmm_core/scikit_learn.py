"""Mixed models as estimators of scikit-learn, for its pipelines and cross-validation; needs scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.api import lmm
from fastlmm_core.design.values.columns import first_row
from fastlmm_core.errors import DataError, DependencyError, FastLMMWarning, FormulaError, OptionError
from fastlmm_core.results.prediction import incomplete_rows

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils import assert_all_finite
    from sklearn.utils.validation import (
        _check_feature_names,
        _check_n_features,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise DependencyError(
        "MixedModelRegressor needs scikit-learn 1.6 or later: pip install 'fastlmm_core[sklearn]'"
    ) from error

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

RESPONSE = "response"


class MixedModelRegressor(RegressorMixin, BaseEstimator):
    """A linear mixed model with scikit-learn's interface.

    Parameters
    ----------
    formula : str, optional
        Right side in lme4's notation, ``"rep + (1 | gen)"``, of the columns of X. None is a linear model of
        all columns, which an X without names has as well (x0, x1, ...).
    random : bool or list of str
        What ``predict`` adds to the fixed part: all random terms, none, or those of these groups. A level
        that the fit did not see has an effect of zero: the prediction is that of the population. With a
        relationship all its levels have effects, those without data from their relatives.
    reml : bool
    residual, relationships, fixed_parameters, field_trend, contrasts
        As of `lmm`.

    Attributes
    ----------
    model_ : LMMFit
        The fit, with all that it can be asked.
    n_features_in_ : int
    feature_names_in_ : (n_features_in_,) array of str
        Where X has names.

    Notes
    -----
    Rows of X with missing values in a column of the model are left out of the fit, and predicted as NaN where
    the prediction needs the value; y has to be whole, as scikit-learn wants it. `sample_weight` of ``fit``
    are prior weights, Var(e_i) = sigma^2 / w_i: they say how precise a row is, and a weight of 2 is not the
    row twice. Rows of weight zero are left out.

    Examples
    --------
    >>> from fastlmm_core import datasets
    >>> from fastlmm_core.scikit_learn import MixedModelRegressor
    >>> sleep = datasets.load("sleepstudy")
    >>> X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    >>> model = MixedModelRegressor("Days + (Days | Subject)").fit(X, y)
    >>> model.predict(X.head(2)).round(1).tolist()
    [253.7, 273.3]
    """

    def __init__(
        self, formula: str | None = None, *, random: Any = True, reml: bool = True, residual: str = "units",
        relationships: Mapping[str, Any] | None = None, fixed_parameters: Mapping[str, Any] | None = None,
        field_trend: str | None = None, contrasts: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        self.formula = formula
        self.random = random
        self.reml = reml
        self.residual = residual
        self.relationships = relationships
        self.fixed_parameters = fixed_parameters
        self.field_trend = field_trend
        self.contrasts = contrasts

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MixedModelRegressor:
        """Fit the model.

        Parameters
        ----------
        X : (n, p) DataFrame, table of polars or pyarrow, or array
        y : (n,) array_like
        sample_weight : (n,) array_like, optional

        Raises
        ------
        FastLMMError
            As of `lmm`; most are ValueError.
        """
        if y is None:  # in the words that scikit-learn looks for
            raise OptionError(
                "This MixedModelRegressor estimator requires y to be passed, but the target y is None"
            )
        frame, y = self._table(X, y)
        name = RESPONSE
        while name in frame.columns:
            name += "_"
        right = self._right_side(frame)
        frame = frame.assign(**{name: y})
        weights = None
        if sample_weight is not None:
            weights = np.asarray(sample_weight, dtype=np.float64)
            bad = ~(weights >= 0.0)
            if bad.ndim and bad.any():
                raise DataError(f"sample_weight must be zero or positive: {first_row(bad, weights)}")
            if weights.shape == (len(frame),) and (weights == 0.0).any():
                frame, weights = frame[weights > 0.0], weights[weights > 0.0]
                if not len(frame):
                    raise DataError("all weights are zero: no row is left")
        contrasts = None if self.contrasts is None else dict(self.contrasts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FastLMMWarning)  # kept in model_.warnings
            self.model_: LMMFit = lmm(
                f"{name} ~ {right}", frame, reml=self.reml, weights=weights, residual=self.residual,
                relationships=self.relationships, fixed_parameters=self.fixed_parameters,
                field_trend=self.field_trend, contrasts=contrasts,
            )  # fmt: skip
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions (m,) for the rows of X (m, p); see `random`."""
        check_is_fitted(self)
        frame, _ = self._table(X)
        whole = ~incomplete_rows(self.model_, frame, self.random)
        out = np.full(len(frame), np.nan)
        out[whole] = self.model_.predict(frame[whole], random=self.random, allow_new_levels=True)
        return out

    def _right_side(self, frame: pd.DataFrame) -> str:
        if self.formula is None:
            return " + ".join(f"`{name}`" for name in frame.columns)
        if not isinstance(self.formula, str):
            raise OptionError(f"formula must be text or None, not {type(self.formula).__name__}")
        left, tilde, right = self.formula.rpartition("~")
        if left.strip():
            words = f"the response is y of fit(X, y): write the formula without it, '~{right}'"
            raise FormulaError(words, self.formula, 0)
        return right if tilde else self.formula

    def _table(self, X: Any, y: Any = None) -> tuple[pd.DataFrame, np.ndarray | None]:
        """X as a table: a DataFrame as it is, checked by its names, anything else as numbers."""
        reset = y is not None
        if hasattr(X, "to_pandas"):  # tables of polars and pyarrow, which `lmm` takes
            X = X.to_pandas()
        if isinstance(X, pd.DataFrame):
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            X = X.rename(columns=str)
            if not reset:
                return X, None
            y = column_or_1d(y, warn=True)
            if len(y) != len(X):
                raise OptionError(f"X has {len(X)} rows and y {len(y)} values")
            y = np.asarray(y, dtype=np.float64)
            assert_all_finite(y, input_name="y")  # as `validate_data` has it of an array
            return X.reset_index(drop=True), y
        if reset:
            X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        else:
            X = validate_data(self, X, reset=False, dtype=np.float64)
        return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]), y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags
