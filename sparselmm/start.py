"""Starting values from moments: the cross-products that are there anyway.

Let Psi_j = sum_b psi_b S_b be the covariance matrix of one level's coefficients in the template's symmetric basis,
and z_l = Z_l'y. For every direction S_a of a factor i, with weights w_l = 1 / tr Z_l'Z_l,

    E sum_l w_l z_l'S_a z_l = sum_b psi_b sum_lm w_l tr(S_a N_lm S_b N_lm') + sigma² sum_l w_l tr(S_a Z_l'Z_l)

where N_lm = Z_l'Z_m pairs the levels l of factor i with the levels m of b's; and y'y has the expectation
sigma² n + sum_b psi_b tr(S_b Z'Z) (quadratic unbiased estimation in the manner of Henderson's method III, with a
single sweep; the fixed effects' share is neglected). The linear equations are solved with the variances kept from
becoming negative, and every Psi is moved to the nearest matrix with a small share of sigma² in every direction.
"""

from __future__ import annotations

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.model import CovarianceModel
from sparselmm.gram import Gram
from sparselmm.linalg import weighted_sum
from sparselmm.tall import tall_product

BLURRED = 1e-6  # relative singular value of the equations below which a direction is not told apart
WIDE = 8  # coefficients per level up to which moments tell about covariances too
SMALLEST_SHARE = (
    0.1  # of the variance at which a component begins to show: 1 / (mean information per level)
)

LEAST_NOISE = 1e-3  # of the mean square of y: smallest sigma² to start from
UNTOLD_NOISE = (
    0.02  # the same where the moments leave nothing for sigma², as with few rows they may
)


def level_information(gram: Gram) -> list[Array]:
    """Mean of the diagonal of Z_l'WZ_l over levels, shape (s_j,), one per factor; one for a column of zeros."""
    means = [weighted_sum(block).diagonal() / len(block) for block in gram.ZtZ]
    return [np.where(own > 0.0, own, 1.0) for own in means]


def moment_start(gram: Gram, model: CovarianceModel) -> Array:
    """Starting theta, internal coordinates.

    Returns
    -------
    ndarray, shape (n_theta,)
    """
    relative = model.relative_change(_moments(gram, model))
    information = level_information(gram)
    return model.theta([_factor(*pair) for pair in zip(relative, information, strict=True)])


def _factor(Psi: Array, information: Array) -> Array:
    """Lower triangular T with T T' = Psi, where the data tell more of Psi than the smallest share."""
    scale = np.sqrt(information)
    values, vectors = np.linalg.eigh(Psi * scale * scale[:, None])
    root = np.sqrt(np.maximum(values, SMALLEST_SHARE))
    R = np.asarray(np.linalg.qr((vectors * root).T, mode="r"))
    return R.T * np.sign(R.diagonal()) / scale[:, None]


def _moments(gram: Gram, model: CovarianceModel) -> Array:
    """psi_b / sigma² of every direction, shape (n_theta,)."""
    weights = [
        _reciprocal(block.reshape(len(block), -1) @ np.eye(block.shape[1]).ravel())
        for block in gram.ZtZ
    ]
    directions = model.directions
    m = len(directions)
    equations, sums = np.zeros((m + 1, m + 1)), np.zeros(m + 1)
    for i, w in enumerate(weights):
        z = np.ascontiguousarray(gram.ZtXy[i][:, :, -1])
        squares = tall_product(z, w[:, None] * z)
        noise, size = weighted_sum(gram.ZtZ[i], w), weighted_sum(gram.ZtZ[i])
        for a, (_, S) in ((a, d) for a, d in enumerate(directions) if d[0] == i):
            sums[a] = np.vdot(squares, S)
            equations[a, m], equations[m, a] = np.vdot(noise, S), np.vdot(size, S)
    for i in range(len(gram.shapes)):
        own, left = _on(directions, i)
        for j in range(len(gram.shapes)):
            other, right = _on(directions, j)
            equations[np.ix_(own, other)] = _traces(gram, i, j, weights[i], left, right)
    equations[m, m], sums[m] = gram.n, gram.XytXy[-1, -1]
    told = np.array([*(len(S) <= WIDE or S.trace() > 0.0 for _, S in directions), True])
    solution = _non_negative(equations, sums, directions, told)
    share = LEAST_NOISE if solution[m] > 0.0 else UNTOLD_NOISE
    return solution[:m] / max(solution[m], share * sums[m] / gram.n, np.finfo(float).tiny)


def _non_negative(
    equations: Array, sums: Array, directions: tuple[tuple[int, Array], ...], told: Array
) -> Array:
    """Least squares with negative variances, and the covariances with them, set to zero round after round."""
    size = np.abs(equations.diagonal())
    scale = np.sqrt(np.maximum(size, BLURRED * size.max()))
    variance = np.array([*(S.trace() > 0.0 for _, S in directions), True])
    free = told.copy()
    while True:
        x = np.zeros(len(sums))
        scaled = equations[free][:, free] / scale[free] / scale[free, None]
        x[free] = np.linalg.lstsq(scaled, sums[free] / scale[free], rcond=BLURRED)[0] / scale[free]
        negative = free & variance & (x < 0.0)
        if not negative.any():
            return x
        free &= ~negative
        for factor in {directions[a][0] for a in np.flatnonzero(negative[:-1])}:
            own, S = _on(directions, factor)
            touched = np.any(S, axis=2)
            free[own] &= ~(touched @ touched[negative[own]].any(axis=0))


def _on(directions: tuple[tuple[int, Array], ...], factor: int) -> tuple[list[int], Array]:
    """Which directions belong to a factor, and their matrices, shape (m_j, s_j, s_j)."""
    own = [a for a, (j, _) in enumerate(directions) if j == factor]
    return own, np.array([directions[a][1] for a in own])


def _traces(gram: Gram, i: int, j: int, weight: Array, left: Array, right: Array) -> Array:
    """Sum of w_l tr(S_a N_lm S_b N_lm') over the pairs of levels, for directions of two factors.

    Between wide factors the variances alone are followed: all products of two entries would be (s_i s_j)² numbers.
    """
    if i == j:
        values, weights = gram.ZtZ[i], weight
    elif i < j:
        block = gram.cross[i, j]
        values, weights = block.values, np.repeat(weight, np.diff(block.indptr))
    else:
        block = gram.cross[j, i]
        values, weights = block.values.transpose(0, 2, 1), weight[block.indices]
    shape = values.shape[1:]
    if shape[0] * shape[1] > WIDE**2:
        diagonals = (np.einsum("maa->ma", S) for S in (left, right))
        squares = np.einsum("l,lac,lac->ac", weights, values, values)
        return np.linalg.multi_dot([next(diagonals), squares, next(diagonals).T])
    flat = values.reshape(len(values), -1)
    products = tall_product(flat * weights[:, None], flat).reshape(*shape, *shape)
    pairs = products.transpose(0, 2, 1, 3).reshape(shape[0] ** 2, shape[1] ** 2)
    return left.reshape(len(left), -1) @ pairs @ right.reshape(len(right), -1).T


def _reciprocal(values: Array) -> Array:
    """1 / values, zero where they vanish."""
    out = np.zeros_like(values)
    np.divide(1.0, values, out=out, where=values > 0.0)
    return out
