"""Joint uncertainty of fixed and random effects, row by row, given theta.

With k = (Lambda'z; x) for a row and C the penalised system bordered by X (Henderson's equations),

    Var(x'(beta^ - beta) + z'(b^ - b)) = sigma2 k'C^-1 k,        k'C^-1 k = z'A^-1 z + r'M^-1 r,    r = x - V_X'z

(z in the coordinates of Lambda; A, V_X and M = X'H^-1X as in `sparselmm.criterion`). Times its weight, k'C^-1k is the
leverage of a row, w r is its row of H^-1X, and nothing larger than a few columns per row is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.criterion import by_levels
from sparselmm.fit import Fit
from sparselmm.linalg import solve_lower
from sparselmm.systems.forms import Rows, quadratic_forms
from sparselmm.threads import limited_threads, thread_count

CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class JointRows:
    """What beta and b together mean for some rows.

    Attributes
    ----------
    R : ndarray, shape (m, p)
        r', in the internal coordinates of X.
    fixed : ndarray, shape (m,)
        r'M^-1 r.
    random : ndarray, shape (m,)
        z'A^-1 z.
    """

    R: Array
    fixed: Array
    random: Array

    @property
    def forms(self) -> Array:
        """k'C^-1 k, shape (m,); times sigma2 the variance of the row's mean."""
        return self.fixed + self.random


def joint_rows(fit: Fit, X: Array, codes: Sequence[Array], Q: Sequence[Array]) -> JointRows:
    """Uncertainty of the mean of any rows.

    Parameters
    ----------
    fit : Fit
    X : ndarray, shape (m, p_all)
        All columns of the fixed part.
    codes : sequence of ndarray of int, shape (m,)
        Level of every factor, -1 for none: such a factor takes no part.
    Q : sequence of ndarray, shape (m, s_j)

    Notes
    -----
    For rows of the data the cost is about that of one exact score, whatever their number; a few
    new rows cost one solve each.
    """
    z = _rows(fit, codes, Q)
    R = fixed_rows(fit, X, z)
    half = solve_lower(fit.solution.L_M, np.asfortranarray(R.T))
    with limited_threads(threads(fit, len(X))):
        random = quadratic_forms(fit.factored(), z)
    return JointRows(R, (half**2).sum(axis=0), random)


def threads(fit: Fit, m: int) -> int:
    """Threads for work on m rows and one factorisation."""
    work = fit.prepared.choice.cost.flops + 100.0 * m
    return thread_count(work, fit.options.threads)


def _rows(fit: Fit, codes: Sequence[Array], Q: Sequence[Array]) -> Rows:
    """Rows of Z Lambda."""
    T, basis = fit.solution.T, fit.gram.basis
    values = (basis.random(j, q) @ T[j] for j, q in enumerate(Q))
    return Rows(tuple(codes), tuple(map(np.ascontiguousarray, values)))


def fixed_rows(fit: Fit, X: Array, z: Rows) -> Array:
    """r' = x' - z'V_X, shape (m, p)."""
    R = fit.gram.basis.fixed(X)
    views = by_levels(fit.gram.shapes, fit.solution.V_X)
    for start in range(0, len(R) if fit.p else 0, CHUNK):
        part = slice(start, start + CHUNK)
        for code, value, V in zip(z.codes, z.values, views, strict=True):
            met = code[part]
            gathered = V[np.maximum(met, 0)]
            own = np.where(met[:, None] >= 0, value[part], 0.0)
            R[part] -= np.einsum("is,isp->ip", own, gathered)
    return R


def data_rows(fit: Fit) -> JointRows:
    """`joint_rows` of the rows the model was fitted to."""
    design = fit.design
    codes = [factor.codes for factor in design.factors]
    return joint_rows(fit, design.X, codes, [factor.Q for factor in design.factors])


@dataclass(frozen=True, slots=True)
class DesignRows:
    """Rows of the fit: z' of Z Lambda and r'."""

    z: Rows
    R: Array

    def take(self, which: Array) -> DesignRows:
        """Some of the rows."""
        return DesignRows(self.z.take(which), self.R[which])


def design_rows(fit: Fit) -> DesignRows:
    """All rows of the fit, without their quadratic forms."""
    factors = fit.design.factors
    z = _rows(fit, [factor.codes for factor in factors], [factor.Q for factor in factors])
    return DesignRows(z, fixed_rows(fit, fit.design.X, z))
