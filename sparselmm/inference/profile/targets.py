"""What can be profiled: functions h of (theta, tau) with their derivatives, and fixed effects.

Each is walked on a scale where profiles are nearly quadratic and bounds lie at infinity: log for standard deviations,
the inverse hyperbolic tangent for correlations. Row i of a term's T is v_i = G_i'theta (G_i constant), so that

    log sd_i = tau/2 + log|v_i|        cor_ij = v_i'v_j / (|v_i| |v_j|)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.inference.profile.surface import Held

Function = Callable[[Mapping[str, float]], float]
FARTHEST = 8.0  # on the inverse hyperbolic tangent's scale a correlation of 1 - 2e-7


@dataclass(frozen=True, kw_only=True)
class Target:
    """One quantity to profile.

    Attributes
    ----------
    name : str
    scale : str
        ``"identity"``, ``"log"``, ``"square"`` (log of the root, for variances) or ``"atanh"``.
    bounds : tuple of float
    """

    name: str
    scale: str = "identity"
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def to_scale(self, value: float) -> float:
        """From the quantity to the scale it is walked on."""
        if self.scale == "log":
            return float(np.log(value))
        if self.scale == "square":
            return 0.5 * float(np.log(value))
        return float(np.arctanh(value)) if self.scale == "atanh" else value

    def from_scale(self, phi: float) -> float:
        """The quantity."""
        if self.scale == "log":
            return float(np.exp(phi))
        if self.scale == "square":
            return float(np.exp(2.0 * phi))
        return float(np.tanh(phi)) if self.scale == "atanh" else phi

    def slope(self, value: float) -> float:
        """d phi / d quantity."""
        if self.scale == "log":
            return 1.0 / value
        if self.scale == "square":
            return 0.5 / value
        return 1.0 / (1.0 - value * value) if self.scale == "atanh" else 1.0

    # what a function of x = (theta, tau) answers; fixed effects are held otherwise
    def value(self, x: Array) -> float:
        """phi at a point."""
        raise NotImplementedError

    def derivatives(self, x: Array) -> tuple[Array, Array]:
        """Gradient and Hessian of phi."""
        raise NotImplementedError

    def place(self, x: Array, phi: float) -> Array:
        """A point near x where the quantity is phi."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class FixedEffect(Target):
    """A coefficient of the fixed part.

    Attributes
    ----------
    held : Held
    """

    held: Held


@dataclass(frozen=True, kw_only=True)
class Sigma(Target):
    """The residual standard deviation."""

    def value(self, x: Array) -> float:
        """Half of tau."""
        return 0.5 * float(x[-1])

    def derivatives(self, x: Array) -> tuple[Array, Array]:
        """Constant and zero."""
        gradient = np.zeros(len(x))
        gradient[-1] = 0.5
        return gradient, np.zeros((len(x), len(x)))

    def place(self, x: Array, phi: float) -> Array:
        """The same theta."""
        return np.append(x[:-1], 2.0 * phi)


@dataclass(frozen=True, kw_only=True)
class StandardDeviation(Target):
    """The standard deviation of one random effect.

    Attributes
    ----------
    row : ndarray, shape (n_theta, s)
        G_i of the module's formula.
    place_in : tuple of int
        Term, and column within it.
    """

    row: Array
    place_in: tuple[int, int]

    def value(self, x: Array) -> float:
        """Log of the standard deviation."""
        v = x[:-1] @ self.row
        return 0.5 * float(x[-1] + np.log(v @ v))

    def derivatives(self, x: Array) -> tuple[Array, Array]:
        """Of half of log v'v, and of half of tau."""
        G, m = self.row, len(x) - 1
        v = x[:-1] @ G
        q = float(v @ v)
        a = G @ v / q
        gradient = np.append(a, 0.5)
        H = np.zeros((m + 1, m + 1))
        H[:m, :m] = G @ G.T / q - 2.0 * np.multiply.outer(a, a)
        return gradient, H

    def place(self, x: Array, phi: float) -> Array:
        """The row of T stretched."""
        factor = np.exp(phi - self.value(x))
        return np.append(np.where(self.row.any(axis=1), factor, 1.0) * x[:-1], x[-1])


@dataclass(frozen=True, kw_only=True)
class Correlation(Target):
    """The correlation of two random effects of one term.

    Attributes
    ----------
    first, second : ndarray, shape (n_theta, s)
        G_i and G_j of the module's formula, i < j.
    places : tuple of (int, int)
        Term and column of both.
    """

    first: Array
    second: Array
    places: tuple[tuple[int, int], tuple[int, int]]

    def value(self, x: Array) -> float:
        """Inverse hyperbolic tangent of the correlation."""
        v, w = x[:-1] @ self.first, x[:-1] @ self.second
        along = float(v @ w) / np.sqrt(v @ v)
        across = np.sqrt(max(float(w @ w) - along * along, 0.0))
        size = np.sqrt(w @ w)
        # atanh(r) = log((1 + r) / root(1 - r²)), without cancellation where r is near 1
        return float(np.sign(along) * np.log((size + abs(along)) / max(across, 1e-300)))

    def derivatives(self, x: Array) -> tuple[Array, Array]:
        """Of the quotient, then of the scale."""
        G, K, m = self.first, self.second, len(x) - 1
        v, w = x[:-1] @ G, x[:-1] @ K
        p, q = float(v @ v), float(w @ w)
        r = 1.0 / np.sqrt(p * q)
        rho = float(v @ w) * r
        a, b = G @ v / p, K @ w / q
        both = a + b
        c = r * (G @ w + K @ v)
        slope = c - rho * both
        cross = np.multiply.outer(c, both)
        second = G @ K.T
        H = r * (second + second.T) - cross - cross.T + rho * np.multiply.outer(both, both)
        H -= rho * (G @ G.T / p - 2.0 * np.multiply.outer(a, a))
        H -= rho * (K @ K.T / q - 2.0 * np.multiply.outer(b, b))
        rest = 1.0 / max(1.0 - rho * rho, 1e-14)
        gradient = np.append(rest * slope, 0.0)
        full = np.zeros((m + 1, m + 1))
        full[:m, :m] = rest * H + 2.0 * rho * rest * rest * np.multiply.outer(slope, slope)
        return gradient, full

    def place(self, x: Array, phi: float) -> Array:
        """The second row of T turned towards the first, its length kept."""
        v, w = x[:-1] @ self.first, x[:-1] @ self.second
        direction = v / np.sqrt(v @ v)
        across = w - (w @ direction) * direction
        size = np.sqrt(across @ across)
        if size == 0.0:
            across, size = np.eye(len(w))[np.flatnonzero(self.second.any(axis=0))[-1]], 1.0
        new = np.tanh(phi) * direction + across / (size * np.cosh(phi))
        new *= np.sqrt(w @ w)
        rows = self.second.any(axis=1)
        moved = x.copy()
        moved[:-1][rows] = self.second[rows] @ new
        return moved


@dataclass(frozen=True, kw_only=True)
class Custom(Target):
    """A function of the standard deviations, correlations and sigma, by differences.

    Attributes
    ----------
    function : callable
        Takes a dict of the parameters by name.
    parameters : tuple of Target
    """

    function: Function
    parameters: tuple[Target, ...]

    def parameters_at(self, x: Array) -> dict[str, float]:
        """What the function sees at a point."""
        return {p.name: p.from_scale(p.value(x)) for p in self.parameters}

    def value(self, x: Array) -> float:
        """The function, on its scale; NaN where it has no value, such as the logarithm of what became negative."""
        with np.errstate(all="ignore"):
            try:
                return float(self.to_scale(float(self.function(self.parameters_at(x)))))
            except (ArithmeticError, ValueError):
                return np.nan

    def _gradient(self, x: Array, steps: Array) -> Array:
        sides = [[self.value(x - e), self.value(x + e)] for e in np.diag(steps)]
        return np.array([(up - down) for down, up in sides]) / (2.0 * steps)

    def derivatives(self, x: Array) -> tuple[Array, Array]:
        """Central differences."""
        steps = 1e-4 * np.maximum(np.abs(x), 1e-3)
        gradient = self._gradient(x, steps)
        columns = [
            (self._gradient(x + e, steps) - self._gradient(x - e, steps)) for e in np.diag(steps)
        ]
        H = np.array(columns) / (2.0 * steps[:, None])
        return gradient, 0.5 * (H + H.T)

    def place(self, x: Array, phi: float) -> Array:
        """Newton's method along the gradient."""
        weights = np.maximum(np.abs(x), 1e-3) ** 2
        for _ in range(20):
            miss = phi - self.value(x)
            if abs(miss) < 1e-11 * max(1.0, abs(phi)):
                break
            steps = 1e-4 * np.sqrt(weights)
            g = self._gradient(x, steps)
            along = weights * g
            x = x + along * miss / max(float(g @ along), 1e-300)
        return x
