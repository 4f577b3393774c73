"""LAPACK in place, on a corner of a larger square."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sparselmm.systems import lapack


@pytest.fixture
def square(rng):
    """A square whose last rows and columns are positive definite."""
    A = rng.standard_normal((9, 9))
    A[4:, 4:] = A[4:, 4:] @ A[4:, 4:].T + np.eye(5)
    return A


def test_a_corner_is_factorised_solved_with_and_inverted(square, rng):
    want = square.copy()
    corner, R = square[4:, 4:], rng.standard_normal((3, 7))
    right = R[:, 2:].copy()
    assert lapack.factorise(corner)
    assert_allclose(np.tril(corner), np.linalg.cholesky(want[4:, 4:]), rtol=1e-12, atol=1e-13)
    lapack.solve(corner, R[:, 2:])
    assert_allclose(R[:, 2:].T, np.linalg.solve(want[4:, 4:], right.T), rtol=1e-10, atol=1e-12)
    lapack.invert(corner)
    expected = np.tril(np.linalg.inv(want[4:, 4:]))
    assert_allclose(np.tril(corner), expected, rtol=1e-10, atol=1e-12)
    corner[np.tril_indices(5)] = want[4:, 4:][np.tril_indices(5)]
    assert_allclose(square, want, rtol=0, atol=0)


def test_nothing_and_one_row(square):
    assert lapack.factorise(square[9:, 9:])
    corner, x = square[4:, 4:], np.ones((1, 5))
    want = np.linalg.solve(corner, np.ones(5))
    lapack.factorise(corner)
    lapack.solve(corner, x)
    assert_allclose(x[0], want, rtol=1e-12)


def test_what_is_not_positive_definite_is_told(square):
    square[6, 6] = -1.0
    assert not lapack.factorise(square[4:, 4:])


def test_gaps_between_columns_are_refused(square):
    with pytest.raises(ValueError, match="without gaps"):
        lapack.factorise(square[::2, ::2])


def test_nothing_at_all_and_rows_backwards(square):
    assert lapack.factorise(np.empty((0, 0)))
    lapack.invert(np.empty((0, 0)))
    with pytest.raises(ValueError, match="without gaps"):
        lapack.factorise(np.eye(3)[::-1])


@pytest.mark.parametrize("n", [127, 128, 129, 300])
def test_large_triangles_are_inverted_by_halves(rng, n):
    A = rng.standard_normal((n, n))
    A = A @ A.T + n * np.eye(n)
    L = np.linalg.cholesky(A)
    lapack.invert(L)
    assert_allclose(np.tril(L), np.tril(np.linalg.inv(A)), rtol=1e-9, atol=1e-14)
