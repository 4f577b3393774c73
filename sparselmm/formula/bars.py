"""Cut the random-effects terms ``(left | right)`` out of a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from sparselmm.errors import FormulaError, pointed
from sparselmm.formula.tokens import Token, source, tokenize

_BARS = ("|", "||")
_CALL_WITH_BAR = re.compile(r"[\w.]+\([^()]*\|")


class Summand(NamedTuple):
    """One term between ``+`` and ``-`` of the outermost level."""

    sign: str
    tokens: tuple[Token, ...]
    operator: Token | None


@dataclass(frozen=True, slots=True)
class Predictor:
    """The right side of a formula, or the left side of a bar: a sum that gives columns.

    Attributes
    ----------
    text
        Formula that formulaic understands.
    plain
        True when it consists of names, 0 and 1 only; then `intercept` and `names` say it all.
    intercept
        Whether the plain sum has an intercept.
    names
        Columns of the plain sum in the order written.
    """

    text: str
    plain: bool
    intercept: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """``(left | right)`` as written; ``formula[start:stop]`` is its source."""

    left: Predictor
    right: tuple[Token, ...]
    double: bool
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class CutFormula:
    """The pieces of a formula after the bars and offsets have been cut out."""

    response: tuple[Token, ...]
    fixed: Predictor
    offsets: tuple[str, ...]
    bars: tuple[Bar, ...]


def cut_bars(formula: str) -> CutFormula:
    """Separate response, fixed part, offsets and random-effects terms.

    Raises
    ------
    FormulaError
        No ``~``, no response, no random-effects term, or a bar that does not stand in
        parentheses of its own.
    """
    tokens = tokenize(formula)
    left, right = _sides(tokens, formula)
    _refuse_dot(tokens, formula)
    bars: list[Bar] = []
    offsets: list[str] = []
    fixed: list[Summand] = []
    for summand in summands(right, formula):
        if any(token.text in _BARS and token.kind == "operator" for token in summand.tokens):
            bars.append(_bar(summand, formula))
        elif _is_offset(summand):
            offsets.append(_offset(summand, formula))
        else:
            fixed.append(summand)
    if not bars:
        _no_bars(right, formula)
    return CutFormula(left, predictor(fixed, formula), tuple(offsets), tuple(bars))


def summands(tokens: Iterable[Token], formula: str) -> Iterator[Summand]:
    """Split a sum at its outermost ``+`` and ``-``."""
    depth, sign = 0, "+"
    operator: Token | None = None
    part: list[Token] = []
    for token in tokens:
        if token.kind == "context":
            depth += 1 if token.text in "([" else -1
        if depth == 0 and token.kind == "operator" and token.text in "+-":
            if part:
                yield Summand(sign, tuple(part), operator)
                part, sign = [], "+"
            sign = "-" if (sign == "-") != (token.text == "-") else "+"
            operator = token
        else:
            part.append(token)
    if part:
        yield Summand(sign, tuple(part), operator)
    elif operator is not None:
        raise FormulaError(
            pointed(f"Nothing follows `{operator.text}`; remove it.", formula, operator.start)
        )


def predictor(parts: Sequence[Summand], formula: str) -> Predictor:
    """Describe a sum; the empty sum is the intercept alone, as in ``y ~ (1 | g)``."""
    text = "".join(_signed(part, formula, first=i == 0) for i, part in enumerate(parts)) or "1"
    intercept, names = True, list[str]()
    for part in parts:
        token = part.tokens[0]
        literal = token.kind == "value" and token.text in ("0", "1")
        if len(part.tokens) > 1 or not (literal or token.kind == "name"):
            return Predictor(text, plain=False)
        if literal:
            intercept = (token.text == "1") == (part.sign == "+")
        elif part.sign == "-":
            names = [name for name in names if name != token.text]
        elif token.text not in names:
            names.append(token.text)
    return Predictor(text, True, intercept, tuple(names))


def _signed(part: Summand, formula: str, *, first: bool) -> str:
    text = source(formula, part.tokens)
    if first:
        return text if part.sign == "+" else f"-{text}"
    return f" {part.sign} {text}"


def _sides(tokens: list[Token], formula: str) -> tuple[tuple[Token, ...], list[Token]]:
    tildes = [i for i, token in enumerate(tokens) if token.text == "~" and token.kind == "operator"]
    if not tildes:
        message = "The formula has no `~`; write `response ~ predictors + (1 | group)`."
        raise FormulaError(pointed(message, formula, 0))
    if len(tildes) > 1:
        message = "The formula has more than one `~`; keep the one after the response."
        raise FormulaError(pointed(message, formula, tokens[tildes[1]].start))
    at = tildes[0]
    if at == 0:
        message = "The formula has no response; name the column to model left of `~`."
        raise FormulaError(pointed(message, formula, tokens[0].start))
    if at == len(tokens) - 1:
        message = "Nothing stands right of `~`; add predictors and a term such as `(1 | group)`."
        raise FormulaError(pointed(message, formula, tokens[at].start))
    return tuple(tokens[:at]), tokens[at + 1 :]


def _refuse_dot(tokens: Iterable[Token], formula: str) -> None:
    for token in tokens:
        if token.text == "." and token.kind == "value":
            _fail(
                "`.` (all other columns) would hold the grouping factors too; name the columns, "
                "joined by `+`.",
                formula,
                token,
            )


def _no_bars(tokens: Sequence[Token], formula: str) -> NoReturn:
    for token in tokens:
        if token.kind == "python" and _CALL_WITH_BAR.match(token.text):
            _fail("This is read as a function call; `+` is missing before `(`.", formula, token)
    message = (
        "The formula has no random-effects term; add at least one, "
        "for example `+ (1 | group)`, or fit it by ordinary least squares."
    )
    raise FormulaError(pointed(message, formula, len(formula)))


def _is_offset(summand: Summand) -> bool:
    first = summand.tokens[0]
    return first.kind == "python" and first.text.startswith("offset(")


def _offset(summand: Summand, formula: str) -> str:
    token = summand.tokens[0]
    if len(summand.tokens) > 1 or summand.sign == "-":
        message = "An offset can only be added as a term of its own: `+ offset(x)`."
        raise FormulaError(pointed(message, formula, token.start, token.stop))
    inner = token.text[len("offset(") : -1].strip()
    if not inner:
        message = "`offset()` is empty; name the column to add."
        raise FormulaError(pointed(message, formula, token.start, token.stop))
    return inner


def _bar(summand: Summand, formula: str) -> Bar:
    tokens = summand.tokens
    where = _depths(tokens)
    bars = [i for i, token in enumerate(tokens) if token.text in _BARS]
    first = tokens[bars[0]]
    if where[bars[0]] == 0:
        _fail(
            f"The bar `{first.text}` does not stand in parentheses; "
            f"write `({source(formula, tokens)})`.",
            formula,
            first,
        )
    _check_alone(summand, where, formula)
    if len(bars) > 1:
        _fail(
            "One pair of parentheses holds one bar; write each random-effects term "
            "in parentheses of its own.",
            formula,
            tokens[bars[1]],
        )
    if where[bars[0]] > 1:
        _fail(
            "A random-effects term stands inside other parentheses; "
            "add it at the top level: `... + (1 | g)`.",
            formula,
            first,
        )
    inside, outside = tokens[1 : bars[0]], tokens[bars[0] + 1 : -1]
    if not inside:
        _fail("Nothing stands left of the bar; write `1` for an intercept.", formula, first)
    if not outside:
        _fail("Nothing stands right of the bar; name the grouping factor.", formula, first)
    left = predictor(list(summands(inside, formula)), formula)
    if left.plain and not left.intercept and not left.names:
        _fail("No column is left of the bar; write `1` for an intercept.", formula, inside[0])
    return Bar(left, outside, first.text == "||", tokens[0].start, tokens[-1].stop)


def _depths(tokens: Sequence[Token]) -> list[int]:
    """Depth of every token; a closing parenthesis already counts as outside."""
    depths, depth = [], 0
    for token in tokens:
        if token.kind == "context":
            depth += 1 if token.text in "([" else -1
        depths.append(depth)
    return depths


def _check_alone(summand: Summand, where: Sequence[int], formula: str) -> None:
    """Refuse ``x * (1 | g)``, ``x (1 | g)``, ``(1 | g):x`` and ``- (1 | g)``."""
    tokens = summand.tokens
    strangers = [
        token
        for token, depth in zip(tokens, where, strict=True)
        if depth == 0 and token.kind != "context"
    ]
    if summand.sign == "-":
        _fail(
            "A random-effects term cannot be subtracted; leave it out instead.",
            formula,
            summand.operator or tokens[0],
        )
    for token in strangers:
        if token.kind == "operator":
            _fail(
                f"A random-effects term can only be added, found `{token.text}`; "
                "write `+` before it, and the interaction left of the bar.",
                formula,
                token,
            )
    if strangers or where.count(0) > 1:
        token = strangers[0] if strangers else tokens[where.index(0)]
        _fail("`+` is missing beside a random-effects term.", formula, token)


def _fail(message: str, formula: str, token: Token) -> NoReturn:
    raise FormulaError(pointed(message, formula, token.start, token.stop))
