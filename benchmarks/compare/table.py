"""Rows of a comparison as CSV and as a Markdown table with ratios."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks.compare.runner import Row


def write_csv(path: Path, rows: Sequence[Row], context: dict[str, Any]) -> None:
    """One line per problem and peer; machine, date and threads repeated on each."""
    names = [*(field.name for field in fields(Row)), *context]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(asdict(row) | context for row in rows)


def markdown(rows: Sequence[Row], base: str, context: dict[str, Any]) -> str:
    """Seconds of every peer, how many times those of `base`, and how far above the best optimum.

    The ratio is against `base`, the first peer where that has no time.
    """
    peers = list(dict.fromkeys(row.peer for row in rows))
    by_key = {(row.problem, row.peer): row for row in rows}
    lines = [line(["problem", *peers]), line(["---"] + ["---:"] * len(peers))]
    for problem in dict.fromkeys(row.problem for row in rows):
        here = [by_key[problem, peer] for peer in peers if (problem, peer) in by_key]
        reference = by_key.get((problem, base))
        cells = [
            cell(by_key.get((problem, peer)), reference, best(here)) if by_key else ""
            for peer in peers
        ]
        lines.append(line([problem, *cells]))
    return "\n".join([*lines, "", notes(rows, context)])


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def best(rows: Sequence[Row]) -> dict[str, float]:
    """Lowest value of each criterion that any peer reached."""
    found: dict[str, float] = {}
    for row in rows:
        if row.deviance is not None:
            found[row.criterion] = min(row.deviance, found.get(row.criterion, float("inf")))
    return found


def cell(row: Row | None, reference: Row | None, lowest: dict[str, float]) -> str:
    """Like "7.2 s (30x), 81 evals, +0.002"; the status alone where there is no time."""
    if row is None:
        return ""
    if row.seconds is None:
        return row.status
    text = duration(row.seconds)
    if reference and reference.seconds and reference is not row:
        text += f" ({row.seconds / reference.seconds:.3g}x)"
    text += f", {row.evaluations} evals" if row.evaluations else ""
    gap = row.deviance - lowest[row.criterion] if row.deviance is not None else 0.0
    text += f", +{gap:.2g}" if gap > 1e-4 else ""
    text += f", {row.criterion} only" if other_criterion(row, reference) else ""
    return text + (", NC" if row.status == "NC" else "")


def other_criterion(row: Row, reference: Row | None) -> bool:
    return reference is not None and row.criterion != reference.criterion


def duration(seconds: float) -> str:
    """Three digits in ms or s."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def notes(rows: Sequence[Row], context: dict[str, Any]) -> str:
    """Legend, machine and versions."""
    versions = {row.peer: f"{row.version} ({row.language})" for row in rows if row.version}
    listed = ", ".join(f"{peer} {version}" for peer, version in versions.items())
    where = ", ".join(f"{name}: {value}" for name, value in context.items())
    return (
        "Median wall time of the fit, warm. `+`: deviance above the lowest one found. N/A: the "
        "model is not supported; NC: not converged; -: not installed.\n\n"
        f"{listed}. {where}."
    )
