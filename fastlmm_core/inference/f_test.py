"""What a joint test of linear functions gives."""

from __future__ import annotations

from dataclasses import dataclass

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import format_p, format_significant


@dataclass(frozen=True, repr=False)
class FTest(Displayed):
    """Joint test of K beta = 0.

    Attributes
    ----------
    F, df_num, df_den, p : float
        `df_den` is inf for an asymptotic test (F = chi2 / df_num).
    scaling : float
        Kenward-Roger's factor on F; 1 for the other methods.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    >>> functions = fit.linear_functions([[1.0, 0.0], [1.0, 9.0]])
    >>> functions.f_test()
    F(2, 16) = 705.8, p <.0001 (scaled by 0.9412)
    Next: .F, .df_num, .df_den, .p
    """

    F: float
    df_num: int
    df_den: float
    p: float
    scaling: float = 1.0

    def _shown(self) -> str:
        value = format_significant(self.F, 4)
        text = f"F({self.df_num:g}, {self.df_den:.4g}) = {value}, p {format_p(self.p)}"
        return text if self.scaling == 1.0 else f"{text} (scaled by {self.scaling:.4f})"
