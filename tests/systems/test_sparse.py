"""The sparse store against dense algebra on random patterns, and what it says without CHOLMOD."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm.errors import PathError
from sparselmm.kernels.sparse_schur import transpose_pattern
from sparselmm.systems import cholmod
from sparselmm.systems.leading import Leading
from sparselmm.systems.sparse import available, estimate_entries, make_sparse, plan_sparse

needs_cholmod = pytest.mark.skipif(not available(), reason="scikit-sparse is not installed")

SHAPES = [
    ((30, 1),),
    ((25, 1), (6, 1)),
    ((12, 2), (9, 1), (4, 3)),
    ((7, 3), (40, 1)),
    ((300, 1), (20, 2)),
]


def random_leading(rng, shapes, s1, n_levels=60, reach=3):
    """A record with random partners (some levels have none) and the dense patterns it stands for."""
    width = np.repeat([s for _, s in shapes], [levels for levels, _ in shapes])
    first = np.concatenate([[0], np.cumsum(width)])
    n = int(first[-1])
    lists = [
        rng.choice(len(width), rng.integers(0, reach + 1), replace=False) for _ in range(n_levels)
    ]
    cols = [
        np.concatenate([np.arange(first[v], first[v + 1]) for v in np.sort(x)] or [[]])
        for x in lists
    ]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in cols])]).astype(np.int64)
    cols = np.concatenate(cols).astype(np.int32)
    level = np.repeat(np.arange(len(width)), width)
    joined = np.tril(rng.random((len(width),) * 2) < 1.5 / len(width)) | np.eye(
        len(width), dtype=bool
    )
    pattern = np.tril(joined[np.ix_(level, level)])
    a22_rows, a22_cols = np.nonzero(pattern)
    a22_ptr = np.searchsorted(a22_rows, np.arange(n + 1)).astype(np.int64)
    colptr, rows, positions = transpose_pattern(indptr, cols, n)
    return Leading(
        0, tuple(range(1, len(shapes) + 1)), np.tile(np.eye(s1), (n_levels, 1, 1)), indptr, cols, (), (),
        colptr, rows, positions, a22_ptr, a22_cols.astype(np.int32), np.arange(len(a22_cols)), (), shapes,
    )  # fmt: skip


def random_values(rng, lead):
    """G and A22 with S positive definite."""
    G = rng.normal(size=(len(lead.cols), lead.D.shape[1]))
    a22 = rng.normal(size=len(lead.A22_cols))
    diagonal = lead.A22_cols == np.repeat(np.arange(lead.n_S), np.diff(lead.A22_ptr))
    a22[diagonal] += 0.5 - np.linalg.eigvalsh(dense_S(lead, G, a22))[0]
    return G, a22


def dense_G(lead, G):
    out = np.zeros((len(lead.D), lead.n_S, lead.D.shape[1]))
    level = np.repeat(np.arange(len(lead.D)), np.diff(lead.indptr))
    out[level, lead.cols] = G
    return out


def dense_S(lead, G, a22):
    S = np.zeros((lead.n_S, lead.n_S))
    S[np.repeat(np.arange(lead.n_S), np.diff(lead.A22_ptr)), lead.A22_cols] = a22
    S = S + np.tril(S, -1).T
    full = dense_G(lead, G)
    return S - np.einsum("lak,lbk->ab", full, full)


def expected(lead, G, a22):
    inverse = np.linalg.inv(dense_S(lead, G, a22))
    blocks, offset = [], 0
    for levels, s in lead.shapes:
        at = (offset + np.arange(levels * s)).reshape(levels, s)
        blocks.append(inverse[at[:, :, None], at[:, None, :]])
        offset += levels * s
    full = dense_G(lead, G)
    return inverse, blocks, np.einsum("lai,ab,lbj->lij", full, inverse, full)


def assert_agrees(store, lead, G, a22, rng):
    found = store.factor(G, a22)
    inverse, blocks, forms = expected(lead, G, a22)
    R = rng.normal(size=(lead.n_S, 3))
    np.testing.assert_allclose(
        found.logdet, np.linalg.slogdet(dense_S(lead, G, a22))[1], rtol=1e-12
    )
    np.testing.assert_allclose(found.solve(R), inverse @ R, rtol=1e-9, atol=1e-12)
    partial = found.inverse()
    for mine, theirs in zip(partial.diagonal_blocks(), blocks, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(partial.partner_forms(), forms, rtol=1e-9, atol=1e-13)


@needs_cholmod
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("s1", [1, 2, 3])
def test_agrees_with_dense_algebra(rng, shapes, s1):
    lead = random_leading(rng, shapes, s1)
    assert_agrees(make_sparse(lead), lead, *random_values(rng, lead), rng)
