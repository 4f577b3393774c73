"""What may not matter to a fit, and what must matter in a known way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sparselmm._types import Array, Design, Factor
from sparselmm.optimise import make_scale
from tests.core.designs import Case, cases, numeric_gradient, random_T, random_theta

CASES = cases(6)
kinds = st.sampled_from(sorted(CASES))
seeds = st.integers(0, 10_000)


def at(case: Case, T: tuple[Array, ...], reml: bool = True):
    """Value and the user's estimates at the user's T."""
    problem = case.problem(reml=reml)
    basis = problem.gram.basis
    internal = [basis.internal_factor(j, t) for j, t in enumerate(T)]
    solution = problem.solve(case.model.theta(internal))
    return solution.deviance, basis.beta(solution.beta), solution.s2


def assert_same(found, want, rtol=1e-9):
    for x, y in zip(found, want, strict=True):
        assert_allclose(x, y, rtol=rtol, atol=rtol)


@given(kind=kinds, seed=seeds, reml=st.booleans())
def test_rows_may_be_permuted(kind, seed, reml):
    rng, case = np.random.default_rng(seed), CASES[kind]
    T = random_T(rng, case.model)
    permuted = case.rows(rng.permutation(case.design.n))
    assert_same(at(permuted, T, reml), at(case, T, reml))


@given(kind=kinds, seed=seeds)
def test_levels_may_be_relabelled(kind, seed):
    rng, case = np.random.default_rng(seed), CASES[kind]
    T = random_T(rng, case.model)
    factors = tuple(
        Factor(rng.permutation(f.n_levels).astype(np.int32)[f.codes], f.Q, f.n_levels)
        for f in case.design.factors
    )
    assert_same(at(case.with_design(factors=factors), T), at(case, T))


@given(kind=kinds, seed=seeds)
def test_factors_may_be_reordered(kind, seed):
    """Another order of the factors, and so perhaps another leading one."""
    rng, case = np.random.default_rng(seed), CASES[kind]
    T = random_T(rng, case.model)
    order = rng.permutation(len(T))
    place = np.argsort(order)
    terms = tuple(
        type(t)(t.label, t.grouping, t.columns, t.template, int(place[t.factor]), t.start)
        for t in case.terms
    )
    d = case.design
    moved = Case(Design(d.y, d.X, tuple(d.factors[j] for j in order), d.weights, d.offset), terms)
    assert_same(at(moved, tuple(T[j] for j in order)), at(case, T))


@given(kind=kinds, seed=seeds, reml=st.booleans())
def test_terms_may_be_reordered(kind, seed, reml):
    """The order of theta changes, the model does not."""
    case = CASES[kind]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(case.terms))
    other = Case(case.design, tuple(case.terms[i] for i in order))
    T = random_T(rng, case.model)
    assert_same(at(other, T, reml), at(case, T, reml))
    back = other.model.factors(other.model.theta(T))
    for t, want in zip(back, T, strict=True):
        assert_allclose(t, want, atol=0)


@given(
    kind=kinds,
    seed=seeds,
    scale=st.sampled_from([1e-6, 0.3, -2.0, 1e5]),
    shift=st.sampled_from([0.0, -3.0, 1e5]),
)
def test_y_may_be_scaled_and_shifted(kind, seed, scale, shift):
    case = CASES[kind]
    d = case.design
    if not d.X.shape[1]:
        shift = 0.0
    T = random_T(np.random.default_rng(seed), case.model)
    offset = None if d.offset is None else scale * d.offset
    moved = case.with_design(y=scale * d.y + shift * abs(scale), offset=offset)
    for reml in (False, True):
        deviance, beta, s2 = at(case, T, reml)
        nu = d.n - (d.X.shape[1] if reml else 0)
        expected = scale * beta
        expected[:1] += shift * abs(scale)
        assert_same(
            at(moved, T, reml), (deviance + 2 * nu * np.log(abs(scale)), expected, scale**2 * s2),
            rtol=1e-8,
        )  # fmt: skip


@given(kind=kinds, seed=seeds)
def test_an_offset_is_a_shift_of_y(kind, seed):
    case = CASES[kind]
    rng = np.random.default_rng(seed)
    T, offset = random_T(rng, case.model), rng.normal(size=case.design.n)
    old = 0.0 if case.design.offset is None else case.design.offset
    moved = case.with_design(y=case.design.y + offset, offset=old + offset)
    assert_same(at(moved, T), at(case, T))


@given(kind=kinds, seed=seeds, reml=st.booleans())
def test_a_row_twice_is_weight_two(kind, seed, reml):
    """The estimates at T; the number of rows, and so the scale, is another."""
    rng, case = np.random.default_rng(seed), CASES[kind]
    T = random_T(rng, case.model)
    d = case.design
    twice = rng.integers(0, d.n, 5)
    w = np.ones(d.n) if d.weights is None else d.weights
    repeated = case.with_design(weights=w).rows(np.concatenate([np.arange(d.n), twice]))
    counted = case.with_design(weights=w * (1.0 + np.bincount(twice, minlength=d.n)))
    one, two = (c.problem(reml=reml) for c in (repeated, counted))
    a, b = (
        p.solve(case.model.theta([p.gram.basis.internal_factor(j, t) for j, t in enumerate(T)]))
        for p in (one, two)
    )
    assert_allclose(a.logdet_A, b.logdet_A, rtol=1e-10)
    assert_allclose(a.r2, b.r2, rtol=1e-9)
    assert_allclose(one.gram.basis.beta(a.beta), two.gram.basis.beta(b.beta), rtol=1e-8, atol=1e-9)
    assert_allclose(a.u, b.u, rtol=1e-8, atol=1e-9)


@given(kind=kinds, seed=seeds, factor=st.sampled_from([1e-3, 0.5, 40.0]))
def test_weights_times_a_constant_move_sigma_only(kind, seed, factor):
    case = CASES[kind]
    d = case.design
    T = random_T(np.random.default_rng(seed), case.model)
    w = np.ones(d.n) if d.weights is None else d.weights
    moved = case.with_design(weights=factor * w)
    scaled = tuple(t / np.sqrt(factor) for t in T)
    deviance, beta, s2 = at(case, T)
    assert_same(at(moved, scaled), (deviance, beta, factor * s2), rtol=1e-8)


@given(kind=kinds, seed=seeds, reml=st.booleans())
def test_score_is_the_finite_difference(kind, seed, reml):
    case = CASES[kind]
    problem = case.problem(reml=reml)
    theta = random_theta(np.random.default_rng(seed), problem.model)
    expected = numeric_gradient(lambda v: problem.solve(v).deviance, theta)
    assert_allclose(problem.score(theta), expected, rtol=1e-5, atol=1e-5)


@given(kind=kinds, seed=seeds)
def test_the_sign_of_a_column_of_T_does_not_matter(kind, seed):
    case = CASES[kind]
    rng = np.random.default_rng(seed)
    T = random_T(rng, case.model)
    flipped = tuple(
        t * (rng.choice([-1.0, 1.0], len(t)) if part_is_free(case, j) else -1.0)
        for j, t in enumerate(T)
    )
    assert_same(at(case, flipped), at(case, T))


def part_is_free(case: Case, j: int) -> bool:
    return all(t.template != "scalar" for t in case.terms if t.factor == j)


@given(kind=kinds, seed=seeds)
def test_evaluations_are_pure(kind, seed):
    """Another theta changes nothing that was computed before."""
    case = CASES[kind]
    problem = case.problem()
    rng = np.random.default_rng(seed)
    one, two = random_theta(rng, problem.model), random_theta(rng, problem.model)
    first = problem.evaluate(one)
    kept = [first.deviance, *map(np.copy, (first.score, first.information, first.solution.u))]
    problem.evaluate(two)
    again = problem.evaluate(one)
    found = [again.deviance, again.score, again.information, again.solution.u]
    for x, y, z in zip(found, kept, [first.deviance, *found[1:]], strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, z)
    R = np.eye(problem.gram.q)
    assert_allclose(first.solution.factored.solve(R), again.solution.factored.solve(R), atol=0)


@given(kind=kinds, seed=seeds)
def test_factors_and_theta_are_inverse(kind, seed):
    case = CASES[kind]
    theta = random_theta(np.random.default_rng(seed), case.model)
    assert_allclose(case.model.theta(case.model.factors(theta)), theta, atol=0)
    basis = case.gram.basis
    for j, t in enumerate(case.model.factors(theta)):
        back = basis.user_factor(j, basis.internal_factor(j, t))
        assert_allclose(back, t, rtol=1e-9, atol=1e-10)


FITTED = ["single vector", "nested", "crossed", "several terms on one factor", "diagonal"]


@pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])
@pytest.mark.parametrize("kind", FITTED)
def test_a_fit_does_not_depend_on_rows_units_or_weights_of_one(kind, reml):
    case = CASES[kind]
    d, rng = case.design, np.random.default_rng(4)
    want = case.fit(reml=reml)
    assert want.converged
    nu = d.n - 2 * reml
    others = {
        "permuted": (case.rows(rng.permutation(d.n)), 0.0),
        "weights of one": (case.with_design(weights=np.ones(d.n)), 0.0),
        "y in other units": (case.with_design(y=1e4 * d.y + 1e7), 2 * nu * np.log(1e4)),
        "X in other units": (
            case.with_design(X=d.X * [1.0, 1e-4]),
            2 * np.log(1e-4) if reml else 0.0,
        ),
    }
    for name, (other, constant) in others.items():
        found = other.fit(reml=reml)
        assert found.outcome is want.outcome, name
        assert_allclose(found.solution.deviance - constant, want.solution.deviance, atol=1e-6)
        for t, expected in zip(found.solution.T, want.solution.T, strict=True):
            scale = np.abs(expected).max() + 1e-3
            assert_allclose(t @ t.T, expected @ expected.T, atol=1e-4 * scale**2), name


@pytest.mark.parametrize("kind", CASES)
def test_scales_are_positive(kind):
    problem = CASES[kind].problem()
    scale = make_scale(problem)
    assert (scale.floor[problem.model.pivots] > 0.0).all()
    assert np.isneginf(scale.floor[~problem.model.pivots]).all()
    assert all((np.diag(noise) > 0.0).all() for noise in scale.noise)
