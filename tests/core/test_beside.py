"""What follows from a factorisation next to it, against factorising there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sparselmm import beside
from sparselmm._types import Array
from sparselmm.beside import (
    REACH,
    log_change,
    neighbour,
    neighbourhood,
    relative_change,
    solve_beside,
)
from sparselmm.criterion import solve_at
from sparselmm.datasets import load_dataset
from sparselmm.design import build_design
from sparselmm.fit import beside_pays, prepare
from sparselmm.optimise import minimise
from sparselmm.systems.base import System
from tests.core.designs import crossed
from tests.core.test_agreement import both, every_kind, solved, system_of

SEEDS = 60


def close_by(T: tuple[Array, ...], size: float) -> list[Array]:
    rng = np.random.default_rng(3)
    return [t @ (np.eye(len(t)) + size / 3 * np.tril(rng.standard_normal(t.shape))) for t in T]


@pytest.mark.parametrize("size", [0.03, 1e-3, 1e-6])
@every_kind
@both
def test_estimates(kind: str, size: float, reml: bool) -> None:
    gram, at = solved(kind, "regular", reml, "grouped")
    T = close_by(at.T, size)
    want = solve_at(gram, system_of(kind, "grouped"), T, reml=reml)
    nearly = solve_at(gram, system_of(kind, "grouped"), close_by(at.T, 0.9 * size), reml=reml)
    for guess in (None, at, nearly):
        found = solve_beside(gram, at, T, want.deviance, guess)
        assert found is not None
        assert found.factored is None
        for name in ("r2", "beta", "u", "V", "L_M", "logdet_A", "logdet_M"):
            value = getattr(want, name)
            tolerance = 1e-9 * np.abs(value).max(initial=1.0)
            assert_allclose(getattr(found, name), value, rtol=1e-9, atol=tolerance)


@pytest.mark.parametrize("size", [0.01, 1e-5])
@every_kind
@both
def test_value_and_score(
    kind: str, size: float, reml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many choices of signs the errors are as large as they are said to be, and cancel."""
    gram, at = solved(kind, "regular", reml, "grouped")
    T, B = close_by(at.T, size), at.factored.inverse_sums()
    want = solve_at(gram, system_of(kind, "grouped"), T, reml=reml)
    found = []
    for seed in range(SEEDS):
        monkeypatch.setattr(beside, "SEED", seed)
        found.append(neighbour(neighbourhood(gram, at, B), T))
    deviances = np.array([each.solution.deviance - want.deviance for each in found])
    assert_errors(deviances[:, None], [each.error for each in found], size)
    for j, true in enumerate(want.factored.inverse_sums()):
        misses = np.array([(each.B[j] - true).ravel() for each in found])
        assert_errors(misses, [each.B_errors[j] for each in found], size)


def assert_errors(misses: Array, said: list[float], size: float) -> None:
    """Sampling errors and what the series leave out; misses by seeds in rows."""
    total, expected = np.mean((misses**2).sum(axis=1)), np.mean(np.square(said))
    assert np.sqrt(total) <= 1.2 * np.sqrt(expected) + 1e-7 * size + 1e-10
    if size < 1e-3:
        chance = misses.std(axis=0, ddof=1) / np.sqrt(SEEDS)
        assert (np.abs(misses.mean(axis=0)) <= 4.5 * chance + 100.0 * size**2).all()


@every_kind
def test_nothing_where_a_factor_is_singular_or_far_away(kind: str) -> None:
    gram, at = solved(kind, "regular", True, "grouped")
    assert solve_beside(gram, at, [1.1 * t for t in at.T], at.deviance) is None
    assert solve_beside(gram, at, [0.0 * t for t in at.T], at.deviance) is None
    around = neighbourhood(gram, at, at.factored.inverse_sums())
    assert neighbour(around, [1.1 * t for t in at.T]) is None
    gram, at = solved(kind, "singular", True, "grouped")
    assert solve_beside(gram, at, at.T, at.deviance) is None
    assert log_change(gram, at.T, at.T) == np.inf


def test_a_change_that_only_its_rows_add_up_to_is_not_small() -> None:
    old = np.eye(30)
    new = old + np.tril(np.where(np.arange(30)[:, None] == 29, 0.04, 0.0))
    assert np.abs(new - old).sum(axis=0).max() < REACH
    assert relative_change([old], [new]) > REACH


@pytest.mark.parametrize("seed", range(3))
@both
def test_a_run_saves_factorisations_and_ends_at_the_same_optimum(
    seed: int, reml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = crossed(np.random.default_rng(seed), 300, 120, n=4_000).problem(reml=reml)
    whole = minimise(problem, tolerance=1e-9)
    original, counts = System.at, []
    monkeypatch.setattr(System, "at", lambda *args: counts.append(1) or original(*args))
    found = minimise(problem, tolerance=3e-7, beside=True)
    monkeypatch.undo()
    steps = [entry.step for entry in found.log]
    assert found.converged
    assert found.certificate.passed
    assert "beside" in steps
    assert len(counts) == len(steps) - steps.count("beside") - steps.count("closing")
    assert abs(found.solution.deviance - whole.solution.deviance) < 1e-6
    at = problem.solve(found.theta)
    assert abs(found.solution.deviance - at.deviance) < 1e-6
    assert problem.evaluate(found.theta).score_norm() < 2e-4
    assert_allclose(found.solution.u, at.u, atol=1e-9 * np.abs(at.u).max())
    assert found.solution.factored is None
    assert found.E is None


def test_a_tight_tolerance_does_not_stumble_over_sampling_errors() -> None:
    for seed in range(10):
        problem = crossed(np.random.default_rng(seed), 200, 80, 9, n=2_000).problem()
        whole = minimise(problem, tolerance=1e-12)
        found = minimise(problem, tolerance=1e-12, beside=True)
        assert found.outcome is whole.outcome
        assert found.evaluations <= whole.evaluations + 1
        assert abs(problem.solve(found.theta).deviance - whole.solution.deviance) < 1e-6


def test_an_estimate_that_is_not_right_enough_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = crossed(np.random.default_rng(0), 300, 120, n=4_000).problem()
    for limit in ("problem.DEVIANCE_ERROR", "optimise.SCORE_ERROR"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sparselmm.{limit}", 0.0)
            found = minimise(problem, tolerance=3e-7, beside=True)
        assert found.converged
        assert "beside" not in [entry.step for entry in found.log]


def test_designs_small_enough_for_exact_hessians_keep_their_factors() -> None:
    problem = crossed(np.random.default_rng(0), 150, 30, n=700).problem()
    assert problem.exact_is_cheap()
    found = minimise(problem, tolerance=1e-12, beside=True)
    assert found.converged
    assert "beside" not in [entry.step for entry in found.log]


@pytest.mark.parametrize("closing", [True, False])
def test_the_end_of_a_run_is_exact_though_its_last_score_was_sampled(closing: bool) -> None:
    spec, design = build_design("y ~ 1 + (1 | s) + (1 | d) + (1 | dept)", load_dataset("insteval"))
    prepared = prepare(spec, design)
    problem = prepared.problem(reml=True)
    assert beside_pays(prepared)
    found = minimise(problem, tolerance=3e-7, beside=True, closing=closing)
    steps = [entry.step for entry in found.log]
    assert steps == ["start", "newton", "beside", "closing"][: 4 if closing else 3]
    at = problem.solve(found.theta)
    assert_allclose(found.solution.beta, at.beta, rtol=1e-9)
    assert_allclose(found.solution.u, at.u, atol=1e-9 * np.abs(at.u).max())
    assert abs(found.solution.deviance - at.deviance) < 1e-6
    assert problem.evaluate(found.theta).score_norm() < 1e-3
