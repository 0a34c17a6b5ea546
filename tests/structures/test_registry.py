"""Names, options and what a family has to bring along."""

import numpy as np
import pytest
import test_contract as contract

from fastlmm_core.errors import OptionError
from fastlmm_core.structures import (
    CoefficientStructure,
    coefficient_structure_names,
    make_coefficient_structure,
    register_coefficient_structure,
    registry,
)


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_COEFFICIENTS", dict(registry._COEFFICIENTS))


class Decay(CoefficientStructure):
    """T_ab = theta0^2 exp(-|a - b| / range): one variance, a fixed range. Lambda by Cholesky."""

    name = "decay"
    aliases = ("exponential",)
    option_names = ("range",)
    linear = True

    @property
    def _root(self):
        distance = np.abs(np.subtract.outer(np.arange(self.m), np.arange(self.m)))
        return np.linalg.cholesky(np.exp(-distance / self.options.get("range", 1.0)))

    @property
    def n_theta(self):
        return 1

    def start(self, covariance):
        return np.array([max(np.sqrt(np.diag(covariance).mean()), 0.1)])

    def loadings(self, theta):
        return theta[0] * self._root

    def loadings_jacobian(self, theta):
        return self._root[None]

    def theta_of(self, covariance):
        return np.sqrt(np.diag(covariance).mean(keepdims=True))

    def canonical(self, theta):
        return np.abs(theta)

    def natural_names(self, labels):
        return ("variance",)

    def natural(self, theta):
        return theta**2

    def natural_jacobian(self, theta):
        return 2.0 * np.diag(theta)

    def covariance_by_natural(self, theta):
        return (self._root @ self._root.T)[None]

    def covariance_second_by_natural(self, theta):
        return np.zeros((1, 1, self.m, self.m))


CONTRACT = [
    "test_size",
    "test_covariance_is_loadings_times_their_transpose",
    "test_first_derivatives",
    "test_second_derivatives",
    "test_curvatures_are_contracted_second_derivatives",
    "test_start_keeps_what_it_can",
    "test_theta_of_round_trip",
    "test_theta_of_singular_matrices",
    "test_rescaled",
    "test_canonical_keeps_the_covariance",
    "test_null_directions_leave_the_covariance",
    "test_natural_parameters_by_differences",
    "test_zero_variances_are_named",
    "test_held_covariances_are_checked",
]


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("test", CONTRACT)
def test_a_new_structure_needs_no_other_file(own_registry, test, m):
    register_coefficient_structure(Decay)
    assert "decay" in coefficient_structure_names()
    structure = make_coefficient_structure("exponential", m, range=2.0)
    assert isinstance(structure, Decay) and structure.options == {"range": 2.0}
    getattr(contract, test)(structure)


def test_a_missing_method_is_named(own_registry):
    class Unfinished(CoefficientStructure):
        name = "unfinished"
        n_theta = 1

        def loadings(self, theta):
            return theta[0] * np.eye(self.m)

    with pytest.raises(
        NotImplementedError, match="'unfinished' has to define loadings_jacobian, start, theta"
    ):
        register_coefficient_structure(Unfinished)

    class Plain(Unfinished):
        name = "plain"
        start = theta_of = lambda self, covariance: np.ones(1)

        def loadings_jacobian(self, theta):
            return np.eye(self.m)[None]

    structure = register_coefficient_structure(Plain)(2)
    for method in ("natural", "natural_jacobian", "covariance_by_natural", "covariance_second_by_natural"):
        with pytest.raises(NotImplementedError, match=f"'plain' has to define {method}"):
            getattr(structure, method)(np.ones(1))


def test_a_name_is_registered_once(own_registry):
    class Other(Decay):
        name = "us"

    with pytest.raises(ValueError, match="'us' is registered already, by Unstructured"):
        register_coefficient_structure(Other)


def test_unknown_names_list_the_known():
    with pytest.raises(OptionError, match=r"'unstructurd' is not known; known: .*'us'"):
        make_coefficient_structure("unstructurd", 2)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("un", {}, "us"), ("csh", {}, "cs"), ("toeph", {}, "toep"), ("ar1h", {}, "hetar1"),
        ("cs", {"hom": True}, "homcs"), ("homcs", {"hom": False}, "cs"), ("cs", {"hom": False}, "cs"),
        ("diag", {"hom": True}, "homdiag"), ("ar1", {"hom": False}, "hetar1"), ("ar1", {"hom": True}, "ar1"),
        ("hetar1", {"hom": True}, "ar1"), ("toep", {"hom": True}, "homtoep"), ("homtoep", {}, "homtoep"),
    ],
)  # fmt: skip
def test_aliases_and_forms(name, options, expected):
    assert make_coefficient_structure(name, 3, **options).name == expected


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("us", {"hom": True}, "'us' has no option hom"),
        ("cs", {"hom": "yes"}, "hom is True or False"),
        ("diag", {"k": 2}, "'diag' has no option 'k'; its options: none"),
        ("fa", {"d": 2}, "'fa' has no option 'd'; its options: 'k'"),
        ("fa", {"k": 0}, "k=0"),
        ("rr", {"d": 4}, "d=4.*1 to 3"),
        ("rr", {"d": 1.5}, "d=1.5"),
        ("rr", {"d": True}, "d=True"),
    ],
)
def test_wrong_options(name, options, words):
    with pytest.raises(OptionError, match=words):
        make_coefficient_structure(name, 3, **options)
