"""Formula and data to names, matrices, codes: the formula door as a whole."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sparselmm.design import build_design

FORMULAS = [
    "y ~ x + (x | g)",
    "y ~ 0 + (1 | g)",
    "y ~ x*z + (x*z | g)",
    "y ~ f*x + (f || g)",
    "y ~ 0 + f + (0 + f | g)",
    "y ~ flag*f + (1 | flag:g)",
    "y ~ `my x` + (`my x` | g) + (1 | `h`)",
    "y ~ bs(x, df=4) + (1 | g)",
    "y ~ x + (poly(x, 2) | g)",
    "y ~ cr(x, df=3) + (bs(x, df=4) || g)",
    "y ~ center(x) + (center(x) | g)",
    "y ~ np.log(x) + (np.log(x) | h)",
    "y ~ scale(x) + I(x**2) + (1 | g/h)",
    "y ~ C(i, contr.sum) + (C(i) | g)",
    "y ~ x:f + (0 + x:f | g)",
    "y ~ Q('my x') + {x.clip(2, 3)} + (1 | g)",
    "np.log(y + 10) ~ x + (1 | g)",
    "{y / 100} ~ x + (1 | g*h)",
    "y ~ x + offset(np.log(x)) + (1 | t)",
]


def assert_same_rows(design, encoded, rows=slice(None)):
    np.testing.assert_allclose(encoded.X, design.X[rows], rtol=1e-14, atol=1e-14)
    for codes, Q, factor in zip(encoded.codes, encoded.Q, design.factors, strict=True):
        np.testing.assert_array_equal(codes, factor.codes[rows])
        np.testing.assert_allclose(Q, factor.Q[rows], rtol=1e-14, atol=1e-14)
    if design.offset is not None:
        np.testing.assert_allclose(encoded.offset, design.offset[rows])


def same(a, b):
    """Two designs with the same numbers in them."""
    np.testing.assert_array_equal(a.y, b.y)
    np.testing.assert_array_equal(a.X, b.X)
    for left, right in zip(a.factors, b.factors, strict=True):
        np.testing.assert_array_equal(left.codes, right.codes)
        np.testing.assert_array_equal(left.Q, right.Q)


@pytest.mark.parametrize("formula", FORMULAS)
def test_layout_of_the_arrays(frame, formula):
    spec, design = build_design(formula, frame)
    n = len(frame)
    assert design.y.shape == (n,)
    assert design.X.shape == (n, len(spec.column_names))
    assert design.X.flags.c_contiguous
    assert all(a.dtype == np.float64 for a in (design.y, design.X))
    assert design.y.flags.writeable
    for j, factor in enumerate(design.factors):
        assert factor.codes.dtype == np.int32
        assert sorted(set(factor.codes)) == list(range(factor.n_levels))
        assert factor.Q.dtype == np.float64
        assert factor.Q.flags.c_contiguous
        own = [term for term in spec.terms if term.factor == j]
        assert [term.start for term in own] == [0, *(term.stop for term in own[:-1])]
        assert own[-1].stop == factor.Q.shape[1]
        assert len(spec.levels[j]) == factor.n_levels
        assert {term.grouping for term in own} == {spec.factor_names[j]}


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_specification_repeats_the_design_on_any_rows(frame, formula):
    spec, design = build_design(formula, frame)
    spec = pickle.loads(pickle.dumps(spec))
    assert_same_rows(design, spec.encode(frame.drop(columns="y")))
    rows = [7, 3, 50]
    assert_same_rows(design, spec.encode(frame.iloc[rows]), rows)


@pytest.mark.parametrize("formula", FORMULAS)
def test_names_are_those_of_formulaic(frame, formula):
    spec, _ = build_design(formula, frame)
    assert tuple(spec.fixed_spec.column_names) == spec.column_names
    for term, model_spec in zip(spec.terms, spec.random_specs, strict=True):
        assert tuple(model_spec.column_names) == term.columns
    assert sorted(i for at in spec.fixed_terms.values() for i in at) == list(
        range(len(spec.column_names))
    )
    terms = {str(term): tuple(at) for term, at in spec.fixed_spec.term_indices.items()}
    assert terms == spec.fixed_terms


@pytest.mark.parametrize(
    "formula", ["y ~ x*f + flag + (x | g) + (1 | h)", "y ~ (1 | h/f) + (0 + f | g)", "y ~ (1 | t)"]
)
def test_kinds_of_frame_agree(frame, formula):
    frame = frame.drop(columns="const").reset_index(drop=True)
    frame.loc[3, "x"] = np.nan
    frame.loc[5, "h"] = None
    frame.loc[9, "y"] = np.nan
    spec, design = build_design(formula, frame)
    kinds = {
        "polars": pl.from_pandas(frame),
        "pyarrow": pa.Table.from_pandas(frame),
        "mapping": dict(frame.items()),
        "categories": frame.astype({"f": "category", "h": "category", "g": "category"}),
    }
    for data in kinds.values():
        other_spec, other = build_design(formula, data)
        same(design, other)
        assert other_spec.column_names == spec.column_names
        assert [list(x) for x in other_spec.levels] == [list(x) for x in spec.levels]
        assert other_spec.n_dropped_missing == spec.n_dropped_missing


def test_double_bar_on_a_factor_is_lme4s(frame):
    spec, design = build_design("y ~ (f || g)", frame)
    assert [(t.label, t.columns, t.factor, t.start) for t in spec.terms] == [
        ("1 | g", ("Intercept",), 0, 0),
        ("0 + f | g", ("f[a]", "f[b]", "f[c]"), 0, 1),
    ]
    assert len(design.factors) == 1


def test_terms_and_factors_by_decreasing_number_of_levels(frame):
    spec, design = build_design("y ~ (1 | h) + (0 + x | g) + (1 | g:h) + (1 | g)", frame)
    assert [t.label for t in spec.terms] == ["1 | g:h", "0 + x | g", "1 | g", "1 | h"]
    assert spec.factor_names == ("g:h", "g", "h")
    assert [t.factor for t in spec.terms] == [0, 1, 1, 2]
    np.testing.assert_array_equal(design.factors[1].Q, np.column_stack([frame.x, np.ones(60)]))


def test_ties_keep_the_order_written():
    data = {"y": np.arange(12.0) ** 2, "x": np.arange(12.0)}
    data |= {"a": np.arange(12) % 3, "b": np.arange(12) // 4}
    spec, _ = build_design("y ~ (1 | b) + (1 | a) + (0 + x | b)", data)
    assert [t.label for t in spec.terms] == ["1 | b", "1 | a", "0 + x | b"]
    assert [t.factor for t in spec.terms] == [0, 1, 0]
    assert spec.factor_names == ("b", "a")


def test_columns_in_either_order_name_one_factor(frame):
    spec, design = build_design("y ~ (1 | g:h) + (0 + x | h:g)", frame)
    assert spec.factor_names == ("g:h",)
    assert design.factors[0].Q.shape[1] == 2


def test_interaction_levels_are_the_combinations_that_occur():
    data = {"y": [1.0, 2, 3, 5], "a": ["u", "u", "v", "v"], "b": [10, 2, 2, 2]}
    spec, design = build_design("y ~ (1 | a:b)", data)
    assert list(spec.levels[0]) == ["u:2", "u:10", "v:2"]
    assert design.factors[0].codes.tolist() == [1, 0, 2, 2]


def test_matrices_are_made_once_and_shared(frame):
    _, design = build_design("y ~ x + (x | g) + (x | h) + (1 | f) + (1 | flag)", frame)
    g, h, f, flag = design.factors
    assert g.Q is h.Q is design.X
    assert f.Q is flag.Q


def test_data_may_change_afterwards(frame):
    data = {name: frame[name].to_numpy(copy=True) for name in ("y", "x", "g", "w", "z")}
    _, design = build_design("y ~ x + (1 | g)", data, weights="w", offset="z")
    for values in data.values():
        values[:] = 0
    np.testing.assert_array_equal(design.y, frame["y"])
    np.testing.assert_array_equal(design.X[:, 1], frame["x"])
    np.testing.assert_array_equal(design.weights, frame["w"])
    np.testing.assert_array_equal(design.offset, frame["z"])
    assert design.factors[0].n_levels == 6


def test_index_of_the_rows_kept(frame):
    frame.loc["row4", "x"] = np.nan
    spec, design = build_design("y ~ x + (1 | g)", frame)
    assert list(spec.index) == [name for name in frame.index if name != "row4"]
    assert (spec.n_dropped_missing, design.n) == (1, 59)
    assert build_design("y ~ x + (1 | g)", pl.from_pandas(frame))[0].index is None


def test_missing_rows_of_other_columns_do_not_count(frame):
    frame.loc["row4", "z"] = np.nan
    assert build_design("y ~ x + (1 | g)", frame)[0].n_dropped_missing == 0


def test_unused_categories_are_dropped_everywhere():
    levels = ["c", "a", "b", "unused"]
    f = pd.Categorical(list("abcabcab"), categories=levels)
    data = pd.DataFrame({"y": np.arange(8.0) ** 2, "f": f, "g": f})
    data.loc[data["f"] == "c", "y"] = np.nan
    spec, design = build_design("y ~ f + (1 | g)", data)
    assert spec.column_names == ("Intercept", "f[T.b]")
    assert list(spec.levels[0]) == ["a", "b"]
    assert design.factors[0].n_levels == 2


class TestWeightsAndOffset:
    def test_columns_and_arrays_agree(self, frame):
        by_name = build_design("y ~ x + (1 | g)", frame, weights="w", offset="z")
        by_array = build_design(
            "y ~ x + (1 | g)", frame, weights=frame["w"].to_numpy(), offset=list(frame["z"])
        )
        np.testing.assert_array_equal(by_name[1].weights, frame["w"])
        np.testing.assert_array_equal(by_array[1].weights, frame["w"])
        np.testing.assert_array_equal(by_name[1].offset, by_array[1].offset)
        assert (by_name[0].weights_name, by_name[0].offset_name) == ("w", "z")
        assert (by_array[0].weights_name, by_array[0].offset_name) == (None, None)

    def test_offsets_add_up(self, frame):
        spec, design = build_design(
            "y ~ offset(x) + offset(np.log(x)) + (1 | g)", frame, offset="z"
        )
        np.testing.assert_allclose(design.offset, frame["x"] + np.log(frame["x"]) + frame["z"])
        np.testing.assert_allclose(spec.encode(frame).offset, frame["x"] + np.log(frame["x"]))

    def test_zero_weights_and_missing_values_are_counted_apart(self, frame):
        weights = frame["w"].to_numpy(copy=True)
        weights[[0, 1, 2]] = 0
        frame.loc[["row2", "row9"], "x"] = np.nan
        spec, design = build_design("y ~ x + (1 | g)", frame, weights=weights)
        assert (spec.n_dropped_missing, spec.n_dropped_zero_weight, design.n) == (2, 2, 56)
        assert (design.weights > 0).all()

    def test_missing_offsets_drop_rows(self, frame):
        offset = frame["z"].where(frame["z"] > 0)
        spec, design = build_design("y ~ x + (1 | g)", frame, offset=offset)
        assert design.n == (frame["z"] > 0).sum() == 60 - spec.n_dropped_missing


class TestContrasts:
    @pytest.mark.parametrize(
        ("choice", "names", "first"),
        [
            ("treatment", ("f[T.b]", "f[T.c]"), {"a": (0, 0), "b": (1, 0), "c": (0, 1)}),
            ("sum", ("f[S.a]", "f[S.b]"), {"a": (1, 0), "b": (0, 1), "c": (-1, -1)}),
            ("helmert", ("f[H.b]", "f[H.c]"), {"a": (-1, -1), "b": (1, -1), "c": (0, 2)}),
            (
                np.array([[1, 0], [0, 1], [-1, -1]]),
                ("f[1]", "f[2]"),
                {"a": (1, 0), "b": (0, 1), "c": (-1, -1)},
            ),
        ],
        ids=["treatment", "sum", "helmert", "matrix"],
    )
    def test_names_and_values(self, frame, choice, names, first):
        spec, design = build_design("y ~ f + (f | g)", frame, contrasts={"f": choice})
        assert spec.column_names == ("Intercept", *names)
        assert spec.terms[0].columns == ("Intercept", *names)
        for row, level in zip(design.X, frame["f"], strict=True):
            assert tuple(row[1:]) == first[level]
        spec = pickle.loads(pickle.dumps(spec))
        assert_same_rows(design, spec.encode(frame.iloc[:2]), [0, 1])
