"""Leverage, residuals and deletions against the definition, R's values and brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.joint import data_rows
from sparselmm.systems import forms
from tests.reference import dense_z
from tests.values import case_id, cases, frame

quiet = pytest.mark.filterwarnings("ignore::sparselmm.SparseLMMWarning")
SMALL = [case for case in cases() if case["n"] <= 4000]


def covariance(fit):
    """H, dense."""
    design = fit.design
    w = np.ones(fit.n) if design.weights is None else design.weights
    H = np.diag(1.0 / w)
    for factor, T in zip(design.factors, fit.T, strict=True):
        Z = dense_z(factor.codes, factor.Q, factor.n_levels)
        H += Z @ np.kron(np.eye(factor.n_levels), T @ T.T) @ Z.T
    return H


def deleted_beta(fit, H, keep):
    design = fit.design
    y = design.y - (0.0 if design.offset is None else design.offset)
    X = design.X[keep][:, fit.kept]
    HX = np.linalg.solve(H[np.ix_(keep, keep)], X)
    return np.linalg.solve(X.T @ HX, HX.T @ y[keep])


def crossed_frame(rng, n=240):
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "a": rng.integers(0, 30, n),
            "b": rng.integers(0, 12, n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    effects = rng.normal(size=30)[data.a] + rng.normal(size=12)[data.b] * (1 + 0.5 * data.x)
    return data.assign(y=1 + 0.5 * data.x + effects + rng.normal(size=n))


@quiet
@pytest.mark.parametrize("case", SMALL, ids=case_id)
def test_leverage_is_that_of_r(case):
    data = frame(case)
    fit = slm.lmm(
        case["formula"],
        data,
        reml=case["reml"],
        weights=case.get("weights"),
        offset=case.get("offset"),
    )
    hat = fit.hatvalues()
    assert hat.index.equals(fit.resid.index)
    np.testing.assert_allclose(hat.iloc[:5], case["hat"]["first"], atol=2e-6)
    np.testing.assert_allclose(hat.sum(), case["hat"]["sum"], rtol=1e-6)


@quiet
@pytest.mark.parametrize("path", ["crossed", "grouped", "sparse"])
@pytest.mark.parametrize("formula", ["y ~ x + (x | b) + (1 | a)", "y ~ x + (1 | a) + (1 | b)"])
def test_forms_read_and_solved_agree_on_every_path(rng, path, formula, monkeypatch):
    if path == "sparse":
        pytest.importorskip("sksparse")
    fit = slm.lmm(formula, crossed_frame(rng), weights="w", path=path).fit
    read = data_rows(fit)
    monkeypatch.setattr(forms, "FEW", 10**9)
    rows = forms.Rows(*zip(*((f.codes[:40], f.Q[:40]) for f in fit.design.factors), strict=True))
    scaled = tuple(
        fit.gram.basis.random(j, v) @ fit.solution.T[j] for j, v in enumerate(rows.values)
    )
    solved = forms.quadratic_forms(fit.factored(), forms.Rows(rows.codes, scaled))
    np.testing.assert_allclose(solved, read.random[:40], rtol=1e-9)
    P = np.linalg.inv(covariance(fit))
    X = fit.design.X
    P -= P @ X @ np.linalg.solve(X.T @ P @ X, X.T @ P)
    hat = fit.design.weights * read.forms
    np.testing.assert_allclose(hat, 1 - np.diag(P) / fit.design.weights, rtol=1e-8)


@pytest.mark.parametrize("path", ["crossed", "grouped", "sparse"])
def test_pairs_of_levels_that_never_met(rng, path):
    if path == "sparse":
        pytest.importorskip("sksparse")
    data = crossed_frame(rng, 120)
    fit = slm.lmm("y ~ x + (1 | a) + (1 | b)", data, path=path).fit
    grid = pd.MultiIndex.from_product(
        [sorted(data.a.unique()), sorted(data.b.unique())], names=["a", "b"]
    ).to_frame(index=False)
    new = fit.spec.encode(grid.assign(x=0.5))
    z = [basis @ T for basis, T in zip(new.Q, fit.solution.T, strict=True)]
    got = forms.quadratic_forms(fit.factored(), forms.Rows(new.codes, tuple(z)))
    columns = [
        dense_z(c, v, levels)
        for c, v, (levels, _) in zip(new.codes, z, fit.gram.shapes, strict=True)
    ]
    Z = np.hstack(columns)
    np.testing.assert_allclose(
        got, np.einsum("iq,qi->i", Z, fit.factored().solve(np.ascontiguousarray(Z.T))), rtol=1e-9
    )


def test_one_observation_follows_its_own_response(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    moved = sleepstudy.copy()
    moved.loc[7, "Reaction"] += 1.0
    again = slm.lmm("Reaction ~ Days + (Days | Subject)", moved).fit
    problem = again.problem
    theta = fit.fit.optimum.solution
    T = [fit.fit.gram.basis.user_factor(j, t) for j, t in enumerate(theta.T)]
    internal = problem.model.theta(
        [again.gram.basis.internal_factor(j, t) for j, t in enumerate(T)]
    )
    at = problem.solve(internal)
    b = at.u.reshape(18, 2) @ T[0].T
    beta = again.gram.basis.beta(at.beta)
    row = again.design
    fitted = row.X[7] @ beta + row.factors[0].Q[7] @ b[row.factors[0].codes[7]]
    np.testing.assert_allclose(
        fitted - fit.fittedvalues.iloc[7], fit.hatvalues().iloc[7], rtol=1e-8
    )


GROUPINGS = [
    ("Reaction ~ Days + (Days | Subject)", "sleepstudy", ["Subject", None]),
    ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", ["plate", "sample", None]),
    ("strength ~ 1 + (1 | batch/cask)", "pastes", ["batch", "batch:cask", None]),
    ("angle ~ recipe*temp + (1 | recipe:replicate)", "cake", ["recipe:replicate", None]),
]


@pytest.mark.parametrize(
    ("formula", "name", "by"),
    [(formula, name, by) for formula, name, groups in GROUPINGS for by in groups],
)
def test_deletion_is_refitting_with_theta_held(formula, name, by):
    fit = slm.lmm(formula, slm.load_dataset(name))
    inner = fit.fit
    H = covariance(inner)
    change = fit.dfbeta(by=by)
    codes = np.arange(inner.n)
    if by is not None:
        codes = inner.design.factors[inner.spec.factor_names.index(by)].codes
    for group in range(min(len(change), 6)):
        expected = inner.beta - deleted_beta(inner, H, np.flatnonzero(codes != group))
        np.testing.assert_allclose(
            change.iloc[group], expected, atol=1e-8 * np.abs(inner.beta).max()
        )
    V = np.linalg.inv(inner.cov_beta)
    expected = np.einsum("ia,ab,ib->i", change, V, change) / inner.p
    np.testing.assert_allclose(fit.cooks_distance(by=by, effects="fixed"), expected, rtol=1e-6)
    np.testing.assert_allclose(fit.dfbetas(by=by), change / fit.bse, rtol=1e-12)


@quiet
@pytest.mark.parametrize("weights", [None, "w"])
def test_groups_of_any_labels(rng, weights):
    data = crossed_frame(rng)
    fit = slm.lmm("y ~ x + (x | b) + (1 | a)", data, weights=weights)
    labels = np.array(["u", "v", "w"])[np.arange(len(data)) % 3]
    change = fit.dfbeta(by=labels)
    assert change.index.tolist() == ["u", "v", "w"]
    H = covariance(fit.fit)
    for label in "uvw":
        expected = fit.fit.beta - deleted_beta(fit.fit, H, np.flatnonzero(labels != label))
        np.testing.assert_allclose(change.loc[label], expected, rtol=1e-6)


@quiet
@pytest.mark.parametrize("path", ["crossed", "sparse"])
@pytest.mark.parametrize("formula", ["y ~ x + (x | b) + (1 | a)", "y ~ x + (x | a) + (1 | b)"])
def test_levels_of_the_leading_factor_are_read_not_solved_for(rng, path, formula, monkeypatch):
    from sparselmm import deletion

    if path == "sparse":
        pytest.importorskip("sksparse")
    fit = slm.lmm(formula, crossed_frame(rng), weights="w", path=path)
    monkeypatch.setattr(deletion, "_product_cost", lambda *_: np.inf)
    read = fit.dfbeta(by="a")
    monkeypatch.setattr(deletion, "_reads", lambda *_: False)
    np.testing.assert_allclose(fit.dfbeta(by="a"), read, rtol=1e-8)


@quiet
def test_few_large_groups_leave_by_their_cross_products(rng, monkeypatch):
    from sparselmm import deletion

    fit = slm.lmm("y ~ x + (x | b) + (1 | a)", crossed_frame(rng), weights="w")
    labels = np.arange(240) % 3
    ways = []
    for cost in (0.0, np.inf):
        monkeypatch.setattr(deletion, "_product_cost", lambda *_, cost=cost: cost)
        ways.append(fit.dfbeta(by=labels))
    np.testing.assert_allclose(*ways, rtol=1e-7)


def test_components_and_systems_agree(sleepstudy, monkeypatch):
    from sparselmm import deletion

    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    quick = fit.dfbeta(by="Subject")
    monkeypatch.setattr(deletion, "is_components", lambda *_: False)
    np.testing.assert_allclose(fit.dfbeta(by="Subject"), quick, rtol=1e-8)


def test_groups_that_carry_a_coefficient_give_nan():
    data = slm.load_dataset("cake")
    fit = slm.lmm("angle ~ recipe + (1 | recipe:replicate)", data)
    change = fit.dfbeta(by=np.asarray(data["recipe"]))
    assert change.isna().all(axis=None)


def test_lme4_cooks_distance_and_residuals(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    h, e = fit.hatvalues(), fit.resid
    expected = (e / (1 - h)) ** 2 * h / (fit.scale * 2)
    np.testing.assert_allclose(fit.cooks_distance(), expected, rtol=1e-10)
    # lme4 1.1-31: cooks.distance(lmer(Reaction ~ Days + (Days | Subject), sleepstudy))
    r = [0.004963132515, 0.040206201856, 0.226099184758, 0.007313246991]
    np.testing.assert_allclose(fit.cooks_distance().iloc[:4], r, rtol=2e-5)
    np.testing.assert_allclose(
        fit.residuals("standardised"), e / (fit.sigma * np.sqrt(1 - h)), rtol=1e-10
    )
    np.testing.assert_allclose(fit.residuals("deletion"), e / (1 - h), rtol=1e-10)
    np.testing.assert_allclose(fit.residuals(), e, rtol=1e-10)
    marginal = sleepstudy["Reaction"] - fit.predict(random="none")
    np.testing.assert_allclose(fit.residuals("marginal"), marginal, rtol=1e-10)


def test_pearson_residuals_hold_weights(rng):
    data = crossed_frame(rng)
    fit = slm.lmm("y ~ x + (1 | a)", data, weights="w")
    expected = fit.resid * np.sqrt(data["w"])
    np.testing.assert_allclose(fit.residuals("pearson"), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda fit: fit.residuals("raw"), "Found kind='raw'; expected one of 'conditional'"),
        (lambda fit: fit.dfbeta(by="subject"), "expected a grouping factor of the model"),
        (lambda fit: fit.dfbeta(by=[1, 2]), "Found 2 labels in `by`; expected 180"),
        (lambda fit: fit.cooks_distance(by="Subject", effects="all"), "expected 'fixed', or 'all'"),
        (lambda fit: fit.dfbeta(by=[None] * 180), "missing labels"),
    ],
)
def test_messages(sleepstudy, ask, message):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    with pytest.raises(slm.InferenceError, match=message):
        ask(fit)


def test_deletions_that_take_too_long_are_refused(rng, monkeypatch):
    from sparselmm import deletion

    monkeypatch.setattr(deletion, "MOST_FLOPS", 10.0)
    fit = slm.lmm("y ~ x + (1 | a) + (1 | b)", crossed_frame(rng))
    with pytest.raises(slm.InferenceError, match="would take about"):
        fit.dfbeta(by="b")


def test_models_without_fixed_effects(sleepstudy):
    data = sleepstudy.assign(y=sleepstudy["Reaction"] - 300)
    fit = slm.lmm("y ~ 0 + (1 | Subject)", data)
    share = fit.theta[0] ** 2 / (1 + 10 * fit.theta[0] ** 2)
    np.testing.assert_allclose(fit.hatvalues(), share, rtol=1e-8)
    for ask in (fit.cooks_distance, fit.dfbeta, fit.dfbetas):
        with pytest.raises(slm.InferenceError, match="without fixed effects"):
            ask()


def test_leverage_of_three_crossed_factors():
    case = next(c for c in cases() if c["name"] == "insteval_3way" and c["reml"])
    fit = slm.lmm(case["formula"], frame(case))
    np.testing.assert_allclose(fit.hatvalues().iloc[:5], case["hat"]["first"], rtol=1e-6)
