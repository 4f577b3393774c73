"""Points of a profile, and what lies between them.

The slope of zeta is known exactly at every node, so that phi as a function of zeta is a cubic between two nodes. Next
to a bound, where phi is infinite, zeta is a quadratic in the distance from the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparselmm.inference.profile.hold import Anchor
from sparselmm.inference.profile.targets import Correlation, Target


@dataclass(frozen=True, slots=True)
class Node:
    """A point of a profile.

    Attributes
    ----------
    phi : float
        On the target's scale; infinite at a bound.
    zeta : float
    slope : float
        d zeta / d phi; NaN at a bound.
    deviance : float
    anchor : Anchor or None
        Where the walk may be taken up again; dropped from the record.
    """

    phi: float
    zeta: float
    slope: float
    deviance: float
    anchor: Anchor | None = None


def inverse_cubic(a: Node, b: Node, zeta: float) -> float:
    """phi at zeta by the cubic through two nodes and their slopes (also beyond them)."""
    width = b.zeta - a.zeta
    t = (zeta - a.zeta) / width
    da, db = width / a.slope, width / b.slope
    rise = b.phi - a.phi
    return a.phi + t * (da + t * (3.0 * rise - 2.0 * da - db + t * (da + db - 2.0 * rise)))


def monotone_cubic(a: Node, b: Node, zeta: float) -> float:
    """`inverse_cubic` between two nodes, slopes held to what keeps it rising (Fritsch & Carlson 1980)."""
    steep = abs((b.zeta - a.zeta) / (b.phi - a.phi)) / 3.0
    a, b = (replace(node, slope=max(node.slope, steep)) for node in (a, b))
    return inverse_cubic(a, b, zeta)


def between_bound(
    target: Target, bound: float, zeta_bound: float, near: Node, zeta: float
) -> float:
    """Quantity at zeta between a bound and the node next to it.

    zeta is taken to be quadratic in the distance w from the bound (in its root for correlations).
    """
    value = target.from_scale(near.phi)
    root = isinstance(target, Correlation)
    w = abs(value - bound)
    dw = near.slope * target.slope(value) * np.sign(value - bound)
    if root:
        w, dw = np.sqrt(w), dw * 2.0 * np.sqrt(w)
    b = 2.0 * (near.zeta - zeta_bound) / w - dw
    c = (dw - (near.zeta - zeta_bound) / w) / w
    gap = zeta - zeta_bound
    disc = max(b * b + 4.0 * c * gap, 0.0)
    s = 2.0 * gap / (b + np.copysign(np.sqrt(disc), dw)) if gap else 0.0
    s = float(np.clip(s, 0.0, w))
    return float(bound + np.sign(value - bound) * (s * s if root else s))


def value_between(target: Target, a: Node, b: Node, zeta: float) -> float:
    """Quantity at zeta between two nodes, one of which may be a bound."""
    if np.isfinite(a.phi) and np.isfinite(b.phi):
        return target.from_scale(monotone_cubic(a, b, zeta))
    end, near = (b, a) if np.isfinite(a.phi) else (a, b)
    return between_bound(target, target.bounds[int(end.phi > 0.0)], end.zeta, near, zeta)
