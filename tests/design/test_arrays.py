"""The door for arrays makes the designs that formulas make."""

import numpy as np
import pandas as pd
import pytest

from sparselmm.design import ArrayTerm, build_design, design_from_arrays
from sparselmm.errors import DataError


def arrays(frame):
    X = np.column_stack([np.ones(len(frame)), frame["x"]])
    terms = [
        ArrayTerm("1 | h", "h", ["Intercept"], "unstructured", frame["h"]),
        ArrayTerm("x | g", "g", ["Intercept", "x"], "unstructured", frame["g"], X),
        ArrayTerm("0 + z | g", "g", ["z"], "scalar", frame["g"], frame["z"].to_numpy()),
    ]
    return frame["y"], X, ["Intercept", "x"], terms


@pytest.mark.parametrize("weights", [None, "w"])
def test_agrees_with_the_formula(frame, weights):
    frame.loc["row4", "x"] = np.nan
    frame.loc["row5", "h"] = None
    frame.loc["row6", "w"] = 0
    by_formula = build_design("y ~ x + (1 | h) + (x | g) + (0 + z | g)", frame, weights=weights)
    weights = None if weights is None else frame[weights]
    spec, design = design_from_arrays(*arrays(frame), weights=weights)
    expected_spec, expected = by_formula
    np.testing.assert_array_equal(design.y, expected.y)
    np.testing.assert_array_equal(design.X, expected.X)
    for ours, theirs in zip(design.factors, expected.factors, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        np.testing.assert_array_equal(ours.Q, theirs.Q)
    assert spec.column_names == expected_spec.column_names
    assert [list(x) for x in spec.levels] == [list(x) for x in expected_spec.levels]
    assert [(t.grouping, t.columns, t.factor, t.start) for t in spec.terms] == [
        (t.grouping, t.columns, t.factor, t.start) for t in expected_spec.terms
    ]
    assert [t.template for t in spec.terms] == ["unstructured", "scalar", "unstructured"]
    assert list(spec.index) == list(expected_spec.index)
    assert spec.n_dropped_missing == expected_spec.n_dropped_missing
    assert spec.n_dropped_zero_weight == expected_spec.n_dropped_zero_weight


def test_plain_tuples_and_lists_will_do():
    spec, design = design_from_arrays(
        [1.0, 2, 4, 3],
        [[1.0], [1], [1], [1]],
        ["const"],
        [("1 | g", "g", ["Group"], "unstructured", [5, 5, 2, 2])],
        response="height",
    )
    assert design.factors[0].codes.tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(design.factors[0].Q, np.ones((4, 1)))
    assert spec.formula == "height ~ const + (1 | g)"
    assert spec.terms[0].columns == ("Group",)


def test_new_rows_are_found_by_name(frame):
    y, X, names, terms = arrays(frame)
    spec, design = design_from_arrays(y, X, names, terms)
    encoded = spec.encode(frame.assign(Intercept=1.0))
    np.testing.assert_array_equal(encoded.X, design.X)
    for Q, codes, factor in zip(encoded.Q, encoded.codes, design.factors, strict=True):
        np.testing.assert_array_equal(Q, factor.Q)
        np.testing.assert_array_equal(codes, factor.codes)


def test_no_fixed_columns(frame):
    _, design = design_from_arrays(frame["y"], np.empty((60, 0)), [], arrays(frame)[3])
    assert design.X.shape == (60, 0)


MESSAGES = [
    (
        {"X": np.ones((60, 3))},
        (
            "X has shape (60, 3), expected (60, 2): one row per response, one column per name in "
            "['Intercept', 'x']."
        ),
    ),
    (
        {"terms": [("1 | g", "g", ["a"], "full", np.arange(60) % 2)]},
        (
            "(1 | g) has template 'full', expected one of unstructured, diagonal, scalar; "
            "choose one of these."
        ),
    ),
    (
        {"terms": [("1 | g", "g", ["a"], "scalar", np.arange(6))]},
        (
            "g has shape (6,), expected (60,), one value per row of the data; pass a column name "
            "or an array of that length."
        ),
    ),
    (
        {"terms": [("1 | g", "g", ["a", "b"], "scalar", np.arange(60) % 2)]},
        "Q of (1 | g) is missing, expected 2 columns for ['a', 'b'].",
    ),
    (
        {"y": pd.Series(["a"] * 60)},
        (
            "Response 'y' holds text or categories ('a'), numbers are expected; "
            "convert the column first."
        ),
    ),
]


@pytest.mark.parametrize(("change", "message"), MESSAGES, ids=[m[1][:20] for m in MESSAGES])
def test_messages(frame, change, message):
    given = dict(zip(["y", "X", "column_names", "terms"], arrays(frame), strict=True)) | change
    with pytest.raises(DataError) as caught:
        design_from_arrays(**given)
    assert str(caught.value) == message
