"""From formulas and a table to the arguments of `MixedLM`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
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


def choose_subset(subset: Any, data: pd.DataFrame) -> Array | None:
    """Positions of a subset given by booleans or labels of the index; None for all.

    Booleans in a Series are aligned by its labels, as ``data.loc[subset]`` does.

    Raises
    ------
    TypeError
        When it is no list of values.
    DataError
        For labels that are not in the index, another number of booleans, and when no row is left.
    """
    if subset is None:
        return None
    chosen = np.asarray(subset)
    if chosen.ndim != 1 or isinstance(subset, (str, bytes, Mapping)):
        raise TypeError(
            f"Found subset of type {type(subset).__name__}; expected booleans, one per row, or labels of the "
            "index. Write a condition as subset=data['x'] > 0, or pass data.query('x > 0') as data."
        )
    if (
        chosen.dtype != bool
        and len(chosen)
        and pd.api.types.infer_dtype(chosen, skipna=False) == "boolean"
    ):
        chosen = chosen.astype(bool)
    by_row = chosen.dtype == bool
    rows = np.flatnonzero(_aligned(subset, chosen, data)) if by_row else _labelled(chosen, data)
    if not len(rows):
        raise DataError(
            f"subset selects none of {len(data)} rows; expected at least one. Leave it out for all rows."
        )
    return rows


def _aligned(subset: Any, chosen: Array, data: pd.DataFrame) -> Array:
    """Booleans in the order of the rows."""
    if isinstance(subset, pd.Series) and not subset.index.equals(data.index):
        at = subset.index.get_indexer_for(data.index) if subset.index.is_unique else [-1]
        if len(at) == len(data) and (np.asarray(at) >= 0).all():
            return chosen[at]
        if len(chosen) == len(data):
            raise DataError(
                "subset is a Series whose labels are not those of the data's index; expected one boolean for "
                "each label. Pass subset.to_numpy() to go by position."
            )
    if chosen.shape != (len(data),):
        raise DataError(f"subset has {len(chosen)} booleans; expected one per row ({len(data)}).")
    return chosen


def _labelled(chosen: Array, data: pd.DataFrame) -> Array:
    """Positions of labels of the index."""
    labels = pd.Index(chosen)
    absent = ~labels.isin(data.index)
    if absent.any():
        raise DataError(
            f"subset holds {chosen[absent].tolist()[0]!r}, which is no label of the data's index; expected "
            "booleans, one per row, or labels of the index."
        )
    return data.index.get_indexer_for(labels)


def check_formulas(re_formula: Any, vc_formula: Any) -> None:
    """Refuse what is no formula and no dictionary of formulas.

    Raises
    ------
    TypeError
    """
    if re_formula is not None and not isinstance(re_formula, str):
        raise TypeError(
            f"Found re_formula={re_formula!r}; expected a text. Write re_formula='~x' for slopes of x, "
            "re_formula='1' for intercepts."
        )
    if vc_formula is None:
        return
    if not isinstance(vc_formula, Mapping):
        raise TypeError(
            f"Found vc_formula={vc_formula!r}; expected a dictionary of a formula for each component. Write "
            "vc_formula={'h': '0 + C(h)'}."
        )
    for name, text in vc_formula.items():
        if not (isinstance(name, str) and isinstance(text, str)):
            raise TypeError(
                f"Found the entry {name!r}: {text!r} in vc_formula; expected a name and a formula, both texts. "
                "Write {'h': '0 + C(h)'}."
            )


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
    check_formulas(re_formula, vc_formula)
    vc_formula = vc_formula or None
    texts = [str(formula), re_formula or "", *(vc_formula or {}).values()]
    for text in texts:
        formulas.refuse_bars(text)
    env = _mentioned(env, " ".join(texts))
    frame = formulas.open_data(data)
    _some_rows(frame, formula)
    group_name, labels = _group_labels(groups, frame)
    rows = choose_subset(subset, frame)
    if rows is not None:
        frame, labels = frame.iloc[rows], labels[rows]
    used = formulas.used_columns(frame, texts)
    rows = complete_rows({**{str(c): frame[c] for c in used}, "groups": labels}, missing)
    if rows is not None:
        frame, labels = frame.iloc[rows], labels[rows]

    _some_rows(frame, formula)
    left, right = formulas.two_sides(formula)
    y, left = formulas.response(left, frame, env)
    fixed = formulas.matrix(right, frame, env)
    re_matrix, names = _random_part(re_formula, frame, env, group_name, vc_formula is None)
    spec = None
    if vc_formula is not None:
        coded = code_groups(labels)
        spec = CodedSpec(formula_components(vc_formula, frame, coded, env), coded, use_sparse)
    arguments = {"endog": y, "exog": fixed.values, "groups": labels}
    arguments |= {"exog_re": re_matrix, "exog_vc": spec}
    described = ModelData(
        orig_endog=pd.Series(y, frame.index, name=left, copy=False),
        orig_exog=pd.DataFrame(fixed.values, frame.index, fixed.names, copy=False),
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


def _mentioned(env: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Variables that formulas name; one that is called and is no function (a matrix C) leaves C() to the formula."""
    words, called = set(re.findall(r"\w+", text)), set(re.findall(r"(\w+)\s*\(", text))
    return {
        name: value
        for name, value in env.items()
        if name in words and (callable(value) or name not in called)
    }


def _some_rows(frame: pd.DataFrame, formula: str) -> None:
    if not len(frame):
        raise DataError(
            f"Found no row to fit `{formula}` to; expected at least one. Check the data and which rows have missing "
            "values."
        )


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
    if not found.names and not default:
        return None, []
    if not found.names:
        raise FormulaError(
            f"re_formula `{re_formula}` has no column and there is no vc_formula; expected for example '1' or "
            "'~x'. Give a vc_formula for a model of variance components alone."
        )
    return found.values, [name.replace("Intercept", group_name) for name in found.names]
