"""Profile likelihood: R's exact values, brute force near the boundary, and what the record answers."""

from __future__ import annotations

import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import ndtri

import sparselmm as slm
from sparselmm.errors import ConvergenceWarning, InferenceError
from sparselmm.fit import fit as refit
from sparselmm.inference.profile import profile, profile_intervals
from sparselmm.inference.profile.api import make_context
from sparselmm.inference.profile.find import find_targets, fixed_targets, variance_targets
from sparselmm.inference.profile.surface import make_surface, point_at, slice_at
from sparselmm.inference.profile.trace import trace
from sparselmm.options import Options
from sparselmm.varcorr import parameter_names
from tests.values import case_id, cases, frame

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")

EXACT = [case for case in cases() if "confint_profile_exact" in case]
CUTOFF = float(ndtri(0.975)) ** 2


def ours(name: str, uncorrelated: bool) -> str:
    """R's name of a parameter, as it is called here."""
    name = name.replace("(Intercept)", "Intercept")
    name = re.sub(r"^cor_(.*)\.Intercept\|", r"cor_Intercept.\1|", name)
    for nested in ("cask:batch", "Machine:Worker", "Wafer:Lot"):
        name = name.replace(nested, ":".join(reversed(nested.split(":"))))
    name = re.sub(r"^(recipe|Machine|Type)([A-Z]\d?)$", r"\1[T.\2]", name)
    return name + ".1" if uncorrelated and re.match(r"sd_(Days|Time)\|", name) else name


def fit_case(case: dict, reml: bool = False):
    return slm.lmm(case["formula"], frame(case), reml=reml)


@pytest.mark.parametrize("case", EXACT, ids=case_id)
def test_reference_intervals(case):
    result = fit_case(case).profile()
    expected = case["confint_profile_exact"]
    uncorrelated = "||" in case["formula"]
    names = [ours(name, uncorrelated) for name in expected["row_names"]]
    values = np.array(expected["values"], dtype=float)
    assert set(names) == set(result.curves)
    found = result.conf_int().loc[names].to_numpy()
    np.testing.assert_allclose(found, values[:, 2:], rtol=1e-6, atol=1e-7)
    inner = result.conf_int(0.90).loc[names].to_numpy()
    np.testing.assert_allclose(inner, values[:, :2], rtol=1e-6, atol=1e-7)
    read = np.array([result[name].interval(0.90) for name in names])
    width = np.diff(values[:, 2:])
    assert (np.abs(read - values[:, :2]) < 2e-3 * width).all()


@pytest.mark.parametrize("name", ["sleepstudy_slope", "dyestuff2"])
def test_other_levels_are_exact_when_asked_for(name):
    case = next(c for c in EXACT if c["name"] == name)
    found = fit_case(case).conf_int(level=0.9, method="profile")
    names = [ours(n, False) for n in case["confint_profile_exact"]["row_names"]]
    values = np.array(case["confint_profile_exact"]["values"], dtype=float)
    np.testing.assert_allclose(found.loc[names], values[:, :2], rtol=1e-6, atol=1e-7)


def test_reml_fit_profiles_the_ml_deviance():
    case = next(c for c in EXACT if c["name"] == "penicillin")
    by_reml = fit_case(case, reml=True).profile()
    by_ml = fit_case(case).profile()
    np.testing.assert_allclose(by_reml.conf_int(), by_ml.conf_int(), rtol=1e-7)
    assert "REML" in by_reml.notes[0]
    assert not by_ml.notes


def test_names_are_those_of_the_tables(sleepstudy):
    data = sleepstudy.assign(other=np.arange(180) % 7)
    fit = slm.lmm("Reaction ~ Days + (Days || Subject) + (Days | other)", data).fit
    assert [t.name for t in variance_targets(fit)] == parameter_names(fit)


def growth(seed: int, spread: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(10), 6), np.tile(np.arange(6.0), 10)
    y = 1.0 + x + spread * rng.standard_normal(10)[g] + rng.standard_normal(60)
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})


def smallest_deviance(fit, held: str, value: float) -> float:
    """Brute force over two standard deviations, their correlation and sigma, one of them held."""
    problem, n = fit.prepared.problem(reml=False), fit.n
    free = [name for name in ("first", "second", "cor", "sigma") if name != held]

    def deviance(v):
        p = dict(zip(free, v, strict=True)) | {held: value}
        first, second, cor = abs(p["first"]), abs(p["second"]), p["cor"]
        cor = cor if held == "cor" else np.sin(cor)
        sigma = p["sigma"] if held == "sigma" else np.exp(p["sigma"])
        T = np.array([[first, 0.0], [second * cor, second * np.sqrt(1.0 - cor**2)]]) / sigma
        at = problem.solve(problem.model.theta([problem.gram.basis.internal_factor(0, T)]))
        return at.logdet_A + n * np.log(2 * np.pi) + 2 * n * np.log(sigma) + at.r2 / sigma**2

    start = {"first": 0.5, "second": 0.2, "cor": 0.0, "sigma": 0.0}
    best = np.inf
    for turn in (-1.2, 1.2, 0.0):
        v = [turn if name == "cor" else start[name] for name in free]
        options = {"xatol": 1e-6, "fatol": 1e-8, "maxfev": 3000}
        best = min(best, minimize(deviance, v, method="Nelder-Mead", options=options).fun)
    return best


# seeds whose fits have no variance at all, a correlation of -1, or one of 1
@pytest.mark.parametrize(("seed", "spread"), [(1, 0.5), (2, 0.5), (3, 0.5), (104, 0.0)])
def test_singular_fits_against_brute_force(seed, spread):
    result = slm.lmm("y ~ x + (x | g)", growth(seed, spread), reml=False)
    assert result.is_singular()
    found = result.profile()
    assert found.conf_int().notna().all(axis=None)
    names = ("sd_Intercept|g", "sd_x|g", "cor_Intercept.x|g", "sigma")
    for name, held in zip(names, ("first", "second", "cor", "sigma"), strict=True):
        for end in found.conf_int().loc[name]:
            rise = smallest_deviance(found.fit, held, end) - found.fit.deviance
            if end in (0.0, -1.0, 1.0):
                assert rise < CUTOFF + 1e-4
            else:
                assert rise == pytest.approx(CUTOFF, abs=3e-4)
    assert any("bound" in note for note in found.notes)


def test_ends_beyond_a_flat_saddle():
    """Towards smaller sigma the slopes' own variance, zero in the fit, is worth having: a flat saddle hides it."""
    cake = slm.load_dataset("cake")
    fit = slm.lmm("angle ~ recipe + temp + (temp | recipe:replicate)", cake, reml=False)
    end = fit.conf_int(method="profile", parm="sigma").loc["sigma", "lower"]
    surface, tau = make_surface(fit.fit), 2.0 * np.log(end)

    def deviance(theta):
        return point_at(surface, slice_at(surface, theta * [1.0, 0.01, 0.01]), tau).value

    best = minimize(deviance, [1.5, -0.7, 0.7], method="Nelder-Mead", options={"fatol": 1e-8}).fun
    assert best - fit.deviance == pytest.approx(CUTOFF, abs=1e-5)


def test_density_of_sigma_has_one_peak():
    """The curvature at a singular optimum may hold for its next neighbourhood only."""
    rng = np.random.default_rng(0)
    for _ in range(34):  # the last of these is such a fit
        x, g, h = np.tile(np.arange(6.0), 12), np.repeat(np.arange(12), 6), rng.integers(0, 5, 72)
        spread = rng.normal(size=12) * (_ % 3) * 0.4
        y = 1.0 + 0.3 * x + spread[g] + rng.normal(size=72)
    curve = slm.lmm("y ~ x + (x | g)", {"y": y, "x": x, "g": g, "h": h}).profile("sigma").grid(121)
    density = np.exp(-0.5 * curve["zeta"] ** 2) * np.gradient(curve["zeta"], curve["value"])
    assert (np.diff(np.sign(np.diff(density))) != 0).sum() == 1


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_flat_directions_are_named():
    """Every lot has one source, so that variance and correlation cannot be told apart."""
    oxide = slm.load_dataset("oxide")
    fit = slm.lmm("Thickness ~ 1 + (1 | Source) + (Source | Lot)", oxide, reml=False)
    with pytest.warns(ConvergenceWarning, match="does not rise there: other values fit as well"):
        found = fit.profile(["sd_Source[T.2]|Lot", "sigma"]).conf_int()
    assert np.isfinite(found.loc["sigma"]).all()


def test_correlation_without_variance_is_explained():
    found = slm.lmm("y ~ x + (x | g)", growth(1, 0.5), reml=False).profile("cor_Intercept.x|g")
    assert found.conf_int().to_numpy().tolist() == [[-1.0, 1.0]]
    assert any("not identified" in note for note in found.notes)


def test_gradient_and_fixed_effect_derivatives_are_exact(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy, reml=False).fit
    surface, held = make_surface(fit), fixed_targets(fit)[1].held
    x, c = np.append(fit.theta * 1.3 + 0.01, np.log(fit.sigma2) + 0.2), fit.beta[1] + 2.0

    def value(x, c):
        return point_at(surface, slice_at(surface, x[:-1]), x[-1], held, c).value

    point = point_at(surface, slice_at(surface, x[:-1]), x[-1], held, c)
    steps = 1e-5 * np.eye(4)
    numeric = [(value(x + e, c) - value(x - e, c)) / 2e-5 for e in steps]
    np.testing.assert_allclose(point.gradient, numeric, rtol=1e-6, atol=1e-5)
    assert point.pull == pytest.approx((value(x, c + 1e-4) - value(x, c - 1e-4)) / 2e-4, rel=1e-6)


def test_derivatives_of_targets(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy).fit
    x = np.array([0.9, 0.3, 0.25, 6.0])
    for target in variance_targets(fit):
        gradient, hessian = target.derivatives(x)
        steps = 1e-5 * np.eye(4)
        slopes = [(target.value(x + e) - target.value(x - e)) / 2e-5 for e in steps]
        bends = [
            (target.derivatives(x + e)[0] - target.derivatives(x - e)[0]) / 2e-5 for e in steps
        ]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(hessian, bends, rtol=1e-5, atol=1e-7)
        phi = target.value(x) + 0.3
        assert target.value(target.place(x, phi)) == pytest.approx(phi, rel=1e-12)


def test_functions_and_icc(sleepstudy):
    result = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy, reml=False)
    functions = {
        "variance": lambda v: v["sd_Intercept|Subject"] ** 2,
        "share": lambda v: 1 / (1 + v["sigma"] ** 2 / v["sd_Intercept|Subject"] ** 2),
    }
    found = result.profile(["sd_Intercept|Subject", "icc"], functions=functions).conf_int()
    squared = found.loc["sd_Intercept|Subject"] ** 2
    np.testing.assert_allclose(found.loc["variance"], squared, rtol=1e-6)
    np.testing.assert_allclose(found.loc["share"], found.loc["icc"], rtol=1e-6)


def test_variances_are_squares():
    result = slm.lmm("strength ~ 1 + (1 | batch/cask)", slm.load_dataset("pastes"), reml=False)
    roots = ["sd_Intercept|batch:cask", "sd_Intercept|batch", "sigma"]
    squares = ["var_Intercept|batch:cask", "var_Intercept|batch", "sigma2"]
    first, second = result.profile(roots).conf_int(), result.profile(squares).conf_int()
    np.testing.assert_allclose(first.to_numpy() ** 2, second, rtol=1e-6)


def test_icc_of_slopes_averages_over_rows(sleepstudy):
    result = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy, reml=False)
    V = result.fit.sigma2 * result.fit.T[0] @ result.fit.T[0].T
    Q = np.column_stack([np.ones(180), sleepstudy["Days"]])
    explained = np.einsum("ia,ab,ib->i", Q, V, Q).mean()
    curve = result.profile("icc")["icc"]
    assert curve.estimate == pytest.approx(result.icc().adjusted, rel=1e-6)
    assert curve.estimate == pytest.approx(explained / (explained + result.fit.sigma2), rel=1e-6)
    assert 0.0 < curve.interval(0.95)[0] < curve.estimate < curve.interval(0.95)[1] < 1.0


def test_frame_and_grid(sleepstudy):
    found = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy).profile()
    assert list(found.frame.columns) == ["parm", "value", "zeta", "deviance"]
    for _, own in found.frame.groupby("parm"):
        assert (np.diff(own["value"]) > 0).all()
        assert (np.diff(own["zeta"]) > 0).all()
        assert own["zeta"].abs().max() > ndtri(0.995)
        np.testing.assert_allclose(own["deviance"], found.fit.deviance + own["zeta"] ** 2)
    assert len(found.grid(11)) == 11 * len(found.curves)
    assert np.isfinite(found.conf_int(0.99)).all(axis=None)
    with pytest.raises(
        InferenceError, match=r"Found level=0.9999; expected at most 0.99\d+, up to"
    ) as raised:
        found.check_reach(0.9999, list(found.curves))
    assert str(raised.value).endswith("were followed. Profile again with level=0.9999.")


@pytest.mark.parametrize("level", [0.5, 0.9, 0.9999])
def test_other_levels_are_exact(level):
    """Also near a bound, and beyond the curves' reach."""
    fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), reml=False)
    share = {"share": lambda p: p["sd_Intercept|Batch"] / p["sigma"]}
    found = fit.profile(functions=share).conf_int(level)
    expected = fit.profile(level=level, functions=share).conf_int()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_curves_between_nodes_are_monotone():
    """Also where the slope at the estimate, on a perfect correlation, says little."""
    rng = np.random.default_rng(1)
    data = {"y": rng.normal(size=60), "x": np.tile(np.arange(6.0), 10), "g": np.arange(60) // 6}
    found = slm.lmm("y ~ x + (x | g)", pd.DataFrame(data)).profile()
    for _, own in found.grid(61).groupby("parm"):
        assert (np.diff(own["value"]) > 0.0).all()


def test_executors_and_pickle_give_the_same(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy, reml=False).fit
    alone = profile(fit)
    with ThreadPoolExecutor(2) as executor:
        together = profile(fit, executor=executor)
    pd.testing.assert_frame_equal(alone.frame, together.frame)
    again = profile(pickle.loads(pickle.dumps(fit)))
    pd.testing.assert_frame_equal(alone.frame, again.frame)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(alone)).frame, alone.frame)


def test_contexts_travel_without_factorisations(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy, reml=False).fit
    context = make_context(fit, (1.96,), 1.96)
    again = pickle.loads(pickle.dumps(context))
    assert again.start.slice.solution.factored is None
    for target in find_targets(fit, ["Days", "sigma"], None):
        first, second = trace(context, target), trace(again, target)
        assert first.up.ends == pytest.approx(second.up.ends, rel=1e-12)


def test_lower_deviance_corrects_the_fit(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy, reml=False).fit
    rough = refit(
        fit.prepared, reml=False, options=Options(max_evaluations=2), start=np.array([3.0])
    )
    moved = replace(rough, optimum=replace(rough.optimum, outcome=fit.optimum.outcome))
    assert moved.deviance > fit.deviance + 0.01
    with pytest.warns(ConvergenceWarning, match="optimum was corrected"):
        found = profile(moved)
    assert found.fit.deviance == pytest.approx(fit.deviance, abs=1e-6)
    np.testing.assert_allclose(found.conf_int(), profile_intervals(fit), rtol=1e-6)


def test_rows_weights_and_units_do_not_matter(sleepstudy):
    base = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy).conf_int(method="profile")
    scaled = sleepstudy.assign(Reaction=1e3 * sleepstudy["Reaction"] + 1e6)
    moved = slm.lmm("Reaction ~ Days + (Days | Subject)", scaled).conf_int(method="profile")
    names = [n for n in base.index if n != "Intercept" and not n.startswith("cor_")]
    np.testing.assert_allclose(moved.loc[names], 1e3 * base.loc[names], rtol=1e-6)
    np.testing.assert_allclose(moved.loc["Intercept"], 1e3 * base.loc["Intercept"] + 1e6, rtol=1e-8)


def test_messages(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy).fit
    with pytest.raises(InferenceError, match="Found parm='slope'; expected some of 'sd_"):
        profile(fit, "slope")
    with pytest.raises(InferenceError, match="Found reach=0.5; expected at least 1.96"):
        profile(fit, "Days", reach=0.5)
    with pytest.raises(InferenceError, match="Found level=95"):
        profile(fit, level=95)
    unbalanced = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy.iloc[3:]).fit
    stopped = refit(unbalanced.prepared, reml=False, options=Options(max_evaluations=1))
    with pytest.raises(InferenceError, match="expected a converged one to profile"):
        profile(stopped)
    with pytest.raises(InferenceError, match="Found parm='x'; expected some of 'sigma'."):
        profile(fit, "sigma")["x"]
