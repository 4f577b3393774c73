"""Scores and Hessians of both packages: the statements of the documentation about them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import MixedLM, load_dataset
from sparselmm.compat.statsmodels import MixedLMParams

lme = pytest.importorskip("statsmodels.regression.mixed_linear_model")


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    data = load_dataset("sleepstudy")
    subject = data["Subject"].astype(str)
    return data.assign(sex=np.where(subject.str[-1].astype(int) % 2, "m", "f"))


@pytest.mark.parametrize("use_sqrt", [True, False])
def test_scores_in_parts(use_sqrt, sleep):
    arguments = {"groups": "Subject", "re_formula": "~Days", "vc_formula": {"s": "0 + sex:Days"}}
    models = [
        kind.from_formula("Reaction ~ Days", sleep, use_sqrt=use_sqrt, **arguments)
        for kind in (MixedLM, lme.MixedLM)
    ]
    models[1].cov_pen = None
    parts = {"cov_re": np.array([[2.0, 0.1], [0.1, 0.3]]), "vcomp": np.array([0.2])}
    at = lme.MixedLMParams.from_components(np.array([250.0, 10.0]), **parts)
    for name in ("score_full", "score_sqrt"):
        for calc_fe in (True, False):
            found, expected = (getattr(model, name)(at, calc_fe) for model in models)
            for left, right in zip(found, expected, strict=True):
                assert_allclose(left, right, rtol=1e-8, atol=1e-8)
    packed = at.get_packed(use_sqrt=use_sqrt)
    at_zero = lme.MixedLMParams.from_packed(packed, 2, 2, use_sqrt, has_fe=False)
    found = models[0].score_full(packed)  # statsmodels' documentation allows it, its code does not
    expected = models[1].score_full(at_zero, calc_fe=True)
    assert_allclose(np.concatenate(found), np.concatenate(expected), rtol=1e-8)
    assert_allclose(models[0].information(at), -models[0].hessian(at)[0])


@pytest.mark.parametrize("use_sqrt", [True, False])
@pytest.mark.parametrize("reml", [True, False])
def test_score_and_hessian_are_derivatives_of_the_likelihood(use_sqrt, reml, sleep):
    """The statements of the documentation about both packages."""
    step = 2e-3
    data = sleep.assign(y=sleep["Reaction"] / 50)
    parts = {"cov_re": np.array([[1.5, 0.3], [0.3, 0.4]]), "vcomp": np.array([0.5])}
    arguments = {"groups": "Subject", "re_formula": "~Days", "vc_formula": {"s": "0 + sex"}}
    for kind, params in ((MixedLM, MixedLMParams), (lme.MixedLM, lme.MixedLMParams)):
        model = kind.from_formula("y ~ Days", data, use_sqrt=use_sqrt, **arguments)
        model.reml, model._freepat, model.cov_pen, model._cov_sing = reml, None, None, 0

        def likelihood(packed, roots, model=model, params=params):
            at = params.from_packed(packed, 2, 2, roots, True)
            return model.loglike(at, profile_fe=False)

        gls = model.get_fe_params(parts["cov_re"], parts["vcomp"])[0]
        for fe in (gls, gls + np.array([0.3, -0.1])):
            at = params.from_components(fe, **parts)
            roots = at.get_packed(use_sqrt=use_sqrt, has_fe=True)
            E = np.eye(6) * 1e-5
            slopes = [likelihood(roots + e, use_sqrt) - likelihood(roots - e, use_sqrt) for e in E]
            assert_allclose(model.score(at, False), np.array(slopes) / 2e-5, atol=1e-5)
            packed, E = at.get_packed(use_sqrt=False, has_fe=True), np.eye(6) * step
            signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            expected = [
                [
                    sum(a * b * likelihood(packed + a * e + b * f, False) for a, b in signs)
                    for f in E
                ]
                for e in E
            ]
            gap = np.abs(model.hessian(at)[0] - np.array(expected) / (4 * step**2))
            if kind is MixedLM or fe is gls:
                assert gap.max() < 0.02
            else:
                assert gap[:2].max() > 1.0
                assert gap[2:, 2:].max() < 0.02
