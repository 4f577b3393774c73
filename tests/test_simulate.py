"""Simulated designs have the shape, the parameters and the formula they claim."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sparselmm import DataError, simulate_design
from sparselmm.datasets import SimulatedDesign
from sparselmm.datasets.groupings import (
    balanced,
    blocks,
    children_of,
    crossed,
    cycled,
    member_of,
)
from sparselmm.datasets.problems import PROBLEMS, five_factors, kb07

Generator = np.random.Generator


def test_every_level_occurs(rng: Generator) -> None:
    for rule in (crossed(90, skew=2.0), blocks(90), balanced(90), cycled(90)):
        codes = rule(100, {}, rng)
        assert codes.dtype == np.int32
        assert np.array_equal(np.unique(codes), np.arange(90))


def test_fewer_rows_than_levels(rng: Generator) -> None:
    codes = crossed(50)(20, {}, rng)
    assert np.unique(codes).size == 20
    assert codes.max() < 50


def test_uniform_and_power_law_popularity(rng: Generator) -> None:
    n, levels = 200_000, 20
    for skew in (0.0, 0.7, 1.5):
        share = np.arange(1.0, levels + 1) ** -skew
        expected = n * share / share.sum()
        counts = np.bincount(crossed(levels, skew)(n, {}, rng), minlength=levels)
        np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(n / levels) + levels)


def test_blocks_stand_together(rng: Generator) -> None:
    codes = blocks(30)(200, {}, rng)
    assert (np.diff(codes) >= 0).all()
    assert np.unique(np.bincount(codes)).size > 1


def test_balanced_and_cycled_form_a_full_grid(rng: Generator) -> None:
    pairs = np.column_stack([balanced(7)(35, {}, rng), cycled(5)(35, {}, rng)])
    assert len(np.unique(pairs, axis=0)) == 35


def test_children_have_one_parent(rng: Generator) -> None:
    parent = crossed(10)(1000, {}, rng)
    child = children_of("p", 4)(1000, {"p": parent}, rng)
    assert np.array_equal(child // 4, parent)
    assert np.unique(child).size == 40


def test_members_stay_at_home_but_for_the_share_away(rng: Generator) -> None:
    student = crossed(400)(20_000, {}, rng)
    drawn = {"student": student}
    home = member_of("student", 20)(20_000, drawn, rng)
    assert np.array_equal(home, student // 20)
    moved = member_of("student", 20, away=0.3)(20_000, drawn, rng)
    assert np.mean(moved != home) == pytest.approx(0.3 * 19 / 20, abs=0.02)


def test_large_codes_do_not_overflow(rng: Generator) -> None:
    codes = np.array([0, 1_400_000 - 1], dtype=np.int32)
    assert member_of("p", 100_000)(2, {"p": codes}, rng).tolist() == [0, 99_999]


def test_record(rng: Generator) -> None:
    design = simulate_design(
        300,
        {"few": crossed(5), "many": crossed(60)},
        rng,
        fixed=["a", "b", "a:b"],
        slopes={"few": ["a", "z"]},
        theta={"few": [1, 2, 3, 4, 5, 6], "many": [0.7]},
        beta=[1, 2, 3, 4],
        sigma=2.0,
    )
    assert design.formula == "y ~ 1 + a + b + a:b + (1 + a + z | few) + (1 | many)"
    assert design.theta.tolist() == [0.7, 1, 2, 3, 4, 5, 6]  # more levels first
    assert design.beta.tolist() == [1, 2, 3, 4]
    assert design.data.columns.tolist() == ["y", "a", "b", "z", "few", "many"]
    assert design.data.dtypes.map(str).tolist() == ["float64"] * 4 + ["int32"] * 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        design.sigma = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_response_follows_the_model(rng: Generator) -> None:
    x = np.linspace(-1.0, 1.0, 200_000)
    design = simulate_design(
        x.size,
        {"g": balanced(50_000)},
        rng,
        slopes={"g": ["x"]},
        columns={"x": x},
        theta={"g": [0.9, -0.4, 0.6]},
        beta=[5.0, -2.0],
        sigma=2.0,
    )
    r = design.data["y"].to_numpy() - 5.0 + 2.0 * x
    first, second = r[0::4], r[1::4]
    T = np.array([[0.9, 0.0], [-0.4, 0.6]])
    Q = np.column_stack([np.ones(50_000), x[0::4]])
    within = 4.0 * np.einsum("ij,jk,ik->i", Q, T @ T.T, Q)
    assert np.mean(first * second) == pytest.approx(within.mean(), rel=0.03)
    assert np.mean(first**2) == pytest.approx(within.mean() + 4.0, rel=0.03)


def test_same_generator_same_data() -> None:
    first, second = (
        simulate_design(50, {"g": crossed(5)}, np.random.default_rng(3)) for _ in range(2)
    )
    assert first.data.equals(second.data)


def test_messages(rng: Generator) -> None:
    factors = {"g": crossed(5)}
    with pytest.raises(DataError, match="`slopes` names 'h', which is no grouping factor. Use one"):
        simulate_design(50, factors, rng, slopes={"h": ["x"]})
    with pytest.raises(DataError, match="`theta` has 2 numbers for 'g'; 1 random effects need 1"):
        simulate_design(50, factors, rng, theta={"g": [1.0, 2.0]})
    with pytest.raises(DataError, match="`beta` has 1 numbers; .* need 2"):
        simulate_design(50, factors, rng, beta=[1.0])
    with pytest.raises(DataError, match=r"Column 'x' has shape \(3,\); give one of \(50,\)"):
        simulate_design(50, factors, rng, columns={"x": np.ones(3)})


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_problems_at_a_small_scale(name: str) -> None:
    problem = PROBLEMS[name](0.01)
    assert 90 <= len(problem.data) <= 10_000
    assert not problem.data.isna().any(axis=None)
    assert problem.data.equals(PROBLEMS[name](0.01).data)
    if isinstance(problem, SimulatedDesign):
        _check_terms(problem)


def _check_terms(problem: SimulatedDesign) -> None:
    bars = problem.formula.split("(")[1:]
    effects = [bar.count("+") + 1 - bar.rstrip().endswith("+") for bar in bars]
    assert problem.theta.size == sum(s * (s + 1) // 2 for s in effects)


def test_kb07_varies_within_subjects_and_items() -> None:
    data = kb07().data
    assert len(data) == 56 * 32
    for factor in ("s", "i"):
        cells = data.groupby([factor, "a", "b"]).size()
        assert len(cells) == 4 * data[factor].nunique()
        assert cells.groupby(factor).nunique().eq(1).all()


def test_five_factors_shape() -> None:
    data = five_factors().data
    levels = data.drop(columns=["y", "x"]).nunique()
    assert levels.to_dict() == {
        "student": 8000,
        "classroom": 600,
        "school": 60,
        "rater": 300,
        "item": 40,
    }
    assert data.groupby("classroom")["school"].nunique().eq(1).all()
    home = data["student"].to_numpy().astype(np.int64) * 600 // 8000
    assert np.mean(data["classroom"] != home) == pytest.approx(0.15, abs=0.01)
