"""The bundled data sets are those the reference values were made from."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from sparselmm import DataError, load_dataset
from sparselmm.datasets.bundled import _FACTORS
from tests.values import cases, columns, frame, reference_data


@pytest.mark.parametrize("name", sorted(columns()))
def test_agrees_with_the_description(name: str) -> None:
    described = columns()[name]
    data = reference_data(name)
    assert len(data) == described["n"]
    assert list(data) == list(described["columns"])
    for column, facts in described["columns"].items():
        _check_column(data[column], facts)


def _check_column(values: pd.Series, facts: dict) -> None:
    if facts["type"] == "numeric":
        assert values.isna().sum() == facts["n_missing"]
        np.testing.assert_allclose(values.mean(), facts["mean"], rtol=1e-12)
        return
    levels = list(values.cat.categories)
    assert len(levels) == values.nunique() == facts["n_levels"]
    assert levels == (facts.get("levels") or sorted(levels, key=int))
    assert not values.isna().any()
    assert not values.cat.ordered


def test_all_described_sets_are_bundled() -> None:
    assert set(_FACTORS) == set(columns()) - {"sleepstudy_w"}


def test_docstring_names_every_set() -> None:
    documented = load_dataset.__doc__ or ""
    assert all(f"    {name} " in documented for name in _FACTORS)


def test_every_reference_case_has_its_data() -> None:
    for case in cases():
        assert len(frame(case)) >= case["n"]


def test_numbers_are_read_exactly() -> None:
    assert load_dataset("dietox")["Weight"][1] == float("27.59999")


def test_calls_do_not_share_memory() -> None:
    changed = load_dataset("sleepstudy")
    changed.loc[0, "Reaction"] = 0.0
    assert load_dataset("sleepstudy").loc[0, "Reaction"] == 249.56


def test_insteval_loads_quickly() -> None:
    load_dataset("insteval")
    start = time.perf_counter()
    load_dataset("insteval")
    assert time.perf_counter() - start < 0.5  # about 0.04 s; the rest is for busy machines


def test_unknown_name() -> None:
    with pytest.raises(DataError) as caught:
        load_dataset("InstEval")
    assert str(caught.value) == (
        "There is no data set 'InstEval'. Use one of: cake, dietox, dyestuff, dyestuff2, "
        "ergostool, insteval, machines, oxide, pastes, penicillin, sleepstudy."
    )
