"""Chi-bar-square distributions: likelihood ratios of parameters on a boundary.

One variance that is zero under the null: half chi-square(0), half chi-square(1). A random slope in an unstructured
term, with q covariances: half chi-square(q), half chi-square(q + 1) (Stram & Lee 1994, Biometrics 50, 1171-1177,
case 3). A whole term with s > 1 effects: the parameters lie in a cone C (positive semidefinite matrices, or
non-negative variances), and with z ~ N(0, I^-1), I the information about the term given the rest,

    LR = z'Iz - min over c in C of (z - c)'I(z - c) = R² rho(direction),    R² ~ chi-square(k), apart from the direction

(Shapiro 1985, Biometrika 72, 133-144), so that P(LR > x) is the mean of P(chi-square(k) > x / rho) over random
directions. I is the expected information at the null fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from sparselmm._types import Array
from sparselmm.criterion import Solution, fixed_covariance
from sparselmm.gram import Gram
from sparselmm.marginal import (
    Direction,
    Marginal,
    level_pairs,
    make_probes,
    marginal,
    sandwiches,
)

DIRECTIONS = 1_000
ITERATIONS = 40  # the shares are then good to 1e-4
EXACT = 20_000_000  # entries of all solutions together up to which the information is computed


@dataclass(frozen=True, slots=True)
class Mixture:
    """Tail of a chi-bar-square distribution.

    Attributes
    ----------
    name : str
    df : tuple of int
        Degrees of freedom of the components.
    weights : tuple of float
        Theirs; for a cone the shares are those of `shares` instead.
    shares : ndarray or None
        rho of the module's formula for random directions, with ``df[-1]`` degrees of freedom.
    """

    name: str
    df: tuple[int, ...]
    weights: tuple[float, ...]
    shares: Array | None = None

    def tail(self, statistic: float) -> float:
        """P(LR >= statistic); 1 at zero."""
        if statistic <= 0.0:
            return 1.0
        if self.shares is not None:
            scaled = np.divide(
                statistic,
                self.shares,
                out=np.full(len(self.shares), np.inf),
                where=self.shares > 0.0,
            )
            return float(chdtrc(self.df[-1], scaled).mean())
        tails = [float(chdtrc(k, statistic)) if k else 0.0 for k in self.df]
        return float(np.dot(self.weights, tails))


def half_and_half(df: int) -> Mixture:
    """Equal parts of chi-square(df - 1) and chi-square(df).

    Exact in the limit when one parameter is on its boundary, an upper bound when more are (Perlman 1969).
    """
    return Mixture(f"0.5 chi2({df - 1}) + 0.5 chi2({df})", (df - 1, df), (0.5, 0.5))


def cone_mixture(information: Array, directions: Sequence[Array]) -> Mixture:
    """The mixture of a cone of covariance matrices.

    Parameters
    ----------
    information : ndarray, shape (k, k)
        In the coordinates of `directions`.
    directions : sequence of ndarray, shape (s, s)
        Symmetric matrices that span the term's covariances: orthogonal to each other.
    """
    k = len(directions)
    lengths = np.array([np.linalg.norm(S) for S in directions])
    unit = np.array([S / length for S, length in zip(directions, lengths, strict=True)])
    metric = information / np.multiply.outer(lengths, lengths)
    balance = _balance(metric, unit)
    unit = balance @ unit @ balance
    lengths = np.sqrt(np.einsum("iab,iab->i", unit, unit))
    unit /= lengths[:, None, None]
    metric = metric / np.multiply.outer(lengths, lengths)
    values, vectors = np.linalg.eigh(metric)
    root = vectors / np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    draws = np.random.default_rng(1).standard_normal((DIRECTIONS // 2, k))
    draws /= np.linalg.norm(draws, axis=1, keepdims=True)
    z = np.concatenate([draws, -draws]) @ root.T
    nearest = project(z, metric, unit)
    gap = z - nearest
    shares = 1.0 - np.einsum("ri,ij,rj->r", gap, metric, gap)
    shares[shares < 1e-9] = 0.0
    return Mixture(f"chi-bar-square of a cone in {k} dimensions", (k,), (1.0,), shares)


def _balance(metric: Array, unit: Array) -> Array:
    """Diagonal scaling of the effects that gives every variance the same information."""
    s = unit.shape[1]
    own = [int(np.argmax(unit[:, a, a])) for a in range(s)]
    information = np.array([metric[i, i] for i in own])
    return np.diag(information**0.25 / np.mean(information**0.25))


def project(z: Array, metric: Array, unit: Array) -> Array:
    """Nearest points, in a metric, of the cone of positive semidefinite matrices sum_i c_i unit_i.

    Parameters
    ----------
    z : ndarray, shape (r, k)
    metric : ndarray, shape (k, k)
    unit : ndarray, shape (k, s, s)
        Orthonormal.

    Notes
    -----
    Accelerated projected gradients (Beck & Teboulle 2009), all rows together.
    """
    step = 1.0 / np.linalg.eigvalsh(metric)[-1]
    c = _semidefinite(z, unit)
    ahead, t = c, 1.0
    for _ in range(ITERATIONS):
        new = _semidefinite(ahead - step * (ahead - z) @ metric, unit)
        t_new = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * t * t))
        ahead = new + (t - 1.0) / t_new * (new - c)
        c, t = new, t_new
    return c


def _semidefinite(c: Array, unit: Array) -> Array:
    """Nearest positive semidefinite matrices in the Frobenius norm, as coordinates."""
    values, vectors = np.linalg.eigh(np.tensordot(c, unit, 1))
    positive = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return np.einsum("rab,iab->ri", positive, unit)


def conditional_information(
    gram: Gram, null: Solution, tested: Sequence[Direction], others: Sequence[Direction]
) -> Array | None:
    """Expected information about some covariances at a null fit, the rest and sigma² unknown; None where too dear.

    Parameters
    ----------
    gram : Gram
        Of the larger model.
    null : Solution
        With T zero for the tested term.
    tested, others : sequence of (int, ndarray)
        Directions: factor and symmetric matrix.

    Returns
    -------
    ndarray, shape (k, k)
    """
    I = expected_information(gram, marginal(gram, null), [*tested, *others], reml=null.reml)
    if I is None:
        return None
    k = len(tested)
    inverse = np.linalg.pinv(I[k:, k:], rcond=1e-10, hermitian=True)
    return 0.5 * (I[:k, :k] - I[:k, k:] @ inverse @ I[k:, :k])


def expected_information(
    gram: Gram, m: Marginal, directions: Sequence[Direction], *, reml: bool
) -> Array | None:
    """Twice the expected information about covariances and log sigma², shape (m + 1, m + 1); None where too dear."""
    probes = make_probes(gram)
    if probes.columns(gram.shapes) * gram.q > EXACT:
        return None
    pairs = level_pairs(m, probes)
    size = len(directions)
    I = np.empty((size + 1, size + 1))
    I[:size, :size] = pairs.traces(directions)
    once = pairs.traces_once(directions)
    if reml and gram.p:
        M_inverse = fixed_covariance(m.at) / m.at.s2
        XDX, XDDX = sandwiches(m, directions)
        scaled = M_inverse @ XDX
        I[:size, :size] += np.einsum("iab,kba->ik", scaled, scaled)
        I[:size, :size] -= 2.0 * np.einsum("ab,ikab->ik", M_inverse, XDDX)
        once = once - np.einsum("iaa->i", scaled)
    I[:size, size] = I[size, :size] = once
    I[size, size] = gram.n - gram.p if reml else gram.n
    return I
