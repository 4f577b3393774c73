"""The dense store, whole and with a sparse head, against dense algebra on random patterns."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sparselmm.kernels import bitsets
from sparselmm.systems import elimination
from sparselmm.systems.crossed import make_crossed
from sparselmm.systems.elimination import plan_elimination
from tests.systems.records import (
    SHAPES,
    assert_agrees,
    dense_S,
    local_leading,
    random_leading,
    random_values,
    symbolic_fill,
)


@pytest.fixture
def always(monkeypatch):
    """Take a head whether it pays or not."""
    monkeypatch.setattr(elimination, "WORTH", np.inf)


def pattern_of(lead):
    """Rows of S as bits, and as a dense matrix."""
    bits = bitsets.joint_pattern(lead.indptr, lead.cols, lead.A22_ptr, lead.A22_cols)
    return bits, dense(bits)


def dense(bits):
    return np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : len(bits)] == 1


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("s1", [1, 2, 3])
@pytest.mark.parametrize("full", [0.0, 0.6, 1.1])
def test_agrees_with_dense_algebra(rng, shapes, s1, full, always, monkeypatch):
    monkeypatch.setattr(elimination, "FULL", full)
    lead = random_leading(rng, shapes, s1)
    plan = plan_elimination(lead)
    assert (full == 0.0) == (plan.n_head == 0)
    assert plan.n_head == lead.n_S - 1 or full <= 1.0
    assert_agrees(make_crossed(lead, plan), lead, *random_values(rng, lead), rng)
    assert_agrees(make_crossed(lead), lead, *random_values(rng, lead), rng)


def test_wide_supernodes_above_subtrees(rng, always):
    lead = local_leading(rng, n=500)
    plan = plan_elimination(lead)
    assert len(plan.tasks) > 2
    assert np.diff(plan.begin).max() > 8
    store = pickle.loads(pickle.dumps(make_crossed(lead, plan)))
    assert_agrees(store, lead, *random_values(rng, lead), rng)


@pytest.mark.parametrize("n", [63, 64, 65, 200])
def test_pattern_of_s(rng, n):
    lead = random_leading(rng, ((n, 1),), 1)
    shared = np.zeros((len(lead.D), n), bool)
    shared[np.repeat(np.arange(len(lead.D)), np.diff(lead.indptr)), lead.cols] = True
    met = shared.T @ shared
    met[np.repeat(np.arange(n), np.diff(lead.A22_ptr)), lead.A22_cols] = True
    assert_array_equal(pattern_of(lead)[1], met | met.T)


def test_columns_go_by_their_neighbours(rng):
    """The fill is that of elimination in the order found, and every column had the fewest neighbours left."""
    bits, met = pattern_of(random_leading(rng, ((120, 1),), 1, n_levels=90, reach=6))
    order, count = bitsets.eliminate_smallest(bits, 0.7)
    assert_array_equal(np.sort(order), np.arange(120))
    assert 0 < count < 120
    left = met.copy()
    for k in range(count):
        alive = order[k:]
        sizes = left[np.ix_(alive, alive)].sum(axis=1)
        assert sizes[0] == sizes.min()
        assert sizes[0] < 0.7 * len(alive)
        neighbours = np.flatnonzero(left[order[k]] & np.isin(np.arange(120), alive[1:]))
        left[np.ix_(neighbours, neighbours)] = True
    alive = order[count:]
    assert left[np.ix_(alive, alive)].sum(axis=1).min() >= 0.7 * len(alive)
    filled = symbolic_fill(met[np.ix_(order, order)])
    below = dense(bits)[np.ix_(order[:count], order)]
    assert_array_equal(below, np.tril(filled, -1)[:, :count].T)


def test_a_head_is_taken_where_it_pays(rng):
    sparse = plan_elimination(random_leading(rng, ((400, 1),), 1, n_levels=400))
    assert sparse.n_head > 200
    assert sparse.flops < 0.1 * 400**3
    full = random_leading(rng, ((400, 1),), 1, n_levels=400, reach=100)
    assert plan_elimination(full) is None


def test_pairs_off_the_pattern_are_not_held(rng, always, monkeypatch):
    lead = random_leading(rng, ((80, 1),), 1)
    store = make_crossed(lead, plan_elimination(lead))
    G, A22 = random_values(rng, lead)
    factor = store.factor(G, A22)
    monkeypatch.setattr(np, "empty_like", lambda a: np.full(a.shape, np.nan))
    found = factor.inverse()
    monkeypatch.undo()
    S = dense_S(lead, G, A22)
    at = store.layout.local
    held = np.full(S.shape, np.nan)
    held[np.ix_(np.argsort(at), np.argsort(at))] = found.flat.reshape(S.shape)
    held = np.where(at[:, None] >= at, held, held.T)
    known = np.isfinite(held)
    assert known[S != 0.0].all()
    assert not known.all()
    assert_allclose(held[known], np.linalg.inv(S)[known], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("by", [100.0, np.nan])
def test_not_positive_gives_nan(rng, always, by):
    lead = random_leading(rng, SHAPES[1], 1)
    G, A22 = random_values(rng, lead)
    found = make_crossed(lead, plan_elimination(lead)).factor(G, A22 - by)
    assert np.isnan(found.logdet)
    assert np.isnan(found.solve(np.ones((lead.n_S, 1)))).any()
