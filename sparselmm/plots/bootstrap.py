"""Densities of bootstrap replicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.inference.bootstrap.record import bounds_of
from sparselmm.plots.profiles import draw_density
from sparselmm.plots.style import RED, labels, panels, title

if TYPE_CHECKING:
    from sparselmm.inference.bootstrap import Bootstrap

POINTS = 201
AT_BOUND = 1e-3  # of the replicates' range: this close to a bound counts as on it


def bootstrap_densities(
    bootstrap: Bootstrap,
    parm: str | Sequence[str] | None = None,
    level: float = 0.95,
    type: str = "percentile",
    ax: Any = None,
) -> Array:
    """Densities of the replicates of every parameter, with the estimate and an interval.

    Parameters
    ----------
    bootstrap : Bootstrap
        What `bootstrap` returns.
    parm : str or sequence of str, optional
        Which parameters; all by default.
    level, type
        Of the interval that is shaded, as in its `conf_int`.
    ax : axes, optional
        One per parameter.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        Replicates on a bound (variances of zero, perfect correlations) stand apart as a bar whose
        share is written above it; the density is that of the others.

    Notes
    -----
    Gaussian kernels of Scott's width, reflected at the bounds of a parameter.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
    >>> len(plots.bootstrap_densities(fit.bootstrap(nsim=50, rng=1)))
    3
    """
    intervals = bootstrap.conf_int(level, type, parm)
    axes = panels(len(intervals), ax)
    for panel, (name, (lower, upper)) in zip(axes, intervals.iterrows(), strict=True):
        values = bootstrap.replicates[name].dropna().to_numpy(float)
        free, atoms = split_atoms(values, bounds_of(str(name)))
        value, density = density_of(free, bounds_of(str(name)))
        share = len(free) / len(values)
        draw_density(panel, value, share * density, lower, upper, float(bootstrap.estimate[name]))
        for place, weight in atoms:
            _bar(panel, place, weight)
        title(panel, str(name))
        labels(panel, f"replicate, {100 * level:g} % {type} interval shaded")
    return axes


def split_atoms(
    values: Array, bounds: tuple[float, float]
) -> tuple[Array, list[tuple[float, float]]]:
    """Replicates off the bounds, and (bound, share) for those on them."""
    near = AT_BOUND * max(float(np.ptp(values)), np.finfo(float).tiny)
    atoms, free = [], np.ones(len(values), bool)
    for bound in bounds:
        on = np.abs(values - bound) <= near if np.isfinite(bound) else np.zeros(len(values), bool)
        if on.any():
            atoms.append((bound, float(on.mean())))
            free &= ~on
    return values[free], atoms


def density_of(values: Array, bounds: tuple[float, float]) -> tuple[Array, Array]:
    """Places and kernel density there, reflected at finite bounds."""
    from scipy.stats import gaussian_kde

    if len(values) < 3 or np.ptp(values) == 0.0:
        centre = float(values.mean()) if len(values) else 0.0
        place = np.linspace(centre - 1.0, centre + 1.0, POINTS)
        return place, np.zeros(POINTS)
    kernel = gaussian_kde(values)
    width = float(kernel.factor * values.std(ddof=1))
    low = max(values.min() - 3.0 * width, bounds[0])
    high = min(values.max() + 3.0 * width, bounds[1])
    place = np.linspace(low, high, POINTS)
    density = kernel(place)
    for bound in bounds:
        if np.isfinite(bound):
            density = density + kernel(2.0 * bound - place)
    return place, density


def _bar(ax: Any, place: float, share: float) -> None:
    """A bar for the replicates on a bound, four fifths as high as the axes."""
    top = ax.get_ylim()[1]
    ax.plot([place, place], [0.0, 0.8 * top], color=RED, linewidth=3.0, solid_capstyle="butt")
    right = place > np.mean(ax.get_xlim())
    ax.annotate(
        f"{100 * share:.0f} % at {place:g}",
        (place, 0.82 * top),
        xytext=(-4 if right else 4, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        fontsize=8.5,
        color=RED,
    )
    ax.set_ylim(0.0, top)
