"""The contract of a residual structure: the precision of the rows as a sum of pieces.

    R^-1(theta) = sum_b c_b(theta) W^(1/2) E_b W^(1/2)

with the prior weights W inside the entries.  Rows of plots that are missing from a field follow the observed
ones; their columns in the equations are unknowns of their own (`n_missing`), which makes the full grid exact
for REML and ML: log|R| + log|E_m' R^-1 E_m| = log|R_observed|.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastlmm_core.errors import InferenceError
from fastlmm_core.kernels.equations.sparse_products import (
    add_transposed_product,
    multiply_row_pieces,
    sum_row_pieces,
)
from fastlmm_core.linalg.compressed import CompressedRows
from fastlmm_core.structures.differences import differentiate
from fastlmm_core.structures.residuals.dense_rows import DenseRows

# Condition of d natural / d theta from which parameters of the residual cannot be told apart by it.
SINGULAR_JACOBIAN = 1e15
# Variance, relative to that of the response in the same rows, that is tried at zero, and for the covariances
# of visits the eigenvalue from which on they are nearly singular.
SETTLES, NEARLY_ZERO = 1e-4, 1e-6


@dataclass(frozen=True)
class PieceEntries:
    """Entries of all E_b on and below the diagonal.

    Attributes
    ----------
    row, column, piece : (k,) int64
    value : (k,) float64
    """

    row: np.ndarray
    column: np.ndarray
    piece: np.ndarray
    value: np.ndarray

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.row, self.column, self.piece, self.value


def block_names(levels: tuple[Any, ...]) -> tuple[str, ...]:
    """What the parameters of every block are called, by its level of ``|``."""
    return tuple("Residual" if level is None else f"Residual {level}" for level in levels)


class ResidualGroup(NamedTuple):
    """A level of the factor right of ``|``: its label, observed rows (k,) and places in theta.

    Of a visit within the subjects of such a level, `visit` among those of the `structure` that they share.
    """

    label: Any
    rows: np.ndarray
    own: slice
    structure: Any = None
    visit: int = -1


class Charted(Protocol):
    """Parameters of which some are correlations in a chart, and some have a bound of zero."""

    def correlation_charts(self) -> np.ndarray: ...

    def chart_at(self, distance: float) -> float: ...

    def lower_bounds(self) -> np.ndarray: ...


class ResidualStructure(ABC):
    """Precision of the rows.

    Attributes
    ----------
    n_rows : int
        Observed rows and, after them, missing plots.
    n_missing : int
    n_theta : int
    n_pieces : int
    entries : PieceEntries
    dense : tuple of DenseRows
        Rows whose precision is a full matrix, beside `entries`; only of structures with one piece.
    log_weights : float
        Sum of log w_i.
    labels : tuple
        One (level of ``|``, parameter names) a block.
    """

    n_rows: int
    n_missing: int = 0
    n_theta: int
    n_pieces: int
    entries: PieceEntries
    dense: tuple[DenseRows, ...] = ()
    log_weights: float = 0.0
    linear: bool = True

    @abstractmethod
    def start(self, moments: Any) -> np.ndarray:
        """Starting theta from residuals (n,) of the fixed part."""

    def other_starts(self, moments: Any, beside_terms: bool) -> list[np.ndarray]:
        """Further starts where the criterion is known to have several optima.

        Parameters
        ----------
        moments : (n,)
        beside_terms : bool
            Whether there are random terms.
        """
        return []

    def place_of_variance(self, group: int) -> int:
        """Where in theta the variance of a level of ``|`` is; of structures with one variance a level."""
        return group

    def correlation_charts(self) -> np.ndarray:
        """Which of theta (n_theta,) bool are correlations in a chart without an end: infinite at 1 and -1."""
        return np.zeros(self.n_theta, bool)

    def autocorrelations(self) -> list[slice]:
        """Places in theta of those along the axes of a field, by field."""
        return []

    def zero_variances(self, theta: np.ndarray) -> np.ndarray:
        """Which of theta (n_theta,) bool are standard deviations of variances that are zero."""
        return np.zeros(self.n_theta, bool)

    def charted(self) -> list[tuple[int, Charted]]:
        """What holds correlations in charts, with the place of its first parameter in theta."""
        return []

    def other_signs(self, start: np.ndarray, strong: bool) -> list[np.ndarray]:
        """`start` (n_theta,) with autocorrelations of other signs, and with `strong` ones too."""
        return []

    def other_correlations(self, start: np.ndarray) -> list[np.ndarray]:
        """`start` (n_theta,) with strong and with negative correlations of visits."""
        return []

    def other_spreads(self, start: np.ndarray) -> list[np.ndarray]:
        """`start` (n_theta,) with strongly correlated visits whose variances rise, fall, or stay."""
        return []

    @abstractmethod
    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """c (b,) and its derivatives (n_theta, b)."""

    @abstractmethod
    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """log |R| of the full grid and its derivatives (n_theta,)."""

    def groups(self) -> list[ResidualGroup]:
        """Rows that have parameters of their own; none where all rows share theirs."""
        return []

    def visit_groups(self) -> list[ResidualGroup]:
        """Rows of every visit, none where it does not occur, of structures over the visits of a subject."""
        return []

    def for_response(self, e: np.ndarray) -> ResidualStructure:
        """The same structure, its least variances in units of the response whose residuals are e (n,)."""
        return self

    def with_least(self, factor: float) -> ResidualStructure:
        """The same structure with `factor` times its least variances."""
        return self

    def boundary(self, theta: np.ndarray) -> list[tuple[Any, tuple[str, ...]]]:
        """What sits at a bound of every block, in words: level of ``|`` and phrases."""
        return [(block["at"], ()) for block in self.blocks(theta)]

    def settled(self, theta: np.ndarray) -> np.ndarray:
        """theta (n_theta,) with standard deviations near zero, which the criterion hardly tells, at zero."""
        return theta

    def natural_pieces(self, theta: np.ndarray) -> np.ndarray:
        """d c / d natural (s, b).

        Raises
        ------
        InferenceError
            Where d natural / d theta is singular.
        """
        jacobian = self.natural_jacobian(theta)
        if np.linalg.cond(jacobian) > SINGULAR_JACOBIAN:
            raise InferenceError(
                "the covariance of the residuals is singular: its natural parameters are not those of the "
                "search; use second_derivatives=False"
            )
        return np.asarray(np.linalg.inv(jacobian).T @ self.coefficients(theta)[1])

    def lower_bounds(self) -> np.ndarray:
        """Least theta (n_theta,): 0 where a negative standard deviation leaves the structure, else -inf."""
        return np.full(self.n_theta, -np.inf)

    def bounded_sizes(self) -> np.ndarray:
        """Standard deviation of the response's size for every bounded parameter, 1 elsewhere (n_theta,)."""
        return np.ones(self.n_theta)

    def curvature(self, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """What second derivatives of R add to the average information (t, t), where it is known."""
        return np.zeros((self.n_theta, self.n_theta))

    def piece_coefficients(self, theta: np.ndarray) -> np.ndarray:
        """c (b,) alone."""
        return self.coefficients(theta)[0]

    def gradient(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """d(sum_b weights_b c_b + log|R|) / dtheta (t,), for weights (b,)."""
        return np.asarray(self.coefficients(theta)[1] @ weights + self.log_determinant(theta)[1])

    def second_derivatives(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """d2(sum_b weights_b c_b + log|R|) / dtheta dtheta' (t, t), for weights (b,)."""
        # R^-1 changes by its own size where a standard deviation does
        unit = np.maximum(np.abs(theta), min(1.0, float(np.sqrt(self.variances(theta).min()))))
        return differentiate(
            lambda moved: self.gradient(moved, weights), theta, np.arange(self.n_theta), unit
        )

    @abstractmethod
    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        """R V for V (n_rows, r)."""

    @abstractmethod
    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Reported parameters (s,): variances and covariances, or variances and correlations."""

    @abstractmethod
    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """d natural / d theta, square."""

    @abstractmethod
    def natural_names(self) -> tuple[str, ...]:
        """Names of the reported parameters."""

    @property
    def least_rho(self) -> float:
        """Below this a correlation among the reported parameters leaves no positive semidefinite R."""
        return -1.0

    @abstractmethod
    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        """theta of `factor` times the covariance."""

    @abstractmethod
    def multiply_second(self, theta: np.ndarray, weights: np.ndarray, V: np.ndarray) -> np.ndarray:
        """sum_ij w_ij (d2R / dnatural_i dnatural_j) V, for V (n_rows, r)."""

    @abstractmethod
    def blocks(self, theta: np.ndarray) -> list[dict[str, Any]]:
        """What is reported of every block: at, names, T, group_corr, n_par."""

    @abstractmethod
    def variances(self, theta: np.ndarray) -> np.ndarray:
        """Diagonal of R on the observed rows (n,)."""

    @abstractmethod
    def covariance_jacobian(self, theta: np.ndarray) -> list[np.ndarray]:
        """dT / dtheta (n_theta, m, m) of every block."""

    def precision_products(self, pieces: np.ndarray, E: np.ndarray) -> np.ndarray:
        """sum_b pieces_tb E_b E for every row of `pieces` (t, b) and E (n_rows,): (n_rows, t)."""
        out = np.zeros((E.size, len(pieces)))
        piece, number = np.nonzero(pieces.T)
        ptr = np.searchsorted(piece, np.arange(pieces.shape[1] + 1)).astype(np.int64)
        users = ptr, number.astype(np.int64), np.ascontiguousarray(pieces.T[piece, number], dtype=float)
        multiply_row_pieces(*self.entries.arrays(), users, np.ascontiguousarray(E, dtype=float), out)
        for own in self.dense:
            out[own.rows] += np.outer(own.block @ E[own.rows], pieces[:, 0])
        return out

    def row_precision(self, theta: np.ndarray) -> Any:
        """R^-1 as something that multiplies; None where the sparse matrix of its pieces does."""
        return None

    def sandwich(self, theta: np.ndarray, pieces: np.ndarray) -> np.ndarray | None:
        """Coefficients (b,) of D R D for D = sum_b pieces_b E_b; None where that is no sum of pieces."""
        return None

    def information_terms(self, theta: np.ndarray, pieces: np.ndarray, y: np.ndarray) -> np.ndarray | None:
        """tr(D_t R D_u R) - 2 <Y, D_t R D_u>, (t, t), for D_t = sum_b pieces_tb E_b and <Y, E_b> = y_b.

        None where D_t R D_u is no sum of pieces.
        """
        return None

    def chart_products(
        self, theta: np.ndarray, E: np.ndarray, W: CompressedRows, q: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`score_products` of the derivatives in theta."""
        return self.score_products(theta, self.coefficients(theta)[1], E, W, q)

    def score_products(
        self, theta: np.ndarray, pieces: np.ndarray, E: np.ndarray, W: CompressedRows, q: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """W' D_t E (q, t) and E' D_t R D_u E (t, t) for W (n_rows, q) and E (n_rows,)."""
        return self.row_products(theta, self.precision_products(pieces, E), W, q)

    def row_products(
        self, theta: np.ndarray, rows: np.ndarray, W: CompressedRows, q: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """W' D (q, t) and D' R D (t, t) for D (n_rows, t) and W (n_rows, q)."""
        sides = np.zeros((q, rows.shape[1]))
        add_transposed_product(*W, rows, sides)
        return sides, rows.T @ self.multiply_covariance(theta, rows)

    def quadratics(self, e: np.ndarray) -> np.ndarray:
        """e' E_b e of every piece (b,), for e (n_rows,)."""
        out = np.zeros(self.n_pieces)
        sum_row_pieces(*self.entries.arrays(), np.ascontiguousarray(e, dtype=float), out)
        out[:1] += sum(float(e[own.rows] @ own.block @ e[own.rows]) for own in self.dense)
        return out


class ScaledPieces(ResidualStructure):
    """Rows whose covariance is known but for one variance a piece, the natural parameters: R = (+)_b s_b R_b.

    Attributes
    ----------
    counts : (b,) float64
        Rows of each piece.
    """

    counts: np.ndarray

    def multiply_second(self, theta: np.ndarray, weights: np.ndarray, V: np.ndarray) -> np.ndarray:
        return np.zeros_like(V)

    def sandwich(self, theta: np.ndarray, pieces: np.ndarray) -> np.ndarray:
        return pieces * pieces * self.natural(theta)

    def information_terms(self, theta: np.ndarray, pieces: np.ndarray, y: np.ndarray) -> np.ndarray:
        variance = self.natural(theta)
        return (pieces * (self.counts * variance**2 - 2.0 * variance * y)) @ pieces.T
