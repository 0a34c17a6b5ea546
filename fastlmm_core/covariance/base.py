"""The contract of a covariance structure and the registry of structures.

A structure describes the relative covariance T(theta) = Lambda(theta) Lambda(theta)' of the m coefficients of
one level.  The engine needs Lambda, and the derivatives of T for the scores and the information; the defaults
here serve every structure whose Lambda is linear in theta.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from fastlmm_core.errors import OptionError, name_list

_REGISTRY: dict[str, type[CovarianceStructure]] = {}


class CovarianceStructure(ABC):
    """Covariance of the m coefficients of a level.

    Parameters
    ----------
    m : int
        Coefficients per level.

    Attributes
    ----------
    name : str
        Key in the registry.
    linear : bool
        The structure's parameters are the distinct variances and covariances themselves, so that second
        derivatives vanish in Kenward-Roger's adjustment. A structure with False is written in others
        (correlations, logarithms, fewer than there are covariances), and says how the covariance depends on
        them by `parameter_jacobian` and `parameter_hessian`.
    """

    name = ""
    linear = True

    def __init__(self, m: int):
        self.m = m

    @property
    @abstractmethod
    def positions(self) -> tuple[tuple[int, int], ...]:
        """Row and column in Lambda of each theta, column by column (lme4's order)."""

    @property
    def n_theta(self) -> int:
        return len(self.positions)

    @property
    def diagonal(self) -> np.ndarray:
        """Indices of the theta on the diagonal of Lambda, int64."""
        return np.array([t for t, (row, col) in enumerate(self.positions) if row == col], dtype=np.int64)

    def start(self) -> np.ndarray:
        """Starting theta: the identity."""
        return np.array([1.0 if row == col else 0.0 for row, col in self.positions])

    def lower_bounds(self) -> np.ndarray:
        """Bounds of the canonical theta: diagonals are not negative."""
        return np.array([0.0 if row == col else -np.inf for row, col in self.positions])

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """Lambda(theta), (m, m) lower triangular."""
        factor = np.zeros((self.m, self.m))
        for value, (row, col) in zip(theta, self.positions, strict=True):
            factor[row, col] = value
        return factor

    def factor_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """d Lambda / d theta, (n_theta, m, m)."""
        jacobian = np.zeros((self.n_theta, self.m, self.m))
        for t, (row, col) in enumerate(self.positions):
            jacobian[t, row, col] = 1.0
        return jacobian

    def covariance(self, theta: np.ndarray) -> np.ndarray:
        """T(theta), (m, m)."""
        factor = self.factor(theta)
        return factor @ factor.T

    def covariance_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """d T / d theta, (n_theta, m, m)."""
        product = self.factor_jacobian(theta) @ self.factor(theta).T
        return product + np.swapaxes(product, 1, 2)

    def covariance_hessian(self, theta: np.ndarray) -> np.ndarray:
        """d2 T / d theta d theta', (n_theta, n_theta, m, m), for Lambda linear in theta."""
        jacobian = self.factor_jacobian(theta)
        product = np.einsum("sab,tcb->stac", jacobian, jacobian)
        return product + np.swapaxes(product, 0, 1)

    def log_determinant(self, theta: np.ndarray) -> float:
        """log |T|; -inf at a singular T."""
        with np.errstate(divide="ignore"):
            return 2.0 * float(np.sum(np.log(np.abs(np.diag(self.factor(theta))))))

    def natural_directions(self) -> np.ndarray:
        """dT of each natural parameter (variances and covariances), (n_natural, m, m) symmetric 0/1."""
        directions = []
        for row, col in self.positions:
            direction = np.zeros((self.m, self.m))
            direction[row, col] = direction[col, row] = 1.0
            directions.append(direction)
        return np.array(directions).reshape(-1, self.m, self.m)

    def parameter_jacobian(self, covariance: np.ndarray) -> np.ndarray:
        """d G / d s of the parameters s in which the structure is written, (n_parameters, m, m).

        Parameters
        ----------
        covariance : (m, m)
            G = sigma2 T of the coefficients as the user wrote them, where the derivative is taken. Parameters
            that are not determined there give a column of zeros or of non-finite numbers.
        """
        self._refuse_nonlinear("parameter_jacobian")
        return self.natural_directions()

    def parameter_hessian(self, covariance: np.ndarray) -> np.ndarray:
        """d2 G / d s d s', (n_parameters, n_parameters, m, m), at G = `covariance`."""
        self._refuse_nonlinear("parameter_hessian")
        n = len(self.natural_directions())
        return np.zeros((n, n, self.m, self.m))

    def _refuse_nonlinear(self, method: str) -> None:
        if not self.linear:
            raise NotImplementedError(
                f"covariance structure '{self.name}' is not linear and has to define {method}"
            )

    @abstractmethod
    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        """Canonical theta of a positive semidefinite T of this structure."""


def register_structure(cls: type[CovarianceStructure]) -> type[CovarianceStructure]:
    """Class decorator: make the structure available by its `name`."""
    _REGISTRY[cls.name] = cls
    return cls


def structure_names() -> tuple[str, ...]:
    """Registered names."""
    return tuple(sorted(_REGISTRY))


def make_structure(name: str, m: int) -> CovarianceStructure:
    """Structure `name` for m coefficients.

    Raises
    ------
    OptionError
        When no structure of that name is registered.
    """
    if name not in _REGISTRY:
        raise OptionError(
            f"covariance structure {name!r} is not known; allowed: {name_list(structure_names())}"
        )
    return _REGISTRY[name](m)
