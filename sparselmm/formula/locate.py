"""Where in a formula something stands, for messages about the data."""

from __future__ import annotations

import re

from sparselmm.errors import pointed
from sparselmm.formula.tokens import Token, tokenize


def point_at(message: str, formula: str, text: str) -> str:
    """Put the formula under a message, with carets below the first place where a text stands.

    Parameters
    ----------
    message
        Comes back alone when the text is not in the formula.
    text
        A column, a function, or an operator inside a Python expression.

    Examples
    --------
    >>> print(point_at("no such column", "y ~ log(x) + (1 | g)", "x"))
    no such column
        y ~ log(x) + (1 | g)
                ^
    """
    for token in tokenize(formula):
        place = _place(token, formula, text)
        if place is not None:
            return pointed(message, formula, *place)
    return message


def _place(token: Token, formula: str, text: str) -> tuple[int, int] | None:
    if token.kind == "name" and token.text == text:
        return token.start, token.stop
    if token.kind != "python":
        return None
    pattern = re.escape(text)
    if re.match(r"[\w.]", text):
        pattern = rf"(?<![\w.]){pattern}(?!\w)"
    match = re.search(pattern, formula[token.start : token.stop])
    return None if match is None else (token.start + match.start(), token.start + match.end())
