"""Wrong arguments: one line that says what was found, what is expected and what to write."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from sparselmm import MixedLM, mixedlm
from sparselmm.compat.statsmodels import MixedLMParams
from sparselmm.errors import ConvergenceWarning, DataError, FormulaError


@pytest.fixture
def model(sleepstudy):
    return mixedlm("Reaction ~ Days", sleepstudy, groups="Subject")


FIT = [
    (
        {"free": 3},
        TypeError,
        (
            "Found free=3; expected a MixedLMParams of ones and zeros. Write free=MixedLMParams.from_components"
            "(fe_params, cov_re, vcomp=vcomp) with 1 where an element is estimated."
        ),
    ),
    (
        {"reml": "foo"},
        TypeError,
        "Found reml='foo'; expected True (REML) or False (maximum likelihood); write one of the two.",
    ),
    (
        {"method": "magic"},
        ValueError,
        (
            "method 'magic' is unknown; expected one of bfgs, lbfgs, cg, nm, powell, basinhopping, minimize, or "
            "leave it out."
        ),
    ),
    (
        {"method": 3},
        TypeError,
        (
            "Found method=3; expected the name of one of statsmodels' optimisers or a list of such names. Leave it "
            "out: it chooses nothing here."
        ),
    ),
    (
        {"start_params": "a"},
        TypeError,
        (
            "invalid start_params: found 'a'; expected a MixedLMParams or a vector of 1 covariance parameters. Pass "
            "`params_object` of an earlier fit, or leave it out."
        ),
    ),
    (
        {"start_params": [np.nan]},
        ValueError,
        (
            "invalid start_params: found covariance parameters that are missing or infinite; expected finite ones. "
            "Leave start_params out to start where the data suggest."
        ),
    ),
    (
        {"maxiter": "a"},
        ValueError,
        "Found maxiter='a'; expected a positive number of evaluations. Leave it out for no limit.",
    ),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), FIT, ids=lambda value: str(value)[:30])
def test_arguments_of_fit(arguments, kind, message, model):
    for call in (model.fit, model.fit_regularized):
        if "method" in arguments and call == model.fit_regularized:
            continue
        with pytest.raises(kind) as caught:
            call(**arguments)
        assert str(caught.value) == message


POINTS = [
    (np.ones(3), ValueError, "Found a vector of 3 as params; expected a vector of 1 (covariance p"),
    ("a", TypeError, "Found 'a' as params; expected a vector of 1"),
    (None, TypeError, "Found None as params; expected a vector of 1"),
    (
        MixedLMParams.from_components(np.zeros(2), cov_re=np.eye(2)),
        ValueError,
        "params has shapes (2, (2, 2), 0) of fe_params, cov_re and vcomp; expected (2, (1, 1), 0).",
    ),
]


@pytest.mark.parametrize(("params", "kind", "message"), POINTS, ids=lambda v: str(v)[:20])
def test_points_of_another_model(params, kind, message, model):
    for call in (model.loglike, model.score, model.score_full, model.score_sqrt):
        with pytest.raises(kind, match=re.escape(message)):
            call(params)


def test_parts_of_another_model(model):
    with pytest.raises(ValueError, match=r"vector of 2 as params; expected a vector of 3 \(fixed"):
        model.hessian(np.ones(2))
    shapes = r"of shapes \(\(2,\), \(3, 3\), \(0,\)\); expected \(\(2,\), \(1, 1\), \(0,\)\)"
    with pytest.raises(ValueError, match=shapes):
        model.get_fe_params(np.eye(3), [])
    with pytest.raises(ValueError, match=r"of shapes \(\(1,\), .*; expected \(\(2,\)"):
        model.get_scale([1.0], np.eye(1), [])
    with pytest.raises(ValueError, match=r"params of shape \(2,\); expected a vector of 3, packed"):
        model.get_distribution([1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match=r"exog of shape \(5, 2\); expected \(180, 2\): a draw"):
        model.get_distribution([1.0, 2.0, 0.5], 1.0, exog=np.ones((5, 2)))
    with pytest.raises(DataError, match=r"params=\[1.0\]; expected .* 2 fixed effects: Interc"):
        model.predict([1.0])
    at = MixedLMParams.from_components(cov_re=np.eye(1))
    assert model.loglike(at) == model.loglike([1.0])


VC = [
    (
        ["0 + C(h)"],
        (
            "Found vc_formula=['0 + C(h)']; expected a dictionary of a formula for each component. Write "
            "vc_formula={'h': '0 + C(h)'}."
        ),
    ),
    (
        "0 + C(h)",
        (
            "Found vc_formula='0 + C(h)'; expected a dictionary of a formula for each component. Write "
            "vc_formula={'h': '0 + C(h)'}."
        ),
    ),
    (
        {"h": 3},
        (
            "Found the entry 'h': 3 in vc_formula; expected a name and a formula, both texts. Write "
            "{'h': '0 + C(h)'}."
        ),
    ),
]


@pytest.mark.parametrize(("vc_formula", "message"), VC)
def test_component_formulas(vc_formula, message, sleepstudy):
    with pytest.raises(TypeError) as caught:
        mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", vc_formula=vc_formula)
    assert str(caught.value) == message


def test_random_effects_formula(sleepstudy):
    with pytest.raises(TypeError, match=re.escape("Found re_formula=1; expected a text. Write ")):
        mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", re_formula=1)
    with pytest.raises(FormulaError, match="re_formula `0` has no column and there is no vc_form"):
        mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", re_formula="0")
    y, X, g = sleepstudy["Reaction"], sleepstudy[["Days"]], sleepstudy["Subject"]
    with pytest.raises(DataError, match="exog_re has no column and exog_vc no component"):
        MixedLM(y, X, g, exog_re=np.empty((180, 0)))
    with pytest.raises(TypeError, match="Found exog_vc of type list; expected a VCSpec"):
        MixedLM(y, X, g, exog_vc=[1])


SUBSETS = [
    ("Days > 2", TypeError, "Found subset of type str; expected booleans, one per row, or labels"),
    (3, TypeError, "Found subset of type int; expected booleans"),
    ({"Days": 2}, TypeError, "Found subset of type dict; expected booleans"),
    (slice(0, 9), TypeError, "Found subset of type slice; expected booleans"),
    (np.ones((180, 2), bool), TypeError, "Found subset of type ndarray; expected booleans"),
    ([True, False], DataError, "subset has 2 booleans; expected one per row (180)."),
    (["a"], DataError, "subset holds 'a', which is no label of the data's index; expected"),
    ([], DataError, "subset selects none of 180 rows; expected at least one. Leave it out for"),
    (np.zeros(180, bool), DataError, "subset selects none of 180 rows"),
    ([True, None] * 90, DataError, "subset holds None, which is no label"),
]


@pytest.mark.parametrize(("subset", "kind", "message"), SUBSETS, ids=lambda v: str(v)[:20])
def test_subsets(subset, kind, message, sleepstudy):
    with pytest.raises(kind, match=re.escape(message)):
        mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", subset=subset)


def test_a_subset_in_a_series_goes_by_label(sleepstudy):
    late = sleepstudy["Days"] >= 2
    arguments = {"groups": "Subject", "data": sleepstudy}
    expected = mixedlm("Reaction ~ Days", subset=late, **arguments).fit().params
    shuffled = late.sample(frac=1.0, random_state=1)
    found = mixedlm("Reaction ~ Days", subset=shuffled, **arguments).fit().params
    pd.testing.assert_series_equal(found, expected)
    found = mixedlm("Reaction ~ Days", subset=late.astype("boolean"), **arguments).fit().params
    pd.testing.assert_series_equal(found, expected)
    other = pd.Series(late.to_numpy(), index=late.index + 5)
    with pytest.raises(DataError, match="whose labels are not those of the data's index"):
        mixedlm("Reaction ~ Days", subset=other, **arguments)


def test_names_that_do_not_exist(sleepstudy):
    with pytest.raises(FormulaError) as caught:
        mixedlm("Reaction ~ Days + nobody", sleepstudy, groups="Subject")
    assert "`Days + nobody` cannot be evaluated: " in str(caught.value)
    assert "nobody" in str(caught.value)
    assert "; expected columns of the data, of the kinds and levels" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_regularized_fits_name_themselves(model):
    with pytest.warns(
        FutureWarning,
        match=re.escape("Argument cov_type not used by MixedLM.fit_regularized; leave it out."),
    ) as caught:
        model.fit_regularized(alpha=0.1, cov_type="HC0")
    assert caught[0].filename == __file__
    for alpha in ([1, 2, 3], -1.0, "a"):
        message = (
            f"Found alpha={alpha!r}; expected one weight of zero or more, or 2 of them, one for each of "
            "Intercept, Days."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            model.fit_regularized(alpha=alpha)


def test_warnings_point_at_the_caller(model):
    for call in (lambda: model.fit(method="bfgs"), lambda: model.fit().bootstrap(1, "nm", rng=1)):
        with pytest.warns(FutureWarning, match="chooses nothing") as caught:
            call()
        assert caught[0].filename == __file__


def test_limits_of_a_masked_fit(sleepstudy):
    model = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", re_formula="~Days")
    mask = MixedLMParams.from_components(np.ones(2), cov_re=np.diag([1.0, 0.0]))
    start = MixedLMParams.from_components(np.zeros(2), cov_re=np.diag([40.0, 1e-3]))
    with pytest.warns(ConvergenceWarning) as caught:
        short = model.fit(start_params=start, free=mask, maxiter=1)
    expected = (
        "MixedLM: not converged: stopped at the largest number of evaluations; raise maxiter."
    )
    assert str(caught[0].message) == expected
    assert not short.converged
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        assert model.fit(start_params=start, free=mask).llf > short.llf


def test_what_is_profiled(sleepstudy):
    arguments = {"re_formula": "1", "vc_formula": {"d": "0 + Days"}}
    fit = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", **arguments).fit()
    for index in (1, -1, "Subject"):
        with pytest.raises(IndexError) as caught:
            fit.profile_re(index, "re")
        assert str(caught.value) == (
            f"Found re_ix={index!r}; expected a number from 0, one of the 1 columns of exog_re (['Subject']). For "
            "a variance component give its name and vtype='vc'."
        )
    message = (
        "Found re_ix=0; expected the name of a variance component, one of ['d']. For a column of exog_re give its "
        "number and vtype='re'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit.profile_re(0, "vc")


def test_columns_to_drop(sleepstudy):
    with pytest.raises(
        ValueError, match="Found drop_cols; expected a formula of the columns to keep"
    ):
        mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", drop_cols=["Days"])
