"""Intervals of predictions against the dense covariance of (b, beta), and R's predictions."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from tests.reference import dense_z, penalised
from tests.values import case_id, cases, frame

CROSSED = "y ~ x + (x | a) + (1 | b)"
SMALL = [case for case in cases() if case.get("predict") and case["n"] < 4000]


@pytest.fixture(scope="module")
def crossed():
    rng = np.random.default_rng(3)
    n = 300
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "a": rng.integers(0, 20, n),
            "b": rng.integers(0, 9, n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    slopes = rng.normal(size=(20, 2))
    mean = 1 + slopes[data.a, 0] + slopes[data.a, 1] * data.x + rng.normal(size=9)[data.b]
    return data.assign(y=mean + rng.normal(size=n))


def dense_variance(fit, X, Z):
    """Var(x'beta^ + z'b^ - x'beta - z'b) from C^-1, dense, user coordinates."""
    design = fit.design
    blocks = [dense_z(f.codes, f.Q, f.n_levels) for f in design.factors]
    lam = [np.kron(np.eye(f.n_levels), T) for f, T in zip(design.factors, fit.T, strict=True)]
    w = np.ones(fit.n) if design.weights is None else design.weights
    ZL = np.hstack([z @ t for z, t in zip(blocks, lam, strict=True)])
    _, C = penalised(ZL, design.X, w)
    K = np.hstack([*(z @ t for z, t in zip(Z, lam, strict=True)), X])
    return fit.sigma2 * np.einsum("ik,ki->i", K, np.linalg.solve(C, K.T))


@pytest.mark.parametrize("path", ["crossed", "sparse", "grouped"])
@pytest.mark.parametrize("rows", [5, 200])
def test_joint_uncertainty_is_that_of_the_mixed_model_equations(crossed, path, rows):
    if path == "sparse":
        pytest.importorskip("sksparse")
    rng = np.random.default_rng(rows)
    fit = slm.lmm(CROSSED, crossed, weights="w", path=path)
    a, b, x = rng.integers(0, 20, rows), rng.integers(0, 9, rows), rng.normal(size=rows)
    new = pd.DataFrame({"x": x, "a": a, "b": b})
    got = fit.predict(new, interval="confidence")
    X = np.column_stack([np.ones(rows), x])
    Z = [dense_z(a, X, 20), dense_z(b, np.ones((rows, 1)), 9)]
    np.testing.assert_allclose(got["se"] ** 2, dense_variance(fit.fit, X, Z), rtol=1e-8)
    np.testing.assert_allclose(got["mean"], fit.predict(new), rtol=1e-12)
    np.testing.assert_allclose(got["upper"] - got["mean"], 1.959963985 * got["se"], rtol=1e-8)


def test_own_rows_agree_with_leverage(crossed):
    fit = slm.lmm(CROSSED, crossed, weights="w")
    got = fit.predict(interval="confidence")
    expected = fit.scale * fit.hatvalues() / crossed["w"]
    np.testing.assert_allclose(got["se"] ** 2, expected, rtol=1e-9)
    np.testing.assert_allclose(got["mean"], fit.fittedvalues)
    again = fit.predict(crossed.drop(columns="y"), interval="confidence")
    np.testing.assert_allclose(again, got, rtol=1e-9)


def test_a_new_observation_adds_its_own_variance(crossed):
    fit = slm.lmm(CROSSED, crossed, weights="w")
    mean = fit.predict(crossed, interval="confidence")["se"] ** 2
    new = fit.predict(crossed, interval="prediction", level=0.8)
    np.testing.assert_allclose(new["se"] ** 2, mean + fit.scale / crossed["w"], rtol=1e-10)
    np.testing.assert_allclose(new["mean"] - new["lower"], 1.281551566 * new["se"], rtol=1e-8)
    bare = crossed[["x", "a", "b"]]
    with pytest.warns(slm.SparseLMMWarning) as seen:
        unweighted = fit.predict(bare, interval="prediction")
    assert len(seen) == 1
    assert str(seen[0].message) == (
        "Found new observations without weights (no column 'w'); expected some, for the fit has them. "
        "The intervals are for weight 1: pass weights=, one number or one per row."
    )
    assert seen[0].filename == __file__
    np.testing.assert_allclose(unweighted["se"] ** 2, mean + fit.scale, rtol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = fit.predict(bare, interval="prediction", weights=crossed["w"], level=0.8)
        np.testing.assert_allclose(given, new, rtol=1e-12)
        column = fit.predict(bare.assign(v=crossed["w"]), interval="prediction", weights="v")
        np.testing.assert_allclose(column["se"], new["se"], rtol=1e-12)
        one = fit.predict(bare, interval="prediction", weights=4.0)
        np.testing.assert_allclose(one["se"] ** 2, mean + fit.scale / 4.0, rtol=1e-10)
        fit.predict(bare, interval="confidence")
        fit.predict(interval="prediction")


def test_weights_given_as_an_array_are_missed_too(crossed):
    fit = slm.lmm(CROSSED, crossed.drop(columns="w"), weights=crossed["w"].to_numpy())
    with pytest.warns(
        slm.SparseLMMWarning, match="Found new observations without weights; expected"
    ):
        fit.predict(crossed[["x", "a", "b"]], interval="prediction")


def test_new_levels_add_their_whole_variance(crossed):
    fit = slm.lmm(CROSSED, crossed)
    T, s2, V = fit.fit.T, fit.scale, fit.fit.cov_beta
    new = pd.DataFrame({"x": [0.5, 0.5, -1.0], "a": [99, 3, 99], "b": [77, 77, 77]})
    variance = fit.predict(new, new_levels="zero", interval="confidence")["se"] ** 2
    for i in (0, 2):
        z = np.array([1.0, new["x"][i]])
        expected = z @ V @ z + s2 * (z @ T[0] @ T[0].T @ z + T[1][0, 0] ** 2)
        np.testing.assert_allclose(variance[i], expected, rtol=1e-10)
    known = fit.predict(new.iloc[[1]], random="a", interval="confidence")["se"].iloc[0] ** 2
    np.testing.assert_allclose(variance[1], known + s2 * T[1][0, 0] ** 2, rtol=1e-10)


def test_population_level(crossed):
    fit = slm.lmm(CROSSED, crossed)
    T, s2, V = fit.fit.T, fit.scale, fit.fit.cov_beta
    x = np.array([1.0, 2.0])
    mean = fit.predict({"x": [2.0]}, random="none", interval="confidence")
    np.testing.assert_allclose(mean["se"][0] ** 2, x @ V @ x, rtol=1e-10)
    new = fit.predict({"x": [2.0]}, random="none", interval="prediction")
    expected = x @ V @ x + s2 * (1 + x @ T[0] @ T[0].T @ x + T[1][0, 0] ** 2)
    np.testing.assert_allclose(new["se"][0] ** 2, expected, rtol=1e-10)
    own = fit.predict(random="none", interval="prediction")
    again = fit.predict(crossed[["x"]], random="none", interval="prediction")
    np.testing.assert_allclose(own, again, rtol=1e-10)


@pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")
@pytest.mark.parametrize("case", SMALL, ids=case_id)
def test_means_are_those_of_r(case):
    arguments = {k: case[k] for k in ("weights", "offset") if case.get(k)}
    fit = slm.lmm(case["formula"], frame(case), reml=case["reml"], **arguments)
    new = pd.DataFrame(case["predict"]["newdata"])
    got = fit.predict(new, new_levels="zero", interval="prediction")
    scale = np.abs(case["predict"]["with_ranef"]).max()
    np.testing.assert_allclose(got["mean"], case["predict"]["with_ranef"], atol=1e-5 * scale)
    confidence = fit.predict(new, new_levels="zero", interval="confidence")
    assert (confidence["se"] < got["se"]).all()
    assert (confidence["se"] > 0).all()


def test_singular_fits_have_standard_errors():
    with pytest.warns(slm.SingularFitWarning):
        fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"))
    got = fit.predict({"Batch": ["A", "Z"]}, new_levels="zero", interval="confidence")
    np.testing.assert_allclose(got["se"], fit.bse.iloc[0], rtol=1e-4)


def test_missing_values_and_index(crossed):
    fit = slm.lmm(CROSSED, crossed)
    new = crossed.loc[[5, 2, 9], ["x", "a", "b"]].copy()
    new.loc[2, "x"] = np.nan
    got = fit.predict(new, interval="prediction")
    assert got.index.tolist() == [5, 2, 9]
    assert got.loc[2].isna().all()
    assert got.drop(index=2).notna().all(axis=None)


def test_many_pairs_that_never_met(crossed):
    fit = slm.lmm("y ~ x + (1 | a) + (1 | b)", crossed.iloc[:110])
    pairs = [np.unique(crossed[c].iloc[:110]) for c in "ab"]
    grid = pd.MultiIndex.from_product(pairs, names=["a", "b"]).to_frame(index=False).assign(x=0.0)
    many = fit.predict(grid, interval="confidence")
    one = fit.predict(grid.iloc[[7]], interval="confidence")
    np.testing.assert_allclose(many.iloc[[7]], one, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval": "credible"}, "Found interval='credible'; expected None, 'confidence'"),
        ({"interval": "confidence", "level": 95}, "expected a number in"),
        ({"interval": "confidence", "new_levels": "drop"}, "expected 'raise' or 'zero'"),
        ({"interval": "confidence", "random": "c"}, "Found random='c'"),
        ({"interval": "confidence", "newdata": {"x": [0.0], "a": [99], "b": [1]}}, "level '99'"),
        (
            {"interval": "prediction", "newdata": {"x": [0.0], "a": [1], "b": [1], "w": [0.0]}},
            "weights 'w' of zero or less",
        ),
        (
            {"interval": "prediction", "newdata": {"x": [0.0], "a": [1], "b": [1]}, "weights": -1},
            "weights of zero or less",
        ),
        (
            {
                "interval": "prediction",
                "newdata": {"x": [0.0], "a": [1], "b": [1]},
                "weights": [1, 2],
            },
            r"Found weights of shape \(2,\); expected one number, or one for each of 1 new rows",
        ),
        ({"weights": 2.0}, "Found weights without new observations; expected them with newdata"),
    ],
)
def test_messages(crossed, arguments, message):
    fit = slm.lmm(CROSSED, crossed, weights="w")
    with pytest.raises(slm.InferenceError, match=message):
        fit.predict(**arguments)


def test_new_data_without_a_column(crossed):
    fit = slm.lmm(CROSSED, crossed)
    with pytest.raises(slm.DataError, match="no column 'b'"):
        fit.predict({"x": [1.0], "a": [1]}, interval="confidence")
