"""Coordinates for steps: Cholesky factors of Sigma with the largest variances first.

Where a variance is small, the entries below its pivot trade off along a curve (t21² + t22² is fixed
while t11 is nearly zero) and quadratic models fail. With the coefficients ordered as by pivoted
Cholesky, small pivots come last and nothing is below them. A chart holds one order per term; its
theta fills T_p, the lower factor of the reordered Sigma:

    T[order] = T_p O   (O orthogonal)
    T_p + dT_p   <->   T (I + K),   K = T^-1 dT_p[inverse] O

and to second order the deviance changes by g'theta + theta'H theta / 2 with, K_i belonging to the
unit move B_i,

    g_i = 2 <E, K_i>
    H_ij = n_i'(2 AI)n_j + 2 <E, K_i K_j'>        n_i: coordinates of K_i + K_i'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.model import CovarianceModel
from sparselmm.linalg import cholesky_lower

KEEP_ORDER = (
    0.2  # share of the largest remaining pivot that an order's next pivot must have to be kept
)


@dataclass(frozen=True, slots=True)
class Chart:
    """Orders of the coefficients of every term.

    Attributes
    ----------
    model : CovarianceModel
    orders : tuple of ndarray of int, shape (s,)
        Per term; the identity but for unstructured terms.
    """

    model: CovarianceModel
    orders: tuple[Array, ...]

    def theta(self, T: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Entries of the T_p and the rotations O (one per term) of lower triangular factors T."""
        theta, rotations = np.empty(self.model.n_theta), []
        for part, order in zip(self.model.parts, self.orders, strict=True):
            block = self.model.block(T, part)
            Tp, O = lower_factor(block[order]) if _reorders(order) else (block, np.eye(len(block)))
            theta[part.theta] = part.template.theta(Tp)
            rotations.append(O)
        return theta, rotations

    def factors(self, theta: Array) -> tuple[Array, ...]:
        """Lower triangular T of every factor."""
        T = [np.zeros((s, s)) for s in self.model.sizes]
        for part, order in zip(self.model.parts, self.orders, strict=True):
            block = part.template.factor(theta[part.theta])
            if _reorders(order):
                block, _ = lower_factor(block[np.argsort(order)])
            T[part.factor][part.columns, part.columns] = block
        return tuple(T)

    def metric(self, T: Sequence[Array], noise: Sequence[Array]) -> Array:
        """d theta / d x for moves dT_p = M_p X, M_p the factor of the reordered TT' + noise."""
        J = np.zeros((self.model.n_theta, self.model.n_theta))
        for part, order in zip(self.model.parts, self.orders, strict=True):
            t = self.model.block(T, part)[order]
            own = self.model.block(noise, part)[order][:, order]
            M = cholesky_lower(t @ t.T + own)
            if not M[0, 0] > 0.0:  # lost in rounding
                M = lower_factor(np.hstack([t, np.sqrt(own)]))[0]
            J[part.theta, part.theta] = part.template.moved(M)
        return J

    def quadratic(
        self, T: Sequence[Array], rotations: list[Array], E: Sequence[Array], information: Array
    ) -> tuple[Array, Array]:
        """g and H of the module's formula.

        Parameters
        ----------
        T : sequence of ndarray, shape (s_j, s_j)
        rotations : list of ndarray
            From `theta`.
        E : sequence of ndarray, shape (s_j, s_j)
        information : ndarray, shape (n_theta, n_theta)
            2 AI in relative coordinates.
        """
        m = self.model.n_theta
        g, N, H = np.empty(m), np.zeros((m, m)), np.zeros((m, m))
        for part, order, O in zip(self.model.parts, self.orders, rotations, strict=True):
            # K_i = (T^-1)[:, order[a]] o_b', where B_i has its one in row a and column b
            left = np.linalg.inv(self.model.block(T, part))[:, order]
            pulled = left.T @ self.model.block(E, part)
            g[part.theta] = 2.0 * part.template.gradient(pulled @ O.T)
            H[part.theta, part.theta] = 2.0 * part.template.form(pulled @ left)
            N[part.theta, part.theta] = part.template.moved_symmetric(left, O)
        H = N.T @ information @ N + 0.5 * (H + H.T)
        return g, H


def _reorders(order: Array) -> bool:
    return len(order) > 1 and bool((order[1:] < order[:-1]).any())


def lower_factor(F: Array) -> tuple[Array, Array]:
    """Lower triangular L with non-negative pivots and orthogonal O with F = L O."""
    Q, R = np.linalg.qr(F.T)
    signs = np.where(R.diagonal() < 0.0, -1.0, 1.0)
    L = R.T * signs
    return np.where(np.abs(L) < 1e-15 * np.abs(L).max(), 0.0, np.tril(L)), (Q * signs).T


def choose_chart(
    model: CovarianceModel,
    T: Sequence[Array],
    noise: Sequence[Array],
    present: Chart | None = None,
) -> Chart:
    """Orders by pivoted Cholesky of Sigma relative to the noise; present ones are kept while good."""
    orders = []
    for i, part in enumerate(model.parts):
        order = np.arange(part.template.size) if present is None else present.orders[i]
        if part.template.name == "unstructured" and len(order) > 1:
            t, scale = model.block(T, part), np.sqrt(model.block(noise, part).diagonal())
            order = pivoted_order(t / scale[:, None], order)
        orders.append(order)
    if present is not None and all(map(np.array_equal, orders, present.orders)):
        return present
    return Chart(model, tuple(orders))


def pivoted_order(F: Array, present: Array) -> Array:
    """Order in which pivoted Cholesky takes the rows of a factor, preferring the present one."""
    rest, order = F.copy(), []
    for preferred in present:
        left = np.einsum("ab,ab->a", rest, rest)
        left[order] = -1.0
        best = int(left.argmax())
        taken = preferred if left[preferred] >= KEEP_ORDER * left[best] else best
        order.append(int(taken))
        if left[taken] > 0.0:
            direction = rest[taken] / np.sqrt(left[taken])
            rest -= np.multiply.outer(rest @ direction, direction)
    return np.array(order)
