"""The right side of a bar: columns joined by ``:``, ``/``, ``*`` and ``+``."""

from __future__ import annotations

from collections.abc import Sequence

from sparselmm.errors import FormulaError, pointed
from sparselmm.formula.tokens import Token

Grouping = tuple[str, ...]


def parse_groupings(tokens: Sequence[Token], formula: str) -> tuple[Grouping, ...]:
    """Expand what stands right of a bar into grouping factors, in the order written.

    ``a/b`` is ``a + a:b``, ``a*b`` is ``a + b + a:b``. Each factor is the tuple of its columns.

    Raises
    ------
    FormulaError
        For anything but column names and these operators.

    Examples
    --------
    >>> from sparselmm.formula.tokens import tokenize
    >>> parse_groupings(tokenize("batch/cask"), "batch/cask")
    (('batch',), ('batch', 'cask'))
    """
    rest = list(reversed(tokens))
    found = _sum(rest, formula)
    if rest:
        _unexpected(rest[-1], formula)
    return tuple(dict.fromkeys(found))


def _sum(rest: list[Token], formula: str) -> list[Grouping]:
    found = _product(rest, formula)
    while rest and rest[-1].text == "+":
        rest.pop()
        found = found + _product(rest, formula)
    return found


def _product(rest: list[Token], formula: str) -> list[Grouping]:
    found = _interaction(rest, formula)
    while rest and rest[-1].text in ("*", "/"):
        operator = rest.pop().text
        right = _interaction(rest, formula)
        if operator == "*":
            found = found + right + _cross(found, right)
        else:
            parent = tuple(dict.fromkeys(name for grouping in found for name in grouping))
            found = found + _cross([parent], right)
    return found


def _interaction(rest: list[Token], formula: str) -> list[Grouping]:
    found = _atom(rest, formula)
    while rest and rest[-1].text == ":":
        rest.pop()
        found = _cross(found, _atom(rest, formula))
    return found


def _atom(rest: list[Token], formula: str) -> list[Grouping]:
    if not rest:
        message = "The grouping factor is incomplete; name a column after the operator."
        raise FormulaError(pointed(message, formula, len(formula)))
    token = rest.pop()
    if token.kind == "name":
        return [(token.text,)]
    if token.text == "(":
        found = _sum(rest, formula)
        if not rest or rest[-1].text != ")":
            _unexpected(rest[-1] if rest else token, formula)
        rest.pop()
        return found
    return _unexpected(token, formula)


def _cross(left: Sequence[Grouping], right: Sequence[Grouping]) -> list[Grouping]:
    return [tuple(dict.fromkeys(a + b)) for a in left for b in right]


def _unexpected(token: Token, formula: str) -> list[Grouping]:
    raise FormulaError(
        pointed(
            f"Right of a bar only column names joined by `:`, `/`, `*`, `+` can stand, "
            f"found `{token.text}`; compute the grouping as a column of the data first.",
            formula,
            token.start,
            token.stop,
        )
    )
