"""Arrays and matrices of components that make no model, and terms that repeat each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import MixedLM, mixedlm
from sparselmm.compat.statsmodels import VCSpec
from sparselmm.errors import DataError, IdentifiabilityWarning


@pytest.fixture
def arrays(sleepstudy):
    X = np.column_stack([np.ones(180), sleepstudy["Days"]])
    return sleepstudy["Reaction"].to_numpy(), X, sleepstudy["Subject"].astype(int).to_numpy()


def test_rows_in_another_order_are_refused(sleepstudy):
    days = sleepstudy[["Days"]].sample(frac=1.0, random_state=1)
    with pytest.raises(DataError, match=r"indices for endog and exog are not aligned; .*\.loc\["):
        MixedLM(sleepstudy["Reaction"], days, sleepstudy["Subject"])
    sorted_again = days.loc[sleepstudy.index]
    fit = MixedLM(sleepstudy["Reaction"], sorted_again, sleepstudy["Subject"]).fit()
    assert list(fit.params.index) == ["Days", "Group Var"]


def test_values_that_are_no_numbers(arrays):
    y, X, g = arrays
    for values in (y.astype(str), y.astype(str).astype(object), y + 1j, pd.Series(y.astype(str))):
        with pytest.raises(DataError, match="endog holds values that are no numbers"):
            MixedLM(values, X, g)
    assert_allclose(MixedLM(y.astype(object), X, g).endog, y)


def test_nothing_to_fit(arrays, sleepstudy):
    y, X, _ = arrays
    with pytest.raises(DataError, match="Found groups=None; expected a label for every row"):
        MixedLM(y, X, None)
    with pytest.raises(DataError, match="endog has no rows"):
        MixedLM(np.empty(0), np.empty((0, 1)), np.empty(0))
    absent = sleepstudy.assign(Days=np.nan)
    for data in (sleepstudy.head(0), absent):
        with pytest.raises(DataError, match="Found no row to fit `Reaction ~ Days` to"):
            mixedlm("Reaction ~ Days", data, groups="Subject", missing="drop")


def test_components_that_are_not_complete(arrays):
    y, X, g = arrays
    columns, ones = [["c"]] * 18, [np.ones((10, 1))] * 18
    for spec, message in (
        (VCSpec(["a", "a"], [columns] * 2, [ones] * 2), "two components named 'a'; expected diff"),
        (VCSpec(["a", "b"], [columns], [ones] * 2), "2 names, 1 lists of column names and 2 lists"),
        (VCSpec(["a"], [[[]] * 18], [[np.ones((10, 0))] * 18]), "'a' of exog_vc has no column"),
    ):
        with pytest.raises(DataError, match=message):
            _ = MixedLM(y, X, g, exog_vc=spec).components


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"re_formula": "1", "vc_formula": {"s": "0 + C(Subject)"}},
            "Component 's' has the columns and the levels of the random effects of the groups: only",
        ),
        (
            {"re_formula": "~Days", "vc_formula": {"d": "0 + Days"}},
            "Component 'd' has the columns and the levels of the random effects of the groups: only",
        ),
        (
            {"vc_formula": {"a": "0 + C(Days)", "b": "0 + C(Days)"}},
            "Component 'b' has the columns and the levels of component 'a': only the sum of their",
        ),
    ],
)
def test_terms_that_repeat_each_other(arguments, message, sleepstudy):
    data = pd.concat([sleepstudy, sleepstudy.assign(Reaction=lambda d: d["Reaction"] + 20)])
    data = data.reset_index(drop=True)
    data["Reaction"] += np.random.default_rng(0).normal(size=len(data))
    with pytest.warns(IdentifiabilityWarning, match=message) as caught:
        mixedlm("Reaction ~ Days", data, groups="Subject", **arguments).fit()
    assert caught[0].filename == __file__


def test_slopes_beside_intercepts_do_not_repeat_them(sleepstudy, recwarn):
    arguments = {"re_formula": "1", "vc_formula": {"d": "0 + Days", "e": "0 + I(Days**2)"}}
    mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", **arguments).fit()
    assert not [w for w in recwarn if issubclass(w.category, IdentifiabilityWarning)]
