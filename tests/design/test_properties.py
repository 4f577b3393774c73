"""What may not change a design: order of rows, names of levels, order of terms."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselmm.design import build_design

FORMULA = "y ~ x + (x | g) + (1 | g:h)"


@st.composite
def frames(draw):
    n = draw(st.integers(8, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "g": rng.permutation(np.arange(n) % 2),
            "h": rng.permutation(np.array(["p", "q"])[np.arange(n) % 2]),
        }
    )
    for name in draw(st.sets(st.sampled_from(["y", "x"]))):
        frame.loc[rng.integers(0, n // 4), name] = np.nan
    return frame, rng.permutation(n)


@settings(max_examples=30, deadline=None)
@given(frames())
def test_permuted_rows_give_permuted_rows(drawn):
    frame, order = drawn
    spec, design = build_design(FORMULA, frame)
    shuffled_spec, shuffled = build_design(FORMULA, frame.iloc[order])
    rows = spec.index.get_indexer(shuffled_spec.index)
    np.testing.assert_array_equal(shuffled.y, design.y[rows])
    np.testing.assert_array_equal(shuffled.X, design.X[rows])
    for ours, theirs in zip(shuffled.factors, design.factors, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes[rows])
        np.testing.assert_array_equal(ours.Q, theirs.Q[rows])


@settings(max_examples=30, deadline=None)
@given(frames())
def test_levels_keep_their_rows_under_new_names(drawn):
    frame, _ = drawn
    _, design = build_design(FORMULA, frame)
    renamed = frame.assign(g=frame["g"].map({0: "second", 1: "first"}))
    spec, other = build_design(FORMULA, renamed)
    g = spec.factor_names.index("g")
    np.testing.assert_array_equal(other.factors[g].codes, 1 - design.factors[g].codes)


@settings(max_examples=30, deadline=None)
@given(frames())
def test_order_of_terms_only_permutes_columns_of_q(drawn):
    frame, _ = drawn
    _, one = build_design("y ~ x + (1 | g) + (0 + x | g) + (1 | g:h)", frame)
    _, two = build_design("y ~ x + (1 | g:h) + (0 + x | g) + (1 | g)", frame)
    for left, right in zip(one.factors, two.factors, strict=True):
        np.testing.assert_array_equal(left.codes, right.codes)
        np.testing.assert_array_equal(left.Q, right.Q[:, ::-1])
