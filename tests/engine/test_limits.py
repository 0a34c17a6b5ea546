"""What is too large is refused before work begins, with its figure and the option that raises the limit."""

import gzip
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm, prepare, run
from fastlmm_core.errors import FormulaError, LimitError, MemoryForecastError, OptionError
from fastlmm_core.formula.parsing import parse_formula
from fastlmm_core.limits import DEFAULT, Limits, in_bytes, read_bounded

NAMES = [f"x{i}" for i in range(24)]


def table(n=200, factors=()):
    rng = np.random.default_rng(1)
    data = {name: rng.normal(size=n) for name in ["y", *NAMES]}
    return data | {name: rng.permutation(np.arange(n) % k).astype(str) for name, k in factors}


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (f"y ~ ({' + '.join(NAMES)})^24", "at least 5,.* terms; the limit is 5,000 and limits={'terms'"),
        (f"y ~ {' * '.join(NAMES)}", "terms"),
        (f"y ~ 1 + (({' + '.join(NAMES)})^9 | g)", "terms"),
        (f"y ~ 1 + (1 | {' * '.join(NAMES)})", "random terms"),
        ("y ~ bs(x, df=1e8)", r"bs\(\) asks for 100,000,000 columns; the limit is 100,000"),
        ("y ~ poly(x, 99999999)", "columns"),
        ("y ~ cut(x, 1e9)", "columns"),
        ("log(bs(y, df=1e8)) ~ x", "columns"),
        ("y ~ " + "x" * 200_000, "has 200,004 characters; the limit is 100,000"),
    ],
)
def test_a_formula_that_asks_for_too_much_is_refused_at_once(formula, words):
    with pytest.raises(LimitError, match=words):
        parse_formula(formula)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ " + "(" * 200 + "x" + ")" * 200,
        "y ~ I(" + "-" * 500 + "x)",
        "y ~ I(" + "x^" * 300 + "2)",
        "y ~ I(" + " + ".join(["x0"] * 500) + ")",
        "y ~ " + "log(" * 150 + "x0" + ")" * 150,
        "y ~ " + ":".join(NAMES * 20),
        "y ~ (1|" + "/".join(NAMES * 20) + ")",
        "~" * 300 + "x",
        "y ~ I(x > " + "!" * 300 + "x)",
        "y ~ I(1e999 * x)",
    ],
)
def test_what_is_nested_too_deeply_is_refused_in_words(formula):
    with pytest.raises(FormulaError, match=r"deep|too large"):
        parse_formula(formula)


def test_long_sums_are_no_nesting():
    names = [f"v{i}" for i in range(500)]
    parsed = parse_formula(f"y ~ {' + '.join(names)} - v7 + (1 | g) + ({' + '.join(names[:300])} | h)")
    assert parsed.fixed.terms == tuple((name,) for name in names if name != "v7")
    assert [len(part.terms.terms) for part in parsed.random] == [0, 300]
    rng = np.random.default_rng(1)
    data = {name: rng.normal(size=700) for name in ["y", *names]}
    fit = lmm(f"y ~ {' + '.join(names)}", data)
    X = np.column_stack([np.ones(700), *(data[name] for name in names)])
    np.testing.assert_allclose(fit.beta, np.linalg.lstsq(X, data["y"], rcond=None)[0], atol=1e-8)


def test_powers_stop_where_nothing_is_added():
    assert len(parse_formula("y ~ (a*b*c)^1000000000").fixed.terms) == 7


@pytest.mark.parametrize(
    ("formula", "limits", "words"),
    [
        ("y ~ a", {"columns": 20}, "the fixed part has 50 columns; the limit is 20"),
        ("y ~ a*b*c", {}, "the fixed part has 125,000 columns; the limit is 100,000"),
        ("y ~ 1 + (1|a)", {"levels": 20}, "grouping factor 'a' has 50 levels; the limit is 20"),
        ("y ~ 1 + (b|c)", {"coefficients": 20}, r"'\(b \| c\)' has 50 coefficients; the limit is 20"),
        ("y ~ x0 + x1 + x2", {"terms": 2}, "at least 3 terms; the limit is 2"),
        ("y ~ x0 + x1", {"formula_length": 5}, r"limits={'formula_length': ...} \(--limit formula_length"),
    ],
)
def test_a_model_that_is_too_large_is_refused(formula, limits, words):
    data = table(factors=[("a", 50), ("b", 50), ("c", 50)])
    with pytest.raises(LimitError, match=words):
        lmm(formula, data, limits=limits)


def test_limits_are_raised_by_option():
    data = table(factors=[("a", 50)])
    assert lmm("y ~ a", data, limits={"columns": 50}).rank == 50
    formula = "y ~ " + " + ".join(NAMES * 2000)
    with pytest.raises(LimitError):
        parse_formula(formula)
    assert len(parse_formula(formula, Limits(formula_length=10**6)).fixed.terms) == 24


def test_a_batch_obeys_limits_too():
    data = table(factors=[("trial", 2)])
    with pytest.raises(LimitError, match="terms"):
        fit_batch(data, "y ~ x0 + x1 + x2", by="trial", limits={"terms": 2}, progress=False)
    result = fit_batch(data, "y ~ x0 + x1", by="trial", limits={"columns": 2}, progress=False)
    assert set(result.fits["status"]) <= {"ok", "limit"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"term": 5}, "limits has no key 'term'; nearest: 'terms'"), ({"terms": 0}, "limits.terms=0"),
        ({"terms": "many"}, "limits.terms='many' is not a size"), (5, "limits must be an object"),
        ({"terms": float("nan")}, "limits.terms=nan"), ({"file_size": "infGB"}, "limits.file_size"),
    ],
)  # fmt: skip
def test_limits_themselves_are_checked(given, words):
    with pytest.raises(OptionError, match=words):
        lmm("y ~ x0", table(), limits=given)


def test_sizes_are_read_with_their_unit():
    assert Limits.of({"file_size": "2GB"}) == Limits(file_size=2 * 10**9)
    assert Limits.of(None) is DEFAULT is Limits.of(DEFAULT)
    assert [in_bytes("v", text) for text in (1, "1 kB", "1.5MiB", "2t")] == [1, 1000, 1500000, 2 * 10**12]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused_on_the_way(tmp_path, ending):
    path = tmp_path / f"bomb.csv{ending}"
    text = b"y\n" + b"1\n" * 25_000_000
    if ending == ".gz":
        path.write_bytes(gzip.compress(text, 9))
    else:
        pa = pytest.importorskip("pyarrow")
        with pa.output_stream(path, compression="zstd") as stream:
            stream.write(text)
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match=r"unpacks to at least .* times its size; the limit is 200"):
            read_bounded(path)
        assert tracemalloc.get_traced_memory()[1] < len(text) / 2
    finally:
        tracemalloc.stop()
    assert read_bounded(path, Limits(expansion=10**6)) == text
    with pytest.raises(LimitError, match=r"has at least .* bytes; the limit is 1,000"):
        read_bounded(path, Limits(file_size=1000))
    with pytest.raises(LimitError, match=r"limits={'expansion': ...}"):
        run({"data": str(path), "formula": "y ~ 1"})


def test_a_parquet_of_one_value_is_refused_by_its_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"y": np.ones(1_000_000)}), path)
    with pytest.raises(LimitError, match=r"unpacks to 8,0.* bytes; the limit is 1,000,000"):
        run({"data": str(path), "formula": "y ~ 1"}, limits={"file_size": "1MB"})


def test_ordinary_files_are_read_as_they_are(tmp_path):
    text = b"y,g\n" + b"".join(b"%d,a\n" % i for i in range(1000))
    for name, content in (("t.csv", text), ("t.csv.gz", gzip.compress(text))):
        (tmp_path / name).write_bytes(content)
        assert read_bounded(tmp_path / name) == text
    (tmp_path / "bad.gz").write_bytes(b"not gzip")
    with pytest.raises(OSError, match="gzip"):
        read_bounded(tmp_path / "bad.gz")


def test_a_pattern_that_does_not_fit_is_refused_before_it_is_listed(monkeypatch):
    """120 related lines of 60 coefficients: (7,200 x 7,201) / 2 entries, and those of the intercept."""
    rng = np.random.default_rng(0)
    names = [f"g{i:03d}" for i in range(120)]
    root = rng.normal(size=(120, 240))
    table = pd.DataFrame(
        {"gen": np.repeat(names, 60), "env": np.tile([f"e{k:02d}" for k in range(60)], 120)}
    ).assign(y=rng.normal(size=7200))
    table = table.iloc[1:]  # with all cells the lines would have their eigenbasis
    monkeypatch.setattr("fastlmm_core.linalg.memory.available_memory", lambda: 500_000_000)
    entries = 7200 * 7201 // 2 + 7200 + 1
    words = f"list of {entries:,} entries of 7,201 equations .*block of all"
    related = {"G": (root @ root.T / 240, names)}
    with pytest.raises(MemoryForecastError, match=words):
        prepare("y ~ 1 + us(0 + env | vm(gen, G))", table, relationships=related)
