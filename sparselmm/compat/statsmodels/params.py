"""Parameters in statsmodels' order: fixed effects, lower triangle of cov_re, variance components.

The variance parameters of a fit are relative to the residual variance (`scale`), which is profiled out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparselmm._types import Array


class MixedLMParams:
    """A point in the parameter space of a mixed model, the scale profiled out.

    Parameters
    ----------
    k_fe, k_re, k_vc : int
        Numbers of fixed effects, of random-effects columns, and of variance components.

    Attributes
    ----------
    fe_params : ndarray, shape (k_fe,)
    cov_re : ndarray, shape (k_re, k_re)
    vcomp : ndarray, shape (k_vc,)

    Examples
    --------
    >>> from sparselmm.compat.statsmodels import MixedLMParams
    >>> point = MixedLMParams.from_components([1.0], cov_re=[[4.0, 1.0], [1.0, 2.0]])
    >>> point.get_packed(use_sqrt=False, has_fe=True).tolist()
    [1.0, 4.0, 1.0, 2.0]
    """

    fe_params: Array
    cov_re: Array
    vcomp: Array

    def __init__(self, k_fe: int, k_re: int, k_vc: int) -> None:
        self.k_fe = k_fe
        self.k_re = k_re
        self.k_re2 = k_re * (k_re + 1) // 2
        self.k_vc = k_vc
        self.k_tot = self.k_fe + self.k_re2 + self.k_vc

    @staticmethod
    def from_packed(
        params: Any, k_fe: int, k_re: int, use_sqrt: bool, has_fe: bool
    ) -> MixedLMParams:
        """The point that a packed vector stands for.

        Parameters
        ----------
        params : array_like
            Fixed effects (with `has_fe`), lower triangle by rows, variance components.
        k_fe, k_re : int
        use_sqrt : bool
            Whether the vector holds the Cholesky factor of cov_re and the roots of vcomp.
        has_fe : bool
            Without it the fixed effects are zero.
        """
        packed = np.asarray(params, dtype=float)
        first = k_fe if has_fe else 0
        k_re2 = k_re * (k_re + 1) // 2
        matrix = np.zeros((k_re, k_re))
        matrix[np.tril_indices(k_re)] = packed[first : first + k_re2]
        vcomp = packed[first + k_re2 :]
        point = MixedLMParams(k_fe, k_re, len(vcomp))
        point.fe_params = packed[:k_fe].copy() if has_fe else np.zeros(k_fe)
        if use_sqrt:
            point.cov_re, point.vcomp = matrix @ matrix.T, vcomp**2
        else:
            point.cov_re = matrix + np.tril(matrix, -1).T
            point.vcomp = vcomp.copy()
        return point

    @staticmethod
    def from_components(
        fe_params: Any = None, cov_re: Any = None, cov_re_sqrt: Any = None, vcomp: Any = None
    ) -> MixedLMParams:
        """The point with these parts; parts left out are empty.

        Parameters
        ----------
        fe_params : array_like, shape (k_fe,), optional
        cov_re : array_like, shape (k_re, k_re), optional
        cov_re_sqrt : array_like, shape (k_re, k_re), optional
            Lower triangular L with cov_re = L L'; used instead of `cov_re`.
        vcomp : array_like, shape (k_vc,), optional
        """
        fe = np.empty(0) if fe_params is None else np.asarray(fe_params)
        components = np.empty(0) if vcomp is None else np.asarray(vcomp)
        if cov_re_sqrt is not None:
            root = np.asarray(cov_re_sqrt)
            matrix = root @ root.T
        else:
            matrix = np.empty((0, 0)) if cov_re is None else np.asarray(cov_re)
        point = MixedLMParams(len(fe), len(matrix), len(components))
        point.fe_params, point.cov_re, point.vcomp = fe, matrix, components
        return point

    def copy(self) -> MixedLMParams:
        """The same point in arrays of its own."""
        point = MixedLMParams(self.k_fe, self.k_re, self.k_vc)
        point.fe_params = self.fe_params.copy()
        point.cov_re = self.cov_re.copy()
        point.vcomp = self.vcomp.copy()
        return point

    def get_packed(self, use_sqrt: bool, has_fe: bool = False) -> Array:
        """The point as one vector.

        Parameters
        ----------
        use_sqrt : bool
            Give the Cholesky factor of cov_re and the roots of vcomp; works for singular matrices.
        has_fe : bool
            Begin with the fixed effects.
        """
        matrix = np.asarray(self.cov_re, dtype=float).reshape(self.k_re, self.k_re)
        vcomp = np.asarray(self.vcomp, dtype=float)
        if use_sqrt:
            matrix, vcomp = lower_root(matrix), np.sqrt(vcomp)
        parts = [matrix[np.tril_indices(self.k_re)], vcomp]
        return np.concatenate([np.asarray(self.fe_params), *parts] if has_fe else parts)


def as_params(value: Any) -> MixedLMParams | None:
    """The point itself, a copy of a point of statsmodels' class of this name, None for anything else."""
    if value is None or isinstance(value, MixedLMParams):
        return value
    if not all(hasattr(value, name) for name in ("fe_params", "cov_re", "vcomp", "get_packed")):
        return None
    return MixedLMParams.from_components(value.fe_params, cov_re=value.cov_re, vcomp=value.vcomp)


class VCSpec:
    """Variance components given by matrices.

    Parameters
    ----------
    names : list of str
        Names of the components.
    colnames : list of list of list of str
        ``colnames[k][i]`` names the columns of ``mats[k][i]``.
    mats : list of list of array_like
        ``mats[k][i]`` is the matrix of component k for the i-th group in sorted order; its columns have
        independent coefficients with one variance. Arrays, DataFrames or scipy's sparse arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from sparselmm.compat.statsmodels import VCSpec
    >>> dummies = np.array([[1, 0], [1, 0], [0, 1]])
    >>> VCSpec(["h"], [[["h1", "h2"]] * 2], [[dummies, dummies]]).names
    ['h']
    """

    def __init__(self, names: Sequence[str], colnames: Any, mats: Any) -> None:
        self.names = list(names)
        self.colnames = colnames
        self.mats = mats


def lower_root(matrix: Array) -> Array:
    """Lower triangular L with L L' = matrix and a diagonal of no negative entry, also where it is singular.

    Parameters
    ----------
    matrix : ndarray, shape (k, k)
        Symmetric, positive semidefinite.

    Raises
    ------
    ValueError
        When it has a negative eigenvalue beyond rounding.
    """
    if len(matrix) == 0:
        return np.zeros((0, 0))
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    if not values[0] >= -1e-10 * max(values[-1], 1e-300):
        raise ValueError(
            f"Found a covariance matrix with eigenvalue {values[0]:.3g}; expected none below zero. "
            "Give a symmetric positive semidefinite cov_re."
        )
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    R = np.asarray(np.linalg.qr(root, mode="r"))
    return R.T * np.where(np.diag(R) < 0.0, -1.0, 1.0)
