"""What a bootstrap looks like to its user: replicates, intervals, text."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.inference.names import find_names

if TYPE_CHECKING:
    import pandas as pd

TYPES = ("percentile", "basic", "normal", "shortest")


@dataclass(frozen=True)
class Bootstrap:
    """Replicates of a bootstrap.

    Attributes
    ----------
    estimate : pandas.Series
        What the fit itself gives.
    replicates : pandas.DataFrame
        One row per replicate, missing where it failed.
    outcome : ndarray of str, shape (nsim,)
        ``"CONVERGED"``, ``"SINGULAR"``, or what failed.
    kind : str
    plan : Plan
        Design, source of randomness and seed: what `extend` goes on with.
    """

    estimate: pd.Series
    replicates: pd.DataFrame
    outcome: Array
    kind: str
    plan: Any = field(repr=False)

    @property
    def nsim(self) -> int:
        """Number of replicates, failed ones among them."""
        return len(self.outcome)

    @property
    def failures(self) -> pd.Series:
        """What failed, by number of replicate; these do not enter the intervals."""
        import pandas as pd

        failed = np.flatnonzero(~np.isin(self.outcome, ["CONVERGED", "SINGULAR"]))
        return pd.Series(self.outcome[failed], index=failed, name="failure", dtype=object)

    @property
    def singular(self) -> int:
        """Number of replicates whose fit was singular; they count."""
        return int((self.outcome == "SINGULAR").sum())

    def extend(
        self, nsim: int, *, executor: Executor | None = None, progress: bool = False
    ) -> Bootstrap:
        """The same bootstrap with `nsim` more replicates.

        Replicate i is the same whether it was made now or in one go.

        Parameters
        ----------
        nsim : int
        executor : concurrent.futures.Executor, optional
        progress : bool
        """
        return self.plan.go_on(self, nsim, executor, progress)

    def conf_int(
        self,
        level: float = 0.95,
        type: str = "percentile",
        parm: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        r"""Confidence intervals from the replicates.

        Parameters
        ----------
        level : float
        type : str
            ``"percentile"``: quantiles of the replicates. ``"basic"``: twice the estimate minus these.
            ``"normal"``: the estimate minus the bias, plus and minus normal quantiles of the standard error.
            ``"shortest"``: the shortest interval that holds the share `level` of the replicates.
        parm : str or sequence of str, optional

        Returns
        -------
        pandas.DataFrame
            Columns ``lower, upper``, indexed by parameter. Ends beyond what a parameter can be (a standard deviation
            below 0, a correlation beyond ±1) are set to the bound, which changes no coverage.

        Raises
        ------
        InferenceError
            For an unknown type or parameter, a level outside (0, 1), and too few replicates for the level.

        Notes
        -----
        With B replicates the percentile's ends are the order statistics at (B + 1) (1 ± level) / 2, interpolated
        (Davison & Hinkley 1997, Bootstrap Methods and their Application, eqs. 5.6, 5.5, 5.18); these exist from
        B = 2 / (1 - level) - 1 on: 39 replicates for 95 %.
        """
        import pandas as pd

        names = self._names(parm)
        ends = interval_function(type)
        rows = []
        for name in names:
            values = self.replicates[name].to_numpy(float)
            values = values[np.isfinite(values)]
            check_enough(len(values), level, type)
            lower, upper = bounds_of(name) if self.plan.statistic is None else (-np.inf, np.inf)
            rows.append(np.clip(ends(values, float(self.estimate[name]), level), lower, upper))
        return pd.DataFrame(rows, index=names, columns=["lower", "upper"], dtype=float)

    def _names(self, parm: str | Sequence[str] | None) -> list[str]:
        known = list(self.estimate.index)
        return known if parm is None else find_names(parm, known)

    @property
    def frame(self) -> pd.DataFrame:
        """Columns ``estimate, bias, std_error, n``: n is the number of replicates that count."""
        import pandas as pd

        return pd.DataFrame(
            {
                "estimate": self.estimate,
                "bias": self.replicates.mean() - self.estimate,
                "std_error": self.replicates.std(),
                "n": self.replicates.count(),
            }
        )

    def _notes(self) -> list[str]:
        failed = len(self.failures)
        notes = []
        if self.singular:
            notes.append(f"{self.singular} of {self.nsim} replicates are singular fits; they count")
        if failed:
            notes.append(
                f"{failed} of {self.nsim} replicates failed and are left out (see .failures)"
            )
        return notes

    def __str__(self) -> str:
        table = self.frame.to_string(float_format=lambda value: f"{value:.5g}")
        head = f"{self.kind.capitalize()} bootstrap, {self.nsim} replicates"
        return "\n".join([head, "", table, *(f"Note: {note}" for note in self._notes())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.frame.to_html() + "".join(f"<p>{note}</p>" for note in self._notes())


def bounds_of(name: str) -> tuple[float, float]:
    """What a parameter can be."""
    if name == "sigma" or (name.startswith("sd_") and "|" in name):
        return 0.0, np.inf
    if name.startswith("cor_") and "|" in name:
        return -1.0, 1.0
    return -np.inf, np.inf


def check_enough(count: int, level: float, type: str) -> None:
    """Refuse a level outside (0, 1) and one that needs more replicates than there are."""
    if not isinstance(level, (int, float)) or not 0.0 < level < 1.0:
        raise InferenceError(
            f"Found level={level!r}; expected a number between 0 and 1 such as 0.95."
        )
    needed = 2 if type == "normal" else int(np.ceil(2.0 / (1.0 - level) - 1.0 - 1e-9))
    if count < needed:
        raise InferenceError(
            f"Found {count} replicates; a {100 * level:g} % interval of type {type!r} needs at least {needed}, and "
            "many more to be stable. Raise nsim, or go on with extend()."
        )


def interval_function(type: str):
    """The function of (values, estimate, level) that gives both ends."""
    functions = {"percentile": percentile, "basic": basic, "normal": normal, "shortest": shortest}
    if type not in functions:
        raise InferenceError(f"Found type={type!r}; expected one of {', '.join(TYPES)}.")
    return functions[type]


def percentile(values: Array, estimate: float, level: float) -> Array:  # noqa: ARG001  (one signature for all)
    """Quantiles of the replicates, order statistics at (B + 1) p."""
    return np.quantile(values, [0.5 - 0.5 * level, 0.5 + 0.5 * level], method="weibull")


def basic(values: Array, estimate: float, level: float) -> Array:
    """Twice the estimate minus the quantiles."""
    return 2.0 * estimate - percentile(values, estimate, level)[::-1]


def normal(values: Array, estimate: float, level: float) -> Array:
    """Normal interval with bias and standard error from the replicates."""
    half = ndtri(0.5 + 0.5 * level) * values.std(ddof=1)
    return 2.0 * estimate - values.mean() + np.array([-half, half])


def shortest(values: Array, estimate: float, level: float) -> Array:  # noqa: ARG001
    """The shortest interval with ceil(level B) replicates."""
    ordered = np.sort(values)
    held = int(np.ceil(level * len(ordered)))
    first = int(np.argmin(ordered[held - 1 :] - ordered[: len(ordered) - held + 1]))
    return np.array([ordered[first], ordered[first + held - 1]])
