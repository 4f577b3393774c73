"""Exact second derivatives against differences of the dense score, and what they spare small designs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sparselmm import problem as problems
from sparselmm.curvature import exact_hessian
from sparselmm.datasets import load_dataset
from sparselmm.design import build_design
from sparselmm.fit import prepare
from sparselmm.optimise import minimise
from sparselmm.optimum import Outcome
from sparselmm.start import moment_start
from tests.core.designs import Case, cases, factor, make_case, random_theta, term

BOTH = pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])
KINDS = cases(6)


def relative_score(case: Case, T, change, reml: bool) -> np.ndarray:
    """Derivatives along the relative directions of T where Sigma_j is T_j (I + change_j) T_j'."""
    basis = case.gram.basis
    moved = [t @ np.linalg.cholesky(np.eye(len(t)) + d) for t, d in zip(T, change, strict=True)]
    at = case.define([basis.user_factor(j, t) for j, t in enumerate(moved)], reml=reml)
    user = [basis.user_factor(j, t) for j, t in enumerate(T)]
    return np.array([np.vdot(user[j].T @ at.score_sigma[j] @ user[j], S)
                     for j, S in case.model.directions])  # fmt: skip


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_of_the_definition(kind, reml):
    case, h = KINDS[kind], 1e-5
    problem, model = case.problem(reml=reml), case.model
    at = problem.evaluate(random_theta(np.random.default_rng(1), model))
    T, want = at.solution.T, []
    for e in h * np.eye(model.n_theta):
        ends = [relative_score(case, T, model.relative_change(move), reml) for move in (e, -e)]
        want.append((ends[0] - ends[1]) / (2.0 * h))
    found = problem.exact(at).information
    assert_allclose(found, want, rtol=1e-6, atol=1e-7 * np.abs(want).max())
    assert_allclose(found, found.T, rtol=1e-12, atol=1e-12)


def test_one_balanced_factor_by_hand():
    """Two levels with two rows each, no fixed effects: d(v) = sum of logs + n log r2, in closed form."""
    y = np.array([3.0, 1.0, 0.5, -1.0])
    case = make_case(np.random.default_rng(0), [factor(np.array([0, 0, 1, 1]))], p=0)
    case = case.with_design(y=y)
    problem = case.problem(reml=False)
    t = 0.7
    at = problem.evaluate(problem.model.theta([case.gram.basis.internal_factor(0, [[t]])]))
    sums = np.array([4.0, -0.5])
    v, k = t**2, float(sums @ sums)
    r2, shrunk = y @ y - v * k / (1.0 + 2.0 * v), 1.0 + 2.0 * v
    slope, bend = -k / shrunk**2, 4.0 * k / shrunk**3  # of r2 in v
    second = -8.0 / shrunk**2 + 4.0 * (bend / r2 - (slope / r2) ** 2)
    assert_allclose(problem.exact(at).information, [[second * v**2]], rtol=1e-12)


def few_rows(seed: int) -> Case:
    """Forty rows under 20 and 8 levels, a slope in each: hardly more rows than coefficients."""
    rng, n = np.random.default_rng(seed), 40
    x = rng.normal(size=n)
    factors = [factor(rng.integers(0, levels, n), np.ones(n), x) for levels in (20, 8)]
    terms = (term(0, 1), term(0, 1, start=1), term(1, 2)) if seed % 2 else None
    theta = np.array([5.0, 1.0, 0.3, 0.0, 0.3]) if seed % 2 else None
    return make_case(rng, factors, terms, theta=theta, scale=3.0)


SLOW = {  # between 17 and 28 evaluations with what the scores teach alone
    (21, False): 164.5788730,
    (129, True): 175.8554998,
    (219, False): 176.3109914,
    (103, True): 173.5285283,
    (142, True): 213.9781849,
    (248, False): 259.2091125,
    (48, False): 191.2123363,
}


@pytest.mark.parametrize(("seed", "reml"), SLOW)
def test_few_rows_end_within_the_bar(seed, reml):
    found = few_rows(seed).fit(reml=reml)
    assert found.converged, found.certificate
    assert found.evaluations <= 13
    assert_allclose(found.solution.deviance, SLOW[seed, reml], atol=1e-6)


def small(seed: int) -> Case:
    """Sixty rows under ten levels crossed with six, a slope in the first."""
    rng, n = np.random.default_rng(seed), 60
    x = rng.normal(size=n)
    factors = [factor(np.arange(n) % 10, np.ones(n), x), factor(rng.integers(0, 6, n))]
    return make_case(rng, factors, theta=np.array([0.8, 0.2, 0.6, 0.7]))


def test_small_designs_mostly_take_four_to_eight():
    counts = {True: [], False: []}
    for seed in range(80):
        found = small(seed).fit(reml=bool(seed % 2))
        assert found.converged, (seed, found.certificate)
        counts[found.outcome is Outcome.CONVERGED].append(found.evaluations)
    regular, singular = counts[True], counts[False]
    assert max(regular + singular) <= 9
    assert np.mean(np.array(regular) <= 8) >= 0.97
    assert np.mean(regular) < 5.8


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """One entry for every exact Hessian."""
    made = []

    def counted(gram, *rest):
        made.append(gram.q)
        return exact_hessian(gram, *rest)

    monkeypatch.setattr(problems, "exact_hessian", counted)
    return made


def test_a_run_that_ends_soon_makes_no_exact_hessian(calls):
    design = build_design("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    assert minimise(prepare(*design).problem(reml=True)).evaluations == 3
    assert calls == []
    found = few_rows(129).fit()
    assert 3 <= len(calls) <= found.evaluations - 3
    assert found.certificate.gain <= 1e-8


def test_many_levels_make_no_exact_hessian(calls):
    """Two factors of 90 levels: 90 solves for every Hessian."""
    rng, n = np.random.default_rng(1), 400
    case = make_case(rng, [factor(rng.permutation(n) % 90) for _ in range(2)], scale=0.1)
    found = case.fit()
    assert found.evaluations > 4
    assert not case.problem().exact_is_cheap()
    assert calls == []


@pytest.mark.parametrize("seed", [11, 45, 47, 65])
def test_no_noise_by_moments_is_no_reason_to_start_far_off(seed):
    """Moments leave nothing for sigma²: intercepts started at 22 to 32 noise units, the optimum is at 3 to 8."""
    case = few_rows(seed)
    found, start = case.fit(), moment_start(case.gram, case.model)
    assert 0.5 < start.max() / found.theta.max() < 2.2
    assert found.converged
    assert found.evaluations <= 8
