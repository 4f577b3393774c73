"""Profile likelihoods: signed roots and densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.inference.distributions import check_level, two_sided_quantile
from sparselmm.inference.names import find_names
from sparselmm.plots.style import BLUE, GREY, INK, ORANGE, labels, panels, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparselmm.inference.profile import Profile

POINTS = 121


def profile_zeta(
    profile: Profile,
    parm: str | Sequence[str] | None = None,
    level: float | None = None,
    ax: Any = None,
) -> Array:
    """zeta, the signed root of the rise in deviance, against every parameter.

    Parameters
    ----------
    profile : Profile
        What `profile` returns.
    parm : str or sequence of str, optional
        Which parameters; all by default.
    level : float, optional
        Whose interval is marked; the profile's own by default.
    ax : axes, optional
        One per parameter.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        A straight line is a parameter whose Wald interval would do.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), reml=False)
    >>> [ax.get_title(loc="left") for ax in plots.profile_zeta(fit.profile())]
    ['sd_Intercept|Batch', 'sigma', 'Intercept']
    """
    level = profile.level if level is None else check_level(level)
    curves, names = _curves(profile, parm, level)
    axes = panels(len(names), ax)
    cutoff = float(two_sided_quantile(level))
    for panel, name in zip(axes, names, strict=True):
        own, curve = curves[name], profile[name]
        panel.axhline(0.0, color=GREY, linewidth=0.9)
        for sign in (-cutoff, cutoff):
            panel.axhline(sign, color=ORANGE, linewidth=1.0, linestyle=(0, (4, 3)))
        panel.plot(own["value"], own["zeta"], color=BLUE, linewidth=1.8)
        panel.plot(curve.estimate, 0.0, "o", color=BLUE, markersize=5)
        ends = [end for end in curve.interval(level) if np.isfinite(end)]
        low, high = panel.get_ylim()
        panel.vlines(ends, low, high, color=ORANGE, linewidth=1.0, linestyle=(0, (1, 2)))
        panel.set_ylim(low, high)
        title(panel, name)
        labels(panel, "value", r"$\zeta$")
        panel.yaxis.label.set_rotation(0)
    return axes


def profile_densities(
    profile: Profile,
    parm: str | Sequence[str] | None = None,
    level: float | None = None,
    ax: Any = None,
) -> Array:
    """The density under which every profile interval would hold its level, and the interval.

    Parameters
    ----------
    profile : Profile
    parm : str or sequence of str, optional
    level : float, optional
        Whose interval is shaded; the profile's own by default.
    ax : axes, optional
        One per parameter.

    Notes
    -----
    The normal density at zeta times d zeta / d value; a parameter at a bound has the rest of its
    probability there.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm import plots
    >>> fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), reml=False)
    >>> len(plots.profile_densities(fit.profile(), parm="sigma"))
    1
    """
    level = profile.level if level is None else check_level(level)
    curves, names = _curves(profile, parm, level)
    axes = panels(len(names), ax)
    for panel, name in zip(axes, names, strict=True):
        title(panel, name)
        labels(panel, f"value, {100 * level:g} % interval shaded")
        value, density = _density(curves[name])
        if len(value) < 3:
            _no_curve(panel, profile[name].estimate)
            continue
        lower, upper = profile[name].interval(level)
        lower = value[0] if np.isnan(lower) else lower
        upper = value[-1] if np.isnan(upper) else upper
        draw_density(panel, value, density, lower, upper, profile[name].estimate)
    return axes


def draw_density(
    ax: Axes, value: Array, density: Array, lower: float, upper: float, estimate: float
) -> None:
    """A density with an interval shaded and an estimate marked."""
    inside = np.linspace(max(lower, value[0]), min(upper, value[-1]), POINTS)
    ax.fill_between(inside, np.interp(inside, value, density), color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(value, density, color=BLUE, linewidth=1.8)
    ax.axvline(estimate, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
    ax.set_ylim(bottom=0.0)
    ax.set_yticks([])
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)


def _curves(
    profile: Profile, parm: str | Sequence[str] | None, level: float
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Smooth curves and the names asked for."""
    grid = profile.grid(POINTS)
    known = list(profile.curves)
    names = known if parm is None else find_names(parm, known)
    profile.check_reach(level, names)
    finite = grid[np.isfinite(grid["value"])]
    return {name: finite[finite["parm"] == name] for name in names}, names


def _no_curve(ax: Axes, estimate: float) -> None:
    """The estimate alone, for a profile that could not be followed."""
    ax.axvline(estimate, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.text(0.5, 0.5, "no curve", transform=ax.transAxes, ha="center", color=GREY, fontsize=9)


def _density(curve: pd.DataFrame) -> tuple[Array, Array]:
    """Values and densities along a curve."""
    value, zeta = curve["value"].to_numpy(), curve["zeta"].to_numpy()
    value, first = np.unique(value, return_index=True)
    zeta = zeta[first]
    slope = np.gradient(zeta, value) if len(value) > 2 else np.ones(len(value))
    return value, np.exp(-0.5 * zeta**2) / np.sqrt(2.0 * np.pi) * slope
