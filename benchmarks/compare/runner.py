"""Runs one peer on one problem in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import exchange
from benchmarks.problems import PROBLEMS

HERE = Path(__file__).parent
PEERS = ("sparselmm", "lme4", "mixedlm", "mixedlm_rs", "statsmodels", "gpboost")
ONE_POOL = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON", "POLARS_MAX", "BLIS", "VECLIB_MAXIMUM")


@dataclass(frozen=True, slots=True)
class Row:
    """What one peer did with one problem.

    Attributes
    ----------
    status
        "ok", "NC" (not converged), "N/A" (not supported), "-" (not installed), "timeout" or
        "failed".
    seconds
        Median over the fits that finished; None where none did.
    criterion
        "REML" or "ML": what `deviance` is.
    """

    problem: str
    peer: str
    status: str
    criterion: str
    seconds: float | None = None
    fits: int = 0
    deviance: float | None = None
    evaluations: int | None = None
    peak_mb: float | None = None
    version: str = ""
    language: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run: interpreter of the Python peers, threads, timeout in seconds, scale, REML."""

    python: str = sys.executable
    threads: int = os.cpu_count() or 1
    timeout: float = 600.0
    repeat: int = 3
    scale: float = 1.0
    reml: bool = True


def run(problem_names: Iterable[str], peers: Iterable[str], settings: Settings) -> Iterable[Row]:
    """A row for each problem and peer, as soon as it is known."""
    for name in problem_names:
        with tempfile.TemporaryDirectory() as scratch:
            named = PROBLEMS[name]
            small = min(named.small, settings.scale)
            folders = [
                write(Path(scratch) / part, named.make(scale), settings.reml)
                for part, scale in (("full", settings.scale), ("small", small))
            ]
            for peer in peers:
                yield run_one(name, peer, *folders, settings)


def write(folder: Path, problem: Any, reml: bool) -> Path:
    return exchange.write(folder, problem.data, problem.formula, reml=reml)


def run_one(problem: str, peer: str, full: Path, small: Path, settings: Settings) -> Row:
    """Start the worker, collect its lines until it ends or its time is over."""
    command = command_of(peer, settings)
    if shutil.which(command[0]) is None:
        missing = f"{command[0]} not found"
        return Row(problem, peer, "-", criterion_of(settings), message=missing)
    command += [str(full), str(small), str(settings.repeat)]
    lines, state = collect(command, environment(settings), settings.timeout)
    return summarise(problem, peer, lines, state, settings)


def command_of(peer: str, settings: Settings) -> list[str]:
    if peer == "lme4":
        return ["Rscript", "--vanilla", str(HERE / "lme4.R")]
    python = sys.executable if peer == "sparselmm" else settings.python
    return [python, str(HERE / "worker.py"), peer]


def environment(settings: Settings) -> dict[str, str]:
    """The same number of threads in every pool; this checkout importable."""
    pools = {f"{pool}_NUM_THREADS": str(settings.threads) for pool in ONE_POOL}
    path = os.pathsep.join(filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **pools, "PYTHONPATH": path}


def collect(
    command: list[str], env: dict[str, str], timeout: float
) -> tuple[list[dict[str, Any]], str]:
    """Lines of JSON of a process and how it ended: "ok", "timeout" or its last words."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=err, text=True)
        state = wait(process, timeout)
        out.seek(0)
        err.seek(0)
        lines = [json.loads(line) for line in out if line.startswith("{")]
        words = err.read().strip().splitlines()
    if state == "ok" and process.returncode != 0:
        state = (words or [f"exit status {process.returncode}"])[-1][:300]
    return lines, state


def wait(process: subprocess.Popen, timeout: float) -> str:
    """Wait for the end; past the timeout, end the process."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return "timeout"
    return "ok"


def criterion_of(settings: Settings) -> str:
    return "REML" if settings.reml else "ML"


def summarise(
    problem: str, peer: str, lines: list[dict[str, Any]], state: str, settings: Settings
) -> Row:
    """One row out of the lines of a worker."""
    fields: dict[str, Any] = {}
    for line in lines:
        fields |= line
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    status = fields.get("status") or ("timeout" if state == "timeout" else "failed")
    if seconds:
        status = "ok" if fields.get("converged", True) else "NC"
    message = fields.get("message", "") or ("" if state in ("ok", "timeout") else state)
    known = ("deviance", "evaluations", "peak_mb", "version", "language")
    return Row(
        problem,
        peer,
        status,
        fields.get("criterion") or criterion_of(settings),
        seconds=median(seconds) if seconds else None,
        fits=len(seconds),
        message=message,
        **{name: fields[name] for name in known if name in fields},
    )


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import platform

    return {
        "machine": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    import platform

    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()
