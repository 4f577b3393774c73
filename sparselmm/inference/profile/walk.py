"""From the optimum outwards, one side at a time: where zeta takes the values that a curve needs.

zeta = sign root(d - d_min) has the exact slope (d d / d phi) / (2 zeta) at every node, so that the next node is
extrapolated, and the end of an interval found, by cubics in phi as a function of zeta. Near a bound (a standard
deviation of zero, a correlation of 1 or -1) the deviance of the bound is found first; what lies between follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from sparselmm.inference.profile.hold import Anchor, Memory, hold
from sparselmm.inference.profile.nodes import Node, between_bound, inverse_cubic, value_between
from sparselmm.inference.profile.surface import Point, Surface, slim
from sparselmm.inference.profile.targets import Correlation, Custom, StandardDeviation, Target

NEAR_BOUND = {
    "log": 0.15,
    "atanh": 0.05,
}  # share of the distance to a bound from which on it is looked at
FARTHEST_JUMP = 2.5  # in zeta's steps
MOST_NODES = 40
LARGEST_TURN = 1.2  # on the scale of correlations: who gains so little on the way may never arrive
TOO_FAR = 1.6  # steps of zeta, where one was aimed at
UNSEEN = 1e-12  # smallest rise of the deviance that counts: below it a slope of zeta means nothing
RISEN = 0.01  # zeta from which on it is seen to rise
BEYOND = 1.03  # aim of the last node, relative to the reach: not to fall short of it
CLOSE = 5e-4  # in zeta: from here a cubic finds the end of an interval
INSIDE, AT_ENDS = 1e-4, 1e-6  # fall of the deviance that is left: at nodes, at ends of intervals

STUCK = (
    "the profile could not be followed further",
    "the profile could not be followed further: has the function a kink, a bound or no value there?",
)  # why a side ends early: a parameter's, a function's
LEVEL = "the deviance does not rise there: other values fit as well"


class LowerDeviance(Exception):
    """The walk found a point better than the optimum it started from."""

    def __init__(self, point: Point) -> None:
        super().__init__("lower deviance")
        self.point = point


@dataclass
class Side:
    """One side of a profile.

    Attributes
    ----------
    nodes : list of Node
        Outwards, the optimum first.
    ends : dict of float to float
        Interval end per cutoff of |zeta|, on the target's scale; infinite at a bound.
    note : str
    evaluations : int
    """

    nodes: list[Node]
    ends: dict[float, float] = field(default_factory=dict)
    note: str = ""
    evaluations: int = 0


@dataclass
class Walk:
    """What a walk on one side needs.

    Attributes
    ----------
    surface : Surface
    target : Target
    sign : int
        Down (-1) or up (1).
    best : float
        Deviance at the optimum.
    memory : Memory
    bound : callable
        Deviance at the bound on this side, from a point near it; None where there is no bound.
    sigma : float
        At the optimum.
    large : bool
        Whether nodes should forget their factorisations.
    """

    surface: Surface
    target: Target
    sign: int
    best: float
    memory: Memory
    bound: Callable[[Point], float] | None
    sigma: float
    large: bool

    def node(self, anchor: Anchor) -> Node:
        """zeta and its slope at a held point."""
        rise = anchor.deviance - self.best
        if rise < -self.tolerance():
            raise LowerDeviance(anchor.point)
        zeta = self.sign * np.sqrt(max(rise, UNSEEN))
        kept = replace(anchor, point=slim(anchor.point)) if self.large else anchor
        return Node(anchor.phi, zeta, anchor.slope / (2.0 * zeta), anchor.deviance, kept)

    def tolerance(self) -> float:
        """A fall of the deviance that is no rounding error."""
        return 1e-5 + 1e-11 * abs(self.best)


def walk_side(
    walk: Walk,
    origin: Node,
    start: Point,
    cutoffs: tuple[float, ...],
    reach: float,
    first: float = np.nan,
) -> Side:
    """Trace one side.

    Parameters
    ----------
    walk : Walk
    origin : Node
        The optimum.
    start : Point
        Its point.
    cutoffs : tuple of float
        |zeta| at which interval ends are wanted exactly, increasing.
    reach : float
        |zeta| up to which the curve is wanted.
    first : float
        phi of the first node, where the optimum is on a bound.
    """
    side = Side([origin])
    spacing = cutoffs[0] / 3.0 if cutoffs else reach / 4.0
    held: Anchor | None = None
    bound: Node | None = None
    farthest = reach if reach in cutoffs else BEYOND * reach
    while abs(side.nodes[-1].zeta) < reach - CLOSE and len(side.nodes) < MOST_NODES:
        last = side.nodes[-1]
        goal = walk.sign * min(abs(last.zeta) + spacing, farthest)
        goal = _snap(goal, cutoffs, spacing, walk.sign)
        alone = len(side.nodes) == 1 and not np.isnan(first)
        phi = first if alone else _capped(walk, last, _extrapolate(side.nodes, goal))
        if (
            bound is None
            and walk.bound is not None
            and not alone
            and _near_bound(walk, origin, last, phi)
        ):
            bound = _bound_node(walk, held.point if held else start)
        if bound is not None:
            if abs(bound.zeta) <= abs(last.zeta) + 0.02 or _exhausted(walk, last):
                break
            phi = _towards_bound(walk, bound, last, goal)
        tolerance = AT_ENDS if abs(goal) in cutoffs else INSIDE
        here = last.phi if np.isfinite(last.phi) else phi
        back = walk.sign * (phi - here) < 0.0  # on a flat stretch a slope may point inwards
        new = None if back else _advance(walk, start, held, here, phi, tolerance)
        node = None if new is None else walk.node(new)
        if new is None or node is None or abs(node.zeta) <= abs(last.zeta):
            if bound is None:
                bound = _bound_node(walk, held.point if held else start)
            level = 0.0 < abs(last.zeta) < RISEN
            side.note = LEVEL if level else STUCK[isinstance(walk.target, Custom)]
            break
        if np.isfinite(last.phi) and abs(node.zeta) > abs(last.zeta) + TOO_FAR * spacing:
            side.nodes += _between(walk, held, start, last, node, side)
        held = new
        side.evaluations += held.evaluations
        side.nodes.append(node)
        if bound is not None and abs(node.zeta) > abs(bound.zeta):
            break
    for cutoff in cutoffs:
        _find_end(walk, side, bound, start, cutoff)
    if bound is not None:
        side.nodes = [n for n in side.nodes if abs(n.zeta) < abs(bound.zeta)]
        side.nodes.append(bound)
    side.nodes = [replace(node, anchor=None) for node in side.nodes]
    return side


def _between(
    walk: Walk, held: Anchor | None, start: Point, last: Node, far: Node, side: Side
) -> list[Node]:
    """Nodes halfway to one that turned out to be too far, where a cubic would not be true to the curve."""
    nodes: list[Node] = []
    for share in (0.25, 0.5, 0.75):
        phi = last.phi + share * (far.phi - last.phi)
        new = _advance(walk, start, held, last.phi, phi, INSIDE)
        node = None if new is None else walk.node(new)
        low = nodes[-1] if nodes else last
        if new is not None and node is not None and abs(low.zeta) < abs(node.zeta) < abs(far.zeta):
            held = new
            side.evaluations += new.evaluations
            nodes.append(node)
    return nodes


def _snap(goal: float, cutoffs: tuple[float, ...], spacing: float, sign: int) -> float:
    """A goal moved onto a cutoff that is near."""
    for cutoff in cutoffs:
        if abs(abs(goal) - cutoff) < 0.34 * spacing:
            return sign * cutoff
    return goal


def _extrapolate(nodes: list[Node], goal: float) -> float:
    last = nodes[-1]
    linear = (goal - last.zeta) / last.slope
    if len(nodes) < 2 or not np.isfinite(nodes[-2].phi):
        return last.phi + linear
    step = inverse_cubic(nodes[-2], last, goal) - last.phi
    farthest = FARTHEST_JUMP * linear
    if step * linear <= 0.0:
        return last.phi + linear
    return last.phi + float(np.clip(step, -abs(farthest), abs(farthest)))


def _capped(walk: Walk, last: Node, phi: float) -> float:
    """A step up from a standard deviation near zero, no longer than what the data can just show."""
    target = walk.target
    if not isinstance(target, StandardDeviation) or not phi > last.phi + 1.0:
        return phi
    unit = float(walk.surface.unit[:-1][target.row.any(axis=1)].min())
    visible = float(np.log(np.exp(last.phi) + unit * walk.sigma))
    return min(phi, max(last.phi + 1.0, visible))


def _side_bound(walk: Walk) -> float:
    return walk.target.bounds[0 if walk.sign < 0 else 1]


def _near_bound(walk: Walk, origin: Node, last: Node, phi: float) -> bool:
    bound = _side_bound(walk)
    if walk.bound is None:
        return False
    if walk.target.scale == "atanh" and abs(phi - last.phi) > LARGEST_TURN:
        return True
    first = abs(walk.target.from_scale(origin.phi) - bound)
    if not np.isfinite(first):
        return False
    return abs(walk.target.from_scale(phi) - bound) < NEAR_BOUND.get(walk.target.scale, 0.1) * first


def _exhausted(walk: Walk, last: Node) -> bool:
    """Whether the walk is so near the bound that nothing is left between."""
    bound = _side_bound(walk)
    value = walk.target.from_scale(last.phi)
    if isinstance(walk.target, Correlation):
        return abs(value - bound) < 1e-5
    return False


def _bound_node(walk: Walk, at: Point) -> Node | None:
    if walk.bound is None:
        return None
    deviance = walk.bound(at)
    rise = max(deviance - walk.best, 0.0)
    return Node(walk.sign * np.inf, walk.sign * np.sqrt(rise), np.nan, deviance)


def _towards_bound(walk: Walk, bound: Node, last: Node, goal: float) -> float:
    """phi for a goal between the last node and the bound; halfway where the goal lies beyond the bound."""
    if abs(goal) > abs(bound.zeta) - 0.01:
        goal = last.zeta + 0.6 * (bound.zeta - last.zeta)
    value = between_bound(walk.target, _side_bound(walk), bound.zeta, last, goal)
    return walk.target.to_scale(value)


def _advance(
    walk: Walk, start: Point, last: Anchor | None, here: float, phi: float, tolerance: float
) -> Anchor | None:
    """Hold at phi, or nearer where that fails."""
    at, slope = (start, 0.0) if last is None else (last.point, last.slope)
    for _ in range(6):
        held = hold(
            walk.surface, walk.target, at, phi, walk.memory, slope=slope, tolerance=tolerance
        )
        if held is not None:
            return held
        phi = here + 0.4 * (phi - here)
    return None


def _find_end(walk: Walk, side: Side, bound: Node | None, start: Point, cutoff: float) -> None:
    """The end of the interval at a cutoff, to full accuracy; it becomes a node."""
    nodes = side.nodes
    beyond = [i for i, n in enumerate(nodes) if abs(n.zeta) >= cutoff - CLOSE]
    goal = walk.sign * cutoff
    if bound is not None and abs(bound.zeta) < cutoff:
        side.ends[cutoff] = walk.sign * np.inf
        side.note = "the bound, the profile does not reach the cutoff before it"
        return
    if not beyond and bound is None:
        side.ends[cutoff] = np.nan
        side.note = side.note or "the profile does not reach the cutoff"
        return
    low = nodes[beyond[0] - 1] if beyond else nodes[-1]
    high = nodes[beyond[0]] if beyond else bound
    assert high is not None
    for _ in range(12):
        near = min((n for n in (low, high) if np.isfinite(n.phi)), key=lambda n: abs(n.zeta - goal))
        value = value_between(walk.target, low, high, goal)
        phi = walk.target.to_scale(value)
        if abs(near.zeta - goal) < CLOSE and near.anchor is not None:
            side.ends[cutoff] = phi
            return
        inside = min(low.phi, high.phi) < phi < max(low.phi, high.phi)
        if not inside and np.isfinite(low.phi) and np.isfinite(high.phi):
            phi = 0.5 * (low.phi + high.phi)
        at = start if near.anchor is None else near.anchor.point
        held = hold(
            walk.surface, walk.target, at, phi, walk.memory, slope=2.0 * goal * near.slope,
            tolerance=AT_ENDS,
        )  # fmt: skip
        if held is None:
            break
        side.evaluations += held.evaluations
        node = walk.node(held)
        nodes.append(node)
        nodes.sort(key=lambda n: abs(n.zeta))
        if abs(node.zeta) < cutoff:
            low = node
        else:
            high = node
    side.ends[cutoff] = np.nan
    side.note = "the end of the interval was not found"
