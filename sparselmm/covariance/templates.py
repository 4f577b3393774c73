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
    factor_basis : ndarray, shape (m, s, s)
        Lower triangular 0/1 matrices B_i with T = sum_i theta_i B_i; theta runs down the columns of the
        lower triangle.
    symmetric_basis : ndarray, shape (m, s, s)
        Symmetric matrices S_i that span the relative changes T^-1 dSigma T^-T.
    """

    name: str
    size: int
    factor_basis: Array
    symmetric_basis: Array

    @property
    def n_theta(self) -> int:
        """Number of free parameters."""
        return len(self.factor_basis)

    def factor(self, theta: Array) -> Array:
        """T, shape (s, s), from this term's part of theta."""
        s = self.size
        return (np.asarray(theta) @ self.factor_basis.reshape(-1, s * s)).reshape(s, s)

    def theta(self, T: Array) -> Array:
        """The parameters read off factors that have this template's form, shape (..., m)."""
        flat = self.factor_basis.reshape(self.n_theta, -1)
        norm = self.size if self.name == "scalar" else 1
        return T.reshape(*T.shape[:-2], -1) @ flat.T / norm

    def coordinates(self, symmetric: Array) -> Array:
        """Coordinates of a symmetric matrix (or a stack of them) in `symmetric_basis`."""
        return self.theta(symmetric)

    def diagonal(self) -> Array:
        """Mask over theta of the entries on the diagonal of T (those bounded below by zero)."""
        return np.array([bool(np.trace(B)) for B in self.factor_basis])


def _unit(size: int, a: int, b: int) -> Array:
    E = np.zeros((size, size))
    E[a, b] = 1.0
    return E


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
    if name == "scalar":
        basis = np.eye(size)[None]
        return Template(name, size, basis, basis)
    if name == "diagonal":
        basis = np.stack([_unit(size, a, a) for a in range(size)])
        return Template(name, size, basis, basis)
    if name != "unstructured":
        raise ValueError(
            f"Found covariance template {name!r}; expected 'unstructured', 'diagonal' or 'scalar'."
        )
    pairs = [(a, b) for b in range(size) for a in range(b, size)]
    lower = np.stack([_unit(size, a, b) for a, b in pairs])
    symmetric = np.stack([np.maximum(E, E.T) for E in lower])
    return Template(name, size, lower, symmetric)
