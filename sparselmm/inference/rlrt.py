"""Finite-sample null distributions of (restricted) likelihood ratios of one variance component.

For y = X beta + Z b + e, b ~ N(0, lambda sigma² I), the hypothesis lambda = 0, and eigenvalues mu_s (K of them) of
Z'P0 Z, xi_s of Z'Z (Crainiceanu & Ruppert 2004, JRSS B 66, 165-185, theorem 1),

    RLRT = sup over lambda of (n - p) log(1 + N / D) - sum log(1 + lambda mu_s)
    LRT  = sup over lambda of  n      log(1 + N / D) - sum log(1 + lambda xi_s)
    N = sum lambda mu_s / (1 + lambda mu_s) w_s²,    D = sum w_s² / (1 + lambda mu_s) + chi-square(n - p - K)

exactly, for any n and standard normal w_s. All of it comes from cross-products.

With other variance components it is an approximation. As in Greven, Crainiceanu, Kuechenhoff & Peters (2008), JCGS 17,
870-891, the others are taken for known: the model is whitened by them at their estimates under the null (there their
predictions are subtracted), Z'Z becomes Z'H^-1Z and Z'P0 Z becomes Z'PZ. But the scale of the tested directions is then
estimated from fewer rows than n: from those whose variance has as much of the other components in it. With v the
variance of the tested directions under the null and I the information about log sigma² and the other components,

    n - p -> nu = 2 / (g'I^-1 g),    g = d log v / d(others, log sigma²) = tr(Z'PZ Z'P dV P Z) / tr(Z'PZ Z'PZ)

(Satterthwaite's degrees of freedom of v; n likewise, with the information of ML). In balanced designs nu is the number
of contrasts in the strata of the test, and the distribution exact while no estimate is on its boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.criterion import Solution, by_levels
from sparselmm.gram import Gram
from sparselmm.inference.chibar import expected_information
from sparselmm.linalg import cholesky_lower, solve_lower, solve_lower_transposed
from sparselmm.marginal import Direction, Marginal, marginal

GRID = 120  # values of lambda
RANGE = (1e-5, 1e6)  # of lambda times the mean eigenvalue
DENSE = 2_500  # largest matrix whose eigenvalues are computed
CHUNK = 2_000_000  # normal variates at a time


@dataclass(frozen=True, slots=True)
class Spectra:
    """Eigenvalues with their multiplicities.

    Attributes
    ----------
    mu, mu_counts : ndarray
        Positive eigenvalues of Z'P0 Z.
    xi, xi_counts : ndarray
        Eigenvalues of Z'Z.
    n, nu : float
        Dimensions of the ML and of the REML criterion: rows, and rows minus fixed effects, or what takes
        their place.
    """

    mu: Array
    mu_counts: Array
    xi: Array
    xi_counts: Array
    n: float
    nu: float


def simulate_null(spectra: Spectra, *, reml: bool, nsim: int, rng: np.random.Generator) -> Array:
    """Likelihood ratios under the null hypothesis.

    Parameters
    ----------
    spectra : Spectra
    reml : bool
        Restricted likelihood ratio.
    nsim : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (nsim,)
        With an atom at zero.
    """
    mean = spectra.mu @ spectra.mu_counts / spectra.mu_counts.sum()
    lam = np.geomspace(*RANGE, GRID) / mean
    shrink = 1.0 / (1.0 + np.multiply.outer(spectra.mu, lam))
    if reml:
        dimension = spectra.nu
        penalty = spectra.mu_counts @ -np.log(shrink)
    else:
        dimension = spectra.n
        penalty = spectra.xi_counts @ np.log1p(np.multiply.outer(spectra.xi, lam))
    rest = spectra.nu - float(spectra.mu_counts.sum())
    out = []
    width = max(1, CHUNK // max(len(spectra.mu), GRID))
    for start in range(0, nsim, width):
        count = min(width, nsim - start)
        squares = rng.chisquare(spectra.mu_counts, (count, len(spectra.mu)))
        D = squares @ shrink
        N = squares.sum(axis=1)[:, None] - D
        if rest > 0:
            D += rng.chisquare(rest, count)[:, None]
        out.append(_peaks(dimension * np.log1p(N / D) - penalty))
    return np.concatenate(out)


def _peaks(values: Array) -> Array:
    """Maxima of curves on an even grid, refined by parabolas; zero where the curve is never above it."""
    best = np.argmax(values, axis=1)
    inside = np.clip(best, 1, values.shape[1] - 2)
    rows = np.arange(len(values))
    left, mid, right = (values[rows, inside + d] for d in (-1, 0, 1))
    bend = left - 2.0 * mid + right
    top = mid - 0.125 * (left - right) ** 2 / np.minimum(bend, -1e-300)
    refined = np.where((best == inside) & (bend < 0.0), top, values[rows, best])
    return np.maximum(refined, 0.0)


def single_spectra(gram: Gram) -> Spectra:
    """Spectra of a model whose only random effect is one column per level, from diagonal plus low rank.

    Levels with the same z'z share eigenvalues, so that the matrix left is small however many levels there are. Where
    too many differ they are put into bins first: eigenvalues are then good to about one part in a thousand.
    """
    d = gram.ZtZ[0][:, 0, 0]
    p = gram.p
    L = cholesky_lower(gram.XytXy[:p, :p])
    B = solve_lower(L, np.ascontiguousarray(gram.ZtXy[0][:, 0, :p].T)).T
    values, group = np.unique(np.round(d / d.max(), 10), return_inverse=True)
    if len(values) * max(p, 1) > DENSE:
        edges = np.quantile(d, np.linspace(0.0, 1.0, DENSE // (2 * max(p, 1)) + 1)[1:-1])
        _, group = np.unique(np.searchsorted(edges, d), return_inverse=True)
    counts = np.bincount(group)
    level = np.bincount(group, d) / counts
    order = np.argsort(group, kind="stable")
    blocks, diagonal, free = [], [], []
    for rows, value, count in zip(
        np.split(order, np.cumsum(counts)[:-1]), level, counts, strict=True
    ):
        block = np.linalg.qr(B[rows], mode="r") if count > p else B[rows]
        blocks.append(block)
        diagonal.append(np.full(len(block), value))
        free.append(count - len(block))
    B_small, d_small = np.concatenate(blocks), np.concatenate(diagonal)
    own = np.linalg.eigvalsh(np.diag(d_small) - B_small @ B_small.T)
    mu = np.concatenate([own, level])
    mu_counts = np.concatenate([np.ones(len(own), int), free])
    keep = (mu > 1e-9 * d.max()) & (mu_counts > 0)
    return Spectra(mu[keep], mu_counts[keep], level, counts, gram.n, gram.n - p)


def whitened_spectra(
    gram: Gram, null: Solution, factor: int, column: Array, others: Sequence[Direction] = ()
) -> Spectra | None:
    """Spectra of one component where there are others; None when its levels are too many.

    Parameters
    ----------
    gram : Gram
        Of the larger model.
    null : Solution
        With T zero for the component.
    factor : int
    column : ndarray, shape (s, c)
        The tested effects among the factor's internal ones: one column, or several with one variance.
    others : sequence of (int, ndarray)
        Directions of the other components: factor and symmetric matrix.
    """
    levels, s = gram.shapes[factor]
    width = levels * column.shape[1]
    if width > DENSE:
        return None
    m = marginal(gram, null)
    Z = np.zeros((gram.q, width))
    views = by_levels(gram.shapes, Z)[factor].reshape(levels, s, levels, column.shape[1])
    views[np.arange(levels), :, np.arange(levels), :] = column
    spread = m.precision(Z)
    N = Z.T @ spread
    xi = np.linalg.eigvalsh(N)
    half = solve_lower(null.L_M, np.ascontiguousarray((Z.T @ m.F).T))
    spread -= m.F @ solve_lower_transposed(null.L_M, half)
    inner = Z.T @ spread
    mu = np.linalg.eigvalsh(inner)
    mu = mu[mu > 1e-9 * xi[-1]]
    n, nu = _dimensions(m, gram, inner, spread, others)
    nu = max(nu, len(mu) + 1.0)
    ones = np.ones
    return Spectra(mu, ones(len(mu), int), np.maximum(xi, 0.0), ones(len(xi), int), max(n, nu), nu)


def _dimensions(
    m: Marginal, gram: Gram, inner: Array, spread: Array, others: Sequence[Direction]
) -> tuple[float, float]:
    """n and nu of the module's formula, from Z'PZ and the whole Z'P Z of the tested columns."""
    moved = [float(np.vdot(inner, m.products(d, spread, spread))) for d in others]
    g = np.append(moved, 0.0) / float(np.vdot(inner, inner))
    g[-1] = 1.0
    out = []
    for reml in (False, True):
        information = expected_information(gram, m, others, reml=reml) if others else None
        if information is None:
            out.append(float(gram.n - gram.p * reml))
            continue
        inverse = np.linalg.pinv(information, rcond=1e-10, hermitian=True)
        out.append(1.0 / float(g @ inverse @ g))
    return out[0], out[1]
