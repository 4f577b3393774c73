"""Hessian of the log-likelihood in (fe_params, cov_re, vcomp).

With one factor it is exact (`one_factor`), otherwise it is made of central differences of the exact score. Either
way the directions are relative, cov_re -> L (I + t S) L' for symmetric S and vcomp -> (1 + t) vcomp, so that they stay
inside the cone and suit every scale; the chain rule brings them back to the elements of cov_re. The block of the
fixed effects is exact:

    d2l / dbeta dbeta' = -(nu / r2) M + (2 nu / r2²) (M d)(M d)'

Rows and columns of a singular term are NaN: the likelihood ends there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.engine import Engine, Point, at_params, gradient
from sparselmm.compat.statsmodels.mapping import Place
from sparselmm.compat.statsmodels.one_factor import has_one_factor, second_derivatives
from sparselmm.compat.statsmodels.params import MixedLMParams, lower_root

STEP = 2e-4
SINGULAR = 1e-4  # pivot of T, relative to what one level shows, of a singular term


@dataclass(frozen=True, slots=True)
class _Direction:
    """A way to move the covariance parameters.

    Attributes
    ----------
    packed, cov_re, vcomp : ndarray
        Its effect on the packed vector, and on its parts.
    relative : ndarray, shape (s_j, s_j)
        The symmetric matrix S of its factor.
    """

    packed: Array
    relative: Array
    cov_re: Array
    vcomp: Array


def hessian(
    engine: Engine, params: MixedLMParams, *, reml: bool, point: Point | None = None
) -> tuple[Array, bool]:
    """Second derivatives, and whether a term is singular; `point` is the model at `params`, if known.

    Returns
    -------
    ndarray, shape (k_tot, k_tot)
    bool
    """
    k_fe, k_re2 = params.k_fe, params.k_re2
    H = np.full((params.k_tot, params.k_tot), np.nan)
    if point is None:
        point = at_params(engine, params, reml=reml, profile_fe=False)
    H[:k_fe, :k_fe] = _fixed_block(point)
    regular_re, regular_vc = regular_terms(engine, params)
    moves = _directions(engine, params, regular_re, regular_vc)
    rows = np.concatenate([np.full(k_re2, regular_re), regular_vc]).astype(bool)
    chosen = k_fe + np.flatnonzero(rows)
    if moves:
        D = np.column_stack([move.packed for move in moves])[rows]
        if has_one_factor(point):
            own, cross = second_derivatives(point, [move.relative for move in moves])
            own = np.linalg.solve(D.T, np.linalg.solve(D.T, own).T)
        else:
            slopes = np.column_stack([_slope(engine, params, move, reml) for move in moves])
            cross = slopes[:k_fe]
            own = np.linalg.solve(D.T, slopes[chosen].T)
        cross = np.linalg.solve(D.T, cross.T)
        H[np.ix_(chosen, chosen)] = 0.5 * (own + own.T)
        H[:k_fe, chosen], H[chosen, :k_fe] = cross.T, cross
    return H, not rows.all()


def regular_terms(engine: Engine, params: MixedLMParams) -> tuple[bool, Array]:
    """Which of cov_re and the components are away from the boundary."""
    T = engine.factors(params.cov_re, params.vcomp)
    large = [
        np.diag(t) > SINGULAR * floor / np.sqrt(1e-9)
        for t, floor in zip(T, engine.floor, strict=True)
    ]
    re = engine.layout.re
    inside = True if re is None else bool(large[re.factor][re.columns].all())
    vc = [bool(large[p.factor][p.columns].any()) for p in engine.layout.vc]
    return inside, np.array(vc, dtype=bool)


def nearly_singular(engine: Engine, params: MixedLMParams) -> list[int]:
    """Factors with a regular variance that lies within a tenth of its standard error of zero.

    Small variances have a standard error of about noise sqrt(2 / levels), noise being what one level's data show.
    """
    T = engine.factors(params.cov_re, params.vcomp)
    found = []
    for j, (t, floor) in enumerate(zip(T, engine.floor, strict=True)):
        levels = engine.prepared.gram.shapes[j][0]
        share = np.diag(t) ** 2 / (floor**2 / 1e-9)
        if (share < 0.1 * np.sqrt(2.0 / levels)).any():
            found.append(j)
    return found


def _fixed_block(point: Point) -> Array:
    engine, solution = point.engine, point.solution
    basis = engine.prepared.gram.basis
    half = basis.Rx.T @ solution.L_M
    moved = half @ (solution.L_M.T @ point.distance)
    s2, nu = solution.s2, solution.nu
    block = np.full((engine.k_fe, engine.k_fe), np.nan)
    block[np.ix_(basis.kept, basis.kept)] = -half @ half.T / s2 + 2.0 * np.outer(moved, moved) / (
        nu * s2**2
    )
    return block


def _directions(engine: Engine, params: MixedLMParams, re: bool, vc: Array) -> list[_Direction]:
    """Symmetric directions of cov_re, then the components, regular terms only."""
    moves = _re_directions(engine, params) if re else []
    for k in np.flatnonzero(vc):
        place = engine.layout.vc[k]
        S = np.eye(place.columns.stop - place.columns.start)
        change = np.zeros(params.k_vc)
        change[k] = params.vcomp[k]
        packed = np.concatenate([np.zeros(params.k_re2), change])
        still = np.zeros((params.k_re, params.k_re))
        moves.append(_Direction(packed, _padded(engine, place, S), still, change))
    return moves


def _re_directions(engine: Engine, params: MixedLMParams) -> list[_Direction]:
    place = engine.layout.re
    if place is None:
        return []
    moves = []
    lower = np.tril_indices(params.k_re)
    L = lower_root(np.asarray(params.cov_re, dtype=float))
    for a, b in zip(*lower, strict=True):
        S = np.zeros_like(L)
        S[a, b] = S[b, a] = 1.0
        moved = L @ S @ L.T
        still = np.zeros(params.k_vc)
        packed = np.concatenate([moved[lower], still])
        moves.append(_Direction(packed, _padded(engine, place, S), moved, still))
    return moves


def _padded(engine: Engine, place: Place, S: Array) -> Array:
    """S among all columns of its factor."""
    size = engine.prepared.gram.shapes[place.factor][1]
    out = np.zeros((size, size))
    out[place.columns, place.columns] = S
    return out


def _slope(engine: Engine, params: MixedLMParams, move: _Direction, reml: bool) -> Array:
    """Change of the score (fixed effects, then packed) along a direction."""
    ends = []
    for t in (STEP, -STEP):
        moved = MixedLMParams.from_components(
            params.fe_params,
            cov_re=params.cov_re + t * move.cov_re,
            vcomp=params.vcomp + t * move.vcomp,
        )
        slope = gradient(at_params(engine, moved, reml=reml, profile_fe=False))
        ends.append(np.concatenate([slope.fe, slope.packed()]))
    return (ends[0] - ends[1]) / (2.0 * STEP)
