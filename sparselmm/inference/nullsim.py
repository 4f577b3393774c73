"""Likelihood ratios of two models for responses simulated from the smaller one.

The mean of the response does not matter to a likelihood ratio of random effects, so y* = Z b + e is simulated without
it. Both models see only Z'y*, X'y* and y*'y*.
"""

from __future__ import annotations

import numpy as np

from sparselmm._types import Array
from sparselmm.fit import Fit
from sparselmm.inference.reduce import Reduced
from sparselmm.kernels.crosstab import level_sums
from sparselmm.linalg import cholesky_lower, solve_lower
from sparselmm.optimum import Optimum
from sparselmm.refits.batch import Responses, make_engine, refit_responses

CHUNK = 4_000_000  # simulated values at a time


def bootstrap_ratios(
    fit: Fit, reduced: Reduced, null: Optimum | None, nsim: int, rng: np.random.Generator
) -> Array:
    """Simulated likelihood ratios of a fit against a smaller model; refits that failed are left out.

    Parameters
    ----------
    fit : Fit
    reduced : Reduced
    null : Optimum or None
        Of the smaller model; None when it has no random effects.
    nsim : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (at most nsim,)
    """
    problem = fit.problem
    engine = make_engine(problem)
    small_engine = None if reduced.problem is None else make_engine(reduced.problem)
    width = max(1, CHUNK // fit.n)
    pieces = []
    for start in range(0, nsim, width):
        responses = simulate_responses(fit, reduced, null, min(width, nsim - start), rng)
        large = refit_responses(problem, engine, responses, fit.optimum.theta)
        passed = large.converged
        smaller, passed_too = _smaller(reduced, small_engine, null, responses, reml=fit.reml)
        ratios = np.maximum(smaller - large.deviance, 0.0)
        pieces.append(ratios[passed & passed_too])
    return np.concatenate(pieces)


def _smaller(reduced: Reduced, engine, null: Optimum | None, responses: Responses, *, reml: bool):
    """Deviances of the smaller model, and which of its refits converged."""
    if reduced.problem is None or null is None:
        return _linear_deviances(reduced, responses, reml=reml), np.ones(len(responses), bool)
    own = Responses(
        tuple(responses.ZtY[j] @ M for j, M in reduced.maps), responses.XtY, responses.yty
    )
    ends = refit_responses(reduced.problem, engine, own, null.theta)
    return ends.deviance, ends.converged


def _linear_deviances(reduced: Reduced, responses: Responses, *, reml: bool) -> Array:
    """As `linear_deviance`, for many responses."""
    gram = reduced.gram
    p, n = gram.p, gram.n
    L = cholesky_lower(gram.XytXy[:p, :p])
    half = solve_lower(L, np.ascontiguousarray(responses.XtY.T))
    r2 = responses.yty - (half * half).sum(axis=0)
    nu = n - p if reml else n
    out = nu * (1.0 + np.log(2.0 * np.pi * r2 / nu)) - gram.sum_log_weights
    if reml:
        out = out + 2.0 * float(np.log(np.diag(L)).sum()) + 2.0 * gram.basis.logdet_Rx
    return out


def simulate_responses(
    fit: Fit, reduced: Reduced, null: Optimum | None, count: int, rng: np.random.Generator
) -> Responses:
    """Cross-products of responses Z b + e of the smaller model, sigma = 1, with the larger model's Z and X."""
    design, basis = fit.design, fit.gram.basis
    weights = design.weights
    Y = rng.standard_normal((fit.n, count))
    if weights is not None:
        Y /= np.sqrt(weights)[:, None]
    Q = [basis.random(j, factor.Q) for j, factor in enumerate(design.factors)]
    if null is not None:
        for (j, M), T in zip(reduced.maps, null.solution.T, strict=True):
            factor = design.factors[j]
            spherical = rng.standard_normal((count, factor.n_levels, len(T)))
            effects = spherical @ (M @ T).T
            Y += np.einsum("is,ris->ir", Q[j], effects[:, factor.codes])
    WY = Y if weights is None else Y * weights[:, None]
    ZtY = tuple(
        np.ascontiguousarray(
            level_sums(f.codes, own, np.ascontiguousarray(WY), f.n_levels).transpose(2, 0, 1)
        )
        for f, own in zip(design.factors, Q, strict=True)
    )
    X = basis.fixed(design.X)
    return Responses(ZtY, WY.T @ X, np.einsum("ir,ir->r", Y, WY))
