"""Rules that give every row of a simulated design its level of a grouping factor.

A rule is a function of the number of rows, the codes of the factors drawn before it and a random
generator; it returns int32 codes. ``simulate_design`` applies the rules in the order written, so
that a factor may refer to an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grouping", "balanced", "blocks", "children_of", "crossed", "cycled", "member_of"]

Codes = NDArray[np.int32]
Grouping = Callable[[int, Mapping[str, Codes], np.random.Generator], Codes]


def crossed(levels: int, skew: float = 0.0) -> Grouping:
    """Each row draws a level by itself.

    Parameters
    ----------
    levels : int
        Number of levels. Every level occurs where there are at least as many rows.
    skew : float
        Popularity of the k-th level is proportional to ``k ** -skew``; 0 is uniform.

    Examples
    --------
    >>> import numpy as np
    >>> codes = crossed(3, skew=1.0)(1000, {}, np.random.default_rng(1))
    >>> int(np.bincount(codes).argmax())
    0
    """

    def draw(n: int, _: Mapping[str, Codes], rng: np.random.Generator) -> Codes:
        return rng.permutation(_covering(n, levels, skew, rng))

    return draw


def blocks(levels: int, skew: float = 0.0) -> Grouping:
    """Like ``crossed``, but the rows of a level stand together: groups of random sizes."""

    def draw(n: int, _: Mapping[str, Codes], rng: np.random.Generator) -> Codes:
        return np.sort(_covering(n, levels, skew, rng))

    return draw


def balanced(levels: int) -> Grouping:
    """Blocks of rows as equal in size as the number of rows allows."""

    def draw(n: int, _: Mapping[str, Codes], __: np.random.Generator) -> Codes:
        return (np.arange(n, dtype=np.int64) * levels // n).astype(np.int32)

    return draw


def cycled(levels: int) -> Grouping:
    """The levels in turn, row by row: with ``balanced`` every pair occurs."""

    def draw(n: int, _: Mapping[str, Codes], __: np.random.Generator) -> Codes:
        return (np.arange(n, dtype=np.int64) % levels).astype(np.int32)

    return draw


def children_of(parent: str, children: int) -> Grouping:
    """Nested: each level of an earlier factor has this many levels of its own."""

    def draw(n: int, drawn: Mapping[str, Codes], rng: np.random.Generator) -> Codes:
        return drawn[parent] * np.int32(children) + rng.integers(children, size=n, dtype=np.int32)

    return draw


def member_of(child: str, levels: int, away: float = 0.0) -> Grouping:
    """Levels of an earlier factor gathered into larger ones, some rows away from home.

    Parameters
    ----------
    child : str
        The earlier factor; its levels are dealt evenly to the new ones (their homes).
    levels : int
        Number of new levels.
    away : float
        Share of the rows that draw any new level instead of their home: 0 gives a factor that
        contains ``child``, more a partially crossed one.
    """

    def draw(n: int, drawn: Mapping[str, Codes], rng: np.random.Generator) -> Codes:
        codes = drawn[child].astype(np.int64)
        home = (codes * levels // (codes.max() + 1)).astype(np.int32)
        if away == 0.0:
            return home
        return np.where(rng.random(n) < away, rng.integers(levels, size=n, dtype=np.int32), home)

    return draw


def _covering(n: int, levels: int, skew: float, rng: np.random.Generator) -> Codes:
    """Codes (n,) in which each level occurs once before popularity decides about the rest."""
    if n < levels:
        return rng.choice(levels, n, replace=False).astype(np.int32)
    once = np.arange(levels, dtype=np.int32)
    return np.concatenate([once, _popular(n - levels, levels, skew, rng)])


def _popular(n: int, levels: int, skew: float, rng: np.random.Generator) -> Codes:
    """Independent draws (n,) of levels, the k-th with probability proportional to k^-skew."""
    if skew == 0.0:
        return rng.integers(levels, size=n, dtype=np.int32)
    cumulated = np.cumsum(np.arange(1.0, levels + 1.0) ** -skew)
    drawn = np.searchsorted(cumulated, rng.random(n) * cumulated[-1], side="right")
    return np.minimum(drawn, levels - 1).astype(np.int32)
