"""Formulas of the site as MathML, which browsers draw by themselves: no script, no font, no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

# What the converter makes of some signs, and what they are: relations with space around, fences without.
SIGNS = {
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",
    '<mo stretchy="false">&#x0007C;</mo>': '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo>',
    "<mi>&#x027E8;</mi>": '<mo stretchy="false" form="prefix">&#x027E8;</mo>',
    "<mi>&#x027E9;</mi>": '<mo stretchy="false" form="postfix">&#x027E9;</mo>',
}


def formula(text: str, display: str) -> str:
    """A formula of LaTeX as MathML."""
    markup = convert(text, display=display)
    for found, meant in SIGNS.items():
        markup = markup.replace(found, meant)
    return markup


def inline_formula(writer: Any, node: nodes.math) -> None:
    writer.body.append(formula(node.astext(), "inline"))
    raise nodes.SkipNode


def displayed_formula(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{formula(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
