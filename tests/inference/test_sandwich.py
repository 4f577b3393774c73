"""Cluster-robust covariance: the dense formula, clubSandwich, unbiasedness, several ways, messages."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.inference.sandwich import positive_part
from tests.inference.test_information import boundary_data, regular_data
from tests.reference import dense_z, repeat

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")

# clubSandwich 0.6 on lmer(Reaction ~ Days + (Days | Subject)); balanced, so that all roots of CR2 agree
CLUB = {
    "CR0": [[43.987096, -1.370479], [-1.370479, 2.256715]],
    "CR1": [[46.574572, -1.451096], [-1.451096, 2.389463]],
    "CR2": [[46.574572, -1.451096], [-1.451096, 2.389463]],
    "CR3": [[49.314253, -1.536454], [-1.536454, 2.530020]],
}


def dense_parts(fit):
    """X, H and the residuals y - X beta."""
    design = fit.design
    w = np.ones(design.n) if design.weights is None else design.weights
    H = np.diag(1.0 / w)
    for factor, t in zip(design.factors, fit.T, strict=True):
        z = dense_z(factor.codes, factor.Q, factor.n_levels)
        H += z @ repeat(t @ t.T, z) @ z.T
    return design.X, H, design.y - design.X @ fit.beta


def dense_cr0(fit, labels):
    X, H, e = dense_parts(fit)
    G = np.linalg.solve(H, X)
    bread = np.linalg.inv(X.T @ G)
    scores = np.array([G[labels == c].T @ e[labels == c] for c in np.unique(labels)])
    return bread @ scores.T @ scores @ bread


@pytest.mark.parametrize("kind", CLUB)
def test_values_of_clubsandwich(sleepstudy, kind):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    np.testing.assert_allclose(fit.cov_robust("Subject", kind), CLUB[kind], rtol=3e-7)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("formula", ["y ~ x + z + (x | g)", "y ~ x + z + (x | g) + (1 | h)"])
def test_one_way_is_the_dense_formula(formula, weights):
    data = regular_data()
    fit = slm.lmm(formula, data, weights=weights)
    expected = dense_cr0(fit.fit, data["g"].to_numpy())
    np.testing.assert_allclose(fit.cov_robust("g", "CR0"), expected, rtol=1e-8)
    np.testing.assert_allclose(fit.cov_robust("g"), expected * 12 / 11, rtol=1e-8)
    outside = np.arange(96) // 7
    found = fit.cov_robust(outside, "CR0")
    np.testing.assert_allclose(found, dense_cr0(fit.fit, outside), rtol=1e-8)


def test_cr2_is_unbiased_under_the_model_and_cr3_is_the_block_inverse():
    """Var(A e) = H within clusters for CR2; A = (I - X M^-1 X'H^-1)^-1 for CR3."""
    data = regular_data()
    fit = slm.lmm("y ~ x + z + (x | g)", data, weights="w")
    X, H, e = dense_parts(fit.fit)
    M = X.T @ np.linalg.solve(H, X)
    bread = np.linalg.inv(M)
    meat2, meat3 = np.zeros((2, 3, 3))
    for c in range(12):
        own = (data["g"] == c).to_numpy()
        L = np.linalg.cholesky(H[np.ix_(own, own)])
        whitened = np.linalg.solve(L, X[own])
        left = np.eye(own.sum()) - whitened @ bread @ whitened.T
        values, vectors = np.linalg.eigh(left)
        residual = np.linalg.solve(L, e[own])
        for power, meat in ((-0.5, meat2), (-1.0, meat3)):
            score = whitened.T @ (vectors * values**power) @ vectors.T @ residual
            meat += np.outer(score, score)
    np.testing.assert_allclose(fit.cov_robust("g", "CR2"), bread @ meat2 @ bread, rtol=1e-8)
    np.testing.assert_allclose(fit.cov_robust("g", "CR3"), bread @ meat3 @ bread, rtol=1e-8)


def test_several_ways_add_and_subtract():
    data = regular_data()
    fit = slm.lmm("y ~ x + (x | g) + (1 | h)", data)
    third = np.arange(96) % 7
    ways = [data["g"].to_numpy(), data["h"].to_numpy(), third]
    total = np.zeros((2, 2))
    for size in (1, 2, 3):
        for chosen in combinations(ways, size):
            labels = np.unique(np.column_stack(chosen), axis=0, return_inverse=True)[1].ravel()
            total += (-1) ** (size + 1) * dense_cr0(fit.fit, labels)
    found = fit.cov_robust(["g", "h", third], "CR0").to_numpy()
    np.testing.assert_allclose(found, positive_part(total), rtol=1e-7)
    assert np.linalg.eigvalsh(found).min() > -1e-12
    np.testing.assert_allclose(fit.cov_robust(["g"]), fit.cov_robust("g"), rtol=1e-12)


def test_one_cluster_per_row_is_whites_estimator(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy)
    found = fit.cov_robust(np.arange(180), "CR0")
    np.testing.assert_allclose(found, dense_cr0(fit.fit, np.arange(180)), rtol=1e-8)


def test_labels_are_matched_by_index_and_rows_left_out_do_not_count(sleepstudy):
    data = sleepstudy.assign(Reaction=sleepstudy.Reaction.mask(sleepstudy.index == 5))
    data.index = [f"row {i}" for i in data.index]
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", data)
    np.testing.assert_allclose(
        fit.cov_robust(data["Subject"].sample(frac=1.0, random_state=1)), fit.cov_robust("Subject")
    )


def test_dropped_columns_are_missing(sleepstudy):
    data = sleepstudy.assign(twice=2.0 * sleepstudy.Days)
    with pytest.warns(slm.RankWarning):
        fit = slm.lmm("Reaction ~ Days + twice + (1 | Subject)", data)
    found = fit.cov_robust("Subject")
    assert found.isna().to_numpy().sum() == 5
    assert list(found.index) == ["Intercept", "Days", "twice"]


def test_messages(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    with pytest.raises(slm.InferenceError, match=r"^Found kind='HC1'; expected one of 'CR0'"):
        fit.cov_robust("Subject", "HC1")
    with pytest.raises(
        slm.InferenceError, match=r"'Days', which is no grouping factor .*'Subject'"
    ):
        fit.cov_robust("Days")
    with pytest.raises(
        slm.InferenceError, match=r"of shape \(3,\); expected one label for each of the 180"
    ):
        fit.cov_robust(np.arange(3))
    with pytest.raises(slm.InferenceError, match=r"^Found 1 rows without a cluster"):
        fit.cov_robust(pd.Series(np.arange(179), index=np.arange(179)))
    with pytest.raises(slm.InferenceError, match=r"^Found one cluster; expected at least two"):
        fit.cov_robust(np.zeros(180))
    with pytest.raises(slm.InferenceError, match="with 2 ways; it is defined for one"):
        fit.cov_robust(["Subject", np.arange(180) % 4], "CR2")
    crossed = slm.lmm("y ~ x + (1 | g) + (1 | h)", boundary_data())
    with pytest.raises(slm.InferenceError, match="clusters that share random effects"):
        crossed.cov_robust("g", "CR3")


def test_a_cluster_that_alone_determines_a_coefficient(sleepstudy):
    data = sleepstudy.assign(first=(sleepstudy.Subject == "308").astype(float))
    fit = slm.lmm("Reaction ~ Days + first + (1 | Subject)", data)
    with pytest.raises(slm.InferenceError, match="Found 1 clusters without which some coefficient"):
        fit.cov_robust("Subject", "CR2")
    assert np.isfinite(fit.cov_robust("Subject", "CR1").to_numpy()).all()
