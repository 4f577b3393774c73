"""Tokens of a formula, each with its place in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sparselmm.errors import FormulaError, pointed

_OPERATOR = re.compile(r"\|\||\*\*|\S")
_PLAIN_TOKEN = re.compile(r"[\w.]+|\|\||\*\*|[-+~|*:/^()]")
_PLAIN_FORMULA = re.compile(r"[\w.\s()+\-~|*:/^]*")
_CALL = re.compile(r"[\w.]\(")
_MARKED = re.compile(r"(.*)\u29db(?:\x1b\[[\d;]*m)?(.*?)(?:\x1b\[0m)?\u29da(.*)", re.DOTALL)
_CLOSING = {"`": "`", "{": "}", "%": "%"}


class Token(NamedTuple):
    """One token; ``formula[start:stop]`` is its source, quotes and braces included."""

    text: str
    kind: str  # name, value, python, operator or context (a parenthesis)
    start: int
    stop: int


def tokenize(formula: str) -> list[Token]:
    """Split a formula into tokens, operators one by one (``||`` and ``**`` are single).

    Raises
    ------
    FormulaError
        When a quote or parenthesis is not closed.
    """
    if _PLAIN_FORMULA.fullmatch(formula) and not _CALL.search(formula):
        tokens = [_plain_token(match) for match in _PLAIN_TOKEN.finditer(formula)]
    else:
        tokens = [part for token in _formulaic(formula) for part in token]
    _check_parentheses(tokens, formula)
    return tokens


def source(formula: str, tokens: Sequence[Token]) -> str:
    """Text of consecutive tokens as written, runs of white space made one blank."""
    return " ".join(formula[tokens[0].start : tokens[-1].stop].split())


def syntax_message(error: Exception) -> str:
    """What formulaic says about a formula, with carets in place of its markers."""
    reason, _, source_text = str(error).partition("\n\n")
    message = f"The formula cannot be read: {reason}"
    match = _MARKED.fullmatch(source_text)
    if match is None:
        return message
    before, inside, after = match.groups()
    return pointed(message, before + inside + after, len(before), len(before + inside))


def _plain_token(match: re.Match[str]) -> Token:
    text = match.group()
    if text in "()":
        kind = "context"
    elif text[0].isalnum() or text[0] in "_.":
        kind = "value" if re.fullmatch(r"[0-9.]+", text) else "name"
    else:
        kind = "operator"
    return Token(text, kind, match.start(), match.end())


def _formulaic(formula: str) -> Iterator[list[Token]]:
    from formulaic.errors import FormulaSyntaxError
    from formulaic.parser.algos.tokenize import tokenize as formulaic_tokenize

    try:
        for token in formulaic_tokenize(formula):
            start, last = token.source_loc
            yield _split(token.token, str(token.kind.value), start or 0, last or 0, formula)  # type: ignore[union-attr]
    except FormulaSyntaxError as error:
        raise FormulaError(syntax_message(error)) from None


def _split(text: str, kind: str, start: int, last: int, formula: str) -> list[Token]:
    """Operators apart; other tokens with their closing quote, which formulaic leaves out."""
    opening = formula[start]
    closing = _CLOSING.get(opening)
    if closing and formula[last + 1 : last + 2] == closing:
        return [Token(text, kind, start, last + 2)]
    if kind != "operator":
        return [Token(text, kind, start, last + 1)]
    return [
        Token(match.group(), kind, start + match.start(), start + match.end())
        for match in _OPERATOR.finditer(formula[start : last + 1])
    ]


def _check_parentheses(tokens: Sequence[Token], formula: str) -> None:
    pending: list[Token] = []
    for token in tokens:
        if token.kind != "context":
            continue
        if token.text in "([":
            pending.append(token)
        elif pending:
            pending.pop()
        else:
            raise FormulaError(
                pointed(f"`{token.text}` closes nothing; remove it.", formula, token.start)
            )
    if pending:
        token = pending[-1]
        raise FormulaError(
            pointed(f"`{token.text}` is never closed; add `)`.", formula, token.start)
        )
