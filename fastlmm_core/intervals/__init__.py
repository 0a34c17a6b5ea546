"""Intervals and tests from the likelihood and from refits: profiles, bootstrap, tests at a boundary."""
