"""Covariance structures by name."""

from __future__ import annotations

from typing import Any

from fastlmm_core.errors import OptionError, name_list
from fastlmm_core.structures.coefficients.base import CoefficientStructure

_COEFFICIENTS: dict[str, type[CoefficientStructure]] = {}


def register_coefficient_structure(cls: type[CoefficientStructure]) -> type[CoefficientStructure]:
    """Class decorator: make a structure available by its `name` and its `aliases`.

    Raises
    ------
    NotImplementedError
        Where the class leaves out a method that every structure has to define.
    ValueError
        Where another structure has one of the names.
    """
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise NotImplementedError(f"covariance structure '{cls.name}' has to define {', '.join(missing)}")
    for name in (cls.name, *cls.aliases):
        other = _COEFFICIENTS.get(name, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"covariance structure '{name}' is registered already, by {other.__qualname__}")
    for name in (cls.name, *cls.aliases):
        _COEFFICIENTS[name] = cls
    return cls


def coefficient_structure_names() -> tuple[str, ...]:
    """Registered names, without their aliases."""
    return tuple(sorted({cls.name for cls in _COEFFICIENTS.values()}))


def is_own(name: str) -> bool:
    """Whether the package itself brings a structure, so that another process knows it too."""
    cls = _COEFFICIENTS.get(name)
    return cls is None or cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def find_coefficient_structure(name: str, hom: bool | None = None) -> type[CoefficientStructure]:
    """Class of a structure by name or alias.

    Parameters
    ----------
    name : str
        Name or alias.
    hom : bool, optional
        The form with one variance (True) or with one of each coefficient (False), as lme4's option.

    Raises
    ------
    OptionError
        For an unknown name, or where the structure has no such two forms.
    """
    if name not in _COEFFICIENTS:
        known = name_list(coefficient_structure_names(), limit=40)
        raise OptionError(f"covariance structure '{name}' is not known; known: {known}")
    cls = _COEFFICIENTS[name]
    if hom is None:
        return cls
    if not isinstance(hom, bool):
        raise OptionError(f"{name}(..., hom={hom!r}): hom is True or False")
    form = cls.homogeneous_form if hom else cls.heterogeneous_form
    if not form:
        raise OptionError(f"{name}(..., hom={hom}): structure '{name}' has no option hom")
    return _COEFFICIENTS[form]


def make_coefficient_structure(name: str, m: int, **options: Any) -> CoefficientStructure:
    """Structure `name` for m coefficients.

    Parameters
    ----------
    name : str
        Name or alias of a registered structure.
    m : int
        Coefficients per level.
    **options
        Options of the structure; ``hom=True`` or ``False`` chooses between its two forms.

    Raises
    ------
    OptionError
        For an unknown name or option, or an option out of its range.
    """
    hom = options.pop("hom", None)
    return find_coefficient_structure(name, hom)(m, **options)
