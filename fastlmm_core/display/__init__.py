"""How results are shown: tables as text and HTML, frames like them, objects that say what they are."""
