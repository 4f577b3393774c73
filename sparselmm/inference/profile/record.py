"""What a profile looks like to its user: curves, intervals, text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.inference.distributions import check_level
from sparselmm.inference.names import find_names
from sparselmm.inference.profile.nodes import Node, value_between
from sparselmm.inference.profile.targets import Target
from sparselmm.inference.profile.trace import Trace, make_context, trace
from sparselmm.inference.profile.walk import LowerDeviance
from sparselmm.threads import limited_threads

CONTRADICTED = 0.01  # relative difference of the optimum's slope from what its neighbours say


@dataclass(frozen=True)
class Curve:
    """The profile of one parameter.

    Attributes
    ----------
    name : str
    estimate : float
        Maximum likelihood.
    nodes : tuple of Node
        In increasing order of zeta.
    target : Target
        Its scale and bounds.
    ends : dict of float to (float, float)
        Interval by cutoff of |zeta|, solved exactly.
    notes : tuple of str
        What ended the lower and the upper side, when it was not the reach; "" otherwise.
    evaluations : int
    """

    name: str
    estimate: float
    nodes: tuple[Node, ...]
    target: Target
    ends: dict[float, tuple[float, float]]
    notes: tuple[str, str]
    evaluations: int

    def _value(self, phi: float) -> float:
        if np.isinf(phi):
            return self.target.bounds[int(phi > 0.0)]
        return self.target.from_scale(phi)

    @property
    def value(self) -> Array:
        """Values at the nodes, increasing."""
        return np.array([self._value(node.phi) for node in self.nodes])

    @property
    def zeta(self) -> Array:
        """Signed root of the rise of the deviance at the nodes."""
        return np.array([node.zeta for node in self.nodes])

    @property
    def deviance(self) -> Array:
        """ML deviance at the nodes."""
        return np.array([node.deviance for node in self.nodes])

    def at(self, zeta: float) -> float:
        """The value at which the curve passes zeta; a bound beyond the bound's own zeta, NaN beyond the reach."""
        grid = self.zeta
        if len(grid) == 1 or not grid[0] <= zeta <= grid[-1]:
            outer = self.nodes[0 if zeta < grid[0] else -1]
            return self._value(outer.phi) if np.isinf(outer.phi) else np.nan
        i = int(np.clip(np.searchsorted(grid, zeta), 1, len(grid) - 1))
        return float(value_between(self.target, self.nodes[i - 1], self.nodes[i], zeta))

    def interval(self, level: float) -> tuple[float, float]:
        """Lower and upper end at a level, exact where it was asked for, else interpolated."""
        cutoff = float(ndtri(0.5 * (1.0 + level)))
        if cutoff in self.ends:
            return self.ends[cutoff]
        return self.at(-cutoff), self.at(cutoff)

    def covered(self) -> float:
        """Level up to which both ends can be read off, or are known to be missing; 1 where bounds end the curve."""
        outer = [
            abs(node.zeta) if np.isfinite(node.phi) and not note else np.inf
            for node, note in zip((self.nodes[0], self.nodes[-1]), self.notes, strict=True)
        ]
        return float(2.0 * ndtr(min(outer)) - 1.0)


def _origin(down: Sequence[Node], up: Sequence[Node]) -> Node:
    """The optimum, its slope taken from its neighbours where they contradict it.

    Next to a bound the curvature at the optimum holds for a small neighbourhood only.
    """
    at = down[0]
    if (
        len(down) < 2
        or len(up) < 2
        or not np.isfinite([down[1].slope, up[1].slope, at.slope]).all()
    ):
        return at
    halves = [(node.zeta - at.zeta) / (node.phi - at.phi) for node in (down[1], up[1])]
    slopes = [
        1.5 * chord - 0.5 * node.slope for chord, node in zip(halves, (down[1], up[1]), strict=True)
    ]
    likely = 0.5 * (slopes[0] + slopes[1])
    contradicted = min(slopes) > 0.0 and abs(at.slope - likely) > CONTRADICTED * likely
    return replace(at, slope=likely) if contradicted else at


def make_curve(target: Target, trace: Trace) -> Curve:
    """A curve from its two sides."""
    down, up = trace.down.nodes, trace.up.nodes
    nodes = [*reversed(down[1:]), _origin(down, up), *up[1:]]

    def value(phi: float) -> float:
        return target.bounds[int(phi > 0.0)] if np.isinf(phi) else target.from_scale(phi)

    ends = {
        cutoff: (value(trace.down.ends[cutoff]), value(trace.up.ends[cutoff]))
        for cutoff in trace.down.ends
    }
    return Curve(
        target.name, trace.estimate, tuple(nodes), target, ends,
        (trace.down.note, trace.up.note), trace.down.evaluations + trace.up.evaluations,
    )  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """Profile likelihood of a fit.

    Attributes
    ----------
    fit : Fit
        The maximum-likelihood fit whose deviance is profiled.
    level : float
        Level whose interval ends were solved exactly.
    curves : dict of str to Curve
    notes : tuple of str
        What the user should know: the criterion, a corrected optimum, bounds.
    """

    fit: Fit
    level: float
    curves: dict[str, Curve]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Curve:
        """The curve of a parameter."""
        return self.curves[find_names(name, list(self.curves))[0]]

    @property
    def frame(self) -> pd.DataFrame:
        """Nodes of all curves: columns ``parm, value, zeta, deviance``."""
        pieces = [
            pd.DataFrame({"parm": c.name, "value": c.value, "zeta": c.zeta, "deviance": c.deviance})
            for c in self.curves.values()
        ]
        return pd.concat(pieces, ignore_index=True)

    def grid(self, points: int = 61) -> pd.DataFrame:
        """Curves for drawing: the frame's columns at equally spaced zeta, interpolated.

        Parameters
        ----------
        points : int
            Per parameter.
        """
        pieces = []
        best = self.fit.deviance
        for c in self.curves.values():
            zeta = np.linspace(c.zeta[0], c.zeta[-1], points if len(c.nodes) > 1 else 1)
            value = [c.at(z) for z in zeta]
            pieces.append(
                pd.DataFrame(
                    {"parm": c.name, "value": value, "zeta": zeta, "deviance": best + zeta**2}
                )
            )
        return pd.concat(pieces, ignore_index=True)

    def conf_int(
        self, level: float | None = None, parm: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Profile-likelihood intervals: frame ``lower, upper`` indexed by parameter.

        Parameters
        ----------
        level : float, optional
            The profile's own by default. At other levels the ends are solved anew, which takes as long as a
            profile; ``profile[name].interval(level)`` reads them off the curve instead, to about 1 % of a
            standard error, less exactly in singular fits.
        parm : str or sequence of str, optional

        Returns
        -------
        pandas.DataFrame
            Columns ``lower, upper``; NaN only where the notes say that an end was not found.

        Raises
        ------
        InferenceError
            For an unknown parameter.
        """
        level = self.level if level is None else check_level(level)
        names = list(self.curves) if parm is None else find_names(parm, list(self.curves))
        curves = [self.curves[name] for name in names]
        if level != self.level:
            curves = self._solve(curves, float(ndtri(0.5 * (1.0 + level))))
        rows = [curve.interval(level) for curve in curves]
        return pd.DataFrame(rows, index=names, columns=["lower", "upper"], dtype=float)

    def _solve(self, curves: Sequence[Curve], cutoff: float) -> list[Curve]:
        """The curves with exact ends at another cutoff."""
        context = make_context(self.fit, (cutoff,), cutoff)
        try:
            with limited_threads(context.threads):
                return [make_curve(curve.target, trace(context, curve.target)) for curve in curves]
        except LowerDeviance:
            raise InferenceError(
                f"Found a lower deviance on the way to level={2.0 * ndtr(cutoff) - 1.0:g}; expected a fit at its "
                "optimum. Profile again with that level, which corrects the fit."
            ) from None

    def check_reach(self, level: float, names: Sequence[str]) -> None:
        """Refuse a level that the curves were not followed to.

        Raises
        ------
        InferenceError
            With the level up to which they were.
        """
        covered = {name: self[name].covered() for name in names}
        short = [name for name in names if level != self.level and covered[name] < level]
        if short:
            most = np.floor(1e4 * min(covered[name] for name in short)) / 1e4
            raise InferenceError(
                f"Found level={level:g}; expected at most {most:g}, up to which the curves of {', '.join(short)} "
                f"were followed. Profile again with level={level:g}."
            )

    def _table(self) -> pd.DataFrame:
        table = self.conf_int()
        table.insert(0, "estimate", [c.estimate for c in self.curves.values()])
        return table

    def __str__(self) -> str:
        lines = [
            f"Profile likelihood, {100 * self.level:g} % intervals",
            "",
            self._table().to_string(float_format=_five_digits),
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{note}</p>" for note in self.notes)
        return self._table().to_html() + notes


def _five_digits(value: float) -> str:
    return f"{value:.5g}"
