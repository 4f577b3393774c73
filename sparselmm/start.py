"""Starting values from moments: the cross-products that are there anyway.

Every column c of every factor is taken as a scalar component of its own. Its between-level sum of squares
S_c = sum_l (z_l'y)² / z_l'z_l has the expectation sigma² l + sum_k tau_k² t_ck with t_ck = tr(D_c^-1 Z_c'Z_k Z_k'Z_c),
and y'y has sigma² n + sum_k tau_k² tr(Z_k'Z_k) (Henderson's method III with a single sweep; the fixed effects' share
is neglected). The linear equations are solved under tau² >= a small share of sigma².
"""

from __future__ import annotations

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.model import CovarianceModel
from sparselmm.gram import Gram

SMALLEST_SHARE = (
    0.1  # of the variance at which a component begins to show: 1 / (mean information per level)
)


def level_information(gram: Gram) -> list[Array]:
    """Mean of the diagonal of Z_l'WZ_l over levels, shape (s_j,), one per factor; one for a column of zeros."""
    means = [np.einsum("laa->a", block) / len(block) for block in gram.ZtZ]
    return [np.where(own > 0.0, own, 1.0) for own in means]


def moment_start(gram: Gram, model: CovarianceModel) -> Array:
    """Starting theta, internal coordinates: diagonal factors from moments.

    Returns
    -------
    ndarray, shape (n_theta,)
    """
    information = level_information(gram)
    shares = _component_variances(gram)
    T, at = [], 0
    for s, own in zip(model.sizes, information, strict=True):
        floor = SMALLEST_SHARE / own
        T.append(np.diag(np.sqrt(np.maximum(shares[at : at + s], floor))))
        at += s
    return model.theta(T)


def _component_variances(gram: Gram) -> Array:
    """tau² / sigma² of every column of every factor, by non-negative least squares on the moments."""
    columns = [(j, a) for j, (_, s) in enumerate(gram.shapes) for a in range(s)]
    diagonals = {(j, a): gram.ZtZ[j][:, a, a] for j, a in columns}
    m = len(columns)
    equations, sums = np.zeros((m + 1, m + 1)), np.zeros(m + 1)
    for r, first in enumerate(columns):
        weight = _reciprocal(diagonals[first])
        sums[r] = weight @ gram.ZtXy[first[0]][:, first[1], -1] ** 2
        equations[r, m] = np.count_nonzero(weight)
        for c, second in enumerate(columns):
            equations[r, c] = _trace(gram, first, second, weight)
    equations[m] = [*(diagonals[c].sum() for c in columns), gram.n]
    sums[m] = gram.XytXy[-1, -1]
    counts = np.maximum(equations[:, m], 1.0)  # none for a column of zeros
    solution = _non_negative(equations / counts[:, None], sums / counts)
    return solution[:m] / max(solution[m], 1e-3 * sums[m] / gram.n, np.finfo(float).tiny)


def _non_negative(A: Array, b: Array) -> Array:
    """Least squares with negative solutions set to zero one round after the other."""
    free = np.ones(len(b), dtype=bool)
    x = np.zeros(len(b))
    while free.any():
        x[:] = 0.0
        x[free] = np.linalg.lstsq(A[:, free], b, rcond=None)[0]
        if (x >= 0.0).all():
            break
        free &= x > 0.0
    return x


def _trace(gram: Gram, first: tuple[int, int], second: tuple[int, int], weight: Array) -> float:
    """t_ck of the module's formula."""
    (i, a), (j, b) = first, second
    if i == j:
        return float(weight @ gram.ZtZ[i][:, a, b] ** 2)
    if i < j:
        block = gram.cross[i, j]
        return float(weight[block.first()] @ block.values[:, a, b] ** 2)
    block = gram.cross[j, i]
    return float(weight[block.indices] @ block.values[:, b, a] ** 2)


def _reciprocal(values: Array) -> Array:
    """1 / values, zero where they vanish."""
    out = np.zeros_like(values)
    np.divide(1.0, values, out=out, where=values > 0.0)
    return out
