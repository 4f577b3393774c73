"""The numbers in the pictures."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import trapezoid

import sparselmm as slm
from sparselmm import plots
from sparselmm.criterion import solve_at
from sparselmm.plots.bootstrap import density_of, split_atoms
from sparselmm.plots.effects import unpooled
from sparselmm.plots.residuals import _thinned, local_means
from sparselmm.plots.style import normal_quantiles

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fit():
    return slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def cake():
    data = slm.load_dataset("cake")
    return slm.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", data)


@pytest.fixture(scope="module")
def profile():
    return slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), reml=False).profile()


@pytest.fixture(scope="module")
def bootstrap():
    return slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff")).bootstrap(200, rng=1)


def offsets(ax, which=0):
    return np.asarray(ax.collections[which].get_offsets())


def segments(collection):
    return np.array([path.vertices for path in collection.get_paths()])


def drawn_without_overlap(ax):
    """No two tick labels of an axis overlap, and every text lies within the figure."""
    figure = ax.figure
    figure.draw_without_rendering()
    for axis in (ax.xaxis, ax.yaxis):
        boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
        for a, b in pairwise(boxes):
            assert not a.overlaps(b)
    for text in (ax.xaxis.label, ax.yaxis.label, ax._left_title):
        if text.get_text():
            box, page = text.get_window_extent(), figure.bbox
            assert box.x0 >= page.x0 - 1
            assert box.x1 <= page.x1 + 1


def _no_fixed():
    data = slm.load_dataset("sleepstudy")
    return slm.lmm("y ~ 0 + (1 | Subject)", data.assign(y=data["Reaction"] - 300))


def test_nothing_heavy_is_imported():
    code = "import sparselmm.plots, sys; print('matplotlib' in sys.modules, 'scipy.stats' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_coefficients(cake):
    ax = plots.coefficients(cake, ddf="satterthwaite")
    table = cake.tidy(ddf="satterthwaite", conf_level=0.95).iloc[1:]
    assert [t.get_text() for t in ax.get_yticklabels()] == table["term"].tolist()
    wide = segments(ax.collections[0])
    np.testing.assert_allclose(wide[:, 0, 0], table["conf_low"], rtol=1e-10)
    np.testing.assert_allclose(wide[:, 1, 0], table["conf_high"], rtol=1e-10)
    points = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), table["estimate"])
    drawn_without_overlap(ax)
    with_all = plots.coefficients(cake, intercept=True)
    assert len(with_all.get_yticklabels()) == 6


def test_scaled_coefficients(cake):
    ax = plots.coefficients(cake, scaled=True)
    points = next(line for line in ax.lines if line.get_marker() == "o")
    expected = cake.params[1:] * cake.fit.design.X[:, 1:].std(axis=0)
    np.testing.assert_allclose(points.get_xdata(), expected, rtol=1e-10)


def test_caterpillar(fit):
    axes = plots.caterpillar(fit)
    modes = fit.ranef()
    for ax, effect in zip(axes, ["Intercept", "Days"], strict=True):
        own = modes[modes["term"] == effect].sort_values("condval")
        np.testing.assert_allclose(offsets(ax, -1)[:, 0], own["condval"])
        assert [t.get_text() for t in ax.get_yticklabels()] == own["grp"].astype(str).tolist()
        bars = np.concatenate([segments(c) for c in ax.collections[:2]])
        bars = bars[np.argsort(bars[:, 0, 1])]
        np.testing.assert_allclose(np.ptp(bars[:, :, 0], axis=1), 3.919927969 * own["condsd"])
        crosses_zero = [(s[:, 0].prod() < 0) for s in segments(ax.collections[0])]
        assert all(crosses_zero)
        drawn_without_overlap(ax)


def test_shrinkage(fit):
    ax = plots.shrinkage(fit)
    coef = fit.coef()["Subject"][["Intercept", "Days"]].to_numpy()
    np.testing.assert_allclose(offsets(ax, 2), coef, rtol=1e-8)
    data = slm.load_dataset("sleepstudy")
    alone = [
        np.polyfit(d["Days"], d["Reaction"], 1)[::-1]
        for _, d in data.groupby("Subject", observed=True)
    ]
    np.testing.assert_allclose(offsets(ax, 1), alone, rtol=1e-4)
    lines = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(lines[:, 0], offsets(ax, 1))
    np.testing.assert_allclose(lines[:, 1], offsets(ax, 2))
    drawn_without_overlap(ax)


def test_shrinkage_of_one_effect(cake):
    ax = plots.shrinkage(cake)
    shrunk, free = unpooled(cake.fit, 0)
    np.testing.assert_allclose(np.sort(offsets(ax, 2)[:, 0]), np.sort(shrunk[:, 0]))
    np.testing.assert_allclose(np.sort(offsets(ax, 1)[:, 0]), np.sort(free[:, 0]))
    spread = [v - v.mean() for v in (shrunk[:, 0], free[:, 0])]
    assert np.linalg.norm(spread[0]) < np.linalg.norm(spread[1])
    drawn_without_overlap(ax)


def test_unpooled_holds_the_other_factors():
    fit = slm.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin")).fit
    T = list(fit.solution.T)
    T[1] = 1e4 * np.eye(1)
    at = solve_at(fit.gram, fit.prepared.system, T, reml=True)
    expected = at.u[24:] * 1e4 + fit.gram.basis.beta(at.beta)[0]
    np.testing.assert_allclose(unpooled(fit, 1)[1][:, 0], expected, rtol=1e-9)


def test_profile_zeta(profile):
    axes = plots.profile_zeta(profile)
    grid = profile.grid(121)
    for ax, name in zip(axes, profile.curves, strict=True):
        own = grid[grid["parm"] == name]
        curve = max(ax.lines, key=lambda line: len(line.get_xdata()))
        np.testing.assert_allclose(curve.get_xdata(), own["value"])
        np.testing.assert_allclose(curve.get_ydata(), own["zeta"])
        ends = segments(ax.collections[-1])[:, 0, 0]
        np.testing.assert_allclose(ends, profile.conf_int().loc[name])
        drawn_without_overlap(ax)


def test_profile_density_holds_the_level(profile):
    axes = plots.profile_densities(profile, ["sigma", "Intercept"])
    assert len(axes) == 2
    for ax in axes:
        line = max(ax.lines, key=lambda line: len(line.get_xdata()))
        value, density = line.get_data()
        name = ax.get_title(loc="left")
        low, high = profile.conf_int().loc[name]
        inside = np.linspace(low, high, 2001)
        share = trapezoid(np.interp(inside, value, density), inside)
        assert share == pytest.approx(0.95, abs=2e-3)
        drawn_without_overlap(ax)


def test_profiles_that_could_not_be_followed(profile, monkeypatch):
    grid = profile.grid
    monkeypatch.setattr(type(profile), "grid", lambda _, points: grid(points).assign(value=np.nan))
    assert plots.profile_densities(profile, "sigma")[0].texts[0].get_text() == "no curve"
    ax = plots.profile_zeta(profile, "sigma")[0]
    assert ax.lines[-1].get_xdata()[0] == profile["sigma"].estimate


def test_bootstrap_densities(bootstrap):
    axes = plots.bootstrap_densities(bootstrap)
    assert [ax.get_title(loc="left") for ax in axes] == list(bootstrap.estimate.index)
    sd = axes[list(bootstrap.estimate.index).index("sd_Intercept|Batch")]
    values = bootstrap.replicates["sd_Intercept|Batch"]
    share = (values < 1e-3 * np.ptp(values)).mean()
    assert share > 0
    assert sd.texts[0].get_text() == f"{100 * share:.0f} % at 0"
    for ax in axes:
        drawn_without_overlap(ax)


def test_densities_integrate_to_one(rng):
    free, atoms = split_atoms(
        np.concatenate([np.zeros(20), rng.exponential(size=80)]), (0.0, np.inf)
    )
    assert atoms == [(0.0, pytest.approx(0.2, abs=0.011))]
    place, density = density_of(free, (0.0, np.inf))
    assert trapezoid(density, place) == pytest.approx(1.0, abs=0.01)
    assert place[0] == 0.0
    flat = density_of(np.ones(10), (-np.inf, np.inf))[1]
    assert (flat == 0).all()


def test_residuals_against_fitted(fit):
    ax = plots.residuals_fitted(fit)
    points = offsets(ax)
    np.testing.assert_allclose(points[:, 0], fit.fittedvalues)
    np.testing.assert_allclose(points[:, 1], fit.residuals("standardised"))
    x, y = local_means(points[:, 0], points[:, 1])
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), x)
    assert y.mean() == pytest.approx(points[:, 1].mean(), abs=1e-10)
    assert plots.residuals_fitted(fit, kind="marginal").get_ylabel() == "Marginal residual"


def test_many_residuals_become_hexagons():
    rng = np.random.default_rng(0)
    g = rng.integers(0, 100, 6000)
    data = {"y": rng.normal(size=6000) + rng.normal(size=100)[g], "g": g}
    ax = plots.residuals_fitted(slm.lmm("y ~ 1 + (1 | g)", data))
    assert ax.collections[0].get_array().size < 4000


def test_quantiles(fit):
    ax = plots.qq_residuals(fit)
    points = offsets(ax)
    np.testing.assert_allclose(points[:, 1], np.sort(fit.residuals("standardised")))
    np.testing.assert_allclose(points[:, 0], normal_quantiles(180))
    np.testing.assert_allclose(points[:, 0], -points[::-1, 0])
    axes = plots.qq_random(fit)
    modes = fit.ranef()
    own = modes[modes["term"] == "Days"].sort_values("condval")
    np.testing.assert_allclose(offsets(axes[1], -1)[:, 1], own["condval"])
    bars = segments(axes[1].collections[0])
    np.testing.assert_allclose(np.ptp(bars[:, :, 1], axis=1), 2 * 1.96 * own["condsd"])
    for each in (ax, *axes):
        drawn_without_overlap(each)


def test_thinning_keeps_tails():
    kept = _thinned(100_000)
    assert len(kept) == 5000
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == 99_999


def test_axes_may_be_given(fit):
    figure, given = plt.subplots(1, 2)
    axes = plots.caterpillar(fit, ax=given)
    assert axes[0].figure is figure
    assert plots.qq_residuals(fit, ax=given[0]) is given[0]
    before = dict(matplotlib.rcParams)
    plots.shrinkage(fit)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda f: plots.caterpillar(f, "subject"),
            "Found group='subject'; expected one of 'Subject'",
        ),
        (lambda _: plots.caterpillar(3), "Found int; expected the results of a fit"),
        (lambda f: plots.shrinkage(f, effects=("Days", "x")), "expected two of Intercept, Days"),
        (lambda f: plots.residuals_fitted(f, kind="raw"), "Found kind='raw'"),
        (lambda f: plots.coefficients(f, level=5), "expected a number in"),
        (lambda _: plots.coefficients(_no_fixed()), "without fixed effects"),
        (lambda f: plots.caterpillar(f, ax=plots.qq_residuals(f)), "Found 1 axes; expected 2"),
    ],
)
def test_messages(fit, draw, message):
    with pytest.raises(slm.InferenceError, match=message):
        draw(fit)
