"""Small designs of every kind, made directly as records, and the definition on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array, Design, Factor, RandomTerm
from sparselmm.covariance.model import CovarianceModel, covariance_model
from sparselmm.gram import Gram
from sparselmm.optimise import minimise
from sparselmm.optimum import Optimum
from sparselmm.problem import Problem
from sparselmm.systems.choose import choose
from tests.reference import Definition, define, dense_z

Terms = tuple[RandomTerm, ...]


@dataclass(frozen=True)
class Case:
    """A design with its terms."""

    design: Design
    terms: Terms

    @property
    def sizes(self) -> list[int]:
        return [factor.Q.shape[1] for factor in self.design.factors]

    @property
    def model(self) -> CovarianceModel:
        return covariance_model(self.terms, self.sizes)

    @property
    def gram(self) -> Gram:
        return Gram.from_design(self.design, self.terms)

    @property
    def Z(self) -> list[Array]:
        return [dense_z(f.codes, f.Q, f.n_levels) for f in self.design.factors]

    def problem(self, *, reml: bool = True, path: str = "auto") -> Problem:
        gram = self.gram
        return Problem(gram, choose(gram, path).system, self.model, reml)

    def fit(self, *, reml: bool = True, path: str = "auto", **options) -> Optimum:
        return minimise(self.problem(reml=reml, path=path), **options)

    def define(self, T: Sequence[Array], *, reml: bool) -> Definition:
        d = self.design
        kept = self.gram.basis.kept
        return define(d.y, d.X[:, kept], self.Z, T, weights=d.weights, offset=d.offset, reml=reml)

    def with_design(self, **changes) -> Case:
        return Case(replace(self.design, **changes), self.terms)

    def rows(self, index: Array) -> Case:
        """The same levels, other rows."""
        d = self.design
        factors = tuple(
            replace(f, codes=f.codes[index], Q=np.ascontiguousarray(f.Q[index])) for f in d.factors
        )
        pick = {name: getattr(d, name) for name in ("weights", "offset")}
        pick = {name: None if v is None else v[index] for name, v in pick.items()}
        return Case(Design(d.y[index], d.X[index], factors, **pick), self.terms)


def factor(codes: Array, *columns: Array) -> Factor:
    """A factor with an intercept unless columns are given; levels are renumbered."""
    levels, codes = np.unique(codes, return_inverse=True)
    Q = np.column_stack(columns) if columns else np.ones((len(codes), 1))
    return Factor(codes.astype(np.int32), np.ascontiguousarray(Q, float), len(levels))


def term(index: int, columns: int, template: str = "unstructured", start: int = 0) -> RandomTerm:
    """Columns start to start + columns of a factor."""
    names = tuple(f"q{i}" for i in range(start, start + columns))
    return RandomTerm(f"{names} | f{index}", f"f{index}", names, template, index, start)


def one_term_each(factors: Sequence[Factor]) -> Terms:
    """An unstructured term on every factor."""
    return tuple(term(j, f.Q.shape[1]) for j, f in enumerate(factors))


def make_case(
    rng: np.random.Generator,
    factors: Sequence[Factor],
    terms: Terms | None = None,
    *,
    p: int = 2,
    weighted: bool = False,
    scale: float = 0.7,
    theta: Array | None = None,
) -> Case:
    """A response drawn from the model, with a random regular T unless theta is given."""
    n = len(factors[0].codes)
    terms = one_term_each(factors) if terms is None else terms
    X = np.column_stack([np.ones(n), rng.normal(size=(n, max(p - 1, 0)))])[:, :p]
    weights = rng.uniform(0.3, 3.0, n) if weighted else None
    offset = rng.normal(size=n) if weighted else None
    case = Case(Design(np.zeros(n), X, tuple(factors), weights, offset), terms)
    T = random_T(rng, case.model, scale) if theta is None else case.model.factors(theta)
    y = X @ rng.normal(size=p) + rng.normal(size=n) / (1.0 if weights is None else np.sqrt(weights))
    for f, z, t in zip(factors, case.Z, T, strict=True):
        y = y + z @ (rng.normal(size=(f.n_levels, len(t))) @ t.T).ravel()
    return case.with_design(y=y if offset is None else y + offset)


def crossed(rng: np.random.Generator, *sizes: int, n: int = 300, slopes: bool = True) -> Case:
    """Factors that meet in rows at random, one term each."""
    x = rng.normal(size=n)
    columns = (np.ones(n), x) if slopes else (np.ones(n),)
    return make_case(rng, [factor(rng.integers(0, levels, n), *columns) for levels in sizes])


def random_theta(rng: np.random.Generator, model: CovarianceModel, scale: float = 0.7) -> Array:
    """Regular theta: pivots away from zero."""
    theta = scale * rng.normal(size=model.n_theta)
    return np.where(model.pivots, np.abs(theta) + 0.2 * scale, theta)


def random_T(rng: np.random.Generator, model: CovarianceModel, scale: float = 0.7):
    return model.factors(random_theta(rng, model, scale))


def cases(seed: int = 3) -> dict[str, Case]:
    """One small case of every kind of design."""
    rng = np.random.default_rng(seed)
    n = 72
    x, z = rng.normal(size=n), rng.normal(size=n)
    one = np.ones(n)
    g = rng.permutation(np.arange(n) % 11)
    school = g // 3
    rater, item = rng.integers(0, 7, n), rng.integers(0, 5, n)
    inside = g * 3 + rng.integers(0, 3, n)
    other = g * 2 + rng.integers(0, 2, n)
    home = np.where(rng.random(n) < 0.15, rng.integers(0, 4, n), school)
    slope, slopes = factor(g, one, x), factor(g, one, x, z)

    def case(factors: Sequence[Factor], terms: Terms | None = None, **options) -> Case:
        return make_case(rng, factors, terms, **options)

    return {
        "single scalar": case([factor(g)]),
        "single vector": case([slope]),
        "single of order 3": case([slopes]),
        "single of order 5": case([factor(g, one, x, z, x * z, x**2 - 1)]),
        "nested": case([factor(inside), factor(g), factor(school)]),
        "nested vector": case([factor(inside), slope]),
        "components inside a group": case([factor(inside), factor(other), slope]),
        "crossed": case([factor(rater), factor(item)]),
        "crossed vector": case([slope, factor(rater, one, z), factor(item)]),
        "leading not first": case([factor(inside % 13), factor(rater, one, x, z)]),
        "partially crossed": case([factor(inside), factor(g), factor(home), factor(rater)]),
        "several terms on one factor": case(
            [factor(g, one, x, z), factor(rater)], (term(0, 1), term(0, 2, start=1), term(1, 1))
        ),
        "terms on one factor, unsorted": case(
            [factor(g, one, x, z), factor(rater)], (term(0, 2, start=1), term(1, 1), term(0, 1))
        ),
        "diagonal": case([slopes, factor(rater)], (term(0, 3, "diagonal"), term(1, 1))),
        "scalar": case([slope, factor(rater, z, one)], (term(0, 2, "scalar"), term(1, 2))),
        "weights and offset": case([slope, factor(rater)], weighted=True),
        "no fixed effects": case([slope, factor(rater)], p=0),
        "one level": case([factor(g), factor(np.zeros(n, int))], p=1),
        "one row a level": case([factor(np.arange(n), x), factor(rater)]),
    }


def numeric_gradient(f: Callable[[Array], float], at: Array, h: float = 1e-5) -> Array:
    """Central differences."""
    steps = h * np.eye(len(at))
    return np.array([(f(at + e) - f(at - e)) / (2 * h) for e in steps])
