"""Observed information: against numerical second derivatives of the dense definition, and by its properties."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm import information
from sparselmm.datasets.problems import insteval
from sparselmm.information import observed_information, staircase
from sparselmm.marginal import level_pairs, make_probes, marginal, sandwiches
from tests.reference import dense_z, minus_twice_loglik, repeat

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")


def boundary_data() -> pd.DataFrame:
    """Data whose random slopes are multiples of the intercepts."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(12), 8)
    x = np.tile(np.linspace(-1.0, 1.0, 8), 12)
    z = np.sin(1.0 + np.arange(96.0))
    b, e = rng.normal(size=12), rng.normal(size=96)
    y = 1 + x + b[g] * (1 + 0.8 * x - 0.5 * z) + e
    h = np.arange(96) % 5
    w = 1.0 + np.arange(96) % 3
    return pd.DataFrame({"g": g, "h": h, "x": x, "z": z, "y": y, "flat": x + e, "w": w})


def regular_data() -> pd.DataFrame:
    """Data in which every effect varies."""
    rng = np.random.default_rng(5)
    g, h = np.repeat(np.arange(12), 8), np.arange(96) % 5
    x, z = rng.normal(size=(2, 96))
    B, c = rng.normal(size=(12, 3)), rng.normal(size=5)
    slopes = 2.0 * B[:, 1] + 0.5 * B[:, 0], 0.8 * B[:, 2] + 0.4 * B[:, 1]
    mean = 1 + x + B[g, 0] + slopes[0][g] * x + slopes[1][g] * z + 0.7 * c[h]
    y = mean + 0.6 * rng.normal(size=96)
    return pd.DataFrame({"g": g, "h": h, "x": x, "z": z, "y": y, "w": 1.0 + np.arange(96) % 3})


CASES = [
    ("y ~ x + (x || g)", True, None),
    ("y ~ x + (x | g)", False, "w"),
    ("y ~ x + (1 | g) + (1 | h)", True, "w"),
    ("y ~ 1 + (0 + x + z | g) + (1 | h)", True, None),
    ("y ~ x + (1 | g) + (0 + z | g) + (1 | h)", False, None),
]


def dense_covariance(fit) -> np.ndarray:
    """2 (d² deviance / d gamma²)^-1, gamma the rows of `varcorr`, by central differences."""
    design, frame = fit.fit.design, fit.varcorr
    Z = [dense_z(f.codes, f.Q, f.n_levels) for f in design.factors]
    w = np.ones(design.n) if design.weights is None else design.weights
    directions = [np.diag(1.0 / w)]
    for term in reversed(fit.fit.spec.terms):
        s, own = len(term.columns), slice(term.start, term.stop)
        pairs = [(a, a) for a in range(s)]
        if term.template == "unstructured":
            pairs += [(a, b) for a in range(s) for b in range(a + 1, s)]
        for a, b in reversed(pairs):
            E = np.zeros((design.factors[term.factor].Q.shape[1],) * 2)
            E[own, own][a, b] = E[own, own][b, a] = 1.0
            z = Z[term.factor]
            directions.insert(0, z @ repeat(E, z) @ z.T)
    gamma = frame["vcov"].to_numpy(float)
    X = design.X

    def deviance(change):
        V = sum(g * G for g, G in zip(gamma + change, directions, strict=True))
        return minus_twice_loglik(design.y, X, V, reml=fit.fit.reml)

    m = len(gamma)
    h = 1e-3 * np.eye(m) * np.maximum(np.abs(gamma), 0.1)
    H = np.empty((m, m))
    for i in range(m):
        for k in range(m):
            four = [deviance(s * h[i] + t * h[k]) for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
            H[i, k] = (four[0] - four[1] - four[2] + four[3]) / (4.0 * h[i, i] * h[k, k])
    return 2.0 * np.linalg.inv(H)


@pytest.mark.parametrize(("formula", "reml", "weights"), CASES)
def test_standard_errors_of_variances_are_those_of_the_definition(formula, reml, weights):
    fit = slm.lmm(formula, regular_data(), reml=reml, weights=weights)
    assert not fit.is_singular()
    found = fit.varcorr_se()["se_vcov"].to_numpy()
    expected = np.sqrt(np.diag(dense_covariance(fit)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_delta_method_for_sd_and_correlation():
    fit = slm.lmm("y ~ x + (x | g)", regular_data())
    frame = fit.varcorr_se()
    covariance = dense_covariance(fit)
    (v1, v2, c12, s2), (sd1, sd2, r, sigma) = frame["vcov"], frame["sdcor"]
    slopes = np.diag([0.5 / sd1, 0.5 / sd2, 1.0 / (sd1 * sd2), 0.5 / sigma])
    slopes[2, :2] = -0.5 * r / v1, -0.5 * r / v2
    expected = np.sqrt(np.diag(slopes @ covariance @ slopes.T))
    np.testing.assert_allclose(frame["se_sdcor"], expected, rtol=1e-4)
    assert c12 == pytest.approx(r * sd1 * sd2)
    assert s2 == pytest.approx(fit.scale)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    "formula",
    ["y ~ x + (x | g) + (1 | h)", "y ~ x + z + (x + z | g)", "y ~ x + (x || g) + (1 | h)"],
)
def test_differences_of_the_score_agree_with_exact_traces(formula, reml, monkeypatch):
    fit = slm.lmm(formula, boundary_data(), reml=reml).fit
    exact = observed_information(fit)
    monkeypatch.setattr(information, "EXACT", -1)
    differenced = observed_information.__wrapped__(fit)
    assert exact.exact
    assert not differenced.exact
    scale = np.sqrt(np.diag(exact.hessian))
    gap = (exact.hessian - differenced.hessian) / np.outer(scale, scale)
    assert np.abs(gap).max() < 2e-4
    np.testing.assert_array_equal(exact.cov_beta_gradient, differenced.cov_beta_gradient)


def test_large_designs_take_one_score_per_direction_and_one_more(monkeypatch):
    problem = insteval(0.1)
    fit = slm.lmm(problem.formula, problem.data).fit
    calls = []
    original = information.gradient_matrices
    monkeypatch.setattr(information, "EXACT", -1)
    monkeypatch.setattr(
        information, "gradient_matrices", lambda *a: calls.append(1) or original(*a)
    )
    assert len(observed_information.__wrapped__(fit).coordinates.moves) == len(calls) - 1 > 0


def test_gradient_of_cov_beta_is_its_derivative():
    fit = slm.lmm("y ~ x + z + (x | g) + (1 | h)", boundary_data()).fit
    found = observed_information(fit)
    step = 1e-6
    for i, (factor, dT) in enumerate(found.coordinates.moves):
        ends = []
        for sign in (1.0, -1.0):
            T = list(found.coordinates.T)
            T[factor] = T[factor] + sign * step * dT
            at = information.solve_at(fit.gram, fit.prepared.system, T, reml=True)
            M = at.L_M @ at.L_M.T
            ends.append(fit.gram.basis.cov_beta(fit.sigma2 * np.linalg.inv(M)))
        slope = (ends[0] - ends[1]) / (2.0 * step)
        np.testing.assert_allclose(found.cov_beta_gradient[i], slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.cov_beta_gradient[-1], 2.0 * fit.cov_beta, rtol=1e-12)


def test_a_variance_of_zero_takes_no_part_and_has_no_standard_error():
    fit = slm.lmm("flat ~ x + (1 | g) + (1 | h)", boundary_data())
    assert fit.is_singular()
    frame = fit.varcorr_se().set_index("grp")
    zero = frame["vcov"] == 0.0
    assert zero.any()
    assert frame["se_vcov"].isna().equals(zero)
    assert frame["se_sdcor"].isna().equals(zero)
    assert len(observed_information(fit.fit).coordinates.moves) == int((~zero).sum()) - 1


def test_a_perfect_correlation_has_no_standard_error_but_its_variances_do():
    fit = slm.lmm("y ~ x + (x | g)", boundary_data())
    assert fit.is_singular()
    frame = fit.varcorr_se()
    assert frame["se_sdcor"].isna().tolist() == [False, False, True, False]
    assert np.isfinite(frame["se_vcov"]).all()


@pytest.mark.parametrize("pivots", [[], [0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_staircase_keeps_the_covariance_and_empties_the_last_columns(pivots, rng):
    T = np.zeros((3, 3))
    for column, row in enumerate(pivots):
        T[row:, column] = rng.normal(size=3 - row)
    rotated = T @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found, rows = staircase(rotated, np.full(3, 1e-8))
    assert rows == pivots
    np.testing.assert_allclose(found @ found.T, T @ T.T, atol=1e-12)
    assert not np.triu(found, 1).any()
    assert not found[:, len(pivots) :].any()


def test_a_regular_triangle_is_its_own_staircase():
    T = np.array([[0.9, 0.0], [0.02, 0.2]])
    found, rows = staircase(T, np.full(2, 1e-4))
    np.testing.assert_array_equal(found, T)
    assert rows == [0, 1]


def nested_data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 6, 150)
    b = np.char.add(a.astype(str), np.char.add("-", rng.integers(0, 3, 150).astype(str)))
    x = rng.normal(size=150)
    return pd.DataFrame(
        {"a": a, "b": b, "x": x, "y": x + rng.normal(size=6)[a] + rng.normal(size=150)}
    )


@pytest.mark.parametrize("formula", ["y ~ x + (x | a) + (1 | b)", "y ~ x + (x | b)"])
def test_shared_columns_give_the_sums_over_all_pairs_of_levels(formula):
    fit = slm.lmm(formula, nested_data()).fit
    m = marginal(fit.gram, fit.solution)
    probes = make_probes(fit.gram)
    assert probes.columns(fit.gram.shapes) < m.q / 3
    pairs = level_pairs(m, probes)
    N = m.precision(np.eye(m.q))
    directions = [(j, np.eye(s)[:, :1] @ np.eye(s)[:1]) for j, (_, s) in enumerate(m.shapes)]
    spread = [m.move(d, np.eye(m.q)) for d in directions]
    traces = [[np.trace(N @ D @ N @ E) for E in spread] for D in spread]
    np.testing.assert_allclose(pairs.traces(directions), traces, rtol=1e-10)
    expected = [np.trace(N @ D) for D in spread]
    np.testing.assert_allclose(pairs.traces_once(directions), expected, rtol=1e-10)
    once, twice = sandwiches(m, directions)
    np.testing.assert_allclose(once[0], m.F.T @ spread[0] @ m.F, rtol=1e-10)
    both = m.F.T @ spread[0] @ N @ spread[-1] @ m.F
    np.testing.assert_allclose(twice[0, -1], both, rtol=1e-9, atol=1e-9)


def test_marginal_products_are_those_of_dense_algebra():
    fit = slm.lmm("y ~ x + (x | g) + (1 | h)", boundary_data(), weights="w").fit
    m = marginal(fit.gram, fit.solution)
    basis, design = fit.gram.basis, fit.design
    Z = np.hstack(
        [dense_z(f.codes, basis.random(j, f.Q), f.n_levels) for j, f in enumerate(design.factors)]
    )
    cuts = [(0, 24), (24, 29)]
    H = np.diag(1.0 / design.weights)
    for (start, stop), t in zip(cuts, fit.solution.T, strict=True):
        z = Z[:, start:stop]
        H += z @ repeat(t @ t.T, z) @ z.T
    inverse = np.linalg.inv(H)
    np.testing.assert_allclose(m.precision(np.eye(m.q)), Z.T @ inverse @ Z, atol=1e-10)
    np.testing.assert_allclose(m.F, Z.T @ inverse @ basis.fixed(design.X), atol=1e-10)
    e = design.y - design.X @ fit.beta
    np.testing.assert_allclose(m.a, Z.T @ inverse @ e, atol=1e-9)


def test_information_is_computed_once_and_survives_pickling(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy).fit
    first = observed_information(fit)
    assert observed_information(fit) is first
    again = observed_information(pickle.loads(pickle.dumps(fit)))
    np.testing.assert_allclose(again.covariance, first.covariance, rtol=1e-9)


FORMULAS = (
    "(x | a)",
    "(x | a) + (1 | b)",
    "(x + z | a)",
    "(x | a) + (x | b)",
    "(1 | a) + (0 + x | a) + (z | b)",
)


@pytest.mark.parametrize("seed", range(40))
def test_what_passes_the_certificate_is_a_minimum(seed):
    """The certificate's curvature is the average information's and what scores taught; here is the observed one.

    Designs of all sizes of variance, singular ones most of all, where a saddle could be taken for a minimum.
    """
    rng = np.random.default_rng(seed)
    n, levels = (
        int(rng.choice([40, 120, 300])),
        (int(rng.choice([5, 10, 20])), int(rng.choice([4, 8]))),
    )
    a, b = (np.r_[np.arange(m), rng.integers(0, m, n - m)] for m in levels)
    x, z = rng.normal(size=n), 3.0 + rng.normal(size=n)
    effects, slopes = rng.normal(size=(2, levels[0]))
    slopes = rng.choice([-1, 1]) * effects if rng.random() < 0.5 else slopes
    y = (
        1.0
        + x
        + rng.choice([0.0, 0.3, 1.0, 5.0]) * effects[a]
        + rng.choice([0.0, 0.1, 1.0]) * slopes[a] * x
    )
    y += rng.choice([0.0, 0.3, 2.0]) * rng.normal(size=levels[1])[b] + rng.normal(size=n)
    data = pd.DataFrame({"y": y, "x": x, "z": z, "a": a, "b": b})
    fit = slm.lmm("y ~ x + " + FORMULAS[seed % len(FORMULAS)], data, reml=bool(rng.integers(2)))
    assert fit.converged
    hessian = observed_information(fit.fit).hessian
    scale = np.sqrt(np.abs(hessian.diagonal()))
    scale[scale == 0.0] = 1.0
    assert np.linalg.eigvalsh(hessian / scale / scale[:, None])[0] > -1e-6
