"""Estimated marginal means: grids, tables, contrasts and their families, comparisons, joint tests."""
