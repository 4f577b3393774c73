"""Compare packages on the named problems.

python -m benchmarks.compare --problems insteval nested_500k --peers sparselmm lme4 --repeat 3
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.best import record_best
from benchmarks.compare.runner import PEERS, Row, Settings, machine, run
from benchmarks.compare.table import best, duration, markdown, write_csv
from benchmarks.problems import PROBLEMS


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    add = parser.add_argument
    add("--problems", nargs="+", choices=PROBLEMS, default=["sleepstudy", "insteval"])
    add("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    add("--base", choices=PEERS, default="sparselmm", help="the peer that ratios refer to")
    add("--python", default=sys.executable, help="interpreter that has the other Python peers")
    add("--threads", type=int, default=Settings().threads)
    add("--timeout", type=float, default=600.0, help="seconds for all fits of one peer")
    add("--repeat", type=int, default=3)
    add("--scale", type=float, default=1.0, help="shrink the problems")
    add("--ml", action="store_true", help="maximum likelihood instead of REML")
    add("--record-best", action="store_true", help="lower the figures in best_known.json")
    add("--out", type=Path, help="folder for compare.csv and compare.md")
    return parser.parse_args(argv)


def progress(row: Row) -> None:
    time = duration(row.seconds) if row.seconds is not None else row.status
    print(f"{row.problem:>15} {row.peer:<12} {time} {row.message}", file=sys.stderr)


def record(rows: Sequence[Row]) -> None:
    """Keep the lowest REML criterion of each problem."""
    for name in dict.fromkeys(row.problem for row in rows):
        lowest = best([row for row in rows if row.problem == name]).get("REML")
        if lowest is not None:
            record_best(name, PROBLEMS[name].make(1.0), lowest)


def main(argv: list[str] | None = None) -> None:
    """Run, report as rows come in, print the table and write the files."""
    chosen = arguments(argv)
    settings = Settings(
        python=chosen.python,
        threads=chosen.threads,
        timeout=chosen.timeout,
        repeat=chosen.repeat,
        scale=chosen.scale,
        reml=not chosen.ml,
    )
    context = machine() | {"threads": chosen.threads, "scale": chosen.scale}
    rows: list[Row] = []
    for row in run(chosen.problems, chosen.peers, settings):
        progress(row)
        rows.append(row)
    table = markdown(rows, chosen.base, context)
    print(table)
    if chosen.record_best and settings.reml and settings.scale == 1.0:
        record(rows)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        write_csv(chosen.out / "compare.csv", rows, context)
        (chosen.out / "compare.md").write_text(table + "\n")


if __name__ == "__main__":
    main()
