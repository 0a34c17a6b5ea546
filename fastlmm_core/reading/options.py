"""How a text file or spreadsheet is to be read, where its reader is not to find out by looking."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastlmm_core.errors import OptionError, shown
from fastlmm_core.limits import DEFAULT, Limits

#: Cells that mean "no value" in columns of any type, with or without blanks around them.
MISSING = frozenset({
    "", "NA", "NaN", "nan", "N/A", "NULL", "null", "None", "<NA>",
    "#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!",
})  # fmt: skip
#: Those of them that may be a name: a treatment None among labels is told.
WORDS_OF_MISSING = frozenset({"None", "NULL", "null", "nan", "NaN"})
#: Cells that mean it where all other cells of the column are numbers.
MISSING_AMONG_NUMBERS = frozenset({
    ".", "*", "-", "?", "nd", "ND", "n.d.", "na", "n/a", "n.a.", "N.A.", "N.D.",
})  # fmt: skip

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|", "pipe": "|"}
EVERY_COLUMN = "*"


@dataclass(frozen=True)
class MissingCodes:
    """Cells that are missing values.

    Attributes
    ----------
    everywhere : frozenset of str
    own : dict of str to frozenset of str
        In place of those, by column.
    """

    everywhere: frozenset[str] = MISSING
    own: dict[str, frozenset[str]] = field(default_factory=dict)

    def of(self, column: str) -> frozenset[str]:
        """Those of one column."""
        return self.own.get(column, self.everywhere)

    @property
    def added(self) -> list[str]:
        """Codes given for every column beside the usual ones, which hold for files beside the table too."""
        return sorted(self.everywhere - MISSING)

    def with_empty_only(self, columns: Iterable[str]) -> MissingCodes:
        """The same, but only the empty cell is missing in these columns."""
        return MissingCodes(self.everywhere, {**self.own, **dict.fromkeys(columns, frozenset({""}))})


@dataclass(frozen=True)
class ReadOptions:
    """Options of the reader; None leaves a thing to be found by looking at the file.

    Attributes
    ----------
    sep, decimal, encoding : str or None
    missing : MissingCodes
    sheet : str, int or None
        Of a spreadsheet, by name or number (from 1).
    skip : int
        Lines above the header.
    given : tuple of str
        Names of the options that were set.
    limits : Limits
        How large a file may be.
    """

    sep: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    missing: MissingCodes = MissingCodes()
    sheet: str | int | None = None
    skip: int = 0
    given: tuple[str, ...] = ()
    limits: Limits = DEFAULT


def read_options(
    *, sep: Any = None, decimal: Any = None, encoding: Any = None, na_values: Any = None, sheet: Any = None,
    skip: Any = None, limits: Any = None,
) -> ReadOptions:  # fmt: skip
    """Check the options of the reader.

    Parameters
    ----------
    sep : str, optional
        ``,``, ``;``, ``|`` or a tab (also as the word "tab").
    decimal : "." or ",", optional
    encoding : str, optional
        Of the text, for example "latin-1".
    na_values : str, number, list of these, or mapping, optional
        Further cells that are missing values; a mapping {column: cells} names all those of a column, besides
        the empty cell, and {"*": cells} those of every column.
    sheet : str or int, optional
        Sheet of a spreadsheet.
    skip : int, optional
        Lines above the header.
    limits : Limits or mapping, optional

    Raises
    ------
    OptionError
        For a value that is not allowed.
    """
    given = {"sep": sep, "decimal": decimal, "encoding": encoding, "na_values": na_values, "sheet": sheet,
             "skip": skip}  # fmt: skip
    if isinstance(sep, str):
        sep = WORDS.get(sep, sep)
    if sep is not None and (not isinstance(sep, str) or sep not in SEPARATORS):
        raise OptionError(f"sep={shown(sep)} is not known; allowed: ',', ';', '|', 'tab'")
    if decimal is not None and (not isinstance(decimal, str) or decimal not in (".", ",")):
        raise OptionError(f"decimal={shown(decimal)} is not known; allowed: '.', ','")
    if decimal == "," and sep == ",":
        raise OptionError("sep=',' and decimal=',' cannot both be: which comma separates cells?")
    if encoding is not None:
        try:
            encoding = codecs.lookup(encoding).name
            b"".decode(encoding)  # refuses codecs that are not of text
        except (LookupError, TypeError, ValueError, AttributeError):
            words = "for example 'utf-8', 'latin-1', 'utf-16'"
            raise OptionError(f"encoding={shown(encoding)} is not known; give {words}") from None
    if isinstance(sheet, bool) or not (sheet is None or isinstance(sheet, (str, int))):
        raise OptionError(f"sheet={shown(sheet)} must be the name or the number (from 1) of a sheet")
    if skip is not None and (isinstance(skip, bool) or not isinstance(skip, int) or skip < 0):
        raise OptionError(f"skip={shown(skip)} must be a whole number of lines, 0 or more")
    return ReadOptions(
        sep, decimal, encoding, missing_codes(na_values), sheet, skip or 0,
        tuple(name for name, value in given.items() if value is not None), Limits.of(limits),
    )  # fmt: skip


def missing_codes(na_values: Any) -> MissingCodes:
    """The codes that ``na_values=`` asks for; see `read_options`."""
    if na_values is None:
        return MissingCodes()
    if isinstance(na_values, Mapping):
        own = {str(name): code_set(codes) | {""} for name, codes in na_values.items()}
        return MissingCodes(own.pop(EVERY_COLUMN, MISSING), own)
    return MissingCodes(MISSING | code_set(na_values))


def code_set(codes: Any) -> frozenset[str]:
    """Codes as text, without blanks around them.

    Raises
    ------
    OptionError
        For what is neither text nor a number, nor a list of these.
    """
    listed = codes if isinstance(codes, (list, tuple, set, frozenset)) else [codes]
    for code in listed:
        if isinstance(code, bool) or not isinstance(code, (str, int, float)):
            words = "must be a cell, a list of cells, or {column: cells} in their place"
            raise OptionError(f"na_values={shown(codes)} {words}")
    try:
        return frozenset(str(code).strip() for code in listed)
    except ValueError:  # an integer of thousands of digits
        raise OptionError("na_values holds a number that is too long to be a cell") from None


def parse_codes(texts: Iterable[str]) -> Any:
    """``na_values`` of the command line: ``-9,x`` adds codes, ``gen=-,x`` names all those of a column.

    ``gen=`` leaves only the empty cell, so that NA is a label there; ``=...`` is for every column.

    Raises
    ------
    OptionError
        When codes are both added and replaced in every column.
    """
    added: list[str] = []
    own: dict[str, list[str]] = {}
    for text in texts:
        column, equals, codes = text.partition("=")
        if equals:
            own.setdefault(column.strip() or EVERY_COLUMN, []).extend(codes.split(","))
        else:
            added += text.split(",")
    if added and EVERY_COLUMN in own:
        raise OptionError("--na either adds codes (-9) or replaces all of them (=-9), not both")
    if not own:
        return added or None
    return {EVERY_COLUMN: [*MISSING, *added], **own} if added else own
