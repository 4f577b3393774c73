"""Errors in formulas: what they say and the character they point at."""

import pytest

from sparselmm.errors import FormulaError
from sparselmm.formula import parse_formula

MESSAGES = [
    (
        "y ~ x + 1 | g",
        "The bar `|` does not stand in parentheses; write `(1 | g)`.",
        "          ^",
    ),
    (
        "y ~ x * (1 | g)",
        (
            "A random-effects term can only be added, found `*`; write `+` before it, and the "
            "interaction left of the bar."
        ),
        "      ^",
    ),
    (
        "y ~ (1 | g):x",
        (
            "A random-effects term can only be added, found `:`; write `+` before it, and the "
            "interaction left of the bar."
        ),
        "           ^",
    ),
    (
        "y ~ (1 | )",
        "Nothing stands right of the bar; name the grouping factor.",
        "       ^",
    ),
    (
        "y ~ ( | g)",
        "Nothing stands left of the bar; write `1` for an intercept.",
        "      ^",
    ),
    (
        "y ~ (0 | g)",
        "No column is left of the bar; write `1` for an intercept.",
        "     ^",
    ),
    (
        "y ~ (x + | g)",
        "Nothing follows `+`; remove it.",
        "       ^",
    ),
    (
        "y ~ (1 | g | h)",
        (
            "One pair of parentheses holds one bar; write each random-effects term in parentheses "
            "of its own."
        ),
        "           ^",
    ),
    (
        "y ~ (x + (1 | g))",
        (
            "A random-effects term stands inside other parentheses; add it at the top level: "
            "`... + (1 | g)`."
        ),
        "            ^",
    ),
    (
        "y ~ x (1 | g)",
        "`+` is missing beside a random-effects term.",
        "    ^",
    ),
    (
        "y ~ (1 | g) (1 | h)",
        "`+` is missing beside a random-effects term.",
        "          ^",
    ),
    (
        "y ~ x(1 | g)",
        "This is read as a function call; `+` is missing before `(`.",
        "    ^^^^^^^^",
    ),
    (
        "y ~ x - (1 | g)",
        "A random-effects term cannot be subtracted; leave it out instead.",
        "      ^",
    ),
    (
        "y ~ (1 | g) + x + (1 | g)",
        "The random-effects term (1 | g) is there twice; remove one.",
        "                  ^^^^^^^",
    ),
    (
        "y ~ (1 | a/b) + (1 | b:a)",
        "The random-effects term (1 | b:a) is there twice; remove one.",
        "                ^^^^^^^^^",
    ),
    (
        "~ x + (1 | g)",
        "The formula has no response; name the column to model left of `~`.",
        "^",
    ),
    (
        "x + (1 | g)",
        "The formula has no `~`; write `response ~ predictors + (1 | group)`.",
        "^",
    ),
    (
        "y ~ x ~ (1 | g)",
        "The formula has more than one `~`; keep the one after the response.",
        "      ^",
    ),
    (
        "y ~",
        "Nothing stands right of `~`; add predictors and a term such as `(1 | group)`.",
        "  ^",
    ),
    (
        "y ~ x",
        (
            "The formula has no random-effects term; add at least one, for example "
            "`+ (1 | group)`, or fit it by ordinary least squares."
        ),
        "     ^",
    ),
    (
        "a + b ~ (1 | g)",
        (
            "One response is expected left of `~`, a column or one function call; write arithmetic "
            "in braces, `{y / 100} ~ ...`."
        ),
        "^^^^^",
    ),
    (
        "y ~ y + (1 | g)",
        "The response 'y' is a predictor too; remove it from the right side.",
        "^",
    ),
    (
        "y ~ (1 | C(g))",
        (
            "Right of a bar only column names joined by `:`, `/`, `*`, `+` can stand, "
            "found `C(g)`; compute the grouping as a column of the data first."
        ),
        "         ^^^^",
    ),
    (
        "y ~ (1 | g - h)",
        (
            "Right of a bar only column names joined by `:`, `/`, `*`, `+` can stand, found `-`; "
            "compute the grouping as a column of the data first."
        ),
        "           ^",
    ),
    (
        "y ~ (1 | g h)",
        (
            "Right of a bar only column names joined by `:`, `/`, `*`, `+` can stand, found `h`; "
            "compute the grouping as a column of the data first."
        ),
        "           ^",
    ),
    (
        "y ~ (1 | g:)",
        "The grouping factor is incomplete; name a column after the operator.",
        "            ^",
    ),
    ("y ~ x + (1 | g", "`(` is never closed; add `)`.", "        ^"),
    ("y ~ (1 | g)) + x", "`)` closes nothing; remove it.", "           ^"),
    ("y ~ (1 | g) +", "Nothing follows `+`; remove it.", "            ^"),
    (
        "y ~ (1 | g) - offset(x)",
        "An offset can only be added as a term of its own: `+ offset(x)`.",
        "              ^^^^^^^^^",
    ),
    (
        "y ~ . - x + (1 | g)",
        (
            "`.` (all other columns) would hold the grouping factors too; name the columns, joined "
            "by `+`."
        ),
        "    ^",
    ),
    (
        "y ~ log(x) + (. | g)",
        (
            "`.` (all other columns) would hold the grouping factors too; name the columns, joined "
            "by `+`."
        ),
        "              ^",
    ),
    (
        "y ~ x + (y | g)",
        "The response 'y' is a predictor too; remove it from the right side.",
        "^",
    ),
    ("y ~ offset() + (1 | g)", "`offset()` is empty; name the column to add.", "    ^^^^^^^^"),
]


@pytest.mark.parametrize(("formula", "message", "carets"), MESSAGES, ids=[m[0] for m in MESSAGES])
def test_message_and_position(formula, message, carets):
    with pytest.raises(FormulaError) as caught:
        parse_formula(formula)
    assert str(caught.value).split("\n") == [message, f"    {formula}", f"    {carets}"]


def test_formulaics_own_syntax_errors_get_carets_too():
    with pytest.raises(FormulaError) as caught:
        parse_formula("y ~ z + log(x + (1 | g)")
    assert str(caught.value).split("\n") == [
        "The formula cannot be read: Formula ended before quote context was closed. Expected: )",
        "    y ~ z + log(x + (1 | g)",
        "            ^^^^^^^^^^^^^^^",
    ]


@pytest.mark.parametrize("formula", [3, None, ("y",), {"y": [1.0]}])
def test_not_a_text(formula):
    with pytest.raises(FormulaError, match="expected text; write it as a string"):
        parse_formula(formula)


def test_unreadable_left_side_of_a_double_bar_points_at_the_term():
    with pytest.raises(FormulaError, match="left side of the bar cannot be read") as caught:
        parse_formula("y ~ (x z || g)")
    assert str(caught.value).endswith("        ^^^^^^^^^^")
