"""Linear hypotheses L beta = c, written as text or as a matrix.

    "Days"                       one coefficient is zero
    "Days = 10"                  it has a value
    "x1 - x2 = 0, 2*x1 + 1 = z"  several at once, separated by commas
    "a = b = c"                  a chain is one hypothesis per sign
    [[0, 1]]                     rows of L; ([[0, 1]], [10]) with the values c

Coefficients go by their names, however they are written (``recipe[T.B]:temp``, ``bs(x, df=3)[1]``):
the longest name that fits is read, and backticks may stand around a name.

    hypothesis := side ('=' side)+ | side          side   := ['+' | '-'] term (('+' | '-') term)*
    term       := factor (('*' | '/') factor)*     factor := name | number | '(' side ')'
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import InferenceError, pointed

NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
SIGNS = "+-*/()=,"


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """Rows of a linear hypothesis L beta = c.

    Attributes
    ----------
    L : ndarray, shape (q, p)
    values : ndarray, shape (q,)
        c, the right sides.
    labels : tuple of str
        One text per row.
    """

    L: Array
    values: Array
    labels: tuple[str, ...]


def parse_hypotheses(hypothesis: Any, names: Sequence[str]) -> Hypotheses:
    """Rows of a hypothesis over coefficients with the given names.

    Parameters
    ----------
    hypothesis : str, sequence of str, mapping, frame or array
        Text as above; a mapping of names to weights (one row); a frame whose columns are names; an
        array of shape (p,) or (q, p); or a pair (L, c).
    names : sequence of str, length p

    Raises
    ------
    InferenceError
        For text that cannot be read, unknown names, matrices of the wrong shape or not finite,
        and rows that are zero.

    Examples
    --------
    >>> rows = parse_hypotheses("Days = 10, 2*Intercept - Days", ["Intercept", "Days"])
    >>> rows.L
    array([[ 0.,  1.],
           [ 2., -1.]])
    >>> rows.values, rows.labels
    (array([10.,  0.]), ('Days = 10', '2*Intercept - Days'))
    """
    if isinstance(hypothesis, Hypotheses):
        return hypothesis
    names = [str(name) for name in names]
    texts = [hypothesis] if isinstance(hypothesis, str) else hypothesis
    if isinstance(texts, (list, tuple)) and texts and all(isinstance(t, str) for t in texts):
        return _stack([row for text in texts for row in _Reader(text, names).read()])
    if isinstance(hypothesis, tuple) and len(hypothesis) == 2:
        L, values = hypothesis
        return _from_matrix(L, names, values)
    return _from_matrix(hypothesis, names, None)


def _stack(rows: list[tuple[Array, float, str]]) -> Hypotheses:
    for weights, _, label in rows:
        if not weights.any():
            raise InferenceError(
                f"Hypothesis '{label}' holds no coefficient after simplification; expected at "
                "least one with a weight other than zero."
            )
    L, values, labels = zip(*rows, strict=True)
    return Hypotheses(np.array(L), np.array(values), tuple(labels))


def _from_matrix(given: Any, names: list[str], values: Any) -> Hypotheses:
    labels: Sequence[str] | None = None
    if isinstance(given, Mapping):
        given = pd.DataFrame([given])
    elif isinstance(given, pd.Series) and set(map(str, given.index)) <= set(names):
        given = given.to_frame().T
    if isinstance(given, pd.DataFrame) and not isinstance(given.columns, pd.RangeIndex):
        unknown = [str(c) for c in given.columns if str(c) not in names]
        if unknown:
            raise InferenceError(_unknown(unknown[0], names))
        if not isinstance(given.index, pd.RangeIndex):
            labels = [str(label) for label in given.index]
        given = given.rename(columns=str).reindex(columns=names, fill_value=0.0)
    L = _as_matrix(given, len(names))
    c = np.zeros(len(L)) if values is None else np.atleast_1d(np.asarray(values, dtype=float))
    if c.shape != (len(L),):
        raise InferenceError(
            f"Found {c.size} right sides for {len(L)} hypotheses; expected one for each row of L."
        )
    if labels is None:
        labels = [describe_row(row, value, names) for row, value in zip(L, c, strict=True)]
    return _stack(list(zip(L, c.tolist(), labels, strict=True)))


def _as_matrix(given: Any, p: int) -> Array:
    try:
        L = np.atleast_2d(np.array(given, dtype=float))
    except (TypeError, ValueError):
        L = np.empty((0, 0, 0))
    if L.ndim != 2 or L.shape[1] != p or not np.isfinite(L).all():
        shape = np.shape(given) if L.ndim == 2 else None
        found = f"an array of shape {shape}" if shape else f"{type(given).__name__}"
        if L.ndim == 2 and L.shape[1] == p:
            found += " with values that are not finite"
        raise InferenceError(
            f"Found {found} as hypothesis; expected finite numbers of shape (q, {p}), one column "
            "for each fixed effect in `params`, or a text such as 'x1 - x2 = 0'."
        )
    return L


def describe_row(row: Array, value: float, names: Sequence[str]) -> str:
    """Text of one row of a hypothesis.

    Examples
    --------
    >>> describe_row(np.array([0.0, 1.0, -2.0]), 0.5, ["a", "b", "c"])
    'b - 2*c = 0.5'
    """
    text = ""
    for weight, name in zip(row, names, strict=True):
        if weight == 0.0:
            continue
        size = "" if abs(weight) == 1.0 else f"{abs(weight):g}*"
        sign = ("-" if weight < 0 else "+") if text else ("-" if weight < 0 else "")
        text += f" {sign} {size}{name}" if text else f"{sign}{size}{name}"
    return text if value == 0.0 else f"{text} = {value:g}"


def _unknown(name: str, names: Sequence[str]) -> str:
    shown = ", ".join(f"'{known}'" for known in names[:8])
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    if not names:
        return f"Found no coefficient '{name}'; the model has no fixed effects."
    return f"Found no coefficient '{name}'; the fixed effects are {shown}{more}."


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "name", "number", one of SIGNS, "end"
    text: str
    start: int


class _Reader:
    """Recursive descent over the tokens of one text; values are affine forms (weights, constant)."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names = text, list(names)
        self.tokens = list(_tokens(text, self.names))
        self.at = 0

    def read(self) -> Iterator[tuple[Array, float, str]]:
        """Rows (weights, right side, label) of all hypotheses in the text."""
        while True:
            yield from self.chain()
            if self.next.kind == "end":
                return
            self.expect(",", "`,`, `=` or the end")

    def chain(self) -> Iterator[tuple[Array, float, str]]:
        first = self.next.start
        sides = [self.side()]
        while self.accept("="):
            sides.append(self.side())
        label = " ".join(self.text[first : self.next.start].split())
        if len(sides) == 1:
            sides.append((np.zeros(len(self.names)), 0.0))
        for left, right in pairwise(sides):
            yield left[0] - right[0], right[1] - left[1], label

    def side(self) -> tuple[Array, float]:
        sign = -1.0 if self.accept("-") else 1.0
        self.accept("+")
        weights, constant = self.term()
        total, offset = sign * weights, sign * constant
        while self.next.kind in "+-":
            sign = 1.0 if self.take().kind == "+" else -1.0
            weights, constant = self.term()
            total, offset = total + sign * weights, offset + sign * constant
        return total, offset

    def term(self) -> tuple[Array, float]:
        weights, constant = self.factor()
        while self.next.kind in "*/":
            sign = self.take()
            other, number = self.factor()
            if other.any() and (weights.any() or sign.kind == "/"):
                raise self.error("Coefficients can only be multiplied or divided by numbers", sign)
            if sign.kind == "/":
                if number == 0.0:
                    raise self.error("Division by zero", sign)
                other, number = other, 1.0 / number
            weights, constant = weights * number + other * constant, constant * number
        return weights, constant

    def factor(self) -> tuple[Array, float]:
        token = self.take()
        weights = np.zeros(len(self.names))
        if token.kind == "name":
            weights[self.names.index(token.text)] = 1.0
            return weights, 0.0
        if token.kind == "number":
            return weights, float(token.text)
        if token.kind == "(":
            inner = self.side()
            self.expect(")", "`)`")
            return inner
        raise self.error("Expected a coefficient or a number", token)

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.next
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def accept(self, kind: str) -> bool:
        found = self.next.kind == kind
        self.at += found
        return found

    def expect(self, kind: str, wanted: str) -> None:
        if not self.accept(kind):
            raise self.error(f"Expected {wanted}", self.next)

    def error(self, message: str, token: _Token) -> InferenceError:
        found = f"found `{token.text}`" if token.text else "found the end"
        stop = token.start + max(len(token.text), 1)
        return InferenceError(
            pointed(f"{message}, {found}; correct the hypothesis.", self.text, token.start, stop)
        )


def _tokens(text: str, names: Sequence[str]) -> Iterator[_Token]:
    """Names (longest first), numbers and signs."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token, stop = _token(text, at, names)
        yield token
        at = stop
    yield _Token("end", "", len(text))


def _token(text: str, at: int, names: Sequence[str]) -> tuple[_Token, int]:
    if text[at] == "`" and "`" in text[at + 1 :]:
        stop = text.index("`", at + 1)
        name = text[at + 1 : stop]
        if name in names:
            return _Token("name", name, at), stop + 1
    for name in sorted(names, key=len, reverse=True):
        if name and text.startswith(name, at) and _ends(text, at + len(name), name):
            return _Token("name", name, at), at + len(name)
    number = NUMBER.match(text, at)
    if number:
        return _Token("number", number.group(), at), number.end()
    if text[at] in SIGNS:
        return _Token(text[at], text[at], at), at + 1
    word = re.match(r"[\w.\[\]:]+|.", text[at:], re.DOTALL)
    unknown = word.group() if word else text[at]
    raise InferenceError(pointed(_unknown(unknown, names), text, at, at + len(unknown)))


def _ends(text: str, stop: int, name: str) -> bool:
    """Whether a name that was found is not the beginning of a longer word."""
    following = text[stop : stop + 1]
    return not (re.match(r"\w", name[-1]) and re.match(r"[\w.\[:]", following))
