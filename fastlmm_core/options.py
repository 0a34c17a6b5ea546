"""Kinds of values that options and request documents take, as JSON Schemas, and the check against them.

A kind is a JSON Schema (draft 2020-12) that uses few of its keywords. The same kinds describe the options of
the Python functions and the keys of a request (``fastlmm_core.request.SCHEMA``), so that both doors accept
the same and refuse in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from fastlmm_core.errors import FastLMMError, OptionError, name_list, nearest_names, shown

Kind = Mapping[str, Any]

LARGEST_INTEGER = 2**53  # the largest that every JSON reader keeps exact

ANY: Kind = {}  # checked where it is read
FLAG: Kind = {"type": "boolean"}
SWITCH: Kind = {"enum": [True, False]}  # a flag, in Python's words
TEXT: Kind = {"type": "string"}
NAME: Kind = {"type": "string", "minLength": 1}
NUMBER: Kind = {"type": "number"}
LEVEL: Kind = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "examples": [0.95]}


def optional(kind: Kind) -> Kind:
    """The kind, or null (None)."""
    return {"anyOf": [*kind.get("anyOf", [kind]), {"type": "null"}]}


def either(*kinds: Kind) -> Kind:
    """One of several kinds, told apart by their types."""
    return {"anyOf": [branch for kind in kinds for branch in kind.get("anyOf", [kind])]}


def list_of(kind: Kind) -> Kind:
    """A list whose items are of one kind."""
    return {"type": "array", "items": kind}


def one_of(allowed: Iterable[str | int | bool]) -> Kind:
    """One of a fixed set of values."""
    return {"enum": list(allowed)}


def whole(minimum: int) -> Kind:
    """A whole number from `minimum` on."""
    return {"type": "integer", "minimum": minimum}


def table_of(kind: Kind) -> Kind:
    """An object with any names, all of whose values are of one kind."""
    return {"type": "object", "additionalProperties": kind}


def record(properties: Mapping[str, Kind], required: Sequence[str] = ()) -> Kind:
    """An object with these keys and no others; those that are not required may be null."""
    kinds = {name: kind if name in required else optional(kind) for name, kind in properties.items()}
    return {
        "type": "object", "properties": kinds, "required": list(required), "additionalProperties": False,
    }  # fmt: skip


def numbers(where: str, given: Any, error: type[FastLMMError] = OptionError) -> np.ndarray:
    """An array-like as float64.

    Raises
    ------
    FastLMMError
        Of the kind `error`, where it holds something else than numbers.
    """
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise error(f"{where}={shown(given)} must be numbers") from None


def having(words: str, *attributes: str) -> Kind:
    """A Python object known by its attributes (no part of a request); `words` is what messages call it."""
    return {"attributes": attributes, "words": words}


AXES = optional(having("Axes of matplotlib", "errorbar", "set_xlabel"))
PATH = either(TEXT, having("a path", "__fspath__"))
NAMES = either(NAME, list_of(NAME))
SPECS = either(TEXT, list_of(TEXT))
SCALAR = either(NUMBER, TEXT, FLAG)
AT = table_of(either(NUMBER, TEXT, FLAG, list_of(SCALAR)))  # values by variable
FACTORIZATION = one_of(("auto", "simplicial", "supernodal", "cholmod"))  # those of linalg.make_factor
MEMORY = either({"type": "number", "exclusiveMinimum": 0}, TEXT)


def check(where: str, value: Any, kind: Kind) -> None:
    """Raise unless `value` is of the kind.

    Parameters
    ----------
    where : str
        What the message calls the value: an option, or a place of a document such as ``emmeans[0].level``;
        empty for a whole document.
    value : object
        Plain Python or NumPy.
    kind : mapping
        A JSON Schema of the keywords this module uses.

    Raises
    ------
    OptionError
        Naming the place, what stands there, and what would be right.
    """
    if "anyOf" in kind:
        branch = next((k for k in kind["anyOf"] if _has_type(value, k)), None)
        if branch is None:
            raise _refused(where, value, kind)
        return check(where, value, branch)
    if "enum" in kind:
        return _check_enum(where, value, kind["enum"])
    if not kind:
        return None
    if not _has_type(value, kind):
        raise _refused(where, value, kind)
    return _CONTENT.get(kind.get("type", ""), _no_more)(where, value, kind)


def _refused(where: str, value: Any, kind: Kind) -> OptionError:
    words = _words(kind)
    if words.startswith(("a list", "an object")):  # a place; other values are shown as they were given
        return OptionError(f"{where or 'the request'} must be {words}, not {shown(value)}")
    return OptionError(f"{where}={shown(value)} must be {words}")


def _check_enum(where: str, value: Any, allowed: Sequence[Any]) -> None:
    plain = value.item() if isinstance(value, np.generic) else value
    if not any(type(plain) is type(own) and plain == own for own in allowed):
        words = name_list(allowed, 40) if isinstance(allowed[0], str) else ", ".join(map(str, allowed))
        raise OptionError(f"{where}={shown(value)} is not known; allowed: {words}")


def _no_more(where: str, value: Any, kind: Kind) -> None:
    """Kinds whose type says everything."""


def _check_number(where: str, value: Any, kind: Kind) -> None:
    low, high = kind.get("exclusiveMinimum"), kind.get("exclusiveMaximum")
    inside = (low is None or value > low) and (high is None or value < high)
    if not inside or value < kind.get("minimum", value):
        example = f", for example {kind['examples'][0]}" if "examples" in kind else ""
        said = f"lie above {low} and below {high}" if high is not None else f"be {_words(kind)}"
        raise OptionError(f"{where}={shown(value)} must {said}{example}")


def _check_text(where: str, value: str, kind: Kind) -> None:
    if len(value) < kind.get("minLength", 0):
        raise OptionError(f"{where} is empty; it must be {_words(kind)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        place = f"character {error.start + 1}"
        raise OptionError(f"{where}={shown(value)} is not valid Unicode ({place})") from None


def _check_list(where: str, value: Any, kind: Kind) -> None:
    items = kind["items"]
    if kind.get("cells"):
        return _check_cells(where, value)
    places = items.get("type") == "object"
    for i, item in enumerate(value):
        check(f"{where}[{i}]" if places else where, item, items)


def _check_cells(where: str, values: Any) -> None:
    """Values of a column: what JSON has besides lists and objects; types are looked at all at once."""
    if not isinstance(values, (list, tuple)):
        return  # an array or Series has one type
    nested = {t for t in set(map(type, values)) if issubclass(t, (Mapping, list, tuple, set, bytes))}
    if nested:
        row = next(i for i, v in enumerate(values) if type(v) in nested)
        raise OptionError(
            f"{where}: row {row + 1} holds {shown(values[row])}; a cell is a number, a text, true, false "
            "or null"
        )


def _check_object(where: str, value: Mapping[Any, Any], kind: Kind) -> None:
    properties, others = kind.get("properties", {}), kind["additionalProperties"]
    for key in value:
        if not isinstance(key, str):
            raise OptionError(f"{where or 'the request'} has the key {shown(key)}; keys are texts")
        if key not in properties and others is False:
            raise OptionError(f"{where or 'request'} has no key {shown(key)}{nearest_names(key, properties)}")
        _check_text(f"a key of {where or 'the request'}", key, NAME)
    for key in kind.get("required", ()):
        if value.get(key) is None:
            raise OptionError(f"{where or 'the request'} lacks '{key}'")
    for key, own in value.items():
        inner = f"{where}.{key}" if key in properties else f"{where}[{shown(key)}]"
        check(inner if where else key, own, properties.get(key, others))


_CONTENT: dict[str, Callable[[str, Any, Kind], None]] = {
    "string": _check_text, "integer": _check_number, "number": _check_number, "array": _check_list,
    "object": _check_object,
}  # fmt: skip


def _is_number(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:
        return False


def _is_integer(value: Any) -> bool:
    integral = isinstance(value, Integral) and not isinstance(value, bool)
    return integral and -LARGEST_INTEGER <= int(value) <= LARGEST_INTEGER


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, (bool, np.bool_)),
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: not isinstance(value, (str, bytes, Mapping)) and (
        isinstance(value, Sequence) or (hasattr(value, "__array__") and np.ndim(value) > 0)
    ),
    "object": lambda value: isinstance(value, Mapping),
}  # fmt: skip


def _has_type(value: Any, kind: Kind) -> bool:
    if "enum" in kind:  # its type tells the branch; the check of the branch names what is allowed
        plain = value.item() if isinstance(value, np.generic) else value
        return isinstance(plain, type(kind["enum"][0]))
    if "attributes" in kind:
        return not isinstance(value, type) and all(hasattr(value, name) for name in kind["attributes"])
    return _TYPES[kind["type"]](value)


_WORDS = {
    "null": "null", "boolean": "true or false", "string": "a text", "number": "a finite number",
    "integer": "a whole number", "object": "an object",
}  # fmt: skip
_PLURALS = {
    "boolean": "flags", "string": "texts", "number": "numbers", "integer": "whole numbers",
    "object": "objects", "array": "lists",
}  # fmt: skip


def _words(kind: Kind) -> str:
    """A kind in words, for "must be ..."."""
    if "anyOf" in kind:
        branches = [k for k in kind["anyOf"] if k.get("type") != "null"]
        return " or ".join(dict.fromkeys(map(_words, branches)))
    if "enum" in kind:
        return f"one of {', '.join(shown(v) for v in kind['enum'][:8])}"
    if "words" in kind:
        return kind["words"]
    if kind["type"] == "array":
        items = kind["items"]
        inner = "names" if items.get("minLength") else _PLURALS.get(str(items.get("type")), "values")
        return f"a list of {inner}"
    if kind["type"] == "object" and kind.get("examples"):
        return f"an object such as {kind['examples'][0]}"
    if kind.get("minLength"):
        return "a name"
    words = _WORDS[kind["type"]]
    if "exclusiveMinimum" in kind and "exclusiveMaximum" not in kind:
        return f"{words} above {kind['exclusiveMinimum']}"
    return f"{words}, {kind['minimum']} or larger" if "minimum" in kind else words
