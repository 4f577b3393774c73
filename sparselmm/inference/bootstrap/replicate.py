"""Blocks of replicates: everything a worker needs, and nothing that another one changes.

A replicate of the parametric and of the residual kind replaces only Z'y, X'y and y'y. One of the cases kind draws the
levels of the outermost grouping factor with replacement, all rows of a level together, and takes cross-products anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array, Factor
from sparselmm.certificate import Certificate
from sparselmm.errors import InferenceError, SparseLMMError
from sparselmm.fit import Fit, Prepared, describe_fit
from sparselmm.gram import Gram
from sparselmm.optimise import minimise
from sparselmm.optimum import Optimum
from sparselmm.problem import Problem
from sparselmm.refits.batch import Engine, Minima, make_engine, refit_responses, with_response
from sparselmm.refits.refit import estimates_of
from sparselmm.refits.responses import (
    Normal,
    Pools,
    Rows,
    cross_products,
    draw_rows,
    make_rows,
    normal_source,
    residual_source,
    user_shift,
)
from sparselmm.systems.choose import choose
from sparselmm.threads import limited_threads

if TYPE_CHECKING:
    import pandas as pd

    from sparselmm.design import Design

# Where every replicate of a large design ends, in standard errors: a third of what 1,000 replicates leave to chance.
LARGEST_SCORE = 1e-2
KINDS = ("parametric", "residual", "cases")


@dataclass(frozen=True)
class Sampler:
    """How a replicate is made of a fit.

    Attributes
    ----------
    fit : Fit
    seed : numpy.random.SeedSequence
        Replicate i draws from its child i.
    names : list of str
        Of the statistics.
    statistic : callable or None
        From a `Fit` to numbers; all estimates when not given.
    """

    fit: Fit
    seed: np.random.SeedSequence
    names: list[str]
    statistic: Callable[[Fit], Any] | None

    def generators(self, first: int, count: int) -> list[np.random.Generator]:
        """One for each replicate from `first` on."""
        key = self.seed.spawn_key
        seeds = (
            np.random.SeedSequence(self.seed.entropy, spawn_key=(*key, i))
            for i in range(first, first + count)
        )
        return [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]

    def block(self, first: int, count: int, threads: int | None = None) -> tuple[Array, list[str]]:
        """Statistics (count, …) and outcomes of the replicates from `first` on."""
        if threads is None:
            threads = self.fit.prepared.threads(self.fit.options)
        with limited_threads(threads):
            return self._block(first, count)

    def _block(self, first: int, count: int) -> tuple[Array, list[str]]:
        raise NotImplementedError

    def measure(self, other: Fit) -> tuple[Array, str]:
        """The statistic of one fit, missing with the reason where that is not to be had."""
        outcome = other.optimum.outcome
        if not outcome.converged:
            return np.full(len(self.names), np.nan), outcome.value
        if self.statistic is None:
            return np.concatenate(all_estimates(other)), outcome.name
        try:
            values = as_series(self.statistic(other))
        except Exception as error:  # the user's function: kept, counted, shown
            return np.full(len(self.names), np.nan), f"{type(error).__name__}: {error}"
        if list(values.index) != self.names:
            return np.full(
                len(self.names), np.nan
            ), "the statistic has other names than for the fit"
        return values.to_numpy(float), outcome.name


@dataclass(frozen=True)
class ResponseSampler(Sampler):
    """Replicates that differ in the response only.

    Attributes
    ----------
    rows : Rows
    source : Normal or Pools
    problem : Problem
    engine : Engine or None
    """

    rows: Rows
    source: Normal | Pools
    problem: Problem
    engine: Engine | None

    def _block(self, first: int, count: int) -> tuple[Array, list[str]]:
        Y = draw_rows(self.rows, self.source, self.generators(first, count))
        responses = cross_products(self.rows, Y)
        options = self.fit.options
        settings: dict[str, Any] = {"tolerance": options.tolerance}
        if options.tolerance is None and self.engine is None:
            tolerance = 0.49 * LARGEST_SCORE**2
            settings = {"tolerance": tolerance, "closing": False, "largest_score": LARGEST_SCORE}
        minima = refit_responses(
            self.problem, self.engine, responses, self.fit.optimum.theta,
            max_evaluations=options.max_evaluations, **settings,
        )  # fmt: skip
        if self.statistic is None:
            values = np.column_stack(estimates_of(self.fit, minima))
            values[~minima.converged] = np.nan
            return values, [o.name if o.converged else o.value for o in minima.outcome]
        fits = (self._whole(responses, Y, minima, r) for r in range(count))
        measured = [self.measure(other) for other in fits]
        return np.array([values for values, _ in measured]), [outcome for _, outcome in measured]

    def _whole(self, responses, Y: Array, minima: Minima, r: int) -> Fit:
        """The fit of one replicate as if it had been fitted by itself."""
        problem = with_response(self.problem, responses, r)
        solution = problem.solve(minima.theta[r])
        certificate = Certificate(0.0, 0.0, 1.0, (), bool(minima.converged[r]))
        optimum = Optimum(minima.theta[r], solution, minima.outcome[r], certificate, ())
        design = replace(self.fit.design, y=Y[:, r] + user_shift(self.fit))
        prepared = replace(self.fit.prepared, design=design, gram=problem.gram)
        return describe_fit(prepared, optimum, reml=self.fit.reml, options=self.fit.options)


@dataclass(frozen=True)
class CaseSampler(Sampler):
    """Replicates that draw the levels of a grouping factor.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
        Rows by level of that factor.
    pointers : ndarray of int, shape (levels + 1,)
        Where each level's rows start in `order`.
    """

    order: Array
    pointers: Array

    def _block(self, first: int, count: int) -> tuple[Array, list[str]]:
        measured = [self._one(rng) for rng in self.generators(first, count)]
        return np.array([values for values, _ in measured]), [outcome for _, outcome in measured]

    def _one(self, rng: np.random.Generator) -> tuple[Array, str]:
        levels = len(self.pointers) - 1
        drawn = rng.integers(levels, size=levels)
        try:
            return self.measure(self._fit(drawn))
        except (SparseLMMError, np.linalg.LinAlgError) as error:
            return np.full(len(self.names), np.nan), f"{type(error).__name__}: {error}"

    def _fit(self, drawn: Array) -> Fit:
        fit = self.fit
        design = take_groups(fit.design, self.order, self.pointers, drawn)
        gram = Gram.from_design(design, fit.spec.terms, fit.gram.basis)
        prepared = Prepared(
            fit.spec, design, gram, choose(gram, fit.prepared.choice.name), fit.model
        )
        optimum = minimise(
            prepared.problem(reml=fit.reml),
            fit.optimum.theta,
            max_evaluations=fit.options.max_evaluations,
        )
        return describe_fit(prepared, optimum, reml=fit.reml, options=fit.options)


def make_sampler(
    fit: Fit, kind: str, seed: np.random.SeedSequence, names: list[str], statistic
) -> Sampler:
    """The sampler of a kind of bootstrap."""
    if kind not in KINDS:
        raise InferenceError(f"Found kind={kind!r}; expected one of {', '.join(KINDS)}.")
    if kind == "cases":
        factor = fit.design.factors[outermost(fit)]
        order = np.argsort(factor.codes, kind="stable")
        pointers = np.searchsorted(factor.codes[order], np.arange(factor.n_levels + 1))
        return CaseSampler(fit, seed, names, statistic, order, pointers)
    rows = make_rows(fit)
    source = normal_source(fit, rows) if kind == "parametric" else residual_source(fit, rows)
    problem = fit.problem
    return ResponseSampler(fit, seed, names, statistic, rows, source, problem, make_engine(problem))


def outermost(fit: Fit) -> int:
    """The grouping factor in whose levels all others are nested.

    Raises
    ------
    InferenceError
        Where factors are crossed: no set of rows is independent of the others.
    """
    factors = fit.design.factors
    best = min(range(len(factors)), key=lambda j: factors[j].n_levels)
    for j, factor in enumerate(factors):
        pairs = factor.codes.astype(np.int64) * factors[best].n_levels + factors[best].codes
        if len(np.unique(pairs)) > factor.n_levels:
            names = fit.spec.factor_names
            raise InferenceError(
                f"Found crossed factors {names[j]!r} and {names[best]!r}; kind='cases' draws groups of rows that are "
                "independent of each other, which needs all factors nested in one. Use kind='parametric' or "
                "'residual'."
            )
    return best


def take_groups(design: Design, order: Array, pointers: Array, drawn: Array) -> Design:
    """The rows of the drawn groups; a group that is drawn twice counts as two."""
    lengths = np.diff(pointers)[drawn]
    ends = np.cumsum(lengths)
    copy = np.repeat(np.arange(len(drawn)), lengths)
    rows = order[
        np.repeat(pointers[drawn], lengths)
        + np.arange(ends[-1])
        - np.repeat(ends - lengths, lengths)
    ]
    factors = []
    for factor in design.factors:
        keys = copy * np.int64(factor.n_levels) + factor.codes[rows]
        levels, codes = np.unique(keys, return_inverse=True)
        Q = np.ascontiguousarray(factor.Q[rows])
        factors.append(Factor(codes.astype(np.int32), Q, len(levels)))
    optional = {
        name: None if (own := getattr(design, name)) is None else own[rows]
        for name in ("weights", "offset")
    }
    X = np.ascontiguousarray(design.X[rows])
    return replace(design, y=design.y[rows], X=X, factors=tuple(factors), **optional)


def all_estimates(fit: Fit) -> tuple[Array, Array]:
    """Fixed effects; standard deviations, correlations and sigma."""
    at = fit.solution
    one = Minima(
        fit.optimum.theta[None], at.beta[None], np.array([at.s2]), np.array([fit.deviance]),
        np.array([fit.optimum.outcome], dtype=object), np.array([1]),
    )  # fmt: skip
    beta, varpar = estimates_of(fit, one)
    return beta[0], varpar[0]


def as_series(values: Any) -> pd.Series:
    """What a statistic returned, with names."""
    import pandas as pd

    if isinstance(values, (pd.Series, dict)):
        series = pd.Series(values, dtype=float)
    else:
        numbers = np.atleast_1d(np.asarray(values, dtype=float))
        if numbers.ndim != 1:
            raise InferenceError(
                f"Found a statistic of shape {numbers.shape}; expected a number, a vector, a dict or a Series."
            )
        names = (
            ["statistic"] if len(numbers) == 1 else [f"statistic_{i}" for i in range(len(numbers))]
        )
        series = pd.Series(numbers, index=names)
    series.index = series.index.astype(str)
    return series
