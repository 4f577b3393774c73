"""What is settled before fitting: whether the variances can be told from the residual."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparselmm._types import Array, Factor, RandomTerm
from sparselmm.design.factors import Levels
from sparselmm.errors import DataError, IdentifiabilityWarning, warn

_TOLERANCE = 1e-8
# Beyond these numbers, and columns, products of a term are not made only to see whether it is confounded.
_MANY, _WIDEST = 1e8, 40
SMALL, LARGE = (
    1e-50,
    1e50,
)  # sizes whose squares, and products of squares, are floating-point numbers


def check_response(y: Array, name: str) -> None:
    """Refuse a constant response, and one of extreme size.

    Raises
    ------
    DataError
        Naming the value.
    """
    if len(y) and y[0] == y[-1] and y.min() == y.max():
        raise DataError(
            f"Response '{name}' is constant ({y[0]:g} in all {len(y)} rows); a mixed model needs "
            "a response that varies; check the column and the rows kept."
        )
    check_scale(y[:, None], "Response", [name])


def check_names(names: Sequence[str]) -> None:
    """Refuse two columns of one name, such as the intercept beside data called 'Intercept'.

    Raises
    ------
    DataError
        Naming it.
    """
    if len(set(names)) < len(names):
        twice = max(names, key=list(names).count)
        raise DataError(
            f"Found two columns named '{twice}' in one sum of terms; expected one. Rename the "
            "column of the data."
        )


def check_scale(matrix: Array, role: str, names: Sequence[str]) -> None:
    """Refuse columns so large or so small that their squares leave the range of numbers.

    Parameters
    ----------
    matrix
        (n, p) finite values.
    role
        What the columns are, for the message.
    names
        p names.

    Raises
    ------
    DataError
        Naming the column and its largest absolute value. A column of zeros is not refused.
    """
    with np.errstate(over="ignore", under="ignore"):
        # One column at a time is faster; threads of BLAS, which `@` would wake, spin on afterwards.
        squares = np.array([np.einsum("i,i->", column, column) for column in matrix.T])
    fine = (squares > len(matrix) * SMALL**2) & (squares < LARGE**2)
    for j in np.flatnonzero(~fine).tolist():
        size = float(np.abs(matrix[:, j]).max(initial=0.0))
        if size >= LARGE or 0.0 < size <= SMALL:
            raise DataError(
                f"{role} '{names[j]}' has values up to {size:.2g} in size, expected between "
                f"{SMALL:g} and {LARGE:g}, or their squares leave the range of numbers; change the "
                "unit."
            )


def check_levels(levels: Levels, n: int) -> None:
    """Refuse a grouping factor of one level.

    Raises
    ------
    DataError
        Naming the level.
    """
    if len(levels) < 2:
        raise DataError(
            f"Grouping factor '{levels.name}' has one level ({levels.labels[0]}) for {n} rows; "
            "at least 2 are expected; remove its random effects or check the column and the rows "
            "kept."
        )


def check_size(term: RandomTerm, factor: Factor, weights: Array | None) -> None:
    """Look at a term with as many random coefficients as rows.

    Raises
    ------
    DataError
        When its variances are confounded with the residual variance.

    Warns
    -----
    IdentifiabilityWarning
        When they are not, but nearly as many parameters as rows remain.
    """
    n, l, s = len(factor.codes), factor.n_levels, len(term.columns)
    if l * s < n:
        return
    count = f"{l} levels for {n} rows" if s == 1 else f"{l} levels x {s} coefficients for {n} rows"
    found = f"Grouping factor '{term.grouping}' has {count}"
    modest = l * s**2 <= _MANY and s <= _WIDEST
    if modest and confounded(
        factor.codes, factor.Q[:, term.start : term.stop], l, weights, term.template
    ):
        raise DataError(
            f"{found}; the random effects of ({term.label}) cannot be told from the residual. "
            "Drop the term, reduce it, or aggregate."
        )
    warn(
        f"{found}; fewer random coefficients than rows are expected. The variances of "
        f"({term.label}) rest on the pattern of the predictor or the weights alone; "
        "consider a simpler term.",
        IdentifiabilityWarning,
    )


def confounded(codes: Array, Q: Array, n_levels: int, weights: Array | None, template: str) -> bool:
    """Whether some covariance matrix of the term reproduces the residual covariance.

    Notes
    -----
    The residual covariance is W^-1; the term gives Q_l A Q_l' within level l and nothing between
    levels. Where l s >= n the two can coincide. With G_l = Q_l'Q_l and B = sum_l Q_l'W_l^-1 Q_l,
    the least-squares A solves sum_l G_l A G_l = B, and its residual is
    tr(W^-2) - tr(A B). O(n s^2 + l s^4).
    """
    inverse = np.ones(len(codes)) if weights is None else 1.0 / weights
    Q = Q / np.maximum(np.sqrt((Q**2).mean(axis=0)), np.finfo(float).tiny)
    inverse = inverse / inverse.mean()
    s = Q.shape[1]
    G = _level_products(codes, Q, n_levels)
    B = Q.T @ (inverse[:, None] * Q)
    flat = G.reshape(n_levels, s * s)
    pairs = (flat.T @ flat).reshape(s, s, s, s)  # ab, cd
    normal = pairs.transpose(0, 2, 1, 3).reshape(s * s, s * s)
    basis = _symmetric_basis(s, template)
    right = basis.T @ B.ravel()
    solution = np.linalg.lstsq(basis.T @ normal @ basis, right, rcond=1e-12)[0]
    total = float(inverse @ inverse)
    # The residual covariance is diagonal: the squared norm of the difference counts
    # the off-diagonal part of Q_l A Q_l' too.
    return total - float(solution @ right) < _TOLERANCE * total


def _level_products(codes: Array, Q: Array, n_levels: int) -> Array:
    s = Q.shape[1]
    G = np.empty((n_levels, s, s))
    for a in range(s):
        for b in range(a + 1):
            G[:, a, b] = G[:, b, a] = np.bincount(codes, Q[:, a] * Q[:, b], n_levels)
    return G


def _symmetric_basis(s: int, template: str) -> Array:
    """(s * s, m) directions in which the covariance matrix of a template can move."""
    if template == "scalar":
        return np.eye(s).reshape(-1, 1)
    units = []
    for a in range(s):
        for b in range(a if template == "diagonal" else 0, a + 1):
            unit = np.zeros((s, s))
            unit[a, b] = unit[b, a] = 1.0
            units.append(unit.ravel())
    return np.array(units).T
