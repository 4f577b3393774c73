"""Put coded factors and matrices together: order, merging of terms, checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array, Factor, RandomTerm, Template
from sparselmm.design.checks import check_levels, check_size
from sparselmm.design.encode import Encoder
from sparselmm.design.factors import Levels


@dataclass(frozen=True, slots=True)
class TermParts:
    """One random-effects term with its matrix, before factors are ordered and merged.

    Attributes
    ----------
    label, columns, template
        As in `RandomTerm`.
    key
        Identity of the grouping factor; terms with equal keys share it.
    encoder
        Encoder of the columns left of the bar.
    Q
        (n, s) their values.
    """

    label: str
    columns: tuple[str, ...]
    template: Template
    key: object
    encoder: Encoder
    Q: Array


@dataclass(frozen=True, slots=True)
class Assembled:
    """Terms, encoders, levels and factors in their final order."""

    terms: tuple[RandomTerm, ...]
    encoders: tuple[Encoder, ...]
    groupings: tuple[Levels, ...]
    factors: tuple[Factor, ...]


def assemble(
    parts: Sequence[TermParts], coded: dict[object, tuple[Levels, Array]], weights: Array | None
) -> Assembled:
    """Order terms and factors by decreasing number of levels and merge terms that share one.

    Parameters
    ----------
    parts
        Terms in the order written.
    coded
        Levels and (n,) codes for every key.
    weights
        (n,) or None; decides whether a variance per row can be told from the residual.

    Raises
    ------
    DataError
        For a factor of one level, and a term that is confounded with the residual.
    """
    for levels, codes in coded.values():
        check_levels(levels, len(codes))
    keys = sorted(coded, key=lambda key: -len(coded[key][0]))
    ordered = sorted(parts, key=lambda part: -len(coded[part.key][0]))
    terms = _place(ordered, keys, coded)
    factors = tuple(_factor(key, ordered, *coded[key]) for key in keys)
    for term in terms:
        check_size(term, factors[term.factor], weights)
    return Assembled(
        terms,
        tuple(part.encoder for part in ordered),
        tuple(coded[key][0] for key in keys),
        factors,
    )


def _place(
    parts: Sequence[TermParts], keys: Sequence[object], coded: dict[object, tuple[Levels, Array]]
) -> tuple[RandomTerm, ...]:
    width = dict.fromkeys(keys, 0)
    terms = []
    for part in parts:
        start = width[part.key]
        width[part.key] += len(part.columns)
        terms.append(
            RandomTerm(
                label=part.label,
                grouping=coded[part.key][0].name,
                columns=part.columns,
                template=part.template,
                factor=keys.index(part.key),
                start=start,
            )
        )
    return tuple(terms)


def _factor(key: object, parts: Sequence[TermParts], levels: Levels, codes: Array) -> Factor:
    matrices = [part.Q for part in parts if part.key == key]
    Q = matrices[0] if len(matrices) == 1 else np.hstack(matrices)
    return Factor(codes, np.ascontiguousarray(Q), len(levels))
