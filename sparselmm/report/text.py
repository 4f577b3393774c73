"""Numbers and tables as text and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from sparselmm._types import Array


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of texts.

    Attributes
    ----------
    header : tuple of str
    rows : tuple of tuple of str
    left : int
        Columns aligned to the left; the others to the right.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(self._line(line, widths) for line in lines)

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = [
            cell.ljust(width) if i < self.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return " ".join(padded).rstrip()

    def to_html(self) -> str:
        """The table as HTML."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.header)
        body = "".join(f"<tr>{self._cells(row)}</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self, row: Sequence[str]) -> str:
        align = ["left" if i < self.left else "right" for i in range(len(row))]
        return "".join(
            f'<td style="text-align:{side}">{escape(cell)}</td>'
            for side, cell in zip(align, row, strict=True)
        )


def aligned(values: Array, digits: int = 4) -> list[str]:
    """Numbers of one column with equally many decimals, so that the smallest shows `digits`.

    As R does: the number of significant digits that the column needs, at most seven.

    Examples
    --------
    >>> aligned(np.array([612.1002, 35.0717, 654.94]))
    ['612.10', ' 35.07', '654.94']
    """
    values = np.asarray(values, dtype=float)
    finite = np.abs(values[np.isfinite(values) & (values != 0.0)])
    if not len(finite):
        texts = [_missing(v) or "0" for v in values]
    else:
        largest, smallest = np.log10(finite.max()), np.log10(finite.min())
        if largest > 8 or smallest < -7 or largest - smallest > 9:
            texts = [_missing(v) or f"{v:.{digits - 1}e}" for v in values]
        else:
            decimals = int(np.clip(digits - 1 - np.floor(smallest), 0, 7))
            decimals = min(decimals, max(0, 6 - int(np.floor(largest))))
            texts = [_missing(v) or f"{v:.{decimals}f}" for v in values]
    width = max(map(len, texts), default=0)
    return [text.rjust(width) for text in texts]


def _missing(value: float) -> str:
    return "" if np.isfinite(value) else ("NA" if np.isnan(value) else f"{value:g}".title())


def p_text(p: float) -> str:
    """A p-value.

    Examples
    --------
    >>> p_text(0.034567), p_text(1e-20)
    ('0.0346', '<2e-16')
    """
    if np.isnan(p):
        return "NA"
    return "<2e-16" if p < 2e-16 else f"{p:.3g}" if p < 1e-3 else f"{p:.4f}"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun.

    Examples
    --------
    >>> count(1, "row"), count(73421, "row")
    ('1 row', '73,421 rows')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
