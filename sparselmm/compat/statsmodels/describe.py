"""What is settled when a `MixedLM` is made from arrays: lengths, groups, components, names."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels.components import CodedSpec, spec_from_dict
from sparselmm.compat.statsmodels.data import ModelData, array_names, covariance_names, re_names
from sparselmm.compat.statsmodels.groups import Groups, code_groups
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
        warnings.warn(
            "Using deprecated variance components format: pass exog_vc=VCSpec(names, colnames, mats) "
            "rather than a dictionary.",
            FutureWarning,
            stacklevel=3,
        )
        return spec_from_dict(exog_vc, groups)
    return exog_vc


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
        endog=endog,
        exog=exog,
        ynames="y" if name is None else str(name),
        xnames=array_names(exog, X),
        exog_re_names=names,
        exog_re_names_full=list(names) if default else covariance_names(names),
        vcomp_names=list(spec.names),
        labelled=pandas,
        row_labels=index,
    )


def renamed(described: ModelData, given: dict[str, Any]) -> ModelData:
    """Names of a model that is made again from its matrices."""
    exog_re, spec = given["exog_re"], given["exog_vc"]
    described.exog_re_names = re_names(exog_re, 0 if exog_re is None else np.shape(exog_re)[1])
    described.exog_re_names_full = covariance_names(described.exog_re_names)
    described.vcomp_names = [] if spec is None else list(spec.names)
    return described
