"""Reference fits of other software and the data they were made from."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pandas as pd

from sparselmm.datasets import load_dataset
from sparselmm.datasets.bundled import read_exactly

FOLDER = Path(__file__).parent


@cache
def cases() -> tuple[dict, ...]:
    """All reference fits; the fields are described in the README beside this file."""
    return tuple(json.loads((FOLDER / "reference.json").read_text()))


def case_id(case: dict) -> str:
    """Name of a case for the ids of parametrised tests."""
    return f"{case['name']}-{'reml' if case['reml'] else 'ml'}"


@cache
def columns() -> dict[str, dict]:
    """Per data set the number of rows, the source and the type of every column."""
    return json.loads((FOLDER / "datasets.json").read_text())


def frame(case: dict) -> pd.DataFrame:
    """The data of a case, its factors categorical in R's level order."""
    return reference_data(case["data"].split(".")[0])


def reference_data(name: str) -> pd.DataFrame:
    """A data set by its name in ``datasets.json``; all but one travel with the package."""
    if name != "sleepstudy_w":
        return load_dataset(name)
    data = read_exactly(FOLDER / "sleepstudy_w.csv")
    levels = columns()[name]["columns"]["Subject"]["levels"]
    return data.assign(Subject=pd.Categorical(data["Subject"].astype(str), categories=levels))
