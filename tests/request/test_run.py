"""The request document: answers agree with R (reference/generate.R says how), bad requests are named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Markers, Pedigree, datasets, lmm, run, single_step
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.request import plain

R = json.loads((Path(__file__).parent / "reference" / "reference.json").read_text())
SLEEP = str(datasets.path("sleepstudy"))
OATS = str(datasets.path("oats"))


def answered(request):
    """The answer, after a round trip through JSON text."""
    return json.loads(json.dumps(run(request), allow_nan=False))


def oats_object(**more):
    frame = datasets.load("oats")
    nitro = [float(label[1:4]) for label in frame["N"]]
    return {**{name: frame[name].tolist() for name in frame}, "nitro": nitro, **more}


def rows_agree(got, want, labels, names, rtol=1e-5):
    """Rows of `got` in the order of R's; R's column names are given by `names`."""
    assert [[str(row[k]) for k in labels] for row in got] == [[str(row[k]) for k in labels] for row in want]
    for g, w in zip(got, want, strict=True):
        for ours, theirs in names.items():
            if w[theirs] is None:
                assert g[ours] is None and g["nonEst"] is True
            else:
                assert g[ours] == pytest.approx(w[theirs], rel=rtol, abs=rtol)


MEANS = {"emmean": "emmean", "SE": "SE", "df": "df", "lower": "lower", "upper": "upper"}
CONTRASTS = {"estimate": "estimate", "SE": "SE", "df": "df", "t": "t.ratio", "p": "p.value", "lower": "lower",
             "upper": "upper"}  # fmt: skip


def test_the_offset_of_new_rows_is_numbers_or_a_column():
    frame = datasets.load("sleepstudy").assign(o=lambda own: 2.0 * own["Days"] + 1.0)
    request = {
        "data": frame.to_dict("list"), "formula": "Reaction ~ Days + (1|Subject)", "offset": "o",
    }  # fmt: skip
    new = {"Days": [3.0, 4.0], "o": [7.0, 10.0]}
    blocks = [{"newdata": new, "random": False, "offset": own} for own in ("o", [7.0, 10.0], [0.0, 0.0])]
    answer = run({**request, "predict": blocks})
    column, listed, none = (own["prediction"] for own in answer["predict"])
    beta = answer["fit"]["beta"]
    assert none == pytest.approx([beta["(Intercept)"] + x * beta["Days"] for x in (3.0, 4.0)])
    assert column == listed == pytest.approx([none[0] + 7.0, none[1] + 10.0])
    for block, words in (
        ({"newdata": new, "offset": "oo"}, "offset='oo' is no column of newdata"),
        ({"offset": [1.0]}, "belongs to newdata"),
        ({"newdata": new, "random": False, "offset": [1.0]}, "the new data have 2 rows"),
    ):
        with pytest.raises((OptionError, DataError), match=words):
            run({**request, "predict": [block]})


def test_the_covariance_of_the_coefficients_may_be_left_out():
    request = {"data": SLEEP, "formula": "Reaction ~ Days + (1|Subject)"}
    whole, short = run(request)["fit"], run({**request, "vcov": False})["fit"]
    assert set(whole) - set(short) == {"vcov"} and short == {key: whole[key] for key in short}


def test_the_formula_of_the_answer_is_the_whole_model():
    """Asked again without the field trend it is the same fit."""
    field = datasets.load("besag_field")
    field = field[field["county"].isin(["C1", "C2"])]
    asked = {"data": field.to_dict("list"), "formula": "yield ~ (1|gen)"}
    fit = answered({**asked, "field_trend": "ps(row, col, nseg=(4, 6)) | county"})["fit"]
    assert "+ county*row*col +" in fit["formula"] and len(fit["beta"]) == 8
    again = answered({**asked, "formula": fit["formula"]})["fit"]
    assert again["formula"] == fit["formula"]
    assert again["criterion"] == pytest.approx(fit["criterion"], abs=1e-8)


def test_fit_ranef_and_kr_sections():
    formula = "Reaction ~ Days + (Days||Subject)"
    answer = answered(
        {"data": SLEEP, "formula": formula, "ranef": True, "kr": True, "satterthwaite": True, "head": 3}
    )
    want, fit = R["slope"], answer["fit"]
    assert fit["criterion"] == pytest.approx(want["criterion"], abs=1e-6)
    assert fit["theta"] == pytest.approx(want["theta"], rel=1e-5)
    assert (fit["nobs"], fit["rank"], fit["npar"], fit["method"]) == (180, 2, 5, "REML")
    assert [(v["var1"], v["var2"]) for v in fit["varcomp"]] == [
        ("(Intercept)", None),
        ("Days", None),
        (None, None),
    ]
    for got, ref in zip(fit["varcomp"], want["varcomp"], strict=True):
        assert [got["vcov"], got["sdcor"]] == pytest.approx([ref["vcov"], ref["sdcor"]], rel=1e-5)
    assert len(fit["fitted_head"]) == len(fit["residual_head"]) == 3
    assert fit["fitted_head"][0] + fit["residual_head"][0] == pytest.approx(249.56)
    group = answer["ranef"]["Subject"]
    assert group["levels"] == want["levels"] and group["columns"] == ["(Intercept)", "Days"]
    np.testing.assert_allclose(group["values"], want["modes"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(group["condvar_diag"], want["condvar"], rtol=1e-5)
    assert (np.array(group["pev_diag"]) > np.array(group["condvar_diag"])).all()
    kr = answer["kr"]
    assert kr["names"] == ["(Intercept)", "Days"]
    assert list(kr["se"].values()) == pytest.approx(want["kr_se"], rel=1e-5)
    assert list(kr["ddf_per_coef"].values()) == pytest.approx(want["kr_df"], rel=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(kr["vcov_adj"])), want["kr_se"], rtol=1e-5)
    assert set(answer["satterthwaite"]["df"]) == {"(Intercept)", "Days"}


def test_an_empty_cell_is_not_estimable_and_null():
    data = oats_object()
    keep = [i for i in range(72) if (data["V"][i], data["N"][i]) != ("Marvellous", "N0.4cwt")]
    request = {
        "data": {name: [values[i] for i in keep] for name, values in data.items()},
        "formula": "Y ~ V*N + (1|B)",
        "emmeans": [{"specs": "~ V*N"}],
        "contrasts": [{"specs": "~ V | N", "method": "pairwise", "adjust": "tukey"}],
    }
    answer, want = answered(request), R["empty_cell"]
    assert answer["fit"]["dropped_columns"] == [want["dropped"]]
    assert want["dropped"] not in answer["fit"]["beta"]
    rows_agree(answer["emmeans"][0]["table"], want["means"], ["V", "N"], MEANS)
    got = answer["contrasts"][0]["table"]
    rows_agree(got, want["contrasts"], ["contrast", "N"], CONTRASTS)
    assert sum(row.get("nonEst", False) for row in got) == 2


def test_slopes_and_covariate_values():
    request = {
        "data": oats_object(),
        "formula": "Y ~ V*nitro + (1|B/V)",
        "emtrends": [{"specs": "~ V", "var": "nitro", "method": "satterthwaite"}],
        "emmeans": [{"specs": "~ V", "at": {"nitro": 0.6}, "method": "satterthwaite"}],
        "contrasts": [
            {
                "specs": "~ V",
                "var": "nitro",
                "df_method": "satterthwaite",
                "method": "trt.vs.ctrl",
                "adjust": "dunnettx",
            },
            {
                "specs": "~ V*nitro",
                "at": {"nitro": [0, 0.6]},
                "df_method": "satterthwaite",
                "method": "interaction",
                "interaction": ["pairwise", "consec"],
            },
        ],
    }
    answer, want = answered(request), R["slopes"]
    rows_agree(answer["emtrends"][0]["table"], want["trends"], ["V"], {**MEANS, "emmean": "nitro.trend"})
    rows_agree(answer["emmeans"][0]["table"], want["at"], ["V"], MEANS)
    rows_agree(answer["contrasts"][0]["table"], want["contrasts"], ["contrast"], CONTRASTS, rtol=2e-5)
    labels = ["V_pairwise", "nitro_consec"]
    rows_agree(answer["contrasts"][1]["table"], want["interaction"], labels, CONTRASTS)


def test_linear_model_sections():
    request = {
        "data": OATS,
        "formula": "Y ~ V + B",
        "method": "OLS",
        "anova": {"type": 3, "ddf": ["residual"]},
        "emmeans": [{"specs": "~ V", "method": "residual"}],
    }
    answer, want = answered(request), R["linear"]
    assert answer["fit"]["method"] == "OLS" and answer["fit"]["df_residual"] == 64
    assert answer["fit"]["criterion"] == pytest.approx(want["criterion"], abs=1e-6)
    assert answer["fit"]["sigma"] == pytest.approx(want["sigma"])
    rows_agree(answer["emmeans"][0]["table"], want["means"], ["V"], MEANS)
    for got, ref in zip(answer["anova"]["type3_residual"], want["type3"], strict=True):
        assert (got["term"], got["numdf"], got["dendf"]) == (ref["_row"], ref["Df"], 64)
        assert [got["F"], got["p"]] == pytest.approx([ref["F value"], ref["Pr(>F)"]], rel=1e-6)


def test_infinite_df_and_custom_contrasts():
    request = {
        "data": OATS,
        "formula": "Y ~ V + N + (1|B)",
        "emmeans": [{"specs": "~ V", "method": "asymptotic"}],
        "contrasts": [
            {"specs": "~ V", "method": "custom", "coef": {"M-others": [-0.5, 1, -0.5]}, "adjust": "none"}
        ],
    }
    answer = answered(request)
    means = answer["emmeans"][0]["table"]
    assert {row["df"] for row in means} == {"Inf"}
    row = answer["contrasts"][0]["table"][0]
    e = [m["emmean"] for m in means]
    assert row["contrast"] == "M-others" and row["estimate"] == pytest.approx(e[1] - (e[0] + e[2]) / 2)


def test_file_and_object_give_the_same_answer():
    frame = datasets.load("oats")
    request = {"formula": "Y ~ V + (1|B)", "emmeans": [{"specs": "~ V"}]}
    from_object = answered({**request, "data": {name: frame[name].tolist() for name in frame}})
    assert answered({**request, "data": OATS}) == from_object


def test_level_order_sets_the_reference():
    columns = {"V": {"type": "factor", "levels": ["Victory", "Marvellous", "Golden.rain"]}}
    answer = answered({"data": OATS, "formula": "Y ~ V + (1|B)", "columns": columns})
    assert list(answer["fit"]["beta"]) == ["(Intercept)", "VMarvellous", "VGolden.rain"]


BASE = {"data": OATS, "formula": "Y ~ V + (1|B)"}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"formula": None}, OptionError, "lacks 'formula'"),
        ({"data": None}, OptionError, "lacks 'data'"),
        ({"formla": "y ~ x"}, OptionError, "no key 'formla'; nearest: 'formula'"),
        ({"method": "reml"}, OptionError, "method='reml' is not known; allowed: 'REML', 'ML', 'OLS'"),
        ({"method": "OLS"}, OptionError, "fits no random effects"),
        ({"method": "OLS", "formula": "Y ~ V", "residual": "units | N"}, OptionError, "no covariances"),
        ({"method": "OLS", "formula": "Y ~ V", "fixed_parameters": {"Residual": 9.0}}, OptionError, "held"),
        ({"contrasts": [{"specs": "~ V", "delta": 0.1}]}, OptionError, r"contrasts\[0\].delta .* needs var"),
        ({"head": -1}, OptionError, "head=-1 must be a whole number"),
        ({"ranef": "yes"}, OptionError, "ranef='yes' must be true or false"),
        ({"weights": "wt"}, DataError, "weights column 'wt' is not in the data"),
        ({"emmeans": {"specs": "~ V"}}, OptionError, "emmeans must be a list of objects"),
        ({"emmeans": [{"spec": "~ V"}]}, OptionError, r"emmeans\[0\] has no key 'spec'; nearest: 'specs'"),
        ({"emmeans": [{}]}, OptionError, r"emmeans\[0\] lacks 'specs'"),
        ({"emtrends": [{"specs": "~ V"}]}, OptionError, r"emtrends\[0\] lacks 'var'"),
        (
            {"emmeans": [{"specs": "~ V", "method": "kr"}]},
            OptionError,
            r"emmeans\[0\].method='kr' is not known",
        ),
        ({"contrasts": [{"specs": "~ V", "method": "custom"}]}, OptionError, "needs coef"),
        ({"contrasts": [{"specs": "~ V", "adjust": "tuckey"}]}, OptionError, "tuckey.*allowed:.*'tukey'"),
        ({"contrasts": [{"specs": "~ V", "method": "interaction"}]}, OptionError, "needs interaction"),
        ({"anova": {"type": 4}}, OptionError, "anova.type=4 is not known; allowed: 1, 2, 3"),
        ({"anova": {"ddf": ["wald"]}}, OptionError, "anova.ddf='wald' is not known"),
        ({"information": "fisher"}, OptionError, "information='fisher' is not known"),
        ({"columns": ["V"]}, OptionError, "columns must be an object"),
    ],
)
def test_bad_requests_are_named(change, kind, message):
    request = {k: v for k, v in {**BASE, **change}.items() if v is not None}
    with pytest.raises(kind, match=message):
        run(request)


def test_plain_leaves_only_what_json_has():
    got = plain({"a": np.array([1.0, np.nan, np.inf, -np.inf]), "b": (np.int32(2), np.bool_(True), None)})
    assert got == {"a": [1.0, None, "Inf", "-Inf"], "b": [2, True, None]}
    assert type(got["b"][1]) is bool


def test_heritability_and_genotype_values():
    """The sections are what the methods of the fit say, without their errors hidden."""
    frame = datasets.load("john_alpha")
    formula = "yield ~ rep + (1|gen) + (1|rep:block)"
    data = {name: frame[name].astype(str if name != "yield" else float).tolist() for name in frame}
    answer = run(
        {"data": data, "formula": formula, "heritability": ["gen"], "genotype_values": [{"term": "gen"}]}
    )
    fit = lmm(formula, frame)
    own, table = answer["heritability"]["gen"], fit.heritability("gen")
    assert own["H2_Cullis"] == pytest.approx(table["cullis"], rel=1e-9)
    assert own["H2_Delta_BLUE_i"]["G05"] == pytest.approx(0.80305609, abs=1e-7)  # as published
    rows = {row["definition"]: row for row in own["table"]}
    assert rows["piepho"]["se"] is None and rows["cullis"]["se"] > 0
    values = answer["genotype_values"][0]["table"]
    assert values[0]["gen"] == "G01" and values[0]["rank"] == 1
    assert values[0]["estimate"] == pytest.approx(fit.genotype_values("gen").estimate[0], rel=1e-9)


MET = datasets.load("besag_met")
BY_COUNTY = {
    "data": {name: MET[name].astype(str if name != "yield" else float).tolist() for name in MET},
    "formula": "yield ~ county + (1|gen) + (1|county:gen)",
}


@pytest.mark.parametrize("extra, message", [
    ({"margin": 0.5}, r"genotype_values\[1\].margin belongs to check, which is not given"),
    ({"per": "sd", "by": "county"}, r"genotype_values\[1\].per belongs to index, which is not given"),
])  # fmt: skip
def test_an_option_of_what_is_not_asked_for_is_refused(extra, message):
    with pytest.raises(OptionError, match=message):
        run({**BY_COUNTY, "genotype_values": [{"term": "gen"}, {"term": "gen", **extra}]})


def test_index_and_check_with_and_without_their_options():
    """What is null is the default: a margin of none, weights of a unit."""
    asked = {"term": "gen", "by": "county", "index": {"C1": 1.0, "C2": 2.0}, "check": "G05"}
    blocks = [asked, {**asked, "margin": None, "per": None}, {**asked, "margin": 3.0, "per": "sd"}]
    plain_block, null_block, other = run({**BY_COUNTY, "genotype_values": blocks})["genotype_values"]
    assert null_block["table"] == plain_block["table"] and null_block["against"] == plain_block["against"]
    values = lmm(BY_COUNTY["formula"], MET).genotype_values("gen", by="county")
    index = values.index(asked["index"], "sd")
    beside = index.against("G05", 3.0).to_frame()
    assert [row["gen"] for row in other["against"]] == beside["gen"].tolist()
    np.testing.assert_allclose([row["p_better"] for row in other["against"]], beside["p_better"], rtol=1e-9)


def test_what_a_pedigree_assumes_is_among_the_notes():
    pedigree = {"id": [f"G{k:02d}" for k in range(1, 65)], "sire": ["S1", "S2"] * 32, "dam": [None] * 64}
    answer = answered({
        "data": {"gen": [f"G{k:02d}" for k in range(1, 65)] * 2, "yield": np.arange(128.0).tolist()},
        "formula": "yield ~ 1 + (1|vm(gen, A))",
        "relationships": {"A": {"type": "pedigree", "data": pedigree}},
    })  # fmt: skip
    assert any("'S1', 'S2'" in note for note in answer["notes"])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"interaction": ["pairwise", "consec"], "method": "pairwise"},
         r"contrasts\[0\].interaction belongs to method 'interaction', not to 'pairwise'"),
        ({"coef": {"d": [1, -1]}, "method": "eff"},
         r"contrasts\[0\].coef belongs to method 'custom', not to 'eff'"),
        ({"method": "interaction"}, "needs interaction = "), ({"method": "custom"}, "needs coef = "),
    ],
)  # fmt: skip
def test_keys_of_another_method_of_contrasts_are_refused(block, message):
    with pytest.raises(OptionError, match=message):
        run({"data": OATS, "formula": "Y ~ V*N + (1|B/V)", "contrasts": [{"specs": "~ V * N", **block}]})


def test_interaction_alone_asks_for_contrasts_of_interactions():
    block = {"specs": "~ V * N", "interaction": ["pairwise", "consec"]}
    request = {"data": OATS, "formula": "Y ~ V*N + (1|B/V)"}
    asked, said = (run({**request, "contrasts": [own]})["contrasts"][0]
                   for own in (block, {**block, "method": "interaction"}))  # fmt: skip
    assert asked["table"] == said["table"] and asked["method"] == "interaction"


def test_a_column_is_not_labels_and_numbers_at_once():
    request = {"data": oats_object(), "formula": "Y ~ nitro", "factors": ["nitro"]}
    with pytest.raises(OptionError, match="'nitro' is declared numeric in columns and named in factors"):
        run({**request, "columns": {"nitro": {"type": "numeric"}}})


def test_codes_of_missing_values_hold_for_files_of_relationships(tmp_path):
    """-9 among markers is no genotype, and -9 among parents no animal."""
    names = [f"g{k}" for k in range(6)]
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 3, (6, 9))
    cells = [[str(own) for own in row] for row in counts]
    for code in ("-9", "NA"):
        cells[2][4] = code
        rows = [",".join([name, *own]) for name, own in zip(names, cells, strict=True)]
        (tmp_path / f"M{code}.csv").write_text("\n".join(["id," + ",".join("abcdefghi"), *rows]))
        parents = [f"{name},{code if k < 3 else 'g0'},{code}" for k, name in enumerate(names)]
        (tmp_path / f"P{code}.csv").write_text("\n".join(["id,sire,dam", *parents]))
    y = rng.normal(size=24).round(3)
    (tmp_path / "t.csv").write_text(
        "gen,y\n" + "\n".join(f"{n},{v}" for n, v in zip(names * 4, y, strict=True))
    )
    for kind, letter, more in (("markers", "M", {"impute": "mean", "ridge": 0.1}), ("pedigree", "P", {})):
        fits = [
            run({
                "data": str(tmp_path / "t.csv"), "formula": "y ~ 1 + (1|vm(gen, A))", "na_values": ["-9"],
                "relationships": {"A": {"type": kind, "file": str(tmp_path / f"{letter}{code}.csv"), **more}},
            })["fit"]
            for code in ("-9", "NA")
        ]  # fmt: skip
        assert fits[0] == fits[1]


def test_a_relationship_that_the_formula_does_not_name_is_refused():
    known = {"type": "covariance", "levels": ["I", "II"], "matrix": [[1.0, 0.0], [0.0, 1.0]]}
    request = {"data": OATS, "formula": "Y ~ V*N + (1|B/V)", "relationships": {"K": known}}
    with pytest.raises(OptionError, match=r"relationship 'K' is in no formula: write vm\(gen, K\)"):
        run(request)


@pytest.mark.parametrize("kind", ["covariance", "inverse"])
def test_a_square_matrix_is_the_same_inline_and_in_a_file(tmp_path, kind):
    rng = np.random.default_rng(1)
    lines = [f"L{i}" for i in range(6)]
    half = rng.normal(size=(6, 6))
    square = pd.DataFrame(half @ half.T + 6.0 * np.eye(6), lines, lines)
    square.to_csv(tmp_path / "G.csv", index_label="line")
    inline = square.reset_index(names="line").to_dict("list")
    frame = {"y": list(rng.normal(size=24)), "line": lines * 4}
    request = {"data": frame, "formula": "y ~ 1 + (1 | vm(line, G))", "ranef": True}
    first, second = (
        run({**request, "relationships": {"G": {"type": kind, **source}}})
        for source in ({"file": str(tmp_path / "G.csv")}, {"data": inline})
    )
    assert second["fit"]["criterion"] == pytest.approx(first["fit"]["criterion"], rel=1e-12)
    ranef = [answer["ranef"]["vm(line, G)"] for answer in (first, second)]
    np.testing.assert_allclose(ranef[1]["values"], ranef[0]["values"], rtol=1e-10)


def test_contrasts_go_by_the_method_of_the_first_means_alike():
    means = [{"specs": "~ N"}, {"specs": "~ V"}, {"specs": "~ V", "method": "satterthwaite"}]
    request = {"data": oats_object(), "formula": "Y ~ V*N + (1|B/V)", "contrasts": [{"specs": "~ V"}]}
    used = [
        answered({**request, "emmeans": blocks})["contrasts"][0]["df_method"]
        for blocks in (means, means[2:], means[:1], means[::-1])
    ]
    assert used == ["kenward-roger", "satterthwaite", "kenward-roger", "satterthwaite"]


def test_single_step_and_genetic_groups_in_a_request():
    """The same fits as in Python; parts of a single step are in no formula by themselves."""
    rng = np.random.default_rng(4)
    names = [f"g{k}" for k in range(12)]
    rows = {"id": names, "sire": ["N"] * 4 + ["g0", "g1"] * 4, "dam": ["S"] * 5 + ["g2", "g3"] * 3 + ["g4"]}
    table = {"gen": names * 3, "y": (rng.normal(size=36) + 2 * np.tile(rng.normal(size=12), 3)).tolist()}
    counts = {"id": names[5:9], **{f"m{k}": rng.integers(0, 3, 4).tolist() for k in range(9)}}
    groups = {"groups": ["N", "S"], "group_variance": 0.5}
    pedigree = Pedigree(rows, **groups)
    request = {
        "data": table, "formula": "y ~ 1 + (1|vm(gen, H))", "ranef": True, "relationships": {
            "A": {"type": "pedigree", "data": rows, **groups}, "M": {"type": "markers", "data": counts},
            "H": {"type": "single_step", "pedigree": "A", "genomic": "M", "share": 0.1},
        },
    }  # fmt: skip
    answer = answered(request)
    H = single_step(pedigree, Markers(counts), share=0.1)
    fit = lmm("y ~ 1 + (1|vm(gen, H))", table, relationships={"H": H})
    assert answer["fit"]["criterion"] == pytest.approx(fit.criterion, rel=1e-10)
    own = answer["ranef"]["vm(gen, H)"]
    assert own["levels"] == ["N", "S", *names]
    np.testing.assert_allclose(np.ravel(own["pev"]), fit.blups()["pev"], rtol=1e-6)
    alone = {"A": request["relationships"]["A"]}
    answer = answered({**request, "formula": "y ~ 1 + (1|vm(gen, A))", "relationships": alone})
    fit = lmm("y ~ 1 + (1|vm(gen, A))", table, relationships={"A": pedigree})
    assert answer["fit"]["criterion"] == pytest.approx(fit.criterion, rel=1e-10)
    alone = {"A": {"type": "pedigree", "data": rows, "groups": ["N", "S"]}}
    answer = answered({**request, "formula": "y ~ 0 + (1|vm(gen, A))", "relationships": alone})
    fit = lmm("y ~ 0 + (1|vm(gen, A))", table, relationships={"A": Pedigree(rows, groups=["N", "S"])})
    assert answer["fit"]["criterion"] == pytest.approx(fit.criterion, rel=1e-10)
    own = answer["ranef"]["vm(gen, A)"]
    assert own["levels"] == names
    np.testing.assert_allclose(np.ravel(own["values"]), fit.blups()["estimate"], atol=1e-8)
    np.testing.assert_allclose(np.ravel(own["pev"]), fit.blups()["pev"], rtol=1e-6)
    with pytest.raises(OptionError, match="relationship 'M' is in no formula"):
        run({**request, "formula": "y ~ 1 + (1|vm(gen, A))"} | {
            "relationships": {k: v for k, v in request["relationships"].items() if k != "H"}
        })  # fmt: skip
    lost = {**request["relationships"], "H": {"type": "single_step", "pedigree": "A"}}
    with pytest.raises(OptionError, match=r"relationships\['H'\] needs 'pedigree' and 'genomic'"):
        run({**request, "relationships": lost})
