"""The sparse store against dense algebra on random patterns, and what it says without CHOLMOD."""

from __future__ import annotations

import pickle
import sys
import types

import numpy as np
import pytest

from sparselmm.errors import PathError
from sparselmm.systems import cholmod
from sparselmm.systems.sparse import available, estimate_entries, make_sparse, plan_sparse
from tests.systems.records import (
    SHAPES,
    assert_agrees,
    dense_S,
    expected,
    local_leading,
    make_record,
    random_leading,
    random_values,
    symbolic_fill,
)

needs_cholmod = pytest.mark.skipif(not available(), reason="scikit-sparse is not installed")


@needs_cholmod
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("s1", [1, 2, 3])
def test_agrees_with_dense_algebra(rng, shapes, s1):
    lead = random_leading(rng, shapes, s1)
    assert_agrees(make_sparse(lead), lead, *random_values(rng, lead), rng)


@needs_cholmod
@pytest.mark.parametrize("ordering", ["amd", "metis", "nesdis", "natural"])
def test_agrees_in_every_order(rng, ordering):
    lead = local_leading(rng)
    plan = plan_sparse(lead, () if ordering == "natural" else (ordering,))
    assert plan.analysis.ordering in (ordering, "natural")
    assert_agrees(make_sparse(lead, plan), lead, *random_values(rng, lead), rng)


@needs_cholmod
def test_wide_supernodes_and_subtrees(rng):
    """A dense corner beyond the widest supernode, above subtrees that are left to threads."""
    lead = local_leading(rng, n=900, far=1)
    corner = [rng.choice(np.arange(0, 900, 3), 250, replace=False)]
    partners = np.split(lead.cols, lead.indptr[1:-1])
    lead = make_record([*partners, *corner], [], lead.shapes, 1)
    store = make_sparse(lead)
    assert len(store.plan.panels.bounds) > 1
    assert np.diff(store.plan.panels.begin).max() == 128
    assert_agrees(store, lead, *random_values(rng, lead), rng)


@needs_cholmod
@pytest.mark.parametrize("shapes", [SHAPES[1], SHAPES[2]])
def test_zero_theta_keeps_the_analysis(rng, shapes):
    """S is the identity where a theta is zero; the pattern does not shrink."""
    lead = random_leading(rng, shapes, 2)
    store = make_sparse(lead)
    diagonal = lead.A22_cols == np.repeat(np.arange(lead.n_S), np.diff(lead.A22_ptr))
    nothing = np.zeros((len(lead.cols), 2))
    found = store.factor(nothing, diagonal.astype(float))
    assert found.logdet == 0.0
    for block, (_, s) in zip(found.inverse().diagonal_blocks(), shapes, strict=True):
        np.testing.assert_array_equal(block, np.broadcast_to(np.eye(s), block.shape))
    assert_agrees(store, lead, *random_values(rng, lead), rng)


@needs_cholmod
def test_labels_of_levels_do_not_matter(rng):
    n = 40
    partners = [rng.choice(n, 3, replace=False) for _ in range(80)]
    new = rng.permutation(n)
    one = make_record(partners, [], ((n, 1),), 1)
    two = make_record([new[p] for p in partners], [], ((n, 1),), 1)
    dense = 0.1 * rng.random((80, n))
    G_one = dense[np.repeat(np.arange(80), np.diff(one.indptr)), one.cols][:, None]
    G_two = dense[np.repeat(np.arange(80), np.diff(two.indptr)), np.argsort(new)[two.cols]][:, None]
    a = make_sparse(one).factor(G_one, np.full(n, 5.0))
    b = make_sparse(two).factor(G_two, np.full(n, 5.0))
    np.testing.assert_allclose(a.logdet, b.logdet, rtol=1e-13)
    p, q = a.inverse(), b.inverse()
    np.testing.assert_allclose(
        p.diagonal_blocks()[0], q.diagonal_blocks()[0][new], rtol=1e-12, atol=0
    )
    np.testing.assert_allclose(p.partner_forms(), q.partner_forms(), rtol=1e-12, atol=0)


@needs_cholmod
def test_another_theta_changes_nothing(rng):
    lead = random_leading(rng, SHAPES[1], 1)
    store = make_sparse(lead)
    G, a22 = random_values(rng, lead)
    first = store.factor(G, a22)
    store.factor(0.5 * G, 2.0 * a22)
    inverse, _, forms = expected(lead, G, a22)
    R = np.eye(lead.n_S)
    np.testing.assert_allclose(first.solve(R), inverse, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(first.inverse().partner_forms(), forms, rtol=1e-9, atol=1e-12)


@needs_cholmod
def test_not_positive_gives_nan(rng):
    lead = random_leading(rng, SHAPES[1], 1)
    G, a22 = random_values(rng, lead)
    found = make_sparse(lead).factor(G, a22 - 100.0)
    assert np.isnan(found.logdet)
    assert np.isnan(found.solve(np.ones((lead.n_S, 1)))).all()
    assert all(np.isnan(block).all() for block in found.inverse().diagonal_blocks())


@needs_cholmod
def test_store_survives_pickle(rng):
    lead = random_leading(rng, SHAPES[2], 2)
    store = pickle.loads(pickle.dumps(make_sparse(lead)))
    assert_agrees(store, lead, *random_values(rng, lead), rng)


@needs_cholmod
@pytest.mark.parametrize("shapes", SHAPES)
def test_analysis_counts_what_the_factor_holds(rng, shapes):
    lead = random_leading(rng, shapes, 1)
    plan = plan_sparse(lead)
    found = plan.analysis
    G, a22 = random_values(rng, lead)
    S = dense_S(lead, np.abs(G), np.abs(a22) + 1.0)
    assert found.n == lead.n_S
    assert found.entries == np.count_nonzero(np.tril(S))
    d = np.diff(lead.indptr)
    assert found.pair_updates == (d * (d + 1) // 2).sum()
    order = np.argsort(plan.pattern.place)
    filled = symbolic_fill(S[np.ix_(order, order)] != 0)
    assert found.factor_entries == filled.sum()
    assert found.factor_flops == (filled.sum(axis=0).astype(float) ** 2).sum()
    assert found.fill <= 1.0
    np.testing.assert_allclose(estimate_entries(lead, 10_000), found.entries, rtol=0.6)


def test_without_scikit_sparse_the_message_has_the_commands(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "sksparse", None)
    assert not available()
    with pytest.raises(PathError, match="apt install libsuitesparse-dev") as error:
        make_sparse(random_leading(rng, SHAPES[0], 1))
    text = str(error.value)
    assert "brew install" in text
    assert "conda install" in text
    assert 'pip install "sparselmm[cholmod]"' in text


def test_a_later_interface_is_named(monkeypatch):
    package = types.ModuleType("sksparse")
    package.cholmod = types.ModuleType("sksparse.cholmod")
    monkeypatch.setitem(sys.modules, "sksparse", package)
    monkeypatch.setitem(sys.modules, "sksparse.cholmod", package.cholmod)
    assert not available()
    with pytest.raises(PathError, match="interface of 0.5"):
        cholmod.order(np.array([0, 1]), np.array([0], np.int32), "amd")
