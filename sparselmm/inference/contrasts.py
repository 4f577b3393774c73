"""Contrasts of means: which ones, and their table as it is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.inference.multiplicity import interval_method

CONTRASTS = ("pairwise", "control", "deviation")
ROUNDING = 1e-9  # of a standard error


@dataclass(frozen=True, slots=True)
class MeanContrasts:
    """Contrasts of marginal means.

    Attributes
    ----------
    table : pandas.DataFrame
        Factors of `by`, ``contrast, estimate, std_error, statistic, df, p_value, conf_low,
        conf_high``; p-values and intervals are adjusted.
    adjust : str
    level : float
    means : int
        Compared within a family.
    size : int
        Contrasts in a family.
    """

    table: pd.DataFrame
    adjust: str
    level: float
    means: int
    size: int

    @property
    def note(self) -> str:
        """How p-values and intervals are adjusted."""
        share = f"{100 * self.level:g} % intervals"
        if self.adjust == "none" or self.size == 1:
            return f"p-values and {share} are not adjusted"
        if self.adjust == "tukey":
            return f"p-values and {share} adjusted: tukey, for {self.means} means"
        widths = interval_method(self.adjust)
        if widths == self.adjust:
            return f"p-values and {share} adjusted: {self.adjust}, for {self.size} contrasts"
        p = f"p-values adjusted: {self.adjust}, for {self.size} contrasts"
        return f"{p}; {share}: {widths}, for {self.adjust} has none"

    def __str__(self) -> str:
        return f"Contrasts of estimated marginal means\n{text(self.table)}\n{self.note}"

    def _repr_html_(self) -> str:
        return html(self.table) + f"<p>{self.note}</p>"


def contrast_weights(labels: Sequence[str], method: Any) -> dict[str, Array]:
    """Weights of every contrast over the means of one family, by name.

    Raises
    ------
    InferenceError
        For an unknown method, and weights of another number than the means.
    """
    eye = np.eye(len(labels))
    if isinstance(method, Mapping):
        weights = {name: np.asarray(w, float) for name, w in method.items()}
        for name, w in weights.items():
            if w.shape != (len(labels),):
                raise InferenceError(
                    f"Found {w.size} weights for contrast '{name}'; expected {len(labels)}, one for "
                    f"each of {', '.join(labels)}."
                )
        return weights
    if method == "pairwise":
        pairs = combinations(range(len(labels)), 2)
        return {f"{labels[i]} - {labels[j]}": eye[i] - eye[j] for i, j in pairs}
    if method == "control":
        return {f"{label} - {labels[0]}": eye[i] - eye[0] for i, label in enumerate(labels) if i}
    if method == "deviation":
        return {
            f"{label} - average": e - eye.mean(axis=0) for label, e in zip(labels, eye, strict=True)
        }
    shown = ", ".join(repr(m) for m in CONTRASTS)
    raise InferenceError(f"Found method={method!r}; expected one of {shown}, or weights by name.")


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """What is zero but for rounding, by the standard error, as zero."""
    shown = table.copy()
    for name in ("estimate", "statistic", "conf_low", "conf_high"):
        if name in shown:
            unit = 1.0 if name == "statistic" else shown["std_error"]
            shown[name] = shown[name].mask(shown[name].abs() < ROUNDING * unit, 0.0)
    return shown


def text(table: pd.DataFrame) -> str:
    """Four digits, without the index."""
    return _readable(table).to_string(index=False, float_format=lambda x: f"{x:.4g}")


def html(table: pd.DataFrame) -> str:
    """As `text`, for notebooks."""
    return _readable(table).to_html(float_format=lambda x: f"{x:.4g}", index=False)
