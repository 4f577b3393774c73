"""Symbolic factorisation and selected inverse against dense algebra; CHOLMOD is not needed."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm.kernels import selinv, supernodes
from sparselmm.kernels.partners import transpose_pattern
from tests.systems.records import symbolic_fill


def parents(filled):
    n = len(filled)
    return np.array([next((i for i in range(j + 1, n) if filled[i, j]), -1) for j in range(n)])


def random_matrix(rng, n, density):
    """Positive definite with a random pattern, in postorder."""
    A = np.where(rng.random((n, n)) < density, rng.normal(size=(n, n)), 0.0)
    A = A + A.T + 2.0 * n * density * np.eye(n) + 2.0 * np.eye(n)
    order = supernodes.postorder(parents(symbolic_fill(A != 0)))
    return A[np.ix_(order, order)]


def by_column(lower):
    """Lower triangle by column: pointers, rows, values."""
    cols, rows = np.nonzero(lower.T)
    ptr = np.searchsorted(cols, np.arange(len(lower) + 1)).astype(np.int64)
    return ptr, rows.astype(np.int32), lower[rows, cols]


def analyse(A, slack=0.1, narrow=4, widest=128):
    """Everything that `selinv` needs, from the pattern of A."""
    ptr, ind, _ = by_column(np.tril(A))
    rowptr, rowind, _ = transpose_pattern(ptr, ind, len(A))
    parent = supernodes.elimination_tree(rowptr, rowind)
    counts = supernodes.column_counts(ptr, ind, parent)
    begin = supernodes.merge_supernodes(parent, counts, slack, narrow)
    up = supernodes.supernode_tree(begin, parent, supernodes.column_owners(begin))
    heights = counts[begin[1:] - 1] - 1
    rowptr, rows = supernodes.supernode_rows(ptr, ind, begin, up, heights)
    begin, rowptr, rows = supernodes.split_supernodes(begin, rowptr, rows, widest)
    owner = supernodes.column_owners(begin)
    up = supernodes.panel_tree(rowptr, rows, owner)
    return parent, counts, begin, up, owner, rowptr, rows


def selected_inverse(A, share=0.2, **options):
    """Z on the lower triangle of the pattern of A."""
    _, _, begin, up, owner, rowptr, rows = analyse(A, **options)
    w, r = np.diff(begin), np.diff(rowptr)
    panel = np.concatenate([[0], np.cumsum(w * (w + r))])
    Z = np.empty(panel[-1])
    runs = np.unique([0, len(w) // 2, len(w)])
    ptr, ind, val = by_column(np.linalg.cholesky(A))
    selinv.load_panels(runs, begin, rowptr, rows, panel, ptr, ind, val, Z)
    order, bounds = supernodes.independent_tasks(up, (w * (w + r)).astype(float), share)
    assert sorted(order) == list(range(len(w)))
    tree = (begin, owner, rowptr, rows, panel)
    selinv.invert_panels(order[: bounds[0]], *tree, Z)
    selinv.invert_subtrees(order, bounds, *tree, Z)
    ptr, ind, _ = by_column(np.tril(A))
    out = np.empty(len(ind))
    selinv.read_inverse(runs, ptr, ind, begin, rowptr, rows, panel, Z, out)
    return ptr, ind, out


CASES = [(1, 0.5), (2, 0.0), (30, 0.0), (40, 0.03), (60, 0.05), (80, 0.02), (50, 0.5), (25, 1.0)]


@pytest.mark.parametrize("n", [1, 2, 40])
def test_postorder_keeps_subtrees_together(rng, n):
    parent = np.array([rng.integers(j + 1, n + 1) for j in range(n)])
    parent[parent == n] = -1
    order = supernodes.postorder(parent)
    place = np.argsort(order)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    for j in range(n):
        subtree = [j]
        for i in range(j):
            above = i
            while above >= 0 and above != j:
                above = parent[above]
            subtree += [i] if above == j else []
        assert sorted(place[subtree]) == list(range(place[j] - len(subtree) + 1, place[j] + 1))
    moved = np.where(parent[order] >= 0, place[parent[order]], -1)
    np.testing.assert_array_equal(supernodes.postorder(moved), np.arange(n))


@pytest.mark.parametrize(("n", "density"), CASES)
def test_tree_and_counts(rng, n, density):
    A = random_matrix(rng, n, density)
    filled = symbolic_fill(A != 0)
    parent, counts, *_ = analyse(A)
    np.testing.assert_array_equal(parent, parents(filled))
    np.testing.assert_array_equal(counts, filled.sum(axis=0))


@pytest.mark.parametrize(("n", "density"), CASES)
@pytest.mark.parametrize(("slack", "narrow", "widest"), [(0.0, 0, 1000), (0.3, 8, 5), (1.0, 99, 7)])
def test_supernodes_cover_the_factor(rng, n, density, slack, narrow, widest):
    A = random_matrix(rng, n, density)
    filled = symbolic_fill(A != 0)
    _, _, begin, up, owner, rowptr, rows = analyse(A, slack, narrow, widest)
    held = np.zeros_like(filled)
    for s in range(len(begin) - 1):
        below = rows[rowptr[s] : rowptr[s + 1]]
        assert (np.diff(below) > 0).all()
        assert begin[s + 1] - begin[s] <= widest
        held[begin[s] : begin[s + 1], begin[s] : begin[s + 1]] = True
        held[np.ix_(below, range(begin[s], begin[s + 1]))] = True
        assert up[s] == (owner[below[0]] if len(below) else -1)
    assert (np.tril(held) >= filled).all()
    if slack == 0.0:
        np.testing.assert_array_equal(np.tril(held), filled)


@pytest.mark.parametrize(("n", "density"), CASES)
@pytest.mark.parametrize("options", [{}, {"slack": 0.0, "narrow": 0}, {"slack": 1.0, "widest": 6}])
def test_selected_inverse_is_the_inverse(rng, n, density, options):
    A = random_matrix(rng, n, density)
    ptr, ind, found = selected_inverse(A, **options)
    columns = np.repeat(np.arange(n), np.diff(ptr))
    np.testing.assert_allclose(found, np.linalg.inv(A)[ind, columns], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_selected_inverse_does_not_depend_on_the_tasks(rng, share):
    A = random_matrix(rng, 120, 0.01)
    _, _, found = selected_inverse(A, share)
    _, _, whole = selected_inverse(A, 0.5)
    np.testing.assert_array_equal(found, whole)


def test_panels_wide_enough_for_blas(rng):
    """One front of several pieces: every product goes through BLAS."""
    A = random_matrix(rng, 300, 0.9)
    ptr, ind, found = selected_inverse(A, widest=96)
    columns = np.repeat(np.arange(300), np.diff(ptr))
    np.testing.assert_allclose(found, np.linalg.inv(A)[ind, columns], rtol=1e-8, atol=1e-13)
