"""Shares of variance, collinearity, and the advice about what is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.diagnostics.collinearity import conditioning
from sparselmm.inference.simpler import simpler_model
from tests.values import case_id, cases, frame

SINGULAR = [case for case in cases() if case["singular"] and case["n"] <= 4000]
quiet = pytest.mark.filterwarnings("ignore::sparselmm.SparseLMMWarning")


@pytest.fixture(scope="module")
def slopes():
    return slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


def test_r2_and_icc_of_the_performance_package(slopes):
    # performance 0.10: r2(m) 0.799, 0.279; icc(m) 0.722, 0.521 for lmer(Reaction ~ Days + (Days | Subject))
    r2, icc = slopes.r2(), slopes.icc()
    assert (round(r2.conditional, 3), round(r2.marginal, 3)) == (0.799, 0.279)
    assert (round(icc.adjusted, 3), round(icc.unadjusted, 3)) == (0.722, 0.521)
    assert float(icc) == icc.adjusted


def test_mean_random_variance_is_that_of_the_rows(slopes):
    fit = slopes.fit
    Z = fit.design.factors[0].Q
    Sigma = fit.sigma2 * fit.T[0] @ fit.T[0].T
    random = np.einsum("ia,ab,ib->i", Z, Sigma, Z).mean()
    fixed = np.var(fit.design.X @ fit.beta, ddof=1)
    total = fixed + random + fit.sigma2
    np.testing.assert_allclose(slopes.r2().marginal, fixed / total, rtol=1e-12)
    np.testing.assert_allclose(slopes.icc().adjusted, random / (random + fit.sigma2), rtol=1e-12)


def test_icc_by_term():
    fit = slm.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin"))
    groups = fit.icc().groups
    variances = fit.varcorr["vcov"].to_numpy()
    np.testing.assert_allclose(groups, variances[:2] / variances.sum(), rtol=1e-10)
    assert groups.index.tolist() == ["plate", "sample"]
    assert "plate: " in str(fit.icc())


def test_principal_components(slopes):
    pca = slopes.re_pca()
    Sigma = slopes.fit.sigma2 * slopes.fit.T[0] @ slopes.fit.T[0].T
    np.testing.assert_allclose(pca["sd"] ** 2, np.linalg.eigvalsh(Sigma)[::-1], rtol=1e-10)
    loadings = pca[["Intercept", "Days"]].to_numpy()
    np.testing.assert_allclose(loadings @ loadings.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(pca["cumulative"].iloc[-1], 1.0)
    # lme4 1.1-31: rePCA(lmer(Reaction ~ Days + (Days | Subject), sleepstudy))
    np.testing.assert_allclose(pca["sd"] / slopes.sigma, [0.9668680, 0.2308798], rtol=1e-4)
    np.testing.assert_allclose(loadings[0], [0.99986158, 0.01663769], rtol=1e-3)


def test_vif_of_single_columns_is_the_classical_one():
    rng = np.random.default_rng(1)
    n = 400
    x = rng.normal(size=n)
    data = pd.DataFrame({"x": x, "z": 0.9 * x + 0.3 * rng.normal(size=n), "v": rng.normal(size=n)})
    data = data.assign(
        g=np.arange(n) % 20, y=rng.normal(size=n) + rng.normal(size=20)[np.arange(n) % 20]
    )
    fit = slm.lmm("y ~ x + z + v + (1 | g)", data)
    V = fit.cov_params().iloc[1:, 1:].to_numpy()
    np.testing.assert_allclose(fit.vif()["vif"], np.diag(V) * np.diag(np.linalg.inv(V)), rtol=1e-8)


def test_gvif_of_factors():
    cake = slm.load_dataset("cake")
    fit = slm.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
    vif = fit.vif()
    assert vif["df"].tolist() == [2, 1, 2]
    # car 3.1: vif(lmer(angle ~ recipe * temp + (1 | recipe:replicate), cake))
    np.testing.assert_allclose(vif["gvif"], [133.4136, 3.0000, 156.5145], rtol=1e-6)
    balanced = slm.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", cake).vif()
    np.testing.assert_allclose(balanced["gvif"], 1.0, rtol=1e-8)
    with pytest.raises(slm.InferenceError, match="Found 1 term besides the intercept"):
        slm.lmm("angle ~ temp + (1 | replicate)", cake).vif()


def test_condition_indices_are_those_of_the_scaled_columns(slopes):
    X = slopes.fit.design.X
    scaled = X / np.linalg.norm(X, axis=0)
    values = np.linalg.svd(scaled, compute_uv=False)
    at = conditioning(slopes.fit)
    np.testing.assert_allclose(at.indices, (values[0] / values)[: len(at.indices)], rtol=1e-8)
    np.testing.assert_allclose(at.lengths, np.sqrt((X**2).mean(axis=0)), rtol=1e-10)
    np.testing.assert_allclose(at.proportions.sum(axis=1), 1.0)


def test_nothing_wrong():
    fit = slm.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin"))
    diagnosis = fit.diagnose()
    assert diagnosis.ok
    assert str(diagnosis).startswith("Nothing wrong found")
    assert diagnosis.simpler is None


def refit(case, formula):
    data = frame(case)
    arguments = {k: case[k] for k in ("weights", "offset") if case.get(k)}
    return slm.lmm(formula, data, reml=case["reml"], **arguments)


@quiet
@pytest.mark.parametrize("case", SINGULAR, ids=case_id)
def test_the_simpler_model_is_the_one_that_its_formula_fits(case):
    fit = refit(case, case["formula"])
    diagnosis = fit.diagnose()
    assert any(finding.kind == "singular" for finding in diagnosis.findings)
    simpler = diagnosis.simpler
    assert simpler is not None
    if "|" not in simpler.formula:
        assert simpler.deviance_change < 1e-6 * abs(fit.deviance)
        return
    again = refit(case, simpler.formula)
    scale = 1e-7 * abs(fit.deviance)
    assert again.deviance - fit.deviance == pytest.approx(simpler.deviance_change, abs=scale)
    assert again.aic - fit.aic == pytest.approx(simpler.aic_change, abs=scale)
    assert not again.is_singular()


def perfect(seed: int = 5, n: int = 300) -> pd.DataFrame:
    """Slopes that are half the intercepts."""
    rng = np.random.default_rng(seed)
    g, x = np.arange(n) % 30, rng.normal(size=n)
    b = rng.normal(size=30)[g]
    return pd.DataFrame({"g": g, "x": x, "y": x + b + 0.5 * b * x + 0.5 * rng.normal(size=n)})


@quiet
def test_a_worse_simpler_model_is_called_worse():
    data = perfect()
    fit = slm.lmm("y ~ x + (x | g)", data)
    assert fit.is_singular()
    diagnosis = fit.diagnose()
    smaller = ("y ~ x + (1 | g)", "y ~ x + (0 + x | g)", "y ~ x + (x || g)")
    changes = {formula: slm.lmm(formula, data).aic - fit.aic for formula in smaller}
    best = min(changes, key=lambda formula: changes[formula])
    assert diagnosis.simpler.formula == best == "y ~ x + (x || g)"
    assert diagnosis.simpler.left_out == ("correlations in (x | g)",)
    assert diagnosis.simpler.aic_change == pytest.approx(changes[best], abs=1e-6)
    assert changes[best] > 10.0
    assert "does not vary" in diagnosis.findings[0].found
    assert "the best simpler model tried is no better:" in str(diagnosis)
    aic, deviance = diagnosis.simpler.aic_change, diagnosis.simpler.deviance_change
    ending = f"AIC {aic:.2f} higher, deviance {deviance:.2f} higher; nothing speaks for it"
    assert str(diagnosis).endswith(ending)


@quiet
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 7])
def test_the_lowest_aic_of_the_sensible_reductions_is_offered(seed, reml):
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(10), 6), np.tile(np.arange(6.0), 10)
    y = 1.0 + x + 0.5 * rng.standard_normal(10)[g] + rng.standard_normal(60)
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    fit = slm.lmm("y ~ x + (x | g)", data, reml=reml)
    assert fit.is_singular()
    smaller = ("y ~ x + (1 | g)", "y ~ x + (0 + x | g)", "y ~ x + (x || g)")
    lowest = min(slm.lmm(formula, data, reml=reml).aic for formula in smaller)
    simpler = fit.diagnose().simpler
    assert fit.aic + simpler.aic_change <= lowest + 1e-6


@quiet
def test_columns_named():
    rng = np.random.default_rng(2)
    n = 200
    g = np.arange(n) % 20
    data = pd.DataFrame({"g": g, "x": rng.normal(size=n), "year": 2000 + rng.integers(0, 5, n)})
    data = data.assign(tiny=1e-6 * rng.normal(size=n), z=data["x"] + 1e-3 * rng.normal(size=n))
    data["y"] = data["x"] + rng.normal(size=20)[g] + rng.normal(size=n)
    data.loc[17, "y"] = 50.0
    kinds = slm.lmm("y ~ x + z + year + tiny + (1 | g)", data).diagnose().table.set_index("kind")
    collinear = kinds.loc[["collinear"]]
    assert collinear["where"].str.contains("x and z").any()
    year = collinear[collinear["where"].str.contains("year")].iloc[0]
    assert year["advice"].startswith("centre year")
    assert kinds.loc["scale", "where"].tolist() == ["year", "tiny"]
    assert kinds.loc["scale", "advice"].str.startswith("multiply it by 1e").all()
    assert kinds.loc["outlier", "where"] == "row 17"
    assert kinds.loc["outlier", "found"].startswith("1 residual beyond 5 sigma: +")
    assert kinds.loc["outlier", "advice"].startswith("check this row;")


@quiet
def test_few_levels_dropped_columns_and_stops():
    cake = slm.load_dataset("cake")
    fit = slm.lmm("angle ~ temp + temperature + (1 | recipe) + (1 | replicate)", cake)
    kinds = fit.diagnose().table.set_index("kind")
    assert kinds.loc["levels", "where"] == "recipe"
    assert "temperature" in kinds.loc["rank", "where"]
    stopped = slm.lmm(
        "angle ~ temp + (temp | replicate)", cake, options=slm.Options(max_evaluations=1)
    )
    assert stopped.diagnose().findings[0].kind == "convergence"


@quiet
def test_factor_columns_go_together():
    cake = slm.load_dataset("cake")
    fit = slm.lmm("angle ~ recipe + (recipe | replicate)", cake)
    if fit.is_singular():
        simpler = simpler_model(fit.fit)
        assert simpler.formula == "angle ~ recipe + (1 | replicate)"
        again = slm.lmm(simpler.formula, cake)
        assert again.aic - fit.aic == pytest.approx(simpler.aic_change, abs=1e-5)


@quiet
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("term", ["0 + f", "0 + f + x"])
def test_levels_of_a_factor_become_an_intercept(term, reml):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(20), 12)
    data = pd.DataFrame({"g": g, "f": np.tile(list("abc"), 80), "x": rng.normal(size=240)})
    data["y"] = rng.normal(size=20)[g] + rng.normal(size=240)
    fit = slm.lmm(f"y ~ f + x + ({term} | g)", data, reml=reml)
    assert fit.is_singular()
    simpler = fit.diagnose().simpler
    assert simpler.formula == "y ~ f + x + (1 | g)"
    assert f"differences by f in ({term} | g)" in simpler.left_out
    assert slm.lmm(simpler.formula, data, reml=reml).aic - fit.aic == pytest.approx(
        simpler.aic_change, abs=1e-5
    )
