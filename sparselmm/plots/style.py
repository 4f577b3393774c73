"""What all pictures share: colours that everybody can tell apart, quiet axes, panels of sensible size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's palette; https://jfly.uni-koeln.de/color
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, GREY, SILVER, PALE = "#333333", "#8A8A8A", "#C4C4C4", "#E6E6E6"
PANEL = (3.4, 2.9)  # inches


def record_of(results: Any) -> Fit:
    """The `Fit` of results, or itself.

    Raises
    ------
    InferenceError
        For anything else.
    """
    fit = results if isinstance(results, Fit) else getattr(results, "fit", None)
    if not isinstance(fit, Fit):
        raise InferenceError(
            f"Found {type(results).__name__}; expected the results of a fit, such as lmm(...) returns."
        )
    return fit


def one_axes(ax: Axes | None, size: tuple[float, float] = (5.2, 3.8)) -> Axes:
    """The axes given, or new ones in a figure of their own, made quiet."""
    if ax is None:
        figure, ax = _pyplot().subplots(figsize=size, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return quiet(ax)  # type: ignore[arg-type]


def panels(
    count: int, ax: Any = None, *, columns: int = 3, size: tuple[float, float] = PANEL
) -> Array:
    """`count` axes in a grid, shape (count,): those given, or new ones.

    Raises
    ------
    InferenceError
        When too few axes are given.
    """
    if ax is not None:
        given = np.ravel(np.asarray(ax, dtype=object))
        if len(given) < count:
            raise InferenceError(f"Found {len(given)} axes; expected {count}, one for each panel.")
        return np.array([quiet(a) for a in given[:count]], dtype=object)
    columns = min(columns, count)
    if count > 3 and count % columns == 1:
        columns -= 1
    rows = -(-count // columns)
    figure, grid = _pyplot().subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout="constrained",
        squeeze=False,
    )
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1, wspace=0.02, hspace=0.02)
    for spare in grid.ravel()[count:]:
        spare.remove()
    return np.array([quiet(a) for a in grid.ravel()[:count]], dtype=object)


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise InferenceError(
            "Pictures need matplotlib, which is not installed. Run: pip install 'sparselmm[plots]'"
        ) from error
    return plt


def quiet(ax: Axes) -> Axes:
    """Axes without box, with a pale grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(colors=INK, labelsize=9, length=3)
    ax.grid(True, color=PALE, linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


def title(ax: Axes, text: str) -> None:
    """A title above the left edge."""
    ax.set_title(text, loc="left", fontsize=10, color=INK)


def labels(ax: Axes, x: str, y: str = "") -> None:
    """Axis labels."""
    ax.set_xlabel(x, fontsize=9.5, color=INK)
    ax.set_ylabel(y, fontsize=9.5, color=INK)


def normal_quantiles(n: int) -> Array:
    """Expected places of n ordered normal values (Blom 1958), shape (n,)."""
    from scipy.special import ndtri

    return ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))


def chosen(found: str | None, known: Sequence[str], what: str) -> str:
    """One of some names; the first where none is given.

    Raises
    ------
    InferenceError
        For an unknown name.
    """
    if found is None:
        return known[0]
    if found not in known:
        shown = ", ".join(repr(name) for name in known)
        raise InferenceError(f"Found {what}={found!r}; expected one of {shown}.")
    return found
