"""Objects that say what they are, and in a session what can be asked of them next."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any

from fastlmm_core.display.next_steps import next_steps
from fastlmm_core.other_names import UnknownNameError


class Displayed:
    """Printing of a result: ``print`` shows it, a session shows it and a line of next steps, a notebook HTML.

    A class names what it shows in `_shown`: a `Table`, a `TableGroup`, a `Summary`, or text.
    """

    def _shown(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not say what it shows")

    def _brief(self) -> str:
        """What a session shows where that is not all of it."""
        return str(self)

    if not TYPE_CHECKING:  # checkers would take every name for an attribute

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # asked by pickle, copy, notebooks
                raise AttributeError(f"{type(self).__name__} has no {name!r}")
            if hasattr(type(self), name):  # a property that failed: its own error says more
                return object.__getattribute__(self, name)
            raise UnknownNameError(self, name)

    def __str__(self) -> str:
        return str(self._shown())

    def __repr__(self) -> str:
        steps = next_steps(type(self))
        line = textwrap.fill(f"Next: {', '.join(steps)}", 100, subsequent_indent=" " * 6)
        return f"{self._brief()}\n{line}" if steps else self._brief()

    def _repr_html_(self) -> str:
        shown = self._shown()
        text = html.escape(str(shown)).replace("\n", "<br>")
        body = shown._repr_html_() if hasattr(shown, "_repr_html_") else f"<p>{text}</p>"
        steps = ", ".join(f"<code>{html.escape(step)}</code>" for step in next_steps(type(self)))
        return f"{body}\n<p><small>Next: {steps}</small></p>" if steps else str(body)
