"""Observed information of the variance parameters, and how the covariance of beta depends on them.

The deviance as a function of (T, sigma), beta profiled out, is for H = W^-1 + sum_j Z_j (I (x) T_j T_j') Z_j'

    d(T, sigma) = log|H| [+ log|X'H^-1X|] + nu log(2 pi sigma²) + r2(T) / sigma²

For directions dT_i with D_i = dT_i T' + T dT_i', D_ik = dT_i dT_k' + dT_k dT_i' and sigma² = s2 exp(2 tau), at the
optimum

    d_ik       = -tr(M D_i M D_k) + 2 f_i'P f_k / s2 + <G, D_ik>      f_i = D_i a,  M = P (REML) or H^-1 (ML)
    d_i,tau    = 2 a'D_i a / s2                                      G: the score matrix of the covariance scale
    d_tau,tau  = 4 nu
    d Cov(beta) / d i = s2 M_X^-1 (F'D_i F) M_X^-1,                  d Cov(beta) / d tau = 2 Cov(beta)

(a, F, P as in `sparselmm.marginal`; M_X = X'H^-1X; Lindstrom & Bates 1988, JASA 83, give the same derivatives through
decompositions of Z). The traces are exact where they take few solves; where they do not, forward differences of the
exact score replace them, one evaluation for every direction and one for the fit itself.

Where Sigma_j is singular with rank r, its local coordinates are those of the matrices of rank r: the free entries of
an s_j x r factor. These are lme4's theta without the pivots that are zero, in which d is even: they decouple from the
rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.model import CovarianceModel
from sparselmm.criterion import by_levels, fixed_covariance, gradient_matrices, solve_at
from sparselmm.fit import Fit
from sparselmm.linalg import spectrum
from sparselmm.marginal import (
    Direction,
    Marginal,
    Pairs,
    by_factor,
    level_pairs,
    make_probes,
    marginal,
    sandwiches,
)
from sparselmm.optimise import make_scale
from sparselmm.remember import remember
from sparselmm.steps import Scale
from sparselmm.threads import limited_threads

EXACT = 2_000_000  # entries of all solutions together up to which the traces are taken exactly
STEP = 3e-6  # of a difference, in standard errors
RANK = 1e-4  # of the standard deviation that one level's data show: what counts as zero in T


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Local coordinates of the covariance matrices around one solution, internal scale.

    Attributes
    ----------
    T : tuple of ndarray, shape (s_j, s_j)
        Lower triangular factors whose last columns are zero where Sigma_j is singular.
    moves : tuple of (int, ndarray of shape (s_j, s_j))
        Factor and dT of every coordinate.
    """

    T: tuple[Array, ...]
    moves: tuple[tuple[int, Array], ...]

    def change(self, i: int) -> Direction:
        """First derivative of Sigma_j."""
        factor, dT = self.moves[i]
        half = dT @ self.T[factor].T
        return factor, half + half.T


@dataclass(frozen=True, slots=True)
class Information:
    """Observed information at a fit in (local coordinates, log sigma).

    Attributes
    ----------
    coordinates : Coordinates
    hessian : ndarray, shape (m + 1, m + 1)
        Second derivatives of the deviance; the observed information is half of it.
    covariance : ndarray, shape (m + 1, m + 1)
        Inverse of the observed information; directions without information get none.
    cov_beta_gradient : ndarray, shape (m + 1, p, p)
        Derivatives of the covariance of beta, in the user's coordinates of beta.
    exact : bool
        Whether all of it is analytic; else the traces are differences of the exact score.
    """

    coordinates: Coordinates
    hessian: Array
    covariance: Array
    cov_beta_gradient: Array
    exact: bool


@remember
def observed_information(fit: Fit) -> Information:
    """Observed information of the variance parameters of a fit.

    Computed once per fit. The cost is a few solves for a single grouping factor or few levels, and
    one evaluation of the exact score per parameter and one more for large crossed designs.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm.information import observed_information
    >>> fit = slm.lmm("Reaction ~ Days + (1 | Subject)", slm.load_dataset("sleepstudy")).fit
    >>> observed_information(fit).covariance.round(5)
    array([[ 0.05339, -0.00398],
           [-0.00398,  0.00311]])
    """
    with limited_threads(fit.prepared.threads(fit.options)):
        at = replace(fit.solution, factored=fit.factored())
        scale = make_scale(fit.problem)
        coordinates = local_coordinates(fit.model, at.T, scale)
        m = marginal(fit.gram, at)
        probes = make_probes(fit.gram)
        exact = probes.columns(fit.gram.shapes) * fit.gram.q <= EXACT
        slopes = _Slopes.at(m, coordinates)
        if exact:
            hessian = _exact_hessian(m, coordinates, slopes, level_pairs(m, probes))
        else:
            hessian = _differenced_hessian(fit, coordinates, slopes, scale)
        gradient = np.stack([fit.gram.basis.cov_beta(own) for own in slopes.cov_beta])
    values = spectrum(hessian)
    covariance = 2.0 * np.column_stack([values.solve(e) for e in np.eye(len(hessian))])
    return Information(coordinates, hessian, covariance, gradient, exact)


def local_coordinates(model: CovarianceModel, T: Sequence[Array], scale: Scale) -> Coordinates:
    """Coordinates of the covariance matrices of their present rank around T T'."""
    factors = [np.array(t) for t in T]
    moves: list[tuple[int, Array]] = []
    for part in model.parts:
        own = factors[part.factor][part.columns, part.columns]
        if part.template.name == "unstructured":
            blank = RANK * np.sqrt(np.diag(scale.noise[part.factor])[part.columns])
            own[...], pivots = staircase(own, blank)
            blocks = _free_entries(len(own), pivots)
        else:
            blocks = list(part.template.factor_basis[part.template.theta(own) != 0.0])
        for block in blocks:
            dT = np.zeros_like(factors[part.factor])
            dT[part.columns, part.columns] = block
            moves.append((part.factor, dT))
    return Coordinates(tuple(factors), tuple(moves))


def staircase(T: Array, blank: Array) -> tuple[Array, list[int]]:
    """T Q with Q orthogonal and zero columns last, and the row in which every other column begins.

    Parameters
    ----------
    T : ndarray, shape (s, s)
    blank : ndarray, shape (s,)
        Size of what is left of a row that counts as zero.

    Examples
    --------
    >>> staircase(np.array([[0.0, 0.0], [3.0, 4.0]]), np.full(2, 1e-4))
    (array([[0., 0.],
           [5., 0.]]), [1])
    """
    T, pivots = T.copy(), []
    for row in range(len(T)):
        at = len(pivots)
        rest = T[row, at:]
        if np.linalg.norm(rest) <= blank[row]:
            rest[...] = 0.0
            continue
        if rest[1:].any():
            Q = np.linalg.qr(rest[:, None], mode="complete")[0]
            T[:, at:] = T[:, at:] @ (Q * np.sign(Q[:, 0] @ rest))
            T[row, at + 1 :] = 0.0
        pivots.append(row)
    T[:, len(pivots) :] = 0.0
    return T, pivots


def _free_entries(s: int, pivots: list[int]) -> list[Array]:
    """Unit matrices of the entries that move a factor of rank len(pivots), down the columns."""
    free = []
    for column in range(len(pivots)):
        for row in range(s):
            if row not in pivots[:column]:
                E = np.zeros((s, s))
                E[row, column] = 1.0
                free.append(E)
    return free


@dataclass(frozen=True, slots=True)
class _Slopes:
    """First derivatives, and the exact part of the second ones.

    Attributes
    ----------
    r2 : ndarray, shape (m,)
        -a'D_i a.
    projected : ndarray, shape (m, m)
        f_i'P f_k.
    cov_beta : ndarray, shape (m + 1, p, p)
        Internal coordinates.
    """

    m: Marginal
    r2: Array
    projected: Array
    cov_beta: Array

    @staticmethod
    def at(m: Marginal, coordinates: Coordinates) -> _Slopes:
        changes = [coordinates.change(i) for i in range(len(coordinates.moves))]
        p = m.F.shape[1]
        XDX = np.array([m.products(d, m.F, m.F) for d in changes]).reshape(len(changes), p, p)
        f = np.array([m.move(d, m.a) for d in changes]).reshape(len(changes), m.q).T
        cov = fixed_covariance(m.at)
        Xf = m.F.T @ f
        projected = f.T @ m.precision(f) - Xf.T @ cov @ Xf / m.at.s2
        cov_beta = np.concatenate([cov @ XDX @ cov / m.at.s2, 2.0 * cov[None]])
        return _Slopes(m, -(m.a @ f), projected, cov_beta)


def _exact_hessian(m: Marginal, coordinates: Coordinates, slopes: _Slopes, pairs: Pairs) -> Array:
    """The module's formula, with exact traces."""
    size, at = len(coordinates.moves), m.at
    changes = [coordinates.change(i) for i in range(size)]
    traces = pairs.traces(changes)
    M_inverse = fixed_covariance(at) / at.s2
    G = [own.copy() for own in pairs.diagonal]
    for own, a, F in zip(G, by_levels(m.shapes, m.a), by_levels(m.shapes, m.F), strict=True):
        own -= a.T @ a / at.s2
        if at.reml:
            own -= np.tensordot(F @ M_inverse, F, axes=([0, 2], [0, 2]))
    if at.reml:
        XDX, XDDX = sandwiches(m, changes)
        scaled = M_inverse @ XDX
        traces += np.einsum("iab,kba->ik", scaled, scaled) - 2.0 * np.einsum(
            "ab,ikab->ik", M_inverse, XDDX
        )
    top = 2.0 * slopes.projected / at.s2 - traces
    for j, (own, dT) in by_factor(coordinates.moves).items():
        bent = G[j] @ dT.reshape(len(own), *G[j].shape)
        top[np.ix_(own, own)] += 2.0 * bent.reshape(dT.shape) @ dT.T  # <G, D_ik>
    return _with_sigma(0.5 * (top + top.T), slopes)


def _with_sigma(top: Array, slopes: _Slopes) -> Array:
    """The Hessian bordered by log sigma."""
    at = slopes.m.at
    border = -2.0 * slopes.r2 / at.s2
    return np.block([[top, border[:, None]], [border[None, :], np.array([[4.0 * at.nu]])]])


def _differenced_hessian(
    fit: Fit, coordinates: Coordinates, slopes: _Slopes, scale: Scale
) -> Array:
    """Forward differences of the exact score of the profiled deviance, sigma put back."""
    at = slopes.m.at
    floor = scale.floor
    lift = fit.model.factors(np.where(np.isfinite(floor), floor, 0.0))
    T = [
        t + np.where(np.diag(t) == 0.0, own, 0.0)
        for t, own in zip(coordinates.T, lift, strict=True)
    ]
    expected = np.diag(slopes.projected) / at.s2 - slopes.r2**2 / (at.nu * at.s2**2)
    steps = STEP * np.sqrt(2.0 / np.maximum(expected, 1e-300))
    kept = fit.optimum.E
    unmoved = all(map(np.array_equal, T, fit.solution.T))
    start = _slopes(T, kept, coordinates) if kept and unmoved else _score(fit, T, coordinates)
    profiled = np.empty((len(steps),) * 2)
    for i, (step, (factor, dT)) in enumerate(zip(steps, coordinates.moves, strict=True)):
        moved = list(T)
        moved[factor] = T[factor] + step * dT
        profiled[i] = (_score(fit, moved, coordinates) - start) / step
    border = 2.0 * slopes.r2 / at.s2
    top = 0.5 * (profiled + profiled.T) + np.outer(border, border) / (4.0 * at.nu)
    return _with_sigma(top, slopes)


def _score(fit: Fit, T: Sequence[Array], coordinates: Coordinates) -> Array:
    """Derivatives of the profiled deviance along every coordinate, evaluated at T."""
    at = solve_at(fit.gram, fit.prepared.system, T, reml=fit.reml)
    return _slopes(T, gradient_matrices(fit.gram, at), coordinates)


def _slopes(T: Sequence[Array], E: Sequence[Array], coordinates: Coordinates) -> Array:
    """<dT, 2 T^-T E> for every coordinate."""
    slopes = [2.0 * np.linalg.solve(t.T, own) for t, own in zip(T, E, strict=True)]
    return np.array([np.vdot(slopes[factor], dT) for factor, dT in coordinates.moves])
