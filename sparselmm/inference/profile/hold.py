"""The best point where a quantity has a given value: Newton steps on the Lagrangian, always on the constraint.

With gradient g and Hessian H of the deviance, gradient a and Hessian B of the quantity, and multiplier lam, a step
solves

    (H - lam B + mu a a') x = nu a - g,        a'x = phi - h

where mu > 0 changes nothing but makes the matrix positive definite wherever the constrained problem is convex; then
lam = nu - mu a'x is d deviance / d phi. A fixed effect is held within the evaluation and leaves no constraint.
Where the Hessian has negative curvature (a variance that was zero wants to grow) the same system is solved in the
coordinates of the covariance, with the information for H.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from sparselmm._types import Array
from sparselmm.inference.profile.surface import Point, Surface, point_at, slice_at
from sparselmm.inference.profile.targets import FixedEffect, Target
from sparselmm.optimise import ROUNDING, SHORTER

LARGEST = 2.0  # relative size of a step
LEAST_SHRINK = 0.01  # of a pivot (its square for a covariance step) in one step
FEASIBLE = 1e-8
LARGEST_UPDATE = 1.5  # of the Hessian, relative to its diagonal


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

    def learn(self, old: Point, new: Point) -> None:
        """Symmetric rank-one update from two gradients; where it spoils convexity the steps do without it."""
        K, move = new.jacobian, new.x - old.x
        change = np.linalg.solve(K.T, new.gradient) - np.linalg.solve(old.jacobian.T, old.gradient)
        step = np.linalg.solve(K, move)
        miss = K.T @ (change - self.correction @ move) - new.hessian @ step
        along = float(miss @ step)
        size = float((miss * miss / np.maximum(new.hessian.diagonal(), 1e-300)).sum())
        if size <= LARGEST_UPDATE * abs(along):
            miss = np.linalg.solve(K.T, miss)
            self.correction = self.correction + np.multiply.outer(miss, miss) / along


@dataclass(frozen=True, slots=True)
class _Step:
    x: Array
    gain: float
    slope: float


@dataclass(frozen=True, slots=True)
class _Push:
    """The constraint at a point: gradient, curvature, and how far phi is away."""

    a: Array
    bend: Array
    gap: float

    def direction(self, L: Array, g: Array, mu: float) -> tuple[Array, float]:
        """Step and multiplier, from a Cholesky factor of the pushed Hessian."""
        both = dpotrs(L, np.column_stack([self.a, g]), lower=1)[0]
        towards, back = both[:, 0], both[:, 1]
        reach = float(self.a @ towards)
        nu = (self.gap + float(self.a @ back)) / reach
        return nu * towards - back, nu - mu * self.gap


def _push(target: Target, at: Point, phi: float, slope: float) -> _Push | None:
    if isinstance(target, FixedEffect):
        return None
    K = at.jacobian
    first, second = target.derivatives(at.x)
    gap = phi - target.value(at.x)
    return _Push(K.T @ first, slope * (K.T @ second @ K), gap)


def _factor(S: Array) -> Array | None:
    """Lower Cholesky factor; None where S is not positive definite beyond rounding."""
    L, info = dpotrf(S, lower=1)
    if info or (L.diagonal() ** 2 < 1e-10 * S.diagonal()).any():
        return None
    return L


def _solve(at: Point, H: Array, g: Array, push: _Push | None) -> tuple | None:
    """Step and multiplier with one Hessian; None where it is not convex on the constraint."""
    if push is None:
        L = _factor(H)
        if L is None:
            return None
        stiff = at.stiffness[1] if at.stiffness else np.zeros_like(g)
        x = -dpotrs(L, g, lower=1)[0]
        return x, at.pull + float(stiff @ x)
    scaled = push.a / np.sqrt(np.maximum(H.diagonal(), 1e-300))
    mu = 3.0 / max(float(scaled @ scaled), 1e-300)
    L = _factor(H + mu * np.multiply.outer(push.a, push.a))
    return None if L is None else push.direction(L, g, mu)


def propose(
    surface: Surface, target: Target, at: Point, phi: float, slope: float, memory: Memory
) -> _Step:
    """One step towards the best point at phi."""
    push = _push(target, at, phi, slope)
    K, H = at.jacobian, at.hessian
    full = H + K.T @ memory.correction @ K if memory.correction.any() else H
    trials = (full, H) if push is None else (full - push.bend, full, H)
    for trial in trials:
        found = _solve(at, trial, at.gradient, push)
        if found is not None:
            return _newton(surface, at, trial, *found)
    return _covariance(surface, at, push)


def _newton(surface: Surface, at: Point, H: Array, x: Array, slope: float) -> _Step:
    move, tau = at.slice.jacobian @ x[:-1], x[-1]
    taken = x
    if np.abs(x).max() > 0.5:
        size = max(surface.reach(at.slice, move), abs(tau)) / LARGEST
        if size > 1.0:
            move, tau, taken = move / size, tau / size, x / size
    theta = at.theta + move
    least = np.maximum(surface.floor, LEAST_SHRINK * at.theta)
    low = surface.model.pivots & (theta < least)
    if low.any():
        theta = np.where(low, least, theta)
        taken = np.append(np.linalg.solve(at.slice.jacobian, theta - at.theta), tau)
    gain = -float(at.gradient @ taken + 0.5 * taken @ H @ taken)
    return _Step(np.append(theta, at.tau + tau), gain, slope)


def _covariance(surface: Surface, at: Point, push: _Push | None) -> _Step:
    """Newton in the coordinates of the covariance, T (I + S) T', where the information is positive definite."""
    model = surface.model
    m = model.n_theta
    N = np.eye(m + 1)
    N[:m, :m] = model.step_map
    g = np.append(at.score, at.gradient[m])
    ridge = at.information + np.diag(1e-9 * at.information.diagonal() + 1e-300)
    if push is None:
        found = _solve(at, ridge, g, None)
    else:
        a = np.linalg.solve(N.T, push.a)
        found = _solve(at, ridge, g, _Push(a, push.bend, push.gap))
    x, slope = (-g / np.maximum(ridge.diagonal(), 1e-300), 0.0) if found is None else found
    theta = at.theta
    for _ in range(30):
        theta = _stretched(surface, at, x[:m])
        if surface.reach(at.slice, theta - at.theta) <= LARGEST:
            break
        x = 0.5 * x
    theta = np.where(model.pivots, np.maximum(theta, surface.floor), theta)
    gain = -float(g @ x + 0.5 * x @ at.information @ x)
    return _Step(np.append(theta, at.tau + x[m]), gain, slope)


def _stretched(surface: Surface, at: Point, coordinates: Array) -> Array:
    """theta of T (I + S) T', eigenvalues of I + S bounded below."""
    model = surface.model
    factors = []
    for t, S in zip(model.factors(at.theta), model.relative_change(coordinates), strict=True):
        values, vectors = np.linalg.eigh(np.eye(len(t)) + S)
        bounded = (vectors * np.maximum(values, LEAST_SHRINK)) @ vectors.T
        factors.append(t @ np.linalg.cholesky(bounded))
    return model.theta(factors)


def arrive(surface: Surface, target: Target, x: Array, phi: float) -> Point | None:
    """Evaluate at a proposal, moved onto the constraint."""
    if isinstance(target, FixedEffect):
        return point_at(surface, slice_at(surface, x[:-1]), None, target.held, phi)
    x = target.place(x, phi)
    theta = np.where(surface.model.pivots, np.maximum(x[:-1], surface.floor), x[:-1])
    if not np.isfinite(x).all():
        return None
    return point_at(surface, slice_at(surface, theta), float(x[-1]))


def hold(
    surface: Surface,
    target: Target,
    start: Point,
    phi: float,
    memory: Memory,
    *,
    slope: float = 0.0,
    tolerance: float = 1e-7,
    most: int = 30,
) -> Anchor | None:
    """The best point with the quantity at phi; None where it was not found.

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
    at, used = start, 0
    if isinstance(target, FixedEffect):
        at = point_at(surface, start.slice, None, target.held, phi)
    noise = ROUNDING * (abs(at.value) + surface.gram.n)
    on = _is_on(target, at, phi)
    while used < most:
        step = propose(surface, target, at, phi, slope, memory)
        slope = step.slope
        if on and step.gain < tolerance:
            deviance = at.value - max(step.gain, 0.0)
            return Anchor(phi, deviance, slope, at, used)
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
            close = step.gain < 1e-5
            return Anchor(phi, at.value, slope, at, used) if close else None
        if step.gain > 30.0 * tolerance or not on:
            memory.learn(at, new)
        at = new
        on = _is_on(target, at, phi)
    return None


def _is_on(target: Target, at: Point, phi: float) -> bool:
    if isinstance(target, FixedEffect):
        return True
    return abs(target.value(at.x) - phi) < FEASIBLE
