"""What statsmodels 0.15 gets wrong or refuses, and what happens here."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import MixedLM, lmm, load_dataset, mixedlm
from sparselmm.errors import DataError, FormulaError, RankWarning, SingularFitWarning
from tests.values import case_id, cases, frame

REFERENCE = [case for case in cases() if case.get("statsmodels")]


@pytest.mark.parametrize("case", REFERENCE, ids=case_id)
@pytest.mark.filterwarnings("ignore::sparselmm.errors.SingularFitWarning")
def test_reference_fits_reach_the_optimum_of_lme4(case):
    names = {"MixedLM": MixedLM, "data": frame(case), "np": np, "REML": case["reml"]}
    fit = eval(case["statsmodels"], names)
    assert fit.converged
    assert -2 * fit.llf <= case["objective"] + 1e-9 * abs(case["objective"])
    assert_allclose(
        fit.fe_params, case["fixef"], rtol=1e-6, atol=1e-6 * np.abs(case["fixef"]).max()
    )
    assert_allclose(np.sqrt(fit.scale), case["sigma"], rtol=1e-6)
    variances = np.concatenate([np.diag(fit.cov_re), fit.vcomp])
    expected = [v for term in case["varcorr"] for v in np.diag(np.atleast_2d(term["cov"]))]
    assert_allclose(
        np.sort(variances), np.sort(expected), rtol=1e-5, atol=1e-8 * case["sigma"] ** 2
    )


@pytest.fixture(scope="module")
def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 40, 900), rng.integers(0, 25, 900)
    y = rng.normal(size=40)[a] + 0.5 * rng.normal(size=25)[b] + rng.normal(size=900)
    return pd.DataFrame({"y": y, "x": rng.normal(size=900), "a": a, "b": b, "one": 1})


def test_crossed_fits_reach_the_optimum(crossed):
    fit = mixedlm(
        "y ~ x", crossed, groups="one", vc_formula={"a": "0 + C(a)", "b": "0 + C(b)"}
    ).fit()
    best = lmm("y ~ x + (1 | a) + (1 | b)", crossed)
    assert_allclose(-2 * fit.llf, best.deviance, rtol=1e-12)
    effects = fit.random_effects[1]
    assert len(effects) == 65
    assert effects.index[0] == "a[C(a)[0]]"
    ranef = best.ranef()
    expected = ranef.loc[ranef["grpvar"] == "a", "condval"].to_numpy()
    assert_allclose(effects.iloc[:40], expected, atol=1e-8)
    assert fit.random_effects_cov[1].shape == (65, 65)


def test_two_groups_with_crossed_levels_inside(crossed):
    halves = crossed.assign(half=(np.arange(900) < 450).astype(int))
    fit = mixedlm("y ~ x", halves, groups="half", vc_formula={"a": "0 + C(a)", "b": "0 + C(b)"})
    best = lmm("y ~ x + (1 | half:a) + (1 | half:b)", halves)
    assert_allclose(-2 * fit.fit().llf, best.deviance, rtol=1e-12)


def test_singular_fits_answer_everything():
    data = load_dataset("dyestuff2")
    with pytest.warns(SingularFitWarning, match="random effects covariance matrix is singular"):
        fit = mixedlm("Yield ~ 1", data, groups="Batch").fit()
    assert fit.converged
    assert all((effects == 0).all() for effects in fit.random_effects.values())
    assert_allclose(fit.fittedvalues, data["Yield"].mean())
    assert (fit.random_effects_cov["A"].to_numpy() == 0).all()
    assert_allclose(fit.bse_fe.iloc[0], data["Yield"].std() / np.sqrt(len(data)), rtol=1e-10)
    assert np.isnan(fit.bse_re.iloc[0])
    assert_allclose(fit.model.loglike(fit.params_object), fit.llf)


def test_columns_constant_within_groups_keep_their_effect_at_the_boundary():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(10), 6)
    x = (g % 2).astype(float)
    within = rng.normal(size=60)
    y = 3 * x + within - pd.Series(within).groupby(g).transform("mean")
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    with pytest.warns(SingularFitWarning):
        fit = mixedlm("y ~ x", data, groups="g").fit()
    assert_allclose(fit.fe_params, [0, 3], atol=1e-10)
    fe, singular = fit.model.get_fe_params(np.zeros((1, 1)), [])
    assert singular
    assert_allclose(fe, [0, 3], atol=1e-10)


def test_correlation_of_one():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(20), 10)
    x = rng.normal(size=200)
    b = rng.normal(size=20)[g]
    data = pd.DataFrame({"y": b * (1 + x) + 0.1 * rng.normal(size=200), "x": x, "g": g})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mixedlm("y ~ x", data, groups="g", re_formula="~x").fit()
    assert fit.converged
    correlation = fit.cov_re.iloc[0, 1] / np.sqrt(np.prod(np.diag(fit.cov_re)))
    assert correlation > 0.999
    assert np.isfinite(fit.bse_fe).all()
    covariances = fit.random_effects_cov[3]
    assert (np.linalg.eigvalsh(covariances) > -1e-12).all()


def test_sparse_matrices(crossed):
    arguments = {"groups": "a", "re_formula": "1", "vc_formula": {"b": "0 + C(b)"}}
    dense = mixedlm("y ~ x", crossed, **arguments).fit()
    sparse = mixedlm("y ~ x", crossed, use_sparse=True, **arguments).fit()
    assert_allclose(sparse.fittedvalues, dense.fittedvalues)
    pd.testing.assert_frame_equal(sparse.random_effects_cov[3], dense.random_effects_cov[3])
    assert sparse.model.exog_vc.mats[0][3].format == "csr"
    assert_allclose(sparse.model.exog_vc.mats[0][3].toarray(), dense.model.exog_vc.mats[0][3])


def test_bootstrap_draws_from_the_model(sleepstudy):
    fit = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", re_formula="~Days").fit()
    mean, std, draws = fit.bootstrap(nrep=60, rng=3)
    assert draws.shape == (60, 5)
    assert fit.bootstrap_results is draws
    assert_allclose(mean[:2], fit.fe_params, atol=3 * np.max(fit.bse_fe) / np.sqrt(60) * 2)
    assert_allclose(std[:2], fit.bse_fe, rtol=0.4)
    again = fit.bootstrap(nrep=2, rng=3, store=0)[2]
    assert_allclose(again, draws[:2])


def test_hypotheses_as_strings_and_matrices(sleepstudy):
    pytest.importorskip("statsmodels")
    fit = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject").fit()
    named = fit.t_test("Days = 10")
    assert_allclose(named.effect - 10, fit.fe_params["Days"] - 10)
    assert_allclose(named.sd.item(), fit.bse_fe["Days"])
    narrow, wide = fit.f_test(np.array([[0, 1]])), fit.f_test(np.array([[0, 1, 0]]))
    assert_allclose(narrow.fvalue, wide.fvalue)
    assert_allclose(narrow.fvalue, (fit.fe_params["Days"] / fit.bse_fe["Days"]) ** 2)
    assert_allclose(fit.t_test({"Days": 10}).pvalue, named.pvalue)
    assert np.isfinite(fit.t_test("Subject Var = 1").pvalue)
    assert_allclose(fit.wald_test("Days = 0", scalar=True).statistic, narrow.fvalue)
    with pytest.raises(ValueError, match="should have 2 columns"):
        fit.t_test(np.eye(3))
    with pytest.raises(ValueError, match=r"4 columns; expected 2 \(fixed effects\) or 3"):
        fit.wald_test(np.eye(4))


def test_hypotheses_beside_a_singular_term():
    pytest.importorskip("statsmodels")
    with pytest.warns(SingularFitWarning):
        fit = mixedlm("Yield ~ 1", load_dataset("dyestuff2"), groups="Batch").fit()
    assert np.isfinite(fit.t_test("Intercept = 0").pvalue)
    assert np.isfinite(fit.t_test(np.eye(1)).pvalue)
    with pytest.raises(ValueError, match="'Batch Var' has no standard error"):
        fit.t_test("Batch Var = 0")


def test_regularized_fit_of_a_formula(sleepstudy):
    model = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject")
    plain, mild = model.fit(), model.fit_regularized(alpha=[0.0, 20.0])
    hard = model.fit_regularized(alpha=[0.0, 1e4])
    assert 0 < mild.fe_params["Days"] < plain.fe_params["Days"]
    assert hard.fe_params["Days"] == 0
    assert np.isnan(hard.bse["Days"])
    assert np.isfinite(hard.bse["Intercept"])
    assert_allclose(mild.cov_re, plain.cov_re)


def test_likelihood_before_fit(sleepstudy):
    model = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject")
    fit = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject").fit()
    assert_allclose(model.loglike(fit.params_object), fit.llf)
    assert_allclose(model.score(fit.params_object), 0, atol=1e-5)
    H, singular = model.hessian(fit.params_object)
    assert not singular
    assert_allclose(np.linalg.inv(-H), fit.cov_params(), rtol=1e-6, atol=1e-12)


def test_subset(sleepstudy):
    late = sleepstudy["Days"] >= 2
    expected = mixedlm("Reaction ~ Days", sleepstudy[late], groups="Subject").fit().params
    for subset in (late, late.to_numpy(), sleepstudy.index[late]):
        fit = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", subset=subset).fit()
        pd.testing.assert_series_equal(fit.params, expected)
    labels = np.asarray(sleepstudy["Subject"])
    fit = mixedlm("Reaction ~ Days", sleepstudy, groups=labels, subset=late).fit()
    assert_allclose(fit.params, expected)
    with pytest.raises(DataError, match="no label of the data's index"):
        mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", subset=[0, 1, 10_000])


@pytest.mark.parametrize("where", ["formula", "re_formula", "vc_formula"])
def test_bars_are_refused(where, sleepstudy):
    arguments = {"formula": "Reaction ~ Days", "groups": "Subject"}
    bar = {"formula": "Reaction ~ Days + (1 | Subject)", "re_formula": "1 | Subject"}
    arguments[where] = bar.get(where, {"a": "0 + Days | Subject"})
    with pytest.raises(FormulaError, match=r"Found a bar in .*Write groups='g', re_formula='~x'"):
        mixedlm(data=sleepstudy, **arguments)


def test_dependent_columns(sleepstudy):
    data = sleepstudy.assign(twice=2 * sleepstudy["Days"])
    with pytest.warns(RankWarning, match="twice; their estimates are NaN"):
        fit = mixedlm("Reaction ~ Days + twice", data, groups="Subject").fit()
    assert np.isnan(fit.params["twice"])
    assert_allclose(fit.params["Days"], 10.467, atol=1e-3)
    assert_allclose(fit.model.loglike(fit.params_object, profile_fe=False), fit.llf)
    assert np.isfinite(fit.predict(data.head(3))).all()
    assert fit.df_resid == 178


def test_missing_values(sleepstudy):
    data = sleepstudy.astype({"Days": float})
    data.loc[[0, 4], "Days"] = np.nan
    for missing in ("none", "raise"):
        with pytest.raises(DataError, match=r"Days in 2 rows; expected none with missing='"):
            mixedlm("Reaction ~ Days", data, groups="Subject", missing=missing)
    fit = mixedlm("Reaction ~ Days", data, groups="Subject", missing="drop").fit()
    assert fit.nobs == 178
    assert list(fit.resid.index[:2]) == [1, 2]
    kept = data.dropna()
    y, X = kept["Reaction"].to_numpy(), np.column_stack([np.ones(178), kept["Days"]])
    assert_allclose(MixedLM(y, X, kept["Subject"]).fit().llf, fit.llf)
    full = np.column_stack([np.ones(180), data["Days"]])
    dropped = MixedLM(data["Reaction"].to_numpy(), full, data["Subject"], missing="drop")
    assert_allclose(dropped.fit().llf, fit.llf)
    with pytest.raises(DataError, match="missing='maybe'; expected one of"):
        mixedlm("Reaction ~ Days", data, groups="Subject", missing="maybe")


def test_messages_for_wrong_input(sleepstudy):
    with pytest.raises(AttributeError, match="'groups' is a required keyword"):
        MixedLM.from_formula("Reaction ~ Days", sleepstudy)
    with pytest.raises(DataError, match="groups='Pig' is no column of the data"):
        mixedlm("Reaction ~ Days", sleepstudy, groups="Pig")
    with pytest.raises(DataError, match=r"expected one label for each of 180 rows"):
        mixedlm("Reaction ~ Days", sleepstudy, groups=[1, 2])
    with pytest.raises(DataError, match="have one level for 180 rows"):
        mixedlm("Reaction ~ Days", sleepstudy, groups=np.ones(180)).fit()
    with pytest.raises(DataError, match="cannot be told from the residual"):
        mixedlm("Reaction ~ Days", sleepstudy, groups=np.arange(180)).fit()
    with pytest.raises(DataError, match="constant"):
        mixedlm("Reaction ~ Days", sleepstudy.assign(Reaction=1.0), groups="Subject").fit()
    with pytest.raises(FormulaError, match="expected a response and predictors"):
        mixedlm("Days", sleepstudy, groups="Subject")
    with pytest.raises(FormulaError, match="re_formula `0` has no column"):
        mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", re_formula="0")
    with pytest.raises(ValueError, match="argument weights not permitted"):
        MixedLM([1.0, 2], [[1.0], [1]], [0, 1], weights=[1, 1])
    with pytest.raises(DataError, match="groups has 1 rows; expected 2 as endog"):
        MixedLM([1.0, 2], [[1.0], [1]], [0])
