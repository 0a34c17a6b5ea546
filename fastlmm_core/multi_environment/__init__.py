"""Genotypes in environments: two-way tables of means and what is read from them."""
