"""The three templates: unstructured, diagonal, scalar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array


@dataclass(frozen=True, slots=True)
class Template:
    """How theta fills one term's relative covariance factor.

    Attributes
    ----------
    name : str
        ``"unstructured"``, ``"diagonal"`` or ``"scalar"``.
    size : int
        Number s of coefficients per level.
    rows, columns : ndarray of int
        Where the entries of theta stand in T, down the columns of the lower triangle; the one entry of a scalar
        template stands on the whole diagonal.

    Notes
    -----
    Terms of a hundred columns have thousands of entries: what every evaluation needs goes by their places.
    """

    name: str
    size: int
    rows: Array
    columns: Array

    @property
    def n_theta(self) -> int:
        """Number of free parameters."""
        return 1 if self.name == "scalar" else len(self.rows)

    @property
    def factor_basis(self) -> Array:
        """Lower triangular 0/1 matrices B_i with T = sum_i theta_i B_i, shape (m, s, s)."""
        return self._basis(symmetric=False)

    @property
    def symmetric_basis(self) -> Array:
        """Symmetric matrices S_i that span the relative changes T^-1 dSigma T^-T, shape (m, s, s)."""
        return self._basis(symmetric=True)

    def _basis(self, *, symmetric: bool) -> Array:
        if self.name == "scalar":
            return np.eye(self.size)[None]
        basis, each = np.zeros((self.n_theta, self.size, self.size)), np.arange(self.n_theta)
        basis[each, self.rows, self.columns] = 1.0
        if symmetric:
            basis[each, self.columns, self.rows] = 1.0
        return basis

    def factor(self, theta: Array) -> Array:
        """T, shape (s, s), from this term's part of theta."""
        T = np.zeros((self.size, self.size))
        T[self.rows, self.columns] = theta
        return T

    def theta(self, T: Array) -> Array:
        """The parameters read off factors that have this template's form, shape (..., m)."""
        entries = T[..., self.rows, self.columns]
        return entries.mean(axis=-1, keepdims=True) if self.name == "scalar" else entries

    def coordinates(self, symmetric: Array) -> Array:
        """Coordinates of a symmetric matrix (or a stack of them) in `symmetric_basis`."""
        return self.theta(symmetric)

    def gradient(self, E: Array) -> Array:
        """<E, B_i> of every entry of theta, shape (m,)."""
        entries = E[self.rows, self.columns]
        return entries.sum(keepdims=True) if self.name == "scalar" else entries

    def form(self, E: Array) -> Array:
        """<E B_i, B_j>, shape (m, m)."""
        pairs = self._from_left(E)
        return pairs.sum(keepdims=True) if self.name == "scalar" else pairs

    def moved(self, M: Array) -> Array:
        """d theta / d x where T moves by M X and x are the entries of X, shape (m, m)."""
        return self._jacobian(self._from_left(M))

    def moved_symmetric(self, M: Array, O: Array) -> Array:
        """d c / d x where c are the coordinates of K + K' with K = M X O, shape (m, m)."""
        rows, columns = self.rows[:, None], self.columns[:, None]
        one = M[rows, self.rows] * O[self.columns, columns]
        return self._jacobian(one + M[columns, self.rows] * O[self.columns, rows])

    def _from_left(self, M: Array) -> Array:
        """Entries of M B_j at the places of theta, as if every place had its own entry."""
        return np.where(
            self.columns[:, None] == self.columns, M[self.rows[:, None], self.rows], 0.0
        )

    def _jacobian(self, entries: Array) -> Array:
        if self.name == "scalar":
            return entries.sum(axis=1).mean(keepdims=True)[:, None]
        return entries

    def diagonal(self) -> Array:
        """Mask over theta of the entries on the diagonal of T (those bounded below by zero)."""
        return (self.rows == self.columns)[: self.n_theta]


def template(name: str, size: int) -> Template:
    """Make the template `name` for `size` coefficients per level.

    Examples
    --------
    >>> from sparselmm.covariance import template
    >>> template("unstructured", 2).factor([1.0, 0.5, 0.2])
    array([[1. , 0. ],
           [0.5, 0.2]])
    >>> template("scalar", 3).n_theta
    1
    """
    if name in ("scalar", "diagonal"):
        return Template(name, size, np.arange(size), np.arange(size))
    if name != "unstructured":
        raise ValueError(
            f"Found covariance template {name!r}; expected 'unstructured', 'diagonal' or 'scalar'."
        )
    columns, rows = np.triu_indices(size)
    return Template(name, size, rows, columns)
