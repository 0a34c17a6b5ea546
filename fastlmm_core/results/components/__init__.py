"""Variance components, correlations and functions of them."""
