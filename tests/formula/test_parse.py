"""What every form of lme4's syntax means."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparselmm.formula import parse_formula
from sparselmm.formula import tokens as tokens_module
from sparselmm.formula.grouping import parse_groupings
from sparselmm.formula.tokens import tokenize

TERMS = [
    ("(1 | g)", ["1 | g"]),
    ("(1|g)", ["1 | g"]),
    ("(x | g)", ["x | g"]),
    ("(1 + x + z | g)", ["1 + x + z | g"]),
    ("(0 + x | g)", ["0 + x | g"]),
    ("(x - 1 | g)", ["x - 1 | g"]),
    ("(-1 + x | g)", ["-1 + x | g"]),
    ("(x || g)", ["1 | g", "0 + x | g"]),
    ("(1 + x + z || g)", ["1 | g", "0 + x | g", "0 + z | g"]),
    ("(0 + x || g)", ["0 + x | g"]),
    ("(x*z || g)", ["1 | g", "0 + x | g", "0 + z | g", "0 + x:z | g"]),
    ("(poly(x, 2) || g)", ["1 | g", "0 + poly(x, 2) | g"]),
    ("({x + 1} || g)", ["1 | g", "0 + {x + 1} | g"]),
    ("(1 | g/h)", ["1 | g", "1 | g:h"]),
    ("(1 | g/h/k)", ["1 | g", "1 | g:h", "1 | g:h:k"]),
    ("(1 | g:h)", ["1 | g:h"]),
    ("(1 | g*h)", ["1 | g", "1 | h", "1 | g:h"]),
    ("(x | g + h)", ["x | g", "x | h"]),
    ("(x || g + h)", ["1 | g", "0 + x | g", "1 | h", "0 + x | h"]),
    ("(1 | (g + h):k)", ["1 | g:k", "1 | h:k"]),
    ("(1 | g:g)", ["1 | g"]),
    ("(`a b` | `c d`)", ["`a b` | c d"]),
    ("(`a b` || g)", ["1 | g", "0 + `a b` | g"]),
    ("(bs(x, df=4) | g)", ["bs(x, df=4) | g"]),
    ("(np.log(x) | g)", ["np.log(x) | g"]),
    ("(1 | g) + (0 + x | g)", ["1 | g", "0 + x | g"]),
    ("(1 | dept:service)", ["1 | dept:service"]),
    ("(1 | class.room)", ["1 | class.room"]),
]


@pytest.mark.parametrize(("text", "labels"), TERMS, ids=[text for text, _ in TERMS])
def test_terms(text, labels):
    assert [term.label for term in parse_formula(f"y ~ 1 + {text}").random] == labels
    assert [term.label for term in parse_formula(f"y ~ {text} + a").random] == labels


FIXED = [
    ("y ~ (1 | g)", "1", (True, ())),
    ("y ~ 1 + (1 | g)", "1", (True, ())),
    ("y ~ 0 + (1 | g)", "0", (False, ())),
    ("y ~ x + (1 | g)", "x", (True, ("x",))),
    ("y ~ (1 | g) + x", "x", (True, ("x",))),
    ("y ~ x + (1 | g) + z", "x + z", (True, ("x", "z"))),
    ("y ~ x + (1 | g) - 1", "x - 1", (False, ("x",))),
    ("y ~ (1 | g) - 1 + x", "-1 + x", (False, ("x",))),
    ("y ~ -1 + x + (1 | g)", "-1 + x", (False, ("x",))),
    ("y ~ + x + (1 | g)", "x", (True, ("x",))),
    ("y ~ x + z - x + (1 | g)", "x + z - x", (True, ("z",))),
    ("y ~ x + x + (1 | g)", "x + x", (True, ("x",))),
    ("y ~ `my x` + (1 | g)", "`my x`", (True, ("my x",))),
    ("y~x.1+(1|g)", "x.1", (True, ("x.1",))),
    ("y ~ x * z + (1 | g)", "x * z", None),
    ("y ~ (a + b)**2 + (1 | g)", "(a + b)**2", None),
    ("y ~ np.log(x) + offset(w) + (1 | g)", "np.log(x)", None),
    ("y ~ C(x, contr.sum) + (1 | g)", "C(x, contr.sum)", None),
]


@pytest.mark.parametrize(("formula", "text", "plain"), FIXED, ids=[row[0] for row in FIXED])
def test_fixed_part(formula, text, plain):
    fixed = parse_formula(formula).fixed
    assert fixed.text == text
    assert fixed.plain == (plain is not None)
    if plain is not None:
        assert (fixed.intercept, fixed.names) == plain


@pytest.mark.parametrize(
    ("formula", "response", "is_name"),
    [
        ("y ~ (1 | g)", "y", True),
        ("`my y` ~ (1 | g)", "my y", True),
        ("np.log(y) ~ (1 | g)", "np.log(y)", False),
        ("{y / 100} ~ (1 | g)", "y / 100", False),
    ],
)
def test_response(formula, response, is_name):
    parsed = parse_formula(formula)
    assert (parsed.response, parsed.response_is_name) == (response, is_name)


def test_offsets_are_cut_out():
    parsed = parse_formula("y ~ x + offset(np.log(t)) + (1 | g) + offset(z)")
    assert parsed.offsets == ("np.log(t)", "z")
    assert parsed.fixed.text == "x"


def test_new_lines_do_not_matter():
    parsed = parse_formula("y ~ x\n  + (x\n | g)")
    assert (parsed.fixed.text, parsed.random[0].label) == ("x", "x | g")


def test_parsing_loads_neither_formulaic_nor_pandas():
    code = (
        "import sys; from sparselmm.formula import parse_formula; "
        "parse_formula('y ~ x*z + (1 + x || g/h) + (0 + x | a:b)'); "
        "assert not {'formulaic', 'pandas'} & {*sys.modules}"
    )
    # `x*z` stays text, and only the plain side of `||` is split here
    subprocess.run([sys.executable, "-c", code], check=True)


names = st.sampled_from(["x", "y1", "a.b", "_z", "g", "x2", "Ä"])
pieces = st.one_of(names, st.sampled_from(["0", "1", "2.5", "~", "+", "-", "*", "/", ":", "|"]))
pieces = st.one_of(pieces, st.sampled_from(["||", "**", "^", " (", ")", " "]))


@given(st.lists(pieces, max_size=12))
def test_plain_and_formulaic_tokenizers_agree(parts):
    """The short tokenizer for plain formulas gives what formulaic's gives."""
    formula = " ".join(parts)
    plain = [
        tokens_module._plain_token(match) for match in tokens_module._PLAIN_TOKEN.finditer(formula)
    ]
    assert plain == [token for part in tokens_module._formulaic(formula) for token in part]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
def test_nesting_gives_every_prefix(columns):
    text = "/".join(columns)
    assert parse_groupings(tokenize(text), text) == tuple(
        tuple(columns[: i + 1]) for i in range(len(columns))
    )
