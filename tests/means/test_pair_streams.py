"""All pairs a chunk at a time against the table made at once; the best means against the same table."""

import numpy as np
import pandas as pd
import pytest
from dense_fit import DenseFit

from fastlmm_core import lmm
from fastlmm_core.errors import InferenceError, MemoryForecastError, OptionError
from fastlmm_core.linalg import memory
from fastlmm_core.means.emmeans import emmeans


def trial(n_gen=9, seed=4):
    r = np.random.default_rng(seed)
    gen, env, block = (x.ravel() for x in np.meshgrid(np.arange(n_gen), np.arange(2), np.arange(6)))
    keep = r.random(gen.size) < 0.8
    y = r.normal(size=n_gen)[gen] + 2.0 * r.normal(size=6)[block] + r.normal(size=gen.size)
    frame = pd.DataFrame({"y": y, "gen": gen, "env": env, "block": block})
    frame["gen"] = [f"G-{i}" for i in gen]
    frame["env"] = [f"E{i}" for i in env]
    frame["block"] = [f"B{i}" for i in block]
    return frame[keep]


@pytest.fixture(scope="module")
def fit():
    return lmm("y ~ gen * env + (1|block)", trial())


@pytest.mark.parametrize("chunk", [1, 7, 36, 50, 1000])
@pytest.mark.parametrize("adjust", ["none", "tukey"])
@pytest.mark.parametrize("by", [None, "env"])
def test_same_figures_as_the_whole_table(fit, by, adjust, chunk):
    table = fit.emmeans("gen", by=by)
    want = table.pairs(adjust=adjust, level=0.9).to_frame()
    frames = list(table.stream_pairs(adjust=adjust, level=0.9, chunk=chunk))
    assert all(len(frame) == chunk for frame in frames[:-1])
    pd.testing.assert_frame_equal(pd.concat(frames), want, rtol=1e-10)


@pytest.mark.parametrize(
    "adjust", ["sidak", "bonferroni", "scheffe", "dunnettx", "holm", "hochberg", "fdr", "by"]
)
def test_every_adjustment_is_over_all_pairs(fit, adjust):
    table = fit.emmeans("gen", by="env")
    got = pd.concat(table.stream_pairs(adjust=adjust, chunk=10))
    pd.testing.assert_frame_equal(got, table.pairs(adjust=adjust).to_frame(), rtol=1e-10)


def test_means_without_data():
    data = trial()
    empty = DenseFit("y ~ gen * env", data[~((data["gen"] == "G-2") & (data["env"] == "E1"))])
    table = emmeans(empty, "gen", by="env", ddf="residual")
    got = pd.concat(table.stream_pairs(chunk=10))
    pd.testing.assert_frame_equal(got, table.pairs().to_frame(), rtol=1e-10)
    assert (got["status"] == "not estimable").sum() == 8


def test_parquet_holds_the_table(fit, tmp_path):
    table = fit.emmeans("gen", by="env")
    path = table.stream_pairs(tmp_path / "pairs.parquet", chunk=10)
    pd.testing.assert_frame_equal(pd.read_parquet(path), table.pairs().to_frame(), rtol=1e-10)
    assert [p.name for p in tmp_path.iterdir()] == ["pairs.parquet"]


def test_no_file_is_left_when_writing_stops(fit, tmp_path, monkeypatch):
    from fastlmm_core.means import pair_streams

    original = pair_streams.PairSource.numbered

    def breaks(self, first, last):
        if first:
            raise KeyboardInterrupt
        return original(self, first, last)

    monkeypatch.setattr(pair_streams.PairSource, "numbered", breaks)
    with pytest.raises(KeyboardInterrupt):
        fit.emmeans("gen").stream_pairs(tmp_path / "pairs.parquet", chunk=10)
    assert not list(tmp_path.iterdir())


def test_forecast(fit):
    forecast = fit.emmeans("gen", by="env").forecast_pairs()
    assert (forecast.n_means, forecast.n_groups, forecast.n_pairs) == (18, 2, 72)
    assert 0.0 < forecast.seconds < 10.0
    assert forecast.memory_whole > 72 * 8 * 8
    assert "72 pairs of 18 means" in str(forecast)


def test_progress_is_quiet_without_a_terminal(fit, capsys, caplog):
    with caplog.at_level("INFO", logger="fastlmm_core.pairs"):
        list(fit.emmeans("gen").stream_pairs(progress=True))
    assert capsys.readouterr() == ("", "")
    assert "36 pairs of 9 means" in caplog.text


def test_a_terminal_gets_the_forecast_and_a_bar(fit, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    list(fit.emmeans("gen").stream_pairs(chunk=12))
    shown = capsys.readouterr().err
    assert "36 pairs of 9 means: about" in shown and "36.0/36.0" in shown
    list(fit.emmeans("gen").stream_pairs(chunk=12, progress=False))
    assert capsys.readouterr().err == ""


def test_a_table_that_does_not_fit_is_refused_and_the_stream_is_not(monkeypatch):
    n = 1000  # 499,500 pairs
    r = np.random.default_rng(0)
    data = pd.DataFrame({"y": r.normal(size=3 * n), "g": np.tile([f"g{i}" for i in range(n)], 3)})
    table = lmm("y ~ g", data).emmeans("g", ddf="residual")
    monkeypatch.setattr(memory, "available_memory", lambda: 10**8)
    for refused in (table.pairs, table.cld, lambda: table.contrast("revpairwise")):
        with pytest.raises(MemoryForecastError, match=r"499,500 pairs of means .*stream_pairs"):
            refused()
    assert table.difference_errors().n_pairs == 499_500  # needs no table of pairs
    first = next(table.stream_pairs(chunk=1000))
    assert len(first) == 1000
    with pytest.raises(MemoryForecastError, match="smaller chunk"):
        table.stream_pairs(chunk=400_000)


def test_what_cannot_be_streamed(fit):
    table = fit.emmeans("gen")
    for adjust in ("mvt", "hommel"):
        with pytest.raises(InferenceError, match="all pairs at once"):
            table.stream_pairs(adjust=adjust)
    with pytest.raises(OptionError, match="chunk=0"):
        table.stream_pairs(chunk=0)
    with pytest.raises(OptionError, match="adjust='tuckey'"):
        table.stream_pairs(adjust="tuckey")
    with pytest.raises(OptionError, match="only one"):
        fit.emmeans("~ 1").stream_pairs()


@pytest.mark.parametrize("adjust", ["none", "tukey"])
@pytest.mark.parametrize("largest", [True, False])
def test_best_means_are_compared_as_in_the_table_of_pairs(fit, largest, adjust):
    means = fit.emmeans("gen", by="env")
    got = means.best(3, largest=largest, adjust=adjust)
    pairs = means.pairs(adjust=adjust).to_frame().set_index(["env", "contrast"])
    for env, block in means.to_frame().groupby("env"):
        order = block.sort_values("estimate", ascending=not largest)["gen"].to_list()
        mine = got[got["env"] == env]
        assert mine["gen"].to_list() == order[:3]
        assert mine["rank"].to_list() == [1, 2, 3]
        for name, reference in (("best", order[0]), ("kth", order[2])):
            for row in mine[mine["gen"] != reference].to_dict("records"):
                forward = (env, f"({row['gen']}) - ({reference})")
                pair = pairs.loc[
                    forward if forward in pairs.index else (env, f"({reference}) - ({row['gen']})")
                ]
                sign = 1.0 if forward in pairs.index else -1.0
                np.testing.assert_allclose(
                    [row[f"from_{name}"], row[f"sed_{name}"], row[f"df_{name}"], row[f"lsd_{name}"]],
                    [sign * pair["estimate"], pair["se"], pair["df"], (pair["upper"] - pair["lower"]) / 2],
                    rtol=1e-8,
                )
                assert row[f"like_{name}"] == (pair["p"] >= 0.05)
            own = mine[mine["gen"] == reference].iloc[0]
            assert own[f"from_{name}"] == own[f"lsd_{name}"] == 0.0 and own[f"like_{name}"]


def test_best_of_few_and_of_means_without_data(fit):
    everything = fit.emmeans("gen").best(2, everything=True)
    assert everything["rank"].to_list() == list(range(1, 10))
    assert len(fit.emmeans("gen").best(50)) == 9
    data = trial()
    empty = DenseFit("y ~ gen * env", data[~((data["gen"] == "G-2") & (data["env"] == "E1"))])
    table = emmeans(empty, "gen", by="env", ddf="residual").best(50, everything=True)
    lost = table[(table["gen"] == "G-2") & (table["env"] == "E1")].iloc[0]
    assert pd.isna(lost["rank"]) and np.isnan(lost["from_best"]) and not lost["like_best"]
    with pytest.raises(OptionError, match="k=0"):
        fit.emmeans("gen").best(0)
    with pytest.raises(OptionError, match="adjust='holm'"):
        fit.emmeans("gen").best(2, adjust="holm")


def test_mvt_says_how_exact_it_is(fit):
    table = fit.emmeans("gen").contrast("consec")
    error = table.joint_tails.error.max()
    assert 0.0 < error < 1e-3
    assert f"mvt: largest error of a p value about {error:.0e}" in table.notes
    one_way = DenseFit("y ~ gen", trial())
    control = emmeans(one_way, "gen", ddf="residual").contrast("trt.vs.ctrl", adjust="mvt")
    assert "mvt: one common factor, integrated by a rule without sampling error" in control.notes
    assert not any("mvt" in note for note in control.with_options(adjust="holm").notes)
