"""Responses drawn from a fitted model, and their cross-products: the rows of many replicates in one pass.

    y = offset + X beta + sum_j Z_j b_j + eps / sqrt(w)

Everything runs in the design's internal coordinates (`sparselmm.basis`); a block of replicates is one (n, R) matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.criterion import by_levels
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit, Prepared
from sparselmm.kernels.crosstab import level_sums
from sparselmm.refits.batch import Responses

BLOCK = 2_000_000  # simulated values held at a time
NULL = 1e-10  # share of the largest eigenvalue below which a covariance has no such direction


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a design in internal coordinates.

    Attributes
    ----------
    X : ndarray, shape (n, p)
    Q : tuple of ndarray, shape (n, s_j)
    codes : tuple of ndarray of int32, shape (n,)
    n_levels : tuple of int
    weights : ndarray, shape (n,), or None
    """

    X: Array
    Q: tuple[Array, ...]
    codes: tuple[Array, ...]
    n_levels: tuple[int, ...]
    weights: Array | None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.X)


@dataclass(frozen=True, slots=True)
class Normal:
    """Random effects and residuals drawn from normal distributions.

    Attributes
    ----------
    mean : ndarray, shape (n,)
        What all replicates share, internal coordinates.
    T : tuple of ndarray, shape (s_j, s_j)
        Factors of the random effects' covariances; empty when these are part of the mean.
    sigma : float
    """

    mean: Array
    T: tuple[Array, ...]
    sigma: float

    def draw(self, rows: Rows, rng: np.random.Generator) -> tuple[list[Array], Array]:
        """Random effects (l_j, s_j) and scaled residuals (n,) of one replicate."""
        effects = [
            self.sigma * (rng.standard_normal((levels, len(T))) @ T.T)
            for levels, T in zip(rows.n_levels, self.T, strict=False)
        ]
        return effects, self.sigma * rng.standard_normal(rows.n)


@dataclass(frozen=True, slots=True)
class Pools:
    """Random effects and residuals drawn with replacement from what the fit left.

    Attributes
    ----------
    mean : ndarray, shape (n,)
    effects : tuple of ndarray, shape (l_j, s_j)
    residuals : ndarray, shape (n,)
        Times the root of the weights.
    """

    mean: Array
    effects: tuple[Array, ...]
    residuals: Array

    def draw(self, rows: Rows, rng: np.random.Generator) -> tuple[list[Array], Array]:
        """Random effects (l_j, s_j) and scaled residuals (n,) of one replicate."""
        effects = [pool[rng.integers(len(pool), size=len(pool))] for pool in self.effects]
        return effects, self.residuals[rng.integers(rows.n, size=rows.n)]


def make_rows(fit: Fit | Prepared) -> Rows:
    """The rows of a fit."""
    design, basis = fit.design, fit.gram.basis
    return Rows(
        X=basis.fixed(design.X),
        Q=tuple(basis.random(j, factor.Q) for j, factor in enumerate(design.factors)),
        codes=tuple(factor.codes for factor in design.factors),
        n_levels=tuple(factor.n_levels for factor in design.factors),
        weights=design.weights,
    )


def normal_source(fit: Fit, rows: Rows, random: str = "new") -> Normal:
    """The fitted model; with ``random="conditional"`` around its conditional modes."""
    sigma, T = float(np.sqrt(fit.sigma2)), fit.solution.T
    mean = rows.X @ fit.solution.beta
    if random == "new":
        return Normal(mean, T, sigma)
    effects = [U @ t.T for U, t in zip(_spherical(fit), T, strict=True)]
    return Normal(mean + random_sum(rows, [effects])[:, 0], (), sigma)


def residual_source(fit: Fit, rows: Rows) -> Pools:
    """Conditional modes and residuals, centred and stretched to the fitted covariances.

    Notes
    -----
    Conditional modes are shrunken: their covariance S is smaller than the fitted Sigma. They are multiplied by
    S^(-1/2) Sigma^(1/2), and the residuals by sigma over their root mean square (Carpenter, Goldstein & Rasbash
    2003, Journal of the Royal Statistical Society C 52, 431-443, section 3).
    """
    sigma2, T = fit.sigma2, fit.solution.T
    modes = [U @ t.T for U, t in zip(_spherical(fit), T, strict=True)]
    mean = rows.X @ fit.solution.beta
    left = fit.gram.basis.response(fit.design.X, fit.design.y, fit.design.offset) - mean
    left = left - random_sum(rows, [modes])[:, 0]
    left = left if rows.weights is None else left * np.sqrt(rows.weights)
    left = left - left.mean()
    left = left * np.sqrt(sigma2 / np.mean(left**2))
    effects = tuple(stretch(b, sigma2 * (t @ t.T)) for b, t in zip(modes, T, strict=True))
    return Pools(mean, effects, left)


def stretch(b: Array, Sigma: Array) -> Array:
    """Rows of b, shape (l, s), centred and transformed to have the covariance Sigma, shape (s, s)."""
    centred = b - b.mean(axis=0)
    S = centred.T @ centred / len(b)
    return centred @ _symmetric_power(S, -0.5) @ _symmetric_power(Sigma, 0.5)


def _symmetric_power(M: Array, power: float) -> Array:
    """M^power on the range of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(M)
    kept = values > NULL * max(values[-1], 0.0)
    return (vectors[:, kept] * values[kept] ** power) @ vectors[:, kept].T


def _spherical(fit: Fit) -> list[Array]:
    return by_levels(fit.gram.shapes, fit.solution.u)


def random_sum(rows: Rows, effects: Sequence[Sequence[Array]]) -> Array:
    """sum_j Z_j b_j of R replicates, shape (n, R)."""
    out = np.zeros((rows.n, len(effects)))
    for j, (codes, Q) in enumerate(zip(rows.codes, rows.Q, strict=True)):
        stacked = np.stack([own[j] for own in effects], axis=2)
        for a in range(Q.shape[1]):
            column = np.ascontiguousarray(stacked[:, a])[codes]
            column *= Q[:, a, None]
            out += column
    return out


def draw_rows(
    rows: Rows, source: Normal | Pools, generators: Sequence[np.random.Generator]
) -> Array:
    """Responses in internal coordinates, one per generator, shape (n, R)."""
    draws = [source.draw(rows, rng) for rng in generators]
    effects = [own for own, _ in draws]
    Y = np.stack([residuals for _, residuals in draws], axis=1)
    if rows.weights is not None:
        Y /= np.sqrt(rows.weights)[:, None]
    if effects[0]:
        Y += random_sum(rows, effects)
    Y += source.mean[:, None]
    return Y


def cross_products(rows: Rows, Y: Array) -> Responses:
    """Z'WY, X'WY and the diagonal of Y'WY for responses in internal coordinates, shape (n, R)."""
    WY = Y if rows.weights is None else Y * rows.weights[:, None]
    WY = np.ascontiguousarray(WY)
    ZtY = tuple(
        np.ascontiguousarray(level_sums(codes, Q, WY, levels).transpose(2, 0, 1))
        for codes, Q, levels in zip(rows.codes, rows.Q, rows.n_levels, strict=True)
    )
    return Responses(ZtY, np.ascontiguousarray((rows.X.T @ WY).T), np.einsum("ir,ir->r", Y, WY))


def user_shift(fit: Fit) -> Array:
    """What the user's response has beyond the internal one: offset plus X beta0, shape (n,)."""
    basis, design = fit.gram.basis, fit.design
    shift = design.X[:, basis.kept] @ basis.beta0
    return shift if design.offset is None else shift + design.offset


def block_width(n: int) -> int:
    """Replicates that are simulated together."""
    return int(np.clip(BLOCK // n, 1, 256))


def check_count(nsim: int) -> None:
    """Refuse what is no positive number of replicates."""
    if isinstance(nsim, bool) or not isinstance(nsim, (int, np.integer)) or nsim < 1:
        raise InferenceError(f"Found nsim={nsim!r}; expected a positive number of replicates.")


def make_generator(rng: Any) -> np.random.Generator:
    """The generator given, or one made from a seed.

    Raises
    ------
    InferenceError
        For what is neither.
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise InferenceError(
            f"Found rng={rng!r}; expected a numpy.random.Generator, a seed (an integer of zero or "
            "more) or None. Write rng=np.random.default_rng(1)."
        ) from None
