"""Random patterns around a leading factor as records, and dense algebra on them."""

from __future__ import annotations

import numpy as np

from sparselmm.kernels.partners import transpose_pattern
from sparselmm.systems.leading import Leading

SHAPES = [
    ((30, 1),),
    ((25, 1), (6, 1)),
    ((12, 2), (9, 1), (4, 3)),
    ((7, 3), (40, 1)),
    ((300, 1), (20, 2)),
]


def make_record(partners, edges, shapes, s1):
    """A `Leading` with the given levels as partners and pairs of levels in A22."""
    width = np.repeat([s for _, s in shapes], [levels for levels, _ in shapes])
    first = np.concatenate([[0], np.cumsum(width)])
    n = int(first[-1])
    spread = [np.arange(first[v], first[v + 1]) for v in range(len(width))]
    lists = [[spread[v] for v in sorted(set(levels))] for levels in partners]
    cols = np.concatenate([c for found in lists for c in found]).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum([sum(map(len, found)) for found in lists])])
    met = np.eye(len(width), dtype=bool)
    for a, b in edges:
        met[a, b] = met[b, a] = True
    level = np.repeat(np.arange(len(width)), width)
    a22_rows, a22_cols = np.nonzero(np.tril(met[np.ix_(level, level)]))
    a22_ptr = np.searchsorted(a22_rows, np.arange(n + 1)).astype(np.int64)
    D = np.tile(np.eye(s1), (len(partners), 1, 1))
    rest = tuple(range(1, len(shapes) + 1))
    view = transpose_pattern(indptr, cols, n)
    order = np.arange(len(a22_cols))
    return Leading(
        0, rest, D, indptr, cols, (), (), *view,
        a22_ptr, a22_cols.astype(np.int32), order, (), shapes,
    )  # fmt: skip


def random_leading(rng, shapes, s1, n_levels=60, reach=3):
    """Random partners; some leading levels have none."""
    n = sum(levels for levels, _ in shapes)
    partners = [rng.choice(n, rng.integers(0, reach + 1), replace=False) for _ in range(n_levels)]
    return make_record([[], *partners], rng.integers(0, n, (n, 2)), shapes, s1)


def local_leading(rng, n=700, far=5):
    """Firms joined by movers between neighbours and a few distant ones."""
    home = rng.integers(0, n, 3 * n)
    partners = [[a, min(a + rng.integers(0, 4), n - 1)] for a in home]
    return make_record([*partners, *rng.integers(0, n, (far, 2))], [], ((n, 1),), 1)


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
    flat = dense_G(lead, G).transpose(0, 2, 1).reshape(-1, lead.n_S)
    return S - flat.T @ flat


def expected(lead, G, a22):
    """S^-1, its diagonal blocks, and G_l S^-1 G_l'."""
    inverse = np.linalg.inv(dense_S(lead, G, a22))
    blocks, offset = [], 0
    for levels, s in lead.shapes:
        at = (offset + np.arange(levels * s)).reshape(levels, s)
        blocks.append(inverse[at[:, :, None], at[:, None, :]])
        offset += levels * s
    full = dense_G(lead, G)
    return inverse, blocks, full.transpose(0, 2, 1) @ inverse @ full


def assert_agrees(store, lead, G, a22, rng):
    found = store.factor(G, a22)
    inverse, blocks, forms = expected(lead, G, a22)
    R = rng.normal(size=(lead.n_S, 3))
    logdet = np.linalg.slogdet(dense_S(lead, G, a22))[1]
    np.testing.assert_allclose(found.logdet, logdet, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found.solve(R), inverse @ R, rtol=1e-9, atol=1e-12)
    partial = found.inverse()
    for mine, theirs in zip(partial.diagonal_blocks(), blocks, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(partial.partner_forms(), forms, rtol=1e-9, atol=1e-11)


def symbolic_fill(pattern):
    """Lower triangle of the pattern of L, by elimination."""
    met = pattern.copy()
    for k in range(len(met)):
        below = np.flatnonzero(met[k + 1 :, k]) + k + 1
        met[np.ix_(below, below)] = True
    return np.tril(met)
