"""From a design to the structured equations: terms, relations of levels, residual."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.null_space import NullSpace
from fastlmm_core.engine.equations.rotation import dense_relationship, rotate_term
from fastlmm_core.engine.equations.structured_equations import StructuredEquations, build_structured_equations
from fastlmm_core.engine.equations.terms import EngineTerm, coefficient_structure, unit_of_relation
from fastlmm_core.errors import OptionError
from fastlmm_core.kernels.equations.columns import orthonormal_basis
from fastlmm_core.structures.coefficients.unit import UnitLoadings
from fastlmm_core.structures.levels.base import LevelStructure
from fastlmm_core.structures.levels.factors import AutoregressiveLevels, IndependentLevels, KnownLevels
from fastlmm_core.structures.levels.kronecker import KroneckerLevels
from fastlmm_core.structures.levels.penalty import PenaltyLevels
from fastlmm_core.structures.registry import make_coefficient_structure
from fastlmm_core.structures.residuals.base import ResidualStructure
from fastlmm_core.structures.residuals.by_group import IndependentResiduals
from fastlmm_core.structures.residuals.field import FieldResiduals
from fastlmm_core.structures.residuals.known import KnownResiduals
from fastlmm_core.structures.residuals.visits import residuals_of_visits
from fastlmm_core.structures.residuals.within_subject import Visits


def build_model(
    design: Any, *, fixed_last: bool, max_memory: int | float | str | None = None
) -> StructuredEquations:
    """The equations of a design with any structures; `max_memory` as of ``lmm``."""
    G, rotated = dense_relationship(design), None
    if G is not None:
        rotated = rotate_term(design, G, coefficient_matrices(design.random[0], design.n), max_memory)
    if rotated is not None:
        residual = engine_residual(design, np.ones(design.n))
        assert isinstance(residual, IndependentResiduals)
        residual.log_weights = rotated.log_weights
        return build_structured_equations(
            design.X, [rotated.term], residual, has_intercept=design.has_intercept, fixed_last=fixed_last,
            rotation=rotated.rotation, weak_columns=design.weak_columns,
        )  # fmt: skip
    terms = [engine_term(term, design.n, reduced=not fixed_last) for term in design.random]
    residual = engine_residual(design)
    return build_structured_equations(
        design.X, terms, residual, has_intercept=design.has_intercept, fixed_last=fixed_last,
        weak_columns=design.weak_columns,
    )  # fmt: skip


def engine_term(term: Any, n: int, *, reduced: bool = True) -> EngineTerm:
    """A random term or a spline of the design as the engine takes it.

    A `reduced` spline keeps its sparse columns, whose |V| is the defined one only beside |X'V^-1 X|.
    """
    if term.is_spline:
        penalty = PenaltyLevels(term.pieces, term.log_determinant, term.names, term.typical_variance)
        null = NullSpace(term.polynomials, term.unpenalized, reduced)
        columns = term.basis if reduced else term.basis.toarray() - term.polynomials @ term.unpenalized
        return EngineTerm(UnitLoadings(1), penalty, (sp.csr_array(columns),), np.eye(1), null=null)
    structure = coefficient_structure(term)
    levels, root = level_structure(term.relation)
    matrices = coefficient_matrices(term, n)
    basis = np.eye(structure.m)
    if structure.any_scale or structure.n_theta == 1 == structure.m:
        values = sum(values for _, values in term.layers)
        basis = orthonormal_basis(np.ascontiguousarray(values, float), not structure.any_basis)
        matrices = mix_columns(matrices, basis)
    size = 1.0 if levels is None else levels.typical_size
    if root is not None:
        matrices = tuple(sp.csr_array(sp.csr_array(M @ root)) for M in matrices)
        size *= float(np.mean(np.sum(root**2, axis=1)))
    unit = unit_of_relation(size)
    if unit != 1.0:
        basis, matrices = unit * basis, tuple(sp.csr_array(unit * M) for M in matrices)
    return EngineTerm(structure, levels, matrices, basis, root)


def coefficient_matrices(term: Any, n: int) -> tuple[sp.csr_array, ...]:
    """Incidence (n, L) of every coefficient of a term on its levels."""
    out = []
    for a in range(len(term.columns)):
        layers = []
        for codes, values in term.layers:
            used = (codes >= 0) & (values[:, a] != 0.0)
            indptr = np.concatenate(([0], np.cumsum(used)))  # one level a row
            layers.append(sp.csr_array((values[used, a], codes[used], indptr), shape=(n, len(term.levels))))
        out.append(sp.csr_array(sum(layers[1:], layers[0])))
    return tuple(out)


def mix_columns(matrices: tuple[sp.csr_array, ...], basis: np.ndarray) -> tuple[sp.csr_array, ...]:
    """Coefficients in the inside basis: Z_inside = Z_user basis per level."""
    if basis.shape == (1, 1):
        return (sp.csr_array(basis[0, 0] * matrices[0]),)
    mixed = []
    for c in range(basis.shape[1]):
        mixed.append(sp.csr_array(sum(basis[a, c] * M for a, M in enumerate(matrices) if basis[a, c] != 0.0)))
    return tuple(mixed)


def level_structure(relation: Any) -> tuple[LevelStructure | None, np.ndarray | None]:
    """Precision of the levels, and the root of a relationship of low rank."""
    if relation is None:
        return None, None
    factors: list[LevelStructure] = []
    roots: list[np.ndarray | None] = []  # None for the unit matrix
    for factor in relation.factors:
        size, root = len(factor.levels), None
        if factor.kind == "id":
            factors.append(IndependentLevels(size))
        elif factor.kind == "ar1":
            factors.append(AutoregressiveLevels(size, factor.name))
        else:
            root = factor.relationship.root()
            if root is None:
                factors.append(KnownLevels(factor.relationship))
            else:
                factors.append(IndependentLevels(root.shape[1]))
        roots.append(root)
    whole = None
    if any(root is not None for root in roots):
        sizes = [len(factor.levels) for factor in relation.factors]
        parts = [np.eye(size) if root is None else root for size, root in zip(sizes, roots, strict=True)]
        whole = reduce(lambda a, b: np.kron(a, b), parts)
    if all(isinstance(f, IndependentLevels) for f in factors):
        return None, whole
    return (factors[0] if len(factors) == 1 else KroneckerLevels(factors)), whole


def engine_residual(design: Any, weights: np.ndarray | None = None) -> ResidualStructure:
    """The residual of a design as the engine takes it, with its weights or these (n,)."""
    spec = design.residual
    n = design.n
    if weights is None:
        weights = np.ones(n) if design.weights is None else np.asarray(design.weights, float)
    codes, levels = np.zeros(n, np.int64), (None,)
    if spec.by is not None:
        _, levels, codes = spec.by
        levels, codes = tuple(levels), np.asarray(codes, np.int64)
    if spec.kind == "units":
        return IndependentResiduals(weights, codes, levels)
    if spec.kind == "known":
        return KnownResiduals(weights, spec.known_blocks())
    if spec.kind == "within":
        m = len(spec.positions)
        structures = [make_coefficient_structure(spec.structure, m, **dict(spec.options)) for _ in levels]
        subjects, visits = (np.asarray(own, np.int64) for own in (spec.subject_codes, spec.position_codes))
        rows = Visits(subjects, visits, codes)
        return residuals_of_visits(weights, rows, structures, tuple(spec.positions), levels)
    if spec.kind == "field":
        grids, cells = [], np.empty(n, np.int64)
        for e, factors in enumerate(spec.field_factors):
            parts = [
                AutoregressiveLevels(len(f.levels), f.name)
                if f.kind == "ar1"
                else IndependentLevels(len(f.levels))
                for f in factors
            ]
            grids.append(KroneckerLevels(parts))
            mine = codes == e
            cell = np.zeros(int(mine.sum()), np.int64)
            for f, own in zip(factors, spec.field_codes, strict=True):
                cell = cell * len(f.levels) + own[mine]
            cells[mine] = cell
        return FieldResiduals(weights, grids, cells, codes, levels)
    raise OptionError(f"residual '{spec.text}' is not known")
