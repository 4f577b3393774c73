"""All terms of a model together: theta (one vector) to and from T (one factor per grouping factor).

A step is written relative to where it starts: T(kappa) = T (I + sum_i kappa_i B_i), the same for every template.
To second order the deviance then changes by g'kappa + kappa'H kappa / 2 with

    g = N'e                  e_a = <E, S_a>: the score in relative coordinates
    H = N'(2 AI)N + M        M_ij = <E, B_i B_j' + B_j B_i'>: the curvature of T T' itself

where N (constant) holds the coordinates of B_i + B_i' in the symmetric basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array, RandomTerm
from sparselmm.basis import block_diagonal
from sparselmm.covariance.templates import Template, template


@dataclass(frozen=True, slots=True)
class TermPart:
    """One term's template and its places.

    Attributes
    ----------
    template : Template
    factor : int
    columns : slice
        Its rows and columns of the factor's T.
    theta : slice
        Its part of theta.
    """

    template: Template
    factor: int
    columns: slice
    theta: slice


@dataclass(frozen=True, slots=True)
class CovarianceModel:
    """The covariance templates of all terms, in the order of theta.

    Attributes
    ----------
    parts : tuple of TermPart
    sizes : tuple of int
        Coefficients per level of every factor.
    directions : tuple of (int, ndarray of shape (s_j, s_j))
        Factor and symmetric matrix S_a, one per theta.
    step_map : ndarray, shape (n_theta, n_theta)
        N of the module's formula.
    pivots : ndarray of bool, shape (n_theta,)
        Which entries of theta lie on the diagonal of a T.
    """

    parts: tuple[TermPart, ...]
    sizes: tuple[int, ...]
    directions: tuple[tuple[int, Array], ...]
    step_map: Array
    pivots: Array

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters."""
        return len(self.step_map)

    def factors(self, theta: Array) -> tuple[Array, ...]:
        """T of every factor, shape (s_j, s_j)."""
        T = [np.zeros((s, s)) for s in self.sizes]
        for part in self.parts:
            T[part.factor][part.columns, part.columns] = part.template.factor(theta[part.theta])
        return tuple(T)

    def theta(self, T: Sequence[Array]) -> Array:
        """theta read off factors that have the templates' form."""
        return np.concatenate([part.template.theta(self.block(T, part)) for part in self.parts])

    @staticmethod
    def block(matrices: Sequence[Array], part: TermPart) -> Array:
        """One term's block of a per-factor list of matrices."""
        return matrices[part.factor][part.columns, part.columns]

    def gradient(self, E: Sequence[Array]) -> Array:
        """e_a = <E, S_a>, shape (n_theta,)."""
        return np.array([np.vdot(E[factor], S) for factor, S in self.directions])

    def curvature(self, E: Sequence[Array]) -> Array:
        """M of the module's formula, shape (n_theta, n_theta)."""
        M = np.zeros((self.n_theta, self.n_theta))
        for part in self.parts:
            M[part.theta, part.theta] = 2.0 * part.template.form(self.block(E, part))
        return 0.5 * (M + M.T)

    def jacobian(self, T: Sequence[Array]) -> Array:
        """d theta / d kappa at T, shape (n_theta, n_theta)."""
        J = np.zeros((self.n_theta, self.n_theta))
        for part in self.parts:
            J[part.theta, part.theta] = part.template.moved(self.block(T, part))
        return J

    def relative_change(self, coordinates: Array) -> list[Array]:
        """Symmetric matrices sum_a coordinates_a S_a, one per factor."""
        change = [np.zeros((s, s)) for s in self.sizes]
        for value, (factor, S) in zip(coordinates, self.directions, strict=True):
            change[factor] += value * S
        return change


def count_theta(terms: Sequence[RandomTerm]) -> int:
    """Covariance parameters of random terms, without making their templates."""
    total = 0
    for term in terms:
        s = len(term.columns)
        total += {"scalar": 1, "diagonal": s, "unstructured": s * (s + 1) // 2}[term.template]
    return total


def covariance_model(terms: Sequence[RandomTerm], sizes: Sequence[int]) -> CovarianceModel:
    """The covariance model of random terms that live on factors with `sizes` coefficients per level."""
    parts, directions, maps, at = [], [], [], 0
    for term in terms:
        s = len(term.columns)
        own = template(term.template, s)
        part = TermPart(
            own, term.factor, slice(term.start, term.start + s), slice(at, at + own.n_theta)
        )
        parts.append(part)
        at = part.theta.stop
        maps.append(own.moved_symmetric(np.eye(s), np.eye(s)))
        symmetric = own.symmetric_basis
        if s < sizes[term.factor]:
            padded = np.zeros((own.n_theta, sizes[term.factor], sizes[term.factor]))
            padded[:, part.columns, part.columns] = symmetric
            symmetric = padded
        directions += [(term.factor, S) for S in symmetric]
    pivots = np.concatenate([part.template.diagonal() for part in parts])
    return CovarianceModel(
        tuple(parts), tuple(sizes), tuple(directions), block_diagonal(maps), pivots
    )
