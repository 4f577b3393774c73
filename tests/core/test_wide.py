"""Terms of many columns: what goes by the places of theta agrees with the dense matrices they stand for."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import sparselmm as slm
from sparselmm.covariance import template
from sparselmm.covariance.model import covariance_model
from sparselmm.design import build_design
from sparselmm.design.checks import confounded
from sparselmm.fit import prepare
from sparselmm.start import _non_negative
from tests.core.designs import factor, one_term_each

NAMES = pytest.mark.parametrize("name", ["unstructured", "diagonal", "scalar"])


def form(name, M):
    """The part of a matrix that has a template's form."""
    if name == "scalar":
        return M.trace() / len(M) * np.eye(len(M))
    return np.tril(M) if name == "unstructured" else np.diag(M.diagonal())


@NAMES
@pytest.mark.parametrize("s", [1, 2, 4])
def test_bases_are_what_theta_fills(rng, name, s):
    own = template(name, s)
    theta = rng.normal(size=own.n_theta)
    T = own.factor(theta)
    assert_allclose(T, np.tensordot(theta, own.factor_basis, 1), atol=1e-15)
    assert_allclose(T, form(name, T))
    assert_allclose(own.theta(T), theta)
    assert_allclose(own.theta(np.stack([T, 2.0 * T])), [theta, 2.0 * theta])
    c = own.coordinates(T + T.T)
    assert_allclose(np.tensordot(c, own.symmetric_basis, 1), T + T.T, atol=1e-14)
    assert_array_equal(own.diagonal(), [B.trace() > 0 for B in own.factor_basis])


@NAMES
@pytest.mark.parametrize("s", [1, 2, 4])
def test_places_give_what_dense_bases_give(rng, name, s):
    own = template(name, s)
    B, E, M = own.factor_basis, rng.normal(size=(s, s)), form(name, rng.normal(size=(s, s)))
    E = E + E.T
    O = np.linalg.qr(rng.normal(size=(s, s)))[0] if name == "unstructured" else np.eye(s)
    assert_allclose(own.gradient(E), np.einsum("ab,iab->i", E, B), atol=1e-13)
    assert_allclose(own.form(E), np.einsum("ac,icb,jab->ij", E, B, B), atol=1e-13)
    assert_allclose(own.moved(M), own.theta(M @ B).T, atol=1e-13)
    K = M @ B @ O
    expected = own.coordinates(K + K.transpose(0, 2, 1)).T
    assert_allclose(own.moved_symmetric(M, O), expected, atol=1e-13)


def test_covariances_go_with_variances_that_would_be_negative(rng):
    """Independent equations show which unknowns were left out: those of the columns, no others."""
    factors = (
        factor(rng.integers(0, 3, 9), *rng.normal(size=(3, 9))),
        factor(rng.integers(0, 2, 9)),
    )
    directions = covariance_model(one_term_each(factors), [3, 1]).directions
    # columns of the lower triangle: 00 10 20 11 21 22, then the other factor, then sigma²
    sums = np.array([1.0, 2.0, 3.0, -4.0, 5.0, 6.0, 7.0, 8.0])
    told = np.ones(8, bool)
    x = _non_negative(np.eye(8), sums, directions, told)
    assert_allclose(x, [1.0, 0.0, 3.0, 0.0, 0.0, 6.0, 7.0, 8.0], atol=1e-12)
    sums[6] = -1.0
    x = _non_negative(np.eye(8), sums, directions, told)
    assert_allclose(x, [1.0, 0.0, 3.0, 0.0, 0.0, 6.0, 0.0, 8.0], atol=1e-12)


@pytest.mark.parametrize(("template_name", "expected"), [("unstructured", True), ("scalar", False)])
def test_a_term_that_can_be_the_residual(template_name, expected):
    """Every level has each of its columns in one row: any variances per column are weights of the rows."""
    codes, Q = np.repeat(np.arange(20), 3), np.tile(np.eye(3), (20, 1))
    weights = np.tile([1.0, 2.0, 4.0], 20)
    assert confounded(codes, Q, 20, weights, template_name) is expected


def test_a_factor_left_of_two_bars_keeps_its_covariances(rng):
    """As in lme4 1.1: (0 + f || g) is (0 + f | g), all levels correlated."""
    n = 3_000
    f, g = rng.integers(0, 8, n), rng.integers(0, 60, n)
    data = pd.DataFrame({"f": [f"f{i}" for i in f], "g": g})
    effects = rng.normal(size=(60, 8)) * np.linspace(0.5, 1.5, 8)
    data["y"] = effects[g, f] + rng.normal(size=n)
    double = slm.lmm("y ~ 1 + (0 + f || g)", data)
    single = slm.lmm("y ~ 1 + (0 + f | g)", data)
    assert double.fit.n_theta == 36
    assert double.converged
    assert_allclose(double.deviance, single.deviance, rtol=1e-12)
    spec, design = build_design("y ~ 1 + (0 + f || g)", data, None, None, None)
    problem = prepare(spec, design).problem(reml=True)
    score = problem.score(double.fit.optimum.theta)
    assert np.abs(score).max() < 1e-3
