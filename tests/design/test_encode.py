"""New data: parts asked for, missing values, unseen levels and categories."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sparselmm.design import build_design
from sparselmm.errors import DataError


def test_missing_values_are_flagged_and_give_nan(frame):
    spec, design = build_design("y ~ x + bs(z, df=4) + (x | g) + (1 | h)", frame)
    new = frame.iloc[:6].drop(columns="y")
    new.loc["row1", "x"] = np.nan
    new.loc["row3", "h"] = None
    encoded = spec.encode(new)
    assert encoded.missing.tolist() == [False, True, False, True, False, False]
    assert np.isnan(encoded.X[[1, 3]]).all()
    assert all(np.isnan(Q[[1, 3]]).all() for Q in encoded.Q)
    rest = [0, 2, 4, 5]
    np.testing.assert_allclose(encoded.X[rest], design.X[rest])
    assert encoded.codes[1][3] == -1
    assert list(encoded.index) == list(new.index)


def test_only_the_parts_asked_for_are_needed(frame):
    spec, design = build_design("y ~ x + offset(w) + (z || g) + (1 | h)", frame)
    fixed = spec.encode(frame[["x", "w"]], terms=())
    np.testing.assert_array_equal(fixed.X, design.X)
    np.testing.assert_array_equal(fixed.offset, frame["w"])
    assert all((codes == -1).all() for codes in fixed.codes)
    assert all((Q == 0).all() for Q in fixed.Q)

    slope = spec.encode(frame[["z", "g"]], fixed=False, terms=[1])
    assert slope.X is None
    assert slope.offset is None
    np.testing.assert_array_equal(slope.codes[0], design.factors[0].codes)
    np.testing.assert_array_equal(slope.Q[0][:, 0], 0)
    np.testing.assert_array_equal(slope.Q[0][:, 1], frame["z"])
    assert (slope.codes[1] == -1).all()


def test_missing_groups_matter_only_when_asked_for(frame):
    spec, _ = build_design("y ~ x + (1 | h)", frame)
    new = frame.assign(h=None)
    assert not spec.encode(new, terms=()).missing.any()
    assert spec.encode(new).missing.all()


def test_all_rows_missing(frame):
    spec, _ = build_design("y ~ bs(x, df=4) + f + (1 | h)", frame)
    encoded = spec.encode(frame.assign(x=np.nan))
    assert encoded.missing.all()
    assert np.isnan(encoded.X).all()


def test_unseen_levels(frame):
    spec, _ = build_design("y ~ x + (1 | g/h)", frame)
    encoded = spec.encode(frame.iloc[:3].assign(g=[99, 1, 2]))
    assert (encoded.codes[0] < 0)[0]
    assert encoded.codes[1].tolist() == [-1, 1, 2]
    assert not encoded.missing.any()


def test_another_kind_of_frame(frame):
    spec, design = build_design("y ~ x*f + (f | g) + (1 | t)", frame)
    encoded = spec.encode(pl.from_pandas(frame))
    np.testing.assert_array_equal(encoded.X, design.X)
    np.testing.assert_array_equal(encoded.Q[0], design.factors[0].Q)
    np.testing.assert_array_equal(encoded.codes[1], design.factors[1].codes)
    assert encoded.index is None


def test_one_category_alone_keeps_its_columns(frame):
    spec, design = build_design("y ~ f + (0 + f | g)", frame)
    rows = np.flatnonzero(frame["f"] == "c")
    encoded = spec.encode(frame.iloc[rows])
    np.testing.assert_array_equal(encoded.X, design.X[rows])
    np.testing.assert_array_equal(encoded.Q[0], design.factors[0].Q[rows])


def test_categories_match_by_their_text():
    data = pd.DataFrame({"y": [1.0, 2, 4, 3, 5, 9], "f": list("121212"), "g": list("aabbcc")})
    spec, design = build_design("y ~ f + (1 | g)", data)
    np.testing.assert_array_equal(spec.encode(data.assign(f=data["f"].astype(int))).X, design.X)


MESSAGES = [
    (
        {"f": "new"},
        (
            "'f' holds 'new', which the model was not fitted with; expected one of 'a', 'b', 'c'; "
            "drop these rows or fit with them."
        ),
    ),
    (
        {"i": 9},
        (
            "The data do not fit `1 + x + f + C(i)`: Data has categories outside of the nominated "
            "levels (or that were not seen in original dataset): {np.int64(9)}. Give the variables "
            "the types and categories the model was fitted with."
        ),
    ),
    (
        {"x": "text"},
        (
            "Predictor 'x' holds text or categories ('text'), numbers are expected; "
            "convert the column first."
        ),
    ),
]


@pytest.mark.parametrize(("change", "message"), MESSAGES, ids=[str(m[0]) for m in MESSAGES])
def test_messages(frame, change, message):
    spec, _ = build_design("y ~ x + f + C(i) + (1 | g)", frame)
    with pytest.raises(DataError) as caught:
        spec.encode(frame.assign(**change))
    assert str(caught.value) == message


def test_missing_column(frame):
    spec, _ = build_design("y ~ x + (1 | g)", frame)
    with pytest.raises(DataError, match="The data have no column 'g'; did you mean 'G'?"):
        spec.encode(frame.rename(columns={"g": "G"}))
