"""Families of contrasts among k means: coefficients, labels and the adjustment that goes with each.

Names, order, coefficients and labels are those of the R package emmeans, so that tables of both can be laid
side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.errors import OptionError, check_option, name_list, nearest_names
from fastlmm_core.means.polynomial_contrasts import orthogonal_polynomials, whole_numbers
from fastlmm_core.means.weighted_contrasts import (
    average_of_others,
    change_points,
    check_weights,
    grand_mean,
    williams,
)
from fastlmm_core.other_names import option_words
from fastlmm_core.reading.columns import is_number_text

Floats = NDArray[np.floating]
Custom = Mapping[str, object] | Sequence[object]

NEEDS_PARENTHESES = re.compile(r"[-+*/]")
POLYNOMIAL_NAMES = ("linear", "quadratic", "cubic", "quartic", *(f"degree {d}" for d in range(5, 21)))


def in_parentheses(labels: Sequence[str]) -> list[str]:
    """Labels as they stand in a contrast: in parentheses where they hold +, -, * or /."""
    return [f"({x})" if NEEDS_PARENTHESES.search(x) else x for x in labels]


@dataclass(frozen=True)
class ContrastFamily:
    """Contrasts among k means.

    Attributes
    ----------
    labels : tuple of str
        One per contrast, (c,).
    coefficients : csr_array (c, k)
    kind : str
        "pairs", "contrast", or "prediction": the means themselves, whose tests against zero are not printed.
    adjust : str
        Adjustment used when none is asked for.
    """

    labels: tuple[str, ...]
    coefficients: sp.csr_array
    kind: str
    adjust: str


@dataclass(frozen=True)
class MeanLabels:
    """Labels of the means a family is built on.

    Attributes
    ----------
    raw : tuple of str
        As in the table; what `ref` is looked up in.
    shown : tuple of str
        With parentheses where a label holds an operator.
    """

    raw: tuple[str, ...]
    shown: tuple[str, ...]

    @classmethod
    def of(cls, raw: Sequence[str]) -> MeanLabels:
        """Labels as in the table and `in_parentheses`."""
        return cls(tuple(raw), tuple(in_parentheses(raw)))


def signed_pairs(plus: NDArray[np.integer], minus: NDArray[np.integer], k: int) -> sp.csr_array:
    """Rows with +1 at `plus` (c,) and -1 at `minus` (c,), shape (c, k)."""
    c = plus.size
    indices = np.column_stack([plus, minus]).ravel()
    values = np.tile([1.0, -1.0], c)
    return sp.csr_array((values, indices, np.arange(0, 2 * c + 1, 2)), shape=(c, k))


def pair_labels(
    plus: NDArray[np.integer], minus: NDArray[np.integer], shown: tuple[str, ...]
) -> tuple[str, ...]:
    """ "A - B" for each pair."""
    return tuple([f"{shown[i]} - {shown[j]}" for i, j in zip(plus.tolist(), minus.tolist(), strict=True)])


def pairwise(means: MeanLabels, reverse: bool = False) -> ContrastFamily:
    """Every earlier mean minus every later one, or with `reverse` as `revpairwise`."""
    if reverse:
        return revpairwise(means)
    k = len(means.raw)
    plus, minus = np.triu_indices(k, 1)
    return ContrastFamily(
        pair_labels(plus, minus, means.shown), signed_pairs(plus, minus, k), "pairs", "tukey"
    )


def revpairwise(means: MeanLabels) -> ContrastFamily:
    """Every later mean minus every earlier one."""
    k = len(means.raw)
    plus, minus = np.tril_indices(k, -1)
    return ContrastFamily(
        pair_labels(plus, minus, means.shown), signed_pairs(plus, minus, k), "pairs", "tukey"
    )


def _matching_labels(means: MeanLabels, name: str) -> list[int]:
    """Positions of a label, or of the plain level behind a label that names its factor ("dose36")."""
    exact = [i for i, label in enumerate(means.raw) if label == name]
    if exact:
        return exact
    whole = re.compile(r"(.*[^0-9.eE+-])" + re.escape(name))
    return [i for i, label in enumerate(means.raw) if whole.fullmatch(label)] if is_number_text(name) else []


def find_reference(means: MeanLabels, ref: object) -> list[int]:
    """Positions of the reference means, given as label, as position counted from 1, or as a list of either.

    Raises
    ------
    OptionError
        For an unknown label or a position outside 1..k.
    """
    wanted = list(ref) if isinstance(ref, (list, tuple, np.ndarray)) else [ref]
    found = []
    for item in wanted:
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            if not 1 <= item <= len(means.raw):
                label = f"; the mean is ref='{item}'" if _matching_labels(means, str(item)) else ""
                raise OptionError(f"ref={item}: positions run from 1 to {len(means.raw)}{label}")
            found.append(int(item) - 1)
        elif len(hits := _matching_labels(means, str(item))) == 1:
            found.append(hits[0])
        else:
            raise OptionError(f"ref={item!r} is not one of the means{nearest_names(str(item), means.raw)}")
    if not found or len(set(found)) == len(means.raw):
        raise OptionError("ref must name at least one mean and leave at least one to compare with it")
    return found


def treatments_vs_control(means: MeanLabels, ref: object = 1, reverse: bool = False) -> ContrastFamily:
    """Every mean minus the control, or minus the average of several controls."""
    k, refs = len(means.raw), find_reference(means, ref)
    others = [i for i in range(k) if i not in set(refs)]
    control = means.shown[refs[0]] if len(refs) == 1 else f"avg({','.join(means.shown[i] for i in refs)})"
    row = np.repeat(np.arange(len(others)), 1 + len(refs))
    columns = np.array([[i, *refs] for i in others]).ravel()
    values = np.tile([1.0, *[-1.0 / len(refs)] * len(refs)], len(others)) * (-1.0 if reverse else 1.0)
    shown = [f"{control} - {means.shown[i]}" if reverse else f"{means.shown[i]} - {control}" for i in others]
    matrix = sp.csr_array((values, (row, columns)), shape=(len(others), k))
    return ContrastFamily(tuple(shown), matrix, "contrast", "dunnettx")


def consecutive(means: MeanLabels, reverse: bool = False) -> ContrastFamily:
    """Each mean minus the one before it."""
    k = len(means.raw)
    later, earlier = np.arange(1, k), np.arange(k - 1)
    plus, minus = (earlier, later) if reverse else (later, earlier)
    return ContrastFamily(
        pair_labels(plus, minus, means.shown), signed_pairs(plus, minus, k), "contrast", "mvt"
    )


def effects(means: MeanLabels, wts: object = None) -> ContrastFamily:
    """Each mean minus the average of all, weighted where `wts` are given."""
    matrix = sp.csr_array(grand_mean(check_weights(wts, len(means.raw))))
    return ContrastFamily(tuple(f"{x} effect" for x in means.shown), matrix, "contrast", "fdr")


def deleted_effects(means: MeanLabels, wts: object = None) -> ContrastFamily:
    """Each mean minus the average of the others, weighted where `wts` are given."""
    matrix = sp.csr_array(average_of_others(check_weights(wts, len(means.raw))))
    return replace(effects(means), coefficients=matrix)


def helmert(means: MeanLabels) -> ContrastFamily:
    """Each mean times the number of means before it, minus their sum, as R's ``contr.helmert``."""
    k = len(means.raw)
    matrix = np.tril(-np.ones((k - 1, k))) + np.diag(np.arange(1.0, k), 1)[: k - 1]
    labels = tuple(f"{x} vs earlier" for x in means.shown[1:])
    return ContrastFamily(labels, sp.csr_array(matrix), "contrast", "none")


def normalized(means: MeanLabels, family: str = "eff", **options: object) -> ContrastFamily:
    """Another family with every contrast scaled to length 1."""
    if not isinstance(family, str) or family == "nrmlz":
        raise OptionError(f"family={family!r} must name the family to scale, for example 'poly'")
    found = contrast_family(family, means, **options)
    size = np.sqrt(np.asarray(found.coefficients.power(2).sum(axis=1)).ravel())
    return replace(
        found, coefficients=sp.csr_array(sp.diags_array(1.0 / size) @ found.coefficients),
        kind="contrast" if found.kind == "pairs" else found.kind,
    )  # fmt: skip


def weighted(means: MeanLabels, wts: object = None, cmtype: str = "GrandMean") -> ContrastFamily:
    """multcomp's contrasts of type `cmtype`, with `wts` the weights of the means in averages."""
    own, k = check_weights(wts, len(means.raw)), len(means.raw)
    check_option("cmtype", cmtype, WEIGHTED)
    if cmtype == "Tukey":
        return revpairwise(means)
    if cmtype == "Dunnett":
        return treatments_vs_control(means, 1)
    if cmtype == "Sequen":
        return consecutive(means)
    matrix = {"GrandMean": grand_mean, "AVE": average_of_others, "Changepoint": change_points,
              "Williams": williams}[cmtype](own)  # fmt: skip
    labels = tuple(f"C {i + 1}" for i in range(matrix.shape[0]))
    if cmtype in ("GrandMean", "AVE"):
        labels = tuple(f"{x} effect" for x in means.shown)
    assert matrix.shape[1] == k
    return ContrastFamily(labels, sp.csr_array(matrix), "contrast", "none")


def mean_changes(means: MeanLabels) -> ContrastFamily:
    """Average of the means after each cut minus the average of those before it."""
    k = len(means.raw)
    matrix = np.array([[-1.0 / i] * i + [1.0 / (k - i)] * (k - i) for i in range(1, k)]).reshape(-1, k)
    labels = tuple(f"{a}|{b}" for a, b in zip(means.shown[:-1], means.shown[1:], strict=True))
    return ContrastFamily(labels, sp.csr_array(matrix), "contrast", "mvt")


def identity(means: MeanLabels) -> ContrastFamily:
    """The means themselves."""
    return ContrastFamily(means.shown, sp.csr_array(sp.eye_array(len(means.raw))), "prediction", "none")


def polynomial(means: MeanLabels, max_degree: int | None = None) -> ContrastFamily:
    """Orthogonal polynomial contrasts for equally spaced levels, scaled to whole numbers as emmeans does.

    Up to degree 6 unless `max_degree` says otherwise (at most 20).
    """
    k = len(means.raw)
    degree = min(20, k - 1, 6 if max_degree is None else int(max_degree))
    rows = [whole_numbers(exact) for exact in orthogonal_polynomials(k, degree)]
    matrix = sp.csr_array(np.array(rows).reshape(-1, k))
    return ContrastFamily(POLYNOMIAL_NAMES[:degree], matrix, "contrast", "none")


def custom_contrasts(means: MeanLabels, weights: Custom) -> ContrastFamily:
    """Contrasts given by the user.

    Parameters
    ----------
    means : MeanLabels
    weights : mapping or sequence
        {label: k weights} or {label: {mean: weight}}; a sequence of weights gets labels "c(1, -1, 0)".

    Raises
    ------
    OptionError
        For a wrong number of weights or an unknown mean.
    """
    if not len(weights):
        raise OptionError("custom contrasts need weights: {label: numbers, one for each mean}")
    if isinstance(weights, Mapping):
        named = {str(label): row for label, row in weights.items()}
    else:
        rows = list(weights) if np.ndim(weights[0]) or isinstance(weights[0], Mapping) else [weights]  # type: ignore[arg-type]
        named = {custom_label(row): row for row in rows}
    matrix = np.array([weight_row(means, label, row) for label, row in named.items()])
    # tested against zero whatever the weights sum to, as in R: 0.33, 0.33, 0.33, -1 are meant as a contrast
    return ContrastFamily(tuple(named), sp.csr_array(matrix), "contrast", "none")


def custom_label(row: object) -> str:
    """Label of unnamed weights."""
    if isinstance(row, Mapping):
        return " ".join(f"{float(v):+g}*{k}" for k, v in row.items())
    return f"c({', '.join(f'{float(v):g}' for v in np.asarray(row, dtype=np.float64))})"


def weight_row(means: MeanLabels, label: str, row: object) -> Floats:
    """One row of weights (k,) of a custom contrast."""
    k = len(means.raw)
    if isinstance(row, Mapping):
        out = np.zeros(k)
        for name, value in row.items():
            if str(name) not in means.raw:
                hint = nearest_names(str(name), means.raw)
                raise OptionError(f"contrast '{label}': '{name}' is not one of the means{hint}")
            out[means.raw.index(str(name))] = numeric_weights(label, value)
        return out
    weights = numeric_weights(label, row)
    if weights.shape != (k,):
        raise OptionError(
            f"contrast '{label}' has {weights.size} weights; {k} are needed, one each for "
            f"{name_list(means.raw)}"
        )
    return weights


def numeric_weights(label: str, given: object) -> Floats:
    """Weights of a custom contrast as finite numbers."""
    try:
        weights = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise OptionError(f"contrast '{label}': the weights must be numbers, not {given!r}") from None
    if not np.isfinite(weights).all():
        raise OptionError(f"contrast '{label}': the weights must be finite numbers, not {given!r}")
    return weights


FAMILIES: dict[str, Callable[..., ContrastFamily]] = {
    "pairwise": pairwise,
    "revpairwise": revpairwise,
    "trt.vs.ctrl": treatments_vs_control,
    "consec": consecutive,
    "poly": polynomial,
    "eff": effects,
    "del.eff": deleted_effects,
    "mean_chg": mean_changes,
    "identity": identity,
    "helmert": helmert,
    "nrmlz": normalized,
    "wtcon": weighted,
}
WEIGHTED = ("GrandMean", "Tukey", "Dunnett", "Sequen", "AVE", "Changepoint", "Williams")
OPTIONS = {
    "pairwise": {"reverse"}, "trt.vs.ctrl": {"ref", "reverse"}, "consec": {"reverse"},
    "poly": {"max_degree"}, "eff": {"wts"}, "del.eff": {"wts"}, "wtcon": {"wts", "cmtype"},
    "nrmlz": {"family", "ref", "reverse", "max_degree", "wts", "cmtype"},
}  # fmt: skip
CONTROL_SYNONYMS = {"trt.vs.ctrl1": "first", "trt.vs.ctrlk": "last", "dunnett": "first"}
SYNONYMS = {"tukey": "pairwise", "pairs": "pairwise", "poly_contrasts": "poly"}


def contrast_family(method: str | Custom, means: MeanLabels, **options: object) -> ContrastFamily:
    """The family called `method` among `means`.

    Parameters
    ----------
    method : str, mapping or sequence
        A name (pairwise, revpairwise, trt.vs.ctrl, trt.vs.ctrl1, trt.vs.ctrlk, consec, poly, eff, del.eff,
        mean_chg, identity, helmert, nrmlz, wtcon), or custom weights (see `custom_contrasts`).
    means : MeanLabels
    **options
        `ref` and `reverse` for trt.vs.ctrl, `reverse` for pairwise and consec, `max_degree` for poly, `wts`
        for eff, del.eff and wtcon, `cmtype` for wtcon, `family` and its options for nrmlz.

    Raises
    ------
    OptionError
        For an unknown method, or an option that the method does not have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not isinstance(method, str):
        if given:
            raise OptionError(f"custom contrasts take no option {name_list(given)}")
        return custom_contrasts(means, method)
    name = SYNONYMS.get(method, method)
    if name in CONTROL_SYNONYMS:
        given.setdefault("ref", 1 if CONTROL_SYNONYMS[name] == "first" else len(means.raw))
        name = "trt.vs.ctrl"
    check_option("method", name, (*FAMILIES, *CONTROL_SYNONYMS))
    allowed = OPTIONS.get(name, set())
    wrong = sorted(set(given) - allowed)
    if wrong:
        here = option_words("contrast", wrong[0])
        raise OptionError(
            f"method='{name}' takes no option {name_list(wrong)}; "
            + (f"here: {here}" if here else f"allowed: {name_list(allowed) or 'none'}")
        )
    if len(means.raw) < 2 and name != "identity":
        raise OptionError(
            f"method='{name}' compares means, and there is only one here ({name_list(means.raw)}); "
            "with `by` groups, each needs at least two"
        )
    return FAMILIES[name](means, **given)
