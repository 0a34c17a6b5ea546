"""The contract of a coefficient structure: the covariance T(theta) = Lambda(theta) Lambda(theta)'.

T is the covariance of the m coefficients of one level of a random term, or of the m visits of one subject.
Lambda is (m, r) with any r: the engine's random effects are u = Lambda s with independent s.  theta is the
optimizer's chart; the *natural* parameters are those in which results are reported and in which Kenward and
Roger's second derivatives are taken (SAS's: variances, covariances, correlations).

A structure is numbers only, arrays in and arrays out.  What has a default here is right for every structure,
though not always the cheapest way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

from fastlmm_core.errors import OptionError, name_list
from fastlmm_core.structures.coefficients.boundary import describe_boundary
from fastlmm_core.structures.coefficients.moments import LEAST

# Distance of a covariance from a structure, of its size, that is rounding.
INSIDE = 1e-6


class CoefficientStructure(ABC):
    """Covariance of the m coefficients of a level.

    Parameters
    ----------
    m : int
        Coefficients per level.
    **options
        Options of the structure, as written in the formula.

    Attributes
    ----------
    name : str
        Key in the registry.
    aliases : tuple of str
        Further keys.
    option_names : tuple of str
        Options that the structure takes.
    homogeneous_form, heterogeneous_form : str
        Names of the forms with one variance and with one of each coefficient; empty where there are no two.
    linear : bool
        The natural parameters are variances and covariances themselves: T is linear in them.
    natural_defined : bool
        There are natural parameters (not so for reduced rank and factor analytic loadings).
    any_scale : bool
        Every coefficient has a variance of its own, of which no other tells anything: T stays one of the
        structure when coefficients are taken in other units.
    any_basis : bool
        T is any covariance: it stays one of the structure when coefficients are taken in another basis.
    several_optima : bool
        The criterion is known to have several optima, so that one start is not enough.
    by_distance : bool
        The order of the coefficients, and their distance, has a meaning.
    absorbs_residual : bool
        Adding one variance to all of T's leaves T in the structure: it can take over an independent residual.
    absorbs_subject : bool
        Adding one number to all elements of T leaves T in the structure: it can take over a subject's effect.
    within_subjects : bool
        May be the covariance of a subject's residuals.
    markov : bool
        One variance, and coefficients d apart have the correlation rho^d: given those beside it, a
        coefficient tells nothing of the others.
    """

    name: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    option_names: ClassVar[tuple[str, ...]] = ()
    homogeneous_form: ClassVar[str] = ""
    heterogeneous_form: ClassVar[str] = ""
    linear: bool = False
    natural_defined: ClassVar[bool] = True
    any_scale: ClassVar[bool] = False
    any_basis: ClassVar[bool] = False
    several_optima: ClassVar[bool] = False
    by_distance: ClassVar[bool] = False
    absorbs_residual: ClassVar[bool] = False
    absorbs_subject: ClassVar[bool] = False
    within_subjects: ClassVar[bool] = True
    markov: ClassVar[bool] = False

    def __init__(self, m: int, **options: Any):
        for option in options:
            if option not in self.option_names:
                takes = name_list(self.option_names) if self.option_names else "none"
                raise OptionError(f"structure '{self.name}' has no option '{option}'; its options: {takes}")
        self.m = m
        self.options = options

    # -- size ---------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def n_theta(self) -> int:
        """Length of theta."""

    @property
    def width(self) -> int:
        """Columns r of Lambda."""
        return self.m

    @property
    def shared_columns(self) -> int | None:
        """Leading columns of Lambda that coefficients share, each of the m others being of one coefficient.

        None where the columns do not divide so: 0 for a diagonal Lambda, k for k factors beside specific
        effects.
        """
        return None

    def parts(self) -> Sequence[tuple[CoefficientStructure, range]]:
        """Structures whose independent effects add up to these, and the coefficients that each is of.

        Their theta, one after another, are theta. Empty where T is no such sum.
        """
        return ()

    @property
    def n_par(self) -> int:
        """Parameters to count in information criteria."""
        return self.n_theta

    @property
    def n_elements(self) -> int:
        """Variances and covariances of T."""
        return self.m * (self.m + 1) // 2

    @property
    def exceeds_elements(self) -> bool:
        """There are more parameters than elements of T, rotations aside: these do not tell all of them."""
        return self.n_par > self.n_elements

    def untold(self, together: np.ndarray) -> list[tuple[int, int]]:
        """Pairs of coefficients of whose covariance data say nothing, one for each parameter.

        Parameters
        ----------
        together : (m, m) bool
            Which coefficients stand together in a level, or a subject.
        """
        return []

    def correlation_charts(self) -> np.ndarray:
        """Which of theta (n_theta,) bool are correlations in a chart without an end: infinite at 1 and -1."""
        return np.zeros(self.n_theta, bool)

    def chart_at(self, distance: float) -> float:
        """|x| of such a chart where the correlation is so far from its bound, for small distances."""
        raise NotImplementedError  # without correlations in a chart

    def other_starts(self, theta: np.ndarray) -> list[np.ndarray]:
        """Starts (n_theta,) beside theta, where few observations may have a better optimum."""
        return []

    def strong_starts(self, theta: np.ndarray) -> list[np.ndarray]:
        """Those of `other_starts` with all correlations strong, and with negative ones."""
        return []

    def spread_starts(self, theta: np.ndarray) -> list[np.ndarray]:
        """Starts (n_theta,) beside theta with strong correlations and other ratios of the variances."""
        return []

    def lower_bounds(self) -> np.ndarray:
        """Least theta (n_theta,) for which T belongs to the structure; Lambda is smooth beyond it.

        A negative standard deviation turns the sign of the correlations of its coefficient, which a structure
        of few correlations does not allow.
        """
        return np.full(self.n_theta, -np.inf)

    @property
    def least_rho(self) -> float:
        """Below this a correlation among the natural parameters leaves no positive semidefinite T."""
        return -1.0

    @property
    def roots(self) -> np.ndarray:
        """Indices of the theta that are roots of a variance, int64: zero is stationary for the criterion by
        symmetry or ends the structure, so that a search which begins there learns nothing of beyond."""
        return np.flatnonzero(self.lower_bounds() == 0.0)

    # -- Lambda -------------------------------------------------------------------------------------------

    @abstractmethod
    def loadings(self, theta: np.ndarray) -> np.ndarray:
        """Lambda(theta), (m, r)."""

    @abstractmethod
    def loadings_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """d Lambda / d theta, (n_theta, m, r)."""

    def loadings_hessian(self, theta: np.ndarray) -> np.ndarray | None:
        """d2 Lambda / d theta d theta', (n_theta, n_theta, m, r); None where Lambda is linear in theta."""
        return None

    def loadings_curvature(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """sum_ab weights_ab d2 Lambda_ab / d theta d theta', (n_theta, n_theta), for weights (m, r)."""
        hessian = self.loadings_hessian(theta)
        if hessian is None:
            return np.zeros((self.n_theta, self.n_theta))
        return np.tensordot(hessian, weights, axes=((2, 3), (0, 1)))

    # -- T ------------------------------------------------------------------------------------------------

    def covariance(self, theta: np.ndarray) -> np.ndarray:
        """T(theta), (m, m)."""
        loadings = self.loadings(theta)
        return loadings @ loadings.T

    def covariance_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """d T / d theta, (n_theta, m, m)."""
        product = self.loadings_jacobian(theta) @ self.loadings(theta).T
        return product + np.swapaxes(product, 1, 2)

    def covariance_hessian(self, theta: np.ndarray) -> np.ndarray:
        """d2 T / d theta d theta', (n_theta, n_theta, m, m)."""
        t, m = self.n_theta, self.m
        flat = self.loadings_jacobian(theta).reshape(t * m, -1)
        product = np.swapaxes((flat @ flat.T).reshape(t, m, t, m), 1, 2)
        second = self.loadings_hessian(theta)
        if second is not None:
            product = product + second @ self.loadings(theta).T
        return product + np.swapaxes(product, 2, 3)

    def covariance_curvature(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """sum_ab weights_ab d2 T_ab / d theta d theta', (n_theta, n_theta), for symmetric weights (m, m).

        2 <dLambda_s, S dLambda_t> + 2 <S Lambda, d2 Lambda_st>: no array of n_theta^2 m^2 numbers is made.
        """
        jacobian = self.loadings_jacobian(theta)
        flat = jacobian.reshape(self.n_theta, -1)
        product = flat @ (weights @ jacobian).reshape(self.n_theta, -1).T
        return 2.0 * (product + self.loadings_curvature(theta, weights @ self.loadings(theta)))

    # -- theta --------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, covariance: np.ndarray) -> np.ndarray:
        """Interior theta near a positive semidefinite moment estimate of T, (m, m), of any structure."""

    def start_at_distance(self, sd: np.ndarray, correlation: float, lag: int) -> np.ndarray | None:
        """Interior theta with this correlation at a distance of `lag`; None where it is no function of that.

        `sd` (m,) are standard deviations.
        """
        return None

    @abstractmethod
    def theta_of(self, covariance: np.ndarray) -> np.ndarray:
        """Canonical theta of a positive semidefinite T of this structure, also singular."""

    def held(self, covariance: np.ndarray) -> np.ndarray:
        """theta of a T that a user gave, (m, m).

        Raises
        ------
        OptionError
            Where T is not symmetric, not positive semidefinite or not of this structure.
        """
        T = np.asarray(covariance, float)
        if T.shape != (self.m, self.m):
            shape = " x ".join(str(size) for size in T.shape) or "one number"
            raise OptionError(
                f"the covariance for '{self.name}' is {shape}; it has to be {self.m} x {self.m}"
            )
        size = float(np.abs(T).max())
        if not np.isfinite(size) or np.abs(T - T.T).max() > 1e-8 * size:
            raise OptionError(f"the covariance for '{self.name}' has to be finite and symmetric")
        if np.linalg.eigvalsh(T)[0] < -1e-8 * size:
            raise OptionError(f"the covariance for '{self.name}' has a negative eigenvalue")
        theta = self.theta_of(0.5 * (T + T.T))
        if not self.takes(T):
            nearest = self.covariance(theta)
            row, col = np.unravel_index(int(np.abs(nearest - T).argmax()), T.shape)
            raise OptionError(
                f"the covariance is not of structure '{self.name}': its element ({row + 1}, {col + 1}) is "
                f"{T[row, col]:.6g}, where the nearest that is has {nearest[row, col]:.6g}"
            )
        return theta

    def takes(self, covariance: np.ndarray) -> bool:
        """Whether a symmetric T (m, m), positive semidefinite, is one of this structure.

        Examples
        --------
        >>> from fastlmm_core.structures import make_coefficient_structure as make
        >>> T = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 2.0]])
        >>> [make(name, 3).takes(T) for name in ("us", "homcs", "ar1", "diag")]
        [True, True, False, False]
        """
        gap = self.covariance(self.theta_of(0.5 * (covariance + covariance.T))) - covariance
        return float(np.abs(gap).max()) <= INSIDE * float(np.abs(covariance).max())

    def started(self, covariance: np.ndarray) -> np.ndarray:
        """theta from which a search starts at a T that a user gave, (m, m); a singular T is moved inside.

        Raises
        ------
        OptionError
            As of `held`.
        """
        theta = self.held(covariance)
        variances = np.diag(covariance)
        if variances.min() > 0.0:
            sd = np.sqrt(variances)
            if np.linalg.eigvalsh(covariance / np.outer(sd, sd))[0] > LEAST:
                return theta
        return self.start(self.covariance(theta))

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        """theta of factor T, for a factor >= 0."""
        return self.theta_of(factor * self.covariance(theta))

    def null_directions(self, theta: np.ndarray) -> np.ndarray:
        """Directions (j, n_theta) in which T does not change, beside those at singular points."""
        return np.zeros((0, self.n_theta))

    def rotations(self, theta: np.ndarray) -> np.ndarray:
        """Those of the `null_directions` that a step of a search is to leave out, however far it goes."""
        return np.zeros((0, self.n_theta))

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        """One theta of the many that have the same T (signs, rotations)."""
        return theta.copy()

    # -- natural parameters -------------------------------------------------------------------------------

    def natural_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Names of the natural parameters, for coefficients called `labels` (m)."""
        self._lacks("natural_names")

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """Natural parameters, (s,)."""
        self._lacks("natural")

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """d natural / d theta, (s, n_theta)."""
        self._lacks("natural_jacobian")

    def covariance_by_natural(self, theta: np.ndarray) -> np.ndarray:
        """d T / d natural, (s, m, m); not finite where T does not determine a parameter."""
        self._lacks("covariance_by_natural")

    def covariance_second_by_natural(self, theta: np.ndarray) -> np.ndarray:
        """d2 T / d natural d natural', (s, s, m, m)."""
        self._lacks("covariance_second_by_natural")

    def _lacks(self, method: str) -> NoReturn:
        if self.natural_defined:
            raise NotImplementedError(f"covariance structure '{self.name}' has to define {method}")
        raise NotImplementedError(f"covariance structure '{self.name}' has no natural parameters ({method})")

    # -- words --------------------------------------------------------------------------------------------

    def boundary(
        self, theta: np.ndarray, names: Sequence[str], least: float | np.ndarray = 0.0
    ) -> tuple[str, ...]:
        """What sits at a bound, in words.

        Parameters
        ----------
        theta : (n_theta,)
        names : (m,) sequence of str
            The coefficients.
        least : float or (m,)
            Variances are judged beside the largest of the structure, or beside this where it is larger; with
            one for each coefficient, the largest is the one in these units.
        """
        return describe_boundary(self.covariance(theta), names, least)
