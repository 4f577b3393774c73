"""Internal coordinates: exact for any choice, and good ones on bad columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sparselmm.basis import (
    CHUNK,
    block_diagonal,
    fixed_basis,
    independent_columns,
    term_basis,
    triangular_factor,
)


def columns(rng, n=60):
    x, z = rng.normal(size=(2, n))
    return np.column_stack([np.ones(n), x, z])


BAD = {
    "mean 1e6": lambda X: X + np.array([0.0, 1e6, 0.0]),
    "scales 1e-9 to 1e9": lambda X: X * [1.0, 1e-9, 1e9],
    "nearly dependent": lambda X: X @ np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1e-5]]),
    "all large": lambda X: 1e150 * X,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bad", BAD)
def test_triangular_factor_of_bad_columns(rng, bad, weighted):
    X = BAD[bad](columns(rng))
    root = np.sqrt(rng.uniform(0.1, 9.0, len(X))) if weighted else None
    R = triangular_factor([X], root)
    W = X if root is None else X * root[:, None]
    assert_allclose(R, np.triu(R), atol=0)
    Q = np.linalg.solve(R.T, W.T).T
    assert_allclose(Q.T @ Q, np.eye(3), atol=1e-8)


@pytest.mark.parametrize("bad", BAD)
def test_triangular_factor_in_pieces_and_backwards(rng, bad):
    X = BAD[bad](columns(rng))
    root = np.sqrt(rng.uniform(0.1, 9.0, len(X)))
    size = np.abs(triangular_factor([X], root))
    pieces = triangular_factor([X[:, :2], X[:, 2:]], root)
    assert_allclose(np.abs(pieces), size, rtol=1e-7, atol=1e-8 * size.min(axis=0).max())
    turned = triangular_factor([X], root, backwards=True)
    assert_allclose(np.abs(turned), np.abs(triangular_factor([X[:, ::-1]], root)), rtol=1e-7)


def test_triangular_factor_in_chunks(rng):
    M = np.column_stack([np.ones(CHUNK + 7), 1e6 + rng.normal(size=CHUNK + 7)])
    R = triangular_factor([M])
    assert_allclose(np.abs(R[1, 1]), np.linalg.norm(M[:, 1] - M[:, 1].mean()), rtol=1e-9)


@pytest.mark.parametrize("bad", BAD)
def test_fixed_basis_is_orthonormal_least_squares(rng, bad):
    X = BAD[bad](columns(rng))
    y = 1e8 + rng.normal(size=len(X))
    kept, Rx, beta0 = fixed_basis(X, y, None)
    assert kept.tolist() == [0, 1, 2]
    orthonormal = np.linalg.solve(Rx.T, X.T).T
    assert_allclose(orthonormal.T @ orthonormal, np.eye(3), atol=1e-8)
    assert (np.diag(Rx) > 0).all()
    residual = y - X @ beta0
    assert np.abs(residual).max() < 10.0
    assert_allclose(orthonormal.T @ residual, 0, atol=1e-4)


def test_weighted_least_squares(rng):
    X, w = columns(rng), rng.uniform(0.1, 9.0, 60)
    y = rng.normal(size=60)
    _, Rx, beta0 = fixed_basis(X, y, np.sqrt(w))
    assert_allclose(beta0, np.linalg.solve((X.T * w) @ X, (X.T * w) @ y), rtol=1e-10)
    assert_allclose(Rx.T @ Rx, (X.T * w) @ X, rtol=1e-10)


@pytest.mark.parametrize(
    ("dependent", "kept"),
    [
        (lambda X: np.column_stack([X, X[:, 1] + X[:, 2]]), [0, 1, 2]),
        (lambda X: np.column_stack([X[:, :1], 3.0 * X[:, :1], X[:, 1:]]), [0, 2, 3]),
        (lambda X: np.column_stack([np.zeros(len(X)), X]), [1, 2, 3]),
        (lambda X: np.column_stack([X[:, 1] + 1e6, X, 2.0 - 5.0 * X[:, 1]]), [0, 1, 3]),
        (lambda X: np.zeros_like(X), []),
        (lambda X: X[:, :0], []),
        (lambda X: np.column_stack([X, 1e-9 * X[:, 1] + 1e-6 * X[:, 2]]), [0, 1, 2]),
        (lambda X: X[:2].repeat(30, axis=0), [0, 1]),
    ],
)
def test_earliest_independent_columns_are_kept(rng, dependent, kept):
    X = dependent(columns(rng))
    y = rng.normal(size=len(X))
    found, Rx, beta0 = fixed_basis(X, y, None)
    assert found.tolist() == kept
    assert Rx.shape == (len(kept), len(kept))
    if kept:
        expected = np.linalg.lstsq(X[:, kept], y, rcond=None)[0]
        assert_allclose(X[:, kept] @ beta0, X[:, kept] @ expected, atol=1e-8)


@given(seed=st.integers(0, 10_000), p=st.integers(1, 8))
def test_kept_columns_span_all(seed, p):
    rng = np.random.default_rng(seed)
    X = rng.integers(-1, 2, (12, p)).astype(float) * 10.0 ** rng.integers(-6, 7, p)
    kept = independent_columns(triangular_factor([X]))
    assert len(kept) == np.linalg.matrix_rank(X / np.maximum(np.linalg.norm(X, axis=0), 1e-300))
    for j in set(range(p)) - set(kept.tolist()):
        before = X[:, kept[kept < j]]
        fitted = before @ np.linalg.lstsq(before, X[:, j], rcond=None)[0]
        assert_allclose(fitted, X[:, j], atol=1e-8 * np.abs(X).max())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("template", ["unstructured", "diagonal", "scalar"])
@pytest.mark.parametrize("bad", BAD)
def test_term_basis_has_the_form_of_its_template(rng, bad, template, weighted):
    Q = BAD[bad](columns(rng))
    R = term_basis(Q, template, np.sqrt(rng.uniform(0.5, 2.0, 60)) if weighted else None)
    assert np.isfinite(R).all()
    if template == "unstructured":
        assert_allclose(R, np.tril(R), atol=0)
        assert (np.diag(R) > 0).all()
        if not weighted:
            scaled = np.linalg.solve(R.T, Q.T).T
            assert_allclose(scaled.T @ scaled / len(Q), np.eye(3), atol=1e-8)
    elif template == "diagonal":
        assert_allclose(R, np.diag(np.diag(R)), atol=0)
    else:
        assert_allclose(R, np.eye(3) * R[0, 0], rtol=1e-15)


@pytest.mark.parametrize("template", ["unstructured", "diagonal", "scalar"])
def test_dependent_random_columns_are_only_scaled(rng, template):
    Q = columns(rng)
    Q = np.column_stack([Q, Q[:, 1] - 2.0 * Q[:, 2], np.zeros(len(Q))])
    R = term_basis(Q, template, None)
    assert_allclose(R, np.diag(np.diag(R)), atol=0)
    assert (np.diag(R) > 0).all()


def test_an_intercept_is_left_alone():
    assert_allclose(term_basis(np.ones((5, 1)), "unstructured", None), [[1.0]], atol=0)


def test_block_diagonal(rng):
    A, B = rng.normal(size=(2, 2)), rng.normal(size=(1, 1))
    M = block_diagonal([A, B])
    assert_allclose(M[:2, :2], A)
    assert_allclose(M[2, 2], B[0, 0])
    assert not M[:2, 2].any()
    assert not M[2, :2].any()
