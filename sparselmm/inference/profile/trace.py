"""The profile of one parameter: both sides of the optimum, joined to a curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.fit import Fit
from sparselmm.inference.profile.hold import Anchor, Memory, hold
from sparselmm.inference.profile.limits import close_side
from sparselmm.inference.profile.nodes import Node
from sparselmm.inference.profile.surface import (
    Point,
    Surface,
    learn_correction,
    make_surface,
    point_at,
    slice_at,
    slim,
)
from sparselmm.inference.profile.targets import (
    FARTHEST,
    Correlation,
    Custom,
    FixedEffect,
    StandardDeviation,
    Target,
)
from sparselmm.inference.profile.walk import Side, Walk, walk_side
from sparselmm.inference.reduce import linear_deviance, reduce_fit
from sparselmm.linalg import spectrum
from sparselmm.optimise import FLOOR
from sparselmm.threads import limited_threads

LARGE = 2e7  # bytes of a factorisation that a node should not keep
ZERO = 1e-4  # of what the data can just show: a standard deviation that is called zero


@dataclass(frozen=True)
class Context:
    """What all parameters share; travels to worker processes.

    Attributes
    ----------
    fit : Fit
        By maximum likelihood.
    surface : Surface
    start : Point
        The optimum, pivots of zero replaced by their floors.
    best : float
        Its deviance.
    correction : ndarray
        See `learn_correction`.
    cutoffs : tuple of float
    reach : float
    threads : int
    """

    fit: Fit
    surface: Surface
    start: Point
    best: float
    correction: Array
    cutoffs: tuple[float, ...]
    reach: float
    threads: int

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the factorisation."""
        return {**self.__dict__, "start": slim(self.start)}


def make_context(fit: Fit, cutoffs: tuple[float, ...], reach: float) -> Context:
    """The ML surface around a fit, with its Hessian at the optimum."""
    surface = make_surface(fit)
    threads = fit.prepared.threads(fit.options)
    theta = np.where(fit.model.pivots, np.maximum(fit.theta, surface.floor), fit.theta)
    with limited_threads(threads):
        start = point_at(surface, slice_at(surface, theta), None)
        correction = learn_correction(surface, start)
    best = min(fit.deviance, start.value)
    return Context(fit, surface, start, best, correction, cutoffs, reach, threads)


@dataclass(frozen=True, slots=True)
class Trace:
    """Both sides of one parameter.

    Attributes
    ----------
    estimate : float
    down, up : Side
    """

    estimate: float
    down: Side
    up: Side


def trace(context: Context, target: Target) -> Trace:
    """Profile one parameter in both directions."""
    with limited_threads(context.threads):
        if _undefined(context, target):
            return _flat(context)
        at_bound = _bound_of_estimate(context, target)
        start = context.start
        if isinstance(target, FixedEffect):
            estimate = _fixed_estimate(context, target)
            start = point_at(context.surface, start.slice, start.tau, target.held, estimate)
        else:
            estimate = target.from_scale(target.value(start.x))
        if at_bound is not None:
            estimate = target.bounds[at_bound]
        sides = [_trace_side(context, target, start, estimate, at_bound, sign) for sign in (-1, 1)]
    return Trace(estimate, *sides)


def _trace_side(
    context: Context, target: Target, start: Point, estimate: float, at_bound: int | None, sign: int
) -> Side:
    memory = Memory(context.correction.copy())
    if at_bound is None:
        origin = Node(
            target.to_scale(estimate), 0.0, _origin_slope(context, target, start), context.best
        )
        first = np.nan
    else:
        outward = -1 if at_bound == 0 else 1
        origin = Node(outward * np.inf, 0.0, np.nan, context.best)
        if sign == outward:
            ends = dict.fromkeys(context.cutoffs, origin.phi)
            return Side([origin], ends, "the estimate is on the bound")
        first = _first_step(context, target, start, at_bound)
    walk = Walk(
        context.surface, target, sign, context.best, memory,
        _bound_deviance(context, target, sign),
        float(np.sqrt(context.fit.sigma2)),
        context.fit.prepared.choice.cost.nbytes > LARGE,
    )  # fmt: skip
    side = walk_side(walk, origin, start, context.cutoffs, context.reach, first)
    return close_side(context.fit, target, side, sign) if isinstance(target, Custom) else side


def _fixed_estimate(context: Context, target: FixedEffect) -> float:
    held = target.held
    return float(held.offset + held.direction @ context.start.slice.solution.beta)


def _origin_slope(context: Context, target: Target, start: Point) -> float:
    """d zeta / d phi at the optimum: the root of half the profile's curvature."""
    H = start.hessian + context.correction
    shape = spectrum(H)
    if isinstance(target, FixedEffect):
        assert start.stiffness is not None
        own, cross = start.stiffness
        curvature = own - float(cross @ shape.solve(cross))
        return np.sqrt(0.5 * (curvature if curvature > 0.0 else own))
    a = target.derivatives(start.x)[0]
    return float(1.0 / np.sqrt(max(2.0 * a @ shape.solve(a), 1e-300)))


def _undefined(context: Context, target: Target) -> bool:
    """Whether a correlation involves an effect without variance."""
    if not isinstance(target, Correlation):
        return False
    return any(_is_zero(context, row) for row in (target.first, target.second))


def _is_zero(context: Context, row: Array) -> bool:
    """Whether a row of T is zero, for all that the data can show."""
    size = float(np.linalg.norm(context.fit.theta @ row))
    unit = context.surface.unit[:-1][row.any(axis=1)]
    return size < ZERO * float(unit.min())


def _flat(context: Context) -> Trace:
    note = "not identified: one of the two standard deviations is zero"
    sides = [
        Side(
            [Node(sign * np.inf, 0.0, np.nan, context.best)],
            dict.fromkeys(context.cutoffs, sign * np.inf),
            note,
        )
        for sign in (-1, 1)
    ]
    return Trace(np.nan, *sides)


def _bound_of_estimate(context: Context, target: Target) -> int | None:
    """0 or 1 where the estimate is on its lower or upper bound."""
    theta = context.fit.theta
    if isinstance(target, StandardDeviation):
        return 0 if _is_zero(context, target.row) else None
    if isinstance(target, Correlation):
        phi = target.value(np.append(theta, 0.0))
        return None if abs(phi) < FARTHEST else int(phi > 0.0)
    if isinstance(target, Custom) and np.isfinite(target.bounds[0]):
        return None if theta.any() else 0
    return None


def _first_step(context: Context, target: Target, start: Point, at_bound: int) -> float:
    """phi of the first node away from a bound: the deviance rises with the square of the smallest pivot."""
    goal = context.cutoffs[0] / 3.0 if context.cutoffs else 0.5
    model, floor = context.surface.model, context.surface.floor
    if isinstance(target, StandardDeviation):
        rows = np.flatnonzero(target.row.any(axis=1) & model.pivots)
        size = 1.0
    elif isinstance(target, Correlation):
        rows = np.flatnonzero(target.second.any(axis=1) & model.pivots)
        size = float(np.linalg.norm(start.theta @ target.second))
    else:
        return target.to_scale(0.02)
    pivot = rows[-1]
    rise = 0.5 * start.gradient[pivot] / start.theta[pivot]  # d deviance / d pivot²
    noise = floor[pivot] / np.sqrt(FLOOR)
    theta = min(goal / np.sqrt(max(rise, 1e-300)), 3.0 * noise)
    if isinstance(target, StandardDeviation):
        return 0.5 * start.tau + float(np.log(theta))
    across = min(theta / size, 0.9)
    phi = float(np.arctanh(np.sqrt(1.0 - across * across)))
    return phi if at_bound else -phi


def _bound_deviance(context: Context, target: Target, sign: int):
    """How to find the deviance at the bound on one side."""
    if isinstance(target, StandardDeviation) and sign < 0:
        return lambda _: _without(context, *target.place_in)
    if isinstance(target, Correlation):
        return lambda at: min(
            _without(context, *target.places[0]),
            _without(context, *target.places[1]),
            _perfect_deviance(context, target, at, sign),
        )
    if isinstance(target, Custom) and np.isfinite(target.bounds[0]) and sign < 0:
        return lambda _: linear_deviance(context.fit.gram, reml=False)
    return None


def _without(context: Context, term: int, column: int) -> float:
    """The deviance without one random effect. Every correlation with it is possible at that deviance, or nearly so."""
    own = context.fit.spec.terms[term]
    columns = range(len(own.columns)) if own.template == "scalar" else [column]
    reduced = reduce_fit(context.fit, [(term, c) for c in columns], reml=False)
    return reduced.deviance(reml=False)


def _perfect_deviance(context: Context, target: Target, at: Point, sign: int) -> float:
    """The deviance at a correlation of 1 or -1, approached in a few steps."""
    memory = Memory(context.correction.copy())
    deviance, here = np.inf, abs(target.value(at.x))
    for phi in (2.5, FARTHEST):
        if phi <= here:
            continue
        held: Anchor | None = hold(context.surface, target, at, sign * phi, memory, tolerance=1e-5)
        if held is None:
            break
        at, deviance = held.point, held.deviance
    return deviance
