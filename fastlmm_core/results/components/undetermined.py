"""Variance parameters of which the data of a fit say nothing, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import block_diag

from fastlmm_core.design import Design
from fastlmm_core.design.random_terms import RandomTerm
from fastlmm_core.engine.equations.confounding import Confounded, moves_alone, values_on_rows
from fastlmm_core.engine.objective import average_information
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import name_list
from fastlmm_core.formula.residual import ResidualSpec
from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.information import average_matrix, natural_parameters, theta_jacobian
from fastlmm_core.reml.information import confounded as confounded_terms
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.structures.registry import make_coefficient_structure

# Size of the equations, and number of parameters, up to which combinations of parameters are looked at.
SMALL_FLOPS, MOST_PARAMETERS = 1e6, 60
# Rows of a level of the residual up to which it may have fewer contrasts than parameters.
FEW_ROWS = 8
# Information of a parameter, relative to the largest, below which it is at a bound.
NOT_MOVING = 1e-12
# What is left of a column beside others, relative to its length, that is rounding.
DEPENDENT = 1e-10
# Least eigenvalue of the information scaled to unit diagonal that tells anything; what counts in a vector.
FLAT, SHARE = 1e-9, 0.1


def confounded(solved: SolvedEquations | StructuredSolution, certificate: Certificate) -> Confounded:
    """What of the random part lies within the fixed part."""
    if isinstance(solved, StructuredSolution):
        return solved.confounded
    return confounded_terms(solved, certificate.smallest_curvature)


def undetermined_parameters(
    design: Design, solved: SolvedEquations | StructuredSolution, flat: bool
) -> list[str]:
    """A sentence for every term, and arm of the residual, with parameters that no row tells anything of.

    The likelihood is the same whatever they are, and so are the fixed effects; the figures shown for them are
    where the search began. What is held is known.

    Parameters
    ----------
    flat : bool
        The criterion has a direction without curvature, as far as the search knows.
    """
    free = [True] * (len(design.random) + 1)
    if isinstance(solved, StructuredSolution):
        terms, residual = solved.equations.slices
        free = [bool(solved.free[place].any()) for place in (*(own for own, _ in terms), residual)]
    words: list[str] = []
    for term, estimated in zip(design.random, free, strict=False):
        if estimated and not term.is_spline and len(term.columns) > 1:
            words += _of_term(term)
    if free[-1] and design.residual.kind == "within":
        words += _of_residual(design.residual)
    if isinstance(solved, StructuredSolution) and free[-1]:
        words += _of_few_rows(solved)
        words += _of_single_rows(design, solved)
    if not words and flat:
        words += _of_combinations(design, solved)
    return words


def _of_term(term: RandomTerm) -> Iterator[str]:
    m = len(term.columns)
    structure = make_coefficient_structure(term.structure, m, **term.options)
    if structure.exceeds_elements:
        yield (f"'{term.label}' has {structure.n_par} parameters for the {structure.n_elements} variances "
               f"and covariances of {m} coefficients: these are determined, loadings and specific variances "
               "are not; take fewer factors, or us")  # fmt: skip
    own = not term.incidence and structure.n_par > 1
    dependent = dependent_columns(term.values[term.codes >= 0]) if own else []
    if dependent:
        names = name_list([term.columns[j] for j in dependent], 3)
        yield (f"in '{term.label}' {names} depends on the other coefficients in every row: the data tell "
               "only the variance of their sum, and the figures are arbitrary; leave it out")  # fmt: skip
    if term.relation is not None or term.incidence or (term.values != 0.0).all():
        return
    together = stand_together(term.codes, term.values != 0.0, term.levels.size)
    pairs = structure.untold(together)
    if pairs:
        yield _sentence("level", term.group, together, pairs, term.columns)


def dependent_columns(values: np.ndarray) -> list[int]:
    """Columns of (n, m) that are combinations of earlier ones.

    Examples
    --------
    >>> import numpy as np
    >>> dependent_columns(np.array([[1.0, 3.0, 0.5], [1.0, 3.0, 0.7]]))
    [1]
    """
    vectors: np.ndarray = np.empty(values.shape, order="F")
    found: list[int] = []
    for j, column in enumerate(values.T):
        basis = vectors[:, : j - len(found)]
        left = column - basis @ (basis.T @ column)
        left = left - basis @ (basis.T @ left)
        size = float(np.linalg.norm(left))
        if size <= DEPENDENT * float(np.linalg.norm(column)):
            found.append(j)
        else:
            vectors[:, j - len(found)] = left / size
    return found


def _of_residual(residual: ResidualSpec) -> Iterator[str]:
    assert residual.structure is not None and residual.position_codes is not None
    assert residual.subject_codes is not None and residual.subject_name is not None
    m, n = len(residual.positions), residual.position_codes.size
    arms = np.zeros(n, dtype=np.int32) if residual.by is None else residual.by[2]
    structure = make_coefficient_structure(residual.structure, m, **residual.options)
    for arm in range(int(np.max(arms)) + 1):
        own = arms == arm
        if structure.markov and np.bincount(residual.subject_codes[own]).max() > 1:
            continue  # any two visits of a subject tell the correlation's size; thousands have many pairs
        visits = residual.position_codes[own][:, None] == np.arange(m)
        together = stand_together(residual.subject_codes[own], visits)
        pairs = structure.untold(together)
        if pairs:
            where = "" if residual.by is None else f" of {residual.by[1][arm]}"
            yield _sentence(f"subject{where}", residual.subject_name, together, pairs, residual.positions)


def _of_few_rows(solved: StructuredSolution) -> Iterator[str]:
    """A level of the residual with more parameters than its contrasts have variances and covariances."""
    e, known = solved.equations, [own.own for own in solved.confounded_groups if own.structure is None]
    for group in e.residual.groups() if solved.reml else ():
        parameters = group.own.stop - group.own.start
        if group.own in known or group.rows.size > FEW_ROWS:
            continue
        unit = values_on_rows(group.rows, np.eye(group.rows.size), e.n)
        left = e.regression(np.ones(e.n)).fit(unit)[1][group.rows]  # what other rows tell of X counts too
        contrasts = int(np.count_nonzero(np.linalg.eigvalsh(0.5 * (left + left.T)) > FLAT))
        if contrasts * (contrasts + 1) // 2 < parameters:
            yield (f"the {group.rows.size} rows of '{group.label}' have {contrasts} "
                   f"contrast{'s' if contrasts > 1 else ''} beside the fixed part for {parameters} "
                   "parameters of the residual: the figures shown for these are arbitrary, and so are errors "
                   "that depend on them")  # fmt: skip


def _of_single_rows(design: Design, solved: StructuredSolution) -> Iterator[str]:
    """A coefficient with a variance of its own, each level one row where the residual has one of its own.

    An environment with one plot of every genotype, in ``diag(0 + env | gen)`` or the specific variances of
    ``fa()`` beside ``units | env``: V has T_jj I + s_j I there and nothing else depends on either. Said at
    any size, and also where the search ends at a bound of one of them.
    """
    e = solved.equations
    if design.residual.kind != "units" or design.residual.by is None:
        return
    held = ~solved.free[e.slices[1]]
    weights = np.ones(e.n) if design.weights is None else design.weights
    groups = [own for own in e.residual.groups() if own.rows.size and not held[own.own].any()]
    for term, engine_term, (own, _) in zip(design.random, e.terms, e.slices[0], strict=True):
        if term.is_spline or term.relation is not None or term.incidence or not solved.free[own].any():
            continue
        stands, named = (term.values != 0.0) & (term.codes >= 0)[:, None], []
        for group in groups:
            here = stands[group.rows]
            j = int(here[0].argmax())
            if not (
                here[:, j].all() and here.sum() == here.shape[0] == np.count_nonzero(stands[:, j])
                and np.unique(term.codes[group.rows]).size == group.rows.size
                and np.ptp(term.values[group.rows, j] ** 2 * weights[group.rows]) < DEPENDENT
            ):  # fmt: skip
                continue
            if moves_alone(engine_term.structure, j):
                named.append(group.label)
        if named:
            yield (f"no level of '{term.group}' has more than one row in {name_list(named)}: the data tell "
                   f"only the sum of a variance in '{term.label}' and that of the residual there, and the "
                   "figures shown for each, and what depends on them, are arbitrary; hold the residual's "
                   f"(fixed_parameters={{'Residual': {{{named[0]!r}: ...}}}}), or take one for all of "
                   f"'{design.residual.by[0]}' or a structure with fewer parameters")  # fmt: skip


def _of_combinations(design: Design, solved: SolvedEquations | StructuredSolution) -> Iterator[str]:
    """A combination of parameters along which V does not change, of which the information has nothing."""
    if isinstance(solved, StructuredSolution):
        at = np.flatnonzero(solved.free)
        ends = np.array([level.stop for _, level in solved.equations.slices[0]])
        blocks = np.searchsorted(ends, at, side="right")
    else:
        blocks = np.append(solved.equations.theta_term, len(design.random))
    if solved.factor.flops > SMALL_FLOPS or not 1 < blocks.size <= MOST_PARAMETERS:
        return
    if isinstance(solved, StructuredSolution):
        matrix = average_information(solved.equations, solved.factor, solved.point)[np.ix_(at, at)]
    else:
        natural = natural_parameters(solved)
        J = block_diag(theta_jacobian(solved, natural), 1.0)
        matrix = J.T @ average_matrix(solved, natural) @ J
    if not np.isfinite(matrix).all():
        return
    moving = np.diag(matrix) > NOT_MOVING * np.diag(matrix).max()
    scale = np.sqrt(np.diag(matrix)[moving])
    labels = [term.label for term in design.random] + [f"residual {design.residual.text}"]
    for joined in joined_blocks(matrix[np.ix_(moving, moving)] / np.outer(scale, scale), blocks[moving]):
        names = dict.fromkeys(labels[block] for block in joined)
        if len(names) > 1:
            yield (f"the data tell only a combination of the parameters of {name_list(names)}: the figures "
                   "shown for each of them are arbitrary; leave one out, or take a structure with fewer "
                   "parameters")  # fmt: skip


def joined_blocks(information: np.ndarray, blocks: np.ndarray) -> list[tuple[int, ...]]:
    """Blocks of parameters of which the data tell only a combination, those of each together.

    What a block does not tell by itself, a null vector of its own submatrix, is one of the whole matrix too
    (x' A x = 0 of a semidefinite A), and joins nobody. Eigenvectors mix it, and several combinations, at
    will; the projection on what is left of the null space does not.

    Parameters
    ----------
    information : (t, t)
        Of unit diagonal.
    blocks : (t,) int
        Block of each parameter.

    Examples
    --------
    >>> import numpy as np
    >>> joined_blocks(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([0, 1, 1]))
    [(0, 1)]
    >>> joined_blocks(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([0, 0, 1]))
    []
    """
    null = _null_space(information)
    own = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    alone = np.zeros((blocks.size, 0))
    for places in own:
        inner = np.zeros((blocks.size, places.size))
        inner[places] = np.eye(places.size)
        alone = np.hstack([alone, inner @ _null_space(information[np.ix_(places, places)])])
    if null.shape[1] <= alone.shape[1]:
        return []
    left = np.linalg.svd(null - alone @ (alone.T @ null), full_matrices=False)[0]
    shared = left[:, : null.shape[1] - alone.shape[1]]
    size = np.array([np.linalg.norm(shared[places]) for places in own])
    linked = np.array([[np.linalg.norm(shared[a] @ shared[b].T) for b in own] for a in own]) > SHARE**2
    linked &= np.logical_and.outer(size > SHARE, size > SHARE)
    for _ in own:  # whoever is linked by way of others
        linked |= (linked.astype(float) @ linked) > 0.0
    found = {tuple(np.unique(blocks)[row].tolist()) for row in linked}
    return sorted(joined for joined in found if len(joined) > 1)


def _null_space(information: np.ndarray) -> np.ndarray:
    """(t, d) eigenvectors of which a matrix of unit diagonal tells nothing."""
    values, vectors = np.linalg.eigh(information)
    return np.asarray(vectors[:, values <= FLAT])


def stand_together(codes: np.ndarray, stands: np.ndarray, size: int | None = None) -> np.ndarray:
    """(m, m) bool: which coefficients stand together in a level.

    Parameters
    ----------
    codes : (n,) int
        Level of every row, -1 for none.
    stands : (n, m) bool
        Coefficients of every row.
    size : int, optional
        Number of levels.

    Examples
    --------
    >>> import numpy as np
    >>> stand_together(np.array([0, 0, 1]), np.eye(3, dtype=bool))[0].tolist()
    [True, True, False]
    """
    used = codes >= 0
    size = int(codes.max()) + 1 if size is None else size
    seen = [np.bincount(codes[used & own], minlength=size) > 0 for own in stands.T]
    counts = np.array(seen, dtype=np.float64)
    return np.asarray(counts @ counts.T > 0.0)


def _sentence(
    unit: str, group: str, together: np.ndarray, pairs: Sequence[tuple[int, int]], names: Sequence[str]
) -> str:
    if np.tril(together, -1).any():
        what = f"both {name_list([f'{names[a]} and {names[b]}' for a, b in pairs], 3)}"
    else:
        what = f"more than one of {name_list(names, 3)}"
    return (f"no {unit} in '{group}' has {what}: the data say nothing about their covariance, and the figure "
            "shown for it is arbitrary; take a structure with fewer parameters")  # fmt: skip
