"""The frozen record of a fit, and the driver that makes it: design -> Gram -> system -> optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.beside import PROBES
from sparselmm.covariance.model import CovarianceModel, count_theta, covariance_model
from sparselmm.criterion import Solution, by_levels, fixed_covariance
from sparselmm.design.size import check_products
from sparselmm.errors import DataError, IdentifiabilityWarning, warn
from sparselmm.gram import Gram
from sparselmm.linalg import spectrum, weighted_sum
from sparselmm.machine import keep_freed_memory
from sparselmm.optimise import minimise
from sparselmm.optimum import Entry, Optimum
from sparselmm.options import Options
from sparselmm.problem import Problem
from sparselmm.systems.base import Factored, System
from sparselmm.systems.choose import Choice, choose
from sparselmm.threads import limited_threads, thread_count

if TYPE_CHECKING:
    from sparselmm.design import Design, DesignSpec

MEDIUM, LARGE = 2e8, 2e10  # operations per evaluation from which on tolerances are looser
DEPENDENT = 1e-12  # smallest eigenvalue of scaled cross-products that counts as none
ROUNDING_SHARE = 1e-28  # of y'y: a residual of 1e-14 of the response has no digits
# Repetitions of a solve; its time per operation, in that of an evaluation.
STEPS, SOLVE_RATE = 4, 15.0
TOLERANCE, TOLERANCE_MEDIUM, TOLERANCE_LARGE = 1e-9, 3e-7, 4e-7


@dataclass(frozen=True)
class Prepared:
    """Everything before the first theta; shared by refits.

    Attributes
    ----------
    spec : DesignSpec
    design : Design
    gram : Gram
    choice : Choice
        The path and what it costs.
    model : CovarianceModel
    """

    spec: DesignSpec
    design: Design
    gram: Gram
    choice: Choice
    model: CovarianceModel

    @property
    def system(self) -> System:
        """The penalised system."""
        return self.choice.system

    def problem(self, *, reml: bool) -> Problem:
        """What the optimiser minimises."""
        return Problem(self.gram, self.system, self.model, reml)

    def threads(self, options: Options) -> int:
        """Threads for its evaluations."""
        work = self.choice.cost.flops + 10.0 * self.gram.q * (self.gram.p + 1 + self.model.n_theta)
        return thread_count(work, options.threads)


@dataclass(frozen=True)
class Fit:
    """A fitted model, in the user's coordinates unless said otherwise.

    Attributes
    ----------
    prepared : Prepared
    reml : bool
    options : Options
    optimum : Optimum
        Internal coordinates.
    T : tuple of ndarray, shape (s_j, s_j)
        Relative covariance factors; the covariance of factor j is sigma2 T_j T_j'.
    theta : ndarray, shape (n_theta,)
        Free entries of T, terms in lme4's order, down the columns of the lower triangles.
    beta : ndarray, shape (p,)
        Fixed effects of the columns kept.
    cov_beta : ndarray, shape (p, p)
    sigma2 : float
        Residual variance (at weight 1).
    deviance : float
        Minus twice the fitted criterion.
    """

    prepared: Prepared
    reml: bool
    options: Options
    optimum: Optimum
    T: tuple[Array, ...]
    theta: Array
    beta: Array
    cov_beta: Array
    sigma2: float
    deviance: float

    @property
    def spec(self) -> DesignSpec:
        """Names, levels and encoders."""
        return self.prepared.spec

    @property
    def design(self) -> Design:
        """The rows used."""
        return self.prepared.design

    @property
    def gram(self) -> Gram:
        """The cross-products."""
        return self.prepared.gram

    @property
    def system(self) -> System:
        """The penalised system."""
        return self.prepared.system

    @property
    def model(self) -> CovarianceModel:
        """The covariance templates."""
        return self.prepared.model

    @property
    def problem(self) -> Problem:
        """What was minimised."""
        return self.prepared.problem(reml=self.reml)

    @property
    def solution(self) -> Solution:
        """Estimates at the optimum, internal coordinates."""
        return self.optimum.solution

    @property
    def n(self) -> int:
        """Rows used."""
        return self.gram.n

    @property
    def p(self) -> int:
        """Columns of X kept."""
        return self.gram.p

    @property
    def kept(self) -> Array:
        """Indices of the kept columns among `spec.column_names`."""
        return self.gram.basis.kept

    @property
    def n_theta(self) -> int:
        """Covariance parameters."""
        return self.model.n_theta

    def factored(self) -> Factored:
        """The Cholesky factor of A at the optimum, made anew where the last step or pickling left none."""
        return self.solution.factored or self._factored_anew

    @cached_property
    def _factored_anew(self) -> Factored:
        return self.system.at(self.solution.T)

    def b(self) -> list[Array]:
        """Conditional modes, shape (l_j, s_j) per factor."""
        views = by_levels(self.gram.shapes, self.solution.u)
        return [U @ T.T for U, T in zip(views, self.T, strict=True)]

    def condvar(self) -> list[Array]:
        """Conditional covariances given theta and beta, shape (l_j, s_j, s_j) per factor."""
        with limited_threads(self.prepared.threads(self.options)):
            blocks = self.factored().inverse_blocks()
        return [self.sigma2 * (T @ block @ T.T) for T, block in zip(self.T, blocks, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the factorisation, which is large and cheap to make again."""
        solution = replace(self.solution, factored=None)
        state = {**self.__dict__, "optimum": replace(self.optimum, solution=solution)}
        state.pop("_factored_anew", None)
        return state


def prepare(
    spec: DesignSpec, design: Design, path: str = "auto", threads: int | None = None
) -> Prepared:
    """Cross-products and path of a design.

    Raises
    ------
    DataError
        The fixed effects leave nothing of the response but rounding errors, or there are thousands of covariance
        parameters.
    MemoryRefusedError
        The predicted memory exceeds what the machine has.
    """
    keep_freed_memory()
    widths = [factor.Q.shape[1] for factor in design.factors]
    check_products(design, spec, [count_theta([term]) for term in spec.terms])
    width = design.X.shape[1] + 1 + sum(widths)
    with limited_threads(thread_count(16.0 * design.n * width**2, threads)):
        gram = Gram.from_design(design, spec.terms)
        _check_residual(design, gram, spec.response)
        _check_random(gram, spec)
        model = covariance_model(spec.terms, widths)
        return Prepared(spec, design, gram, choose(gram, path), model)


def _check_residual(design: Design, gram: Gram, response: str) -> None:
    """Refuse models whose fixed effects alone reproduce the response."""
    n, p = gram.n, gram.p
    if p >= n:
        raise DataError(
            f"Found {p} fixed effects for {n} rows; expected fewer fixed effects than rows, or no "
            "residual is left. Simplify the fixed part."
        )
    y = design.y if design.offset is None else design.y - design.offset
    total = float(y @ (y if design.weights is None else design.weights * y))
    if gram.XytXy[-1, -1] <= ROUNDING_SHARE * total:
        raise DataError(
            f"The fixed effects reproduce all {n} values of '{response}' exactly; "
            "expected something left for the random effects and the residual. Check whether the "
            "response was computed from the predictors."
        )


def _check_random(gram: Gram, spec: DesignSpec) -> None:
    """Refuse columns of zeros left of a bar, warn of columns that depend on each other."""
    for term in spec.terms:
        own = slice(term.start, term.stop)
        products = weighted_sum(gram.ZtZ[term.factor])[own, own]
        size = products.diagonal()
        if (size <= 0.0).any():
            name = term.columns[int(np.flatnonzero(size <= 0.0)[0])]
            raise DataError(
                f"Column '{name}' of ({term.label}) is zero in all rows; expected a column that varies. Drop it."
            )
        root = spectrum(products)
        if root.values[0] < DEPENDENT:
            warn(
                f"The columns of ({term.label}) depend on each other, so their covariances are not identified: "
                "other values give the same fit. Drop one of them.",
                IdentifiabilityWarning,
            )
    for (i, j), block in gram.cross.items():
        if len(block.indices) == gram.shapes[i][0] == gram.shapes[j][0]:
            _check_same_groups(gram, spec, i, j)


def _check_same_groups(gram: Gram, spec: DesignSpec, i: int, j: int) -> None:
    """Warn of terms that repeat each other on two factors with the same groups under other names."""
    own, mixed, other = (
        weighted_sum(blocks) for blocks in (gram.ZtZ[i], gram.cross[i, j].values, gram.ZtZ[j])
    )
    products = np.block([[own, mixed], [mixed.T, other]])
    if spectrum(products).values[0] < DEPENDENT:
        first, second = (spec.factor_names[k] for k in (i, j))
        warn(
            f"Grouping factors '{first}' and '{second}' have the same groups, and their terms have columns in common: "
            "only the sum of those variances is identified. Drop one of them.",
            IdentifiabilityWarning,
        )


def fit(
    prepared: Prepared,
    *,
    reml: bool,
    options: Options,
    start: Array | None = None,
    report: Callable[[Entry], None] | None = None,
) -> Fit:
    """Find the optimum.

    Parameters
    ----------
    prepared : Prepared
    reml : bool
    options : Options
    start : ndarray, shape (n_theta,), optional
        theta in the user's coordinates.
    report : callable
        Called with every evaluation's log entry.
    """
    model, basis = prepared.model, prepared.gram.basis
    internal = None
    if start is not None:
        T = [basis.internal_factor(j, t) for j, t in enumerate(model.factors(start))]
        internal = model.theta(T)
    tolerance, closing = default_tolerance(prepared.choice.cost.flops)
    tolerance = options.tolerance or tolerance
    with limited_threads(prepared.threads(options)):
        optimum = minimise(
            prepared.problem(reml=reml),
            internal,
            tolerance=tolerance,
            closing=closing,
            beside=beside_pays(prepared),
            max_evaluations=options.max_evaluations,
            report=report,
        )
        return describe_fit(prepared, optimum, reml=reml, options=options)


def beside_pays(prepared: Prepared) -> bool:
    """Whether value and score next to a factorisation come cheaper by solves: those with the probes, and a few more."""
    gram, cost = prepared.gram, prepared.choice.cost
    solves = PROBES * sum(s for _, s in gram.shapes) + STEPS * (gram.p + 1)
    return cost.flops > SOLVE_RATE * solves * cost.solve


def default_tolerance(flops: float) -> tuple[float, bool]:
    """Promised gain at which to stop, and whether to take the closing step, by the cost of an evaluation."""
    if flops > LARGE:
        return TOLERANCE_LARGE, False
    return (TOLERANCE_MEDIUM if flops > MEDIUM else TOLERANCE), True


def describe_fit(prepared: Prepared, optimum: Optimum, *, reml: bool, options: Options) -> Fit:
    """The record of an optimum, in the user's coordinates."""
    basis, solution = prepared.gram.basis, optimum.solution
    T = tuple(basis.user_factor(j, t) for j, t in enumerate(solution.T))
    return Fit(
        prepared=prepared,
        reml=reml,
        options=options,
        optimum=optimum,
        T=T,
        theta=prepared.model.theta(T),
        beta=basis.beta(solution.beta),
        cov_beta=basis.cov_beta(fixed_covariance(solution)),
        sigma2=solution.s2,
        deviance=solution.deviance,
    )
