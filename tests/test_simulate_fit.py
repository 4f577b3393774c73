"""Simulated responses: their moments, their labels, and what they are refused for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.errors import InferenceError
from sparselmm.refits.responses import (
    cross_products,
    draw_rows,
    make_rows,
    normal_source,
    user_shift,
)
from tests.reference import dense_z, repeat


@pytest.fixture(scope="module")
def weighted():
    data = slm.load_dataset("sleepstudy").assign(
        w=lambda d: 1.0 + d["Days"] % 3, o=lambda d: 0.1 * d["Days"]
    )
    data.index = [f"row {i}" for i in range(len(data))]
    return slm.lmm("Reaction ~ Days + (Days | Subject)", data, weights="w", offset="o")


def covariance(fit):
    """Var(y), dense."""
    design = fit.design
    V = np.diag(1.0 / (np.ones(fit.n) if design.weights is None else design.weights))
    for factor, T in zip(design.factors, fit.T, strict=True):
        Z = dense_z(factor.codes, factor.Q, factor.n_levels)
        V = V + Z @ repeat(T @ T.T, Z) @ Z.T
    return fit.sigma2 * V


def test_moments(weighted):
    Y = weighted.simulate(20_000, rng=3).to_numpy()
    fit = weighted.fit
    mean = fit.design.X @ fit.beta + fit.design.offset
    V = covariance(fit)
    error = np.sqrt(np.diag(V) / Y.shape[1])
    assert np.abs((Y.mean(axis=1) - mean) / error).max() < 4.5
    scale = np.sqrt(np.outer(np.diag(V), np.diag(V)))
    assert np.abs(np.cov(Y) - V).max() < 6.0 * (scale * np.sqrt(2.0 / Y.shape[1])).max()


def test_conditional_moments(weighted):
    Y = weighted.simulate(4000, rng=4, random="conditional").to_numpy()
    sd = weighted.sigma / np.sqrt(weighted.fit.design.weights)
    z = (Y.mean(axis=1) - weighted.fittedvalues) / sd * np.sqrt(Y.shape[1])
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(Y.std(axis=1), sd, rtol=0.08)


def test_labels_and_seeds(weighted):
    one = weighted.simulate(3, rng=5)
    assert list(one.index[:2]) == ["row 0", "row 1"]
    assert list(one.columns) == [0, 1, 2]
    pd.testing.assert_frame_equal(one, weighted.simulate(3, rng=np.random.default_rng(5)))


def test_blocks_do_not_matter(weighted, monkeypatch):
    whole = weighted.simulate(7, rng=6)
    monkeypatch.setattr("sparselmm.refits.responses.BLOCK", 1)
    pd.testing.assert_frame_equal(whole, weighted.simulate(7, rng=6))


@pytest.mark.parametrize("nsim", [0, -1, 2.5, True])
def test_refuses_a_bad_number(weighted, nsim):
    with pytest.raises(InferenceError, match=f"Found nsim={nsim}; expected a positive number"):
        weighted.simulate(nsim)


def test_refuses_an_unknown_kind(weighted):
    with pytest.raises(InferenceError, match="Found random='old'; expected 'new' or 'conditional'"):
        weighted.simulate(random="old")


def test_cross_products_are_those_of_the_rows(weighted):
    fit = weighted.fit
    rows = make_rows(fit)
    rng = np.random.default_rng(7)
    Y = draw_rows(rows, normal_source(fit, rows), [rng] * 4)
    got = cross_products(rows, Y)
    w = fit.design.weights
    Z = dense_z(rows.codes[0], rows.Q[0], rows.n_levels[0])
    np.testing.assert_allclose(got.ZtY[0].reshape(4, -1), Y.T @ (Z * w[:, None]))
    np.testing.assert_allclose(got.XtY, Y.T @ (rows.X * w[:, None]), atol=1e-9)
    np.testing.assert_allclose(got.yty, (w[:, None] * Y**2).sum(axis=0))


def test_internal_and_user_coordinates_agree(weighted):
    fit = weighted.fit
    inner = fit.gram.basis.response(fit.design.X, fit.design.y, fit.design.offset)
    np.testing.assert_allclose(inner + user_shift(fit), fit.design.y)
