"""Descents side by side: derivatives of the deviance, and the optimum of the general optimiser."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.optimise import minimise
from sparselmm.refits.batch import (
    _constant,
    _side_by_side,
    make_engine,
    refit_responses,
    remembering,
    with_response,
)
from sparselmm.refits.responses import cross_products, draw_rows, make_rows, normal_source
from sparselmm.refits.small import bytes_per_response, deviances, slopes, workspace
from sparselmm.refits.stacks import cholesky_stack, semidefinite_cholesky, solve_scaled
from tests.reference import define, dense_z

DESIGNS = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    ("pastes", "strength ~ 1 + (1 | batch/cask)"),
    ("machines", "score ~ Machine + (Machine | Worker)"),
    ("machines", "score ~ 0 + (1 | Worker) + (1 | Worker:Machine)"),
]


def fitted(name: str, formula: str, reml: bool):
    return slm.lmm(formula, slm.load_dataset(name), reml=reml).fit


def simulated(fit, rng, count):
    """Cross-products of responses drawn from a fit."""
    rows = make_rows(fit)
    return cross_products(rows, draw_rows(rows, normal_source(fit, rows), [rng] * count))


def descents(fit, responses, max_evaluations):
    """The minima of all responses, and which of them the descents side by side found alone."""
    problem, engine, theta = fit.problem, make_engine(fit.problem), fit.optimum.theta
    minima = refit_responses(problem, engine, responses, theta)
    passed = _side_by_side(
        problem, engine, responses, theta, minima, max_evaluations=max_evaluations
    )
    return minima, passed


def own_response(fit):
    """The fit's own response as a batch of one, in a workspace of the engine."""
    engine, gram = make_engine(fit.problem), fit.gram
    lead, *rest = (gram.ZtXy[j][None, :, :, -1] for j in engine.order)
    CB = np.concatenate(
        [*(block.reshape(1, -1) for block in rest), gram.XytXy[None, :-1, -1]], axis=1
    )
    return engine, workspace(engine.small, lead, CB, gram.XytXy[-1:, -1])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "formula"), DESIGNS)
def test_value_gradient_and_hessian(name, formula, reml, rng):
    fit = fitted(name, formula, reml)
    problem, model = fit.problem, fit.model
    engine, work = own_response(fit)
    theta = 1.3 * fit.optimum.theta + rng.uniform(0.02, 0.05, fit.n_theta)
    one = np.zeros(1, np.int64)

    value = deviances(engine.small, work, one, engine.small.factors(theta[None]))[0] + _constant(
        problem
    )
    gradient, hessian = (own[0] for own in slopes(engine.small, work, one))

    at = problem.evaluate(theta)
    assert value == pytest.approx(at.deviance, rel=1e-12)
    assert work.estimates[0, -2] == pytest.approx(at.solution.s2, rel=1e-10)
    np.testing.assert_allclose(gradient, model.step_map.T @ at.score, rtol=1e-8, atol=1e-8)

    def moved(kappa):
        steps = model.factors(kappa)
        T = [t @ (np.eye(len(t)) + k) for t, k in zip(model.factors(theta), steps, strict=True)]
        return problem.solve(model.theta(T)).deviance

    h = 1e-3 * np.eye(fit.n_theta)
    numeric = [
        [(moved(a + b) - moved(a - b) - moved(b - a) + moved(-a - b)) / 4e-6 for a in h] for b in h
    ]
    np.testing.assert_allclose(hessian, numeric, atol=1e-4 * np.abs(hessian).max())


def test_value_is_that_of_the_definition(sleepstudy):
    fit = fitted("sleepstudy", "Reaction ~ Days + (Days | Subject)", True)
    design = fit.design
    Z = [dense_z(f.codes, f.Q, f.n_levels) for f in design.factors]
    expected = define(design.y, design.X, Z, fit.T, reml=True)
    engine, work = own_response(fit)
    value = deviances(
        engine.small, work, np.zeros(1, np.int64), engine.small.factors(fit.optimum.theta[None])
    )[0]
    assert value + _constant(fit.problem) == pytest.approx(expected.deviance, rel=1e-11)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "formula"), DESIGNS)
def test_same_optimum_as_the_general_optimiser(name, formula, reml, rng):
    fit = fitted(name, formula, reml)
    problem, responses = fit.problem, simulated(fit, rng, 20)
    minima = refit_responses(problem, make_engine(problem), responses, fit.optimum.theta)
    assert minima.converged.all()
    for r in range(len(responses)):
        end = minimise(with_response(problem, responses, r), None)
        assert minima.deviance[r] <= end.solution.deviance + 1e-7
        if minima.deviance[r] > end.solution.deviance - 1e-7:  # else a better optimum was found
            np.testing.assert_allclose(minima.beta[r], end.solution.beta, atol=1e-4)
            assert minima.s2[r] == pytest.approx(end.solution.s2, rel=1e-5)


@pytest.mark.parametrize("formula", ["y ~ x + (x + z | g)", "y ~ x + (x | g) + (z | h)"])
def test_singular_covariances_of_several_effects(formula, rng):
    """Replicates with one or more null directions: never worse than the general optimiser."""
    n = 300
    data = pd.DataFrame(
        {
            "g": rng.integers(0, 15, n),
            "h": rng.integers(0, 6, n),
            "x": rng.standard_normal(n),
            "z": rng.standard_normal(n),
        }
    )
    data["y"] = rng.standard_normal(n) + 0.3 * rng.standard_normal(15)[data["g"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slm.SingularFitWarning)
        fit = slm.lmm(formula, data).fit
    problem, responses = fit.problem, simulated(fit, rng, 25)
    minima, passed = descents(fit, responses, 50)
    assert passed.mean() > 0.9
    assert minima.evaluations.max() < 30
    for r in range(len(responses)):
        end = minimise(with_response(problem, responses, r), None)
        assert minima.deviance[r] <= end.solution.deviance + 1e-6
        assert minima.deviance[r] == pytest.approx(
            with_response(problem, responses, r).solve(minima.theta[r]).deviance, abs=1e-7
        )


def test_most_responses_need_no_second_look(rng):
    fit = fitted("sleepstudy", "Reaction ~ Days + (Days | Subject)", True)
    minima, passed = descents(fit, simulated(fit, rng, 200), 100)
    assert passed.mean() > 0.98
    assert minima.evaluations.mean() < 8.0


def test_start_at_the_boundary_is_left_where_the_data_say_so(rng):
    data = slm.load_dataset("dyestuff2")
    with pytest.warns(slm.SingularFitWarning):
        fit = slm.lmm("Yield ~ 1 + (1 | Batch)", data).fit
    assert fit.theta[0] == 0.0
    effects = 4.0 * rng.standard_normal(6)
    y = fit.design.y + effects[fit.design.factors[0].codes]
    rows = make_rows(fit)
    inner = fit.gram.basis.response(fit.design.X, y, None)[:, None]
    responses = cross_products(rows, inner)
    minima = refit_responses(fit.problem, make_engine(fit.problem), responses, fit.optimum.theta)
    anew = slm.lmm("Yield ~ 1 + (1 | Batch)", data.assign(Yield=y))
    assert minima.theta[0, 0] > 0.1
    assert minima.deviance[0] == pytest.approx(anew.deviance, abs=1e-8)


def test_large_designs_take_the_general_path():
    fit = fitted("pastes", "strength ~ 1 + (1 | batch/cask)", True)
    assert make_engine(fit.problem) is not None
    data = slm.load_dataset("insteval").head(20_000)
    large = slm.lmm("y ~ 1 + (1 | s) + (1 | d)", data).fit
    assert make_engine(large.problem) is None


def test_memory_is_bounded(monkeypatch, rng):
    fit = fitted("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", True)
    responses = simulated(fit, rng, 7)
    whole = refit_responses(fit.problem, make_engine(fit.problem), responses, fit.optimum.theta)
    monkeypatch.setattr("sparselmm.refits.batch.MEMORY", 1)
    pieces = refit_responses(fit.problem, make_engine(fit.problem), responses, fit.optimum.theta)
    np.testing.assert_allclose(pieces.theta, whole.theta, rtol=1e-6, atol=1e-9)
    assert bytes_per_response(make_engine(fit.problem).small.border) > 1000


def test_stacked_solves(rng):
    A = rng.standard_normal((5, 3, 4))
    M = A @ A.transpose(0, 2, 1)
    np.testing.assert_allclose(cholesky_stack(M), np.linalg.cholesky(M))
    g = rng.standard_normal((5, 3))
    free = np.ones((5, 3), bool)
    free[0, 1] = False
    x, definite = solve_scaled(M, g, free)
    assert definite.all()
    np.testing.assert_allclose(x[1:], -np.linalg.solve(M[1:], g[1:, :, None])[:, :, 0])
    keep = [0, 2]
    np.testing.assert_allclose(x[0, keep], -np.linalg.solve(M[0][np.ix_(keep, keep)], g[0, keep]))
    assert x[0, 1] == 0.0


def test_semidefinite_factors(rng):
    A = rng.standard_normal((4, 3, 2))
    M = A @ A.transpose(0, 2, 1)
    M[0] = np.diag([0.0, 4.0, 0.0])
    L = semidefinite_cholesky(M)
    np.testing.assert_allclose(L @ L.transpose(0, 2, 1), M, atol=1e-7)
    np.testing.assert_array_equal(L[0], np.diag([0.0, 2.0, 0.0]))
    assert (L[:, 2, 2] == 0.0).all()


def test_a_saddle_is_left_downhill(rng):
    H = np.diag([2.0, -1.0, 3.0])[None]
    g = rng.standard_normal((1, 3))
    with np.errstate(invalid="ignore"):
        step, definite = solve_scaled(H, g, np.ones((1, 3), bool))
    assert not definite[0]
    assert (np.sign(step) == -np.sign(g)).all()


def test_the_factorisation_at_the_start_is_shared(rng):
    data = slm.load_dataset("penicillin")
    fit = slm.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", data).fit
    responses = simulated(fit, rng, 3)
    shared = remembering(fit.problem, fit.optimum.theta)
    at = shared.system.at(fit.model.factors(fit.optimum.theta))
    assert at is shared.system.known
    assert shared.solve(1.1 * fit.optimum.theta).deviance == pytest.approx(
        fit.problem.solve(1.1 * fit.optimum.theta).deviance
    )
    minima = refit_responses(fit.problem, None, responses, fit.optimum.theta)
    engine = refit_responses(fit.problem, make_engine(fit.problem), responses, fit.optimum.theta)
    np.testing.assert_allclose(minima.deviance, engine.deviance, atol=1e-7)
    np.testing.assert_allclose(minima.beta, engine.beta, rtol=1e-5, atol=1e-5)
