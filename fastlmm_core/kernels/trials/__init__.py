"""Runs of trials without the interpreter: design, equations, fit, inference and tables of each unit."""
