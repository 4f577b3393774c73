"""Every path on every kind of design gives what the definition gives, regular T or singular, ML or REML."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sparselmm._types import Array
from sparselmm.criterion import (
    average_information,
    by_levels,
    fixed_covariance,
    gradient_matrices,
    inverse_sums,
    solve_at,
)
from sparselmm.systems.choose import choose
from sparselmm.systems.sparse import available
from tests.core.designs import Case, cases, random_T
from tests.reference import Definition

CASES = cases()
PATHS = [
    "grouped",
    "crossed",
    pytest.param("sparse", marks=pytest.mark.skipif(not available(), reason="no scikit-sparse")),
]
both = pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])
every_kind = pytest.mark.parametrize("kind", CASES)
every_shape = pytest.mark.parametrize("shape", ["regular", "singular", "large"])
every_path = pytest.mark.parametrize("path", PATHS)


@cache
def factors_of(kind: str, shape: str) -> tuple[Array, ...]:
    """T in the user's coordinates."""
    case = CASES[kind]
    T = random_T(np.random.default_rng(11), case.model)
    if shape == "singular":
        for j, t in enumerate(T):
            t[:, -1 if j == 0 else 0] = 0.0
    scale = {"zero": 0.0, "small": 1e-4, "large": 30.0}.get(shape, 1.0)
    return tuple(scale * t for t in T)


@cache
def system_of(kind: str, path: str):
    return choose(gram_of(kind), path).system


@cache
def definition_of(kind: str, shape: str, reml: bool) -> Definition:
    return CASES[kind].define(factors_of(kind, shape), reml=reml)


@cache
def gram_of(kind: str):
    return CASES[kind].gram


def solved(kind: str, shape: str, reml: bool, path: str):
    gram = gram_of(kind)
    T = [gram.basis.internal_factor(j, t) for j, t in enumerate(factors_of(kind, shape))]
    return gram, solve_at(gram, system_of(kind, path), T, reml=reml)


def assert_agrees(kind: str, shape: str, path: str, reml: bool) -> None:
    gram, at = solved(kind, shape, reml, path)
    want, T = definition_of(kind, shape, reml), factors_of(kind, shape)
    logdet_C = at.logdet_A + at.logdet_M + 2.0 * gram.basis.logdet_Rx
    assert_allclose(at.deviance, want.deviance, rtol=1e-11)
    assert_allclose(at.logdet_A, want.log_A, rtol=1e-10, atol=1e-10)
    assert_allclose(logdet_C, want.log_C, rtol=1e-10, atol=1e-10)
    assert_allclose(at.r2, want.r2, rtol=1e-10)
    assert_allclose(at.s2, want.sigma2, rtol=1e-10)
    assert_allclose(gram.basis.beta(at.beta), want.beta, rtol=1e-8, atol=1e-9)
    assert_allclose(gram.basis.cov_beta(fixed_covariance(at)), want.cov_beta, rtol=1e-8, atol=1e-12)
    B, E = inverse_sums(gram, at), gradient_matrices(gram, at)
    views, blocks = by_levels(gram.shapes, at.u), at.factored.inverse_blocks()
    for j, t in enumerate(T):
        size = max(1.0, np.abs(t).max() ** 2)  # V loses this much where a variance is large
        assert_allclose(views[j], want.u[j], rtol=1e-8, atol=1e-9)
        assert_allclose(views[j] @ t.T, want.b[j], rtol=1e-8, atol=1e-9 * size)
        assert_allclose(B[j], want.B[j], rtol=1e-9, atol=1e-9)
        assert_allclose(E[j], t.T @ want.score_sigma[j] @ t, rtol=1e-8, atol=1e-8)
        condvar = at.s2 * (t @ blocks[j] @ t.T)
        assert_allclose(condvar, want.condvar[j], rtol=1e-8, atol=1e-9 * size)


@every_path
@every_shape
@every_kind
@both
def test_everything_one_factorisation_gives(kind: str, shape: str, path: str, reml: bool) -> None:
    assert_agrees(kind, shape, path, reml)


@pytest.mark.parametrize("shape", ["zero", "small"])
@every_kind
def test_variances_that_are_nothing_or_next_to_it(kind: str, shape: str) -> None:
    assert_agrees(kind, shape, "grouped", reml=True)


def relative_directions(case: Case, T: tuple[Array, ...], want: Definition) -> Array:
    """Columns: T S_a T' in the coordinates in which the definition gives the information."""
    columns = []
    for j, S in case.model.directions:
        change = T[j] @ S @ T[j].T
        columns.append([change[k, m] if i == j else 0.0 for i, k, m in want.directions])
    return np.array(columns).T


@pytest.mark.parametrize("shape", ["regular", "singular"])
@every_kind
@both
def test_average_information(kind: str, shape: str, reml: bool) -> None:
    case, T = CASES[kind], factors_of(kind, shape)
    gram, at = solved(kind, shape, reml, "crossed")
    want = definition_of(kind, shape, reml)
    J = relative_directions(case, T, want)
    expected = J.T @ want.average_information @ J
    found = average_information(gram, at, case.model.directions)
    assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@every_kind
@both
def test_theta_score_of_a_problem(kind: str, reml: bool) -> None:
    """In internal coordinates: d/dT~ = R^-T d/dT, and T~ = R T."""
    case, T = CASES[kind], factors_of(kind, "regular")
    problem = case.problem(reml=reml)
    basis = problem.gram.basis
    theta = problem.model.theta([basis.internal_factor(j, t) for j, t in enumerate(T)])
    want = definition_of(kind, "regular", reml)
    internal = [
        np.tril(2.0 * np.linalg.inv(basis.Rq[j]).T @ G @ t)
        for j, (G, t) in enumerate(zip(want.score_sigma, T, strict=True))
    ]
    expected = np.concatenate(
        [
            part.template.factor_basis.reshape(part.template.n_theta, -1)
            @ problem.model.block(internal, part).ravel()
            for part in problem.model.parts
        ]
    )
    assert_allclose(problem.score(theta), expected, rtol=1e-7, atol=1e-7)


@every_kind
def test_solve_and_logdet_of_the_whole_system(kind: str) -> None:
    """A itself, put together from dense pieces: solutions on any right-hand side."""
    case, gram = CASES[kind], gram_of(kind)
    T = factors_of(kind, "regular")
    internal = [gram.basis.internal_factor(j, t) for j, t in enumerate(T)]
    w = case.design.weights
    ZL = np.hstack(
        [z @ np.kron(np.eye(z.shape[1] // len(t)), t) for z, t in zip(case.Z, T, strict=True)]
    )
    A = (ZL.T * (1.0 if w is None else w)) @ ZL + np.eye(gram.q)
    R = np.random.default_rng(5).normal(size=(gram.q, 3))
    for path in ("grouped", "crossed", "sparse")[: 3 if available() else 2]:
        factored = system_of(kind, path).at(internal)
        assert_allclose(factored.solve(R), np.linalg.solve(A, R), rtol=1e-8, atol=1e-10)
        assert_allclose(factored.logdet, np.linalg.slogdet(A)[1], rtol=1e-11)


def test_the_kinds_take_the_roles_they_are_meant_to() -> None:
    """A path is only tested by designs that give it something to do."""
    leading = {kind: choose(gram_of(kind), "grouped").system.leading for kind in CASES}
    assert {lead.index for lead in leading.values()} >= {0, 1}
    assert {lead.D.shape[1] for lead in leading.values()} >= {1, 2, 3, 5}
    assert sum(lead.n_S == 0 for lead in leading.values()) >= 4
    nested = choose(gram_of("components inside a group"), "grouped").system.store
    assert len(nested.layout.order) == 11
