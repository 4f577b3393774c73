"""Degrees of freedom: R's values for every reference fit, singular fits, properties and messages."""

from __future__ import annotations

import numpy as np
import pytest

import sparselmm as slm
from sparselmm.errors import InferenceError
from sparselmm.inference import kenward_roger as kr_module
from sparselmm.inference.ddf import f_ddf
from sparselmm.inference.kenward_roger import kenward_roger, predict_cost
from sparselmm.marginal import make_probes
from tests.inference.test_information import boundary_data
from tests.values import case_id, cases, frame

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")

SATTERTHWAITE = [case for case in cases() if case.get("satterthwaite")]
KENWARD_ROGER = [case for case in cases() if case.get("kenward_roger")]

# lmerTest 3.1-3 (degrees of freedom) and pbkrtest 0.5.2 (standard errors, degrees of freedom) on
# boundary_data(); lme4's theta is good to 5e-6 there: formula, REML, Satterthwaite, Kenward-Roger.
BOUNDARY = [
    (
        "y ~ x + (x | g)",
        True,
        [11.4435417377, 11.3628672436],
        [[0.167088271304, 0.262606122983], [11.0, 11.0]],
    ),
    ("y ~ x + (x | g)", False, [12.580170906, 12.4777876734], None),
    (
        "flat ~ x + (x | g)",
        True,
        [15.1630080175, 12.3428186371],
        [[0.102544106947, 0.168808089001], [11.0, 11.0]],
    ),
    ("flat ~ x + (x | g)", False, [17.843455621, 14.0641664827], None),
    (
        "flat ~ x + (1 | g) + (1 | h)",
        True,
        [10.999967102, 82.9999408543],
        [[0.0987894026364, 0.142356707818], [3.37868051925, 79.3718129218]],
    ),
    ("flat ~ x + (1 | g) + (1 | h)", False, [11.9998313485, 83.999797638], None),
    (
        "y ~ x + (x || g) + (1 | h)",
        True,
        [8.14806663998, 10.9830172095],
        [[0.166355374509, 0.255899699873], [8.48098359041, 10.9905838122]],
    ),
    ("y ~ x + z + (x + z | g)", False, [12.3859702341, 12.4712589762, 25.3304292186], None),
]


def fitted(case):
    options = {name: case.get(name) for name in ("weights", "offset")}
    return slm.lmm(case["formula"], frame(case), reml=case["reml"], **options)


@pytest.mark.parametrize("case", SATTERTHWAITE, ids=case_id)
def test_satterthwaite_of_every_reference_fit(case):
    expected = np.array(case["satterthwaite"]["values"])[:, 2]
    np.testing.assert_allclose(fitted(case).ddf(), expected, rtol=1e-6)


@pytest.mark.parametrize("case", KENWARD_ROGER, ids=case_id)
def test_kenward_roger_of_every_reference_fit(case):
    fit, table = fitted(case), np.array(case["kenward_roger"]["coef"]["values"])
    tidy = fit.tidy(ddf="kenward-roger")
    np.testing.assert_allclose(tidy["std_error"], table[:, 1], rtol=1e-7)
    np.testing.assert_allclose(tidy["df"], table[:, 2], rtol=1e-7)
    adjusted = np.array(case["kenward_roger"]["vcov_adj"])
    gap = np.abs(kenward_roger(fit.fit).cov_beta - adjusted)
    assert gap.max() < 1e-7 * np.abs(adjusted).max()


@pytest.mark.parametrize(("formula", "reml", "satterthwaite", "kr"), BOUNDARY)
def test_fits_on_or_near_the_boundary(formula, reml, satterthwaite, kr):
    fit = slm.lmm(formula, boundary_data(), reml=reml)
    np.testing.assert_allclose(fit.ddf(), satterthwaite, rtol=1e-4)
    if kr is not None:
        tidy = fit.tidy(ddf="kenward-roger")
        np.testing.assert_allclose(tidy["std_error"], kr[0], rtol=5e-6)
        np.testing.assert_allclose(tidy["df"], kr[1], rtol=5e-6)


def test_a_fit_without_any_variance_has_the_degrees_of_freedom_of_least_squares():
    case = next(c for c in cases() if c["name"] == "dyestuff2" and c["reml"])
    np.testing.assert_allclose(fitted(case).ddf(), 29.0, rtol=1e-9)


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_balanced_data_give_the_strata_of_the_analysis_of_variance(method):
    dyestuff = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
    assert dyestuff.ddf(method=method).item() == pytest.approx(5.0, rel=1e-6)
    ergo = slm.lmm("effort ~ Type + (1 | Subject)", slm.load_dataset("ergostool"))
    np.testing.assert_allclose(ergo.ddf(method=method)[1:], 24.0, rtol=1e-6)


def test_contrasts_by_text_and_matrix_and_their_scale(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy)
    text = fit.ddf("Intercept + 9*Days, Days")
    assert list(text.index) == ["Intercept + 9*Days", "Days"]
    np.testing.assert_allclose(fit.ddf([[3.0, 27.0], [0.0, -1.0]]), text, rtol=1e-9)


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_units_of_response_and_predictor_do_not_matter(sleepstudy, method):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    scaled = sleepstudy.assign(Reaction=1e-6 * sleepstudy.Reaction, Days=1e4 * sleepstudy.Days)
    other = slm.lmm("Reaction ~ Days + (Days | Subject)", scaled)
    np.testing.assert_allclose(other.ddf(method=method), fit.ddf(method=method), rtol=1e-5)


@pytest.mark.parametrize("path", ["grouped", "crossed"])
def test_paths_agree(path):
    formula = "y ~ x + (x | g) + (1 | h)"
    auto, other = (slm.lmm(formula, boundary_data(), path=p) for p in ("auto", path))
    for method in ("satterthwaite", "kenward-roger"):
        np.testing.assert_allclose(other.ddf(method=method), auto.ddf(method=method), rtol=1e-5)


def test_weights_of_kenward_roger_act_as_repeated_rows(sleepstudy):
    """Rows of weight 2 carry the variance of the mean of two: compare with V itself, dense."""
    data = sleepstudy.assign(w=1.0 + np.arange(180) % 3)
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", data, weights="w").fit
    X, codes, w = fit.design.X, fit.design.factors[0].codes, fit.design.weights
    G = [(codes[:, None] == codes).astype(float), np.diag(1.0 / w)]
    V = fit.sigma2 * (fit.T[0].item() ** 2 * G[0] + G[1])
    inverse = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ inverse @ X)
    P = [-X.T @ inverse @ g @ inverse @ X for g in G]
    Q = [[X.T @ inverse @ g @ inverse @ h @ inverse @ X for h in G] for g in G]
    information = [
        [
            np.trace(inverse @ G[i] @ inverse @ G[k])
            - 2 * np.trace(Phi @ Q[i][k])
            + np.trace(Phi @ P[i] @ Phi @ P[k])
            for k in range(2)
        ]
        for i in range(2)
    ]
    W = 2.0 * np.linalg.inv(information)
    U = sum(W[i, k] * (Q[i][k] - P[i] @ Phi @ P[k]) for i in range(2) for k in range(2))
    np.testing.assert_allclose(kenward_roger(fit).cov_beta, Phi + 2 * Phi @ U @ Phi, rtol=1e-9)


def test_residual_and_infinite_degrees_of_freedom(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy)
    assert fit.ddf(method="residual").tolist() == [178.0, 178.0]
    assert np.isinf(fit.ddf(method="inf")).all()


def test_dropped_columns_have_none(sleepstudy):
    data = sleepstudy.assign(twice=2.0 * sleepstudy.Days)
    with pytest.warns(slm.RankWarning):
        fit = slm.lmm("Reaction ~ Days + twice + (1 | Subject)", data)
    assert fit.ddf().isna().tolist() == [False, False, True]
    assert fit.ddf(method="kenward-roger").isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("nu", "expected"),
    [([5.0], 5.0), ([7.0, 7.0], 7.0), ([1.5, 9.0], 2.0), ([4.0, 10.0], 5.2)],
)
def test_degrees_of_freedom_of_several_contrasts(nu, expected):
    assert f_ddf(np.array(nu)) == pytest.approx(expected)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_f_test_of_one_row_is_the_square_of_t(sleepstudy, ddf):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    t, F = fit.t_test("Days = 8", ddf=ddf), fit.wald_test("Days = 8", ddf=ddf)
    assert F.statistic == pytest.approx(t.table["statistic"].item() ** 2)
    assert F.df_resid == pytest.approx(t.table["df"].item())
    assert F.p_value == pytest.approx(t.table["p_value"].item())


def test_rows_that_repeat_others_do_not_count(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    for ddf in ("satterthwaite", "kenward-roger"):
        once = fit.wald_test("Days, Intercept = 250", ddf=ddf)
        again = fit.wald_test("Days, Intercept = 250, 2*Days", ddf=ddf)
        assert again.df == once.df == 2
        assert again.statistic == pytest.approx(once.statistic)
        assert again.df_resid == pytest.approx(once.df_resid, rel=1e-5)


def test_messages(sleepstudy, monkeypatch):
    ml = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy, reml=False)
    assert np.isfinite(ml.ddf()).all()
    with pytest.raises(slm.InferenceError, match=r"^Found a fit by maximum likelihood; Kenward"):
        ml.ddf(method="kenward-roger")
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy)
    with pytest.raises(
        slm.InferenceError, match=r"^Found ddf='kr'; expected one of 'satterthwaite'"
    ):
        fit.ddf(method="kr")
    with pytest.raises(slm.InferenceError, match="Found no coefficient 'Nights'"):
        fit.ddf("Nights")
    monkeypatch.setattr(kr_module, "LONGEST", 1e-12)
    with pytest.raises(slm.InferenceError, match=r"needs 1 solves here, about .* minutes"):
        fit.ddf(method="kenward-roger")
    monkeypatch.setattr(kr_module, "LONGEST", 600.0)
    monkeypatch.setattr(kr_module, "available_memory", lambda *_: 1e6)
    with pytest.raises(
        slm.MemoryRefusedError, match=r"needs about .* MiB here; found 977 KiB free"
    ):
        fit.ddf(method="kenward-roger")


def test_predicted_cost_counts_the_largest_connected_set(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy).fit
    assert predict_cost(fit, make_probes(fit.gram)).columns == 2
    crossed = slm.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin"))
    assert predict_cost(crossed.fit, make_probes(crossed.fit.gram)).columns == 30


def test_no_fixed_effects(sleepstudy):
    data = sleepstudy.assign(centred=sleepstudy.Reaction - sleepstudy.Reaction.mean())
    fit = slm.lmm("centred ~ 0 + (1 | Subject)", data)
    for method in ("satterthwaite", "kenward-roger"):
        assert fit.ddf(method=method).empty
    assert fit.anova().table.empty
    assert np.isfinite(fit.varcorr_se()["se_vcov"]).all()


def test_many_small_groups_are_no_obstacle(rng):
    """4,000 groups: two columns to solve for; a few rows each, so that both methods nearly agree."""
    g = np.repeat(np.arange(4_000), 3)
    x = rng.normal(size=len(g))
    b = rng.normal(size=(4_000, 2))
    y = 1 + x + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    fit = slm.lmm("y ~ x + (x | g)", {"g": g, "x": x, "y": y})
    both = [fit.ddf(method=method) for method in ("satterthwaite", "kenward-roger")]
    np.testing.assert_allclose(both[0], both[1], rtol=0.02)
    np.testing.assert_allclose(
        kenward_roger(fit.fit).cov_beta, fit.fit.cov_beta, rtol=1e-2, atol=1e-6
    )


def test_a_method_in_the_place_of_a_hypothesis_is_recognised(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy)
    with pytest.raises(InferenceError, match="Write method='kenward-roger'"):
        fit.ddf("kenward-roger")
