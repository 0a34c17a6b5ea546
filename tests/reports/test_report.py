"""Reports: figures are those of the tables, names are escaped, nothing is fetched, and a browser shows it."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm, read_batch, report
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, FastLMMWarning, OptionError
from fastlmm_core.reports import figures, svg
from fastlmm_core.reports.overview import variance_bar
from fastlmm_core.results.field.map_range import map_range

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
NASTY = "T<1> & \"quoted\" </script><b>'x' \u8bd5\u9a8c \u2028"


class Page(HTMLParser):
    """Tags that are open, cells by row, links, and what refers to anything outside of the page."""

    VOID = ("meta", "input", "br", "link", "img")

    def __init__(self, path):
        super().__init__()
        self.open, self.rows, self.links, self.outside, self.titles = [], [], [], [], []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert self.open == [], path

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag == "a":
            self.links.append(attrs["href"])
        self.outside += [attrs[name] for name in ("src", "data", "poster") if name in attrs]
        if tag in ("link", "img", "iframe", "object", "base"):
            self.outside.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        if "h1" in self.open:
            self.titles.append(data)


@pytest.fixture(scope="module")
def frame():
    out = datasets.load("besag_field")
    out["county"] = out["county"].replace({"C1": NASTY})
    out["gen"] = out["gen"].replace({"G01": "<i>G01</i>"})
    out.loc[out.index[30], "yield"] += 120.0
    lost = out["county"] == "C6"
    out.loc[lost, "yield"] = np.nan
    return out


@pytest.fixture(scope="module")
def batch(frame):
    return fit_batch(frame, "yield ~ rep + (1|gen)", by="county", genotypes="gen", plots=["row", "col"],
                     progress=False)  # fmt: skip


@pytest.fixture(scope="module")
def pages(batch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    index = report(batch, folder, progress=False)
    assert index == folder / "index.html"
    return index, sorted((folder / "trials").glob("*.html"))


def test_every_page_is_whole_and_fetches_nothing(pages):
    index, trials = pages
    assert len(trials) == 6
    for path in (index, *trials):
        page = Page(path)
        assert page.outside == []
        assert not re.search(r"https?:|@import|url\(", page.text.replace("http-equiv", ""))
        assert "default-src 'none'" in page.text


def test_names_are_text_wherever_they_stand(pages):
    index, trials = pages
    for path in (index, trials[0], trials[1]):
        page = Page(path)
        assert "<i>G01</i>" not in page.text and "</script><b>" not in page.text and "<b>'x'" not in page.text
    nasty = next(path for path in trials if "quoted" in path.name)
    assert re.fullmatch(r"[A-Za-z0-9.-]+", nasty.name)
    assert "".join(Page(nasty).titles) == f"county {NASTY}"
    assert html.escape("<i>G01</i>") in Page(nasty).text


def test_overview_links_every_trial_and_shows_its_figures(batch, pages):
    index, trials = pages
    page, table = Page(index), batch.trial_table().set_index("county")
    assert {f"trials/{path.name}" for path in trials} == set(page.links)
    head = next(row for row in page.rows if row and row[0] == "trial")
    body = {row[0]: dict(zip(head, row, strict=True)) for row in page.rows if row and row[0] in table.index}
    assert set(body) == set(table.index)
    for county, row in body.items():
        own = table.loc[county]
        assert row["plots"] == str(own["n"]) and row["status"] == own["status"]
        assert row["h\u00b2"] == ("" if own["status"] != "ok" else f"{own['h2']:.2f}")
        assert row["to look at"] == own["warnings"]
    assert body["C6"]["status"] == "data" and "no values" in body["C6"]["to look at"]


def test_trials_without_values_add_nothing_to_the_observations(frame, pages):
    text = re.sub(r"<[^>]+>", " ", pages[0].read_text(encoding="utf-8"))
    found = re.search(r"([\d,\u2009\u202f ]*\d)\s+observations", text)
    assert re.sub(r"\D", "", found[1]) == str(frame["yield"].notna().sum())


def test_rows_that_name_no_trial_are_called_so(frame, tmp_path):
    lost = frame.copy()
    lost.loc[lost.index[:3], "county"] = None
    batch = fit_batch(lost, "yield ~ rep + (1|gen)", by="county", genotypes="gen", progress=False)
    page = Page(report(batch, tmp_path / "report", progress=False))
    names = [row[0] for row in page.rows if row]
    assert "(no name)" in names and not {"nan", "None", "<NA>"} & set(names)
    assert all((tmp_path / "report" / link).exists() for link in page.links)
    pages = "".join(path.name for path in (tmp_path / "report" / "trials").iterdir())
    assert "nan" not in pages and "None" not in pages


def test_the_overview_says_what_colours_and_headings_are(pages):
    text = pages[0].read_text(encoding="utf-8")
    assert '<i style="background:#0072b2"></i>gen</span>' in text
    assert '<i style="background:#c6ced6"></i>Residual</span>' in text
    assert "p: of the F test of the genotypes." in text and "Cullis" in text
    assert "Trend and residuals: blue above 0, orange below." in pages[1][0].read_text(encoding="utf-8")


def test_a_component_has_its_colour_where_another_is_missing():
    bar = variance_bar(np.array([1.0, np.nan, 2.0, 1.0]), ["gen", "rep:block", "row", "Residual"])
    parts = re.findall(r'class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)".*?<title>([\w: ]+) %', bar)
    assert parts == [
        ("part0", "0.00", "25.00", "gen: 25"), ("part2", "25.00", "50.00", "row: 50"),
        ("rest", "75.00", "25.00", "Residual: 25"),
    ]  # fmt: skip
    assert variance_bar(np.array([np.nan, 0.0]), ["gen", "Residual"]) == ""


def test_trial_page_shows_values_beside_blues(batch, pages):
    _, trials = pages
    page = Page(next(path for path in trials if path.name.endswith("C2.html")))
    head = next(row for row in page.rows if "BLUE" in row)
    rows = {row[0]: dict(zip(head, row, strict=True)) for row in page.rows if len(row) == len(head)}
    values = batch.genotype_values.query("county == 'C2'").set_index("gen")
    blues = batch.blues.query("county == 'C2'").set_index("gen")
    for level in ("<i>G01</i>", "G33", "G64"):
        assert float(rows[level]["estimate"]) == pytest.approx(values.loc[level, "estimate"], abs=0.06)
        assert float(rows[level]["BLUE"]) == pytest.approx(blues.loc[level, "estimate"], abs=0.6)
        assert rows[level]["rank"] == str(int(values.loc[level, "rank"]))
    ranked = [row["rank"] for name, row in rows.items() if name in values.index]
    assert ranked == sorted(ranked, key=int)


def test_map_has_every_plot_and_rings_the_odd_one(batch, pages):
    _, trials = pages
    nasty = next(path for path in trials if "quoted" in path.name).read_text(encoding="utf-8")
    plots = batch.plots[batch.plots["county"] == NASTY]
    assert nasty.count('class="ring"') == 3 * int((plots["studentized"].abs() > 3.5).sum()) > 0
    data = json.loads(re.search(r'id="plots-0">(.*?)</script>', nasty)[1])
    assert len(data["cell"]) == len(plots) == len(set(data["cell"]))
    columns = int(plots["column"].max())
    at = dict(zip(data["cell"], data["values"][0], strict=True))
    for row, column, y in plots[["row", "column", "response"]].head(20).itertuples(index=False):
        assert at[int((row - 1) * columns + column - 1)] == pytest.approx(y, rel=1e-3)
    for drawn in re.findall(r'<svg [^>]*class="map".*?</svg>', nasty):  # one square a plot
        cells = re.findall(r'<path fill="#[0-9a-f]{6}" d="([^"]*)"', drawn)
        assert sum(path.count("M") for path in cells) == plots["response"].notna().sum()


def test_a_folder_gives_the_same_pages(frame, batch, pages, tmp_path):
    pytest.importorskip("pyarrow")
    out = tmp_path / "results"
    fit_batch(frame, "yield ~ rep + (1|gen)", by="county", genotypes="gen", plots=["row", "col"],
              progress=False, out=out)  # fmt: skip
    stored = read_batch(out)
    pd.testing.assert_frame_equal(stored.trial_table(), batch.trial_table(), check_dtype=False, rtol=1e-6)
    assert stored.summary().splitlines()[0] == batch.summary().splitlines()[0]
    assert main(["report", str(out)]) == 0
    index, trials = pages
    written = sorted((out / "report" / "trials").glob("*.html"))
    assert [path.name for path in written] == [path.name for path in trials]
    assert (out / "report" / "index.html").read_text() == index.read_text()
    # a report within the results does not stop the batch from going on
    fit_batch(frame, "yield ~ rep + (1|gen)", by="county", genotypes="gen", plots=["row", "col"],
              progress=False, out=out)  # fmt: skip


def test_folders_that_hold_no_results(tmp_path):
    with pytest.raises(DataError, match="is not a folder of results"):
        read_batch(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"manifest.json' is missing or damaged"):
        report(tmp_path / "other", tmp_path / "x")
    with pytest.raises(OptionError, match="no result of fit_batch"):
        report(3, tmp_path / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        report(lmm("yield ~ rep", datasets.load("john_alpha")), tmp_path / "file" / "x.html")


def test_a_batch_says_what_it_was_not_asked_for(tmp_path):
    trials = datasets.load("trials")
    batch = fit_batch(trials, "~ gen + rep + (1|rep:block)", by="trial", traits=["yield", "height"],
                      emmeans="gen", contrasts="trt.vs.ctrl", progress=False)  # fmt: skip
    index = report(batch, tmp_path, title="Season <1>", progress=False)
    page = Page(index)
    assert "without genotypes=" in page.text and "without plots=" in page.text
    assert "".join(page.titles) == "Season <1>"
    first = Page(sorted((tmp_path / "trials").glob("*.html"))[0])
    assert "Contrasts" in first.text and 'href="#trait-1"' in first.text
    with pytest.raises(OptionError, match="are for a fit"):
        report(batch, tmp_path, genotypes="gen")


def test_pages_of_an_earlier_report_go_and_other_files_stay(tmp_path):
    data = datasets.load("besag_field")
    for counties in (["C1", "C2", "C3"], ["C3"]):
        own = data[data["county"].isin(counties)]
        batch = fit_batch(own, "yield ~ rep + (1|gen)", by="county", progress=False)
        report(batch, tmp_path, progress=False)
        (tmp_path / "trials" / "my-notes.html").write_text("<p>mine</p>")
        names = {path.name for path in (tmp_path / "trials").iterdir()}
        pages = {f"{n + 1}-{county}.html" for n, county in enumerate(counties)}
        assert names == pages | {"my-notes.html"}


def test_the_report_of_a_fit_from_a_terminal(tmp_path, capsys):
    path = tmp_path / "fit.html"
    table = str(datasets.path("besag_field"))
    formula = "yield ~ county + rep + (1|gen)"
    assert main(["fit", table, formula, "--values", "gen", "--report", str(path)]) == 0
    assert f"report: {path}" in capsys.readouterr().out
    page = Page(path)
    assert "G64" in page.text and "outlying plots" in page.text


def test_a_batch_of_one_table(tmp_path):
    data = datasets.load("john_alpha")
    batch = fit_batch(data, "yield ~ rep + (1|gen) + (1|rep:block)", by=None, genotypes="gen", plots=True,
                      progress=False)  # fmt: skip
    Page(report(batch, tmp_path, progress=False))
    assert len(list((tmp_path / "trials").glob("*.html"))) == 1


def test_a_fit_of_any_kind(tmp_path):
    durban = datasets.load("durban_rowcol")
    fit = lmm("yield ~ rep + (1 | gen)", durban, field_trend="ps(row, bed)")
    path = report(fit, tmp_path / "durban.html", genotypes="gen")
    page = Page(path)
    assert path.name == "durban.html" and page.text.count('class="map"') == 3
    assert "map of trend" in page.text and "G001" in page.text
    sleep = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    page = Page(report(sleep, tmp_path))
    assert "BLUPs" in page.text and "S308" in page.text
    Page(report(lmm("yield ~ rep + gen", datasets.load("john_alpha")), tmp_path / "linear.html"))


@pytest.mark.parametrize("trend", ["ps(row, col) | county", "ar1(row, col) | county"])
def test_every_environment_has_its_own_maps(tmp_path, trend):
    """Their cells are the plots of that county and no others, each with the figures of the fit."""
    besag = datasets.load("besag_field")
    besag = besag[besag["county"].isin(["C2", "C5"])].reset_index(drop=True)
    fit = lmm("yield ~ county + (1 | gen)", besag, field_trend=trend)
    page = Page(report(fit, tmp_path / "two.html", genotypes="gen", data=besag))
    maps = 3
    assert page.text.count('class="map"') == 2 * maps and page.text.count('id="plots-0"') == 0
    assert re.findall(r"<h3>(county C\d)</h3>", page.text) == ["county C2", "county C5"]
    for k, county in enumerate(["C2", "C5"]):
        own = besag[besag["county"] == county]
        data = json.loads(re.search(rf'id="plots-0-{k}">(.*?)</script>', page.text)[1])
        assert page.text.count(f'data-plots="plots-0-{k}"') == maps
        assert len(data["cell"]) == len(own) == len(set(data["cell"]))
        at = dict(zip(data["cell"], data["values"][0], strict=True))
        columns = int(own["col"].max() - own["col"].min()) + 1
        for row, col, y in own[["row", "col", "yield"]].itertuples(index=False):
            cell = (row - own["row"].min()) * columns + col - own["col"].min()
            found = at[int(cell)]
            assert (found is None and np.isnan(y)) or found == pytest.approx(y, rel=1e-3)
        assert all(name.startswith(f"county {county}, row ") for name in data["names"])
        fitted = np.full(len(besag), np.nan)
        fitted[fit.design.rows] = fit.fitted
        if "fitted value" in data["words"]:
            shown = np.array(data["values"][data["words"].index("fitted value")], float)
            assert np.allclose(shown, fitted[own.index], rtol=1e-3, equal_nan=True)


def test_environments_without_a_field_have_no_map():
    """Two plots at one place in E2, no environment known in the last row."""
    plots = pd.DataFrame({
        "env": ["E1", "E1", "E2", "E2", None], "row": [1.0, 2.0, 1.0, 1.0, 5.0], "column": 1.0,
        "plot": np.nan, "genotype": None,
    })  # fmt: skip
    fields = figures.fields_of(plots)
    assert [(own.name, own.plots.tolist(), own.rows) for own in fields] == [("env E1", [0, 1], ["1", "2"])]
    names = figures.plot_names(plots, fields)
    assert names[:3] == ["env E1, row 1 column 1", "env E1, row 2 column 1", "observation 3"]
    assert figures.fields_of(plots.assign(env=np.nan)) == []  # one field then, with a place taken twice
    said = "There is no map of {}: {} plots stand at row 1 column 1."
    assert figures.places_twice(plots) == [said.format("the field of env E2", 2)]
    assert figures.places_twice(plots.assign(env=np.nan)) == [said.format("this field", 3)]
    assert figures.places_twice(plots[:2]) == []


def test_a_page_says_why_it_has_no_map(tmp_path):
    """One plot entered twice, and the field is not drawn: the page says which place it is."""
    table = datasets.load("besag_field").query("county == 'C1'")
    table = pd.concat([table, table[(table["row"] == 2) & (table["col"] == 3)]], ignore_index=True)
    with pytest.warns(FastLMMWarning, match="2 plots stand at row 2, col 3"):
        fit = lmm("yield ~ (1|gen)", table, field_trend="ps")
    page = report(fit, tmp_path / "c1.html", genotypes="gen").read_text()
    assert 'class="map"' not in page
    assert "There is no map of this field: 2 plots stand at row 2 column 3." in page


def test_one_plot_far_from_all_others_leaves_colours_for_these():
    """A yield that was entered ten times too large: the map of the others is as it was, its scale says so."""
    rng = np.random.default_rng(2)
    plots = pd.DataFrame({"row": np.repeat(np.arange(10.0), 8), "column": np.tile(np.arange(8.0), 10)})
    field, values, odd = figures.field_of(plots), rng.normal(8.0, 1.0, 80), np.zeros(80, bool)
    wrong = values.copy()
    wrong[0] = 80.0
    ordinary, drawn = (figures.field_map(field, own, "response", odd, 0) for own in (values, wrong))
    shades = [len(set(re.findall(r'<path fill="(#\w+)"', own))) for own in (ordinary, drawn)]
    assert shades[0] > 15 and abs(shades[1] - shades[0]) <= 1
    assert "\N{GREATER-THAN OR EQUAL TO}" in drawn and "\N{GREATER-THAN OR EQUAL TO}" not in ordinary
    ends = map_range(wrong, around_zero=False)
    assert (ends.low, ends.high) == (values[1:].min(), values[1:].max())
    assert (ends.below, ends.above) == (False, True)
    ends = map_range(np.append(wrong, np.nan) - 8.0, around_zero=True)
    assert ends.low == -ends.high and ends.high < 5.0 and ends.above and not ends.below


def test_pages_stay_small(batch, pages):
    """A trial of 128 plots takes less than 110 kB, with its script and style."""
    _, trials = pages
    assert max(path.stat().st_size for path in trials) < 110_000


def test_ticks_and_positions():
    assert svg.nice_ticks(0.0, 1.0).tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert svg.nice_ticks(-3.2, 3.2, 4).tolist() == [-2.0, 0.0, 2.0]
    assert svg.nice_ticks(2.0, 2.0).tolist() == [2.0]
    labels, codes = figures.positions(pd.Series([3.0, 1.0, 5.0]))
    assert labels == ["1", "3", "5"] and codes.tolist() == [1, 0, 2]
    labels, codes = figures.positions(pd.Series([1.0, 2.0, 5.0]))
    assert labels == ["1", "2", "3", "4", "5"] and codes.tolist() == [0, 1, 4]
    assert figures.positions(pd.Series(["b", "a"]))[0] == ["a", "b"]


@pytest.mark.slow
def test_a_browser_shows_it(pages, tmp_path):
    """Chromium runs the script: rows sort, and nothing overflows the width of the page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    index, trials = pages
    probe = """<script>
    const click = (name) => [...document.querySelectorAll("#trials th")].find(
      (head) => head.textContent === name).querySelector("button").click();
    const column = (place) => [...document.querySelectorAll("#trials tbody tr")].map(
      (row) => row.children[place].dataset.v);
    const place = [...document.querySelectorAll("#trials th")].findIndex(
      (head) => head.textContent === "CV %");
    click("CV %");
    const found = {
      down: column(place), wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      pictures: document.querySelectorAll("svg").length,
    };
    const box = document.querySelector("input[data-filter]");
    box.value = "C3"; box.dispatchEvent(new Event("input"));
    found.left = [...document.querySelectorAll("#trials tbody tr")].filter((row) => !row.hidden).length;
    document.title = JSON.stringify(found);
    </script></body>"""
    copy = tmp_path / "index.html"
    copy.write_text(index.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")

    def shown(path, *more):
        options = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1300,1800",
            *more,
        ]
        return subprocess.run(
            [*options, Path(path).as_uri()], capture_output=True, text=True, timeout=120, check=True
        ).stdout

    title = re.search(r"<title>(.*?)</title>", shown(copy, "--dump-dom"), re.S)[1]
    found = json.loads(html.unescape(title))
    figures_shown = [float(v) for v in found["down"] if v]
    assert figures_shown == sorted(figures_shown, reverse=True) and found["down"][-1] == ""
    assert found["wide"] <= 0 and found["left"] == 1 and found["pictures"] > 5
    picture = tmp_path / "trial.png"
    shown(trials[1], f"--screenshot={picture}", "--hide-scrollbars")
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)[..., :3]
    assert pixels.shape[:2] == (1800, 1300)
    colours = np.unique((pixels.reshape(-1, 3) * 15).astype(int), axis=0)
    assert len(colours) > 60  # maps in their shades, not an empty page


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize(
    ("formula", "residual", "shares"),
    [("y ~ env + (1|gen) + (1|gen:env)", "units", True), ("y ~ env + us(0 + env|gen)", "units", False),
     ("y ~ x + (x|gen)", "units", False), ("y ~ env + (1|gen)", "units | env", False),
     ("y ~ env + (1|gen) + (1|at(env):rep)", "units", False)],
)  # fmt: skip
def test_shares_of_the_variance_are_shown_where_variances_add_up(tmp_path, formula, residual, shares):
    """Slopes and the environments' own variances had percentages of a sum that is the variance of no plot."""
    rng = np.random.default_rng(3)
    rows = [(e, r, g) for e in "ab" for r in "123" for g in range(8)]
    data = pd.DataFrame(rows, columns=["env", "rep", "g"])
    data = data.assign(gen="g" + data["g"].astype(str), x=rng.normal(size=48))
    data["y"] = rng.normal(size=8)[data["g"]] * (1 + data["x"]) + rng.normal(size=48)
    page = tmp_path / "one.html"
    report(lmm(formula, data, residual=residual), page)
    assert ('<svg class="shares"' in page.read_text(encoding="utf-8")) == shares
