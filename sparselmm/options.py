"""How a fit is run."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

LOOSEST = 4.9e-7  # promised gain at a score of almost 1e-3 standard errors


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a fit; the defaults suit nearly every model.

    Parameters
    ----------
    tolerance : float, optional
        Stop when another step promises to lower the deviance by less (half the squared length of the score in
        standard errors). By default 1e-9, and 3e-7 where one evaluation takes more than 2e8 operations;
        a closing step then brings both to about 1e-12 (5e-9 where the last scores follow from a factorisation
        next to them; the deviance is then known to about 3e-7). Above 2e10 operations 4e-7 without a closing
        step. At most 4.9e-7: the certificate lets a score of 1e-3 standard errors pass.
    max_evaluations : int
        Evaluations of the score before giving up.
    threads : int, optional
        Threads for kernels and BLAS; by default one for small problems, all for large ones.

    Examples
    --------
    >>> from sparselmm import Options
    >>> Options(tolerance=1e-8)
    Options(tolerance=1e-08, max_evaluations=200, threads=None)
    """

    tolerance: float | None = None
    max_evaluations: int = 200
    threads: int | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.tolerance, Real)
        if self.tolerance is not None and not (number and 0.0 < self.tolerance <= LOOSEST):
            raise ValueError(
                f"Found tolerance={self.tolerance!r}; expected a number above 0 and at most {LOOSEST}, beyond which "
                "no fit passes its certificate. Leave it out for the default."
            )
        for name in ("max_evaluations", "threads"):
            value = getattr(self, name)
            if not _is_count(value) and (value is not None or name != "threads"):
                raise ValueError(f"Found {name}={value!r}; expected a positive integer.")


def _is_count(value: Any) -> bool:
    """Whether it is a whole number above zero; True is none."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and bool(value > 0)
