"""The guard around pyarrow under its former name; it lives in `reading.parquet`."""

from fastlmm_core.reading.parquet import requires_pyarrow

__all__ = ["requires_pyarrow"]
