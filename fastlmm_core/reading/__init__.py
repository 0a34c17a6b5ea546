"""Tables from files and plain objects: what a file holds, and which of its columns are numbers or labels."""

from .columns import is_number_text, ordered_labels
from .declared import level_label
from .options import ReadOptions, parse_codes, read_options
from .source import Labels, Places, Source, notes_of, source_of
from .tables import is_text_folder, read_table

__all__ = [
    "Labels",
    "Places",
    "ReadOptions",
    "Source",
    "is_number_text",
    "is_text_folder",
    "level_label",
    "notes_of",
    "ordered_labels",
    "parse_codes",
    "read_options",
    "read_table",
    "source_of",
]
