"""Kernels against NumPy, on ranges, on threads and without compilation."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sparselmm._types import Design
from sparselmm.covariance.model import covariance_model
from sparselmm.gram import Gram
from sparselmm.kernels import scatter, smallchol
from sparselmm.kernels.blockchol import level_kernels, sweep_kernels
from sparselmm.kernels.crosstab import (
    counting_sort,
    factor_sums,
    level_sums,
    pair_counts,
    pair_sums,
)
from sparselmm.problem import Problem
from sparselmm.systems.blocks import component_labels, in_partners_order, make_layout
from sparselmm.systems.choose import choose
from sparselmm.systems.leading import make_leading
from sparselmm.tall import level_products, tall_product, wide_product
from sparselmm.threads import (
    limited_threads,
    map_range,
    over_range,
    side_by_side,
    split_range,
    sum_over_range,
)
from tests.core.designs import cases, factor, one_term_each

THREADS = (1, min(2, numba.config.NUMBA_NUM_THREADS))  # as many as there are to have
SIZES = pytest.mark.parametrize("s", [1, 2, 3, 4, 5, 6])
CASES = cases(5)
WITH_REST = [kind for kind, case in CASES.items() if len(case.design.factors) > 1]


def in_pieces(kernel, n, *args):
    """A kernel over 0 to n in uneven ranges, empty ones among them, the last first."""
    edges = sorted({0, 1, n // 3, n // 2, n})
    for a, b in [*pairwise(edges), (0, 0), (n, n)][::-1]:
        kernel(a, b, *args)


def lower(rng, s):
    return np.tril(rng.normal(size=(s, s)))


def definite(rng, levels, s):
    M = rng.normal(size=(levels, s, s + 2))
    return M @ M.transpose(0, 2, 1)


# One pass over the rows


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 3), (4, 1)])
def test_level_sums(rng, a, b):
    codes = rng.integers(0, 7, 50).astype(np.int32)
    codes[codes == 3] = 4
    P, Q = rng.normal(size=(50, a)), rng.normal(size=(50, b))
    expected = np.array([P[codes == level].T @ Q[codes == level] for level in range(9)])
    assert_allclose(level_sums(codes, P, Q, 9), expected, atol=1e-12)


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_counting_sort_is_stable(rng, kind):
    codes = rng.integers(0, 6, 80).astype(np.int32)
    start = rng.permutation(80).astype(kind)
    pointers, order = counting_sort(codes, start, 8)
    assert_array_equal(order, start[np.argsort(codes[start], kind="stable")])
    assert_array_equal(np.diff(pointers), np.bincount(codes, minlength=8))
    assert order.dtype == kind
    assert pointers.dtype == np.int64


def pairs(rng, n=90):
    return rng.integers(0, 8, n).astype(np.int32), rng.integers(0, 5, n).astype(np.int32)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 3)])
def test_pair_sums(rng, a, b):
    first, second = pairs(rng)
    P, Q = rng.normal(size=(90, a)), rng.normal(size=(90, b))
    _, order = counting_sort(second, np.arange(90, dtype=np.int32), 5)
    pointers, order = counting_sort(first, order, 9)
    indptr, indices, values = pair_sums(pointers, order, second, P, Q)
    assert indptr[-1] == len(indices) == len(np.unique(first * 5 + second))
    for level in range(9):
        own = slice(indptr[level], indptr[level + 1])
        assert_array_equal(indices[own], np.unique(second[first == level]))
        for other, value in zip(indices[own], values[own], strict=True):
            rows = (first == level) & (second == other)
            assert_allclose(value, P[rows].T @ Q[rows], atol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 90])
def test_pair_counts_are_pair_sums_of_ones(rng, n):
    first, second = pairs(rng, n)
    ones = np.ones((n, 1))
    _, order = counting_sort(second, np.arange(n, dtype=np.int32), 5)
    pointers, order = counting_sort(first, order, 9)
    for found, want in zip(
        pair_counts(first, second, 9, 5),
        pair_sums(pointers, order, second, ones, ones),
        strict=True,
    ):
        assert_array_equal(found, want)
        assert found.dtype == want.dtype


# The leading factor, level by level


@SIZES
def test_factor_of_levels(rng, s):
    D, T = definite(rng, 11, s), lower(rng, s)
    L, roots = np.full((11, s, s), np.nan), np.full(11, np.nan)
    in_pieces(level_kernels(s).factor, 11, D, T, L, roots)
    A = T.T @ D @ T + np.eye(s)
    assert_allclose(L, np.linalg.cholesky(A), rtol=1e-10, atol=1e-12)
    assert_allclose(2.0 * np.log(roots), np.linalg.slogdet(A)[1], rtol=1e-10, atol=1e-12)


@SIZES
@pytest.mark.parametrize("m", [1, 3, 6])
def test_apply_transpose_and_forward(rng, s, m):
    T, R = lower(rng, s), rng.normal(size=(9, s, m))
    out = np.full_like(R, np.nan)
    in_pieces(sweep_kernels(s, m).apply_transpose, 9, T, R, out)
    assert_allclose(out, T.T @ R, atol=1e-12)
    L = np.linalg.cholesky(definite(rng, 9, s) + np.eye(s))
    W = np.full_like(R, np.nan)
    in_pieces(sweep_kernels(s, m).forward, 9, L, R, W)
    assert_allclose(W, np.linalg.solve(L, R), rtol=1e-9, atol=1e-10)


def pattern(rng, levels=9, columns=13):
    """Compressed rows with an empty one, and their transposed view."""
    met = rng.random((levels, columns)) < 0.4
    met[2] = False
    indptr = np.concatenate([[0], np.cumsum(met.sum(axis=1))]).astype(np.int64)
    cols = np.nonzero(met)[1].astype(np.int32)
    rows, level = [], np.repeat(np.arange(levels), np.diff(indptr))
    order = np.lexsort((level, cols))
    colptr = np.searchsorted(cols[order], np.arange(columns + 1)).astype(np.int64)
    rows = level[order].astype(np.int32)
    return indptr, cols, colptr, rows, order.astype(np.int64), level


@SIZES
def test_scale_panel(rng, s):
    indptr, cols, *_, level = pattern(rng)
    L = np.linalg.cholesky(definite(rng, 9, s) + np.eye(s))
    T, values = lower(rng, s), rng.normal(size=(len(cols), s))
    G = np.full_like(values, np.nan)
    in_pieces(level_kernels(s).scale_panel, 9, L, T, indptr, values, G)
    expected = np.linalg.solve(L[level], (values @ T)[:, :, None])[:, :, 0]
    assert_allclose(G, expected, rtol=1e-9, atol=1e-10)


def dense_panel(indptr, cols, G, columns=13):
    """L21 with the rows of S first, (columns, levels, s)."""
    out = np.zeros((columns, len(indptr) - 1, G.shape[1]))
    level = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    out[cols, level] = G
    return out


@SIZES
@pytest.mark.parametrize("m", [1, 4, 6])
def test_sweeps_through_the_partners(rng, s, m):
    indptr, cols, *_ = pattern(rng)
    G = rng.normal(size=(len(cols), s))
    W, R = rng.normal(size=(9, s, m)), rng.normal(size=(13, m))
    L21 = dense_panel(indptr, cols, G)
    down = R.copy()
    in_pieces(sweep_kernels(s, m).add_partners, 9, indptr, cols, G, W, down)
    assert_allclose(down, R + np.einsum("als,lsm->am", L21, W), atol=1e-11)
    L = np.linalg.cholesky(definite(rng, 9, s) + np.eye(s))
    up = W.copy()
    in_pieces(sweep_kernels(s, m).backward, 9, L, indptr, cols, G, R, up)
    expected = np.linalg.solve(L.transpose(0, 2, 1), W - np.einsum("als,am->lsm", L21, R))
    assert_allclose(up, expected, rtol=1e-9, atol=1e-10)


@SIZES
def test_invert_levels(rng, s):
    L = np.linalg.cholesky(definite(rng, 9, s) + np.eye(s))
    forms = definite(rng, 9, s)
    found = forms.copy()
    in_pieces(level_kernels(s).invert, 9, L, found)
    half = np.linalg.inv(L)
    assert_allclose(found, half.transpose(0, 2, 1) @ (np.eye(s) + forms) @ half, atol=1e-9)


# The Schur complement


def schur(kind, rng):
    """Leading factor, random G and A22 of a case, and S as a dense matrix."""
    lead = make_leading(CASES[kind].gram)
    G, A22 = rng.normal(size=(len(lead.cols), lead.D.shape[1])), rng.normal(size=len(lead.A22_cols))
    dense = np.zeros((lead.n_S, lead.n_S))
    dense[np.repeat(np.arange(lead.n_S), np.diff(lead.A22_ptr)), lead.A22_cols] = A22
    L21 = dense_panel(lead.indptr, lead.cols, G, lead.n_S).reshape(lead.n_S, -1)
    return lead, G, A22, dense + np.tril(dense, -1).T - L21 @ L21.T, L21


@pytest.mark.parametrize("squares", ["one", "one in another order", "components"])
@pytest.mark.parametrize("kind", WITH_REST)
def test_scatter_and_its_adjoint(rng, kind, squares):
    lead, G, A22, dense, L21 = schur(kind, rng)
    labels = component_labels(lead) if squares == "components" else np.zeros(lead.n_S, np.int64)
    order = rng.permutation(lead.n_S) if squares == "one in another order" else None
    at = make_layout(lead, labels, order)
    partners, in_order = at.partners, in_partners_order(at, G)
    S = np.zeros(at.length)
    in_pieces(
        scatter.assemble, lead.n_S, lead.indptr, partners.places, lead.colptr, lead.rows,
        partners.positions, in_order, partners.A22_ptr, partners.A22_places,
        A22[partners.A22_entry], at.base, at.local, at.size, S,
    )  # fmt: skip
    a, b = np.nonzero(labels[:, None] == labels)
    a, b = a[at.local[b] <= at.local[a]], b[at.local[b] <= at.local[a]]
    held = at.base[a] + at.local[a] * at.size[a] + at.local[b]
    assert_allclose(S[held], dense[a, b], atol=1e-10)
    assert len(np.unique(held)) == len(held)
    assert not np.delete(S, held).any(), "something above the diagonals"

    K = rng.normal(size=dense.shape)
    K = np.where(labels[:, None] == labels, K + K.T, 0.0)
    flat = np.full(at.length, np.nan)
    flat[held] = K[a, b]
    out = np.full(lead.D.shape, np.nan)
    in_pieces(
        scatter.partner_forms, len(out), lead.indptr, partners.cols, partners.places,
        in_order, flat, at.base, at.local, at.size, out,
    )  # fmt: skip
    by_level = L21.reshape(lead.n_S, *lead.D.shape[:2]).transpose(1, 2, 0)
    assert_allclose(out, by_level @ K @ by_level.transpose(0, 2, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("orders", [[1], [3, 1, 4, 1, 6], [2] * 30])
def test_small_systems(rng, orders):
    order = np.array(orders, np.int64)
    start = np.concatenate([[0], np.cumsum(order**2)[:-1]]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(order)[:-1]]).astype(np.int64)
    M = [definite(rng, 1, m)[0] + np.eye(m) for m in orders]
    S = np.concatenate([np.tril(block).ravel() for block in M])
    R = rng.normal(size=(order.sum(), 3))
    n, logdets, X = len(orders), np.full(len(orders), np.nan), R.copy()
    in_pieces(smallchol.factor_components, n, start, order, S, logdets)
    in_pieces(smallchol.solve_components, n, S, start, order, first, X)
    out = np.full_like(S, np.nan)
    in_pieces(smallchol.invert_components, n, S, start, order, out)
    for c, (block, i, k) in enumerate(zip(M, start, first, strict=True)):
        m = len(block)
        assert_allclose(logdets[c], np.linalg.slogdet(block)[1], rtol=1e-10, atol=1e-12)
        assert_allclose(X[k : k + m], np.linalg.solve(block, R[k : k + m]), rtol=1e-9)
        assert_allclose(out[i : i + m * m].reshape(m, m), np.linalg.inv(block), rtol=1e-9)


@SIZES
def test_systems_that_are_not_definite_give_nan_or_inf(s):
    """Not an exception: the optimiser takes a value that is not finite for a step too far."""
    huge, T = np.full((2, s, s), 1e200), 1e80 * np.tril(np.ones((s, s)))
    L, roots = np.zeros((2, s, s)), np.zeros(2)
    with np.errstate(all="ignore"):
        level_kernels(s).factor(0, 2, huge, T, L, roots)
        W = np.empty((2, s, 1))
        sweep_kernels(s, 1).forward(0, 2, L, np.ones((2, s, 1)), W)
    assert not np.isfinite(roots).any()


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="python raises where machine code does not")
def test_zero_pivots_are_no_exception():
    lead = np.array([[[1e40, 1e40], [1e40, 1e40]]])
    L, roots = np.zeros((1, 2, 2)), np.zeros(1)
    level_kernels(2).factor(0, 1, lead, np.eye(2), L, roots)
    W = np.empty((1, 2, 1))
    sweep_kernels(2, 1).forward(0, 1, L, np.ones((1, 2, 1)), W)
    level_kernels(2).invert(0, 1, L, np.zeros((1, 2, 2)))
    S = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0])
    S = np.tril(np.ones((3, 3))).ravel()
    one, order = np.zeros(1, np.int64), np.array([3], np.int64)
    smallchol.factor_components(0, 1, one, order, S, roots)
    smallchol.solve_components(0, 1, S, one, order, one, np.ones((3, 1)))
    smallchol.invert_components(0, 1, S, one, order, np.zeros(9))
    assert not np.isfinite(roots[0])


def test_threads_change_nothing(rng):
    D, T = definite(rng, 20_000, 2), lower(rng, 2)
    found = []
    for threads in THREADS:
        L, roots = np.full(D.shape, np.nan), np.full(len(D), np.nan)
        with limited_threads(threads):
            over_range(level_kernels(2).factor, len(D), D, T, L, roots)
        found.append((L, roots))
    assert_array_equal(found[0][0], found[1][0])
    assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("rows", [0, 1, 8_192, 8_193, 40_000])
@pytest.mark.parametrize("threads", THREADS)
def test_products_of_tall_matrices(rng, rows, threads):
    a, b, c = (rng.normal(size=(rows, width)) for width in (3, 5, 40))
    blocks = rng.normal(size=(rows, 2, 3))
    with limited_threads(threads):
        assert_allclose(tall_product(a, b), a.T @ b, atol=1e-10)
        assert_allclose(tall_product(a, a), a.T @ a, atol=1e-10)
        assert_allclose(tall_product(b[:, :1], c[:, ::2]), b[:, :1].T @ c[:, ::2], atol=1e-10)
        assert_allclose(tall_product(c, c), c.T @ c, atol=1e-10)
        assert_allclose(wide_product(c, np.eye(40)[:, :7]), c[:, :7], atol=1e-12)
        expected = np.einsum("lam,lbk->ambk", blocks, blocks[:, :1])
        assert_allclose(level_products(blocks, blocks[:, :1]), expected, atol=1e-10)
        expected = np.einsum("lam,lbk->ambk", blocks, blocks)
        assert_allclose(level_products(blocks, blocks), expected, atol=1e-10)


def test_a_range_that_fails_says_so():
    def task(begin, end):
        raise FloatingPointError(f"{begin} to {end}")

    with limited_threads(THREADS[1]), pytest.raises(FloatingPointError, match="to"):
        sum_over_range(task, 100_000)


def test_after_an_error_no_other_task_begins():
    begun = []

    def fail():
        begun.append(1)
        raise FloatingPointError

    with limited_threads(2), pytest.raises(FloatingPointError):
        side_by_side([fail] * 50)
    assert len(begun) <= 2


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="thousands of levels in plain Python")
@pytest.mark.parametrize("path", ["grouped", "crossed"])
def test_threads_change_no_evaluation(path):
    """More levels and columns than one range holds, in every kernel on the way."""
    rng, n = np.random.default_rng(1), 30_000
    g = rng.permutation(np.arange(n) % 9_000)
    factors = (factor(g, np.ones(n), rng.normal(size=n)), factor(rng.integers(0, 450, n)))
    design = Design(rng.normal(size=n), np.ones((n, 1)), factors)
    terms = one_term_each(factors)
    gram = Gram.from_design(design, terms)
    model = covariance_model(terms, [2, 1])
    problem = Problem(gram, choose(gram, path).system, model, reml=True)
    found = []
    for threads in THREADS:
        with limited_threads(threads):
            at = problem.evaluate(np.array([0.7, 0.2, 0.5, 0.4]))
        found.append((at.deviance, *at.score, *at.information.ravel(), *at.solution.u[::97]))
    assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-9)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="this is the run without compilation")
def test_without_compilation():
    """The same tests as plain Python: indices out of range raise there, and coverage sees the kernels."""
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:]


@pytest.mark.parametrize("s", [1, 2, 4, 5])
@pytest.mark.parametrize("edges", [[0, 9], [0, 4, 9], [0, 0, 1, 9]])
def test_sums_of_a_factor_in_ranges_of_its_levels(rng, s, edges):
    codes = rng.integers(0, 9, 60).astype(np.int32)
    codes[codes == 3] = 4
    P, Q, X = (rng.normal(size=(60, width)) for width in (s, s, 3))
    PQ, PX = np.full((9, s, s), np.nan), np.full((9, s, 3), np.nan)
    for begin, end in pairwise(edges):
        factor_sums(s)(begin, end, codes, P, Q, X, PQ, PX)
    assert_allclose(PQ, level_sums(codes, P, Q, 9), atol=1e-12)
    assert_allclose(PX, level_sums(codes, P, X, 9), atol=1e-12)


@pytest.mark.parametrize("count", [1, THREADS[1]])
def test_ranges_cover_everything_once(count):
    work = np.cumsum([0, 0, 50, 0, 1, 1, 1, 0, 0, 3])
    with limited_threads(count):
        for found in (map_range(lambda *ends: ends, 9, 1, work), split_range(9, 100)):
            assert found[0][0] == 0
            assert found[-1][1] == 9
            assert all(a[1] == b[0] for a, b in pairwise(found))
        assert split_range(9, 0) == [(0, 9)]
