"""What a fresh process costs: imports, and a script that prints the summary of sleepstudy.

    python -m benchmarks.compare.cold --repeat 3

Each figure is the wall time of a whole process, the smallest of `repeat`. The cold run gets an
empty folder as numba's cache every time; the warm runs share one that a first run has filled.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUMMARY = (
    "import sparselmm as slm;"
    "data = slm.load_dataset('sleepstudy');"
    "print(slm.lmm('Reaction ~ Days + (Days | Subject)', data).summary())"
)
R_SUMMARY = (
    "suppressPackageStartupMessages(library(lme4));"
    "print(summary(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)))"
)
PYTHON = {
    "empty Python process": "pass",
    "import pandas, scipy.sparse": "import pandas, scipy.sparse",
    "import sparselmm": "import sparselmm",
}


def seconds(command: list[str], cache: Path) -> float:
    """Wall time of a process that must succeed, numba's cache in the given folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return elapsed


def smallest(repeat: int, run: Callable[[], float]) -> float:
    return min(run() for _ in range(repeat))


def in_empty_cache(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as cache:
        return seconds(command, Path(cache))


def figures(repeat: int) -> Mapping[str, float]:
    """Seconds by name of the figure; lme4 where Rscript has it."""
    found: dict[str, float] = {}
    script = [sys.executable, "-c", SUMMARY]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for name, code in PYTHON.items():
            command = [sys.executable, "-c", code]
            seconds(command, cache)
            found[name] = smallest(repeat, lambda command=command: seconds(command, cache))
        found["sparselmm summary, cold cache"] = smallest(repeat, lambda: in_empty_cache(script))
        seconds(script, cache)
        found["sparselmm summary, warm cache"] = smallest(repeat, lambda: seconds(script, cache))
        if has_lme4():
            command = ["Rscript", "--vanilla", "-e", R_SUMMARY]
            found["Rscript lme4 summary"] = smallest(repeat, lambda: seconds(command, cache))
    return found


def has_lme4() -> bool:
    if shutil.which("Rscript") is None:
        return False
    check = ["Rscript", "--vanilla", "-e", "quit(status = !requireNamespace('lme4'))"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def table(found: Mapping[str, float]) -> str:
    """Seconds, and ratios to the bars: imports against pandas, scripts against Rscript."""
    lines = ["| process | seconds | ratio |", "| --- | ---: | ---: |"]
    for name, value in found.items():
        bar = "import pandas, scipy.sparse" if "import" in name else "Rscript lme4 summary"
        ratio = f"{value / found[bar]:.2f}" if bar in found and "empty" not in name else ""
        lines.append(f"| {name} | {value:.2f} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare.cold")
    parser.add_argument("--repeat", type=int, default=3)
    print(table(figures(parser.parse_args().repeat)))


if __name__ == "__main__":
    main()
