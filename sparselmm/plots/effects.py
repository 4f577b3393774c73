"""Fixed and random effects: coefficients, caterpillars, shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.criterion import by_levels, solve_at
from sparselmm.errors import InferenceError
from sparselmm.estimates import names
from sparselmm.fit import Fit
from sparselmm.inference.distributions import check_level, two_sided_quantile
from sparselmm.inference.wald import Ddf
from sparselmm.plots.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SILVER,
    chosen,
    labels,
    one_axes,
    panels,
    record_of,
    title,
)
from sparselmm.ranef import effect_names, ranef
from sparselmm.report.tables import tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 50  # levels that still get a label each
UNPOOLED = 1e4  # sigma: standard deviations of scaled effects that no longer shrink


def coefficients(
    results: Any,
    level: float = 0.95,
    ddf: Ddf = None,
    intercept: bool = False,
    scaled: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Fixed effects with their intervals, one line each, first on top.

    Parameters
    ----------
    results : Results
    level : float
        Of the thin lines; thick ones are 50 % intervals.
    ddf : str, float or None
        As in `t_test`.
    intercept : bool
        Whether to show the intercept, whose size often hides the others.
    scaled : bool
        Whether to show the change per standard deviation of each column of X, so that columns on
        different scales compare.
    ax : matplotlib.axes.Axes, optional

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> [label.get_text() for label in plots.coefficients(fit).get_yticklabels()]
    ['Days']
    """
    fit = record_of(results)
    check_level(level)
    table = tidy(fit, ddf=ddf).iloc[fit.kept]
    if not len(table):
        raise InferenceError("Found a model without fixed effects; expected at least one to show.")
    if scaled:
        sd = fit.design.X[:, fit.kept].std(axis=0)
        sd[sd == 0.0] = 1.0
        table = table.assign(estimate=table["estimate"] * sd, std_error=table["std_error"] * sd)
    if not intercept and len(table) > 1:
        table = table[table["term"] != "Intercept"]
    longest = max(map(len, table["term"]))
    ax = one_axes(ax, (4.2 + 0.07 * longest, 1.1 + 0.34 * len(table)))
    place = np.arange(len(table))[::-1]
    df, error = table["df"].to_numpy(), table["std_error"].to_numpy()
    for share, width in ((level, 1.4), (0.5, 4.0)):
        half = two_sided_quantile(share, df) * error
        low, high = table["estimate"] - half, table["estimate"] + half
        ax.hlines(place, low, high, color=BLUE, linewidth=width, zorder=2)
    ax.plot(table["estimate"], place, "o", color="white", markeredgecolor=BLUE, markersize=6)
    ax.axvline(0.0, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.set_yticks(place, table["term"])
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.grid(False, axis="y")
    unit = " per standard deviation" if scaled else ""
    labels(ax, f"Estimate{unit}, {100 * level:g} % and 50 % intervals")
    return ax


def caterpillar(
    results: Any, group: str | None = None, level: float = 0.95, ax: Any = None
) -> Array:
    """Conditional modes of the random effects in increasing order, with their intervals.

    Parameters
    ----------
    results : Results
    group : str, optional
        Grouping factor; the first by default.
    level : float
        Of the intervals, which are normal with the conditional standard deviations.
    ax : axes, optional
        One for every effect of the factor.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        One panel per effect; levels whose interval leaves zero out are drawn in blue.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> [ax.get_title(loc="left") for ax in plots.caterpillar(fit)]
    ['Intercept | Subject', 'Days | Subject']
    """
    fit = record_of(results)
    group = chosen(group, fit.spec.factor_names, "group")
    half = float(two_sided_quantile(check_level(level)))
    modes = ranef(fit)
    modes = modes[modes["grpvar"] == group]
    effects = list(dict.fromkeys(modes["term"]))
    count = len(modes) // len(effects)
    height = 0.9 + 0.17 * count if count <= MOST_NAMED else 5.0
    axes = panels(len(effects), ax, size=(3.6, max(height, 2.2)))
    for panel, effect in zip(axes, effects, strict=True):
        own = modes[modes["term"] == effect].sort_values("condval")
        title(panel, f"{effect} | {group}")
        labels(panel, f"Conditional mode, {100 * level:g} % interval")
        _caterpillar(panel, own, half)
    return axes


def _caterpillar(ax: Axes, modes: pd.DataFrame, half: float) -> None:
    value, error = modes["condval"].to_numpy(), half * modes["condsd"].to_numpy()
    place = np.arange(len(value))
    named = len(value) <= MOST_NAMED
    away = np.abs(value) > error
    for mask, colour in ((~away, GREY if named else SILVER), (away, BLUE)):
        low, high = value[mask] - error[mask], value[mask] + error[mask]
        width, alpha = (1.3, 0.9) if named else (0.4, 0.45)
        ax.hlines(place[mask], low, high, color=colour, linewidth=width, alpha=alpha)
    colours = np.where(away & named, BLUE, INK)
    ax.scatter(value, place, c=colours, s=16 if named else 3, zorder=3, linewidths=0)
    ax.axvline(0.0, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.set_ylim(-1, len(value))
    ax.grid(False, axis="y")
    if named:
        ax.set_yticks(place, modes["grp"].astype(str))
        ax.tick_params(axis="y", labelsize=7.5, length=0)
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(value):,} levels", fontsize=9.5, color=INK)


def unpooled(fit: Fit, factor: int) -> tuple[Array, Array]:
    """Coefficients of every level as estimated and without shrinkage, shape (levels, s) each.

    The second are estimates at a very large variance of this factor, the others' held. Effects
    with a fixed counterpart include it.
    """
    at, basis = fit.solution, fit.gram.basis
    T = [t if j != factor else UNPOOLED * np.eye(len(t)) for j, t in enumerate(at.T)]
    loose = solve_at(fit.gram, fit.prepared.system, T, reml=fit.reml)
    effects = by_levels(fit.gram.shapes, loose.u)[factor] @ basis.user_factor(factor, T[factor]).T
    fixed = [
        dict(zip(fit.kept.tolist(), b, strict=True)) for b in (fit.beta, basis.beta(loose.beta))
    ]
    columns = names(fit)
    shift = [
        [
            beta.get(columns.index(name), 0.0) if name in columns else 0.0
            for name in effect_names(fit, factor)
        ]
        for beta in fixed
    ]
    return fit.b()[factor] + shift[0], effects + shift[1]


def shrinkage(
    results: Any,
    group: str | None = None,
    effects: tuple[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How far the coefficients of every level are drawn to the population.

    Parameters
    ----------
    results : Results
    group : str, optional
        Grouping factor; the first by default.
    effects : (str, str), optional
        Which two effects to show; the first two by default. A factor with one effect is shown
        level by level.
    ax : matplotlib.axes.Axes, optional

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> plots.shrinkage(fit).get_xlabel()
    'Intercept'
    """
    fit = record_of(results)
    group = chosen(group, fit.spec.factor_names, "group")
    factor = fit.spec.factor_names.index(group)
    known = effect_names(fit, factor)
    shrunk, free = unpooled(fit, factor)
    if len(known) == 1:
        return _shrinkage_by_level(fit, group, known[0], shrunk[:, 0], free[:, 0], ax)
    if effects is not None and (len(effects) != 2 or not set(effects) <= set(known)):
        raise InferenceError(f"Found effects={effects!r}; expected two of {', '.join(known)}.")
    a, b = (known.index(name) for name in (effects or known[:2]))
    ax = one_axes(ax, (5.2, 4.4))
    segments = np.stack([free[:, [a, b]], shrunk[:, [a, b]]], axis=1)
    _arrows(ax, segments)
    centre = shrunk[:, [a, b]].mean(axis=0)
    ax.plot(
        *centre,
        marker="+",
        color=INK,
        markersize=12,
        markeredgewidth=2,
        linestyle="none",
        label="mean",
    )
    labels(ax, known[a], known[b])
    title(ax, group)
    _legend(ax)
    return ax


def _arrows(ax: Axes, segments: Array) -> None:
    """Lines from unpooled to shrunken coefficients, segments of shape (levels, 2, 2)."""
    from matplotlib.collections import LineCollection

    few = len(segments) <= 500
    ax.add_collection(
        LineCollection(list(segments), colors=GREY, linewidths=0.9, alpha=0.7, zorder=2)
    )
    size = 22 if few else 5
    free, shrunk = segments[:, 0], segments[:, 1]
    ax.scatter(
        *free.T, s=size, facecolors="white", edgecolors=ORANGE, zorder=3, label="each level alone"
    )
    ax.scatter(*shrunk.T, s=size, color=BLUE, zorder=4, linewidths=0, label="mixed model")
    ax.autoscale_view()


def _shrinkage_by_level(
    fit: Fit, group: str, effect: str, shrunk: Array, free: Array, ax: Axes | None
) -> Axes:
    order = np.argsort(shrunk, kind="stable")
    place = np.arange(len(order), dtype=float)
    named = len(order) <= MOST_NAMED
    ax = one_axes(ax, (5.2, max(2.6, 1.0 + 0.17 * len(order)) if named else 5.0))
    points = [np.column_stack([v[order], place]) for v in (free, shrunk)]
    _arrows(ax, np.stack(points, axis=1))
    centre = float(shrunk.mean())
    ax.axvline(centre, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1, label="mean")
    if named:
        levels = fit.spec.levels[fit.spec.factor_names.index(group)]
        ax.set_yticks(place, levels.take(order).astype(str))
        ax.tick_params(axis="y", labelsize=7.5, length=0)
    else:
        ax.set_yticks([])
    ax.set_ylim(-1, len(order))
    ax.grid(False, axis="y")
    labels(ax, effect, "" if named else f"{len(order):,} levels")
    title(ax, group)
    _legend(ax)
    return ax


def _legend(ax: Axes) -> None:
    """Above the axes on the right, clear of the data."""
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=8.5,
        handletextpad=0.3,
        columnspacing=1.2,
        borderaxespad=0.2,
    )
