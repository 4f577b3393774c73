"""The same model for another response: the design is analysed once.

Of the cross-products only Z'Wy, X'Wy and y'Wy depend on the response. What least squares explains is taken off each
response first, so that no digits are lost where it lies far from the one that was fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._types import Array
from sparselmm.data import aligned
from sparselmm.design.checks import LARGE, SMALL
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit, Prepared, prepare
from sparselmm.fit import fit as find_optimum
from sparselmm.linalg import cholesky_lower, solve_lower, solve_lower_transposed
from sparselmm.refits.batch import (
    Minima,
    Responses,
    converged_ones,
    make_engine,
    operations,
    refit_responses,
)
from sparselmm.refits.responses import Rows, block_width, cross_products, make_rows
from sparselmm.threads import limited_threads, thread_count
from sparselmm.varcorr import parameter_names

if TYPE_CHECKING:
    import pandas as pd


def refit(fit: Fit, y: Any = None, reml: bool | None = None, weights: Any = None) -> Fit:
    """The model fitted to another response, by the other criterion, or with other weights.

    Parameters
    ----------
    y : array_like, shape (n,), optional
        New response for the rows used. A Series finds its rows by their labels, where the data had
        some, and may hold the rows that were dropped too; an array counts by position.
    reml : bool, optional
        Criterion; that of the fit if not given.
    weights : array_like, shape (n,), optional
        New prior weights for the rows used, positive; a Series as for `y`.

    Returns
    -------
    Results
        The start is the fit's own optimum.

    Raises
    ------
    InferenceError
        For a response or weights of another length, with other row labels than the data, with missing or infinite
        values, weights that are not positive, and a constant response.
    """
    prepared = fit.prepared
    if weights is not None:
        prepared = _with_weights(fit, weights)
    if y is not None:
        prepared = _with_response(prepared, check_responses(fit, y, (fit.n,))[:, None])
    reml = fit.reml if reml is None else reml
    return find_optimum(prepared, reml=reml, options=fit.options, start=fit.theta)


def check_responses(fit: Fit, Y: Any, shape: tuple[int | None, ...]) -> Array:
    """Responses as an array of floats of the given shape (None: any length)."""
    values = _numbers(fit, Y, "y" if len(shape) == 1 else "Y")
    fits = values.ndim == len(shape) and all(
        a in (b, None) for a, b in zip(shape, values.shape, strict=True)
    )
    if not fits:
        wanted = (
            "("
            + ", ".join("R" if a is None else str(a) for a in shape)
            + ("," * (len(shape) == 1))
            + ")"
        )
        dropped = fit.spec.n_dropped_missing + fit.spec.n_dropped_zero_weight
        advice = f" Leave out the {dropped} rows that the fit left out." if dropped else ""
        raise InferenceError(
            f"Found a response of shape {values.shape}; expected {wanted}, one value for each of the {fit.n} rows "
            f"used.{advice}"
        )
    if not np.isfinite(values).all():
        raise InferenceError(
            f"Found {np.count_nonzero(~np.isfinite(values))} missing or infinite values in the response; expected "
            "finite ones. Fit the model anew to drop rows."
        )
    size = max(values.max(initial=0.0), -values.min(initial=0.0))
    if not (size == 0.0 or SMALL < size < LARGE):
        raise InferenceError(
            f"Found a response with values up to {size:.2g} in size; expected between {SMALL:g} and {LARGE:g}, or "
            "their squares leave the range of numbers. Change its unit."
        )
    return values


def _numbers(fit: Fit, values: Any, name: str) -> Array:
    """Floats in the order of the rows used, NaN where masked."""
    dropped = fit.spec.n_dropped_missing + fit.spec.n_dropped_zero_weight
    values = aligned(values, fit.spec.index, name, dropped=dropped, error=InferenceError)
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(float), np.nan)
    try:
        if np.iscomplexobj(values):
            raise TypeError
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InferenceError(
            f"Found {name} of type {type(values).__name__} with values that are no real numbers; expected one number "
            f"for each of the {fit.n} rows used."
        ) from None


def _with_weights(fit: Fit, weights: Any) -> Prepared:
    w = _numbers(fit, weights, "weights")
    if w.shape != (fit.n,) or not np.isfinite(w).all() or not (w > 0.0).all():
        raise InferenceError(
            f"Found weights of shape {w.shape}{_smallest(w)}; expected a positive number for each of the {fit.n} rows "
            "used. Fit the model anew to drop rows of weight zero."
        )
    return prepare(fit.spec, replace(fit.design, weights=w))


def _smallest(w: Array) -> str:
    return f" with smallest value {np.min(w):g}" if w.size else ""


def _with_response(prepared: Prepared, Y: Array) -> Prepared:
    """The same design with one other response, shape (n, 1)."""
    rows = make_rows(prepared)
    inner, shift = take_off(prepared, rows, Y)
    _check_varies(Y)
    own = cross_products(rows, inner)
    basis = replace(prepared.gram.basis, beta0=prepared.gram.basis.beta0 + shift[:, 0])
    gram = prepared.gram.with_response(tuple(z[0] for z in own.ZtY), own.XtY[0], float(own.yty[0]))
    return replace(
        prepared, design=replace(prepared.design, y=Y[:, 0].copy()), gram=replace(gram, basis=basis)
    )


def take_off(prepared: Prepared, rows: Rows, Y: Array) -> tuple[Array, Array]:
    """Responses in internal coordinates minus what least squares explains, and that in the user's coefficients.

    Parameters
    ----------
    Y : ndarray, shape (n, R)
        In the user's coordinates.

    Returns
    -------
    inner : ndarray, shape (n, R)
    shift : ndarray, shape (p, R)
    """
    gram, design = prepared.gram, prepared.design
    basis, p = gram.basis, gram.p
    shift = design.X[:, basis.kept] @ basis.beta0
    shift = shift if design.offset is None else shift + design.offset
    inner = Y - shift[:, None]
    if not p:
        return inner, np.empty((0, Y.shape[1]))
    WX = rows.X if rows.weights is None else rows.X * rows.weights[:, None]
    L = cholesky_lower(gram.XytXy[:p, :p])
    total = np.zeros((p, Y.shape[1]))
    for _ in range(2):  # the second pass takes off what rounding left of a large mean
        beta = solve_lower_transposed(L, solve_lower(L, WX.T @ inner))
        inner = inner - rows.X @ beta
        total += beta
    return inner, solve_triangular(basis.Rx, total)


def _check_varies(Y: Array) -> None:
    constant = np.flatnonzero(Y.max(axis=0) == Y.min(axis=0))
    if len(constant):
        column = f" in column {constant[0]}" if Y.shape[1] > 1 else ""
        raise InferenceError(
            f"Found the constant response {Y[0, constant[0]]:g}{column}; expected one that varies."
        )


@dataclass(frozen=True)
class Refits:
    """One model fitted to many responses.

    Attributes
    ----------
    params : pandas.DataFrame, shape (R, p)
        Fixed effects kept, one row per response.
    varpar : pandas.DataFrame
        Standard deviations ``sd_x|g``, correlations ``cor_x.z|g`` and ``sigma``.
    theta : ndarray, shape (R, n_theta)
        Relative covariance parameters.
    deviance : ndarray, shape (R,)
    outcome : ndarray of Outcome, shape (R,)
    evaluations : ndarray of int, shape (R,)
    """

    params: pd.DataFrame
    varpar: pd.DataFrame
    theta: Array
    deviance: Array
    outcome: Array
    evaluations: Array

    @property
    def converged(self) -> Array:
        """Which fits passed their certificate, shape (R,)."""
        return converged_ones(self.outcome)

    @property
    def frame(self) -> pd.DataFrame:
        """All estimates and the deviance, one row per response."""
        import pandas as pd

        frame = pd.concat([self.params, self.varpar], axis=1)
        frame["deviance"] = self.deviance
        return frame

    def __str__(self) -> str:
        failed = int((~self.converged).sum())
        singular = sum(outcome.name == "SINGULAR" for outcome in self.outcome)
        return f"{len(self.outcome)} refits: {singular} singular, {failed} not converged"

    __repr__ = __str__


def refit_many(fit: Fit, Y: Any) -> Refits:
    """The model fitted to many responses that share its design.

    Parameters
    ----------
    Y : array_like or DataFrame, shape (n, R)
        One response per column, for the rows used; those of a DataFrame by label, as in `refit`.

    Returns
    -------
    Refits

    Raises
    ------
    InferenceError
        For responses of another length, with missing or infinite values, and constant ones.

    Notes
    -----
    The design's cross-products and its analysis are shared. Small designs take their Newton steps side by side on
    the exact Hessian; larger ones, and what fails there, go through the optimiser of `lmm` from the fit's optimum.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fits = fit.refit_many(fit.simulate(200, rng=1))
    >>> fits.params.mean().round(0)
    Intercept    25...
    Days          10.0
    dtype: float64
    """
    import pandas as pd

    labels = Y.columns if isinstance(Y, pd.DataFrame) else None
    Y = check_responses(fit, Y, (fit.n, None))
    if not Y.shape[1]:
        raise InferenceError("Found no response; expected at least one column.")
    _check_varies(Y)
    rows, problem, width = make_rows(fit), fit.problem, block_width(fit.n)
    engine = make_engine(problem)
    pieces, shifts = [], []
    for start in range(0, Y.shape[1], width):
        inner, shift = take_off(fit.prepared, rows, Y[:, start : start + width])
        pieces.append(cross_products(rows, inner))
        shifts.append(shift)
    responses = Responses(
        tuple(map(np.concatenate, zip(*(piece.ZtY for piece in pieces), strict=True))),
        np.concatenate([piece.XtY for piece in pieces]),
        np.concatenate([piece.yty for piece in pieces]),
    )
    work = operations(fit.gram, fit.n_theta) * (len(responses) if engine is not None else 1)
    threads = max(thread_count(work, fit.options.threads), fit.prepared.threads(fit.options))
    with limited_threads(threads):
        minima = refit_responses(
            problem,
            engine,
            responses,
            fit.optimum.theta,
            max_evaluations=fit.options.max_evaluations,
        )
    params, varpar = estimates_of(fit, minima)
    params += np.concatenate(shifts, axis=1).T
    index = pd.RangeIndex(len(params)) if labels is None else labels
    names = [fit.spec.column_names[i] for i in fit.kept]
    return Refits(
        pd.DataFrame(params, index, names),
        pd.DataFrame(varpar, index, parameter_names(fit)),
        user_theta(fit, minima.theta)[0],
        minima.deviance,
        minima.outcome,
        minima.evaluations,
    )


def estimates_of(fit: Fit, minima: Minima) -> tuple[Array, Array]:
    """Fixed effects (R, p), and standard deviations, correlations and sigma (R, …), in the user's coordinates."""
    basis = fit.gram.basis
    beta = (
        basis.beta0 + solve_triangular(basis.Rx, minima.beta.T).T if fit.p else minima.beta.copy()
    )
    sigma = np.sqrt(minima.s2)
    columns = []
    for part, T in zip(fit.model.parts, user_theta(fit, minima.theta)[1], strict=True):
        covariance = T @ T.transpose(0, 2, 1)
        sd = np.sqrt(np.einsum("raa->ra", covariance))
        columns += list((sigma[:, None] * sd).T)
        if part.template.name == "unstructured":
            s = sd.shape[1]
            with np.errstate(invalid="ignore", divide="ignore"):
                correlation = covariance / (sd[:, :, None] * sd[:, None])
            pairs = [(a, b) for a in range(s) for b in range(a + 1, s)]
            columns += [np.clip(correlation[:, a, b], -1.0, 1.0) for a, b in pairs]
    return beta, np.column_stack([*columns, sigma])


def user_theta(fit: Fit, theta: Array) -> tuple[Array, list[Array]]:
    """theta (R, n_theta) and T of every term (R, s, s) in the user's coordinates, from internal theta."""
    out, factors = np.empty_like(theta), []
    for part in fit.model.parts:
        R = fit.gram.basis.Rq[part.factor][part.columns, part.columns]
        inverse = solve_triangular(R, np.eye(len(R)), lower=True)
        T = inverse @ np.tensordot(theta[:, part.theta], part.template.factor_basis, 1)
        norms = np.einsum("iab,iab->i", part.template.factor_basis, part.template.factor_basis)
        out[:, part.theta] = np.einsum("rab,iab->ri", T, part.template.factor_basis) / norms
        factors.append(T)
    return out, factors
