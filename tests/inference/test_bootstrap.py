"""The bootstrap: seeds, workers, kinds, intervals, failures."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.errors import InferenceError
from sparselmm.inference.bootstrap import record, replicate
from sparselmm.inference.bootstrap.api import Plan, seed_of
from sparselmm.refits.responses import make_rows, residual_source, stretch


@pytest.fixture(scope="module")
def fit():
    return slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def replicates(fit):
    return fit.bootstrap(600, rng=1)


def slope_ratio(results):
    return {"ratio": results.params["Days"] / results.sigma}


def test_spread_is_that_of_theory(fit, replicates):
    """Standard errors of the fixed effects, at the fitted variances, are exact."""
    error = fit.bse / np.sqrt(2 * replicates.nsim)
    spread = replicates.frame["std_error"]
    for name in fit.params.index:
        assert abs(spread[name] - fit.bse[name]) < 4.0 * error[name]
        assert abs(replicates.frame["bias"][name]) < 4.0 * fit.bse[name] / np.sqrt(replicates.nsim)


def test_replicates_are_refits(fit):
    """Replicate i is what its own seed and a fit from the beginning give."""
    few = fit.bootstrap(4, rng=2)
    sampler = few.plan.sampler
    for i in range(4):
        [rng] = sampler.generators(i, 1)
        y = fit.simulate(1, rng)[0]
        again = fit.refit(y)
        np.testing.assert_allclose(few.replicates.loc[i, "Days"], again.params["Days"], rtol=1e-7)
        assert few.replicates.loc[i, "sigma"] == pytest.approx(again.sigma, rel=1e-6)


def test_replicates_of_large_designs_end_near_their_optimum(fit, replicates, monkeypatch):
    """Without the engine of small designs a replicate may miss its optimum by a hundredth of a standard error."""
    monkeypatch.setattr(replicate, "make_engine", lambda _: None)
    large = fit.bootstrap(60, rng=1)
    exact = replicates.replicates.iloc[:60]
    inside = exact["cor_Intercept.Days|Subject"].abs() < 0.95
    missed = (large.replicates - exact)[inside] / replicates.frame["std_error"]
    assert inside.sum() > 30
    assert large.failures.empty
    assert missed.abs().max().max() < 1e-2
    asked = slm.Options(tolerance=1e-10)
    asking = slm.lmm(
        "Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"), options=asked
    )
    missed = (asking.bootstrap(60, rng=1).replicates - exact)[inside] / replicates.frame[
        "std_error"
    ]
    assert missed.abs().max().max() < 1e-4


def test_workers_do_not_matter(fit):
    alone = fit.bootstrap(30, rng=3, statistic=slope_ratio)
    with ThreadPoolExecutor(3) as executor:
        threads = fit.bootstrap(30, rng=3, statistic=slope_ratio, executor=executor)
    pd.testing.assert_frame_equal(alone.replicates, threads.replicates)
    with ProcessPoolExecutor(2) as executor:
        processes = fit.bootstrap(300, rng=3, executor=executor)
    pd.testing.assert_frame_equal(processes.replicates, fit.bootstrap(300, rng=3).replicates)


def test_goes_on_where_it_stopped(fit, replicates):
    resumed = fit.bootstrap(150, rng=1).extend(200).extend(250)
    assert resumed.nsim == 600
    pd.testing.assert_frame_equal(resumed.replicates, replicates.replicates, rtol=1e-6, atol=1e-6)
    assert (resumed.outcome == replicates.outcome).all()


def test_interruption_keeps_what_is_there(fit, monkeypatch):
    whole = fit.bootstrap(20, rng=4, statistic=slope_ratio)
    original, calls = replicate.Sampler.block, []

    def interrupted(self, first, count, threads=None):
        calls.append(first)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, first, count, threads)

    monkeypatch.setattr(replicate.Sampler, "block", interrupted)
    monkeypatch.setattr("sparselmm.inference.bootstrap.api.block_width", lambda n: min(n, 8))
    with pytest.warns(slm.ConvergenceWarning, match="Interrupted after 8 of 20 replicates"):
        part = fit.bootstrap(20, rng=4, statistic=slope_ratio)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(part.extend(12).replicates, whole.replicates)


def test_blocks_have_fixed_edges():
    plan = Plan(None, pd.Series(dtype=float), "parametric", 8)
    assert plan.blocks(0, 20) == [(0, 8), (8, 8), (16, 4)]
    assert plan.blocks(5, 17) == [(5, 3), (8, 8), (16, 1)]
    assert plan.blocks(16, 24) == [(16, 8)]


def test_seeds():
    assert seed_of(5).entropy == 5
    child = np.random.SeedSequence(5).spawn(2)[1]
    assert seed_of(child) is child
    rng = np.random.default_rng(1)
    assert seed_of(rng).entropy != seed_of(rng).entropy
    assert seed_of(np.random.default_rng(1)).entropy == seed_of(np.random.default_rng(1)).entropy
    with pytest.raises(
        slm.InferenceError, match="Found rng='a'; expected a numpy.random.Generator"
    ):
        seed_of("a")


def test_statistic(fit):
    own = fit.bootstrap(12, rng=6, statistic=slope_ratio)
    everything = fit.bootstrap(12, rng=6).replicates
    np.testing.assert_allclose(
        own.replicates["ratio"], everything["Days"] / everything["sigma"], rtol=1e-6
    )
    assert list(fit.bootstrap(2, rng=6, statistic=lambda r: r.sigma).estimate.index) == [
        "statistic"
    ]
    assert len(fit.bootstrap(2, rng=6, statistic=lambda r: r.theta).estimate) == 3
    seen = fit.bootstrap(2, rng=6, statistic=lambda r: r.resid.to_numpy()[:2])
    assert np.isfinite(seen.replicates.to_numpy()).all()


def test_failures_are_counted_and_kept(fit):
    def moody(results):
        if results.params["Days"] > 10.5:
            raise RuntimeError("not today")
        return results.params["Days"]

    some = fit.bootstrap(60, rng=7, statistic=moody)
    good = fit.bootstrap(60, rng=7).replicates["Days"] <= 10.5
    assert 0 < len(some.failures) == (~good).sum()
    assert set(some.failures) == {"RuntimeError: not today"}
    assert some.replicates["statistic"].isna().sum() == len(some.failures)
    assert f"{len(some.failures)} of 60 replicates failed and are left out" in str(some)
    assert some.frame.loc["statistic", "n"] == good.sum()


def test_residual_pools_have_the_fitted_variances(fit):
    pools = residual_source(fit.fit, make_rows(fit.fit))
    T = fit.fit.solution.T[0]
    b = pools.effects[0]
    np.testing.assert_allclose(b.mean(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(b.T @ b / len(b), fit.scale * T @ T.T)
    assert np.mean(pools.residuals**2) == pytest.approx(fit.scale)


def test_stretch_of_a_singular_covariance(rng):
    u = rng.standard_normal((30, 1)) @ [[1.0, 2.0]]
    Sigma = np.array([[1.0, 2.0], [2.0, 4.0]])
    out = stretch(u, Sigma)
    np.testing.assert_allclose(out.T @ out / 30, Sigma)
    assert (stretch(np.zeros((5, 2)), np.zeros((2, 2))) == 0.0).all()


def test_residual_spread(fit):
    frame = fit.bootstrap(500, rng=8, kind="residual").frame
    np.testing.assert_allclose(frame["std_error"][:2], fit.bse, rtol=0.2)


def test_cases_draw_whole_groups(fit):
    sampler = fit.bootstrap(1, rng=9, kind="cases").plan.sampler
    drawn = np.array([0, 0, *range(2, 14), 15, 16, 17, 17])
    other = sampler._fit(drawn)
    data = slm.load_dataset("sleepstudy")
    subjects = data["Subject"].cat.categories
    pieces = [
        data[data["Subject"] == subjects[level]].assign(Subject=str(i))
        for i, level in enumerate(drawn)
    ]
    anew = slm.lmm("Reaction ~ Days + (Days | Subject)", pd.concat(pieces))
    assert other.deviance == pytest.approx(anew.deviance, abs=1e-6)
    np.testing.assert_allclose(other.beta, anew.params, rtol=1e-6)


def test_cases_of_nested_factors():
    nested = slm.lmm("strength ~ 1 + (1 | batch/cask)", slm.load_dataset("pastes"))
    result = nested.bootstrap(40, rng=1, kind="cases")
    assert len(result.failures) < 5
    design = nested.fit.design
    assert replicate.outermost(nested.fit) == 1
    sampler = result.plan.sampler
    taken = replicate.take_groups(design, sampler.order, sampler.pointers, np.zeros(10, dtype=int))
    assert [factor.n_levels for factor in taken.factors] == [30, 10]


def test_cases_refuse_crossed_factors():
    crossed = slm.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin"))
    with pytest.raises(InferenceError, match="Found crossed factors 'plate' and 'sample'"):
        crossed.bootstrap(10, rng=1, kind="cases")


def test_interval_types_by_hand():
    values = np.arange(1.0, 40.0)
    np.testing.assert_allclose(record.percentile(values, 18.0, 0.95), [1.0, 39.0])
    np.testing.assert_allclose(record.basic(values, 18.0, 0.95), [-3.0, 35.0])
    half = 1.959963984540054 * values.std(ddof=1)
    np.testing.assert_allclose(record.normal(values, 18.0, 0.95), [16.0 - half, 16.0 + half])
    skewed = np.array([0.0, 0.1, 0.2, 0.3, 5.0])
    np.testing.assert_allclose(record.shortest(skewed, 0.1, 0.8), [0.0, 0.3])


def test_intervals_stay_within_what_a_parameter_can_be(replicates):
    for kind in record.TYPES:
        table = replicates.conf_int(0.99, type=kind)
        assert (table["lower"] < table["upper"]).all()
        assert table.loc["sd_Intercept|Subject", "lower"] >= 0.0
        assert table.loc["cor_Intercept.Days|Subject", "upper"] <= 1.0


def test_intervals_resemble_the_profile(fit, replicates):
    own, profile = replicates.conf_int(), fit.conf_int(method="profile")
    for name in ("Days", "sigma", "sd_Days|Subject"):
        width = profile.loc[name, "upper"] - profile.loc[name, "lower"]
        assert (own.loc[name] - profile.loc[name]).abs().max() < 0.2 * width


def test_too_few_replicates(fit):
    few = fit.bootstrap(38, rng=1)
    with pytest.raises(
        InferenceError, match="Found 38 replicates; a 95 % interval .* needs at least 39"
    ):
        few.conf_int()
    assert few.extend(1).conf_int().shape == (6, 2)
    assert few.conf_int(type="normal").shape == (6, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.5}, "Found level=1.5; expected a number between 0 and 1"),
        ({"type": "bca"}, "Found type='bca'; expected one of percentile, basic"),
        ({"parm": "Hours"}, "Found parm='Hours'; expected some of 'Intercept'"),
    ],
)
def test_bad_questions(replicates, settings, message):
    with pytest.raises(InferenceError, match=message):
        replicates.conf_int(**settings)


def test_bad_bootstraps(fit):
    with pytest.raises(InferenceError, match="Found kind='wild'; expected one of parametric"):
        fit.bootstrap(10, kind="wild")
    with pytest.raises(InferenceError, match="Found nsim=0"):
        fit.bootstrap(0)
    with pytest.raises(InferenceError, match="expected a number, a vector, a dict or a Series"):
        fit.bootstrap(2, statistic=lambda r: np.ones((2, len(r.params))))


def test_singular_fits_are_bootstrapped():
    with pytest.warns(slm.SingularFitWarning):
        fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"))
    result = fit.bootstrap(300, rng=1)
    assert not len(result.failures)
    assert 0.4 < result.singular / 300 < 0.8
    assert f"{result.singular} of 300 replicates are singular fits; they count" in str(result)
    assert result.conf_int().loc["sd_Intercept|Batch", "lower"] == 0.0


def test_text_and_pickle(replicates):
    text = str(replicates)
    assert text.startswith("Parametric bootstrap, 600 replicates")
    assert "std_error" in text
    assert "<table" in replicates._repr_html_()
    again = pickle.loads(pickle.dumps(replicates))
    pd.testing.assert_frame_equal(again.conf_int(), replicates.conf_int())


def test_progress_bar(fit, capsys):
    pytest.importorskip("tqdm")
    fit.bootstrap(3, rng=1, progress=True)
    assert "3/3" in capsys.readouterr().err


def test_conf_int_takes_the_bootstrap():
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", slm.load_dataset("sleepstudy"))
    intervals = fit.conf_int(method="bootstrap", nsim=200, rng=3)
    direct = fit.bootstrap(200, rng=3).conf_int()
    assert list(intervals.columns) == ["lower", "upper"]
    assert {"Intercept", "Days", "sd_Intercept|Subject", "sigma"} <= set(intervals.index)
    np.testing.assert_allclose(intervals.to_numpy(), direct.loc[intervals.index].to_numpy())
