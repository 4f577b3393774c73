"""Data drawn from a linear mixed model with a given design and given parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sparselmm.datasets.groupings import Grouping
from sparselmm.errors import DataError

__all__ = ["Problem", "SimulatedDesign", "simulate_design"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Problem:
    """Data and the model to fit to them.

    Attributes
    ----------
    data : pandas.DataFrame
        One row per observation.
    formula : str
        The model.
    """

    data: pd.DataFrame
    formula: str


@dataclass(frozen=True, slots=True)
class SimulatedDesign(Problem):
    """A problem whose parameters are known.

    Attributes
    ----------
    theta : numpy.ndarray, shape (n_theta,)
        Relative covariance factor the random effects were drawn with, in the order of a fit:
        terms by decreasing number of levels, the lower triangle of each column by column.
    beta : numpy.ndarray, shape (p,)
        Fixed effects in the order of the formula, the intercept first.
    sigma : float
        Residual standard deviation.
    """

    theta: Array
    beta: Array
    sigma: float


def simulate_design(
    n_rows: int,
    groupings: Mapping[str, Grouping],
    rng: np.random.Generator,
    *,
    fixed: Sequence[str] = ("x",),
    slopes: Mapping[str, Sequence[str]] | None = None,
    columns: Mapping[str, Array] | None = None,
    theta: Mapping[str, Sequence[float]] | None = None,
    beta: Sequence[float] | None = None,
    sigma: float = 1.0,
) -> SimulatedDesign:
    """A response drawn from a mixed model over grouping factors made by rules.

    Parameters
    ----------
    n_rows : int
        Number of observations.
    groupings : mapping of str to rule
        Name of each grouping factor and its rule (``sparselmm.datasets.groupings``), applied in
        this order. Each factor has one random-effects term with an intercept.
    rng : numpy.random.Generator
        Source of all randomness.
    fixed : sequence of str
        Fixed effects beside the intercept: predictors, or products of them as ``"a:b"``.
    slopes : mapping of str to sequence of str, optional
        For a grouping factor the random effects beside its intercept, written as in ``fixed``;
        all effects of one term are correlated.
    columns : mapping of str to array, optional
        Values of predictors, each of shape (n_rows,). The others are standard normal.
    theta : mapping of str to sequence of float, optional
        For a grouping factor the lower triangle of its relative covariance factor, column by
        column (s (s + 1) / 2 numbers for s effects). Default: one half of the identity.
    beta : sequence of float, optional
        Intercept and fixed effects. Default: ones.
    sigma : float
        Residual standard deviation.

    Returns
    -------
    SimulatedDesign
        ``data`` has the response ``y``, the predictors as float64 and one int32 column of codes
        per grouping factor.

    Raises
    ------
    DataError
        If ``slopes`` or ``theta`` names no grouping factor, or ``theta``, ``beta`` or a column
        has the wrong length.

    Notes
    -----
    y = X beta + sum over factors of Q_j b_j + eps with b_j = sigma T_j u, u and eps / sigma
    standard normal. O(n) per effect; no loop runs over rows or levels.

    Examples
    --------
    >>> import numpy as np
    >>> from sparselmm.datasets import simulate_design
    >>> from sparselmm.datasets.groupings import crossed
    >>> design = simulate_design(
    ...     1000,
    ...     {"reader": crossed(50), "book": crossed(10, skew=1.0)},
    ...     np.random.default_rng(1),
    ...     slopes={"book": ["x"]},
    ... )
    >>> design.formula
    'y ~ 1 + x + (1 | reader) + (1 + x | book)'
    >>> design.theta
    array([0.5, 0.5, 0. , 0.5])
    """
    slopes, theta, columns = slopes or {}, theta or {}, columns or {}
    _check_names("slopes", slopes, groupings)
    _check_names("theta", theta, groupings)
    codes: dict[str, NDArray[np.int32]] = {}
    for name, rule in groupings.items():
        codes[name] = rule(n_rows, codes, rng)
    effects = {name: ("1", *slopes.get(name, ())) for name in groupings}
    values = _predictors(n_rows, [fixed, *slopes.values()], columns, rng)
    coefficients = _coefficients(beta, 1 + len(fixed))
    triangles = {g: _triangle(theta.get(g), len(effects[g]), g) for g in groupings}
    y = _matrix(("1", *fixed), values, n_rows) @ coefficients
    for name, code in codes.items():
        Q = _matrix(effects[name], values, n_rows)
        y += sigma * _random_part(Q, code, triangles[name], rng)
    y += sigma * rng.standard_normal(n_rows)
    return SimulatedDesign(
        data=pd.DataFrame({"y": y, **values, **codes}),
        formula=_formula(fixed, effects),
        theta=_flat_theta(triangles, codes),
        beta=coefficients,
        sigma=sigma,
    )


def _check_names(argument: str, given: Mapping, groupings: Mapping) -> None:
    """Refuse names that are no grouping factors."""
    unknown = [name for name in given if name not in groupings]
    if unknown:
        raise DataError(
            f"`{argument}` names {unknown[0]!r}, which is no grouping factor. "
            f"Use one of: {', '.join(groupings)}."
        )


def _predictors(
    n: int,
    effects: Sequence[Sequence[str]],
    columns: Mapping[str, Array],
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Values (n,) of every predictor that an effect mentions, given or standard normal."""
    names = dict.fromkeys(v for group in effects for effect in group for v in effect.split(":"))
    values = {
        name: np.asarray(columns[name], float) if name in columns else rng.standard_normal(n)
        for name in names
    }
    for name, column in values.items():
        if column.shape != (n,):
            raise DataError(f"Column {name!r} has shape {column.shape}; give one of ({n},).")
    return values


def _matrix(effects: Sequence[str], values: Mapping[str, Array], n: int) -> Array:
    """Model matrix (n, len(effects)); "1" is the intercept, "a:b" a product."""
    matrix = np.ones((n, len(effects)))
    for column, effect in zip(matrix.T, effects, strict=True):
        for name in effect.split(":"):
            if name != "1":
                column *= values[name]
    return matrix


def _coefficients(beta: Sequence[float] | None, p: int) -> Array:
    """The fixed effects (p,), ones if not given."""
    coefficients = np.ones(p) if beta is None else np.asarray(beta, float)
    if coefficients.shape != (p,):
        raise DataError(
            f"`beta` has {coefficients.size} numbers; the intercept and the fixed effects need {p}."
        )
    return coefficients


def _triangle(theta: Sequence[float] | None, s: int, name: str) -> Array:
    """Relative covariance factor (s, s) from its lower triangle, column by column."""
    if theta is None:
        return 0.5 * np.eye(s)
    if len(theta) != s * (s + 1) // 2:
        raise DataError(
            f"`theta` has {len(theta)} numbers for {name!r}; "
            f"{s} random effects need {s * (s + 1) // 2}."
        )
    factor = np.zeros((s, s))
    factor.T[np.triu_indices(s)] = theta
    return factor


def _random_part(Q: Array, codes: NDArray[np.int32], T: Array, rng: np.random.Generator) -> Array:
    """Contribution (n,) of one term to the response, in units of sigma."""
    b = rng.standard_normal((int(codes.max()) + 1, len(T))) @ T.T
    return np.einsum("ij,ij->i", Q, b[codes])


def _formula(fixed: Sequence[str], effects: Mapping[str, Sequence[str]]) -> str:
    """The model in lme4's notation."""
    bars = [f"({' + '.join(columns)} | {name})" for name, columns in effects.items()]
    return "y ~ " + " + ".join(["1", *fixed, *bars])


def _flat_theta(triangles: Mapping[str, Array], codes: Mapping[str, NDArray[np.int32]]) -> Array:
    """All relative covariance factors in one vector, terms by decreasing number of levels."""
    n_levels = {name: np.count_nonzero(np.bincount(code)) for name, code in codes.items()}
    order = sorted(codes, key=lambda name: -n_levels[name])
    return np.concatenate([triangles[g].T[np.triu_indices(len(triangles[g]))] for g in order])
