"""Puts this directory on the import path, so that every test finds `dense_reference` and `random_designs`."""
