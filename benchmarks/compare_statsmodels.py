"""MixedLM here, in statsmodels and in mixedlm-rs: the same calls on the same data.

    python -m benchmarks.compare_statsmodels [--rs PYTHON] [--statsmodels PYTHON] [--slow]

Every package runs in a process of its own, fits a small problem first (warm-up), then the problem; short fits are
repeated and the median is taken. A fit is the whole call: formula, model, ``fit`` and, so that equal work is
compared, its standard errors (statsmodels computes them in ``fit``). Packages that are absent, or cannot express a
model, are left out; ``--slow`` adds what takes statsmodels the better part of an hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# name: (rows, levels of each factor, random slope); the second factor makes a crossed model in one group
PROBLEMS = {
    "20,000 rows, 2,000 groups, random slope": (20_000, (2_000,), True),
    "500,000 rows, 125,000 groups, random intercept": (500_000, (125_000,), False),
    "10,000 rows, 500 x 300 levels crossed in one group": (10_000, (500, 300), False),
    "1,000,000 rows, 50,000 x 5,000 levels crossed in one group": (
        1_000_000,
        (50_000, 5_000),
        False,
    ),
}
CAPABLE = {
    "sparselmm": set(PROBLEMS),
    "statsmodels": {name for name, (n, _, _) in PROBLEMS.items() if n <= 20_000},
    "mixedlm_rs": {name for name, (_, levels, _) in PROBLEMS.items() if len(levels) == 1},
}
SLOW = {"statsmodels": {"500,000 rows, 125,000 groups, random intercept"}}


def simulate(rows: int, levels: tuple[int, ...], slope: bool):
    """Data with a predictor and unit variances."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    codes = [rng.integers(0, count, rows) for count in levels]
    if len(levels) == 1:
        codes[0].sort()
    x = rng.normal(size=rows)
    y = 1 + 0.5 * x + rng.normal(size=rows)
    for code, count in zip(codes, levels, strict=True):
        y += rng.normal(size=count)[code]
    if slope:
        y += 0.5 * rng.normal(size=levels[0])[codes[0]] * x
    columns = dict(zip("ab", codes, strict=False))
    return pd.DataFrame({"y": y, "x": x, "one": 1, **columns})


def call(package: str, data, levels: tuple[int, ...], slope: bool):
    """One fit with standard errors; returns the log-likelihood."""
    arguments: dict = {"groups": "a", "re_formula": "~x"} if slope else {"groups": "a"}
    if len(levels) == 2:
        arguments = {"groups": "one", "vc_formula": {"a": "0 + C(a)", "b": "0 + C(b)"}}
    if package == "sparselmm":
        from sparselmm import mixedlm
    elif package == "statsmodels":
        from statsmodels.formula.api import mixedlm
    else:
        from mixedlm_rs import mixedlm
    fit = mixedlm("y ~ x", data, **arguments).fit()
    _ = fit.bse
    return float(fit.llf)


def work(package: str, name: str) -> None:
    """Warm up, measure, print one line of JSON."""
    import warnings

    warnings.simplefilter("ignore")
    rows, levels, slope = PROBLEMS[name]
    call(package, simulate(200, tuple(8 for _ in levels), slope), levels, slope)
    data = simulate(rows, levels, slope)
    seconds, llf = [], 0.0
    while not seconds or (sum(seconds) < 2.0 and len(seconds) < 9):
        start = time.perf_counter()
        llf = call(package, data, levels, slope)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": statistics.median(seconds), "llf": llf}))


def measure(python: str, package: str, name: str) -> dict | None:
    """The worker's answer, or None where it failed."""
    command = [python, str(Path(__file__).resolve()), "--worker", package, name]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment())
    if run.returncode:
        print(
            f"    {package}: {(run.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr
        )
        return None
    return json.loads(run.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """This one, with the package on the path."""
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def main() -> None:
    """Print a table of seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument(
        "--statsmodels", default=sys.executable, help="interpreter with statsmodels"
    )
    parser.add_argument("--rs", default=sys.executable, help="interpreter with mixedlm-rs")
    parser.add_argument("--slow", action="store_true")
    chosen = parser.parse_args()
    if chosen.worker:
        work(*chosen.worker)
        return
    pythons = {
        "sparselmm": sys.executable,
        "statsmodels": chosen.statsmodels,
        "mixedlm_rs": chosen.rs,
    }
    print("| problem | package | seconds | ratio | log-likelihood |\n|---|---|--:|--:|--:|")
    for name in PROBLEMS:
        base = None
        for package, python in pythons.items():
            able = CAPABLE[package] | (SLOW.get(package, set()) if chosen.slow else set())
            answer = measure(python, package, name) if name in able else None
            if answer is None:
                continue
            base = answer["seconds"] if base is None else base
            ratio = answer["seconds"] / base
            print(
                f"| {name} | {package} | {answer['seconds']:.4f} | {ratio:.1f} | {answer['llf']:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
