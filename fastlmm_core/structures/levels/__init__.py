"""Precisions of the levels of a random term: what stands right of the bar."""
