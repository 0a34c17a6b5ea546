"""Covariance structures on the command line: the same figures as `lmm`, and one line for what is wrong."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Markers, Pedigree, lmm, single_step
from fastlmm_core.cli import main

LEVELS = [f"g{i:02d}" for i in range(10)]
MARKERS = np.random.default_rng(8).integers(0, 3, size=(10, 12)).astype(float)
A = np.cov(MARKERS) + 0.5 * np.eye(10)
FORMULA = "yield ~ env + (1 | vm(gen, A))"


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    rows = [
        (trial, env, gen, rng.normal(10 + i % 4, 1 if env == "E1" else 2))
        for trial in ("t1", "t2") for env in ("E1", "E2") for i, gen in enumerate(LEVELS) for _ in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["trial", "env", "gen", "yield"])


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("structures")
    row, col = np.tril_indices(10)
    names, inverse = np.array(LEVELS), np.linalg.inv(A)
    frames = {
        "trial.csv": table,
        "square.csv": pd.DataFrame(A, index=pd.Index(LEVELS, name="gen"), columns=LEVELS).reset_index(),
        "entries.csv": pd.DataFrame({"row": names[row], "col": names[col], "value": A[row, col]}),
        "inverse.csv": pd.DataFrame({"row": names[row], "col": names[col], "value": inverse[row, col]}),
        "markers.csv": pd.DataFrame(MARKERS, columns=[f"m{k}" for k in range(12)]).assign(gen=LEVELS)
        .set_index("gen").reset_index(),
        "pedigree.csv": pd.DataFrame({"id": LEVELS, "sire": [None] * 4 + ["g00"] * 6,
                                      "dam": [None] * 4 + ["g01"] * 6}),
        "names.csv": pd.DataFrame({"a": LEVELS, "b": [None] * 4 + ["g00"] * 6,
                                   "c": [None] * 4 + ["g01"] * 6}),
        "numbers.csv": pd.DataFrame({"a": range(5), "b": range(5)}),
    }  # fmt: skip
    for name, frame in frames.items():
        frame.to_csv(folder / name, index=False)
    return folder


def fitted(capsys, folder, *arguments):
    """Variance components that `fastlmm fit` writes, and what it prints."""
    out = folder / "out"
    assert main(["fit", str(folder / "trial.csv"), FORMULA, "--out", str(out), *arguments]) == 0
    return pd.read_csv(out / "variance_components.csv"), capsys.readouterr()


def given(folder, kind, name):
    return {"A": {"type": kind, "file": str(folder / name)}}


@pytest.mark.parametrize(
    "source, kind, file",
    [
        ("square.csv", "covariance", "square.csv"),
        ("entries.csv", "covariance", "square.csv"),
        ("inverse:inverse.csv", "covariance", "square.csv"),
        ("markers.csv", "markers", "markers.csv"),
        ("pedigree.csv", "pedigree", "pedigree.csv"),
        ("names.csv", "pedigree", "pedigree.csv"),
        ("pedigree:names.csv", "pedigree", "pedigree.csv"),
    ],
)
def test_relationships_are_found_by_looking_or_said(capsys, folder, table, source, kind, file):
    said, colon, name = source.rpartition(":")
    components, printed = fitted(capsys, folder, "--relationship", f"A={said}{colon}{folder / name}")
    expected = lmm(FORMULA, table, relationships=given(folder, kind, file)).variance_components
    assert np.allclose(components["estimate"], expected["estimate"], rtol=1e-6)
    assert (f"is read as {kind}" in printed.err) is not said.endswith(kind) or said == "inverse"
    assert bool(said) is ("is read as" not in printed.err)
    assert "vm(gen, A)" in printed.out


def test_residual_and_held_parameters(capsys, folder, table):
    options = ["--relationship", f"A=covariance:{folder / 'square.csv'}"]
    components, printed = fitted(capsys, folder, *options, "--residual", "units | env")
    expected = lmm(FORMULA, table, relationships={"A": (A, LEVELS)}, residual="units | env")
    assert np.allclose(components["estimate"], expected.variance_components["estimate"], rtol=1e-6)
    assert "Residual|env E2" in printed.out
    components, printed = fitted(capsys, folder, *options, "--hold", "Residual=2.5", "--hold",
                                 "vm(gen, A)=[[0.75]]")  # fmt: skip
    assert components["estimate"].tolist() == pytest.approx([0.75, 2.5], rel=1e-12)
    assert "Held at given values: Residual, vm(gen, A)." in printed.out


def test_batch_takes_the_same_options(capsys, folder, table):
    out = folder / "results"
    status = main(["batch", str(folder / "trial.csv"), FORMULA, "--by", "trial", "--blups", "all", "--quiet",
                   "--relationship", f"A=covariance:{folder / 'square.csv'}", "--residual", "units | env",
                   "--hold", "vm(gen, A)=0.5", "--out", str(out)])  # fmt: skip
    assert status == 0
    found = pd.read_parquet(out / "fits")
    fit = lmm(FORMULA, table[table["trial"] == "t1"], relationships={"A": (A, LEVELS)},
              residual="units | env", fixed_parameters={"vm(gen, A)": 0.5})  # fmt: skip
    assert found["criterion"][0] == pytest.approx(fit.criterion, rel=1e-8)
    assert found["var_vm(gen, A)"].tolist() == pytest.approx([0.5, 0.5], rel=1e-12)


def test_a_file_of_asreml_has_its_names_beside_it(capsys, folder, table):
    row, col = np.tril_indices(10)
    inverse = np.linalg.inv(A)
    lines = [f"{i + 1} {j + 1} {inverse[i, j]:.17g}" for i, j in zip(row, col, strict=True)]
    (folder / "own.giv").write_text("\n".join(lines))
    source = f"A=inverse(levels={' '.join(LEVELS)}):{folder / 'own.giv'}"
    components, _ = fitted(capsys, folder, "--relationship", source)
    expected = lmm(FORMULA, table, relationships={"A": (A, LEVELS)}).variance_components
    assert np.allclose(components["estimate"], expected["estimate"], rtol=1e-6)
    arguments = ["fit", str(folder / "trial.csv"), FORMULA, "--relationship", f"A={folder / 'own.giv'}"]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert "is read as inverse" in printed and "rows by number, 1 to 10; give their names" in printed


def test_options_of_a_relationship(capsys, folder, table):
    """What `Pedigree` and `Markers` take, a command takes too: lines are no F1, a gap is filled."""
    lines = pd.DataFrame({"id": LEVELS, "sire": ["P0", "P1"] * 5, "dam": "P2", "f": 6})
    lines.to_csv(folder / "lines.csv", index=False)
    source = f"A=pedigree(selfing=f, check_sex=false):{folder / 'lines.csv'}"
    components, _ = fitted(capsys, folder, "--relationship", source)
    pedigree = Pedigree(lines, selfing="f", check_sex=False)
    expected = lmm(FORMULA, table, relationships={"A": pedigree}).variance_components
    assert np.allclose(components["estimate"], expected["estimate"], rtol=1e-6)
    named = f"A=pedigree(columns=id dam sire, selfing=f):{folder / 'lines.csv'}"
    turned, _ = fitted(capsys, folder, "--relationship", named)
    assert np.allclose(turned["estimate"], expected["estimate"], rtol=1e-6)

    gappy = pd.read_csv(folder / "markers.csv", index_col=0)
    gappy.iloc[3, 2] = np.nan
    gappy.to_csv(folder / "gappy.csv")
    source = f"A=markers(impute=mean, ridge=0.01):{folder / 'gappy.csv'}"
    components, _ = fitted(capsys, folder, "--relationship", source)
    markers = Markers(gappy, impute="mean", ridge=0.01)
    expected = lmm(FORMULA, table, relationships={"A": markers}).variance_components
    assert np.allclose(components["estimate"], expected["estimate"], rtol=1e-6)


def test_single_step_is_made_of_two_others(capsys, folder, table):
    """H of a pedigree and markers of some of its lines, which are in no formula by themselves."""
    pd.read_csv(folder / "markers.csv").iloc[3:8].to_csv(folder / "typed.csv", index=False)
    parts = [f"A0=pedigree:{folder / 'pedigree.csv'}", f"M=markers:{folder / 'typed.csv'}"]
    options = [part for own in ("A=single_step(pedigree=A0, genomic=M, share=0.2, tune=true)", *parts)
               for part in ("--relationship", own)]  # fmt: skip
    components, printed = fitted(capsys, folder, *options)
    pedigree = Pedigree(pd.read_csv(folder / "pedigree.csv"))
    markers = Markers(pd.read_csv(folder / "typed.csv"))
    H = single_step(pedigree, markers, share=0.2, tune=True)
    expected = lmm(FORMULA, table, relationships={"A": H}).variance_components
    assert np.allclose(components["estimate"], expected["estimate"], rtol=1e-6)
    assert "read as" not in printed.err
    out = folder / "single"
    command = ["batch", str(folder / "trial.csv"), FORMULA, "--by", "trial", "--quiet", "--out", str(out)]
    assert main([*command, *options]) == 0
    fit = lmm(FORMULA, table[table["trial"] == "t1"], relationships={"A": H})
    assert pd.read_parquet(out / "fits")["criterion"][0] == pytest.approx(fit.criterion, rel=1e-8)
    assert main([*command, *options, "--relationship", f"B=markers:{folder / 'typed.csv'}"]) == 2
    assert "relationship 'B' is in no formula" in capsys.readouterr().err


def test_genetic_groups(capsys, folder, table):
    rows = pd.read_csv(folder / "pedigree.csv")
    rows["sire"] = rows["sire"].fillna("N")
    rows["dam"] = rows["dam"].fillna("S")
    rows.to_csv(folder / "grouped.csv", index=False)
    source = f"A=pedigree(groups=N S, group_variance=0.5):{folder / 'grouped.csv'}"
    components, printed = fitted(capsys, folder, "--relationship", source)
    pedigree = Pedigree(rows, groups=["N", "S"], group_variance=0.5)
    expected = lmm(FORMULA, table, relationships={"A": pedigree}).variance_components
    assert np.allclose(components["estimate"], expected["estimate"], rtol=1e-6)
    assert "founder" not in printed.err
    source = f"A=pedigree(groups=N S):{folder / 'grouped.csv'}"
    components, printed = fitted(capsys, folder, "--relationship", source)
    pedigree = Pedigree(rows, groups=["N", "S"])
    expected = lmm(FORMULA, table, relationships={"A": pedigree}).variance_components
    assert np.allclose(components["estimate"], expected["estimate"], rtol=1e-6)
    assert "gen.N" in printed.out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--relationship", "A=single_step(pedigree=P, genomic=M):{folder}/markers.csv"], "has no file"),
        (["--relationship", "A=single_step"], "A'] needs 'pedigree' and 'genomic', each the name of"),
        (["--relationship", "A=single_step(pedigree=P)",
          "--relationship", "P=pedigree:{folder}/pedigree.csv"], "needs 'pedigree' and 'genomic', each the"),
        (["--relationship", "A=single_step(pedigree=P, genomic=N)",
          "--relationship", "P=pedigree:{folder}/pedigree.csv"], ".genomic: relationship 'N' is not given"),
        (["--relationship", "A=single_step(pedigree=M, genomic=P)",
          "--relationship", "P=pedigree:{folder}/pedigree.csv",
          "--relationship", "M=markers:{folder}/markers.csv"], "A']: give a Pedigree and Markers"),
        (["--relationship", "A=single_step(pedigree=P, genomic=M, shares=0.1)",
          "--relationship", "P=pedigree:{folder}/pedigree.csv",
          "--relationship", "M=markers:{folder}/markers.csv"], "has the key 'shares'; nearest: 'share'"),
        (["--relationship", "A=single_step(pedigree=P, genomic=M, share=2)",
          "--relationship", "P=pedigree:{folder}/pedigree.csv",
          "--relationship", "M=markers:{folder}/markers.csv"], "A']: share=2 must lie between 0 and 1"),
        (["--relationship", "A=pedigree(group_variance=2):{folder}/pedigree.csv"], "name them as they stand"),
        (["--relationship", "A=pedigree(selfing=f)"], "there is no file 'pedigree(selfing=f)'"),
        (["--relationship", "A=pedigree(selfing):{folder}/pedigree.csv"], "'selfing' is no OPTION=VALUE"),
        (["--relationship", "A=pedigree(selfing=a, selfing=b):{folder}/pedigree.csv"], "'selfing' twice"),
        (["--relationship", "A=pedigree(self=f):{folder}/pedigree.csv"], "has the key 'self'"),
        (["--relationship", "A"], "write NAME=FILE"),
        (["--relationship", "A="], "write NAME=FILE"),
        (["--relationship", "A=nowhere.csv"], "there is no file 'nowhere.csv'"),
        (["--relationship", "A={folder}/numbers.csv"], "is neither a pedigree"),
        (["--relationship", "B={folder}/square.csv"], "relationship 'A' is not given"),
        (["--relationship", "a b=covariance:{folder}/square.csv"], "must be a word"),
        (["--relationship", "A=covariance:{folder}/square.csv"] * 2, "names 'A' twice"),
        (["--hold", "Residual"], "write NAME=VALUE"),
        (["--hold", "Residual=much"], "neither a number nor a matrix"),
        (["--hold", "Residual=1", "--hold", "Residual=2"], "names 'Residual' twice"),
        (["--start", "Residual"], "--start Residual: write NAME=VALUE"),
        (["--relationship", "A=covariance:{folder}/square.csv", "--start", "x=2"], "no term of the model"),
        (["--relationship", "A=covariance:{folder}/square.csv", "--hold", "rep=1"], "no term of the model"),
        (["--relationship", "A=covariance:{folder}/square.csv", "--residual", "units | farm"], "'farm'"),
        (["--relationship", "A=covariance:{folder}/square.csv", "--residual", "ar1(env"], "character"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, folder, arguments, words):
    arguments = [text.format(folder=folder) for text in arguments]
    assert main(["fit", str(folder / "trial.csv"), FORMULA, *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "note:" not in line]
    assert len(lines) == 1
    assert words in lines[0]


def test_what_a_pedigree_assumes_is_said(folder, capsys):
    """Warnings of Python are not shown here: parents without a row become founders in a note."""
    rows = "".join(f"{name},S{k % 2},\n" for k, name in enumerate(LEVELS))
    (folder / "parents.csv").write_text("id,sire,dam\n" + rows)
    _, said = fitted(capsys, folder, "--relationship", f"A=pedigree:{folder / 'parents.csv'}")
    notes = [line for line in said.err.splitlines() if line.startswith("fastlmm: note: ")]
    assert len(notes) == 1 and "'S0', 'S1'" in notes[0]


def test_codes_of_missing_values_hold_for_markers(folder, capsys):
    coded = pd.read_csv(folder / "markers.csv")
    coded.iloc[3, 4] = -9.0
    coded.to_csv(folder / "coded.csv", index=False)
    source = ["--relationship", f"A=markers:{folder / 'coded.csv'}", "--na", "-9"]
    assert main(["fit", str(folder / "trial.csv"), FORMULA, *source]) == 2
    assert "1 genotypes are missing, the first is marker 'm3' of 'g03'" in capsys.readouterr().err
    plain = ["--relationship", f"A=markers:{folder / 'markers.csv'}"]
    expected, _ = fitted(capsys, folder, *plain)
    zeros, _ = fitted(capsys, folder, *plain, "--na", "0")  # a genotype, whatever it is among yields
    pd.testing.assert_frame_equal(zeros, expected)


@pytest.mark.parametrize("more", [[], ["--second-stage", "mean ~ 1 + (1 | gen)", "--emmeans", "gen"]])
def test_a_relationship_that_no_formula_names_is_refused(folder, capsys, tmp_path, more):
    source = ["--relationship", f"B={folder / 'square.csv'}", "--relationship", f"A={folder / 'square.csv'}"]
    command = ["batch", "--by", "trial", "--out", str(tmp_path / "o"), *more] if more else ["fit"]
    assert main([command[0], str(folder / "trial.csv"), FORMULA, *source, *command[1:]]) == 2
    assert "relationship 'B' is in no formula: write vm(gen, B)" in capsys.readouterr().err
