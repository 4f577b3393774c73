"""From a model to an estimate: the engine's optimiser where it applies, a general one where not.

The engine's optimiser serves free and diagonal cov_re. Masks with other patterns, values held fixed, and penalties go
through `masked`: quasi-Newton on the exact score in the free elements (of the Cholesky factor with `use_sqrt`, of
cov_re without), finished with Newton steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.engine import Engine, Gradient, Point, at_params, gradient
from sparselmm.compat.statsmodels.params import MixedLMParams
from sparselmm.fit import fit
from sparselmm.optimum import Entry, Outcome

EDGE = 0.05  # smallest variance root to start from, in the units of a search
GRADIENT_TOLERANCE = 1e-6  # of the preconditioned score, in units of the log-likelihood
LIMIT = "not converged: stopped at the largest number of evaluations; raise maxiter"


@dataclass(frozen=True)
class Estimate:
    """Where an optimisation ended.

    Attributes
    ----------
    params : MixedLMParams
        Covariance parameters relative to `scale`.
    scale, llf : float
        llf includes penalties, as in statsmodels.
    converged : bool
    outcome : str
    hist : dict
        What `full_output=True` attaches.
    point : Point
        The model there, without its factorisation.
    """

    params: MixedLMParams
    scale: float
    llf: float
    converged: bool
    outcome: str
    hist: dict[str, Any]
    point: Point


@dataclass(frozen=True)
class Penalties:
    """statsmodels' penalties, subtracted from the log-likelihood."""

    fe: Any = None
    cov: Any = None

    def __bool__(self) -> bool:
        return self.fe is not None or self.cov is not None

    def value(self, params: MixedLMParams) -> float:
        """Sum of the penalties at a point."""
        total = 0.0
        if self.cov is not None and params.k_re:
            total += float(self.cov.func(params.cov_re, _inverse(params.cov_re)))
        if self.fe is not None:
            total += float(self.fe.func(np.nan_to_num(params.fe_params)))
        return total

    def slope(self, params: MixedLMParams, own: Gradient) -> Gradient:
        """The gradient less that of the penalties."""
        fe, cov = own.fe, own.cov_re
        if self.fe is not None:
            fe = fe - np.asarray(self.fe.deriv(np.nan_to_num(params.fe_params)))
        if self.cov is not None and params.k_re:
            lower = np.zeros_like(cov)
            lower[np.tril_indices(len(cov))] = self.cov.deriv(
                params.cov_re, _inverse(params.cov_re)
            )
            cov = cov - 0.5 * (lower + lower.T)
        return Gradient(fe, cov, own.vcomp)


def _inverse(matrix: Array) -> Array:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix)


def optimum(
    engine: Engine, start: MixedLMParams | None, *, reml: bool, report: Callable[[Entry], None]
) -> Estimate:
    """The unconstrained optimum (of the engine's covariance templates)."""
    theta = None
    if start is not None:
        theta = engine.prepared.model.theta(engine.user_factors(start.cov_re, start.vcomp))
    done = fit(engine.prepared, reml=reml, options=engine.options, start=theta, report=report)
    cov_re, vcomp = engine.components(done.T)
    fe = np.full(engine.k_fe, np.nan)
    fe[done.kept] = done.beta
    params = MixedLMParams.from_components(fe, cov_re=cov_re, vcomp=vcomp)
    llf, found = -0.5 * done.deviance, done.optimum
    hist = {
        "fopt": -llf,
        "converged": found.converged,
        "iterations": len(found.log),
        "gcalls": found.evaluations,
        "fcalls": len(found.log),
        "allvecs": [_packed_root(engine, entry.theta) for entry in found.log],
    }
    solution = replace(done.solution, factored=None)
    point = Point(engine, solution, np.zeros(done.p))
    return Estimate(params, done.sigma2, llf, found.converged, _said(found.outcome), hist, point)


def _said(outcome: Outcome) -> str:
    return LIMIT if outcome is Outcome.MAX_EVALUATIONS else outcome.value


def _packed_root(engine: Engine, theta: Array) -> Array:
    """Roots of the covariance parameters, packed, from the engine's internal coordinates."""
    prepared = engine.prepared
    basis = prepared.gram.basis
    T = [basis.user_factor(j, t) for j, t in enumerate(prepared.model.factors(theta))]
    cov_re, vcomp = engine.components(T)
    return MixedLMParams.from_components(cov_re=cov_re, vcomp=vcomp).get_packed(use_sqrt=True)


def stay(engine: Engine, start: MixedLMParams, penalties: Penalties, *, reml: bool) -> Estimate:
    """No optimisation: the GLS estimates at the covariance parameters given."""
    point = at_params(engine, start, reml=reml, profile_fe=True)
    return _estimate(point, start, penalties, False, "not optimised: do_cg=False", {})


def _estimate(
    point: Point,
    at: MixedLMParams,
    penalties: Penalties,
    converged: bool,
    outcome: str,
    hist: dict[str, Any],
) -> Estimate:
    params = MixedLMParams.from_components(
        point.engine.beta(point.solution), cov_re=at.cov_re.copy(), vcomp=at.vcomp.copy()
    )
    llf = point.llf - penalties.value(params)
    point = replace(point, solution=replace(point.solution, factored=None))
    return Estimate(params, point.scale, llf, converged, outcome, hist, point)


@dataclass(frozen=True)
class Mask:
    """Which packed covariance parameters move, and in which form.

    Attributes
    ----------
    free : ndarray of bool, shape (k_re2 + k_vc,)
    use_sqrt : bool
        Packed as roots.
    order : ndarray of int, shape (k_re,)
        Order of the random-effects columns in which cov_re is factored (for profiles).
    """

    free: Array
    use_sqrt: bool
    order: Array

    def pack(self, params: MixedLMParams) -> Array:
        """Packed vector of a point, columns in `order`."""
        return self._reordered(params, self.order).get_packed(use_sqrt=self.use_sqrt)

    def unpack(self, packed: Array, k_fe: int, fe: Array | None) -> MixedLMParams:
        """The point of a packed vector."""
        point = MixedLMParams.from_packed(packed, k_fe, len(self.order), self.use_sqrt, False)
        point.fe_params = np.zeros(k_fe) if fe is None else fe
        return self._reordered(point, np.argsort(self.order))

    def slope(self, packed: Array, own: Gradient) -> Array:
        """Gradient in the packed vector, zero where it is held."""
        turned = Gradient(own.fe, own.cov_re[np.ix_(self.order, self.order)], own.vcomp)
        if not self.use_sqrt:
            return np.where(self.free, turned.packed(), 0.0)
        k = len(self.order)
        L = np.zeros((k, k))
        k_re2 = k * (k + 1) // 2
        L[np.tril_indices(k)] = packed[:k_re2]
        along = 2.0 * turned.cov_re @ L
        full = np.concatenate([along[np.tril_indices(k)], 2.0 * packed[k_re2:] * turned.vcomp])
        return np.where(self.free, full, 0.0)

    @staticmethod
    def _reordered(params: MixedLMParams, order: Array) -> MixedLMParams:
        point = params.copy()
        point.cov_re = params.cov_re[np.ix_(order, order)]
        return point


def masked(
    engine: Engine,
    start: MixedLMParams,
    mask: Mask,
    penalties: Penalties,
    *,
    reml: bool,
    maxiter: int | None = None,
) -> Estimate:
    """The optimum over the free parameters, the others held at `start`.

    Without a penalty on them the fixed effects are profiled out; with one they are optimised too.
    """
    task = _Task(engine, start, mask, penalties, reml)
    x, evaluations, size = _minimise(task, maxiter)
    params, point = task.point(x)
    converged = size <= GRADIENT_TOLERANCE * 10.0
    stopped = LIMIT if maxiter is not None else Outcome.STALLED.value
    outcome = Outcome.CONVERGED.value if converged else stopped
    hist = {"converged": converged, "gcalls": evaluations, "fcalls": evaluations}
    done = _estimate(point, params, penalties, converged, outcome, hist)
    return replace(done, hist={**hist, "fopt": -done.llf})


class _Task:
    """Minus the penalised log-likelihood over scaled free parameters."""

    def __init__(
        self, engine: Engine, start: MixedLMParams, mask: Mask, penalties: Penalties, reml: bool
    ) -> None:
        self.engine, self.mask, self.penalties, self.reml = engine, mask, penalties, reml
        self.packed = mask.pack(start)
        self.with_fe = penalties.fe is not None
        first = at_params(engine, start, reml=reml, profile_fe=True)
        self.fe = np.nan_to_num(engine.beta(first.solution))
        self.fe_map = self._fixed_scale(first) if self.with_fe else np.zeros((engine.k_fe, 0))
        self.scale = self._scales(start)[mask.free]
        self.evaluations = 0

    def _fixed_scale(self, point: Point) -> Array:
        """Columns: unit steps of the fixed effects in standard errors."""
        basis = self.engine.prepared.gram.basis
        half = basis.Rx.T @ point.solution.L_M / np.sqrt(point.scale)
        full = np.zeros((self.engine.k_fe, len(half)))
        full[basis.kept] = np.linalg.inv(half.T)
        return full

    def _scales(self, start: MixedLMParams) -> Array:
        """Unit steps of the packed parameters: what one level's data show."""
        engine = self.engine
        basis = engine.prepared.gram.basis
        unit = [
            np.diag(basis.user_factor(j, np.diag(f))) / np.sqrt(1e-9)
            for j, f in enumerate(engine.floor)
        ]
        re, order = engine.layout.re, self.mask.order
        own = np.empty(0) if re is None else unit[re.factor][re.columns][order]
        a, b = np.tril_indices(len(order))
        roots = [unit[p.factor][p.columns.start] for p in engine.layout.vc]
        if self.mask.use_sqrt:
            return np.concatenate([own[a], np.array(roots)])
        return np.concatenate([own[a] * own[b], np.square(np.array(roots))])

    def start(self) -> Array:
        """Where the search begins: off the boundary, where the slope in a root of zero is zero whatever the data."""
        x = self.packed[self.mask.free] / self.scale
        a, b = np.tril_indices(len(self.mask.order))
        diagonal = np.concatenate([a == b, np.ones(len(self.packed) - len(a), dtype=bool)])
        near = diagonal[self.mask.free] & (np.abs(x) < EDGE)
        return np.concatenate([np.zeros(self.fe_map.shape[1]), np.where(near, EDGE, x)])

    def params(self, x: Array) -> MixedLMParams:
        k = self.fe_map.shape[1]
        packed = self.packed.copy()
        packed[self.mask.free] = x[k:] * self.scale
        fe = self.fe + self.fe_map @ x[:k] if self.with_fe else None
        return self.mask.unpack(packed, self.engine.k_fe, fe)

    def point(self, x: Array) -> tuple[MixedLMParams, Point]:
        params = self.params(x)
        return params, at_params(self.engine, params, reml=self.reml, profile_fe=not self.with_fe)

    def __call__(self, x: Array) -> tuple[float, Array]:
        self.evaluations += 1
        try:
            params, point = self.point(x)
        except (ValueError, np.linalg.LinAlgError):
            return np.inf, np.zeros_like(x)
        params.fe_params = np.nan_to_num(self.engine.beta(point.solution))
        value = -point.llf + self.penalties.value(params)
        own = self.penalties.slope(params, gradient(point))
        packed = self.packed.copy()
        k = self.fe_map.shape[1]
        packed[self.mask.free] = x[k:] * self.scale
        covariance = self.mask.slope(packed, own)[self.mask.free] * self.scale
        return value, -np.concatenate([self.fe_map.T @ own.fe, covariance])


def _minimise(task: _Task, maxiter: int | None = None) -> tuple[Array, int, float]:
    """Minimiser, evaluations, and the largest Newton decrement left."""
    from scipy.optimize import minimize

    x = task.start()
    if len(x) == 0:
        task(x)
        return x, 1, 0.0
    limit = 500 if maxiter is None else maxiter
    found = minimize(task, x, jac=True, method="BFGS", options={"gtol": 1e-7, "maxiter": limit})
    x, decrement = found.x, np.inf
    for _ in range(4 if maxiter is None else min(4, 1 + maxiter - found.nit)):
        value, slope = task(x)
        H = _difference_hessian(task, x)
        eigenvalues, vectors = np.linalg.eigh(H)
        step = -vectors @ ((vectors.T @ slope) / np.maximum(np.abs(eigenvalues), 1e-8))
        decrement = float(np.sqrt(max(-step @ slope, 0.0)))
        if decrement < GRADIENT_TOLERANCE or task(x + step)[0] > value:
            break
        x = x + step
    return x, task.evaluations, decrement


def _difference_hessian(task: _Task, x: Array) -> Array:
    columns = []
    for i in range(len(x)):
        step = np.zeros_like(x)
        step[i] = 1e-4 * max(abs(x[i]), 1e-2)
        columns.append((task(x + step)[1] - task(x - step)[1]) / (2.0 * step[i]))
    H = np.column_stack(columns)
    return 0.5 * (H + H.T)
