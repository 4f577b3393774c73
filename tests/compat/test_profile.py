"""Profiles of variances at and away from the boundary, against a search of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize, minimize_scalar

from sparselmm import load_dataset, mixedlm
from sparselmm.compat.statsmodels import MixedLMParams

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.errors.SingularFitWarning")


def test_correlation_of_one_does_not_stay_where_the_variance_moves():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), 5)
    x = rng.normal(size=40)
    data = pd.DataFrame({"x": x, "g": g})
    data["y"] = rng.normal(size=8)[g] * (1 + 0.5 * x) + rng.normal(size=40)
    model = mixedlm("y ~ x", data, groups="g", re_formula="~x")
    fit = model.fit()
    assert np.linalg.eigvalsh(fit.cov_re)[0] < 1e-8
    variance = fit.cov_re.iloc[0, 0]
    curve = fit.profile_re(
        0, "re", num_low=1, dist_low=0.9 * variance, num_high=2, dist_high=20 * variance
    )
    relative = fit.cov_re_unscaled.iloc[0, 0] * np.array([0.1, 1.0, 11.0, 21.0])
    for value, likelihood in zip(relative, curve[:, 1], strict=True):

        def deviance(q, value=value):
            size, r = np.exp(q[0]), np.tanh(q[1])
            cov = r * np.sqrt(value * size)
            point = MixedLMParams.from_components([0, 0], cov_re=[[value, cov], [cov, size]])
            return -model.loglike(point)

        starts = ([-2.0, 0.3], [0.0, 1.5])
        options = {"fatol": 1e-9, "xatol": 1e-7}
        best = min(minimize(deviance, s, method="Nelder-Mead", options=options).fun for s in starts)
        assert_allclose(likelihood, -best, atol=1e-5)


def test_component_of_zero_grows_where_the_groups_are_held_small():
    rng = np.random.default_rng(11)
    g, h = np.repeat(np.arange(8), 6), np.tile(np.repeat([0, 1, 2], 2), 8)
    data = pd.DataFrame({"y": rng.normal(size=48) + rng.normal(size=8)[g], "g": g, "h": h})
    model = mixedlm("y ~ 1", data, groups="g", re_formula="1", vc_formula={"h": "0 + C(h)"})
    fit = model.fit()
    assert fit.vcomp[0] == 0.0
    variance, held = fit.cov_re.iloc[0, 0], 1e-3 * fit.cov_re_unscaled.iloc[0, 0]
    curve = fit.profile_re(0, "re", num_low=2, dist_low=0.999 * variance, num_high=0)

    def deviance(q):
        point = MixedLMParams.from_components([0], cov_re=[[held]], vcomp=[q])
        return -model.loglike(point)

    best = minimize_scalar(deviance, bounds=(0.0, 5.0), method="bounded", options={"xatol": 1e-9})
    assert_allclose(curve[0, 1], -best.fun, atol=1e-7)


@pytest.mark.parametrize("use_sqrt", [True, False])
def test_from_an_estimate_of_zero(use_sqrt):
    data = load_dataset("dyestuff2")
    fit = mixedlm("Yield ~ 1", data, groups="Batch", use_sqrt=use_sqrt).fit()
    curve = fit.profile_re(0, "re", num_low=0, num_high=3, dist_high=6.0)
    assert_allclose(curve[0], [0.0, fit.llf], atol=1e-12)
    relative = np.array([2.0, 4.0, 6.0]) / fit.scale
    points = [MixedLMParams.from_components([0], cov_re=[[value]]) for value in relative]
    assert_allclose(curve[1:, 1], [fit.model.loglike(point) for point in points])
    with pytest.raises(ValueError, match="estimate is 0. Try a smaller value, or num_low=0"):
        fit.profile_re(0, "re")


def test_down_to_zero(sleepstudy):
    model = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", re_formula="~Days")
    fit = model.fit(reml=False)
    for index, rest in ((0, "0 + Days"), (1, "1")):
        variance = fit.cov_re.iloc[index, index]
        curve = fit.profile_re(index, "re", num_low=1, dist_low=variance, num_high=0)
        other = mixedlm("Reaction ~ Days", sleepstudy, groups="Subject", re_formula=rest)
        assert_allclose(curve[0], [0.0, other.fit(reml=False).llf], atol=1e-6)
