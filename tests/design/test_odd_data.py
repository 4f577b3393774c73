"""Data that fit a formula badly: masks, single levels, contrasts, extreme sizes, weights beside missing values."""

import numpy as np
import pandas as pd
import pytest

from sparselmm.design import build_design, design_from_arrays
from sparselmm.errors import DataError

FORMULA = "y ~ x + (1 | g)"
GONE = np.arange(60) == 3


def fails(message, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        build_design(*args, **kwargs)
    assert str(caught.value) == message


class TestMasks:
    def test_of_columns_and_offset(self, frame):
        columns = {name: frame[name].to_numpy() for name in frame}
        columns["x"] = np.ma.array(columns["x"], mask=GONE)
        columns["g"] = np.ma.array(columns["g"], mask=np.roll(GONE, 1))
        offset = np.ma.array(columns["z"], mask=np.roll(GONE, 2))
        spec, design = build_design(FORMULA, columns, offset=offset)
        kept = np.setdiff1d(np.arange(60), [3, 4, 5])
        assert spec.n_dropped_missing == 3
        np.testing.assert_array_equal(design.y, frame["y"].to_numpy()[kept])
        np.testing.assert_array_equal(design.X[:, 1], frame["x"].to_numpy()[kept])
        np.testing.assert_array_equal(design.offset, frame["z"].to_numpy()[kept])

    def test_of_arrays(self, frame):
        X = np.ma.array(frame[["x", "z"]].to_numpy(), mask=False)
        X[3, 1] = np.ma.masked
        y = np.ma.array(frame["y"].to_numpy(), mask=np.roll(GONE, 1))
        terms = [("1 | g", "g", ["Intercept"], "unstructured", frame["g"].to_numpy())]
        spec, design = design_from_arrays(y, X, ["x", "z"], terms)
        kept = np.setdiff1d(np.arange(60), [3, 4])
        assert spec.n_dropped_missing == 2
        np.testing.assert_array_equal(design.X, frame[["x", "z"]].to_numpy()[kept])

    def test_of_weights(self, frame):
        fails(
            "Weights 'weights': 1 of 60 are missing, finite numbers of zero or more are expected; "
            "replace them, or give weight 0 to drop a row.",
            FORMULA,
            frame,
            weights=np.ma.array(np.ones(60), mask=GONE),
        )


class TestWeights:
    @pytest.mark.parametrize(
        ("value", "kind"), [(np.nan, "missing"), (np.inf, "infinite"), (-1.0, "negative")]
    )
    def test_what_is_no_weight_counts_in_rows_used(self, frame, value, kind):
        weights = np.where(GONE, value, 1.0)
        fails(
            f"Weights 'weights': 1 of 60 are {kind}, finite numbers of zero or more are expected; "
            "replace them, or give weight 0 to drop a row.",
            FORMULA,
            frame,
            weights=weights,
        )
        frame.loc["row3", "x"] = np.nan
        spec, design = build_design(FORMULA, frame, weights=weights)
        assert (spec.n_dropped_missing, spec.n_dropped_zero_weight) == (1, 0)
        np.testing.assert_array_equal(design.weights, np.ones(59))

    def test_negative_beside_missing(self, frame):
        frame.loc["row3", "x"] = np.nan
        weights = np.where(GONE, np.nan, np.where(np.roll(GONE, 1), -1.0, 1.0))
        with pytest.raises(DataError, match="1 of 60 are negative"):
            build_design(FORMULA, frame, weights=weights)

    def test_missing_integers_are_not_zero(self, frame):
        weights = pd.Series(np.ones(60), dtype="Int64", index=frame.index)
        weights["row3"] = pd.NA
        with pytest.raises(DataError, match="1 of 60 are missing"):
            build_design(FORMULA, frame, weights=weights)

    def test_infinite_value_in_a_row_of_weight_zero(self, frame):
        frame.loc["row3", "x"] = np.inf
        spec, design = build_design(FORMULA, frame, weights=np.where(GONE, 0.0, 1.0))
        assert (len(design.y), spec.n_dropped_zero_weight) == (59, 1)


@pytest.mark.parametrize(
    ("formula", "factor"),
    [
        ("y ~ x + one + (1 | g)", "one"),
        ("y ~ x * one + (1 | g)", "one"),
        ("y ~ 0 + one + (1 | g)", "one"),
        ("y ~ x + C(const) + (1 | g)", "C(const)"),
        ("y ~ x + (one | g)", "one"),
        ("y ~ x + (one || g)", "one"),
    ],
)
@pytest.mark.parametrize("contrasts", [None, {"one": "sum"}, {"one": [[1.0]]}])
def test_one_level(frame, formula, factor, contrasts):
    if contrasts and "one" not in formula:
        return
    fails(
        f"Predictor `{factor}` has one level ({'k' if factor == 'one' else 3.0}) in the 60 rows "
        "used; at least 2 are expected; remove it from the formula, or check the column and the "
        "rows kept.",
        formula,
        frame.assign(one="k"),
        contrasts=contrasts,
    )


def test_one_level_in_the_rows_that_are_left(frame):
    frame.loc[frame["f"] != "a", "x"] = np.nan
    count = int((frame["f"] == "a").sum())
    with pytest.raises(DataError, match=rf"`f` has one level \(a\) in the {count} rows used"):
        build_design("y ~ x + f + (1 | h)", frame)


class TestContrasts:
    BAD = (
        (np.eye(4), "has shape (4, 4)"),
        (np.eye(3), "has shape (3, 3)"),
        ([1, 2], "has shape (2, 1)"),
        (np.ones((3, 0)), "has shape (3, 0)"),
        ([[1, 0], [0, np.nan], [0, 1]], "has shape (3, 2) with 1 values that are not finite"),
        ([["a"], ["b"], ["c"]], "is of type list"),
        (3, "is of type int"),
        ({"p": [1, 2], "q": [1, 2, 3]}, "is of type dict"),
    )

    @pytest.mark.parametrize(("choice", "found"), BAD, ids=[found for _, found in BAD])
    def test_matrix_of_another_shape(self, frame, choice, found):
        fails(
            f"contrasts['f'] {found}, expected finite numbers in a row for each of the 3 levels that "
            "occur (a, b, c) and at most 2 columns; correct the matrix, or name a contrast such as "
            "'sum'.",
            "y ~ f + (1 | g)",
            frame,
            contrasts={"f": choice},
        )

    @pytest.mark.parametrize("choice", ["sum", ["sum"], np.eye(2)])
    def test_no_mapping(self, frame, choice):
        fails(
            f"Found contrasts of type {type(choice).__name__}; expected a mapping from columns to "
            "contrasts, for example {'f': 'sum'}.",
            "y ~ f + (1 | g)",
            frame,
            contrasts=choice,
        )

    def test_of_a_grouping_factor(self, frame):
        fails(
            "contrasts name 'h', expected predictors of the formula (x, f); remove it or correct the "
            "name.",
            "y ~ x + f + (1 | h)",
            frame,
            contrasts={"h": "sum"},
        )

    @pytest.mark.parametrize(
        ("choice", "names"),
        [
            ([-1, 0, 1], ("f[1]",)),
            ([[-1, 1], [0, -2], [1, 1]], ("f[1]", "f[2]")),
            ({"lin": [-1, 0, 1], "quad": [1, -2, 1]}, ("f[lin]", "f[quad]")),
            (pd.DataFrame({"lin": [-1, 0, 1]}), ("f[lin]",)),
            (pd.DataFrame({"lin": [1, -1, 0]}, index=list("cab")), ("f[lin]",)),
        ],
    )
    def test_matrices(self, frame, choice, names):
        spec, design = build_design("y ~ f + (1 | g)", frame, contrasts={"f": choice})
        assert spec.column_names == ("Intercept", *names)
        linear = frame["f"].map({"a": -1.0, "b": 0.0, "c": 1.0})
        np.testing.assert_array_equal(design.X[:, 1], linear)
        np.testing.assert_array_equal(spec.encode(frame).X, design.X)


class TestExtremeSizes:
    @pytest.mark.parametrize("power", [150, -150])
    @pytest.mark.parametrize(("column", "role"), [("y", "Response"), ("x", "Predictor")])
    def test_columns(self, frame, power, column, role):
        frame[column] *= 10.0**power
        fails(
            f"{role} '{column}' has values up to {frame[column].abs().max():.2g} in size, expected "
            "between 1e-50 and 1e+50, or their squares leave the range of numbers; change the unit.",
            FORMULA,
            frame,
        )

    def test_left_of_the_bar(self, frame):
        with pytest.raises(DataError, match="Predictor 'z' has values up to .*e.200 in size"):
            build_design("y ~ x + (z | g)", frame.assign(z=frame["z"] * 1e200))

    @pytest.mark.parametrize("power", [300, -320])
    def test_weights(self, frame, power):
        with pytest.raises(
            DataError, match="Weights 'weights' has values up to .* change the unit"
        ):
            build_design(FORMULA, frame, weights=np.full(60, 10.0**power))

    def test_offset(self, frame):
        with pytest.raises(DataError, match="Offset 'offset' has values up to 1e.200 in size"):
            build_design(FORMULA, frame, offset=np.full(60, 1e200))

    def test_transformed(self, frame):
        with pytest.raises(DataError, match=r"Predictor 'I\(x \*\* 300\)' has values up to"):
            build_design("y ~ I(x**300) + (1 | g)", frame)

    def test_zeros_are_no_extreme(self, frame):
        assert build_design("y ~ x + zero + (1 | g)", frame.assign(zero=0.0))[1].X[:, 2].max() == 0
