"""Formulas to matrices, in the column order of statsmodels (patsy's).

Three ways lead to the same matrix: sums of numeric columns are read off the data; everything else goes through
statsmodels' own formula manager where it is installed (so names, contrasts and transforms are exactly its own),
and through formulaic, with its terms put in patsy's order, where it is not.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import DataError, FormulaError, SparseLMMError

PLAIN = re.compile(r"^\s*[+-]?\s*\w+(\s*[+-]\s*\w+)*\s*$")


class Matrix(NamedTuple):
    """A matrix with the names of its columns and what repeats it on new data (None: plain columns)."""

    values: Array
    names: list[str]
    spec: Any


def refuse_bars(formula: str) -> None:
    """Refuse lme4's bars, which patsy would read as bitwise or.

    Raises
    ------
    FormulaError
    """
    if "|" in re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", "", str(formula)):
        raise FormulaError(
            f"Found a bar in `{formula}`; in MixedLM random effects stand outside of the formula. Write "
            "groups='g', re_formula='~x' for (x | g), or use sparselmm.lmm, which reads lme4's formulas."
        )


def open_data(data: Any) -> pd.DataFrame:
    """Any table as a pandas frame; a dictionary of single values is one row."""
    if isinstance(data, pd.DataFrame):
        return data
    if hasattr(data, "to_pandas"):
        return data.to_pandas()
    if isinstance(data, Mapping) and data and all(np.ndim(v) == 0 for v in data.values()):
        return pd.DataFrame([dict(data)])
    return pd.DataFrame(data)


def used_columns(frame: pd.DataFrame, texts: Sequence[str]) -> list[str]:
    """Columns that formulas mention, in the order of the frame."""
    whole = " ".join(texts)
    mentioned = set(re.findall(r"\w+", whole))
    mentioned = mentioned.union(*re.findall(r"`(.*?)`|Q\(\s*[\"'](.*?)[\"']\s*\)", whole))
    return [name for name in frame.columns if name in mentioned]


def two_sides(formula: str) -> tuple[str, str]:
    """Response and right side.

    Raises
    ------
    FormulaError
        When there is no response.
    """
    left, tilde, right = str(formula).partition("~")
    if not tilde or not left.strip() or not right.strip():
        raise FormulaError(f"Found `{formula}`; expected a response and predictors, `y ~ x`.")
    return left.strip(), right.strip()


def response(text: str, data: pd.DataFrame, env: Mapping[str, Any]) -> tuple[Array, str]:
    """(n,) values of the left side, and its name."""
    if text in data.columns and data[text].dtype.kind in "iuf":
        return data[text].to_numpy(dtype=float), text
    values, names, _ = engine_matrix(f"0 + {text}", data, env)
    if values.shape[1] != 1:
        raise DataError(
            f"`{text}` gives {values.shape[1]} columns; expected one numeric response. Convert it first, or write "
            "arithmetic in I(), as in I(y1 + y2)."
        )
    return values[:, 0], names[0]


def matrix(right: str, data: pd.DataFrame, env: Mapping[str, Any]) -> Matrix:
    """Columns of the right side of a formula.

    Parameters
    ----------
    right : str
        ``"x + C(a)"``; a leading ``~`` is allowed.
    data : DataFrame
        Without missing values.
    env : mapping
        Names beyond the columns: the caller's variables.
    """
    text = right.strip().removeprefix("~").strip()
    plain = plain_columns(text, data)
    if plain is None:
        return engine_matrix(text, data, env)
    intercept, names = plain
    values = np.empty((len(data), intercept + len(names)))
    values[:, :intercept] = 1.0
    for i, name in enumerate(names, intercept):
        values[:, i] = data[name].to_numpy()
    return Matrix(values, ["Intercept"] * intercept + names, None)


def plain_columns(text: str, data: pd.DataFrame) -> tuple[int, list[str]] | None:
    """Intercept (0 or 1) and numeric columns of a sum made of nothing else, else None."""
    if not PLAIN.match(text):
        return None
    intercept, names = 1, []
    for sign, piece in re.findall(r"([+-]?)\s*(\w+)", text):
        if piece in ("0", "1"):
            intercept = int((piece == "1") != (sign == "-"))
        elif sign == "-" or piece not in data.columns or data[piece].dtype.kind not in "iuf":
            return None
        elif piece not in names:
            names.append(piece)
    return (intercept, names) if intercept or names else None


def engine_matrix(text: str, data: Any, env: Mapping[str, Any]) -> Matrix:
    """Columns of any sum, by statsmodels' formula manager or by formulaic."""
    manager = formula_manager()
    if manager is None:
        return _formulaic_matrix(text, data, env)
    with _engine_errors(text, FormulaError):
        found = manager.get_matrices(text, data, eval_env=dict(env), pandas=True)
    frame = found if isinstance(found, pd.DataFrame) else pd.DataFrame(found)
    if len(frame) != len(data):
        raise DataError(_missing_text(text, len(data) - len(frame)))
    return Matrix(
        np.ascontiguousarray(frame.to_numpy(dtype=float)), list(frame.columns), manager.spec
    )


def formula_manager() -> Any:
    """statsmodels' formula manager, or None where it is not installed."""
    with warnings.catch_warnings():  # on import statsmodels overrides the caller's filters
        try:
            from statsmodels.formula._manager import FormulaManager
        except ImportError:
            return None
    return FormulaManager()


def repeat(
    right: str, spec: Any, columns: tuple[list[str], list[str]], data: Any, env: Mapping[str, Any]
) -> pd.DataFrame:
    """The same columns for new data, NaN in rows with missing values.

    Parameters
    ----------
    right : str
        The right side of the formula.
    spec
        What repeats it; None: plain columns.
    columns : tuple
        Names of the result, and of the columns of the data that the formula reads.
    data : DataFrame, Series, mapping
        A Series is a column of this name, or else a row.
    env : mapping

    Raises
    ------
    DataError
        When a column is not there, or has other levels or another kind.
    """
    names, needed = columns
    frame = _new_frame(data, needed)
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise DataError(
            f"New data have no column '{absent[0]}'; expected {needed}; found {list(frame.columns)}."
        )
    if spec is None:
        values = {
            name: 1.0 if name == "Intercept" else frame[name].to_numpy(dtype=float)
            for name in names
        }
        return pd.DataFrame(values, index=frame.index, columns=pd.Index(names))
    plain = frame.reset_index(drop=True)
    with _engine_errors(right, DataError):
        if hasattr(spec, "get_model_matrix"):
            made = _formulaic_again(spec, plain, env)
        else:
            made = pd.DataFrame(formula_manager().get_matrices(spec, plain, eval_env=dict(env)))
    made = made.reindex(plain.index)
    made.index = frame.index
    return made


def _new_frame(data: Any, needed: Sequence[str]) -> pd.DataFrame:
    if not isinstance(data, pd.Series):
        return open_data(data)
    if data.name in needed:
        return data.to_frame()
    return data.to_frame().T.infer_objects()


@contextmanager
def _engine_errors(text: str, kind: type[SparseLMMError]) -> Iterator[None]:
    """Errors of the engine that evaluates formulas, as ours, on one line."""
    try:
        yield
    except SparseLMMError:
        raise
    except Exception as error:
        text_found = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error).split("\n    ")[0])
        found = " ".join(text_found.split()) or type(error).__name__
        raise kind(
            f"`{text}` cannot be evaluated: {found}; expected columns of the data, of the kinds and levels that "
            "the formula can use. Correct the name, or convert the column."
        ) from error


def _formulaic_again(spec: Any, data: pd.DataFrame, env: Mapping[str, Any]) -> pd.DataFrame:
    """The columns for new data; levels that the model does not know are errors, not the reference level."""
    from formulaic.errors import DataMismatchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", DataMismatchWarning)
        levels = {f for f, (kind, _) in spec.encoder_state.items() if kind.value == "categorical"}
        return pd.DataFrame(
            spec.get_model_matrix(_booleans_as_levels(data, levels), context=_context(env))
        )


def _formulaic_matrix(text: str, data: Any, env: Mapping[str, Any]) -> Matrix:
    from formulaic import Formula, model_matrix

    context = _context(env)
    with _engine_errors(text, FormulaError):
        parsed = Formula(text, _ordering="degree" if "**" in text else "none")
        data = _booleans_as_levels(data, {f.expr for term in parsed for f in term.factors})
        first = model_matrix(parsed, data.head(50), context=context)
        terms = _patsy_order(first.model_spec)
        found = model_matrix(Formula(terms, _ordering="none"), data, context=context)
    frame = pd.DataFrame(found)
    if len(frame) != len(data):
        raise DataError(_missing_text(text, len(data) - len(frame)))
    return Matrix(
        np.ascontiguousarray(frame.to_numpy(dtype=float)), list(frame.columns), found.model_spec
    )


def _context(env: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's names, and what patsy's functions do otherwise than formulaic's of the same name.

    `scale` divides by the root of the mean square; conditions in `I` are categories.
    """
    from formulaic.transforms import TRANSFORMS

    return {"scale": TRANSFORMS["standardize"], "I": _conditions_as_levels, **env}


def _conditions_as_levels(values: Any) -> Any:
    if getattr(getattr(values, "dtype", None), "kind", "") != "b":
        return values
    return pd.Series(
        pd.Categorical(values, categories=[False, True]), getattr(values, "index", None)
    )


def _booleans_as_levels(data: Any, factors: set[str]) -> Any:
    """Boolean columns that are factors of their own as categories, which is what patsy makes of them."""
    names = [name for name in data.columns if name in factors and data[name].dtype.kind == "b"]
    levels = {name: pd.Categorical(data[name], categories=[False, True]) for name in names}
    return data.assign(**levels) if levels else data


def _patsy_order(spec: Any) -> list:
    """Terms without numeric factors first, then by their numeric factors; each by degree."""
    categorical = {
        factor for factor, (kind, _) in spec.encoder_state.items() if kind.value == "categorical"
    }
    seen: list[tuple[str, ...]] = [()]

    def place(term: Any) -> tuple[int, int]:
        numeric = tuple(
            sorted(f.expr for f in term.factors if f.expr not in categorical and f.expr != "1")
        )
        if numeric not in seen:
            seen.append(numeric)
        return seen.index(numeric), term.degree

    return sorted(spec.formula, key=place)


def _missing_text(text: str, count: int) -> str:
    return (
        f"`{text}` is missing in {count} rows; pass missing='drop' to leave such rows out, or drop "
        "them from the data first."
    )
