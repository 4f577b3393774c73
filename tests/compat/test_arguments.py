"""Every argument of `fit` works or says what to write instead."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import MixedLM, lmm, mixedlm
from sparselmm.compat.statsmodels import MixedLMParams, VCSpec
from sparselmm.errors import ConvergenceWarning, SparseLMMWarning


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(3)
    n, groups = 480, 60
    g = np.repeat(np.arange(groups), 8)
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    b = rng.normal(size=(groups, 3)) * [1, 0.7, 0.5]
    y = X @ [1, 2] + (Z * b[g]).sum(axis=1) + rng.normal(size=n)
    return y, X, g, Z


def mask(cov_re, vcomp=()):
    return MixedLMParams.from_components(np.ones(2), cov_re=np.array(cov_re), vcomp=np.array(vcomp))


MASKS = {
    "diagonal": np.eye(3),
    "block": [[1, 1, 0], [1, 1, 0], [0, 0, 1]],
    "root pattern": [[1, 0, 1], [0, 1, 1], [1, 1, 1]],
    "variance held": [[0, 0, 0], [0, 1, 0], [0, 0, 1]],
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_as_in_statsmodels(name, arrays):
    lme = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    y, X, g, Z = arrays
    ours = MixedLM(y, X, g, exog_re=Z).fit(free=mask(MASKS[name]))
    free = lme.MixedLMParams.from_components(np.ones(2), cov_re=np.array(MASKS[name], float))
    theirs = lme.MixedLM(y, X, g, exog_re=Z).fit(free=free, gtol=1e-8)
    assert ours.converged
    assert_allclose(ours.llf, theirs.llf, atol=1e-5)
    assert_allclose(ours.cov_re, theirs.cov_re, atol=2e-4)
    assert_allclose(ours.params, theirs.params, atol=2e-4)
    assert_allclose(ours.bse, theirs.bse, atol=2e-4)
    score = ours.model.score(ours.params_object)
    assert_allclose(score, 0, atol=1e-3)


def test_diagonal_mask_is_the_double_bar(arrays):
    y, X, g, Z = arrays
    data = pd.DataFrame({"y": y, "x": X[:, 1], "a": Z[:, 1], "b": Z[:, 2], "g": g})
    model = mixedlm("y ~ x", data, groups="g", re_formula="~a + b")
    fit = model.fit(free=mask(np.eye(3)), reml=False)
    best = lmm("y ~ x + (a + b || g)", data, reml=False)
    assert_allclose(-2 * fit.llf, best.deviance, rtol=1e-12)
    assert_allclose([fit.aic, fit.bic], [best.aic, best.bic], rtol=1e-10)
    off = fit.bse[["g x a Cov", "g x b Cov", "a x b Cov"]]
    assert (off == 0).all()


def test_mask_on_the_elements_of_cov_re(arrays):
    y, X, g, Z = arrays
    pattern = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]])
    roots = MixedLM(y, X, g, exog_re=Z).fit(free=mask(pattern))
    elements = MixedLM(y, X, g, exog_re=Z, use_sqrt=False).fit(free=mask(pattern))
    assert elements.converged
    assert_allclose(elements.llf, roots.llf, rtol=1e-10)
    assert_allclose(elements.cov_re, roots.cov_re, atol=1e-5)
    assert elements.cov_re[0, 1] == 0


def test_held_components(arrays):
    y, X, g, Z = arrays
    mats = [Z[g == k, 1:] for k in range(60)]
    spec = VCSpec(["a"], [[["z1", "z2"]] * 60], [mats])
    model = MixedLM(y, X, g, exog_re=np.ones(480), exog_vc=spec)
    start = MixedLMParams.from_components(np.zeros(2), cov_re=np.eye(1), vcomp=[0.25])
    fit = model.fit(free=mask(np.eye(1), [0]), start_params=start)
    assert_allclose(fit.vcomp / fit.scale, 0.25)
    curve = model.fit().profile_re("a", "vc", 0, 0.0, 1, 0.1)
    assert curve[1, 1] < curve[0, 1]


def test_starting_values_lead_to_the_same_optimum(arrays):
    y, X, g, Z = arrays
    model = MixedLM(y, X, g, exog_re=Z)
    plain = model.fit()
    for start in (
        np.r_[1, 0, 1, 0, 0, 1.0],
        np.r_[0, 0, 2, 0.1, 1, 0, 0, 3.0],
        plain.params_object,
    ):
        assert_allclose(model.fit(start_params=start).params, plain.params, rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match="invalid start_params: found 3 values; expected 6"):
        model.fit(start_params=[1, 2, 3])
    with pytest.raises(ValueError, match="free has shapes .* expected"):
        model.fit(free=mask(np.eye(2)))


def test_no_optimisation(arrays):
    y, X, g, Z = arrays
    model = MixedLM(y, X, g, exog_re=Z)
    start = mask(np.diag([1.0, 0.5, 0.25]))
    fit = model.fit(start_params=start, do_cg=False)
    assert not fit.converged
    assert_allclose(fit.cov_re_unscaled, start.cov_re)
    assert_allclose(fit.fe_params, model.get_fe_params(start.cov_re, [])[0])
    assert_allclose(model.fit(do_cg=False).cov_re_unscaled, np.eye(3))


def test_penalties(arrays):
    from scipy.optimize import minimize

    penalties = pytest.importorskip("statsmodels.base._penalties")
    y, X, g, _ = arrays
    ridge = penalties.L2()
    ridge.alpha = 40.0
    model = MixedLM(y, X, g)
    fit = model.fit(fe_pen=ridge)
    assert fit.converged
    assert_allclose(model.loglike(fit.params_object, profile_fe=False), fit.llf)

    def objective(v):
        return -model.loglike(MixedLMParams.from_packed(v, 2, 1, True, True), profile_fe=False)

    brute = minimize(objective, [0.5, 1.0, 1.0], method="Nelder-Mead", options={"fatol": 1e-9})
    assert_allclose(fit.fe_params, brute.x[:2], atol=1e-4)
    assert_allclose(fit.llf, -brute.fun, atol=1e-6)
    again = MixedLM(y, X, g).fit_regularized(method=penalties.L2(), alpha=40.0)
    assert_allclose(again.params, fit.params, rtol=1e-5)
    with pytest.raises(TypeError, match="expected an object with func and deriv"):
        model.fit(fe_pen=2.0)
    with pytest.raises(ValueError, match="Invalid regularization method 'l2'"):
        model.fit_regularized(method="l2")


def test_covariance_penalty(arrays):
    penalties = pytest.importorskip("statsmodels.base._penalties")
    lme = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    y, X, g, Z = arrays
    ours = MixedLM(y, X, g, exog_re=Z).fit(cov_pen=penalties.PSD(2.0))
    theirs = lme.MixedLM(y, X, g, exog_re=Z).fit(cov_pen=penalties.PSD(2.0), gtol=1e-8)
    assert_allclose(ours.llf, theirs.llf, atol=1e-6)
    assert_allclose(ours.cov_re, theirs.cov_re, atol=2e-4)
    with pytest.raises(TypeError, match="does not take a covariance matrix and its inverse; exp"):
        MixedLM(y, X, g).fit(cov_pen=penalties.L2())


def test_l1_as_in_statsmodels(arrays):
    lme = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    y, X, g, _ = arrays
    wide = np.column_stack([X, np.random.default_rng(0).normal(size=(480, 3))])
    for alpha in (10.0, np.array([0, 100.0, 5, 5, 40])):
        ours = MixedLM(y, wide, g).fit_regularized(alpha=alpha)
        theirs = lme.MixedLM(y, wide, g).fit_regularized(alpha=alpha)
        assert_allclose(ours.fe_params, theirs.fe_params, atol=2e-5)
        assert_allclose(ours.vcomp, theirs.vcomp)


def test_profile_as_in_statsmodels(arrays):
    lme = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    y, X, g, Z = arrays
    arguments = {"num_low": 2, "dist_low": 0.2, "num_high": 2, "dist_high": 0.3}
    ours = MixedLM(y, X, g, exog_re=Z[:, :2]).fit().profile_re(1, "re", **arguments)
    theirs = lme.MixedLM(y, X, g, exog_re=Z[:, :2]).fit(gtol=1e-7)
    assert_allclose(ours, theirs.profile_re(1, "re", **arguments, gtol=1e-7), rtol=2e-4)
    assert ours[:, 1].argmax() == 2
    with pytest.raises(ValueError, match="dist_low=100 is too large"):
        MixedLM(y, X, g).fit().profile_re(0, "re", dist_low=100)


def test_optimiser_arguments(arrays, capsys):
    y, X, g, _ = arrays
    model = MixedLM(y, X, g)
    best = model.fit().llf
    with pytest.warns(SparseLMMWarning, match="chooses nothing here"):
        assert_allclose(model.fit(method="powell").llf, best)
    with pytest.warns(FutureWarning, match="niter_sa is currently ignored"):
        model.fit(niter_sa=3)
    with pytest.warns(FutureWarning, match="Argument cov_type not used"):
        model.fit(cov_type="HC1")
    for method in ("newton", "ncg"):
        with pytest.raises(ValueError, match=f"method {method} not available for MixedLM"):
            model.fit(method=method)
    with pytest.raises(ValueError, match="method 'magic' is unknown"):
        model.fit(method="magic")
    with pytest.warns(ConvergenceWarning, match="largest number of evaluations"):
        short = model.fit(start_params=[30.0], maxiter=1)
    assert not short.converged
    assert model.fit().hist is None
    hist = model.fit(full_output=True, disp=True, gtol=1e-3).hist
    assert hist[0]["converged"]
    assert_allclose(hist[0]["fopt"], -best)
    assert_allclose(hist[0]["allvecs"][-1] ** 2, model.fit().cov_re_unscaled[0], rtol=1e-6)
    assert "converged" in capsys.readouterr().out


def test_the_callers_functions_and_variables(sleepstudy):
    def double(values):
        return 2 * values

    shift = 3  # noqa: F841
    model = mixedlm(
        "np.log(Reaction) ~ double(Days) + I(Days > shift)", sleepstudy, groups="Subject"
    )
    assert model.exog_names[-1] == "double(Days)"
    means = model.fit().predict({"Days": [0, 9]})
    assert means[1] > means[0]
    with pytest.raises(Exception, match="double"):
        mixedlm("Reaction ~ double(Days)", sleepstudy, groups="Subject", eval_env=-1)
    given = mixedlm("Reaction ~ f(Days)", sleepstudy, groups="Subject", eval_env={"f": double})
    assert given.exog_names == ["Intercept", "f(Days)"]


def test_variables_named_like_functions_of_formulas(sleepstudy):
    C, I, Q = np.eye(2), np.eye(3), 4  # noqa: F841
    arguments = {"groups": "Subject", "re_formula": "1", "vc_formula": {"d": "0 + Days + C(Days)"}}
    model = mixedlm("Reaction ~ Days + I(Days**2) + Q('Days')", sleepstudy, **arguments)
    assert model.exog_names == ["Intercept", "Days", "I(Days ** 2)", "Q('Days')"]


def test_kinds_of_data(sleepstudy):
    expected = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject").fit()
    columns = {name: sleepstudy[name].to_list() for name in sleepstudy}
    polars = pytest.importorskip("polars")
    for data in (columns, polars.DataFrame(columns)):
        fit = mixedlm("Reaction ~ Days", data, groups="Subject").fit()
        assert_allclose(fit.params, expected.params)
    X = sleepstudy[["Days"]].assign(one=1.0)
    frame = MixedLM(sleepstudy["Reaction"], X, sleepstudy["Subject"]).fit()
    assert list(frame.params.index) == ["Days", "one", "Group Var"]
    assert frame.model.endog_names == "Reaction"
    lists = MixedLM(columns["Reaction"], X.to_numpy().tolist(), columns["Subject"]).fit()
    assert isinstance(lists.params, np.ndarray)
    assert_allclose(lists.llf, frame.llf)


def test_group_lists_and_names(sleepstudy):
    shuffled = sleepstudy.sample(frac=1, random_state=0)
    model = mixedlm(
        "Reaction ~ Days", shuffled, groups="Subject", vc_formula={"d": "0 + Days"}, re_formula="1"
    )
    assert model.n_groups == 18
    assert model.group_labels == sorted(model.group_labels)
    first = model.group_labels[0]
    assert_allclose(model.endog_li[0], shuffled["Reaction"][shuffled["Subject"] == first])
    assert model.row_indices[first] == np.flatnonzero(shuffled["Subject"] == first).tolist()
    assert model.group_list(None) is None
    assert (model.k_fe, model.k_re, model.k_re2, model.k_vc, model.nobs) == (2, 1, 1, 1, 180)
    assert (model.exog_re_names, model.exog_vc_names) == (["Subject"], ["d"])
    fit = model.fit()
    assert_allclose(fit.fittedvalues + fit.resid, shuffled["Reaction"])


def test_packing_of_parameters():
    point = MixedLMParams.from_components([1.0, 2.0], cov_re_sqrt=[[2.0, 0], [1, 3]], vcomp=[4.0])
    assert_allclose(point.get_packed(use_sqrt=True, has_fe=True), [1, 2, 2, 1, 3, 2])
    assert_allclose(point.get_packed(use_sqrt=False), [4, 2, 10, 4])
    for use_sqrt in (True, False):
        packed = point.get_packed(use_sqrt=use_sqrt, has_fe=True)
        again = MixedLMParams.from_packed(packed, 2, 2, use_sqrt, True)
        assert_allclose(again.cov_re, point.cov_re)
        assert_allclose(again.vcomp, point.vcomp)
    copied = point.copy()
    copied.cov_re[0, 0] = 9
    assert point.cov_re[0, 0] == 4
    singular = MixedLMParams.from_components(cov_re=[[1.0, 1], [1, 1]])
    L = np.zeros((2, 2))
    L[np.tril_indices(2)] = singular.get_packed(use_sqrt=True)
    assert_allclose(L @ L.T, [[1, 1], [1, 1]], atol=1e-15)
    with pytest.raises(ValueError, match="eigenvalue -1"), warnings.catch_warnings():
        MixedLMParams.from_components(cov_re=[[0.0, 1], [1, 0]]).get_packed(use_sqrt=True)


def test_columns_with_spaces_in_their_names(sleepstudy):
    data = sleepstudy.rename(columns={"Days": "days awake"}).astype({"days awake": float})
    data.loc[5, "days awake"] = np.nan
    fit = mixedlm("Reaction ~ Q('days awake')", data, groups="Subject", missing="drop").fit()
    assert fit.nobs == 179
    assert fit.model.data.env == {}
