"""Without pyarrow every reader and writer of Parquet says what to install."""

import sys

import pandas as pd
import pytest

from fastlmm_core.batch import sources
from fastlmm_core.batch.folder import store
from fastlmm_core.cli.table_files import write_tables
from fastlmm_core.errors import DependencyError
from fastlmm_core.means import pair_streams
from fastlmm_core.reading import read_table
from fastlmm_core.reading.parquet import requires_pyarrow

FRAME = pd.DataFrame({"x": [1.0, 2.0]})
USES = {
    "table read": lambda folder: read_table(folder / "there.parquet"),
    "dataset read": lambda folder: sources.open_dataset(folder),
    "part written": lambda folder: store.parquet_bytes(FRAME),
    "pairs written": lambda folder: pair_streams.write_parquet(iter([FRAME]), folder / "new.parquet"),
    "tables written": lambda folder: write_tables({"new": FRAME}, folder, "parquet", "fit"),
}


@pytest.mark.parametrize("use", USES)
def test_what_is_missing_is_named(use, tmp_path, monkeypatch):
    FRAME.to_parquet(tmp_path / "there.parquet")
    for name in [m for m in sys.modules if m.partition(".")[0] in ("pyarrow", "fastparquet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with pytest.raises(DependencyError, match="pip install"):
        USES[use](tmp_path)
    assert not (tmp_path / "new.parquet").exists()


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), requires_pyarrow():
        1 / 0  # noqa: B018
