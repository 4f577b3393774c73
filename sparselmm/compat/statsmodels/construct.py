"""From formulas and a table to the arguments of `MixedLM`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels import formulas
from sparselmm.compat.statsmodels.components import CodedSpec
from sparselmm.compat.statsmodels.data import ModelData, complete_rows, covariance_names
from sparselmm.compat.statsmodels.groups import code_groups, group_values
from sparselmm.compat.statsmodels.vc_formula import formula_components
from sparselmm.errors import DataError, FormulaError


def caller_variables(eval_env: Any, depth: int) -> Mapping[str, Any]:
    """Variables that formulas may use beside the columns.

    Parameters
    ----------
    eval_env : None, int, mapping or patsy's EvalEnvironment
        None: those of the caller; a number: of the frame so many levels above; -1: none.
    depth : int
        Frames between the caller and this function.
    """
    if isinstance(eval_env, Mapping):
        return eval_env
    if hasattr(eval_env, "_namespaces"):
        merged: dict[str, Any] = {}
        for namespace in reversed(list(eval_env._namespaces)):
            merged.update(namespace)
        return merged
    if eval_env is not None and int(eval_env) < 0:
        return {}
    frame = sys._getframe(depth + (0 if eval_env is None else int(eval_env)))
    return {**frame.f_globals, **frame.f_locals}


def open_data(data: Any) -> pd.DataFrame:
    """Any table as a pandas frame."""
    if isinstance(data, pd.DataFrame):
        return data
    if hasattr(data, "to_pandas"):
        return data.to_pandas()
    return pd.DataFrame(data)


def choose_subset(subset: Any, data: pd.DataFrame) -> Array | None:
    """Positions of a subset given by booleans, labels of the index, or positions; None for all.

    Raises
    ------
    DataError
        For labels that are not in the index.
    """
    if subset is None:
        return None
    chosen = np.asarray(subset)
    if chosen.dtype == bool:
        if chosen.shape != (len(data),):
            raise DataError(
                f"subset has {len(chosen)} booleans; expected one per row ({len(data)})."
            )
        return np.flatnonzero(chosen)
    positions = data.index.get_indexer_for(pd.Index(chosen))
    if (positions < 0).any():
        absent = chosen[np.flatnonzero(positions < 0)[0]] if len(positions) == len(chosen) else "?"
        raise DataError(
            f"subset holds {absent!r}, which is no label of the data's index; expected booleans, one per row, "
            "or labels of the index."
        )
    return positions


def formula_arguments(
    formula: str,
    data: Any,
    groups: Any,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    *,
    subset: Any,
    use_sparse: bool,
    missing: str,
    env: Mapping[str, Any],
) -> tuple[dict[str, Any], ModelData]:
    """Arguments of `MixedLM` and the names to go with them."""
    texts = [str(formula), re_formula or "", *(vc_formula or {}).values()]
    for text in texts:
        formulas.refuse_bars(text)
    words = set(re.findall(r"\w+", " ".join(texts)))
    env = {name: value for name, value in env.items() if name in words}
    frame = open_data(data)
    group_name, labels = _group_labels(groups, frame)
    rows = choose_subset(subset, frame)
    if rows is not None:
        frame, labels = frame.iloc[rows], labels[rows]
    used = _used_columns(frame, words, texts)
    rows = complete_rows({**{str(c): frame[c] for c in used}, "groups": labels}, missing)
    if rows is not None:
        frame, labels = frame.iloc[rows], labels[rows]

    left, right = formulas.two_sides(formula)
    y = formulas.response(left, frame, env)
    fixed = formulas.matrix(right, frame, env)
    re_matrix, names = _random_part(re_formula, frame, env, group_name, vc_formula is None)
    spec = None
    if vc_formula is not None:
        coded = code_groups(labels)
        spec = CodedSpec(formula_components(vc_formula, frame, coded, env), coded, use_sparse)
    arguments = {"endog": y, "exog": fixed.values, "groups": labels}
    arguments |= {"exog_re": re_matrix, "exog_vc": spec}
    described = ModelData(
        endog=pd.Series(y, frame.index, name=left, copy=False),
        exog=pd.DataFrame(fixed.values, frame.index, fixed.names, copy=False),
        ynames=left,
        xnames=list(fixed.names),
        exog_re_names=names,
        exog_re_names_full=covariance_names(names),
        vcomp_names=[] if spec is None else list(spec.names),
        labelled=True,
        row_labels=frame.index,
        frame=frame,
        formula=formula,
        env=env,
        spec=fixed.spec,
    )
    return arguments, described


def _group_labels(groups: Any, frame: pd.DataFrame) -> tuple[str, Any]:
    if isinstance(groups, str):
        if groups not in frame.columns:
            raise DataError(
                f"groups='{groups}' is no column of the data; expected one of {list(frame.columns)[:20]}, or "
                "an array with a label per row."
            )
        return groups, group_values(frame[groups])
    labels = group_values(groups)
    if labels.shape != (len(frame),):
        raise DataError(
            f"groups has shape {labels.shape}; expected one label for each of {len(frame)} rows."
        )
    return "Group", labels


def _random_part(
    re_formula: str | None,
    frame: pd.DataFrame,
    env: Mapping[str, Any],
    group_name: str,
    default: bool,
) -> tuple[Array | None, list[str]]:
    if re_formula is None:
        return (np.ones((len(frame), 1)), [group_name]) if default else (None, [])
    found = formulas.matrix(re_formula, frame, env)
    if not found.names:
        raise FormulaError(
            f"re_formula `{re_formula}` has no column; expected for example '1' or '~x'. Leave it out, and "
            "give a vc_formula, for a model of variance components alone."
        )
    return found.values, [name.replace("Intercept", group_name) for name in found.names]


def _used_columns(frame: pd.DataFrame, words: set[str], texts: Sequence[str]) -> list[str]:
    """Columns that the formulas mention, in the order of the frame."""
    quoted = re.findall(r"`(.*?)`|Q\(\s*[\"'](.*?)[\"']\s*\)", " ".join(texts))
    mentioned = words.union(*quoted) if quoted else words
    return [name for name in frame.columns if name in mentioned]
