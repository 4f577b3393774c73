"""Expand the bars into terms: ``||``, nesting, and several grouping factors behind one bar."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sparselmm.errors import FormulaError, pointed
from sparselmm.formula.bars import Bar, Predictor, cut_bars
from sparselmm.formula.grouping import Grouping, parse_groupings
from sparselmm.formula.tokens import Token


@dataclass(frozen=True, slots=True)
class ParsedTerm:
    """One random-effects term as written, before any data are seen.

    Attributes
    ----------
    left
        The sum left of the bar.
    grouping
        Columns of the grouping factor: one, or several for an interaction.
    start, stop
        Where the bar stands in the formula, for messages.
    """

    left: Predictor
    grouping: Grouping
    start: int
    stop: int

    @property
    def label(self) -> str:
        """Canonical text, ``"Days | Subject"``."""
        return f"{self.left.text} | {self.group}"

    @property
    def group(self) -> str:
        """Name of the grouping factor, ``"a:b"`` for an interaction."""
        return ":".join(self.grouping)


@dataclass(frozen=True, slots=True)
class ParsedFormula:
    """What was written, in the parts that data are needed for.

    Attributes
    ----------
    text
        The formula.
    response
        Column name, or Python expression when `response_is_name` is False.
    fixed
        The fixed part; ``"1"`` when only random terms were written.
    offsets
        Arguments of the ``offset()`` terms.
    random
        Random-effects terms in the order written, after expansion.
    """

    text: str
    response: str
    response_is_name: bool
    fixed: Predictor
    offsets: tuple[str, ...]
    random: tuple[ParsedTerm, ...]


def parse_formula(formula: str) -> ParsedFormula:
    """Read a formula in lme4's syntax.

    Raises
    ------
    FormulaError
        With the formula and a caret under the character that is wrong.

    Examples
    --------
    >>> parsed = parse_formula("y ~ x + (x || g) + (1 | a/b)")
    >>> [term.label for term in parsed.random]
    ['1 | g', '0 + x | g', '1 | a', '1 | a:b']
    """
    if not isinstance(formula, str):
        found = type(formula).__name__
        raise FormulaError(f"Found a formula of type {found}, expected text; write it as a string.")
    return _parse(formula)


@lru_cache(maxsize=256)
def _parse(formula: str) -> ParsedFormula:
    cut = cut_bars(formula)
    response, is_name = _response(cut.response, formula)
    predictors = {
        name for part in (cut.fixed, *(bar.left for bar in cut.bars)) for name in part.names
    }
    if is_name and response in predictors:
        message = f"The response '{response}' is a predictor too; remove it from the right side."
        raise FormulaError(pointed(message, formula, cut.response[0].start))
    random = tuple(term for bar in cut.bars for term in _expand(bar, formula))
    _check_duplicates(random, formula)
    return ParsedFormula(formula, response, is_name, cut.fixed, cut.offsets, random)


def _response(tokens: tuple[Token, ...], formula: str) -> tuple[str, bool]:
    token = tokens[0]
    if len(tokens) == 1 and token.kind in ("name", "python"):
        return token.text, token.kind == "name"
    message = (
        "One response is expected left of `~`, a column or one function call; "
        "write arithmetic in braces, `{y / 100} ~ ...`."
    )
    raise FormulaError(pointed(message, formula, token.start, tokens[-1].stop))


def _expand(bar: Bar, formula: str) -> Iterator[ParsedTerm]:
    lefts = tuple(_split_double(bar.left, formula, bar)) if bar.double else (bar.left,)
    for grouping in parse_groupings(bar.right, formula):
        for left in lefts:
            yield ParsedTerm(left, grouping, bar.start, bar.stop)


def _split_double(left: Predictor, formula: str, bar: Bar) -> Iterator[Predictor]:
    """Give the intercept and every term left of ``||`` a predictor of its own."""
    if left.plain:
        intercept, names = left.intercept, left.names
    else:
        intercept, names = _formulaic_terms(left, formula, bar)
    if intercept:
        yield Predictor("1", plain=True)
    for name in names:
        plain = left.plain
        text = quoted(name) if plain else name
        yield Predictor(f"0 + {text}", plain, False, (name,) if plain else ())


def _formulaic_terms(left: Predictor, formula: str, bar: Bar) -> tuple[bool, tuple[str, ...]]:
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    try:
        terms = list(Formula(left.text))
    except (FormulaicError, SyntaxError) as error:
        message = f"The left side of the bar cannot be read: {str(error).splitlines()[0]}"
        raise FormulaError(pointed(message, formula, bar.start, bar.stop)) from None
    texts = [":".join(_factor_text(factor) for factor in term.factors) for term in terms]
    return "1" in texts, tuple(text for text in texts if text != "1")


def _factor_text(factor: Any) -> str:
    if factor.eval_method.value == "lookup":
        return quoted(factor.expr)
    return factor.expr if factor.expr.isdigit() or _is_call(factor.expr) else f"{{{factor.expr}}}"


def _is_call(expression: str) -> bool:
    try:
        return isinstance(ast.parse(expression, mode="eval").body, ast.Call)
    except SyntaxError:
        return False


def quoted(name: str) -> str:
    """Column name as a formula needs it, in backticks unless it is a plain identifier."""
    return name if name.replace(".", "_").isidentifier() else f"`{name}`"


def _check_duplicates(random: tuple[ParsedTerm, ...], formula: str) -> None:
    seen = set()
    for term in random:
        left = term.left
        columns = (left.intercept, frozenset(left.names)) if left.plain else left.text
        key = (frozenset(term.grouping), columns)
        if key in seen:
            message = f"The random-effects term ({term.label}) is there twice; remove one."
            raise FormulaError(pointed(message, formula, term.start, term.stop))
        seen.add(key)
