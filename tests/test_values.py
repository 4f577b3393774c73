"""Every reference fit of lme4, by ML and REML, through the front door (tests/values/README.md)."""

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.errors import SparseLMMWarning
from tests.values import case_id, cases, frame

CASES = {case_id(case): case for case in cases()}
TOLERANCE = 1e-6
NEAR_ONE = 1e-5  # of correlations near 1


@pytest.fixture(scope="module", params=list(CASES))
def fitted(request):
    """A case and its fit; one at a time in memory."""
    case = CASES[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        return case, slm.lmm(
            case["formula"],
            frame(case),
            reml=case["reml"],
            weights=case.get("weights"),
            offset=case.get("offset"),
        )


def close(actual, expected, tolerance=TOLERANCE, scale=None):
    """Equal relative to the largest absolute value of the vector, or to a given scale."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max(initial=0.0) if scale is None else scale
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=tolerance * max(scale, 1e-300))


def effect_scale(case):
    """Residual standard deviation: what a random effect of zero is compared with."""
    return case["sigma"]


def test_objective_and_criteria(fitted):
    case, fit = fitted
    assert fit.converged
    assert fit.deviance <= case["objective"] + 1e-9 * abs(case["objective"])
    assert fit.deviance == pytest.approx(case["objective"], rel=1e-9)
    assert fit.llf == pytest.approx(case["logLik"], rel=1e-9)
    assert fit.aic == pytest.approx(case["AIC"], rel=1e-9)
    assert fit.bic == pytest.approx(case["BIC"], rel=1e-9)
    assert (fit.nobs, fit.df_model) == (case["n"], case["df"])
    assert fit.df_resid == case["n"] - case["df"]


def test_fixed_effects(fitted):
    case, fit = fitted
    close(fit.params.dropna(), case["fixef"])
    close(fit.bse.dropna(), case["se"])
    kept = fit.params.notna()
    close(fit.cov_params().loc[kept, kept], case["vcov"])
    assert fit.sigma == pytest.approx(case["sigma"], rel=TOLERANCE)
    assert fit.scale == pytest.approx(case["sigma"] ** 2, rel=2 * TOLERANCE)
    assert int((~kept).sum()) == len(case.get("dropped_columns") or [])


def test_theta(fitted):
    case, fit = fitted
    if case["fit_quality"]["theta_unique"]:
        close(fit.theta, case["theta"], scale=max(1.0, np.abs(case["theta"]).max()))


def test_varcorr(fitted):
    case, fit = fitted
    table = fit.varcorr
    assert list(table.columns) == ["grp", "var1", "var2", "vcov", "sdcor"]
    assert table["grp"].iloc[-1] == "Residual"
    assert table["sdcor"].iloc[-1] == pytest.approx(case["sigma"], rel=TOLERANCE)
    groups = list(dict.fromkeys(table["grp"]))
    terms = [table[table["grp"] == group] for group in groups[:-1]]
    largest = max(max(term["sd"]) for term in case["varcorr"])
    scale = max(largest, case["sigma"])
    for rows, expected in zip(terms, case["varcorr"], strict=True):
        s = len(expected["sd"])
        own, pairs = rows[rows["var2"].isna()], rows[rows["var2"].notna()]
        close(own["sdcor"], expected["sd"], scale=scale)
        close(own["vcov"], np.diag(expected["cov"]), 2 * TOLERANCE, scale=scale**2)
        lower = [(a, b) for a in range(s) for b in range(a + 1, s)][: len(pairs)]
        close(pairs["vcov"], [expected["cov"][a][b] for a, b in lower], 2e-6, scale=scale**2)
        for row, (a, b) in zip(pairs["sdcor"], lower, strict=True):
            if min(expected["sd"][a], expected["sd"][b]) > 1e-3 * scale:
                near = abs(expected["corr"][a][b]) > 0.99
                assert row == pytest.approx(expected["corr"][a][b], abs=NEAR_ONE if near else 2e-6)


def _in_reference_order(fit, term, expected):
    """Labels of a factor's levels as lme4 writes them, and our positions in lme4's level order."""
    levels = fit.fit.spec.groupings[term.factor]
    labels = [str(label) for label in levels.labels]
    name = expected["factor"].split(".")[0]
    if len(levels.columns) == 1 or name == levels.name:
        return labels, np.arange(len(labels))
    assert name.split(":") == list(levels.columns)[::-1]
    codes = np.unravel_index(levels.combinations, [len(part) for part in levels.parts])
    return [":".join(label.split(":")[::-1]) for label in labels], np.lexsort(codes)


def test_random_effects(fitted):
    case, fit = fitted
    modes, condvar = fit.fit.b(), fit.fit.condvar()
    for i in range(len(case["ranef"])):
        term, expected = fit.fit.spec.terms[i], case["ranef"][i]
        columns = slice(term.start, term.stop)
        b, V = modes[term.factor][:, columns], condvar[term.factor][:, columns, columns]
        own, order = _in_reference_order(fit, term, expected)
        at = [own.index(level) for level in expected["levels"]]
        np.testing.assert_array_equal(at, order[: len(at)])
        largest = np.abs([expected["min_all_levels"], expected["max_all_levels"]]).max()
        scale = max(largest, 1e-3 * effect_scale(case))
        close(b[at], expected["values"], scale=scale)
        sd = np.sqrt(np.maximum(np.einsum("laa->la", V), 0.0))
        close(sd[at], expected["cond_sd"], scale=max(np.max(expected["cond_sd"]), scale))
        close(V[at[0]], np.reshape(expected["cond_cov_level1"], V[0].shape), 2e-6, scale=scale**2)
        close((b**2).sum(axis=0), expected["sumsq_all_levels"], 2e-6, scale=len(b) * scale**2)
        close(b.sum(axis=0), expected["sum_all_levels"], scale=len(b) * scale)
        number = np.arange(1, len(b) + 1)
        close(number @ b[order], expected["weighted_check"], scale=number.sum() * scale)
        close(b.min(axis=0), expected["min_all_levels"], scale=scale)
        close(b.max(axis=0), expected["max_all_levels"], scale=scale)


def test_ranef_table_holds_the_same_numbers(fitted):
    case, fit = fitted
    table = fit.ranef()
    assert list(table.columns) == ["grpvar", "term", "grp", "condval", "condsd"]
    assert len(table) == case["q"]
    modes = np.concatenate([b.T.ravel() for b in fit.fit.b()])
    np.testing.assert_array_equal(table["condval"], modes)
    assert "condsd" not in fit.ranef(condvar=False)


def test_rows(fitted):
    case, fit = fitted
    fitted_values, resid = fit.fittedvalues, fit.resid
    close(fitted_values[:5], case["fitted_first"])
    close(resid[:5], case["resid_first"], scale=np.abs(fitted_values).max())
    assert (fitted_values**2).sum() == pytest.approx(case["fitted_sumsq"], rel=TOLERANCE)
    assert (resid**2).sum() == pytest.approx(case["resid_sumsq"], rel=2e-6)
    pd.testing.assert_series_equal(fit.predict(), fitted_values, check_names=False)


def test_predictions(fitted):
    """lme4 leaves an offset argument out of predictions for new data, and so do we."""
    case, fit = fitted
    new = pd.DataFrame(case["predict"]["newdata"])
    close(fit.predict(new, new_levels="zero"), case["predict"]["with_ranef"])
    close(fit.predict(new, random="none"), case["predict"]["re_form_NA"])


def test_hat_values(fitted):
    case, fit = fitted
    hat = np.asarray(fit.hatvalues())
    close(hat[:5], case["hat"]["first"], 1e-5)
    if case["hat"].get("sum") is not None:
        assert hat.sum() == pytest.approx(case["hat"]["sum"], rel=1e-5)


def test_objective_at_fixed_theta(fitted):
    """No optimiser involved: agreement to rounding."""
    case, fit = fitted
    record = fit.fit
    basis, model = record.gram.basis, record.model
    for point in case["objective_at"]:
        T = [
            basis.internal_factor(j, t)
            for j, t in enumerate(model.factors(np.array(point["theta"])))
        ]
        at = record.problem.solve(model.theta(T))
        assert at.deviance == pytest.approx(point["objective"], rel=1e-11)
        assert np.sqrt(at.s2) == pytest.approx(point["sigma"], rel=1e-9)
        close(basis.beta(at.beta), point["fixef"], 1e-9)
