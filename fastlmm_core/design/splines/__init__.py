"""Splines: regression bases as columns, penalized ones as random terms."""
