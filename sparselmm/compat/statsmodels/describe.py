"""What is settled when a `MixedLM` is made from arrays: lengths, groups, components, names."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels.components import CodedSpec, spec_from_dict
from sparselmm.compat.statsmodels.data import (
    ModelData,
    array_names,
    covariance_names,
    re_names,
    table,
)
from sparselmm.compat.statsmodels.groups import Groups, code_groups
from sparselmm.compat.statsmodels.messages import warn_old_components
from sparselmm.compat.statsmodels.params import VCSpec
from sparselmm.errors import DataError


def same_length(y: Array, **others: Any) -> None:
    """Refuse arrays with another number of rows than the response.

    Raises
    ------
    DataError
    """
    for name, values in others.items():
        if values is not None and len(values) != len(y):
            raise DataError(
                f"{name} has {len(values)} rows; expected {len(y)} as endog; give one row per response."
            )


def same_index(endog: Any, exog: Any) -> None:
    """Refuse pandas objects whose rows are in another order than the response's.

    Raises
    ------
    DataError
    """
    kinds = (pd.Series, pd.DataFrame)
    if isinstance(endog, kinds) and isinstance(exog, kinds) and not endog.index.equals(exog.index):
        raise DataError(
            "The indices for endog and exog are not aligned; expected the same labels in the same order. Write "
            "exog.loc[endog.index], or pass arrays to go by position."
        )


def groups_of(exog_vc: Any, labels: Array) -> Groups:
    """The groups, coded once."""
    if isinstance(exog_vc, CodedSpec) and len(exog_vc.groups.codes) == len(labels):
        return exog_vc.groups
    return code_groups(labels)


def vc_spec(exog_vc: Any, groups: Groups) -> VCSpec:
    """Components as given, those of the older dictionaries converted."""
    if exog_vc is None:
        return VCSpec([], [], [])
    if isinstance(exog_vc, dict):
        warn_old_components()
        return spec_from_dict(exog_vc, groups)
    if not all(hasattr(exog_vc, name) for name in ("names", "colnames", "mats")):
        raise TypeError(
            f"Found exog_vc of type {type(exog_vc).__name__}; expected a VCSpec of names, colnames and mats. "
            "Give VCSpec(names, colnames, mats), or a vc_formula through from_formula."
        )
    _check_spec(exog_vc)
    return exog_vc


def _check_spec(spec: VCSpec) -> None:
    """Refuse components without matrices or names of their own."""
    names = list(spec.names)
    if not len(names) == len(spec.colnames) == len(spec.mats):
        raise DataError(
            f"exog_vc has {len(names)} names, {len(spec.colnames)} lists of column names and {len(spec.mats)} lists "
            "of matrices; expected one of each for every component."
        )
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(
            f"exog_vc has two components named '{twice}'; expected different names, by which results tell them "
            "apart. Rename one."
        )


def describe(
    endog: Any,
    exog: Any,
    X: Array,
    names: list[str],
    default: bool,
    spec: VCSpec,
    rows: Array | None,
) -> ModelData:
    """Names of a model made from arrays: those of pandas objects, else statsmodels' defaults."""
    pandas = isinstance(endog, (pd.Series, pd.DataFrame)) or isinstance(
        exog, (pd.Series, pd.DataFrame)
    )
    source = exog if isinstance(exog, (pd.Series, pd.DataFrame)) else endog
    index = source.index if pandas else None
    if index is not None and rows is not None:
        index = index[rows]
    name = getattr(endog, "name", None)
    if isinstance(endog, pd.DataFrame):
        name = endog.columns[0]
    return ModelData(
        orig_endog=endog,
        orig_exog=exog,
        ynames="y" if name is None else str(name),
        xnames=array_names(exog, X),
        exog_re_names=names,
        exog_re_names_full=list(names) if default else covariance_names(names),
        vcomp_names=list(spec.names),
        labelled=pandas,
        row_labels=index,
    )


def with_matrices(
    arguments: dict[str, Any], described: ModelData, exog_re: Any, exog_vc: Any
) -> dict[str, Any]:
    """Arguments of a model whose fixed part is a formula and whose random part is given as matrices."""
    Q = None if exog_re is None else table(exog_re, "exog_re")
    spec = vc_spec(exog_vc, groups_of(exog_vc, arguments["groups"]))
    described.exog_re_names = re_names(exog_re, 0 if Q is None else Q.shape[1])
    described.exog_re_names_full = covariance_names(described.exog_re_names)
    described.vcomp_names = list(spec.names)
    return {**arguments, "exog_re": Q, "exog_vc": spec}
