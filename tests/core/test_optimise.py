"""The optimiser: how many evaluations, what it certifies, and never converged away from the optimum."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from sparselmm._types import Array, Design
from sparselmm.covariance.chart import choose_chart
from sparselmm.covariance.model import CovarianceModel
from sparselmm.datasets import load_dataset
from sparselmm.design import build_design
from sparselmm.errors import ConvergenceError, DataError
from sparselmm.fit import prepare
from sparselmm.optimise import make_scale, minimise
from sparselmm.optimum import Optimum, Outcome
from sparselmm.start import level_information, moment_start
from sparselmm.steps import secant_update
from tests.core.designs import Case, cases, crossed, factor, make_case, random_theta, term

BOTH = pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])
KINDS = cases(6)


def grouped(rng: np.random.Generator, levels: int = 30, rows: int = 8, s: int = 2, **options):
    """One grouping factor with s correlated coefficients."""
    n = levels * rows
    columns = rng.normal(size=(s - 1, n))
    return make_case(rng, [factor(np.arange(n) % levels, np.ones(n), *columns)], **options)


def well_inside(case: Case, rng: np.random.Generator) -> Case:
    """The same design with effects as large as the noise, correlated a little."""
    theta = np.where(case.model.pivots, 0.8, 0.2)
    d = case.design
    return make_case(rng, d.factors, case.terms, theta=theta)


# Evaluations


REGULAR = {
    "one theta": lambda rng: grouped(rng, s=1),
    "three theta": lambda rng: grouped(rng, s=2),
    "six theta of one term": lambda rng: grouped(rng, levels=50, s=3),
    "two scalars": lambda rng: crossed(rng, 40, 15, slopes=False),
    "three scalars": lambda rng: crossed(rng, 40, 15, 9, slopes=False),
    "six theta of two terms": lambda rng: crossed(rng, 40, 25, n=600),
}


@BOTH
@pytest.mark.parametrize("name", REGULAR)
def test_regular_problems_take_few_evaluations(name, reml):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        found = well_inside(REGULAR[name](rng), rng).fit(reml=reml)
        assert found.outcome is Outcome.CONVERGED
        assert found.evaluations <= 8, seed
        assert found.certificate.gain <= 1e-8


DATA = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    ("pastes", "strength ~ 1 + (1 | batch/cask)"),
    ("dietox", "Weight ~ Time + (Time | Pig)"),
]


@pytest.mark.parametrize(("data", "formula"), DATA, ids=[name for name, _ in DATA])
def test_data_of_books_take_few_evaluations(data, formula):
    found = minimise(prepare(*build_design(formula, load_dataset(data))).problem(reml=True))
    assert found.outcome is Outcome.CONVERGED
    assert found.evaluations <= 8


def no_variance(rng: np.random.Generator, *, levels=20, rows=6, s=1) -> Case:
    """Balanced groups whose means vary less than chance makes them vary."""
    case = grouped(rng, levels, rows, s, scale=0.0, p=1)
    g, y = case.design.factors[0].codes, case.design.y
    means = np.bincount(g, y) / np.bincount(g)
    return case.with_design(y=y - 0.9 * means[g])


def perfect_correlation(rng: np.random.Generator, sign: float, levels: int = 20) -> Case:
    case = grouped(rng, levels, scale=0.0)
    f = case.design.factors[0]
    u = rng.normal(size=levels)[f.codes]
    return case.with_design(y=case.design.y + u + sign * 0.5 * u * f.Q[:, 1])


def zeros_in_several_terms(rng: np.random.Generator) -> Case:
    n = 150
    codes = [rng.integers(0, levels, n) for levels in (15, 10, 8)]
    case = make_case(rng, [factor(c) for c in codes], scale=0.0, p=1)
    y = case.design.y
    for _ in range(20):
        for c in codes:
            y = y - 0.9 * (np.bincount(c, y) / np.bincount(c))[c]
    return case.with_design(y=y + 1.5 * rng.normal(size=15)[codes[0]])


SINGULAR = {
    "no variance": no_variance,
    "no variance of two": lambda rng: no_variance(rng, s=2),
    "correlation 1": lambda rng: perfect_correlation(rng, 1.0),
    "correlation -1": lambda rng: perfect_correlation(rng, -1.0),
    "zeros in several terms": zeros_in_several_terms,
    "six theta, no effects": lambda rng: grouped(rng, levels=15, rows=8, s=3, scale=0.0),
}


@BOTH
@pytest.mark.parametrize("name", SINGULAR)
def test_singular_problems_take_at_most_fifteen(name, reml):
    singular = 0
    for seed in range(3):
        case = SINGULAR[name](np.random.default_rng(seed))
        found = case.fit(reml=reml)
        assert found.converged, (seed, found.certificate)
        assert found.evaluations <= 15, seed
        singular += found.outcome is Outcome.SINGULAR
        assert (found.outcome is Outcome.SINGULAR) == bool(found.certificate.on_boundary)
        assert (found.theta[list(found.certificate.on_boundary)] == 0.0).all()
        assert_kkt(case, found, reml)
    assert singular


def test_zero_is_exactly_zero():
    found = no_variance(np.random.default_rng(1)).fit()
    assert found.theta.tolist() == [0.0]
    assert found.outcome is Outcome.SINGULAR
    assert (found.solution.u == 0.0).all()


# The certificate


def scaled_conditions(case: Case, found: Optimum, reml: bool):
    """R'G R and R^-1 Sigma R^-T per term, R R' = Sigma + what one level's data can show."""
    basis = case.gram.basis
    T = [basis.user_factor(j, t) for j, t in enumerate(found.solution.T)]
    at = case.define(T, reml=reml)
    for part in case.model.parts:
        t = case.model.block(T, part)
        Q = case.design.factors[part.factor].Q[:, part.columns]
        shown = np.diag(case.design.factors[part.factor].n_levels / np.sum(Q**2, axis=0))
        R = np.linalg.cholesky(t @ t.T + shown)
        P = np.linalg.solve(R, t)
        yield R.T @ case.model.block(at.score_sigma, part) @ R, P @ P.T


def assert_kkt(case: Case, found: Optimum, reml: bool, tolerance: float = 2e-3) -> None:
    """G Sigma = 0 and G positive semidefinite, from the definition."""
    for G, Sigma in scaled_conditions(case, found, reml):
        assert np.abs(G @ Sigma).max() < tolerance
        assert np.linalg.eigvalsh(0.5 * (G + G.T))[0] > -tolerance


UNSTRUCTURED = [
    kind for kind, case in KINDS.items() if all(t.template == "unstructured" for t in case.terms)
]


@BOTH
@pytest.mark.parametrize("kind", UNSTRUCTURED)
def test_conditions_hold_by_the_definition(kind, reml):
    found = KINDS[kind].fit(reml=reml)
    if found.converged:
        assert_kkt(KINDS[kind], found, reml)
    assert found.converged or kind == "single of order 5"


def slope_only(case: Case) -> tuple[float, float]:
    """theta and deviance of the best model without a random intercept."""
    Q = case.design.factors[0].Q
    small = Case(case.with_design(factors=(factor(case.design.factors[0].codes, Q[:, 1]),)).design,
                 (term(0, 1),))  # fmt: skip
    found = small.fit()
    return small.gram.basis.user_factor(0, found.solution.T[0])[0, 0], found.solution.deviance


@pytest.mark.parametrize("seed", [0, 3, 42, 56])
def test_a_way_down_through_the_off_diagonal(seed):
    """G = [[2.2, -6.8], [-6.8, 0]]: at no variance of the intercept each variance by itself is at its best."""
    rng, n = np.random.default_rng(seed), 60
    g, x = np.arange(n) % 10, rng.normal(size=n) + 0.5
    case = make_case(rng, [factor(g, np.ones(n), x)], scale=0.15)
    t, deviance = slope_only(case)
    T = np.diag([0.0, t])
    G = case.define([T], reml=True).score_sigma[0]
    assert G[0, 0] > 0.0
    assert abs(G[1, 1]) < 1e-3 * abs(G[0, 1])
    problem = case.problem()
    start = case.model.theta([problem.gram.basis.internal_factor(0, T)])
    found = minimise(problem, start)
    assert found.converged
    assert found.evaluations <= 15
    assert found.solution.deviance < deviance - 0.05
    assert_allclose(found.solution.deviance, case.fit().solution.deviance, atol=1e-7)
    assert_kkt(case, found, reml=True)


def test_no_certificate_without_the_last_step():
    case = crossed(np.random.default_rng(0), 30, 12)
    problem = case.problem()
    for most in (1, 2, 3):
        found = minimise(problem, max_evaluations=most)
        assert found.outcome is Outcome.MAX_EVALUATIONS
        assert not found.converged
        assert not found.certificate.passed
        assert found.evaluations <= most
        assert found.certificate.gain > 1e-6


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-9])
def test_the_gain_promised_bounds_the_gap(tolerance):
    for seed in range(4):
        problem = crossed(np.random.default_rng(seed), 25, 14, n=200).problem()
        best = minimise(problem, tolerance=1e-12).solution.deviance
        found = minimise(problem, tolerance=tolerance, closing=False)
        if found.converged:
            assert found.certificate.gain <= max(tolerance, 1e-9)
        assert found.solution.deviance - best <= 10.0 * tolerance + 1e-9


# Starts


@pytest.mark.parametrize(
    "kind", ["single vector", "crossed vector", "diagonal", "scalar", "nested"]
)
def test_starts_far_off_or_on_the_boundary(kind):
    case = KINDS[kind]
    problem, model = case.problem(), case.model
    best = minimise(problem).solution.deviance
    usual = moment_start(problem.gram, model)
    rng = np.random.default_rng(2)
    starts = {
        "1e-3 times": 1e-3 * usual,
        "1e3 times": 1e3 * usual,
        "zero": np.zeros(model.n_theta),
        "one variance zero": np.where(np.arange(model.n_theta) == 0, 0.0, usual),
        "last variance zero": np.where(np.arange(model.n_theta) == model.n_theta - 1, 0.0, usual),
        "correlated": random_theta(rng, model),
    }
    for name, start in starts.items():
        found = minimise(problem, start)
        assert found.converged, name
        assert found.solution.deviance <= best + 1e-6, name
        assert found.evaluations <= 30, name


def test_moments_of_balanced_data_are_the_estimates():
    """One-way layout: Henderson's moments are the REML estimates up to the mean's degree of freedom."""
    case = grouped(np.random.default_rng(3), levels=50, rows=8, s=1, p=1)
    start = moment_start(case.gram, case.model)
    assert_allclose(start, case.fit(reml=False).theta, rtol=1e-6)


def test_moments_of_balanced_slopes_are_the_estimates(rng):
    """Every group has the same rows, so the moments of the whole covariance matrix are the ML estimates."""
    levels, z = 40, np.linspace(-1.0, 2.0, 9)
    g, x = np.repeat(np.arange(levels), len(z)), np.tile(z, levels)
    b = rng.normal(size=(levels, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]])
    y = b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    design = Design(y, np.column_stack([np.ones(len(g)), x]), (factor(g, np.ones(len(g)), x),))
    case = Case(design, (term(0, 2),))
    start = moment_start(case.gram, case.model)
    assert_allclose(start, case.fit(reml=False).theta, rtol=1e-9)
    assert minimise(case.problem(reml=False)).evaluations == 1


def test_moments_are_finite_on_odd_designs():
    for kind, case in KINDS.items():
        start = moment_start(case.gram, case.model)
        assert np.isfinite(start).all(), kind
        assert (start[case.model.pivots] > 0.0).all(), kind
        for own, f in zip(level_information(case.gram), case.design.factors, strict=True):
            assert own.shape == (f.Q.shape[1],)


def test_a_column_of_zeros_is_no_obstacle(rng):
    case = grouped(rng, s=2)
    f = case.design.factors[0]
    wide = case.with_design(factors=(factor(f.codes, *f.Q.T, np.zeros(len(f.codes))),))
    wide = Case(wide.design, (term(0, 3),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = wide.fit()
    assert_allclose(found.solution.deviance, case.fit().solution.deviance, atol=1e-6)


def test_the_floor_of_a_scalar_term_knows_all_its_columns(rng):
    """A column of much smaller size than the other must not make small variances zero."""
    n = 200
    g = np.arange(n) % 20
    case = make_case(
        rng, [factor(g, 1e-3 * np.ones(n), rng.normal(size=n))], (term(0, 2, "scalar"),)
    )
    problem = case.problem()
    one = make_scale(problem).floor[0]
    assert one < 1e-3 * minimise(problem).theta[0]


# Perfect fits and other data that no model suits


def exact_groups(rng: np.random.Generator) -> Case:
    case = grouped(rng, 12, 5, s=1, p=1)
    return case.with_design(y=rng.normal(size=12)[case.design.factors[0].codes])


@BOTH
def test_groups_that_explain_everything_do_not_converge(rng, reml):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = exact_groups(rng).fit(reml=reml)
    assert found.outcome is Outcome.STALLED
    assert np.isfinite(found.solution.deviance)


@BOTH
@pytest.mark.parametrize("ratio", [1e-2, 1e-4, 1e-5])
def test_nearly_perfect_fits_keep_their_digits(rng, ratio, reml):
    """Where y'y has lost ten digits in r2, steps are not refused for what rounding does to the deviance."""
    for _ in range(20):
        case = exact_groups(rng)
        noise = rng.normal(size=case.design.n)
        found = case.with_design(y=case.design.y + ratio * noise).fit(reml=reml)
        assert found.converged
        codes = case.design.factors[0].codes
        inside = noise - (np.bincount(codes, noise) / 5)[codes]
        assert_allclose(found.solution.s2, ratio**2 * inside @ inside / 48, rtol=1e-4)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)"])
def test_fixed_effects_that_explain_everything_are_refused(sleepstudy, formula):
    data = sleepstudy.rename(columns={"Subject": "g", "Days": "x"})
    for y in (1.0 + 2.0 * data["x"], 1e8 - 0.1 * data["x"]):
        spec, design = build_design(formula, data.assign(y=y))
        with pytest.raises(DataError, match="reproduce all"):
            prepare(spec, design)


def test_an_undefined_value_at_the_start_is_an_error(rng):
    case = grouped(rng, s=1)
    with np.errstate(all="ignore"), pytest.raises(ConvergenceError, match="starting values"):
        case.with_design(y=np.zeros(case.design.n)).fit()


def test_saturated_models_end_without_an_exception():
    """More coefficients than rows: the deviance falls for ever, or levels off at infinite variances."""
    for seed in range(12):
        rng, n = np.random.default_rng(seed), 24
        x = rng.normal(size=(2, n))
        factors = [factor(rng.integers(0, 7, n), np.ones(n), *x) for _ in range(2)]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = make_case(rng, factors, scale=3.0).fit(max_evaluations=60)
        assert np.isfinite(found.solution.deviance)
        assert found.solution.r2 > 0.0


# The run itself


def test_log_and_report():
    seen = []
    found = crossed(np.random.default_rng(0), 30, 12).fit(report=seen.append)
    assert tuple(seen) == found.log
    assert found.log[0].step == "start"
    scored = [entry for entry in found.log if np.isfinite(entry.score_norm)]
    assert len(scored) == found.evaluations
    deviances = [entry.deviance for entry in scored]
    assert (np.diff(deviances) <= 1e-9).all()
    assert found.solution.deviance <= min(deviances) + 1e-9
    assert all((entry.theta.shape == found.theta.shape) for entry in found.log)


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupt_keeps_the_last_iterate(after):
    seen = []

    def stop(entry) -> None:
        seen.append(entry)
        if len(seen) == after:
            raise KeyboardInterrupt

    problem = crossed(np.random.default_rng(0), 30, 12).problem()
    if after == 1:
        with pytest.raises(KeyboardInterrupt):
            minimise(problem, report=stop)
        return
    found = minimise(problem, report=stop)
    assert found.outcome is Outcome.INTERRUPTED
    assert not found.converged
    assert found.solution.deviance <= seen[0].deviance


def test_a_model_without_random_effects_is_refused(rng):
    problem = grouped(rng, s=1).problem()
    with pytest.raises(ValueError, match="no random effects"):
        minimise(replace(problem, model=CovarianceModel((), (), (), np.eye(0), np.zeros(0, bool))))


def test_solution_and_theta_belong_together():
    for kind, case in KINDS.items():
        problem = case.problem()
        found = minimise(problem)
        again = problem.solve(found.theta)
        assert_allclose(again.deviance, found.solution.deviance, rtol=1e-13, err_msg=kind)
        for t, want in zip(found.solution.T, again.T, strict=True):
            assert_allclose(t @ t.T, want @ want.T, rtol=1e-9, atol=1e-12)
        assert (found.theta[case.model.pivots] >= 0.0).all()


# Brute force


def dense_objective(case: Case, reml: bool):
    """Deviance and theta-score from V, as in `tests.reference`, without what is not needed here."""
    d, Z, model = case.design, case.Z, case.model
    w = np.ones(d.n) if d.weights is None else d.weights
    y = d.y if d.offset is None else d.y - d.offset
    X, (n, p) = d.X, d.X.shape
    nu = n - p * reml

    def objective(theta: Array) -> tuple[float, Array]:
        T = model.factors(theta)
        H = np.diag(1.0 / w)
        for z, t in zip(Z, T, strict=True):
            zt = (z.reshape(n, -1, len(t)) @ t).reshape(n, -1)
            H = H + zt @ zt.T
        Hi = np.linalg.inv(H)
        XHX = X.T @ Hi @ X
        P = Hi - Hi @ X @ np.linalg.solve(XHX, X.T @ Hi)
        Py = P @ y
        s2 = y @ Py / nu
        value = np.linalg.slogdet(H)[1] + nu * (1.0 + np.log(2.0 * np.pi * s2))
        value += np.linalg.slogdet(XHX)[1] if reml else 0.0
        M, score = P if reml else Hi, []
        for z, t in zip(Z, T, strict=True):
            levels, s = z.shape[1] // len(t), len(t)
            blocks = (z.T @ M @ z).reshape(levels, s, levels, s)
            a = (z.T @ Py).reshape(levels, s)
            G = np.einsum("lalb->ab", blocks) - a.T @ a / s2
            score.append(2.0 * G @ t)
        parts = [
            np.einsum("iab,ab->i", part.template.factor_basis, model.block(score, part))
            for part in model.parts
        ]
        return float(value), np.concatenate(parts)

    return objective


def brute_force(case: Case, reml: bool, rng: np.random.Generator, starts: int = 3) -> float:
    """The lowest deviance that L-BFGS finds from several starts."""
    objective, model = dense_objective(case, reml), case.model
    best = np.inf
    for scale in np.geomspace(0.1, 3.0, starts):
        start = np.where(model.pivots, scale, 0.1 * scale * rng.normal(size=model.n_theta))
        settings = {"maxiter": 300, "ftol": 1e-14, "gtol": 1e-7}
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=settings)
        best = min(best, found.fun)
    return best


def random_case(seed: int) -> Case:
    """One to three factors, crossed or nested, all templates, effects of all sizes down to none."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(45, 75)), int(rng.integers(1, 4))
    x = rng.normal(size=(2, n)) + np.array([[rng.choice([0.0, 3.0])], [0.0]])
    factors, terms = [], []
    for j in range(k):
        s = int(rng.choice([1, 1, 2, 3] if k == 1 else [1, 1, 2]))
        codes = rng.permutation(np.arange(n) % int(rng.integers(4 + s, 15)))
        if j and rng.random() < 0.3:
            codes = factors[j - 1].codes * 3 // 4
        factors.append(factor(codes, np.ones(n), *x[: s - 1]))
        if s > 1 and rng.random() < 0.2:
            terms += [term(j, 1), term(j, s - 1, start=1)]
        else:
            terms.append(term(j, s, rng.choice(["unstructured"] * 3 + ["diagonal", "scalar"])))
    scale = float(rng.choice([0.0, 0.1, 0.3, 0.7, 2.0]))
    p = int(rng.integers(0, 3))
    return make_case(rng, factors, tuple(terms), p=p, weighted=rng.random() < 0.2, scale=scale)


@cache
def brute(seed: int) -> tuple[Case, bool, float]:
    case, reml = random_case(seed), bool(seed % 2)
    return case, reml, brute_force(case, reml, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(40))
def test_never_above_the_best_known(seed):
    case, reml, best = brute(seed)
    found = case.fit(reml=reml)
    kept = case.gram.basis.kept
    assert len(kept) == case.design.X.shape[1]
    T = [case.gram.basis.user_factor(j, t) for j, t in enumerate(found.solution.T)]
    value, _ = dense_objective(case, reml)(case.model.theta(T))
    assert_allclose(found.solution.deviance, value, rtol=1e-10)
    assert found.converged, found.certificate
    assert found.solution.deviance <= best + 1e-6
    assert found.evaluations <= 15


# What is learned from two scores


@pytest.mark.parametrize("turn", [0.0, 0.2, 1.4, np.pi / 2])
def test_a_secant_update_explains_the_change_and_stays_small(rng, turn):
    """Whatever the angle between the step and what the Hessian missed along it."""
    root = rng.standard_normal((2, 2)) + 3.0 * np.eye(2)
    H, step = root @ root.T, np.linalg.solve(root.T, [1e-3, 0.0])
    # In coordinates where H is the identity: a tenth of the step, turned.
    miss = 1e-4 * root @ [np.cos(turn), np.sin(turn)]
    C = secant_update(H, np.zeros((2, 2)), step, H @ step + miss)
    assert_allclose(C, C.T, atol=1e-12)
    assert_allclose(C @ step, miss, rtol=1e-9, atol=1e-15)
    inverse = np.linalg.inv(root)
    assert np.abs(np.linalg.eigvalsh(inverse @ C @ inverse.T)).max() < 0.4


@pytest.mark.parametrize("H", [np.zeros((2, 2)), np.diag([1.0, 0.0]), np.diag([1.0, -2.0])])
def test_a_secant_update_of_a_hessian_that_says_little_is_finite(H):
    C = secant_update(H, np.zeros((2, 2)), np.array([0.01, 0.0]), np.array([1.0, 0.5]))
    assert np.isfinite(C).all()


def test_the_metric_of_a_factor_whose_square_is_lost_in_rounding():
    case = grouped(np.random.default_rng(1), s=2)
    model = case.problem().model
    T = [np.array([[1e9, 0.0], [1e9, 1e-3]])]
    noise = [1e-6 * np.eye(2)]
    chart = choose_chart(model, T, noise)
    M = chart.metric(T, noise)
    assert np.isfinite(M).all()
    assert np.linalg.matrix_rank(M) == len(M)


@pytest.mark.parametrize("seed", [0, 13, 17, 21, 22])
def test_two_variances_of_nothing_in_many_groups(seed):
    """Too many coefficients for exact Hessians, and a deviance that is flat far below what it can be told by."""
    rng = np.random.default_rng(seed)
    n = 3000
    x, z, g = rng.normal(size=n), rng.normal(size=n), rng.integers(300, size=n)
    y = 0.5 * rng.normal(size=300)[g] + rng.normal(size=n)
    data = pd.DataFrame({"x": x, "z": z, "g": g, "y": y})
    spec, design = build_design("y ~ x + (x + z | g)", data)
    found = minimise(prepare(spec, design).problem(reml=True), tolerance=1e-9)
    assert found.outcome is Outcome.SINGULAR
    assert found.evaluations <= 15
    lower = minimise(
        prepare(spec, design).problem(reml=True), 0.9 * found.theta + 0.01, tolerance=1e-9
    )
    assert found.solution.deviance < lower.solution.deviance + 1e-6
