"""The definition agrees with lme4, with its own algebra and with finite differences."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm.datasets import load_dataset
from tests.reference import Definition, define, dense_z, lower_from_theta, unit

VALUES = Path(__file__).parent / "values"
CASES = {
    (case["name"], case["reml"]): case
    for case in json.loads((VALUES / "reference.json").read_text())
}
CHECKED = ["dyestuff2", "sleepstudy_slope", "sleepstudy_wo", "penicillin", "pastes_nested"]


def codes_of(data: pd.DataFrame, grouping: str) -> tuple[np.ndarray, int]:
    """Level codes of "g" or "a:b" (combinations that occur), and their number."""
    levels = data.groupby(grouping.split(":"), observed=True).ngroup().to_numpy()
    return levels, levels.max() + 1


def columns(data: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Numeric columns by R's names, "(Intercept)" for ones."""
    one = np.ones(len(data))
    return np.column_stack([one if name == "(Intercept)" else data[name] for name in names])


def data_of(case: dict[str, Any]) -> pd.DataFrame:
    """The data of a case: beside the values where only they use it, else bundled."""
    beside = VALUES / case["data"]
    return pd.read_csv(beside) if beside.exists() else load_dataset(beside.stem)


def at_theta(case: dict[str, Any], theta: list[float]) -> Definition:
    """The definition of a case of the reference file; every term is its own factor."""
    data = data_of(case)
    Z = [
        dense_z(codes, columns(data, term["terms"]), n_levels)
        for term in case["terms"]
        for codes, n_levels in [codes_of(data, term["factor"])]
    ]
    T = [
        lower_from_theta(np.take(theta, term["theta_index0"]), len(term["terms"]))
        for term in case["terms"]
    ]
    return define(
        data[case["formula"].split(" ~ ")[0]].to_numpy(float),
        columns(data, case["fixef_names"]),
        Z,
        T,
        weights=data[case["weights"]].to_numpy(float) if case.get("weights") else None,
        offset=data[case["offset"]].to_numpy(float) if case.get("offset") else None,
        reml=case["reml"],
    )


@pytest.fixture(params=[(name, reml) for name in CHECKED for reml in (False, True)], ids=str)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return CASES[request.param]


def test_objective_at_fixed_theta(case: dict[str, Any]) -> None:
    for entry in case["objective_at"]:
        at = at_theta(case, entry["theta"])
        assert_allclose(at.deviance, entry["objective"], rtol=1e-11)
        assert_allclose(at.sigma2, entry["sigma"] ** 2, rtol=1e-10)
        assert_allclose(at.beta, entry["fixef"], rtol=1e-10)


def test_pieces_at_the_optimum(case: dict[str, Any]) -> None:
    at, devcomp = at_theta(case, case["theta"]), case["devcomp"]
    assert_allclose(at.log_A, devcomp["ldL2"], rtol=1e-8, atol=1e-10)
    assert_allclose(at.log_C - at.log_A, devcomp["ldRX2"], rtol=1e-8)
    assert_allclose(at.r2, devcomp["pwrss"], rtol=1e-8)
    assert_allclose(sum(np.sum(u**2) for u in at.u), devcomp["ussq"], rtol=1e-7)
    assert_allclose(at.cov_beta, case["vcov"], rtol=1e-6)
    assert_allclose(at.fitted[:5], case["fitted_first"], rtol=1e-8)
    assert_allclose(at.hat[:5], case["hat"]["first"], rtol=1e-7)
    assert_allclose(at.hat.sum(), case["hat"]["sum"], rtol=1e-7)


def test_random_effects_at_the_optimum(case: dict[str, Any]) -> None:
    at = at_theta(case, case["theta"])
    for b, condvar, expected in zip(at.b, at.condvar, case["ranef"], strict=True):
        sumsq = np.array(expected["sumsq_all_levels"])
        assert_allclose(np.sum(b**2, axis=0), sumsq, rtol=1e-6, atol=1e-12)
        if ":" in expected["factor"]:
            continue  # the file numbers the levels of an interaction in another order
        scale = np.sqrt(sumsq.max()) + 1e-12
        assert_allclose(b[:5], expected["values"], rtol=1e-6, atol=1e-8 * scale)
        assert_allclose(condvar[0], expected["cond_cov_level1"], rtol=1e-6, atol=1e-12)


def test_score_vanishes_at_the_optimum(case: dict[str, Any]) -> None:
    at = at_theta(case, case["theta"])
    assert_allclose(np.concatenate([s.ravel() for s in at.score_T]), 0, atol=1e-5)


@pytest.fixture
def problem() -> dict[str, Any]:
    """Two crossed factors (slope, intercept), weights, an offset, two columns of X."""
    rng = np.random.default_rng(7)
    n = 40
    x = rng.normal(size=n)
    Q = np.column_stack([np.ones(n), x])
    return {
        "y": 3 + rng.normal(size=n),
        "X": Q,
        "Z": (
            dense_z(rng.integers(0, 7, n), Q, 7),
            dense_z(rng.integers(0, 5, n), np.ones((n, 1)), 5),
        ),
        "weights": rng.uniform(0.5, 2, n),
        "offset": rng.normal(size=n),
    }


REGULAR = (np.array([[0.9, 0], [0.3, 0.5]]), np.array([[0.7]]))
SINGULAR = (np.array([[0.9, 0], [-0.4, 0]]), np.array([[0.0]]))
TWO_T = pytest.mark.parametrize("T", [REGULAR, SINGULAR], ids=["regular", "singular"])
BOTH = pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])


@TWO_T
@BOTH
def test_profiled_formula_equals_likelihood(problem: dict[str, Any], T: Any, reml: bool) -> None:
    at = define(**problem, T=T, reml=reml)
    nu = len(problem["y"]) - 2 * reml
    logdet = at.log_C if reml else at.log_A
    scale = nu * (1 + np.log(2 * np.pi * at.r2 / nu))
    assert_allclose(at.deviance, logdet - np.log(problem["weights"]).sum() + scale, rtol=1e-12)


@TWO_T
@BOTH
def test_score_needs_only_blocks(problem: dict[str, Any], T: Any, reml: bool) -> None:
    """T'G T = l I - B - U'U / sigma2, the form in which the library computes the score."""
    at = define(**problem, T=T, reml=reml)
    for t, G, B, u in zip(T, at.score_sigma, at.B, at.u, strict=True):
        E = len(u) * np.eye(len(t)) - B - u.T @ u / at.sigma2
        assert_allclose(t.T @ G @ t, E, atol=1e-10)


@TWO_T
@BOTH
def test_score_T_equals_central_differences(problem: dict[str, Any], T: Any, reml: bool) -> None:
    at, h = define(**problem, T=T, reml=reml), 1e-5
    for j, t in enumerate(T):
        for k, m in zip(*np.tril_indices(len(t)), strict=True):
            step = np.zeros_like(t)
            step[k, m] = h
            up, down = (
                define(**problem, T=(*T[:j], t + d, *T[j + 1 :]), reml=reml).deviance
                for d in (step, -step)
            )
            assert_allclose(at.score_T[j][k, m], (up - down) / (2 * h), rtol=1e-6, atol=1e-6)


@TWO_T
@BOTH
def test_score_sigma_equals_one_sided_differences(
    problem: dict[str, Any], T: Any, reml: bool
) -> None:
    """Along rank-one directions vv' that stay positive semidefinite at a boundary too."""
    at, h = define(**problem, T=T, reml=reml), 1e-5
    rng = np.random.default_rng(1)
    for j, t in enumerate(T):
        for v in rng.normal(size=(4, len(t))):
            f0, f1, f2 = (
                define(
                    **problem,
                    T=(*T[:j], square_root(t @ t.T + k * h * np.outer(v, v)), *T[j + 1 :]),
                    reml=reml,
                ).deviance
                for k in range(3)
            )
            slope = (4 * f1 - f2 - 3 * f0) / (2 * h)
            assert_allclose(v @ at.score_sigma[j] @ v, slope, rtol=1e-5, atol=1e-5)


def square_root(Sigma: np.ndarray) -> np.ndarray:
    """A square root of a positive semidefinite matrix, not triangular."""
    values, vectors = np.linalg.eigh(Sigma)
    return vectors * np.sqrt(np.maximum(values, 0))


@TWO_T
@BOTH
def test_average_information_is_that_of_V(problem: dict[str, Any], T: Any, reml: bool) -> None:
    """1/2 y'P V_i P V_k P y for (sigma2, Sigma), sigma2 eliminated by its Schur complement."""
    at = define(**problem, T=T, reml=reml)
    X, Z = problem["X"], problem["Z"]
    H = np.diag(1 / problem["weights"]) + sum(
        z @ np.kron(np.eye(z.shape[1] // len(t)), t @ t.T) @ z.T for z, t in zip(Z, T, strict=True)
    )
    Vi = np.linalg.inv(at.sigma2 * H)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    V = [H]
    for j, k, m in at.directions:
        E = unit(len(T[j]), k, m)
        V.append(at.sigma2 * Z[j] @ np.kron(np.eye(Z[j].shape[1] // len(E)), E) @ Z[j].T)
    F = np.column_stack([Vk @ P @ (problem["y"] - problem["offset"]) for Vk in V])
    full = F.T @ P @ F / 2
    schur = full[1:, 1:] - np.outer(full[1:, 0], full[0, 1:]) / full[0, 0]
    assert_allclose(at.average_information, schur, rtol=1e-9, atol=1e-11)


def test_hat_is_derivative_of_fitted(problem: dict[str, Any]) -> None:
    at = define(**problem, T=REGULAR)
    moved = problem | {"y": problem["y"] + 0.5 * np.eye(len(problem["y"]))[3]}
    change = define(**moved, T=REGULAR).fitted[3] - at.fitted[3]
    assert_allclose(at.hat[3], change / 0.5, rtol=1e-10)
