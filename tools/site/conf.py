"""Sphinx settings of the documentation site; `tools/build_site.py` gathers what it is made from."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import matplotlib  # noqa: E402

matplotlib.use("Agg")

from fastlmm_core import __version__  # noqa: E402

project = "fastlmm_core"
author = copyright = "The fastlmm_core developers"
version = release = __version__

extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery", "sphinx_copybutton", "mathml",
]  # fmt: skip
root_doc = "index"
exclude_patterns = ["docs/gallery/*"]
highlight_language = "python"
nitpicky = False  # types of docstrings are words and shapes, not names

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # the docstrings have shapes and units
autodoc_default_options = {"members": True, "inherited-members": True}
toc_object_entries_show_parents = "hide"
add_module_names = False
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
napoleon_use_admonition_for_examples = False
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

warnings.filterwarnings("ignore", module="fastlmm_core")
sphinx_gallery_conf = {
    "examples_dirs": "docs/gallery", "gallery_dirs": "gallery", "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey", "download_all_examples": False, "show_memory": False,
    "write_computation_times": False, "abort_on_example_error": True, "remove_config_comments": True,
    "matplotlib_animations": False, "show_signature": False, "reference_url": {},
}  # fmt: skip

# Classes that users make themselves; others come from functions and are shown without their constructor.
MADE_BY_USERS = ("Pedigree", "Markers", "Covariance", "SparseInverse", "Limits")


def without_constructor(app: Any, what: str, name: str, *rest: Any) -> tuple[str, str | None] | None:
    return ("", None) if what == "class" and name.rpartition(".")[2] not in MADE_BY_USERS else None


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", without_constructor)


html_theme = "pydata_sphinx_theme"
html_title = "fastlmm_core"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_end": ["theme-switcher"], "navbar_persistent": ["search-button"], "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"], "footer_start": ["copyright"], "footer_end": [],
    "show_toc_level": 2, "navigation_with_keys": False, "header_links_before_dropdown": 7,
}  # fmt: skip
