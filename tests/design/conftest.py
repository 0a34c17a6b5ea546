from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture(scope="session")
def table():
    """The table of reference/generate.R: cell a2:hi is empty; the levels of b are lo, hi."""
    frame = pd.read_csv(Path(__file__).parent / "reference" / "table.csv")
    return frame.assign(b=pd.Categorical(frame["b"], categories=["lo", "hi"]))
