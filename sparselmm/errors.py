"""Everything the package raises or warns about: one flat tree.

``except SparseLMMError`` catches every error below; each is also the built-in error a caller
would expect (``ValueError``, ``MemoryError``, ``RuntimeError``). Every message says what was
found, what is expected and what to do.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from pathlib import Path

__all__ = [
    "ConvergenceError",
    "ConvergenceWarning",
    "DataError",
    "FormulaError",
    "IdentifiabilityWarning",
    "InferenceError",
    "MemoryRefusedError",
    "PathError",
    "RankWarning",
    "SingularFitWarning",
    "SparseLMMError",
    "SparseLMMWarning",
]


class SparseLMMError(Exception):
    """Base of all errors."""


class FormulaError(SparseLMMError, ValueError):
    """The formula cannot be read; the message points at the character."""


class DataError(SparseLMMError, ValueError):
    """The data do not fit the formula: column, type, level, weight, missing or infinite value."""


class PathError(SparseLMMError, ValueError):
    """The named computational path is unknown, unsuitable or not installed."""


class MemoryRefusedError(SparseLMMError, MemoryError):
    """The predicted memory exceeds what the machine has; nothing was allocated."""


class ConvergenceError(SparseLMMError, RuntimeError):
    """The optimiser cannot go on, and no usable fit exists."""


class InferenceError(SparseLMMError, ValueError):
    """A question that the fit cannot answer: hypothesis, method, comparison, new data."""


class SparseLMMWarning(UserWarning):
    """Base of all warnings."""


class SingularFitWarning(SparseLMMWarning):
    """The optimum lies on the boundary: a variance of zero or a perfect correlation."""


class ConvergenceWarning(SparseLMMWarning):
    """The fit did not pass its certificate."""


class RankWarning(SparseLMMWarning):
    """Columns of the fixed-effects matrix depend on earlier ones and were dropped."""


class IdentifiabilityWarning(SparseLMMWarning):
    """A random-effects term has as many coefficients as there are rows."""


def pointed(message: str, formula: str, start: int, stop: int | None = None) -> str:
    """Put the formula under a message, with carets below the characters ``start:stop``.

    Examples
    --------
    >>> print(pointed("no grouping factor", "y ~ (1 | )", 9))
    no grouping factor
        y ~ (1 | )
                 ^
    """
    carets = "^" * max(1, (stop or start + 1) - start)
    line = formula.replace("\n", " ").replace("\t", " ")
    return f"{message}\n    {line}\n    {' ' * start}{carets}"


# Cached properties of the package are called through functools.
_INSIDE = (f"{Path(__file__).parent}{os.sep}", functools.__file__)


def warn(message: str, kind: type[Warning]) -> None:
    """Warn at the line that called into this package."""
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, kind, stacklevel=level)
