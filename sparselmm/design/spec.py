"""What was learned from the data: names, levels, and how to code other rows alike."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array, NewDesign, RandomTerm
from sparselmm.data import Column, Table, missing_rows, open_table
from sparselmm.design.encode import Encoder, evaluate
from sparselmm.design.factors import Levels

if TYPE_CHECKING:
    import pandas as pd
    from formulaic import ModelSpec


@dataclass(frozen=True, slots=True)
class Expression:
    """A Python expression over columns of the data, such as an ``offset()``."""

    text: str
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DesignSpec:
    """Names of everything in a design, and the encoders for new data. Holds no rows.

    Attributes
    ----------
    formula
        As written; a description for designs made from arrays.
    response
        Name or expression left of ``~``.
    fixed
        Encoder of the fixed part.
    terms
        Random-effects terms in order of decreasing number of levels (stable).
    encoders
        One per term, for the columns left of its bar.
    groupings
        One per factor: its levels.
    offsets
        The ``offset()`` terms of the formula.
    n_dropped_missing, n_dropped_zero_weight
        Rows that were left out.
    index
        Row labels of the rows kept (pandas), else None.
    weights_name, offset_name
        Names of the columns that were given as arguments, None without or for arrays.
    """

    formula: str
    response: str
    fixed: Encoder
    terms: tuple[RandomTerm, ...]
    encoders: tuple[Encoder, ...]
    groupings: tuple[Levels, ...]
    offsets: tuple[Expression, ...] = ()
    n_dropped_missing: int = 0
    n_dropped_zero_weight: int = 0
    index: pd.Index | None = None
    weights_name: str | None = None
    offset_name: str | None = None

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns of X."""
        return self.fixed.names

    @property
    def fixed_terms(self) -> dict[str, tuple[int, ...]]:
        """Columns of X that belong to every term of the fixed part; ``"1"`` is the intercept."""
        return self.fixed.terms

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the grouping factors, in factor order."""
        return tuple(levels.name for levels in self.groupings)

    @property
    def levels(self) -> tuple[pd.Index, ...]:
        """Labels of the levels of every factor, in code order."""
        return tuple(levels.labels for levels in self.groupings)

    @property
    def fixed_spec(self) -> ModelSpec:
        """The formulaic specification of the fixed part."""
        return self.fixed.model_spec

    @property
    def random_specs(self) -> tuple[ModelSpec, ...]:
        """The formulaic specification of the columns left of the bar, per term."""
        return tuple(encoder.model_spec for encoder in self.encoders)

    def encode(
        self, data: Any, *, fixed: bool = True, terms: Collection[int] | None = None
    ) -> NewDesign:
        """Code new rows in the columns and levels of this design.

        Parameters
        ----------
        data
            Any kind of dataframe with the variables of the parts asked for; no response.
        fixed
            Whether X and the offset of the formula are wanted.
        terms
            Indices of the random-effects terms wanted; None for all.

        Returns
        -------
        NewDesign
            Rows with a missing value are flagged; X and Q are NaN there.

        Raises
        ------
        DataError
            For a column that is not there, and a category of the fixed part that is new.
        """
        wanted = range(len(self.terms)) if terms is None else sorted(set(terms))
        table = open_table(data)
        columns = [table.column(name) for name in self._variables(fixed, wanted)]
        missing = missing_rows(columns)
        complete = _Complete(table, missing)
        return NewDesign(
            X=complete.matrix(self.fixed) if fixed else None,
            codes=tuple(self._codes(j, table, wanted) for j in range(len(self.groupings))),
            Q=tuple(self._q(j, complete, wanted) for j in range(len(self.groupings))),
            offset=complete.sum(self.offsets) if fixed and self.offsets else None,
            missing=np.zeros(table.n, dtype=bool) if missing is None else missing,
            index=table.index,
        )

    def _variables(self, fixed: bool, wanted: Collection[int]) -> tuple[str, ...]:
        names: list[str] = []
        if fixed:
            names += self.fixed.variables
            names += [name for offset in self.offsets for name in offset.variables]
        for i in wanted:
            names += self.encoders[i].variables
            names += self.groupings[self.terms[i].factor].columns
        return tuple(dict.fromkeys(names))

    def _codes(self, factor: int, table: Table, wanted: Collection[int]) -> Array:
        if all(self.terms[i].factor != factor for i in wanted):
            return np.full(table.n, -1, dtype=np.int32)
        levels = self.groupings[factor]
        return levels.encode([table.column(name) for name in levels.columns])

    def _q(self, factor: int, complete: _Complete, wanted: Collection[int]) -> Array:
        terms = [i for i, term in enumerate(self.terms) if term.factor == factor]
        Q = np.zeros((complete.table.n, max(self.terms[i].stop for i in terms)))
        for i in terms:
            if i in wanted:
                Q[:, self.terms[i].start : self.terms[i].stop] = complete.matrix(self.encoders[i])
        return Q


class _Complete:
    """The complete rows of a table: matrices of them, with NaN put back in the other rows."""

    def __init__(self, table: Table, missing: Array | None) -> None:
        self.table = table
        self.rows = None if missing is None else np.flatnonzero(~missing)
        self.n = table.n if self.rows is None else len(self.rows)

    def columns(self, names: Collection[str]) -> dict[str, Column]:
        return {name: self.table.column(name).take(self.rows) for name in names}

    def matrix(self, encoder: Encoder) -> Array:
        return self._put_back(encoder.matrix(self.columns(encoder.variables), self.n))

    def sum(self, offsets: Collection[Expression]) -> Array:
        parts = [evaluate(o.text, self.columns(o.variables), self.n) for o in offsets]
        return self._put_back(np.sum(parts, axis=0))

    def _put_back(self, values: Array) -> Array:
        if self.rows is None:
            return values
        out = np.full((self.table.n, *values.shape[1:]), np.nan)
        out[self.rows] = values
        return out
