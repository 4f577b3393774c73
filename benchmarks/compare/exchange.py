"""Data sets as raw column files, which R and Python read without loss and without libraries.

A folder holds `meta.json` (formula, reml, columns) and one file per column: float64 for numbers,
int32 codes from 0 for factors. Stands on numpy and pandas alone: workers in other interpreters
import it from this folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def write(folder: Path, data: pd.DataFrame, formula: str, *, reml: bool) -> Path:
    """Write the columns that the formula names; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = {group for _, group in terms(formula)}
    columns = [column(folder, data, name, name in groups) for name in names(data, formula)]
    meta = {"formula": formula, "reml": reml, "n": len(data), "columns": columns}
    (folder / "meta.json").write_text(json.dumps(meta))
    # R reads plain lines: no package needed for JSON
    lines = [formula, str(int(reml)), str(len(data))]
    lines += [f"{c['name']} {c['kind']} {c['levels']}" for c in columns]
    (folder / "meta.txt").write_text("\n".join(lines) + "\n")
    return folder


def column(folder: Path, data: pd.DataFrame, name: str, grouping: bool) -> dict[str, Any]:
    """Write one column; its description."""
    values = data[name]
    if not grouping and pd.api.types.is_numeric_dtype(values):
        values.to_numpy(np.float64).tofile(folder / name)
        return {"name": name, "kind": "number", "levels": 0}
    coded = pd.Categorical(values).remove_unused_categories()
    coded.codes.astype(np.int32).tofile(folder / name)
    return {"name": name, "kind": "factor", "levels": len(coded.categories)}


def read(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The data, factors as categoricals of integers, and the description."""
    meta = json.loads((folder / "meta.json").read_text())
    return pd.DataFrame({c["name"]: values(folder, c) for c in meta["columns"]}), meta


def values(folder: Path, described: dict[str, Any]) -> Any:
    """One column."""
    path = folder / described["name"]
    if described["kind"] == "number":
        return np.fromfile(path, np.float64)
    return pd.Categorical.from_codes(np.fromfile(path, np.int32), range(described["levels"]))


def terms(formula: str) -> list[tuple[str, str]]:
    """Random terms as (left of the bar, grouping factor)."""
    bars = [part.split(")")[0] for part in formula.split("(")[1:]]
    pairs = [bar.split("|") for bar in bars if "|" in bar]
    return [(left.strip(), right.strip()) for left, right in pairs]


def fixed(formula: str) -> str:
    """The formula without its random terms."""
    response, right = formula.split("~")
    kept = [part.strip() for part in right.split("(")[0].split("+") if part.strip()]
    return f"{response.strip()} ~ {' + '.join(kept) or '1'}"


def names(data: pd.DataFrame, formula: str) -> list[str]:
    """Columns of the data that the formula names."""
    symbols = formula
    for mark in "~+*:|()":
        symbols = symbols.replace(mark, " ")
    return [name for name in data.columns if name in symbols.split()]
