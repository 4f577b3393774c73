"""Formulas where statsmodels is absent: the columns that patsy makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import mixedlm
from sparselmm.compat.statsmodels import formulas
from sparselmm.errors import FormulaError

patsy = pytest.importorskip("patsy")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 120
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("yxzw"))
    frame["c"], frame["d"] = rng.choice(list("pqr"), n), rng.choice(list("uv"), n)
    frame["flag"] = np.arange(n) % 3 == 0
    return frame.assign(g=rng.integers(0, 12, n))


RIGHT = [
    "c:x + z",
    "z:x + c + x",
    "(x + z + c) ** 2 - x:z",
    "0 + x * z * c",
    "w + (c + d):x + d",
    "c / x + d / z",
    "flag",
    "flag:x",
    "0 + flag + c",
    "flag * c + C(flag):z",
    "I(x > 0)",
    "I(x > 0):z + I(x + z)",
    "I(c == 'p') * d",
    "scale(x) + standardize(z) + center(w)",
    "np.where(flag, x, z)",
]


@pytest.mark.parametrize("right", RIGHT)
def test_columns_without_statsmodels(right, data, monkeypatch):
    expected = patsy.dmatrix(right, data, return_type="dataframe")
    monkeypatch.setattr(formulas, "formula_manager", lambda: None)
    found = formulas.engine_matrix(right, data, {"np": np})
    assert found.names == list(expected.columns)
    assert_allclose(found.values, expected, rtol=1e-12)
    rows = data.iloc[7:12]
    again = patsy.dmatrix(expected.design_info, rows)
    columns = (found.names, [name for name in data if name in right])
    made = formulas.repeat(right, found.spec, columns, rows, {"np": np})
    assert_allclose(made, again, rtol=1e-12)


def test_fits_without_statsmodels(data, monkeypatch):
    expected = mixedlm("y ~ flag:x", data, groups="g").fit()
    monkeypatch.setattr(formulas, "formula_manager", lambda: None)
    found = mixedlm("y ~ flag:x", data, groups="g").fit()
    pd.testing.assert_series_equal(found.params, expected.params)
    assert_allclose(
        found.predict({"flag": [True], "x": [2.0]}),
        2 * found.params["flag[True]:x"] + found.params["Intercept"],
    )
    with pytest.raises(
        FormulaError, match=r"`x > 0` cannot be evaluated: Unknown operator '>'\. x ?> ?0;"
    ):
        mixedlm("y ~ x > 0", data, groups="g")
