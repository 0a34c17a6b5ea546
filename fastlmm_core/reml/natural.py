"""Natural variance parameters: the distinct elements t_j of every relative covariance T_k (inside basis)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.reml.solved import SolvedEquations


@dataclass(frozen=True)
class NaturalParameters:
    """Distinct elements of the T_k.

    Attributes
    ----------
    term : (d,) int64
        Random term of each parameter.
    directions : (d, m, m) float64
        E_j, zero padded to the widest term.
    values : (d,) float64
        t_j.
    """

    term: np.ndarray
    directions: np.ndarray
    values: np.ndarray

    @property
    def size(self) -> int:
        return self.term.size

    def contract(self, H: np.ndarray) -> np.ndarray:
        """<H_k, E_j> of every parameter (d,), for blocks H (K, m, m)."""
        return np.einsum("jab,jab->j", H[self.term], self.directions)


def natural_parameters(solved: SolvedEquations) -> NaturalParameters:
    """Natural parameters at the estimates."""
    e = solved.equations
    term, directions, values = [], [], []
    for k, layout in enumerate(e.terms):
        T = solved.relative_covariance(k)
        for direction in layout.structure.natural_directions():
            padded = np.zeros((e.width, e.width))
            padded[: layout.m, : layout.m] = direction
            row, col = np.argwhere(direction)[0]
            term.append(k)
            directions.append(padded)
            values.append(T[row, col])
    return NaturalParameters(
        np.array(term, dtype=np.int64),
        np.array(directions).reshape(-1, e.width, e.width),
        np.array(values, float),
    )


def apply_direction(
    solved: SolvedEquations, parameters: NaturalParameters, j: int, B: np.ndarray
) -> np.ndarray:
    """(I (x) E_j) B on the levels of its term, zero elsewhere; B (q + p, r)."""
    coefficients = np.zeros(parameters.size)
    coefficients[j] = 1.0
    return mix_directions(solved, parameters, coefficients, B)


def mix_directions(
    solved: SolvedEquations, parameters: NaturalParameters, coefficients: np.ndarray, B: np.ndarray
) -> np.ndarray:
    """sum_j c_j (I (x) E_j) B for c (d,) and B (q + p, r), zero on fixed rows."""
    on_diagonal = np.zeros(B.shape[0])
    off_diagonal = []
    for k, rows in enumerate(solved.equations.layout.random_rows):
        mine = parameters.term == k
        m = rows.shape[1]
        E = np.einsum("j,jab->ab", coefficients[mine], parameters.directions[mine][:, :m, :m])
        on_diagonal[rows] = np.diag(E)
        off_diagonal += [(E[a, b], rows[:, a], rows[:, b]) for a in range(m) for b in range(m) if a != b]
    out = B * on_diagonal[:, None]
    for value, to, source in off_diagonal:
        if value != 0.0:
            out[to] += value * B[source]
    return out
