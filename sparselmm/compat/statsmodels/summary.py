"""The summary of a MixedLM: statsmodels' table object where it is installed, the same rows as text where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels.wald import standard_errors

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.results import MixedLMResults

TITLE = "Mixed Linear Model Regression Results"


def summary(
    self: MixedLMResults,
    yname: str | None = None,
    xname_fe: Sequence[str] | None = None,
    xname_re: Sequence[str] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
) -> Any:
    """Estimates with standard errors.

    Standard errors of variance parameters are `bse_re`, statsmodels' convention.

    Parameters
    ----------
    yname : str, optional
        Name of the response.
    xname_fe, xname_re : list of str, optional
        Names of the fixed effects, and of the covariance parameters.
    title : str, optional
    alpha : float
        One minus the level of the intervals.

    Returns
    -------
    statsmodels' Summary, or an object that prints the same rows
    """
    facts = _facts(self, yname)
    frame = _table(self, _names(self, xname_fe, xname_re), alpha)
    heading = TITLE if title is None else title
    try:
        from statsmodels.iolib.summary2 import Summary
    except ImportError:
        return TextSummary(heading, facts, frame)
    made = Summary()
    made.add_dict(facts)
    made.add_title(heading)
    made.add_df(frame, align="r")
    return made


class TextSummary:
    """Title, facts and estimates as plain text.

    Attributes
    ----------
    title : str
    tables : list of DataFrame
        The facts, and the estimates.
    """

    def __init__(self, title: str, facts: dict[str, Any], frame: pd.DataFrame) -> None:
        self.title = title
        self.facts = facts
        self.tables = [pd.DataFrame({"": pd.Series(facts)}), frame]

    def as_text(self) -> str:
        """The whole as text."""
        cells = [f"{name:<20}{_text(value):>14}" for name, value in self.facts.items()]
        pairs = [
            f"{cells[i]}    {cells[i + 1] if i + 1 < len(cells) else ''}"
            for i in range(0, len(cells), 2)
        ]
        body = self.tables[1].to_string().splitlines()
        width = max(len(line) for line in [*pairs, *body])
        rule = "=" * width
        head, *rest = body
        lines = [
            self.title.center(width),
            rule,
            *pairs,
            "-" * width,
            head,
            "-" * width,
            *rest,
            rule,
        ]
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        return self.as_text()

    __repr__ = __str__


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _facts(results: MixedLMResults, yname: str | None) -> dict[str, Any]:
    groups, smallest, largest, mean = results.group_sizes
    return {
        "Model:": "MixedLM",
        "No. Observations:": str(results.nobs),
        "No. Groups:": str(groups),
        "Min. group size:": f"{smallest:.0f}",
        "Max. group size:": f"{largest:.0f}",
        "Mean group size:": f"{mean:.1f}",
        "Dependent Variable:": results.model.endog_names if yname is None else yname,
        "Method:": results.method,
        "Scale:": float(results.scale),
        "Log-Likelihood:": float(results.llf),
        "Converged:": "Yes" if results.converged else "No",
    }


def _names(
    results: MixedLMResults, xname_fe: Sequence[str] | None, xname_re: Sequence[str] | None
) -> list[str]:
    names = list(results.model.data.param_names)
    k = results.k_fe
    for given, part, label in (
        (xname_fe, slice(0, k), "xname_fe"),
        (xname_re, slice(k, len(names)), "xname_re"),
    ):
        if given is not None:
            expected = len(names[part])
            if len(given) != expected:
                raise ValueError(
                    f"{label} should be a list of length {expected}; found {len(given)} names."
                )
            names[part] = list(given)
    return names


def _table(results: MixedLMResults, names: list[str], alpha: float) -> pd.DataFrame:
    from scipy.special import ndtr, ndtri

    k = results.k_fe
    cells = np.full((len(names), 6), np.nan)
    bse = standard_errors(results)
    fe = results.params_object.fe_params
    cells[:k, 0], cells[:k, 1] = fe, bse[:k]
    with np.errstate(invalid="ignore", divide="ignore"):
        cells[:k, 2] = fe / bse[:k]
    cells[:k, 3] = 2.0 * ndtr(-np.abs(cells[:k, 2]))
    half = -ndtri(alpha / 2.0) * bse[:k]
    cells[:k, 4], cells[:k, 5] = fe - half, fe + half
    cov_re = np.asarray(results.cov_re)
    cells[k:, 0] = np.concatenate([cov_re[np.tril_indices(len(cov_re))], results.vcomp])
    cells[k:, 1] = np.asarray(results.bse_re)
    columns = ["Coef.", "Std.Err.", "z", "P>|z|", f"[{alpha / 2}", f"{1 - alpha / 2}]"]
    return pd.DataFrame(_formatted(cells), index=names, columns=columns)


def _formatted(cells: Array) -> list[list[str]]:
    return [[f"{value:.3f}" if np.isfinite(value) else "" for value in row] for row in cells]
