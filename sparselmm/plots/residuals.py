"""Residuals against fitted values, and normal quantiles of residuals and random effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.diagnostics.influence import Kind, residuals
from sparselmm.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    chosen,
    labels,
    normal_quantiles,
    one_axes,
    panels,
    record_of,
    title,
)
from sparselmm.ranef import ranef
from sparselmm.rows import fitted_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 5_000  # beyond which points become hexagons, or are thinned
MOST_BINS = 30


def residuals_fitted(results: Any, kind: Kind = "standardised", ax: Axes | None = None) -> Axes:
    """Residuals against fitted values, with their local mean.

    Parameters
    ----------
    results : Results
    kind : str
        As in `residuals`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Points, or hexagons counting them beyond 5,000 rows; the line joins the means of up to 30
        bins of equally many rows.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> plots.residuals_fitted(fit).get_ylabel()
    'Standardised residual'
    """
    fit = record_of(results)
    ax = one_axes(ax)
    fitted, e = fitted_values(fit), residuals(fit, kind).to_numpy()
    if fit.n > MOST_POINTS:
        ax.hexbin(fitted, e, gridsize=60, bins="log", mincnt=1, cmap="Blues", linewidths=0.1)
    else:
        ax.scatter(fitted, e, s=14, color=BLUE, alpha=0.55, linewidths=0)
    ax.axhline(0.0, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)))
    ax.plot(*local_means(fitted, e), color=RED, linewidth=1.8)
    labels(ax, "Fitted value", f"{kind.capitalize()} residual")
    return ax


def local_means(x: Array, y: Array) -> tuple[Array, Array]:
    """Means of x and y in bins of equally many points, in the order of x."""
    order = np.argsort(x, kind="stable")
    bins = int(np.clip(len(x) // 12, 1, MOST_BINS))
    edges = np.linspace(0, len(x), bins + 1).astype(int)
    counts = np.diff(edges)
    sums = [np.add.reduceat(v[order], edges[:-1]) / counts for v in (x, y)]
    return sums[0], sums[1]


def qq_residuals(results: Any, ax: Axes | None = None) -> Axes:
    """Standardised residuals against the normal quantiles they should follow.

    Parameters
    ----------
    results : Results
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        With the line of the standard normal distribution.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> plots.qq_residuals(fit).get_xlabel()
    'Normal quantile'
    """
    fit = record_of(results)
    ax = one_axes(ax, (4.4, 4.0))
    e = np.sort(residuals(fit, "standardised").to_numpy())
    _quantiles(ax, e, line=(0.0, 1.0))
    labels(ax, "Normal quantile", "Standardised residual")
    return ax


def _quantiles(ax: Axes, ordered: Array, line: tuple[float, float]) -> None:
    """Ordered values against normal quantiles, with the line intercept + slope z."""
    z = normal_quantiles(len(ordered))
    keep = _thinned(len(z))
    ends = z[[0, -1]]
    ax.plot(ends, line[0] + line[1] * ends, color=ORANGE, linewidth=1.6, zorder=2)
    ax.scatter(z[keep], ordered[keep], s=14, color=BLUE, alpha=0.7, linewidths=0, zorder=3)


def _thinned(n: int) -> Array:
    """All of few points; of many both tails and an even choice of the middle."""
    if n <= MOST_POINTS:
        return np.arange(n)
    tail = MOST_POINTS // 4
    middle = np.linspace(tail, n - tail - 1, MOST_POINTS - 2 * tail).astype(int)
    return np.concatenate([np.arange(tail), middle, np.arange(n - tail, n)])


def qq_random(results: Any, group: str | None = None, ax: Any = None) -> Array:
    """Conditional modes of the random effects against normal quantiles, one panel per effect.

    Parameters
    ----------
    results : Results
    group : str, optional
        Grouping factor; the first by default.
    ax : axes, optional
        One for every effect of the factor.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        Bars are 95 % intervals given theta. Modes are shrunk: the line has the slope of their own
        standard deviation.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> len(plots.qq_random(fit))
    2
    """
    fit = record_of(results)
    group = chosen(group, fit.spec.factor_names, "group")
    modes = ranef(fit)
    modes = modes[modes["grpvar"] == group]
    effects = list(dict.fromkeys(modes["term"]))
    axes = panels(len(effects), ax, size=(3.8, 3.4))
    for panel, effect in zip(axes, effects, strict=True):
        own = modes[modes["term"] == effect].sort_values("condval")
        _qq_effect(panel, own["condval"].to_numpy(), own["condsd"].to_numpy())
        title(panel, f"{effect} | {group}")
        labels(panel, "Normal quantile", "Conditional mode")
    return axes


def _qq_effect(ax: Axes, value: Array, sd: Array) -> None:
    z = normal_quantiles(len(value))
    if len(value) <= MOST_POINTS // 10:
        ax.vlines(z, value - 1.96 * sd, value + 1.96 * sd, color=GREY, linewidth=0.8, zorder=1)
    _quantiles(ax, value, line=(0.0, float(np.sqrt(np.mean(value**2)))))
