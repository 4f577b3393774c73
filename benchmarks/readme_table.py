"""Write the table of speed ratios in the README from the files in benchmarks/results.

python -m benchmarks.compare --problems ... --peers ... --out benchmarks/results
python -m benchmarks.readme_table
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare.table import duration, line
from benchmarks.problems import PROBLEMS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN = "<!-- speed: written by python -m benchmarks.readme_table -->"
END = "<!-- end of speed -->"
BASE = "sparselmm"
ABOVE = 0.01  # deviance above the best one found from which an optimum counts as missed

Rows = Sequence[dict[str, str]]


def read(folder: Path = RESULTS) -> list[dict[str, str]]:
    """Rows of all comparisons at full scale, the newest for each problem and peer."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = row.get("problem", ""), row.get("peer", "")
                known = found.get(key, {"date": ""})
                if row.get("scale") == "1.0" and row["date"] >= known["date"]:
                    found[key] = row
    return list(found.values())


def section(rows: Rows) -> str:
    """What stands between the marks: the table, what it shows, how to make it."""
    if not any(row["peer"] == BASE for row in rows):
        return "No measurements in `benchmarks/results` yet.\n"
    by_key = {(row["problem"], row["peer"]): row for row in rows}
    peers = [BASE, *dict.fromkeys(row["peer"] for row in rows if row["peer"] != BASE)]
    problems = [name for name in PROBLEMS if (name, BASE) in by_key]
    heads = [f"{peer} {version(rows, peer)}".strip() for peer in peers]
    lines = [line(["problem", *heads]), line(["---"] + ["--:"] * len(peers))]
    for name in problems:
        cells = [cell(by_key.get((name, peer)), by_key, name) for peer in peers]
        lines.append(line([describe(name), *cells]))
    return "\n".join([*lines, "", notes(rows, problems, peers)])


def describe(name: str) -> str:
    """The first words about a problem."""
    text = " ".join((PROBLEMS[name].make.__doc__ or "").split("\n\n")[0].split()).split(";")[0]
    return f"`{name}`: {text.rstrip('.')}"


def version(rows: Rows, peer: str) -> str:
    return next((row["version"] for row in rows if row["peer"] == peer and row["version"]), "")


def cell(row: dict[str, str] | None, by_key: dict, problem: str) -> str:
    """Seconds of the base, ratios of the others; why there is none."""
    if row is None or row["status"] in ("-", ""):
        return ""
    if not row["seconds"]:
        return row["status"]
    if row["peer"] == BASE:
        return duration(float(row["seconds"]))
    ratio = float(row["seconds"]) / float(by_key[problem, BASE]["seconds"])
    same = [
        r
        for (name, _), r in by_key.items()
        if name == problem and r["criterion"] == row["criterion"]
    ]
    missed = (
        float(row["deviance"]) - min(float(r["deviance"]) for r in same if r["deviance"]) > ABOVE
    )
    marks = ("*" if missed or row["status"] == "NC" else "") + (
        " (ML)" if row["criterion"] == "ML" else ""
    )
    return f"{ratio:.2g}×{marks}" if ratio < 10 else f"{ratio:.0f}×{marks}"


def notes(rows: Rows, problems: Sequence[str], peers: Sequence[str]) -> str:
    """Legend, machine, command."""
    base = next(row for row in rows if row["peer"] == BASE)
    text = (
        f"First column: seconds on {base['cores']} cores ({base['machine']}), {base['threads']} threads, "
        f"{base['date']}; the others: how many times that. Median of warm fits, formula and model matrices "
        "included."
    )
    if "*" in "".join(
        cell(row, {(r["problem"], r["peer"]): r for r in rows}, row["problem"]) for row in rows
    ):
        text += " `*`: stopped short of the optimum."
    command = (
        f"python -m benchmarks.compare --problems {' '.join(problems)} --peers {' '.join(peers)}"
    )
    return f"{text}\n\n    {command} --out benchmarks/results\n"


def updated(readme: str, rows: Rows) -> str:
    """The README with a new table."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{section(rows)}{END}{after}"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(), read()))
