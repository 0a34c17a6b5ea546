"""Strategies for formulas and requests that are almost right: what strangers and broken wrappers send."""

from hypothesis import strategies as st

COLUMNS = ("y", "x", "z", "n", "g", "f", "h", "b", "d", "T", "odd name")
NUMBERS = ("0", "1", "2", "3", "-1", "0.5", "1e3", "1e-300", "1e300", "99", "1e999", "1L")
FUNCTIONS = (
    "I", "log", "sqrt", "exp", "poly", "scale", "bs", "ns", "factor", "ordered", "C", "offset", "cut",
    "ifelse", "is.na", "interaction", "relevel", "mean", "dummy", "c", "as.numeric", "as.integer", "round",
    "pmin", "abs", "us", "diag", "cs", "ar1", "vm", "at", "spl", "ps", "nosuch", "np.log",
)  # fmt: skip
OPERATORS = (
    "+",
    "-",
    "*",
    ":",
    "/",
    "^",
    "%in%",
    "|",
    "||",
    "~",
    "==",
    "<",
    ">=",
    "!=",
    "&",
    "%%",
    "=",
    ",",
    " ",
)
LEAVES = st.one_of(
    st.sampled_from([f"`{name}`" if " " in name else name for name in COLUMNS]),
    st.sampled_from(NUMBERS),
    st.sampled_from(("'a'", '"b"', "TRUE", "NULL", "NA", "Inf", ".", "pi", "", "`a b`", "units", "'")),
)


def _grown(inner):
    call = st.builds(
        lambda f, xs: f"{f}({', '.join(xs)})", st.sampled_from(FUNCTIONS), st.lists(inner, max_size=3)
    )
    named = st.builds(
        lambda f, x, k, v: f"{f}({x}, {k}={v})", st.sampled_from(FUNCTIONS), inner,
        st.sampled_from(("df", "degree", "knots", "levels", "labels", "base", "ref", "k", "nseg", "where",
                         "out", "digits", "raw", "breaks", "center", "na.rm", "d", "hom")), inner,
    )  # fmt: skip
    binary = st.builds(lambda a, o, b: f"{a} {o} {b}", inner, st.sampled_from(OPERATORS), inner)
    return st.one_of(binary, binary, call, named, inner.map(lambda x: f"({x})"), inner.map(lambda x: f"-{x}"))


EXPRESSIONS = st.recursive(LEAVES, _grown, max_leaves=8)
BARS = st.builds(
    lambda left, bar, right: f"({left} {bar} {right})", EXPRESSIONS, st.sampled_from(("|", "||")), EXPRESSIONS
)
TERMS = st.lists(st.one_of(EXPRESSIONS, EXPRESSIONS, BARS), min_size=1, max_size=4).map(" + ".join)
FORMULAS = st.one_of(
    TERMS.map(lambda right: f"y ~ {right}"),
    st.builds(lambda left, right: f"{left} ~ {right}", EXPRESSIONS, TERMS),
    st.text(alphabet=st.characters(), max_size=40),
    st.text(alphabet="yxgf~+*:/^|()-01 ,='\"`%&!<>", max_size=40),
)

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from((10**20, 10**400, -(2**63), 2**53 + 1)),
    st.floats(), st.text(max_size=3), st.sampled_from(("a", "b", "1", "1.0", "NA", "", " ", "\ud800",
                                                      "\u202e")),
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
