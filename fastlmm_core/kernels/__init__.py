"""Compiled arithmetic: functions over plain arrays, NumPy and Numba only.

A kernel never validates; the layers above pass contiguous arrays of the dtypes named in each docstring.
"""
