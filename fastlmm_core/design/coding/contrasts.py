"""Contrast codings of a factor: treatment, sum, Helmert, polynomial, SAS, or a matrix of one's own.

Definitions as in R's ``contr.treatment``, ``contr.sum``, ``contr.helmert``, ``contr.poly`` (Chambers &
Hastie 1992, section 2.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import OptionError, name_list
from fastlmm_core.formula.expressions import Call, Name, Node, Number, Text, deparse
from fastlmm_core.formula.functions import literal, match_arguments
from fastlmm_core.options import numbers

KINDS = ("treatment", "sum", "helmert", "poly", "sas")


@dataclass(frozen=True)
class Contrast:
    """Coding of a factor of L levels by c columns.

    Attributes
    ----------
    kind : str
        ``"treatment"``, ``"sum"``, ``"helmert"``, ``"poly"`` or ``"custom"``.
    base : int
        Reference level of treatment coding.
    suffixes : tuple of str
        (c,) What R appends to the name of the factor.
    matrix : (L, c) ndarray or None
        None for treatment and sum coding, whose matrices are only formed when needed.
    """

    kind: str
    base: int
    suffixes: tuple[str, ...]
    matrix: np.ndarray | None = None

    def coding(self, n_levels: int) -> sp.csr_array:
        """(L, c) rows of the columns for each level."""
        if self.matrix is not None:
            return sp.csr_array(self.matrix)
        eye = sp.eye_array(n_levels, format="csr", dtype=np.float64)
        if self.kind == "treatment":
            return sp.csr_array(eye[:, np.delete(np.arange(n_levels), self.base)])
        last = sp.csr_array(-np.ones((1, n_levels - 1)))
        return sp.csr_array(sp.vstack([eye[: n_levels - 1, : n_levels - 1], last], format="csr"))


def treatment(levels: tuple[str, ...], base: int = 0) -> Contrast:
    """Each level against the level `base`."""
    return Contrast("treatment", base, levels[:base] + levels[base + 1 :])


def sum_to_zero(levels: tuple[str, ...]) -> Contrast:
    """Deviations from the unweighted mean, the last level minus the sum of the others."""
    return Contrast("sum", 0, tuple(str(i + 1) for i in range(len(levels) - 1)))


def helmert(levels: tuple[str, ...]) -> Contrast:
    """Level j + 1 against the mean of levels 1 to j."""
    size = len(levels)
    matrix = np.zeros((size, size - 1))
    for j in range(size - 1):
        matrix[: j + 1, j] = -1.0
        matrix[j + 1, j] = j + 1.0
    return Contrast("helmert", 0, tuple(str(i + 1) for i in range(size - 1)), matrix)


def polynomial(levels: tuple[str, ...]) -> Contrast:
    """Orthonormal polynomials in 1..L."""
    size = len(levels)
    if size > 95:
        raise OptionError(f"polynomial contrasts are for up to 95 levels, but there are {size}; an ordered "
                          "factor is coded otherwise by contrasts={factor: 'contr.treatment'}")  # fmt: skip
    scores = np.arange(1.0, size + 1.0) - (size + 1.0) / 2.0
    q, r = np.linalg.qr(np.vander(scores, size, increasing=True))
    matrix = (q * np.sign(np.diag(r)))[:, 1:]
    names = [".L", ".Q", ".C"] + [f"^{k}" for k in range(4, size)]
    return Contrast("poly", 0, tuple(names[: size - 1]), matrix)


def custom(matrix: np.ndarray, levels: tuple[str, ...], factor: str) -> Contrast:
    """A coding by one's own (L, c) matrix."""
    matrix = numbers(f"contrasts['{factor}']", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != len(levels) or not 0 < matrix.shape[1] < len(levels):
        raise OptionError(
            f"contrasts for '{factor}' have shape {matrix.shape}, but {len(levels)} levels need "
            f"({len(levels)}, 1 to {len(levels) - 1})"
        )
    return Contrast("custom", 0, tuple(str(i + 1) for i in range(matrix.shape[1])), matrix)


def _kind(text: str, factor: str) -> str:
    short = text.rsplit(".", 1)[-1].lower()
    if short not in KINDS:
        allowed = name_list([f"contr.{kind}" for kind in KINDS], limit=9)
        raise OptionError(f"contrasts '{text}' for '{factor}' are not known; allowed: {allowed}, or a matrix")
    return short


def _base(value: Any, levels: tuple[str, ...], factor: str) -> int:
    """Position of a reference level given by its label, or counted from 1 as in R."""
    if isinstance(value, str):
        if value not in levels:
            raise OptionError(
                f"reference level '{value}' of '{factor}' does not occur; levels: {name_list(levels)}"
            )
        return levels.index(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionError(f"the reference level of '{factor}' must be a label or a number, not {value!r}")
    if not 1 <= value <= len(levels) or not float(value).is_integer():
        raise OptionError(f"base={value:g} of '{factor}' is not a level number between 1 and {len(levels)}")
    return int(value) - 1


def make_contrast(kind: str, levels: tuple[str, ...], factor: str, base: Any = None) -> Contrast:
    """The coding named `kind` (``"contr.sum"``, ``"Sum"``, ``"sum"``, ...) for these levels.

    Raises
    ------
    OptionError
        When the name or the reference level is not known.
    """
    short = _kind(kind, factor)
    if short == "treatment":
        return treatment(levels, 0 if base is None else _base(base, levels, factor))
    if short == "sas":
        return treatment(levels, len(levels) - 1)
    return {"sum": sum_to_zero, "helmert": helmert, "poly": polynomial}[short](levels)


def contrast_of(given: Any, levels: tuple[str, ...], factor: str) -> Contrast:
    """The coding a user asked for by name, by matrix, or not at all (treatment)."""
    if given is None:
        return treatment(levels)
    if isinstance(given, Contrast):
        return given
    if isinstance(given, str):
        name, _, rest = given.partition("(")
        return make_contrast(name.strip(), levels, factor, rest.rstrip(") ").strip("\"'") or None)
    return custom(given, levels, factor)


def contrast_of_call(node: Node, levels: tuple[str, ...], default: Any) -> Contrast:
    """The coding ``C(x, contr.sum)``, ``C(x, Treatment("b"))`` or ``C(x, base = 2)`` asks for."""
    assert isinstance(node, Call)
    arguments = match_arguments(node)
    factor = deparse(arguments.values[0])
    spec = arguments.coding.get("contr")
    references = [literal(a) for k, a in arguments.settings.items() if k in ("base", "reference")]
    base = references[0] if references else None
    if spec is None and base is None:
        return contrast_of(default, levels, factor)
    if spec is None:
        return make_contrast("treatment", levels, factor, base)
    if isinstance(spec, (Name, Text)):
        return make_contrast(spec.name if isinstance(spec, Name) else spec.value, levels, factor, base)
    if isinstance(spec, Call):
        return make_contrast(spec.function, levels, factor, _inner_base(spec, factor))
    raise OptionError(f"contrasts '{deparse(spec)}' for '{factor}' are not a name such as contr.sum")


def _inner_base(spec: Call, factor: str) -> Any:
    """Reference level in ``Treatment("b")`` or ``contr.treatment(base = 2)``."""
    kind = _kind(spec.function, factor)
    if not spec.arguments:
        return None
    (name, argument), *more = spec.arguments
    if kind != "treatment" or more or name not in (None, "base", "reference", "ref"):
        given = more[0][0] or name if more else name
        raise OptionError(f"'{deparse(spec)}' for '{factor}' has no argument '{given or deparse(argument)}'; "
                          "only contr.treatment takes one, its reference level")  # fmt: skip
    if not isinstance(argument, (Text, Number)):
        raise OptionError(f"the reference level must be a string or a number, not '{deparse(argument)}'")
    return argument.value
