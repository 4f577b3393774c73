"""Tests of random effects: statistics, null distributions against simulation, and their sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import sparselmm as slm
from sparselmm.errors import InferenceError
from sparselmm.inference.chibar import cone_mixture, half_and_half, project
from sparselmm.inference.nullsim import bootstrap_ratios
from sparselmm.inference.ranova import _spectra, drops, null_mixture, tail_share
from sparselmm.inference.reduce import reduce_fit
from sparselmm.inference.rlrt import simulate_null, single_spectra, whitened_spectra

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("formula", "data", "rows"),
    [
        (
            "Reaction ~ Days + (Days | Subject)",
            "sleepstudy",
            {
                "(Days | Subject)": None,
                "Days in (Days | Subject)": "Reaction ~ Days + (1 | Subject)",
            },
        ),
        (
            "Reaction ~ Days + (Days || Subject)",
            "sleepstudy",
            {
                "(1 | Subject)": "Reaction ~ Days + (0 + Days | Subject)",
                "(0 + Days | Subject)": "Reaction ~ Days + (1 | Subject)",
            },
        ),
        (
            "strength ~ 1 + (1 | batch/cask)",
            "pastes",
            {
                "(1 | batch:cask)": "strength ~ 1 + (1 | batch)",
                "(1 | batch)": "strength ~ 1 + (1 | batch:cask)",
            },
        ),
        (
            "score ~ Machine + (Machine | Worker)",
            "machines",
            {"(Machine | Worker)": None},
        ),
    ],
)
def test_ratios_are_those_of_smaller_fits(formula, data, rows, reml):
    frame = slm.load_dataset(data)
    fit = slm.lmm(formula, frame, reml=reml)
    table = fit.ranova().table
    assert table.loc["<none>", "npar"] == fit.df_model
    for label, smaller in rows.items():
        if smaller is None:
            continue
        own = slm.lmm(smaller, frame, reml=reml)
        assert table.loc[label, "lrt"] == pytest.approx(own.deviance - fit.deviance, abs=1e-6)
        assert table.loc[label, "npar"] == own.df_model
        assert table.loc[label, "aic"] == pytest.approx(own.aic, rel=1e-9)


def test_last_term_leaves_a_linear_model(sleepstudy):
    X = np.column_stack([np.ones(180), sleepstudy["Days"]])
    y = sleepstudy["Reaction"].to_numpy()
    r2 = np.sum((y - X @ np.linalg.lstsq(X, y, rcond=None)[0]) ** 2)
    for reml in (True, False):
        nu = 178 if reml else 180
        deviance = nu * (1.0 + np.log(2 * np.pi * r2 / nu))
        deviance += np.linalg.slogdet(X.T @ X)[1] if reml else 0.0
        table = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy, reml=reml).ranova().table
        assert -2.0 * table["loglik"].iloc[1] == pytest.approx(deviance, rel=1e-12)


def test_half_and_half():
    mixture = half_and_half(1)
    assert mixture.tail(0.0) == 1.0
    assert mixture.tail(3.0) == pytest.approx(0.5 * chi2.sf(3.0, 1))
    expected = 0.5 * (chi2.sf(3.0, 1) + chi2.sf(3.0, 2))
    assert half_and_half(2).tail(3.0) == pytest.approx(expected)


def test_cone_of_two_variances_is_the_known_mixture():
    units = [np.diag([1.0, 0.0]), np.diag([0.0, 1.0])]
    mixture = cone_mixture(np.eye(2), units)
    expected = 0.25 * chi2.sf(4.0, 2) + 0.5 * chi2.sf(4.0, 1)
    assert mixture.tail(4.0) == pytest.approx(expected, rel=0.05)


def test_cone_of_matrices_is_the_circular_one():
    # positive semidefinite 2 x 2 matrices: a circular cone of 45 degrees, weights by its intrinsic volumes
    units = [np.diag([1.0, 0.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([0.0, 1.0])]
    mixture = cone_mixture(np.diag([1.0, 2.0, 1.0]), units)
    ends, middle = 0.5 * (1.0 - np.sqrt(0.5)), 0.5 * np.sqrt(0.5)
    weights = {3: ends, 2: middle, 1: 0.5 - ends}
    for x in (2.0, 6.0):
        expected = sum(w * chi2.sf(x, k) for k, w in weights.items())
        assert mixture.tail(x) == pytest.approx(expected, rel=0.05)


def test_projection_is_optimal(rng):
    units = np.array(
        [np.diag([1.0, 0.0]), np.array([[0, 1], [1, 0]]) / np.sqrt(2), np.diag([0.0, 1.0])]
    )
    root = rng.standard_normal((3, 3))
    metric = root @ root.T + np.eye(3)
    z = rng.standard_normal((200, 3))
    nearest = project(z, metric, units)
    slope = np.einsum("ri,iab->rab", (nearest - z) @ metric, units)
    assert np.linalg.eigvalsh(np.tensordot(nearest, units, 1)).min() > -1e-8
    assert np.linalg.eigvalsh(slope).min() > -1e-3
    assert np.abs(np.einsum("ri,ij,rj->r", nearest, metric, nearest - z)).max() < 1e-3


@pytest.mark.parametrize("reml", [True, False])
def test_exact_size(reml):
    """p of the exact test is uniform, but for its atom at 1, on responses refitted one by one."""
    fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), reml=reml).fit
    reduced = reduce_fit(fit, [(0, 0)])
    ratios = bootstrap_ratios(fit, reduced, None, 4000, np.random.default_rng(4))
    null = simulate_null(
        single_spectra(fit.gram), reml=reml, nsim=20_000, rng=np.random.default_rng(5)
    )
    p = np.array([tail_share(null, ratio) for ratio in ratios])
    for alpha in (0.01, 0.05, 0.10):
        error = 3.5 * np.sqrt(alpha * (1 - alpha) * (1 / 4000 + 1 / 20_000))
        assert abs((p <= alpha).mean() - alpha) < error
    assert abs((null < 1e-9).mean() - (ratios < 1e-7).mean()) < 0.03
    assert (p == 1.0).mean() > 0.4


@pytest.mark.parametrize(
    ("formula", "data", "which"),
    [
        ("Yield ~ 1 + (1 | Batch)", "dyestuff", 0),
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy", 0),
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy", 1),
    ],
)
def test_mixtures_do_not_exceed_their_level(formula, data, which):
    fit = slm.lmm(formula, slm.load_dataset(data)).fit
    drop = drops(fit)[which]
    reduced = reduce_fit(fit, [(drop.term, c) for c in drop.columns])
    optimum = None if reduced.problem is None else reduced.minimise()
    ratios = bootstrap_ratios(fit, reduced, optimum, 1000, np.random.default_rng(6))
    mixture = null_mixture(fit, drop, reduced, optimum)
    p = np.array([mixture.tail(r if r > 1e-6 else 0.0) for r in ratios])
    for alpha in (0.01, 0.05, 0.10):
        assert (p <= alpha).mean() < alpha + 3.0 * np.sqrt(alpha * (1 - alpha) / 1000)
    # with a covariance left free the ratio is positive almost surely
    assert (p == 1.0).any() or which == 1


def test_whitened_spectra_agree_with_the_single_component(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy.iloc[:173]).fit
    one = single_spectra(fit.gram)
    null = fit.problem.solve(np.zeros(1))
    two = whitened_spectra(fit.gram, null, 0, np.ones((1, 1)))
    for counts, values, other in ((one.mu_counts, one.mu, two.mu), (one.xi_counts, one.xi, two.xi)):
        np.testing.assert_allclose(np.sort(np.repeat(values, counts)), np.sort(other), rtol=1e-8)


def spectra_of(fit, which):
    """The null distribution of one row, with responses that follow it."""
    drop = drops(fit)[which]
    reduced = reduce_fit(fit, [(drop.term, c) for c in drop.columns])
    optimum = reduced.minimise()
    spectra, kind = _spectra(fit, drop, reduced, optimum)
    assert kind == "approximate (Greven et al. 2008)"
    return spectra, reduced, optimum


def test_dimensions_are_those_of_the_strata():
    """Balanced designs: contrasts between batches and casks; between plates and residuals."""
    pastes = slm.lmm("strength ~ 1 + (1 | batch/cask)", slm.load_dataset("pastes")).fit
    spectra, *_ = spectra_of(pastes, 1)
    assert spectra.mu == pytest.approx(np.full(9, spectra.mu[0]))
    assert (spectra.n, spectra.nu) == pytest.approx((30.0, 29.0), rel=1e-8)
    crossed = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    penicillin = slm.lmm(crossed, slm.load_dataset("penicillin")).fit
    spectra, *_ = spectra_of(penicillin, 0)
    assert spectra.nu == pytest.approx(23 + 5 * 23, rel=1e-3)
    spectra, *_ = spectra_of(penicillin, 1)
    assert spectra.nu == pytest.approx(5 + 5 * 23, rel=1e-3)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("formula", "data", "which"),
    [
        ("strength ~ 1 + (1 | batch/cask)", "pastes", 1),
        ("angle ~ recipe + (1 | recipe:replicate) + (1 | replicate)", "cake", 1),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", 1),
    ],
)
def test_sizes_with_other_components(formula, data, which, reml):
    """Taking all rows for the scale of the tested variance has sizes of 11 to 15 % at 10 % here."""
    fit = slm.lmm(formula, slm.load_dataset(data), reml=reml).fit
    spectra, reduced, optimum = spectra_of(fit, which)
    ratios = bootstrap_ratios(fit, reduced, optimum, 4000, np.random.default_rng(11))
    null = simulate_null(spectra, reml=reml, nsim=40_000, rng=np.random.default_rng(12))
    for alpha in (0.01, 0.05, 0.10):
        error = 3.0 * np.sqrt(alpha * (1 - alpha) * (1 / 4000 + 1 / 40_000))
        assert abs((ratios >= np.quantile(null, 1.0 - alpha)).mean() - alpha) < error
    assert abs((null < 1e-9).mean() - (ratios < 1e-7).mean()) < 0.035


def test_many_levels_need_no_large_matrix(rng):
    sizes = rng.integers(1, 5, 40_000)
    g = np.repeat(np.arange(40_000), sizes)
    x = rng.standard_normal(len(g))
    data = pd.DataFrame(
        {
            "y": x + 0.2 * rng.standard_normal(40_000)[g] + rng.standard_normal(len(g)),
            "x": x,
            "g": g,
        }
    )
    table = slm.lmm("y ~ x + (1 | g)", data).ranova(test="exact", nsim=1000, rng=1).table
    assert table["p"].iloc[1] == pytest.approx(1 / 1001)
    assert table["reference"].iloc[1].startswith("exact")


def test_three_answers_agree(sleepstudy):
    data = slm.load_dataset("pastes")
    fit = slm.lmm("strength ~ 1 + (1 | batch/cask)", data)
    mixture, exact, bootstrap = (
        fit.ranova(test=test, nsim=2000, rng=3).table.loc["(1 | batch)"]
        for test in ("mixture", "exact", "bootstrap")
    )
    assert exact["p"] == pytest.approx(bootstrap["p"], abs=0.05)
    assert mixture["p"] == pytest.approx(bootstrap["p"], abs=0.05)
    assert exact["reference"] == "approximate (Greven et al. 2008), 2000 ratios"
    again = fit.ranova(test="bootstrap", nsim=2000, rng=3).table
    assert again.loc["(1 | batch)", "p"] == bootstrap["p"]


def test_zero_variance_has_p_one():
    fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"))
    for test in ("mixture", "exact", "bootstrap"):
        assert fit.ranova(test=test, nsim=200, rng=1).table["p"].iloc[1] == 1.0


def test_weights_reach_every_test(sleepstudy):
    weights = np.linspace(0.5, 2.0, 180)
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy, weights=weights).fit
    reduced = reduce_fit(fit, [(0, 0)])
    ratios = bootstrap_ratios(fit, reduced, None, 2000, np.random.default_rng(1))
    null = simulate_null(
        single_spectra(fit.gram), reml=True, nsim=20_000, rng=np.random.default_rng(2)
    )
    assert (ratios > np.quantile(null, 0.9)).mean() == pytest.approx(0.1, abs=0.025)


def test_rows_without_an_exact_test_say_so(sleepstudy):
    slopes = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    found = slopes.ranova(test="exact", rng=1)
    assert found.notes == (
        "no exact test leaves out more than one parameter: these rows have the mixture",
    )
    assert found.table["p"].iloc[1:].tolist() == slopes.ranova().table["p"].iloc[1:].tolist()
    assert "approximate (Greven et al. 2008)" in str(
        slm.lmm("Reaction ~ Days + (Days || Subject)", sleepstudy).ranova(test="exact", rng=1)
    )


def test_messages(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy)
    with pytest.raises(InferenceError, match="Found test='chi'; expected one of 'mixture'"):
        fit.ranova(test="chi")
    with pytest.raises(InferenceError, match="Found nsim=10; expected at least 100"):
        fit.ranova(test="bootstrap", nsim=10)
    assert "Random effects left out in turn" in str(fit.ranova())
    assert "<table" in fit.ranova()._repr_html_()
