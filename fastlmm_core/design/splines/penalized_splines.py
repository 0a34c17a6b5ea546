"""Penalized splines as random terms: ``spl(x)``, ``ps(x)`` and ``ps(x1, x2)``.

f = B b with a penalty b'P b on B-spline coefficients (Eilers & Marx 1996; Verbyla et al. 1999). P does not
see polynomials below its order; those are columns of the fixed part, and as many coefficients are set to zero
in their stead, at the corners of the basis; what B b then holds of the polynomials is told apart by
`polynomials` and `unpenalized`. With N an orthonormal basis of the null space of P,
log |P_kept| = log |P|_+ + 2 log |N_dropped|, and the REML criterion is that of b on the complement of N.

``ps``: B-splines on equal segments of the range and differences of their coefficients, P = D'D, for two
variables P = P_1 (x) I / variance_1 + I (x) P_2 / variance_2. ``spl``: cubic B-splines with knots at the
distinct values and P the integral of f''^2, whose values at the knots are those of Green & Silverman's (1994)
natural cubic spline: K = Q R^-1 Q'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.at_levels import AtFactors, at_text, outside_at, split_at_levels
from fastlmm_core.design.coding.model_matrix import Coding
from fastlmm_core.design.coding.rank import DENSE_WORK, column_rank
from fastlmm_core.design.coding.sparse_columns import rowwise_product
from fastlmm_core.design.splines.smooths import build_smooth
from fastlmm_core.design.splines.spline_axes import SplineAxis
from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Raw, read_raw
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.errors import DataError, DesignError, name_list
from fastlmm_core.formula.expressions import Node, deparse, label_of
from fastlmm_core.formula.functions import names_read
from fastlmm_core.formula.structured_parts import SplinePart
from fastlmm_core.reading.columns import is_number_text

# Distance from zero, in ranges of a variable, from which its products with others lose digits that count.
FAR = 1000.0
# Share of a polynomial's norm that may be left of it beside the columns that make it, at first sight: well
# below what the rank of X tells apart.
PLAIN = 1e-10
# Filled columns of the fixed part up to which it is first asked whether they alone make a polynomial.
FEW_FILLED = 16
TINY = float(np.finfo(float).tiny)

@dataclass(frozen=True, repr=False)
class SplineTerm(Displayed):
    """A penalized spline on the rows used; its coefficients are levels without a coefficient of their own.

    Attributes
    ----------
    label : str
        The term as written.
    group : str
        The same, with ``at(env)`` the level in its place: ``"at(env, E1):ps(row, col)"``.
    names : tuple of str
        Variables, ``("row", "col")``; one variance each.
    basis : (n, b) csr_array
        Kept B-splines.
    pieces : tuple of (b, b) csc_array
        Penalty of each variance; the precision of the coefficients is sum_d pieces_d / variance_d.
    eigenvalues : (D, b) float64
        log |sum_d lambda_d pieces_d| = sum_i log(sum_d lambda_d eigenvalues_di) + `constant`.
    constant : float
    axes_of : tuple of SplineAxis
    nodes : tuple of Node
    kept : (b,) int64
        Coefficients that are not set to zero.
    polynomials : (n, j) float64
        Polynomials that are not penalized.
    unpenalized : (j, b) float64
        Share in them: basis - polynomials @ unpenalized has coefficients orthogonal to the null space of
        the penalty (ps), or values at the knots that are orthogonal to 1 and x (spl).
    typical_variance : float
        See ``Smooth``.
    states : dict of str to dict
    group_variables : tuple of str
        Columns of the table it reads.
    chosen_segments : tuple of int
        Segments of each variable where ``nseg=auto`` left them to the data, else none.
    at : str or None
        Level of ``at()`` this spline belongs to; other rows of `basis` and `polynomials` are zero.
    at_factors : tuple of (Node, tuple of str)
        Factors of ``at()`` with their levels.
    inside : (k,) int64 or None
        Rows of that level, None for all.
    """

    label: str
    group: str
    names: tuple[str, ...]
    basis: sp.csr_array
    pieces: tuple[sp.csc_array, ...]
    eigenvalues: np.ndarray
    constant: float
    axes_of: tuple[SplineAxis, ...]
    nodes: tuple[Node, ...]
    kept: np.ndarray
    polynomials: np.ndarray
    unpenalized: np.ndarray
    typical_variance: float
    states: Mapping[str, State]
    group_variables: tuple[str, ...]
    chosen_segments: tuple[int, ...] = ()
    at: str | None = None
    at_factors: AtFactors = ()
    inside: np.ndarray | None = None

    is_spline = True
    is_plain = False

    def _shown(self) -> str:
        return f"{self.group}: penalized spline of {self.basis.shape[1]:,} coefficients"

    taken_from = ""
    structure = "spline"
    relation = None
    columns: tuple[str, ...] = ()
    coding = Coding(False, {}, ())

    @property
    def levels(self) -> np.ndarray:
        """(b,) names of the coefficients, ``"row.2:col.5"``: B-splines counted from 1."""
        rest, parts = self.kept, []
        for name, axis in zip(reversed(self.names), reversed(self.axes_of), strict=True):
            parts.append([f"{name}.{i + 1}" for i in rest % axis.size])
            rest = rest // axis.size
        return np.array([":".join(own) for own in zip(*reversed(parts), strict=True)], dtype=object)

    def log_determinant(self, precisions: np.ndarray) -> tuple[float, np.ndarray]:
        """log |Q| at Q = sum_d precisions_d pieces_d, and its derivatives in log precisions (D,)."""
        total = precisions @ self.eigenvalues
        share = precisions[:, None] * self.eigenvalues / total
        return float(np.sum(np.log(total))) + self.constant, share.sum(axis=1)

    def evaluate(self, newdata: Any) -> sp.csr_array:
        """(k, b) basis on another table of k rows, zero where they are of other levels of ``at()``.

        Raises
        ------
        DataError
            When a variable is missing, or lies beyond the data of the fit.
        """
        table = newdata if isinstance(newdata, Table) else Table(newdata)
        if self.at is None:
            return self._evaluate(table, np.arange(table.n))
        own = np.flatnonzero(~outside_at(self.at_factors, self.at, table, self.states))
        return on_rows(self._evaluate(table, own), own, table.n)

    def _evaluate(self, table: Table, rows: np.ndarray) -> sp.csr_array:
        """The basis on some rows (k, b)."""
        product: sp.csr_array | None = None
        for node, name, axis in zip(self.nodes, self.names, self.axes_of, strict=True):
            x = read_raw(node, table).on_rows(rows)[:, 0]
            if np.isnan(x).any():
                raise DataError(f"'{name}' is missing in {int(np.isnan(x).sum())} rows of the new data; "
                                f"fill it in or leave the rows out: '{self.group}' needs it")  # fmt: skip
            low, high = axis.range
            outside = (x < low) | (x > high)
            if outside.any():
                raise DataError(f"'{self.group}': {name} = {x[np.argmax(outside)]:g} of the new data lies "
                                f"beyond the data of the fit, {low:g} to {high:g}")  # fmt: skip
            own = axis.basis(x)
            product = own if product is None else rowwise_product(own, product)
        assert product is not None
        return sp.csr_array(product[:, self.kept])


def read_spline_variables(parts: tuple[SplinePart, ...], table: Table) -> dict[str, Raw]:
    """The variables of splines on all rows, by their text.

    Raises
    ------
    DataError
        When one of them is a factor or has several columns.
    """
    found = {}
    for part, node in [(own, node) for own in parts for node in own.variables]:
        raw = read_raw(node, table)
        if raw.levels is not None or raw.values.values.shape[1] != 1:  # type: ignore[union-attr]
            name = label_of(deparse(node))
            if raw.levels is None:
                raise DataError(f"'{part.label}' needs numbers, but '{name}' has several columns")
            numbers = all(map(is_number_text, raw.levels))
            how = "pandas.to_numeric" if numbers else r".str.extract(r'(\d+)')[0].astype(float)"
            raise DataError(
                f"'{part.label}' needs numbers, but '{name}' is a factor or text with the levels "
                f"{name_list(raw.levels, 3)}; give a column of numbers (in Python by {how})"
            )
        found[deparse(node)] = raw
    return found


def build_splines(
    part: SplinePart, raw: dict[str, Raw], groups: dict[str, Raw], rows: np.ndarray | None, X: sp.csc_array
) -> list[SplineTerm]:
    """A spline on the rows used, or one for each level of ``at()`` that occurs.

    Parameters
    ----------
    part : SplinePart
    raw : dict of str to Raw
        Its variables on all rows, by their text.
    groups : dict of str to Raw
        Groupings on all rows, by their text.
    rows : (n,) int64 or None
    X : (n, p) csc_array
        Fixed part, which has the polynomials that are not penalized.

    Raises
    ------
    DesignError
        When a variable has too few values, or the fixed part lacks such a polynomial.
    """
    texts = [deparse(node) for node in part.variables]
    values = np.column_stack([raw[text].on_rows(rows)[:, 0] for text in texts])
    states = {text: raw[text].state for text in texts}
    if not part.at:
        inside = np.arange(len(values))
        _check_polynomials(part, [(part.label, inside)], values, X)
        return [_build_spline(part, part.label, values, states)]
    states |= {deparse(node): groups[deparse(node)].state for node in part.at}
    at_factors, levels = split_at_levels(part.at, part.at_levels, groups, rows)
    at_names = [label_of(deparse(node)) for node in part.at]
    own = [(at, f"{at_text(at_names, at)}:{part.curve}", inside) for at, inside in levels]
    _check_polynomials(part, [(group, inside) for _, group, inside in own], values, X)
    return [
        replace(
            _build_spline(part, group, values, states, inside),
            at=at, at_factors=at_factors, inside=inside,
        )
        for at, group, inside in own
    ]  # fmt: skip


def _build_spline(
    part: SplinePart, group: str, values: np.ndarray, states: Mapping[str, State],
    inside: np.ndarray | None = None,
) -> SplineTerm:  # fmt: skip
    """The spline of variables `values` (n, d) on the rows `inside`, all of them without ``at()``."""
    names = tuple(label_of(deparse(node)) for node in part.variables)
    own = [np.ascontiguousarray(x if inside is None else x[inside]) for x in values.T]
    smooth = build_smooth(part.kind, part.degree, part.order, part.n_segments, own)
    basis, polynomials = smooth.basis, smooth.polynomials
    if inside is not None:
        n = values.shape[0]
        basis = on_rows(basis, inside, n)
        polynomials, whole = np.zeros((n, polynomials.shape[1])), polynomials
        polynomials[inside] = whole
    return SplineTerm(
        part.label, group, names, basis, smooth.pieces, smooth.eigenvalues, smooth.constant, smooth.axes,
        part.variables, smooth.kept, polynomials, smooth.unpenalized, smooth.typical_variance, states,
        names_read((*part.variables, *part.at)), () if part.n_segments else smooth.segments,
    )  # fmt: skip


def on_rows(basis: sp.csr_array, rows: np.ndarray, n: int) -> sp.csr_array:
    """(n, b): rows of `basis` (k, b) at increasing `rows`, the others empty."""
    counts = np.zeros(n, np.int64)
    counts[rows] = np.diff(basis.indptr)
    indptr = np.concatenate(([0], np.cumsum(counts)))
    return sp.csr_array((basis.data, basis.indices, indptr), shape=(n, basis.shape[1]))


def _check_polynomials(
    part: SplinePart, groups: list[tuple[str, np.ndarray]], values: np.ndarray, X: sp.csc_array
) -> None:
    """Refuse splines whose unpenalized polynomials are not in the fixed part.

    Parameters
    ----------
    groups : list of (str, (k,) int64)
        Label and rows of every spline.
    values : (n, d)
    """
    names = [label_of(deparse(node)) for node in part.variables]
    columns = []
    for group, inside in groups:
        powers = []
        for name, x in zip(names, values[inside].T, strict=True):
            _check_distinct(part, group, name, x)
            scaled = (x - 0.5 * (x.min() + x.max())) / (x.max() - x.min())
            powers.append(np.vander(scaled, part.order, increasing=True))
        own = powers[0] if len(powers) == 1 else np.einsum("ia,ib->iab", *powers).reshape(inside.size, -1)
        columns.append(own)
    if len(columns) == 1 and len(columns[0]) == X.shape[0] and _plainly_within(X, columns[0]):
        return
    p = X.shape[1]
    lacking = column_rank(_with_columns(X, columns, [inside for _, inside in groups])).kept
    lacking = lacking[lacking >= p] - p
    if lacking.size:
        group, inside = groups[int(lacking[0]) // columns[0].shape[1]]
        far = _far_words(names, values[inside])
        raise DesignError(f"'{group}' is the deviation from what it does not penalize, which the fixed part "
                          f"lacks; add {_wanted(part, names)}{far}")  # fmt: skip


def _plainly_within(X: sp.csc_array, wanted: np.ndarray) -> bool:
    """Whether the filled columns of X (n, p) alone make those of `wanted` (n, j).

    Also beside hundreds of genotypes these are the few that the formula's ``row*col`` has given; what they
    make to ten digits need not be looked for among all.
    """
    n = X.shape[0]
    filled = np.flatnonzero(np.diff(X.indptr) > 0.5 * n)
    if not 0 < filled.size <= FEW_FILLED:
        return False
    A = X[:, filled].toarray()
    A /= np.maximum(np.linalg.norm(A, axis=0), TINY)
    wanted = wanted / np.maximum(np.linalg.norm(wanted, axis=0), TINY)
    left = wanted - A @ np.linalg.lstsq(A, wanted, rcond=None)[0]
    return bool((np.linalg.norm(left, axis=0) < PLAIN).all())


def _far_words(names: list[str], values: np.ndarray) -> str:
    """What to do where the fixed part has the polynomials and rounding hides them; values (k, d)."""
    for name, x in zip(names, values.T, strict=True):
        low, high = float(np.min(x)), float(np.max(x))
        if abs(0.5 * (low + high)) > FAR * (high - low):
            return (
                f"; where it has them, count {name} from another origin, {name} - {math.floor(low)} for "
                f"example: from {low:.15g} to {high:.15g} its products with other columns lose their digits"
            )
    return ""


def _with_columns(
    X: sp.csc_array, columns: list[np.ndarray], rows: list[np.ndarray]
) -> sp.csc_array | np.ndarray:
    """X (n, p) with more columns behind, each of (k, j) on its `rows` (k,); an array where that is small."""
    (n, p), size = X.shape, columns[0].shape[1]
    if n * (p + size * len(columns)) ** 2 > DENSE_WORK:
        parts = [on_rows(sp.csr_array(own), at, n) for own, at in zip(columns, rows, strict=True)]
        return sp.csc_array(sp.hstack([X, *parts], format="csc"))
    out = np.zeros((n, p + size * len(columns)))
    out[:, :p] = X.toarray()
    for k, (own, at) in enumerate(zip(columns, rows, strict=True)):
        out[at, p + k * size : p + (k + 1) * size] = own
    return out


def _wanted(part: SplinePart, names: list[str]) -> str:
    """Terms of the fixed part beside a spline."""
    wanted = "*".join(names if part.order == 2 else [f"poly({name}, {part.order - 1})" for name in names])
    if part.order == 1:
        wanted = "an intercept"
    if not part.at:
        return wanted
    at = ":".join(label_of(deparse(node)) for node in part.at)
    if part.order == 1:
        return f"{wanted} for every level of {at}"
    return f"{at}*{wanted}, or factor({at})*{wanted} where it holds numbers"


def _check_distinct(part: SplinePart, group: str, name: str, x: np.ndarray) -> None:
    """Refuse a variable with too few values."""
    distinct, least = np.unique(x).size, 3 if part.kind == "spl" else part.order + 1
    if distinct >= least:
        return
    other = [own for node in part.variables if (own := label_of(deparse(node))) != name]
    along = ""
    if other:
        at = "".join(f"at({label_of(deparse(node))}):" for node in part.at)
        along = f"; for a trend along '{other[0]}' alone write {other[0]} + {at}ps({other[0]}) in the formula"
    raise DesignError(f"'{group}' needs at least {least} distinct values of {name}, but there "
                      f"{'is' if distinct == 1 else 'are'} {distinct}{along}")  # fmt: skip
