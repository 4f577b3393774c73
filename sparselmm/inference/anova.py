"""F tests of the terms of the fixed part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.inference.ddf import check_method, f_test
from sparselmm.inference.distributions import f_tail
from sparselmm.inference.terms import hypotheses

TYPES = {1: "I", 2: "II", 3: "III"}
LABELS = {
    "satterthwaite": "Satterthwaite's method",
    "kenward-roger": "Kenward and Roger's method",
    "residual": "residual degrees of freedom",
    "inf": "no denominator degrees of freedom",
}
NO_TERMS = "(no term to test: the fixed part has none besides the intercept)"


@dataclass(frozen=True, slots=True)
class Anova:
    """F tests of the terms of the fixed part.

    Attributes
    ----------
    table : pandas.DataFrame
        Indexed by term: ``sum_sq, mean_sq, num_df, den_df, f_value, p_value``. The mean square is
        F sigma², as in lmerTest; under Kenward-Roger f_value carries that method's scale as well.
    type : int
        1, 2 or 3.
    ddf : str
    hypotheses : dict of str to pandas.DataFrame
        L of every term; columns are coefficients.
    """

    table: pd.DataFrame
    type: int
    ddf: str
    hypotheses: dict[str, pd.DataFrame]

    def __str__(self) -> str:
        if self.table.empty:
            return f"{self.title}\n{NO_TERMS}"
        shown = self.table.to_string(
            formatters={
                **dict.fromkeys(("sum_sq", "mean_sq", "den_df", "f_value"), "{:.5g}".format),
                "p_value": "{:.4g}".format,
            }
        )
        return f"{self.title}\n{shown}"

    def _repr_html_(self) -> str:
        if self.table.empty:
            return f"<p>{self.title}</p><p>{NO_TERMS}</p>"
        return f"<p>{self.title}</p>" + self.table.to_html(float_format="{:.5g}".format)

    @property
    def title(self) -> str:
        """What the table holds, in words."""
        return f"Type {TYPES[self.type]} analysis of variance with {LABELS[self.ddf]}"


def anova(fit: Fit, type: Any = 3, ddf: str = "satterthwaite") -> Anova:
    """Test every term of the fixed part with an F test.

    Parameters
    ----------
    type : int or str
        1 (``"I"``): terms in the order written; 2 (``"II"``): each after all terms that do not
        contain it; 3 (``"III"``): each after all others, means over other factors weighing every
        level alike whatever the contrasts.
    ddf : str
        ``"satterthwaite"``, ``"kenward-roger"`` (REML fits), ``"residual"`` (n - p) or ``"inf"``.

    Returns
    -------
    Anova
        Without rows where the fixed part is an intercept only.

    Raises
    ------
    InferenceError
        For an unknown type or method, and Kenward-Roger after ML or where it would take too long.

    Notes
    -----
    The hypotheses are those of lmerTest (`sparselmm.inference.terms`). Terms nested in others, such
    as b in a + a:b, are treated as SAS does: a is contained in a:b.

    Examples
    --------
    >>> import sparselmm as slm
    >>> cake = slm.load_dataset("cake")
    >>> fit = slm.lmm("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)
    >>> print(fit.anova())
    Type III analysis of variance with Satterthwaite's method
                       sum_sq mean_sq  num_df den_df f_value   p_value
    recipe             10.186  5.0929       2     42 0.24879    0.7809
    temperature        2100.3  420.06       5    210   20.52 1.153e-16
    recipe:temperature 205.98  20.598      10    210  1.0062    0.4393
    """
    number, method = check_type(type), check_method(ddf)
    found = {name: L for name, L in hypotheses(fit, number).items() if len(L)}
    rows = [_row(fit, L, method) for L in found.values()]
    columns = ["sum_sq", "mean_sq", "num_df", "den_df", "f_value", "p_value"]
    table = pd.DataFrame(rows, index=list(found), columns=columns).astype({"num_df": int})
    names = [fit.spec.column_names[k] for k in fit.kept]
    frames = {name: pd.DataFrame(L, columns=names) for name, L in found.items()}
    return Anova(table, number, method, frames)


def check_type(type: Any) -> int:
    """The number of a type.

    Raises
    ------
    InferenceError
        When it is none of 1, 2, 3, ``"I"``, ``"II"``, ``"III"``.
    """
    for number, roman in TYPES.items():
        if type in (number, str(number), roman):
            return number
    raise InferenceError(f"Found type={type!r}; expected 1, 2 or 3.")


def _row(fit: Fit, L: Array, method: str) -> tuple[float, float, int, float, float, float]:
    test = f_test(fit, L, np.zeros(len(L)), method)
    mean_sq = test.statistic / test.scale * fit.sigma2
    p = f_tail(test.statistic, test.df, test.df_resid)
    return test.df * mean_sq, mean_sq, test.df, test.df_resid, test.statistic, p
