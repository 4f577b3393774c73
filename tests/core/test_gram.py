"""The narrow waist: exact on bad columns, and the same however the rows were cut."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sparselmm._types import Array
from sparselmm.gram import Gram, merge
from sparselmm.problem import Problem
from sparselmm.systems.choose import choose
from tests.core.designs import Case, cases, factor, make_case, random_T, term

CASES = cases(8)
WEIGHTED = "weights and offset"


def dense(gram: Gram, i: int, j: int) -> Array:
    """Z_i'WZ_j from its compressed block."""
    (li, si), (lj, sj) = gram.shapes[i], gram.shapes[j]
    block, out = gram.cross[i, j], np.zeros((li, si, lj, sj))
    assert (np.diff(block.indptr) >= 0).all()
    for level, k in zip(block.first(), range(len(block.indices)), strict=True):
        out[level, :, block.indices[k], :] += block.values[k]
    return out.reshape(li * si, lj * sj)


def assert_same(a: Gram, b: Gram, rtol: float = 1e-11) -> None:
    assert a.n == b.n
    assert a.shapes == b.shapes
    assert_allclose(a.sum_log_weights, b.sum_log_weights, rtol=1e-12, atol=1e-12)
    for name in ("ZtZ", "ZtXy"):
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True):
            assert_allclose(x, y, rtol=rtol, atol=rtol)
    assert_allclose(a.XytXy, b.XytXy, rtol=rtol, atol=rtol)
    assert a.cross.keys() == b.cross.keys()
    for pair in a.cross:
        x, y = a.cross[pair], b.cross[pair]
        np.testing.assert_array_equal(x.indptr, y.indptr)
        np.testing.assert_array_equal(x.indices, y.indices)
        assert_allclose(x.values, y.values, rtol=rtol, atol=rtol)
        assert x.indices.dtype == y.indices.dtype == np.int32
        assert x.indptr.dtype == y.indptr.dtype == np.int64


@pytest.mark.parametrize("kind", CASES)
def test_products_are_those_of_the_dense_matrices(kind):
    case = CASES[kind]
    d, gram = case.design, case.gram
    basis, w = gram.basis, d.weights
    X, y = basis.fixed(d.X), basis.response(d.X, d.y, d.offset)
    Z = [
        z @ np.kron(np.eye(f.n_levels), np.linalg.inv(basis.Rq[j]))
        for j, (f, z) in enumerate(zip(d.factors, case.Z, strict=True))
    ]
    W = np.diag(np.ones(d.n) if w is None else w)
    Xy = np.column_stack([X, y])
    assert_allclose(gram.XytXy, Xy.T @ W @ Xy, rtol=1e-10, atol=1e-10)
    for j, (levels, s) in enumerate(gram.shapes):
        own = (Z[j].T @ W @ Z[j]).reshape(levels, s, levels, s)
        assert_allclose(gram.ZtZ[j], own[np.arange(levels), :, np.arange(levels), :], atol=1e-10)
        assert_allclose(gram.ZtXy[j].reshape(levels * s, -1), Z[j].T @ W @ Xy, atol=1e-10)
        for i in range(j):
            assert_allclose(dense(gram, i, j), Z[i].T @ W @ Z[j], atol=1e-10)
    for i, j in gram.cross:
        flipped = gram.cross[i, j].transpose(gram.shapes[j][0])
        again = flipped.transpose(gram.shapes[i][0])
        np.testing.assert_array_equal(again.indices, gram.cross[i, j].indices)
        assert_allclose(again.values, gram.cross[i, j].values, atol=0)
        per_level = np.split(flipped.indices, flipped.indptr[1:-1])
        assert all((np.diff(indices) > 0).all() for indices in per_level)


@given(kind=st.sampled_from(sorted(CASES)), cuts=st.lists(st.integers(1, 71), max_size=5))
def test_batches_cut_anywhere_add_up(kind, cuts):
    case = CASES[kind]
    whole = case.gram
    edges = [0, *sorted(cuts), case.design.n]
    pieces = [
        Gram.from_design(case.rows(np.arange(a, b)).design, case.terms, whole.basis)
        for a, b in pairwise(edges)
    ]
    total = pieces[0]
    for piece in pieces[1:]:
        total = merge(total, piece)
    assert_same(total, whole)


@pytest.mark.parametrize("kind", ["crossed vector", WEIGHTED, "partially crossed"])
def test_merge_is_associative_and_commutes(kind):
    case = CASES[kind]
    basis = case.gram.basis
    a, b, c = (
        Gram.from_design(case.rows(rows).design, case.terms, basis)
        for rows in np.array_split(np.random.default_rng(0).permutation(case.design.n), 3)
    )
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert_same(merge(a, b), merge(b, a))


def test_merge_refuses_other_coordinates():
    case = CASES["crossed"]
    a, b = (case.rows(rows).gram for rows in (np.arange(40), np.arange(40, 72)))
    with pytest.raises(ValueError, match="different coordinates"):
        merge(a, b)


def value(gram: Gram, case: Case, T: tuple[Array, ...], reml: bool = True) -> tuple:
    """What a user sees of the solution at T."""
    problem = Problem(gram, choose(gram).system, case.model, reml)
    internal = [gram.basis.internal_factor(j, t) for j, t in enumerate(T)]
    at = problem.solve(case.model.theta(internal))
    return at.deviance, gram.basis.beta(at.beta), at.s2


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("size", [30, 50])
def test_from_batches_gives_the_same_model(kind, size):
    """The first batch sets other coordinates than all rows would; estimates do not notice."""
    case = CASES[kind]
    n = case.design.n
    batches = [case.rows(np.arange(a, min(a + size, n))).design for a in range(0, n, size)]
    gram = Gram.from_batches(iter(batches), case.terms)
    T = random_T(np.random.default_rng(1), case.model)
    found, want = value(gram, case, T), value(case.gram, case, T)
    for x, y in zip(found, want, strict=True):
        assert_allclose(x, y, rtol=1e-9, atol=1e-9)


def shifted(case: Case, mean_y: float, mean_x: float) -> Case:
    """y, the last column of X and the last one of every Q moved far from zero."""
    d = case.design
    X = d.X.copy()
    X[:, -1] += mean_x
    factors = []
    for f in d.factors:
        Q = f.Q.copy()
        if Q.shape[1] > 1:
            Q[:, -1] += mean_x
        factors.append(factor(f.codes, *Q.T))
    return case.with_design(y=d.y + mean_y, X=X, factors=tuple(factors))


def moved_factor(t: Array, mean_x: float) -> Array:
    """T of the same model after the last column of Q has moved: b_0 becomes b_0 - mean b_last."""
    s = len(t)
    M = np.eye(s)
    if s > 1:
        M[0, -1] = -mean_x
    Sigma = M @ t @ t.T @ M.T
    L = np.zeros((s, s))
    L[:] = np.linalg.qr((M @ t).T, mode="r").T
    assert_allclose(L @ L.T, Sigma, rtol=1e-8)
    return L


@pytest.mark.parametrize(
    "kind", ["single vector", "crossed vector", "nested vector", WEIGHTED, "single of order 3"]
)
def test_large_means_cost_no_digits(kind):
    """y with mean 1e8 and standard deviation 1, predictors and random slopes with mean 1e6."""
    case = CASES[kind]
    T = random_T(np.random.default_rng(3), case.model)
    far = shifted(case, 1e8, 1e6)
    deviance, beta, s2 = value(case.gram, case, T, reml=False)
    gram = far.gram
    problem = Problem(gram, choose(gram).system, far.model, False)
    internal = [gram.basis.internal_factor(j, moved_factor(t, 1e6)) for j, t in enumerate(T)]
    at = problem.solve(far.model.theta(internal))
    assert_allclose(at.deviance, deviance, rtol=1e-8)
    assert_allclose(at.s2, s2, rtol=1e-7)
    assert_allclose(gram.basis.beta(at.beta)[1:], beta[1:], rtol=1e-6)


def test_large_means_cost_no_digits_of_a_fit(rng):
    n = 300
    g, x = rng.integers(0, 25, n), rng.normal(size=n)
    near = make_case(rng, [factor(g, np.ones(n), x)], p=1)
    near = near.with_design(X=np.column_stack([np.ones(n), x]))
    far = shifted(near, 1e8, 1e6)
    for reml in (False, True):
        a, b = near.fit(reml=reml), far.fit(reml=reml)
        assert a.converged
        assert b.converged
        assert_allclose(b.solution.deviance, a.solution.deviance, rtol=1e-8)
        slopes = [c.gram.basis.user_factor(0, o.solution.T[0]) for c, o in ((near, a), (far, b))]
        assert_allclose(np.linalg.norm(slopes[1][1]), np.linalg.norm(slopes[0][1]), rtol=1e-5)


@pytest.mark.parametrize("template", ["unstructured", "diagonal", "scalar"])
def test_badly_scaled_columns_change_nothing_but_units(rng, template):
    n = 200
    g, x = rng.integers(0, 15, n), rng.normal(size=n)
    terms = (term(0, 2, template),)
    one = make_case(rng, [factor(g, np.ones(n), x)], terms)
    unit = [1e5, 1e5] if template == "scalar" else [1.0, 1e-7]
    other = one.with_design(
        X=one.design.X * [1e-6, 1e6], factors=(factor(g, *(one.design.factors[0].Q * unit).T),)
    )
    T = random_T(rng, one.model)
    scaled = [t / np.array(unit)[:, None] for t in T]
    a, b = value(one.gram, one, T, reml=False), value(other.gram, other, scaled, reml=False)
    assert_allclose(b[0], a[0], rtol=1e-11)
    assert_allclose(b[1] * [1e-6, 1e6], a[1], rtol=1e-9)


@pytest.mark.parametrize("reml", [False, True])
def test_dependent_columns_of_X_are_dropped(rng, reml):
    case = CASES["crossed vector"]
    X = case.design.X
    wide = case.with_design(X=np.column_stack([X[:, :1], 2.0 * X[:, :1], X[:, 1:], X.sum(axis=1)]))
    T = random_T(np.random.default_rng(3), case.model)
    assert wide.gram.basis.kept.tolist() == [0, 2]
    for x, y in zip(value(wide.gram, wide, T, reml), value(case.gram, case, T, reml), strict=True):
        assert_allclose(x, y, rtol=1e-10)


def test_dependent_columns_of_Q_are_fitted(rng):
    """Three random columns that span two dimensions; V is all that matters."""
    n = 120
    g, x = rng.integers(0, 12, n), rng.normal(size=n)
    Q = np.column_stack([np.ones(n), x, 2.0 - x])
    case = make_case(rng, [factor(g, *Q.T)])
    T = random_T(rng, case.model)
    want = case.define(T, reml=True)
    assert_allclose(value(case.gram, case, T)[0], want.deviance, rtol=1e-10)
    assert case.fit().converged


def test_with_response_swaps_y_only(rng):
    case = CASES[WEIGHTED]
    gram, d = case.gram, case.design
    y = rng.normal(size=d.n)
    basis = gram.basis
    X, w = basis.fixed(d.X), d.weights
    Z = [
        z @ np.kron(np.eye(f.n_levels), np.linalg.inv(basis.Rq[j]))
        for j, (f, z) in enumerate(zip(d.factors, case.Z, strict=True))
    ]
    products = tuple(
        (z.T @ (w * y)).reshape(shape) for z, shape in zip(Z, gram.shapes, strict=True)
    )
    swapped = gram.with_response(products, X.T @ (w * y), float(y @ (w * y)))
    direct = case.with_design(y=d.offset + d.X[:, basis.kept] @ basis.beta0 + y)
    assert_same(swapped, Gram.from_design(direct.design, case.terms, basis), rtol=1e-10)
    assert_same(gram, case.gram)


def test_grams_travel_between_processes():
    """Batches are cross-multiplied elsewhere and merged here: the basis comes back as a copy."""
    case = CASES["crossed"]
    basis = case.gram.basis
    a, b = (
        Gram.from_design(case.rows(rows).design, case.terms, basis)
        for rows in (np.arange(30), np.arange(30, case.design.n))
    )
    assert_same(merge(pickle.loads(pickle.dumps(a)), pickle.loads(pickle.dumps(b))), case.gram)


def test_a_column_that_appears_late_is_not_lost(rng):
    """A predictor that is constant in the first batch is no reason to drop it from the model."""
    n = 90
    g = rng.permutation(np.arange(n) % 9)
    case = make_case(rng, [factor(g)], p=3)
    X = case.design.X.copy()
    X[:40, 2] = 0.0
    X[:20, 1] = 1.0
    case = case.with_design(X=X)
    batches = [case.rows(rows).design for rows in np.split(np.arange(n), [20, 40])]
    gram = Gram.from_batches(batches, case.terms)
    T = random_T(rng, case.model)
    for x, y in zip(value(gram, case, T), value(case.gram, case, T), strict=True):
        assert_allclose(x, y, rtol=1e-9)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_first_batch_of_nearly_nothing(first):
    case = CASES[WEIGHTED]
    rows = np.split(np.arange(case.design.n), [first, 30])
    gram = Gram.from_batches([case.rows(r).design for r in rows], case.terms)
    T = random_T(np.random.default_rng(1), case.model)
    for x, y in zip(value(gram, case, T), value(case.gram, case, T), strict=True):
        assert_allclose(x, y, rtol=1e-8)


def test_counts_and_bytes():
    gram = CASES["crossed vector"].gram
    assert gram.q == sum(levels * s for levels, s in gram.shapes)
    assert gram.p == 2
    assert gram.nbytes > 8 * gram.q
