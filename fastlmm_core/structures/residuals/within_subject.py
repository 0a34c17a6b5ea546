"""Residuals correlated within a subject: one covariance of the visits, all subjects or an arm each.

Subjects that were seen at the same visits share a pattern g; R_g = Sigma[g, g], and the entries of R_g^-1 are
the coefficients of the pieces, so that the number of subjects leaves the iteration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import block_diag

from fastlmm_core.structures.residuals.base import PieceEntries, ResidualStructure, block_names


class WithinSubjectResiduals(ResidualStructure):
    """R = W^(-1/2) blockdiag(Sigma_arm[visits, visits]) W^(-1/2).

    Parameters
    ----------
    weights : (n,) float64
    subjects, visits, arms : (n,) int64
        Codes; an arm belongs to a whole subject.
    structures : list of CoefficientStructure
        Covariance of the visits by arm.
    visit_levels, arm_levels : tuple
    """

    def __init__(
        self, weights: np.ndarray, subjects: np.ndarray, visits: np.ndarray, arms: np.ndarray,
        structures: list[Any], visit_levels: tuple[str, ...], arm_levels: tuple[Any, ...],
    ):  # fmt: skip
        n = weights.size
        self.root = np.sqrt(weights)
        self.structures, self.visit_levels, self.arm_levels = structures, visit_levels, arm_levels
        self.linear = all(s.linear for s in structures)
        self.n_rows = n
        self.first = np.cumsum([0, *(s.n_theta for s in structures)])
        self.n_theta = int(self.first[-1])
        self.log_weights = float(np.sum(np.log(weights)))
        order = np.lexsort((visits, subjects))
        self.patterns: list[tuple[int, np.ndarray, np.ndarray]] = []  # arm, visits (v,), rows (subjects, v)
        starts = np.flatnonzero(np.r_[True, np.diff(subjects[order]) != 0])
        found: dict[tuple[int, ...], list[np.ndarray]] = {}
        for rows in np.split(order, starts[1:]):
            found.setdefault((int(arms[rows[0]]), *visits[rows].tolist()), []).append(rows)
        for key, members in found.items():
            self.patterns.append((key[0], np.array(key[1:]), np.array(members)))
        parts, piece = [], 0
        self.first_piece = []
        for _, seen, rows in self.patterns:
            self.first_piece.append(piece)
            a, b = np.tril_indices(seen.size)
            count = rows.shape[0]
            i, j = rows[:, a], rows[:, b]
            number = np.broadcast_to(piece + np.arange(a.size), (count, a.size))
            parts.append((i.ravel(), j.ravel(), number.ravel(), (self.root[i] * self.root[j]).ravel()))
            piece += a.size
        self.n_pieces = piece
        row, column, number, value = (np.concatenate(x) for x in zip(*parts, strict=True))
        upper = row < column
        row, column = np.where(upper, column, row), np.where(upper, row, column)
        self.entries = PieceEntries(
            row.astype(np.int64), column.astype(np.int64), number.astype(np.int64), value
        )

    def _own(self, theta: np.ndarray, arm: int) -> np.ndarray:
        return theta[self.first[arm] : self.first[arm + 1]]

    def _covariances(self, theta: np.ndarray) -> list[np.ndarray]:
        """Sigma (m, m) by arm."""
        return [s.covariance(self._own(theta, k)) for k, s in enumerate(self.structures)]

    def _slopes(self, theta: np.ndarray) -> list[np.ndarray]:
        """dSigma / dtheta (n_theta of the arm, m, m) by arm."""
        return [s.covariance_jacobian(self._own(theta, k)) for k, s in enumerate(self.structures)]

    def start(self, moments: Any) -> np.ndarray:
        m = len(self.visit_levels)
        out = []
        for arm, structure in enumerate(self.structures):
            total, count = np.zeros((m, m)), np.zeros((m, m))
            for own, seen, rows in self.patterns:
                if own == arm:
                    e = (moments * self.root)[rows]
                    total[np.ix_(seen, seen)] += e.T @ e
                    count[np.ix_(seen, seen)] += rows.shape[0]
            T = np.where(count > 0, total / np.maximum(count, 1), 0.0)
            spread = np.diag(T)
            default = float(spread[spread > 0].mean()) if np.any(spread > 0) else 1.0
            sd = np.sqrt(np.where(spread > 1e-3 * default, spread, default))
            values, vectors = np.linalg.eigh(np.where(count > 1, T, 0.0) / np.outer(sd, sd))
            correlation = (vectors * np.maximum(values, 0.05 * values.max())) @ vectors.T
            unit = 1.0 / np.sqrt(np.diag(correlation))
            out.append(structure.start(correlation * np.outer(unit * sd, unit * sd)))
        return np.concatenate(out)

    def precision_products(self, pieces: np.ndarray, E: np.ndarray) -> np.ndarray:
        # by patterns of visits: t small matrices meet all subjects of a pattern in one product
        out = np.empty((E.size, pieces.shape[0]))
        for (_, seen, rows), first in zip(self.patterns, self.first_piece, strict=True):
            v = seen.size
            a, b = np.tril_indices(v)
            blocks = np.zeros((pieces.shape[0], v, v))
            blocks[:, a, b] = blocks[:, b, a] = pieces[:, first : first + a.size]
            root = self.root[rows]
            scaled = (E[rows] * root) @ blocks.transpose(2, 0, 1).reshape(v, -1)
            out[rows] = scaled.reshape(rows.shape[0], -1, v).transpose(0, 2, 1) * root[:, :, None]
        return out

    def lower_bounds(self) -> np.ndarray:
        return np.concatenate([s.lower_bounds() for s in self.structures])

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, jacobian = np.empty(self.n_pieces), np.zeros((self.n_theta, self.n_pieces))
        sigma, slopes = self._covariances(theta), self._slopes(theta)
        for (arm, seen, _), first in zip(self.patterns, self.first_piece, strict=True):
            a, b = np.tril_indices(seen.size)
            at = slice(first, first + a.size)
            inverse = np.linalg.inv(sigma[arm][np.ix_(seen, seen)])
            c[at] = inverse[a, b]
            own = slopes[arm][:, seen[:, None], seen]
            jacobian[self.first[arm] : self.first[arm + 1], at] = -(inverse @ own @ inverse)[:, a, b]
        return c, jacobian

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = -self.log_weights, np.zeros(self.n_theta)
        sigma, slopes = self._covariances(theta), self._slopes(theta)
        for arm, seen, rows in self.patterns:
            own = sigma[arm][np.ix_(seen, seen)]
            sign, log = np.linalg.slogdet(own)
            if sign <= 0 or np.linalg.eigvalsh(own)[0] <= 0:
                return np.inf, gradient
            value += rows.shape[0] * log
            inverse = np.linalg.inv(own)
            part = slopes[arm][:, seen[:, None], seen]
            gradient[self.first[arm] : self.first[arm + 1]] += rows.shape[0] * np.einsum(
                "ab,tab->t", inverse, part
            )
        return float(value), gradient

    def _multiply(self, sigma: list[np.ndarray], V: np.ndarray) -> np.ndarray:
        out = np.empty_like(V)
        for arm, seen, rows in self.patterns:
            root = self.root[rows][:, :, None]
            out[rows] = np.matmul(sigma[arm][np.ix_(seen, seen)], V[rows] / root) / root
        return out

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        return self._multiply(self._covariances(theta), V)

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return np.concatenate([s.natural(self._own(theta, k)) for k, s in enumerate(self.structures)])

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return block_diag(*(s.natural_jacobian(self._own(theta, k)) for k, s in enumerate(self.structures)))

    def natural_names(self) -> tuple[str, ...]:
        names = []
        for head, structure in zip(block_names(self.arm_levels), self.structures, strict=True):
            names += [f"{head}: {name}" for name in structure.natural_names(list(self.visit_levels))]
        return tuple(names)

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        return np.concatenate(
            [s.rescaled(self._own(theta, k), factor) for k, s in enumerate(self.structures)]
        )

    def multiply_second(self, theta: np.ndarray, weights: np.ndarray, V: np.ndarray) -> np.ndarray:
        sigma = []
        for k, s in enumerate(self.structures):
            at = slice(self.first[k], self.first[k + 1])
            second = s.covariance_second_by_natural(self._own(theta, k))
            sigma.append(np.einsum("ij,ijab->ab", weights[at, at], second))
        return self._multiply(sigma, V)

    def variances(self, theta: np.ndarray) -> np.ndarray:
        out, by_arm = np.empty(self.n_rows), [np.diag(sigma) for sigma in self._covariances(theta)]
        for arm, seen, rows in self.patterns:
            out[rows] = by_arm[arm][seen] / self.root[rows] ** 2
        return out

    def covariance_jacobian(self, theta: np.ndarray) -> list[np.ndarray]:
        m, out = len(self.visit_levels), []
        for k, own in enumerate(self._slopes(theta)):
            slopes = np.zeros((self.n_theta, m, m))
            slopes[self.first[k] : self.first[k + 1]] = own
            out.append(slopes)
        return out

    def blocks(self, theta: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"at": level, "names": list(self.visit_levels), "T": s.covariance(self._own(theta, k)),
             "n_par": s.n_par, "group_corr": {}, "struct": s.name}
            for k, (level, s) in enumerate(zip(self.arm_levels, self.structures, strict=True))
        ]  # fmt: skip
