"""Measure pyreml on one case and print one line of JSON: ``python measure_pyreml.py CASE TABLE RELATED``."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from importlib.metadata import version
from typing import Any

import gauges
import numpy as np
import pandas as pd


def progeny(table: pd.DataFrame, pedigree: pd.DataFrame) -> Any:
    """Animal model with a residual variance of every block."""
    from pyreml import A_pedigree, MixedModel, Random, Residual, prepare_pedigree  # type: ignore[import-not-found]

    ordered = prepare_pedigree(pedigree[["ID", "SIRE", "DAM"]])
    random = Random(
        formula="1", unit="ID", right_hand="str", covariance=A_pedigree(ordered),
        matrix_index=ordered["id"].tolist(),
    )  # fmt: skip
    residual = Residual(right_hand="het", het_formula="1 + C(BLOC)")
    return MixedModel.from_dataframe(
        data=table, response="height", fixed="1 + C(BLOC)", random=random, residual=residual, device="cpu"
    )


def lines(table: pd.DataFrame, markers: pd.DataFrame) -> Any:
    """One variance over G, as `structures.genomic` makes it."""
    from pyreml import MixedModel, Random

    M = markers.to_numpy(float)
    share = M.mean(axis=0) / 2.0
    Z = M - 2.0 * share
    G = Z @ Z.T / (2.0 * np.sum(share * (1.0 - share))) + 0.01 * np.eye(len(M))
    random = Random(
        formula="1", unit="gen", right_hand="str", covariance=G, matrix_index=markers.index.tolist()
    )
    return MixedModel.from_dataframe(data=table, response="y", fixed="1", random=random, device="cpu")


def main(case: str, table_path: str, related_path: str) -> None:
    warnings.simplefilter("ignore")
    table = pd.read_csv(table_path)
    build = progeny if case.startswith("progeny") else lines
    related = pd.read_csv(related_path, index_col=0 if build is lines else None)

    def call() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            model = build(table, related)
            model.fit()
        return model

    call()  # what PyTorch loads and compiles
    model, answer = gauges.repeated(call, budget=1.0)
    variance = float(np.ravel(model.random[0].variance["sigma"])[0])
    answer |= {"version": version("pyreml"), "rows": len(table), "variances": [variance]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:4])
