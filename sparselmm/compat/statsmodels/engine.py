"""Log-likelihood and score at any (fe_params, cov_re, vcomp), the scale profiled out.

With H = I + Z Sigma Z', M = X'H^-1X, d the distance of beta from the GLS estimate and nu = n (ML) or n - k_fe (REML),

    l = -(1/2) [ log|H| (+ log|M|) + nu (1 + log(2 pi r2 / nu)) ],      r2 = r2_GLS + d'M d
    dl/dbeta  = (nu / r2) M d
    dl/dSigma = -(1/2) T^-T E T^-1           with E of `sparselmm.criterion` at beta
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.mapping import Layout
from sparselmm.compat.statsmodels.params import MixedLMParams, lower_root
from sparselmm.criterion import Solution, by_levels, gradient_matrices, solve_at
from sparselmm.fit import Prepared
from sparselmm.gram import Gram
from sparselmm.optimise import make_scale
from sparselmm.options import Options
from sparselmm.threads import limited_threads

DEFAULT = Options()


@dataclass(frozen=True)
class Engine:
    """A prepared model and the places of statsmodels' parameters in it."""

    prepared: Prepared
    layout: Layout
    k_fe: int
    options: Options = DEFAULT

    @cached_property
    def floor(self) -> tuple[Array, ...]:
        """Smallest pivots of the internal T at which the score in Sigma can be computed, per factor."""
        noise = make_scale(self.prepared.problem(reml=False)).noise
        return tuple(np.sqrt(1e-9 * np.diag(matrix)) for matrix in noise)

    def threads(self):
        """Limit threads as the size of the problem asks for."""
        return limited_threads(self.prepared.threads(self.options))

    def user_factors(self, cov_re: Array, vcomp: Array) -> list[Array]:
        """T of every factor in the user's coordinates, shape (s_j, s_j)."""
        T = [np.zeros((s, s)) for _, s in self.prepared.gram.shapes]
        if self.layout.re is not None:
            T[self.layout.re.factor][self.layout.re.columns, self.layout.re.columns] = lower_root(
                cov_re
            )
        for place, variance in zip(self.layout.vc, vcomp, strict=True):
            if variance < 0.0:
                raise ValueError(
                    f"Found a variance component of {variance:.3g}; expected none below zero."
                )
            size = place.columns.stop - place.columns.start
            T[place.factor][place.columns, place.columns] = np.sqrt(variance) * np.eye(size)
        return T

    def factors(self, cov_re: Array, vcomp: Array) -> list[Array]:
        """T of every factor in internal coordinates."""
        basis = self.prepared.gram.basis
        return [basis.internal_factor(j, T) for j, T in enumerate(self.user_factors(cov_re, vcomp))]

    def components(self, T: list[Array] | tuple[Array, ...]) -> tuple[Array, Array]:
        """cov_re and vcomp, relative to the scale, from user factors."""
        cov_re = np.empty((0, 0))
        if self.layout.re is not None:
            block = T[self.layout.re.factor][self.layout.re.columns, self.layout.re.columns]
            cov_re = block @ block.T
        roots = [T[p.factor][p.columns.start, p.columns.start] for p in self.layout.vc]
        return cov_re, np.square(np.array(roots, dtype=float))

    def with_response(self, y: Array) -> Engine:
        """The same design with another response; the penalised system is shared."""
        prepared = self.prepared
        design = replace(prepared.design, y=y)
        gram = Gram.from_design(design, prepared.spec.terms, prepared.gram.basis)
        return replace(self, prepared=replace(prepared, design=design, gram=gram))

    def beta(self, solution: Solution) -> Array:
        """Fixed effects in the user's coordinates, NaN for columns that depend on earlier ones."""
        basis = self.prepared.gram.basis
        out = np.full(self.k_fe, np.nan)
        out[basis.kept] = basis.beta(solution.beta)
        return out


@dataclass(frozen=True)
class Point:
    """The model at one set of parameters.

    Attributes
    ----------
    solution : Solution
        beta, u, r2 and deviance belong to the fixed effects that were given.
    distance : ndarray, shape (p,)
        From beta to the GLS estimate, internal coordinates.
    """

    engine: Engine
    solution: Solution
    distance: Array

    @property
    def llf(self) -> float:
        """Log-likelihood, profiled over the scale."""
        return -0.5 * self.solution.deviance

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self.solution.s2

    def random_effects(self) -> list[Array]:
        """Conditional modes, shape (l_j, s_j) per factor, user's coordinates."""
        gram = self.engine.prepared.gram
        views = by_levels(gram.shapes, self.solution.u)
        T = [gram.basis.user_factor(j, t) for j, t in enumerate(self.solution.T)]
        return [U @ t.T for U, t in zip(views, T, strict=True)]


def point_at(
    engine: Engine, T: list[Array] | tuple[Array, ...], fe: Array | None, *, reml: bool
) -> Point:
    """The model at internal factors T and fixed effects (None: the GLS estimate)."""
    gram = engine.prepared.gram
    with engine.threads():
        gls = solve_at(gram, engine.prepared.system, T, reml=reml)
    if fe is None:
        return Point(engine, gls, np.zeros(gram.p))
    basis = gram.basis
    given = np.nan_to_num(np.asarray(fe, dtype=float))
    dropped = np.setdiff1d(np.arange(engine.k_fe), basis.kept)
    if np.any(given[dropped] != 0.0):
        raise ValueError(
            f"Found an effect for column {dropped[given[dropped] != 0.0][0]} of exog, which depends on the "
            "columns before it; expected zero or NaN there."
        )
    beta = basis.Rx @ (given[basis.kept] - basis.beta0)
    distance = gls.beta - beta
    r2 = gls.r2 + float(np.sum((gls.L_M.T @ distance) ** 2))
    moved = replace(
        gls,
        beta=beta,
        u=gls.u + gls.V_X @ distance,
        r2=r2,
        deviance=gls.deviance + gls.nu * float(np.log(r2 / gls.r2)),
    )
    return Point(engine, moved, distance)


def refined_llf(point: Point) -> float:
    """Log-likelihood with r2 = ||y - X beta - Z b||² + ||u||² summed over rows.

    Cross-products leave r2 a rounding error of 1e-16 y'y; this sum has none beyond its own size, and that of u counts
    to second order only. Numerical derivatives of `MixedLM.loglike` need it.
    """
    solution, prepared = point.solution, point.engine.prepared
    gram, design = prepared.gram, prepared.design
    e = gram.basis.response(design.X, design.y, None) - gram.basis.fixed(design.X) @ solution.beta
    for factor, b in zip(design.factors, point.random_effects(), strict=True):
        e -= np.einsum("ia,ia->i", factor.Q, b[factor.codes])
    r2 = float(e @ e + solution.u @ solution.u)
    return point.llf - 0.5 * solution.nu * float(np.log(r2 / solution.r2))


def at_params(engine: Engine, params: MixedLMParams, *, reml: bool, profile_fe: bool) -> Point:
    """The model at statsmodels' parameters."""
    T = engine.factors(params.cov_re, params.vcomp)
    return point_at(engine, T, None if profile_fe else params.fe_params, reml=reml)


@dataclass(frozen=True, slots=True)
class Gradient:
    """Derivatives of the log-likelihood.

    Attributes
    ----------
    fe : ndarray, shape (k_fe,)
    cov_re : ndarray, shape (k_re, k_re)
        Symmetric G with dl = <G, d cov_re>.
    vcomp : ndarray, shape (k_vc,)
    """

    fe: Array
    cov_re: Array
    vcomp: Array

    def packed(self) -> Array:
        """With respect to the lower triangle of cov_re and vcomp."""
        doubled = 2.0 * self.cov_re - np.diag(np.diag(self.cov_re))
        return np.concatenate([doubled[np.tril_indices(len(doubled))], self.vcomp])

    def packed_root(self, cov_re: Array, vcomp: Array) -> Array:
        """With respect to the lower triangle of the root of cov_re and the roots of vcomp."""
        slope = 2.0 * self.cov_re @ lower_root(cov_re)
        return np.concatenate(
            [slope[np.tril_indices(len(slope))], 2.0 * np.sqrt(vcomp) * self.vcomp]
        )


def gradient(point: Point) -> Gradient:
    """Exact derivatives at a point; at a singular covariance those a small step inside it."""
    engine = point.engine
    solution = point.solution
    T = [
        np.where(np.eye(len(t), dtype=bool), np.maximum(t, np.diag(floor)), t)
        for t, floor in zip(solution.T, engine.floor, strict=True)
    ]
    if any((a != b).any() for a, b in zip(T, solution.T, strict=True)):
        beta = engine.beta(solution)
        point = point_at(engine, T, beta, reml=solution.reml)
        solution = point.solution
    gram, layout = engine.prepared.gram, engine.layout
    with engine.threads():
        E = gradient_matrices(gram, solution)
    slopes = [_user_slope(t, e, R) for t, e, R in zip(solution.T, E, gram.basis.Rq, strict=True)]
    re = layout.re
    cov = np.empty((0, 0)) if re is None else slopes[re.factor][re.columns, re.columns]
    vcomp = [np.trace(slopes[p.factor][p.columns, p.columns]) for p in layout.vc]
    fe = np.zeros(engine.k_fe)
    moved = solution.L_M @ (solution.L_M.T @ point.distance)
    fe[gram.basis.kept] = gram.basis.Rx.T @ moved / solution.s2
    return Gradient(fe, cov, np.array(vcomp, dtype=float))


def _user_slope(T: Array, E: Array, R: Array) -> Array:
    """-(1/2) R'T^-T E T^-1 R."""
    half = np.linalg.solve(T, R)
    return -0.5 * half.T @ E @ half
