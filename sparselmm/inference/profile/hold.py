"""The best point where a quantity has a given value: Newton steps on the Lagrangian, always on the constraint.

With gradient g and Hessian H of the deviance, gradient a and Hessian B of the quantity, and the multiplier lam = d
deviance / d phi, a step minimises g'x + x'(H - lam B)x / 2 subject to a'x = phi - h, in the null space of a. A fixed
effect is held within the evaluation and leaves no constraint. The gradient is blind where a pivot of T is zero: pivots
stay above a floor, and what wants to grow from there shows as negative curvature and is followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array
from sparselmm.inference.profile.surface import Point, Surface, point_at, slice_at
from sparselmm.inference.profile.targets import FixedEffect, Target
from sparselmm.optimise import ROUNDING, SHORTER

LARGEST = 2.0  # relative size of a step
BLIND = 1e-9  # relative curvature below which a direction is left alone
VISIBLE = 0.5  # step along negative curvature, in units of what the data can show
FLAT = 0.3  # rise of the deviance per pivot², in units of what the data can show, that says little
RAISED = 3.0  # pivots of a second descent, in these units
FEASIBLE = 1e-8
FARTHEST_TAU = 50.0  # change of log sigma² on the way to a value: beyond it there is none
CLOSE = 1e-5  # fall of the deviance promised where no step delivers it
KEPT = 0.3  # share by which a fall may differ from the promise; beyond it the Hessian learns, however small it is
LARGEST_UPDATE = 5.0  # of the Hessian, relative to its diagonal
SLANTED = (
    1e-3  # square of the cosine between step and what was missed, below which nothing is learned
)


@dataclass(frozen=True)
class Anchor:
    """The best point with the quantity at phi.

    Attributes
    ----------
    phi : float
    deviance : float
        With the fall that a further step promises already taken off.
    slope : float
        d deviance / d phi.
    point : Point
    evaluations : int
    """

    phi: float
    deviance: float
    slope: float
    point: Point
    evaluations: int


class Memory:
    """What walks along the surface learn about its Hessian: a correction in (theta, tau)."""

    def __init__(self, correction: Array) -> None:
        self.correction = correction

    def learn(self, old: Point, new: Point, unit: Array, feasible: bool) -> None:
        """Symmetric rank-one update from two gradients; a cautious one where the step changed the quantity."""
        step = new.x - old.x
        miss = new.gradient - old.gradient - (new.hessian + self.correction) @ step
        along = float(miss @ step)
        scale = np.maximum(np.abs(new.hessian.diagonal()), unit**-2)
        size = float((miss * miss / scale).sum())
        small = size <= LARGEST_UPDATE * abs(along)
        if small or (feasible and along**2 > SLANTED * size * float((step * step * scale).sum())):
            self.correction = self.correction + np.multiply.outer(miss, miss) / along


@dataclass(frozen=True, slots=True)
class _Step:
    x: Array
    gain: float
    slope: float
    convex: bool


@dataclass(frozen=True, slots=True)
class _Newton:
    """A step within the constraint.

    Attributes
    ----------
    move : ndarray, shape (n_theta + 1,)
    slope : float
        The multiplier.
    convex : bool
        Whether the Hessian is positive semidefinite there.
    gain : float
        Where it is not: fall of the deviance that the negative curvature promises, at the least.
    """

    move: Array
    slope: float
    convex: bool
    gain: float


def _newton(H: Array, g: Array, a: Array | None, gap: float, unit: Array) -> _Newton:
    """Minimise g'x + x'H x / 2 where a'x = gap, by a basis of the constraint's null space.

    Along directions of negative curvature the step is long enough to be seen in the data.
    """
    H, g = H * np.multiply.outer(unit, unit), g * unit
    Z, start, length = np.eye(len(g)), np.zeros(len(g)), 1.0
    if a is not None:
        a = a * unit
        length = float(np.sqrt(a @ a))
        start = a * (gap / (length * length))
        mirror = a / length
        mirror[0] += np.copysign(1.0, mirror[0])
        Z -= np.multiply.outer(mirror, mirror) * (2.0 / float(mirror @ mirror))
        Z = Z[:, 1:]
    values, vectors = np.linalg.eigh(Z.T @ H @ Z)
    largest = max(abs(values[0]), abs(values[-1]), 1e-300)
    size = np.abs(values)
    W = Z @ vectors
    along = W.T @ (g + H @ start)
    coordinates = np.where(size > BLIND * largest, along / np.maximum(size, 1e-300), 0.0)
    convex, gain = bool(values[0] > -BLIND * largest), 0.0
    if not convex and abs(gap) < FEASIBLE:
        down = values < -BLIND * largest
        long = np.copysign(np.maximum(np.abs(coordinates), VISIBLE), along)
        coordinates = np.where(down, long, coordinates)
        gain = float(np.where(down, np.abs(along * long) + 0.5 * size * long**2, 0.0).sum())
    x = start - W @ coordinates
    slope = np.nan if a is None else float(a @ (g + H @ x)) / (length * length)
    return _Newton(x * unit, slope, convex, gain)


def propose(
    surface: Surface, target: Target, at: Point, phi: float, slope: float, memory: Memory | None
) -> _Step | None:
    """One step towards the best point at phi; None where the quantity has no derivative, or none but zero."""
    H, g, a, gap = at.hessian, at.gradient, None, 0.0
    low = np.append(
        at.theta < 100.0 * surface.floor, False
    )  # what was learned elsewhere misleads there
    blind, learned = low.any(), np.zeros_like(H) if memory is None else memory.correction
    if blind:
        learned = np.where(low | low[:, None], 0.0, learned)
    if not isinstance(target, FixedEffect):
        a, bend = target.derivatives(at.x)
        if not a.any() or not np.isfinite([*a, *bend.flat]).all():
            return None
        gap = phi - target.value(at.x)
        if np.isnan(slope) or (blind and abs(gap) < FEASIBLE):
            slope = _multiplier(a, g, surface.unit)
        H = H - slope * bend
    for trial in (H + learned, H):
        step = _newton(trial, g, a, gap, surface.unit)
        if step.convex:
            break
    if a is not None:
        slope = step.slope if step.convex else _multiplier(a, g, surface.unit)
    else:
        assert at.stiffness is not None
        slope = at.pull + float(at.stiffness[1] @ step.move)
    x, taken = _within_reach(surface, at, step.move)
    gain = -float(g @ taken + 0.5 * taken @ trial @ taken) if step.convex else step.gain
    return _Step(x, gain, slope, step.convex)


def _multiplier(a: Array, g: Array, unit: Array) -> float:
    """Least squares of g on a, in units of what the data can show."""
    return float((a * g) @ unit**2) / float((a * a) @ unit**2)


def _within_reach(surface: Surface, at: Point, move: Array) -> tuple[Array, Array]:
    """Where a move leads, shortened to what the quadratic model may be trusted for, and what is taken of it.

    Beyond zero a pivot continues as its mirror image: the sign of a column of T means nothing.
    """
    theta, unit = at.theta, surface.unit
    if (np.abs(move[:-1]) > 0.5 * np.abs(theta) + unit[:-1]).any() or abs(move[-1]) > 0.5:
        size = max(surface.reach(at.slice, move[:-1]), abs(move[-1])) / LARGEST
        move = move / max(size, 1.0)
    x = at.x + move
    flat = surface.model.pivots & (np.abs(x[:-1]) < surface.floor)
    taken = np.where(np.append(flat, False), np.append(surface.floor - theta, 0.0), move)
    return x, taken


def _mirrored(surface: Surface, x: Array) -> Array:
    """The same covariances with pivots above their floors."""
    low = np.flatnonzero(surface.model.pivots & (x[:-1] < surface.floor))
    if not len(low):
        return x
    x = x.copy()
    for pivot in low:
        if x[pivot] < 0.0:
            x[surface.columns[int(pivot)]] *= -1.0
        x[pivot] = max(x[pivot], surface.floor[pivot])
    return x


def arrive(surface: Surface, target: Target, x: Array, phi: float) -> Point | None:
    """Evaluate at a proposal, moved onto the constraint."""
    x = _mirrored(surface, x)
    if isinstance(target, FixedEffect):
        return point_at(surface, slice_at(surface, x[:-1]), None, target.held, phi)
    moved = _mirrored(surface, target.place(x, phi))
    if not (np.abs(moved).max() < 1e10 and abs(moved[-1] - x[-1]) < FARTHEST_TAU):
        return None
    point = point_at(surface, slice_at(surface, moved[:-1]), float(moved[-1]))
    return point if np.isfinite(point.hessian).all() else None


def hold(
    surface: Surface,
    target: Target,
    start: Point,
    phi: float,
    memory: Memory,
    *,
    slope: float = 0.0,
    tolerance: float = 1e-7,
    most: int = 100,
) -> Anchor | None:
    """The best point with the quantity at phi; None where it was not found.

    A singular point may be a saddle that is all but flat, with a lower deviance beyond its neighbourhood: there a
    second descent starts from pivots that the data can show.

    Parameters
    ----------
    surface : Surface
    target : Target
    start : Point
        Where to begin; the quantity may differ from phi there.
    phi : float
        On the target's scale.
    memory : Memory
        Learns.
    slope : float
        Guess of d deviance / d phi.
    tolerance : float
        Stop when a step promises to lower the deviance by less.
    most : int
        Evaluations.
    """
    found = _descend(surface, target, start, phi, memory, slope, tolerance, most)
    flat = np.zeros(0, int) if found is None else _flat_pivots(surface, found.point)
    if found is None or not len(flat):
        return found
    x = found.point.x.copy()
    x[flat] = RAISED * surface.unit[flat]
    raised = arrive(surface, target, x, phi)
    if raised is None:
        return found
    other = _descend(surface, target, raised, phi, None, np.nan, tolerance, most)
    used = found.evaluations + (0 if other is None else other.evaluations)
    best = found if other is None or other.deviance > found.deviance - tolerance else other
    return replace(best, evaluations=used)


def _flat_pivots(surface: Surface, at: Point) -> Array:
    """Pivots near zero that might as well grow: the deviance hardly rises with what the data can just show."""
    unit = surface.unit[:-1]
    low = np.flatnonzero(surface.model.pivots & (at.theta < VISIBLE * unit))
    return low[at.hessian[low, low] * unit[low] ** 2 < FLAT]


def _descend(
    surface: Surface, target: Target, start: Point, phi: float, memory: Memory | None, slope: float,
    tolerance: float, most: int,
) -> Anchor | None:  # fmt: skip
    """`hold`, from one start; without a memory nothing is learned, which bent valleys need."""
    at, used = start, 0
    if isinstance(target, FixedEffect):
        at = point_at(surface, start.slice, None, target.held, phi)
    noise = ROUNDING * (abs(at.value) + surface.gram.n)
    on = _is_on(target, at, phi)
    while used < most:
        step = propose(surface, target, at, phi, slope, memory)
        if step is None:
            return None
        slope = step.slope if step.convex else np.nan
        if on and step.gain < tolerance:
            deviance = at.value - max(step.gain, 0.0)
            return Anchor(phi, deviance, step.slope, at, used)
        x = step.x
        new = arrive(surface, target, x, phi)
        used += 1
        for _ in range(4):
            if new is not None and (not on or new.value <= at.value + noise):
                break
            x = at.x + SHORTER * (x - at.x)
            new = arrive(surface, target, x, phi)
            used += 1
        if new is None or not np.isfinite(new.value):
            return None
        if on and new.value > at.value + noise:
            return Anchor(phi, at.value, step.slope, at, used) if step.gain < CLOSE else None
        surprise = abs(at.value - new.value - step.gain) > KEPT * step.gain
        if memory is not None and (step.gain > 30.0 * tolerance or surprise or not on):
            memory.learn(at, new, surface.unit, on)
        at = new
        on = _is_on(target, at, phi)
    return None


def _is_on(target: Target, at: Point, phi: float) -> bool:
    if isinstance(target, FixedEffect):
        return True
    return abs(target.value(at.x) - phi) < FEASIBLE
