"""Bad data and formulas that do not fit them: exact texts."""

import numpy as np
import pandas as pd
import pytest

from sparselmm.design import build_design
from sparselmm.errors import DataError, FormulaError, IdentifiabilityWarning

MESSAGES = [
    (
        "y ~ x + X + (1 | g)",
        DataError,
        ("The data have no column 'X'; did you mean 'x'?\n    y ~ x + X + (1 | g)\n            ^"),
    ),
    (
        "y ~ x + np.log(x + X) + (1 | g)",
        DataError,
        (
            "The data have no column 'X'; did you mean 'x'?\n"
            "    y ~ x + np.log(x + X) + (1 | g)\n"
            "                       ^"
        ),
    ),
    (
        "y ~ x + (`my X` | g)",
        DataError,
        (
            "The data have no column 'my X'; did you mean 'my x'?\n"
            "    y ~ x + (`my X` | g)\n"
            "             ^^^^^^"
        ),
    ),
    (
        "y ~ x + (1 | gg)",
        DataError,
        (
            "The data have no column 'gg'; did you mean 'g'?\n"
            "    y ~ x + (1 | gg)\n"
            "                 ^^"
        ),
    ),
    (
        "yy ~ x + (1 | g)",
        DataError,
        ("The data have no column 'yy'; did you mean 'y'?\n    yy ~ x + (1 | g)\n    ^^"),
    ),
    (
        "y ~ x + I(i^2) + (1 | g)",
        FormulaError,
        (
            "Found `^` in `I(i ^ 2)`, which Python reads as 'exclusive or'; write `**` for a power.\n"
            "    y ~ x + I(i^2) + (1 | g)\n"
            "               ^"
        ),
    ),
    (
        "I(i^2) ~ x + (1 | g)",
        FormulaError,
        (
            "Found `^` in `I(i^2)`, which Python reads as 'exclusive or'; write `**` for a power.\n"
            "    I(i^2) ~ x + (1 | g)\n"
            "       ^"
        ),
    ),
    (
        "h ~ x + (1 | g)",
        DataError,
        (
            "Response 'h' holds text or categories ('p', 'q', 'r', ...), numbers are expected; "
            "convert the column first."
        ),
    ),
    (
        "const ~ x + (1 | g)",
        DataError,
        (
            "Response 'const' is constant (3 in all 60 rows); a mixed model needs a response that "
            "varies; check the column and the rows kept."
        ),
    ),
    (
        "y ~ x + (1 | const)",
        DataError,
        (
            "Grouping factor 'const' has one level (3) for 60 rows; at least 2 are expected; "
            "remove its random effects or check the column and the rows kept."
        ),
    ),
    (
        "y ~ (1 | x)",
        DataError,
        (
            "Grouping factor 'x' has 60 levels for 60 rows; the random effects of (1 | x) cannot "
            "be told from the residual. Drop the term, reduce it, or aggregate."
        ),
    ),
    (
        "y ~ (1 | g) + (x | g)",
        FormulaError,
        (
            "(x | g) has the column 'Intercept' a second time for grouping factor 'g'; every "
            "column can vary once by a factor; merge the terms, or remove the column with `0 +`.\n"
            "    y ~ (1 | g) + (x | g)\n"
            "                  ^^^^^^^"
        ),
    ),
    (
        "y ~ t + (1 | g)",
        DataError,
        (
            "Predictor 't' holds dates or times, numbers, text or categories are expected; convert "
            "it, for example to days since the first."
        ),
    ),
    (
        "y ~ np.log(x - 5) + (1 | g)",
        DataError,
        (
            "`np.log(x - 5)` is not a finite number in 60 of 60 rows where its variables are; "
            "change the transformation or drop these rows first."
        ),
    ),
    (
        "y ~ foo(x) + (1 | g)",
        FormulaError,
        (
            "`foo(x)` calls 'foo', which is neither a transform of formulaic (bs, cr, poly, scale, "
            "center, log, C, ...) nor in numpy (`np.`); compute the column in the data first.\n"
            "    y ~ foo(x) + (1 | g)\n"
            "        ^^^"
        ),
    ),
    (
        "y ~ factor(i) + (1 | g)",
        FormulaError,
        (
            "`factor(i)` calls 'factor', which is no transform of formulaic; write `C`.\n"
            "    y ~ factor(i) + (1 | g)\n"
            "        ^^^^^^"
        ),
    ),
    (
        "sqrt(x) ~ z + (1 | g)",
        FormulaError,
        (
            "`sqrt(x)` calls 'sqrt', which is no transform of formulaic; write `np.sqrt`.\n"
            "    sqrt(x) ~ z + (1 | g)\n"
            "    ^^^^"
        ),
    ),
    (
        "y ~ x:offset(z) + (1 | g)",
        FormulaError,
        (
            "`offset(z)` calls 'offset', which is no transform of formulaic; write `+ offset(...)` as "
            "a term of its own.\n"
            "    y ~ x:offset(z) + (1 | g)\n"
            "          ^^^^^^"
        ),
    ),
    (
        "y ~ x + as.factor(i) + (1 | g)",
        FormulaError,
        (
            "Found `as.factor`, a conversion of R; write `C(x)` for a factor, or convert the column "
            "in the data first.\n"
            "    y ~ x + as.factor(i) + (1 | g)\n"
            "            ^^^^^^^^^"
        ),
    ),
    (
        "as.numeric(y) ~ x + (1 | g)",
        FormulaError,
        (
            "Found `as.numeric`, a conversion of R; write `C(x)` for a factor, or convert the column "
            "in the data first.\n"
            "    as.numeric(y) ~ x + (1 | g)\n"
            "    ^^^^^^^^^^"
        ),
    ),
    (
        "y ~ poly(x, 2, raw=TRUE) + (1 | g)",
        FormulaError,
        (
            "Found `TRUE`, which is `True` in Python; write that.\n"
            "    y ~ poly(x, 2, raw=TRUE) + (1 | g)\n"
            "                       ^^^^"
        ),
    ),
    (
        "{y[:5]} ~ x + (1 | g)",
        DataError,
        (
            "`y[:5]` gives 5 values for 60 rows; one number or category per row is expected; check "
            "the types of its variables and what its functions return."
        ),
    ),
    (
        "np.mean(y) ~ x + (1 | g)",
        DataError,
        (
            "`np.mean(y)` cannot be evaluated with these data (axis 1 is out of bounds for array of "
            "dimension 1); one number or category per row is expected; check the types of its "
            "variables and what its functions return."
        ),
    ),
    (
        "C(f) ~ x + (1 | g)",
        DataError,
        (
            "`C(f)` gives 3 columns (C(f)[a], C(f)[b], C(f)[c]), one column of numbers is "
            "expected; compute it in the data first."
        ),
    ),
    (
        "y ~ x z + f + (1 | g)",
        FormulaError,
        ("The formula cannot be read: Missing operator between `x` and `z`.\n    x z + f\n    ^^^"),
    ),
    (
        "y ~ {x +} + (1 | g)",
        FormulaError,
        (
            "`{x +}` cannot be evaluated: invalid syntax (<unknown>, line 1). Columns, numpy as "
            "`np` and formulaic's transforms can be used; compute anything else as a column first."
        ),
    ),
]


@pytest.mark.parametrize(("formula", "kind", "message"), MESSAGES, ids=[m[0] for m in MESSAGES])
def test_message(frame, formula, kind, message):
    with pytest.raises(kind) as caught:
        build_design(formula, frame)
    assert str(caught.value) == message


def test_reasons_of_formulaic_are_passed_on(frame):
    with pytest.raises(FormulaError, match=r"`bs\(f, df=4\)` cannot be evaluated: .*ValueError"):
        build_design("y ~ bs(f, df=4) + (1 | g)", frame)


def fails(message, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        build_design(*args, **kwargs)
    assert str(caught.value) == message


def test_weights(frame):
    formula = "y ~ x + (1 | g)"
    fails(
        "Weights 'weights': 60 of 60 are negative, finite numbers of zero or more are expected; "
        "replace them, or give weight 0 to drop a row.",
        formula,
        frame,
        weights=-frame["w"],
    )
    frame.loc["row3", "w"] = np.nan
    fails(
        "Weights 'w': 1 of 60 are missing, finite numbers of zero or more are expected; "
        "replace them, or give weight 0 to drop a row.",
        formula,
        frame,
        weights="w",
    )
    fails(
        "All 60 rows without missing values have weight zero; positive weights are expected; "
        "check the weights.",
        formula,
        frame,
        weights=np.zeros(60),
    )
    fails("The data have no column 'ww'; did you mean 'w'?", formula, frame, weights="ww")


def test_no_rows(frame):
    fails("The data have no rows; at least two are expected.", "y ~ x + (1 | g)", frame.iloc[:0])
    frame["x"] = np.nan
    frame.loc["row1", "y"] = np.nan
    fails(
        "All 60 rows have a missing value in some variable of the model (missing: 'x' 60, 'y' 1); "
        "complete rows are expected; fill or leave out these variables.",
        "y ~ x + (1 | g)",
        frame,
    )


def test_infinite(frame):
    frame.loc["row2", "x"] = np.inf
    fails(
        "'x' holds 1 infinite value, first in row 2 (counted from 0), finite numbers are expected; "
        "replace them, or make them missing so that the rows are dropped.",
        "y ~ x + (1 | g)",
        frame,
    )


def test_contrasts(frame):
    formula = "y ~ f + x + (1 | g)"
    fails(
        "contrasts['f'] is 'hel', expected one of treatment, sum, helmert, poly, diff, sas, "
        "a contrast of formulaic or a matrix.",
        formula,
        frame,
        contrasts={"f": "hel"},
    )
    fails(
        "contrasts name 'F', expected predictors of the formula (f, x); "
        "remove it or correct the name.",
        formula,
        frame,
        contrasts={"F": "sum"},
    )
    fails(
        "contrasts['x']: the column holds numbers, text or categories are expected; "
        "make it categorical first.",
        formula,
        frame,
        contrasts={"x": "sum"},
    )


class TestAsManyCoefficientsAsRows:
    """A term with l s >= n is refused exactly where its variances mix with the residual."""

    def paired(self, x):
        n = len(x)
        return pd.DataFrame({"y": np.arange(n) ** 2.0, "x": x, "g": np.arange(n) // 2})

    def test_slope_per_row_is_fitted_with_a_warning(self, frame):
        with pytest.warns(IdentifiabilityWarning) as caught:
            build_design("y ~ (0 + x | x)", frame)
        assert str(caught[0].message) == (
            "Grouping factor 'x' has 60 levels for 60 rows; fewer random coefficients than rows "
            "are expected. The variances of (0 + x | x) rest on the pattern of the predictor or "
            "the weights alone; consider a simpler term."
        )

    def test_intercept_per_row_with_weights_is_fitted_with_a_warning(self, frame):
        with pytest.warns(IdentifiabilityWarning):
            build_design("y ~ (1 | x)", frame, weights="w")

    def test_equal_weights_do_not_help(self, frame):
        with pytest.raises(DataError, match="cannot be told from the residual"):
            build_design("y ~ (1 | x)", frame, weights=np.full(60, 2.0))

    def test_slope_of_a_sign_is_an_intercept(self, frame):
        frame["s"] = np.where(np.arange(60) % 2, -2.0, 2.0)
        with pytest.raises(DataError, match="cannot be told from the residual"):
            build_design("y ~ (0 + s | x)", frame)

    def test_intercept_and_slope_on_the_same_two_points(self):
        data = self.paired(np.tile([0.0, 1.0], 6))
        with pytest.raises(DataError, match="6 levels x 2 coefficients for 12 rows"):
            build_design("y ~ (x | g)", data)

    def test_intercept_and_slope_on_different_points(self):
        data = self.paired(np.arange(12.0) ** 1.5)
        with pytest.warns(IdentifiabilityWarning):
            build_design("y ~ (x | g)", data)

    def test_two_points_without_correlation(self):
        data = self.paired(np.tile([-1.0, 1.0], 6))
        with pytest.raises(DataError, match="cannot be told"):
            build_design("y ~ (x | g)", data)
