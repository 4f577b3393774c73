"""Levels: learning, coding, interactions, and new values."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparselmm.data import open_table
from sparselmm.design.factors import code_column, code_integers, learn_levels

integers = st.one_of(
    st.integers(-5, 5), st.integers(10**6, 10**6 + 9), st.integers(-(2**62), 2**62)
)
arrays = st.lists(integers, min_size=1, max_size=40).map(np.array)


@given(arrays)
def test_codes_of_integers_are_ranks(values):
    codes, distinct = code_integers(values)
    expected, inverse = np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(distinct, expected)
    np.testing.assert_array_equal(codes, inverse)
    assert codes.dtype == np.int32


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint64"])
def test_narrow_and_unsigned_integers(dtype):
    limits = np.iinfo(dtype)
    values = np.array([limits.max, limits.min, limits.max, 3], dtype=dtype)
    codes, distinct = code_integers(values)
    assert distinct.tolist() == sorted({*values.tolist()})
    assert distinct[codes].tolist() == values.tolist()


VALUES = {
    "integers": np.array([30, 10, 30, 20]),
    "whole floats": np.array([30.0, 10.0, 30.0, 20.0]),
    "floats": np.array([3.5, -1.25, 3.5, 2.0]),
    "huge floats": np.array([1e300, -1e300, 1e300, 0.0]),
    "booleans": np.array([True, False, True, True]),
    "text": np.array(["c", "a", "c", "b"], dtype=object),
    "times": np.array(["2021-01-01", "2019-01-01", "2021-01-01", "NaT"], "datetime64[ns]")[:3],
}


def column(values, name="g"):
    return open_table({name: values}).column(name)


@pytest.mark.parametrize("kind", list(VALUES))
def test_levels_are_sorted(kind):
    values = VALUES[kind]
    codes, levels = code_column(column(values))
    assert list(levels) == sorted(set(pd.Index(values)))
    assert list(levels[codes]) == list(pd.Index(values))


@pytest.mark.parametrize("kind", list(VALUES))
def test_new_values_get_their_codes_or_minus_one(kind):
    values = VALUES[kind]
    levels, codes = learn_levels("g", ["g"], [code_column(column(values))])
    np.testing.assert_array_equal(levels.encode([column(values)]), codes)
    if kind != "booleans":
        some = values != values[0]
        levels, _ = learn_levels("g", ["g"], [code_column(column(values[some]))])
        assert (levels.encode([column(values)]) < 0).tolist() == (~some).tolist()


def test_whole_floats_are_labelled_as_integers():
    _, levels = code_column(column(np.array([2.0, 1.0])))
    assert levels.dtype == np.int64


def test_numbers_and_text_match_by_their_text():
    text, _ = learn_levels("g", ["g"], [code_column(column(["308", "309"]))])
    assert text.encode([column([309, 308, 1])]).tolist() == [1, 0, -1]
    assert text.encode([column([309.0, np.nan, 308.0])]).tolist() == [1, -1, 0]
    numbers, _ = learn_levels("g", ["g"], [code_column(column([308, 309]))])
    assert numbers.encode([column(["309", "x", None])]).tolist() == [1, -1, -1]


def test_unused_categories_and_missing_values():
    known = pd.Categorical(["b", "a"], categories=["z", "b", "a"])
    levels, codes = learn_levels("g", ["g"], [code_column(column(known))])
    assert list(levels.labels) == ["b", "a"]
    assert codes.tolist() == [0, 1]
    new = pd.Categorical(["a", None, "z"], categories=["a", "z", "b"])
    assert levels.encode([column(new)]).tolist() == [1, -1, -1]


parts = st.integers(1, 3).flatmap(
    lambda k: st.lists(st.tuples(*[st.sampled_from([1, 2, 10])] * k), min_size=1, max_size=30)
)


@given(parts, parts)
def test_interactions_are_ranked_tuples(rows, others):
    k = len(rows[0])
    names = [f"c{i}" for i in range(k)]
    columns = [column(values, name) for values, name in zip(np.array(rows).T, names, strict=True)]
    levels, codes = learn_levels(":".join(names), names, [code_column(c) for c in columns])
    distinct = sorted(set(rows))
    assert codes.tolist() == [distinct.index(row) for row in rows]
    assert list(levels.labels) == (
        [row[0] for row in distinct] if k == 1 else [":".join(map(str, row)) for row in distinct]
    )
    others = [row for row in others if len(row) == k]
    if others:
        columns = [column(v, name) for v, name in zip(np.array(others).T, names, strict=True)]
        expected = [distinct.index(row) if row in distinct else -1 for row in others]
        assert levels.encode(columns).tolist() == expected


def test_levels_may_be_learned_on_one_batch_and_coded_on_others():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 200), rng.integers(0, 4, 200)
    columns = [column(a, "a"), column(b, "b")]
    levels, codes = learn_levels("a:b", ["a", "b"], [code_column(c) for c in columns])
    batches = [
        levels.encode([column(a[i : i + 60], "a"), column(b[i : i + 60], "b")])
        for i in range(0, 200, 60)
    ]
    np.testing.assert_array_equal(np.concatenate(batches), codes)
