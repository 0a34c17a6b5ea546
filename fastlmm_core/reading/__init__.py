"""Tables from files and plain objects: what a file holds, and which of its columns are numbers or labels."""

from fastlmm_core.reading.columns import is_number_text, ordered_labels
from fastlmm_core.reading.declared import level_label
from fastlmm_core.reading.options import ReadOptions, parse_codes, read_options
from fastlmm_core.reading.source import Labels, Places, Source, notes_of, source_of
from fastlmm_core.reading.tables import is_text_folder, lies_hidden, read_table

__all__ = [
    "Labels",
    "Places",
    "ReadOptions",
    "Source",
    "is_number_text",
    "is_text_folder",
    "level_label",
    "lies_hidden",
    "notes_of",
    "ordered_labels",
    "parse_codes",
    "read_options",
    "read_table",
    "source_of",
]
