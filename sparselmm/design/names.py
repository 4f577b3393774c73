"""Which columns of the data a sum or an expression needs.

The answer of formulaic itself fails for stateful transforms of columns (``bs(x)``), so the
syntax tree is walked here.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from typing import TypeGuard

import numpy as np

from sparselmm.data import Table
from sparselmm.data.frame import unknown_column
from sparselmm.design.materialise import readable
from sparselmm.errors import DataError, FormulaError
from sparselmm.formula import Predictor
from sparselmm.formula.locate import point_at

_AS_IN_R = re.compile(r"(?<![\w.])as\.\w+(?=\()")
_IN_PYTHON = {
    "factor": "`C`",
    "ordered": "`C`",
    "ns": "`cr`",
    "ifelse": "`np.where`",
    "offset": "`+ offset(...)` as a term of its own",
}


def variables(part: Predictor, table: Table, formula: str) -> tuple[str, ...]:
    """Columns that a sum needs, in the order of first use.

    Parameters
    ----------
    part
        The sum.
    table
        The data.
    formula
        All of the formula, which messages point into.

    Raises
    ------
    FormulaError
        When the sum cannot be read, calls a function that is not there, or holds `^` for a power.
    DataError
        When a column is not in the data.
    """
    return known(part.names if part.plain else _of_terms(part.text, table, formula), table, formula)


def expression_variables(expression: str, table: Table, formula: str) -> tuple[str, ...]:
    """Columns that a Python expression needs; arguments and errors as `variables`."""
    _refuse_conversion(expression, formula)
    found = tuple(dict.fromkeys(_of_expression(expression, table, formula)))
    return known(found, table, formula)


def known(names: tuple[str, ...], table: Table, formula: str) -> tuple[str, ...]:
    """The same names.

    Raises
    ------
    DataError
        Pointing at the first one that is no column of the data.
    """
    for name in names:
        if name not in table and name in ("TRUE", "FALSE"):
            message = f"Found `{name}`, which is `{name.title()}` in Python; write that."
            raise FormulaError(point_at(message, formula, name))
        if name not in table:
            raise DataError(point_at(unknown_column(name, table.names), formula, name))
    return names


def _of_terms(text: str, table: Table, formula: str) -> tuple[str, ...]:
    from formulaic import Formula

    _refuse_conversion(text, formula)
    with readable(text):
        terms = Formula(text)
    found: list[str] = []
    for factor in (factor for term in terms for factor in term.factors):
        if factor.eval_method.value == "lookup":
            found.append(factor.expr)
        elif factor.eval_method.value == "python":
            found.extend(_of_expression(factor.expr, table, formula))
    return tuple(dict.fromkeys(found))


def _of_expression(expression: str, table: Table, formula: str) -> Iterator[str]:
    from formulaic.transforms import TRANSFORMS

    quoted: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        quoted.append(match.group(1))
        return f"_quoted_{len(quoted) - 1}_"

    tree = _parsed(re.sub(r"`([^`]*)`", stand_in, expression), expression)
    if any(isinstance(node, ast.BitXor) for node in ast.walk(tree)):
        raise FormulaError(point_at(_exclusive_or(expression), formula, "^"))
    elsewhere = {*TRANSFORMS, *dir(builtins)}
    dotted = {id(node.value): ast.unparse(node) for node in ast.walk(tree) if _is_dotted(node)}
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Q":
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))
        if not isinstance(node, ast.Name):
            continue
        name = quoted[int(node.id[8:-1])] if node.id.startswith("_quoted_") else node.id
        if id(node) in functions and name not in table:
            if name not in elsewhere:
                message = _unknown_function(name, expression)
                raise FormulaError(point_at(message, formula, name))
        elif dotted.get(id(node), "") in table:
            yield dotted[id(node)]
        elif name in table or name not in elsewhere:
            yield name


def _parsed(text: str, expression: str) -> ast.Expression:
    try:
        return ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise FormulaError(
            f"`{expression}` is no Python expression ({error.msg}); correct it."
        ) from None


def _is_dotted(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)


def _refuse_conversion(text: str, formula: str) -> None:
    """Refuse R's ``as.factor(x)``, which Python cannot even read."""
    found = _AS_IN_R.search(text)
    if found:
        message = (
            f"Found `{found.group()}`, a conversion of R; write `C(x)` for a factor, or convert the "
            "column in the data first."
        )
        raise FormulaError(point_at(message, formula, found.group()))


def _exclusive_or(expression: str) -> str:
    return (
        f"Found `^` in `{expression}`, which Python reads as 'exclusive or'; "
        "write `**` for a power."
    )


def _unknown_function(name: str, expression: str) -> str:
    instead = _IN_PYTHON.get(name) or (f"`np.{name}`" if hasattr(np, name) else "")
    if instead:
        return (
            f"`{expression}` calls '{name}', which is no transform of formulaic; write {instead}."
        )
    return (
        f"`{expression}` calls '{name}', which is neither a transform of formulaic (bs, cr, poly, "
        "scale, center, log, C, ...) nor in numpy (`np.`); compute the column in the data first."
    )
