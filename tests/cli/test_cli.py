"""The command line: version at once, one clear line and status 2 on bad input."""

import json
import re
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fastlmm_core import _version, datasets, lmm
from fastlmm_core.cli import FORMATS, main
from fastlmm_core.compiling import NOTICE, QUIET, compilation_notice
from fastlmm_core.table_formats import WRITERS


def failed(capsys, *arguments):
    """The single line on standard error of a call that must end with status 2."""
    assert main(list(arguments)) == 2
    lines = error_lines(capsys.readouterr().err)
    assert len(lines) == 1, lines
    assert lines[0].startswith("fastlmm: error: ")
    return lines[0]


def error_lines(text):
    """Lines on standard error, without the notice of a cold cache."""
    return [line for line in text.splitlines() if line != NOTICE]


def test_version_imports_nothing_heavy():
    code = (
        "import sys\nfrom fastlmm_core.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'numba', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"fastlmm {_version.__version__}\n"


def test_argparse_errors_have_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "only-a-file.csv"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["fit", "a.csv", "y ~ x", "--ref", "A", "--ref", "B"], "argument --ref: is given twice"),
        (
            ["batch", "a.csv", "~ x", "--by", "t", "--out", "o", "--traits", "y", "--trait", "z"],
            "argument --traits: is given twice; several stand in one, with commas",
        ),
    ],
)
def test_an_option_does_not_replace_an_earlier_one(capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_bad_requests(tmp_path, capsys):
    missing = failed(capsys, "run", str(tmp_path / "none.json"))
    assert "cannot be read" in missing
    (tmp_path / "r.json").write_text('{"data": ')
    assert "is not JSON" in failed(capsys, "run", str(tmp_path / "r.json"))
    (tmp_path / "r.json").write_text(json.dumps({"data": {"y": [1]}, "formula": "y ~ 1", "methd": "ML"}))
    assert "no key 'methd'; nearest: 'method'" in failed(capsys, "run", str(tmp_path / "r.json"))


BIB = str(datasets.path("cochran_bib"))
OATS = str(datasets.path("oats"))
KFERT = str(datasets.path("cochrancox_kfert"))


def printed(capsys, *arguments):
    assert main(list(arguments)) == 0
    captured = capsys.readouterr()
    assert error_lines(captured.err) == []
    return captured.out


def test_fit_prints_summary_means_and_contrasts(capsys):
    out = printed(
        capsys,
        "fit",
        BIB,
        "yield ~ gen + (1|loc)",
        "--emmeans",
        "gen",
        "--contrasts",
        "pairwise",
        "--adjust",
        "none",
    )
    assert "REML criterion at convergence: 253.6" in out
    means = next(line.split() for line in out.splitlines() if line.startswith(" G01 "))
    assert means[:4] == ["G01", "34.171", "2.497", "38.32"]
    assert [line.split()[3:8] for line in out.splitlines() if "G01 - G02" in line] == [
        ["5.131", "3.416", "32.65", "1.502", "0.1427"]
    ]


def test_quoted_numbers_of_the_potash_file_are_levels(capsys):
    out = printed(capsys, "fit", KFERT, "yield ~ K2O_lbac + rep", "--emmeans", "K2O_lbac", "--anova")
    rows = [line.split() for line in out.splitlines() if line.startswith(" 36 ")]
    assert rows == [["36", "7.9167", "0.1207", "8", "7.6384", "8.1949"]]
    assert "Type III tests of the terms (residual df):" in out


def test_factor_option_makes_levels_of_numbers(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("rate,y\n" + "".join(f"{r},{r % 7 + k / 10}\n" for r in (5, 10, 20) for k in range(3)))
    out = printed(capsys, "fit", str(path), "y ~ rate", "--factor", "rate", "--emmeans", "rate")
    assert "rate10" in out and "rate20" in out
    assert "rate10" not in printed(capsys, "fit", str(path), "y ~ rate")


def test_formats_are_those_that_are_written():
    assert set(FORMATS) == set(WRITERS)


@pytest.mark.parametrize("form", FORMATS)
def test_out_writes_unrounded_tables(tmp_path, capsys, form):
    out = printed(
        capsys, "fit", OATS, "Y ~ V*N + (1|B/V)", "--emmeans", "V|N", "--contrasts", "trt.vs.ctrl", "--anova",
        "--out", str(tmp_path / "o"), "--format", form,
    )  # fmt: skip
    names = {"fixed_effects", "variance_components", "anova", "blups", "emmeans_V_by_N", "contrasts_V_by_N"}
    assert {path.stem for path in (tmp_path / "o").glob("[!.]*")} == names
    assert "6 tables written" in out
    readers = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json, "arrow": pd.read_feather}
    read = readers[form]
    means = read(tmp_path / "o" / f"emmeans_V_by_N.{form}")
    fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    want = fit.emmeans("~ V | N").to_frame()
    np.testing.assert_allclose(means["estimate"], want["estimate"], rtol=1e-9)
    np.testing.assert_allclose(means["se"], want["se"], rtol=1e-9)


def test_plot_writes_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    printed(capsys, "fit", OATS, "Y ~ V + (1|B)", "--emmeans", "V", "--plot", "--out", str(tmp_path))
    assert {p.name for p in tmp_path.glob("*.png")} == {"emmeans_V.png", "residuals.png", "blups_B.png"}


@pytest.mark.parametrize(
    "options, method, title",
    [
        ([], "satterthwaite", "Satterthwaite"),
        (["--ddf", "kenward-roger"], "kenward-roger", "Kenward-Roger"),
        (["--ddf", "kenward-roger", "--information", "observed"], "kenward-roger", "Kenward-Roger"),
        (["--ddf", "residual"], "residual", "residual"),
    ],
)
def test_printed_and_written_coefficients_have_one_df_method(tmp_path, capsys, options, method, title):
    out = printed(capsys, "fit", OATS, "Y ~ V + N + (1|B/V)", *options, "--out", str(tmp_path))
    written = pd.read_csv(tmp_path / "fixed_effects.csv")
    assert set(written["ddf"]) == {method}
    lines = out.split(f"Fixed effects ({title} df):")[1].splitlines()[2 : 2 + len(written)]
    shown = np.array([line.split()[1:5] for line in lines], float)
    # the digits printed are those of the file
    np.testing.assert_allclose(shown, written[["estimate", "se", "df", "t"]], rtol=2e-3, atol=5e-4)


def test_ml_and_df_method_are_carried_into_the_tables(capsys):
    out = printed(capsys, "fit", OATS, "Y ~ V + (1|B)", "--ml", "--ddf", "satterthwaite", "--emmeans", "V")
    assert "fit by ML" in out and "logLik" in out
    assert "Fixed effects (Satterthwaite df):" in out and "Degrees of freedom: Satterthwaite" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv", "y ~ x"], "file 'none.csv' does not exist"),
        ([OATS, "Y ~ W"], "'W' is not in the data"),
        ([OATS, "Y ~ (1|B"], "expected"),
        ([OATS, "V ~ N"], "must be numeric"),
        ([OATS, "Y ~ V + (1|B)", "--emmeans", "Q"], "'Q'"),
        ([OATS, "Y ~ V + (1|B)", "--emmeans", "V", "--contrasts", "pairwiese"], "pairwiese"),
        (
            [OATS, "Y ~ V", "--emmeans", "V", "--contrasts", "pairwise", "--adjust", "tuk"],
            "adjust='tuk' is not known",
        ),
        ([OATS, "Y ~ V", "--contrasts", "pairwise"], "add --emmeans"),
        ([OATS, "Y ~ V", "--adjust", "tukey"], "--adjust belongs to --contrasts"),
        ([OATS, "Y ~ V + (1|B)", "--ddf", "kr"], "ddf='kr' is not known; allowed"),
        ([OATS, "Y ~ V + (1|B)", "--ml", "--ddf", "kenward-roger"], "REML"),
        ([OATS, "Y ~ V", "--weights", "w"], "--weights: column 'w' is not in the data"),
        ([OATS, "Y ~ V", "--factor", "w"], "--factor: column 'w' is not in the data"),
        ([OATS, "Y ~ V", "--level", "95"], "--level 95.0 must lie between 0 and 1"),
        ([OATS, "Y ~ V + (1|B)", "--information", "fisher"], "information='fisher' is not known"),
    ],
)
def test_bad_input_is_one_clear_line(capsys, arguments, message):
    assert main(["fit", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(error_lines(captured.err)) == 1 and message in captured.err


def test_run_answers_a_request_file(tmp_path, capsys):
    request = {"data": BIB, "formula": "yield ~ gen + (1|loc)", "emmeans": [{"specs": "~ gen"}]}
    (tmp_path / "r.json").write_text(json.dumps(request))
    assert main(["run", str(tmp_path / "r.json"), "-o", str(tmp_path / "a.json")]) == 0
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["emmeans"][0]["table"][0]["emmean"] == pytest.approx(34.17116, abs=1e-5)
    assert json.loads(printed(capsys, "run", str(tmp_path / "r.json"))) == answer


def test_demo_says_what_its_analyses_show(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    out = printed(capsys, "demo", "--out", str(tmp_path / "d"))
    figure = tmp_path / "d" / "potash_blocks.png"
    assert figure.read_bytes().startswith(b"\x89PNG") and str(figure) in out
    for words in (
        "√(σ²/b)         = 0.1207", "√((σ²+σ_b²)/b)  = 0.1621", "√(2σ²/b)        = 0.1707",
        "SE 3.42 with blocks random, 3.50 with them fixed",
        "SE 2.497 with blocks random, 2.459 with them fixed",
        "inter-block information",
    ):  # fmt: skip
        assert words in out
    assert str(tmp_path / "d" / "report" / "index.html") in out
    assert len(list((tmp_path / "d" / "report" / "trials").glob("*.html"))) == 6
    for county in ("C1", "C6"):
        assert re.search(rf"^ {county} +128 ", out, re.M)
    assert not (tmp_path / "e").exists()
    assert "saved" not in printed(capsys, "demo", "--no-plot", "--out", str(tmp_path / "e"))
    assert not (tmp_path / "e").exists()


def test_demo_without_matplotlib_still_shows_its_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    out = printed(capsys, "demo", "--out", str(tmp_path))
    assert "No figure is drawn: figures need matplotlib: pip install" in out and "G13" in out
    assert main(["fit", OATS, "Y ~ V", "--plot", "--out", str(tmp_path)]) == 2
    assert "figures need matplotlib" in capsys.readouterr().err


def test_the_figure_has_the_axes_asked_for():
    from fastlmm_core.cli import demo

    ax = demo.means_figure(*demo.fit_potash())
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("Yield (tn/ac)", "K₂O (lb/ac)")
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert labels == ["36", "54", "72", "108", "144", "SE of a\ndifference"]
    assert ax.get_legend().get_title().get_text() == "blocks modelled as"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["fixed", "random"]
    plt.close(ax.figure)


def test_a_compilation_is_announced_once_and_a_loaded_kernel_is_not(monkeypatch):
    numba = pytest.importorskip("numba")
    if numba.config.DISABLE_JIT:
        pytest.skip("nothing is compiled")

    def fresh(module):
        def function(x):
            return x + 1.0

        function.__module__ = module
        return numba.njit(function)

    monkeypatch.delenv(QUIET)
    said = []
    with compilation_notice(said.append):
        fresh("elsewhere")(1.0)
        assert said == []
        kernel = fresh("fastlmm_core.kernels.sample")
        kernel(1.0)
        fresh("fastlmm_core.kernels.sample")(1.0)
    assert said == [NOTICE]
    with compilation_notice(said.append):
        kernel(2.0)
    assert said == [NOTICE]


def test_heritability_and_values_of_one_file(tmp_path, capsys):
    path = tmp_path / "alpha.csv"
    datasets.load("john_alpha").to_csv(path, index=False)
    formula = "yield ~ rep + (1|gen) + (1|rep:block)"
    arguments = [str(path), formula, "--heritability", "gen", "--values", "gen", "--out", str(tmp_path)]
    assert main(["fit", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "Heritability of gen, 24 levels" in printed and "Genotype values:" in printed
    table = pd.read_csv(tmp_path / "heritability_gen.csv").set_index("definition")["estimate"]
    assert table["cullis"] == pytest.approx(0.8091336, abs=1e-7)
    assert len(pd.read_csv(tmp_path / "genotype_values_gen.csv")) == 24


def test_values_beside_a_check_are_written_by_term(tmp_path, capsys):
    """Parents are mothers and fathers: what is printed is written too, each by its own name."""
    rng = np.random.default_rng(4)
    parents = [f"P{i}" for i in range(8)]
    crosses = pd.DataFrame([(m, f) for m in parents for f in parents if m != f], columns=["mother", "father"])
    effects = rng.normal(size=(2, 8))
    at = crosses.apply(lambda column: column.map(parents.index)).to_numpy()
    crosses["y"] = 5.0 + effects[0, at[:, 0]] + effects[1, at[:, 1]] + rng.normal(0.0, 0.5, len(crosses))
    crosses.to_csv(tmp_path / "crosses.csv", index=False)
    formula = "y ~ 1 + (1|mother) + (1|father)"
    asked = ["--values", "mother", "--values", "father", "--check", "P3", "--select", "2"]
    out = printed(capsys, "fit", str(tmp_path / "crosses.csv"), formula, *asked, "--out", str(tmp_path))
    assert out.count("Better than P3:") == 2 and out.count("Gain from selection:") == 2
    fit = lmm(formula, pd.read_csv(tmp_path / "crosses.csv"))
    for term in ("mother", "father"):
        values = fit.genotype_values(term)
        candidates = values.without("P3")
        for file, table in {
            f"against_{term}_P3": values.against("P3"), f"genotype_values_{term}": candidates,
            f"best_{term}": candidates.best(2), f"selection_{term}": candidates.select(2),
        }.items():  # fmt: skip
            written = pd.read_csv(tmp_path / f"{file}.csv")
            own = table.to_frame().reset_index(drop=True)
            pd.testing.assert_frame_equal(written, own, check_dtype=False, rtol=1e-12)


def test_a_check_need_not_be_the_name_of_a_file(tmp_path, capsys):
    trial = datasets.load("trials").query("trial == 'T1'").replace({"gen": {"CHECK": "../check 1/2"}})
    trial.to_csv(tmp_path / "trial.csv", index=False)
    arguments = [str(tmp_path / "trial.csv"), "yield ~ rep + (1|gen)", "--values", "gen"]
    out = tmp_path / "out"
    printed(capsys, "fit", *arguments, "--check", "../check 1/2", "--out", str(out))
    table = pd.read_csv(out / "against_gen_check_1_2.csv")
    assert len(table) == 23 and "../check 1/2" not in set(table["gen"])


def test_selecting_none_is_refused(capsys):
    arguments = ["fit", OATS, "Y ~ N + (1|V)", "--select", "0"]
    assert "--select belongs to --values GROUP" in failed(capsys, *arguments)
    assert "--select 0: how many" in failed(capsys, *arguments, "--values", "gen")
    assert "--select -2: how many" in failed(capsys, *arguments[:-1], "-2", "--values", "gen")


def test_the_lowest_are_the_best_where_it_says_so(tmp_path, capsys):
    """The ranks of the negated response, in the same order."""
    turned = datasets.load("cochran_bib")
    turned["yield"] *= -1.0
    turned.to_csv(tmp_path / "t.csv", index=False)
    tables = []
    for file, best in ((BIB, ["--best", "lowest"]), (str(tmp_path / "t.csv"), [])):
        out = tmp_path / f"o{len(tables)}"
        printed(capsys, "fit", file, "yield ~ (1|gen) + (1|loc)", "--values", "gen", "--select", "3", *best,
                "--out", str(out))  # fmt: skip
        tables.append([pd.read_csv(out / f"{name}.csv") for name in ("genotype_values_gen", "best_gen")])
    for found, expected in zip(*tables, strict=True):
        assert found["gen"].tolist() == expected["gen"].tolist()
        for name in [name for name in found if "rank" in name or name == "p_best"]:
            np.testing.assert_allclose(found[name], expected[name], atol=0.02)  # of draws
        np.testing.assert_allclose(found["estimate"], -expected["estimate"], rtol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--best", "lowest"], "--best belongs to --gxe or --values GROUP"),
        (["--axes", "2"], "--axes belongs to --gxe"),
        (["--scale", "none"], "--scale belongs to --gxe"),
        (["--common"], "--common belongs to --gxe"),
        (["--format", "csv"], "--format belongs to --out DIR"),
    ],
)
def test_an_option_without_effect_is_refused(capsys, options, message):
    assert message in failed(capsys, "fit", BIB, "yield ~ (1|gen)", *options)


def test_tables_of_an_earlier_analysis_do_not_stay(tmp_path, capsys):
    """Those that the command wrote itself; files of others, and of gxe, are left alone."""
    out = tmp_path / "o"
    out.mkdir()
    (out / "emmeans_mine.csv").write_text("mine")
    command = ["fit", OATS, "Y ~ V*N + (1|B/V)", "--out", str(out)]
    printed(capsys, *command, "--emmeans", "V", "--anova")
    assert main([*command, "--emmeans", "N"]) == 0
    notes = error_lines(capsys.readouterr().err)
    assert len(notes) == 1 and "removed from" in notes[0] and "anova.csv, emmeans_V.csv" in notes[0]
    kept = {path.stem for path in out.glob("[!.]*")}
    assert kept == {"fixed_effects", "variance_components", "blups", "emmeans_N", "emmeans_mine"}
    (out / "emmeans_N.csv").write_text("edited")
    assert main([*command, "--format", "json"]) == 0
    assert "removed" not in capsys.readouterr().err
    assert (out / "emmeans_N.csv").read_text() == "edited"  # nobody else has it
    assert (out / "blups.csv").exists() and (out / "blups.json").exists()


def test_infinite_df_are_told_in_json(tmp_path, capsys):
    out = ["--out", str(tmp_path), "--format", "json"]
    printed(capsys, "fit", OATS, "Y ~ V + (1|B)", "--ddf", "asymptotic", *out)
    rows = json.loads((tmp_path / "fixed_effects.json").read_text())
    assert {row["df"] for row in rows} == {"Inf"}


def test_a_report_is_a_page(capsys):
    assert "end the name in .html" in failed(capsys, "fit", OATS, "Y ~ V + (1|B)", "--report", "x.pdf")
