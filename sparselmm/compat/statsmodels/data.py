"""What a MixedLM was made from: arrays, names, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import DataError

MISSING = ("none", "drop", "raise")


@dataclass
class ModelData:
    """Names and originals, under the names that statsmodels' helpers look for.

    Attributes
    ----------
    orig_endog, orig_exog
        As given.
    ynames : str
    xnames : list of str
    exog_re_names, exog_re_names_full : list of str
        Random-effects columns, and the elements of cov_re.
    vcomp_names : list of str
    labelled : bool
        Whether results are pandas objects.
    row_labels : Index or None
    frame : DataFrame or None
        The rows used, of a model made from a formula.
    formula : str or None
    env : mapping
        The caller's variables at the time of the formula.
    """

    orig_endog: Any
    orig_exog: Any
    ynames: str
    xnames: list[str]
    exog_re_names: list[str]
    exog_re_names_full: list[str]
    vcomp_names: list[str]
    labelled: bool
    row_labels: pd.Index | None = None
    frame: pd.DataFrame | None = None
    formula: str | None = None
    env: Mapping[str, Any] = field(default_factory=dict, repr=False)
    spec: Any = field(default=None, repr=False)

    @property
    def endog(self) -> Array:
        """The response as an array."""
        return np.asarray(self.orig_endog)

    @property
    def exog(self) -> Array:
        """The columns with fixed effects as an array."""
        return np.asarray(self.orig_exog)

    @property
    def param_names(self) -> list[str]:
        """All parameters: fixed effects, cov_re, variance components."""
        return [*self.xnames, *self.exog_re_names_full, *(f"{n} Var" for n in self.vcomp_names)]

    @property
    def cov_names(self) -> list[str]:
        """Names of the rows of the covariance matrix of the parameters."""
        return self.param_names

    @property
    def model_spec(self) -> Any:
        """statsmodels' specification of the fixed part (patsy's DesignInfo); None for arrays."""
        if self.formula is None or self.frame is None:
            return None
        if self.spec is None:
            from sparselmm.compat.statsmodels.formulas import engine_matrix, two_sides

            right = two_sides(self.formula)[1]
            self.spec = engine_matrix(right, self.frame, self.env).spec
        return self.spec

    @property
    def design_info(self) -> Any:
        """The name of `model_spec` in earlier versions of statsmodels."""
        return self.model_spec

    def __getstate__(self) -> dict[str, Any]:
        """Without the caller's variables and what cannot be pickled; both are made again or not needed."""
        return {**self.__dict__, "env": {}, "spec": None}


def column(values: Any, name: str) -> Array:
    """(n,) float64 response.

    Raises
    ------
    DataError
        When it is not one column of numbers.
    """
    plain = np.asarray(values)
    if not plain.size:
        raise DataError(
            f"{name} has no rows; expected at least one. Check the data and what selects from them."
        )
    if plain.ndim == 2 and plain.shape[1] == 1:
        plain = plain[:, 0]
    if plain.ndim != 1:
        raise DataError(f"{name} has shape {plain.shape}; expected one value per row.")
    return _numbers(plain, name)


def table(values: Any, name: str) -> Array:
    """(n, k) float64 matrix; one column may be given flat."""
    plain = np.asarray(values)
    plain = plain[:, None] if plain.ndim == 1 else plain
    if plain.ndim != 2:
        raise DataError(f"{name} has shape {plain.shape}; expected rows and columns.")
    return np.ascontiguousarray(_numbers(plain, name))


def _numbers(plain: Array, name: str) -> Array:
    problem = DataError(
        f"{name} holds values that are no numbers ({plain.dtype}); convert them, or use a formula, which codes "
        "categories."
    )
    if plain.dtype.kind not in "biufOV" or _has_text(plain):
        raise problem
    try:
        return plain.astype(float, copy=False)
    except (TypeError, ValueError):
        raise problem from None


def _has_text(plain: Array) -> bool:
    kinds = ("string", "bytes", "mixed-integer")
    return plain.dtype == object and pd.api.types.infer_dtype(plain.reshape(-1)) in kinds


def array_names(values: Any, X: Array) -> list[str]:
    """Names of the columns of exog: the DataFrame's, or const, x1, x2 and so on."""
    if isinstance(values, pd.DataFrame):
        return [str(name) for name in values.columns]
    if isinstance(values, pd.Series):
        return [str(values.name if values.name is not None else "x1")]
    k = X.shape[1]
    constant = np.flatnonzero(np.ptp(X, axis=0) == 0.0) if len(X) else np.empty(0, int)
    if not len(constant):
        return [f"x{i}" for i in range(1, k + 1)]
    names = [f"x{i}" for i in range(1, k)]
    names.insert(int(constant[0]), "const")
    return names


def re_names(values: Any, k_re: int) -> list[str]:
    """Names of the columns of exog_re."""
    if isinstance(values, pd.DataFrame):
        return [str(name) for name in values.columns]
    if isinstance(values, pd.Series) and values.name is not None:
        return [str(values.name)]
    return [f"x_re{i}" for i in range(1, k_re + 1)]


def covariance_names(names: Sequence[str]) -> list[str]:
    """Names of the lower triangle of cov_re, row by row."""
    out = []
    for i, row in enumerate(names):
        out += [f"{earlier} x {row} Cov" for earlier in names[:i]]
        out.append(f"{row} Var")
    return out


def complete_rows(arrays: Mapping[str, Any], missing: str) -> Array | None:
    """Rows to keep, or None for all.

    Parameters
    ----------
    arrays : mapping
        Name to array of shape (n,) or (n, k).
    missing : str
        ``"none"`` and ``"raise"`` refuse missing values, ``"drop"`` leaves their rows out.

    Raises
    ------
    DataError
    """
    if missing not in MISSING:
        raise DataError(f"missing={missing!r}; expected one of {', '.join(map(repr, MISSING))}.")
    found = {}
    for name, values in arrays.items():
        mask = None if values is None else _missing(values)
        if mask is not None and mask.any():
            found[name] = mask
    if not found:
        return None
    if missing != "drop":
        counts = ", ".join(f"{name} in {mask.sum()} rows" for name, mask in found.items())
        raise DataError(
            f"Missing or infinite values: {counts}; expected none with missing={missing!r}. Pass "
            "missing='drop' to leave these rows out."
        )
    return np.flatnonzero(~np.any(np.column_stack(list(found.values())), axis=1))


def _missing(values: Any) -> Array | None:
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return np.asarray(pd.isna(values))
    plain = np.asarray(values)
    if plain.dtype.kind == "f":
        if np.isfinite(plain.sum()):
            return None
        mask = ~np.isfinite(plain)
    elif plain.dtype.kind in "iub":
        return None
    else:
        mask = np.asarray(pd.isna(plain))
    return np.asarray(np.any(np.reshape(mask, (len(plain), -1)), axis=1))
