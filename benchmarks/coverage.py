"""How often intervals hold the truth: profile beside lme4's, and four types of bootstrap interval beside theory.

    python -m benchmarks.coverage [--datasets 2000] [--compared 200] [--replicates 499]

writes the tables of docs/explanation/coverage.md (below its marker). Needs Rscript with lme4 for the comparison;
without it, or with ``--compared 0``, that table is left out.

The design is balanced, every a with every b once. There REML estimates are functions of three independent chi-square
variables (the analysis of variance), so that bootstrap coverage can be computed without fitting anything: that is
"theory" below.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

import sparselmm as slm
from sparselmm.inference.bootstrap.record import TYPES, interval_function

N_A, N_B = 12, 8
TRUTH = {"Intercept": 0.0, "sd_Intercept|a": 0.5, "sd_Intercept|b": 0.7, "sigma": 1.0}
LEVEL = 0.95
SEED = 20_251_122
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "coverage.md"
MARKER = "<!-- written by benchmarks/coverage.py -->"
CHUNK = 20

R_SCRIPT = """
suppressMessages(library(lme4))
args <- commandArgs(TRUE)
Y <- as.matrix(read.csv(args[1], header = FALSE))
a <- factor(rep(1:{a}, each = {b})); b <- factor(rep(1:{b}, {a}))
out <- matrix(NA_real_, ncol(Y), 8)
for (i in seq_len(ncol(Y))) {{
  ci <- try(suppressWarnings(suppressMessages({{
    m <- lmer(y ~ 1 + (1 | a) + (1 | b), data.frame(y = Y[, i], a = a, b = b), REML = FALSE)
    confint(m, method = "profile", oldNames = FALSE, quiet = TRUE)
  }})), silent = TRUE)
  if (!inherits(ci, "try-error"))
    out[i, ] <- t(ci[c("(Intercept)", "sd_(Intercept)|a", "sd_(Intercept)|b", "sigma"), ])
}}
write.table(out, args[2], sep = ",", row.names = FALSE, col.names = FALSE)
"""


def frame() -> pd.DataFrame:
    """The design, with a response that is replaced."""
    a, b = np.divmod(np.arange(N_A * N_B), N_B)
    return pd.DataFrame({"y": response(0), "a": a, "b": b})


def generator(i: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(SEED, spawn_key=(i,)))


def response(i: int) -> np.ndarray:
    """Data set i."""
    rng = generator(i)
    effects_a = TRUTH["sd_Intercept|a"] * rng.standard_normal(N_A)
    effects_b = TRUTH["sd_Intercept|b"] * rng.standard_normal(N_B)
    errors = TRUTH["sigma"] * rng.standard_normal((N_A, N_B))
    return (TRUTH["Intercept"] + effects_a[:, None] + effects_b + errors).ravel()


def intervals_of(first: int, last: int, replicates: int) -> dict[str, np.ndarray]:
    """Intervals of data sets `first` to `last`, shape (data sets, parameters, 2), by method."""
    reml = slm.lmm("y ~ 1 + (1 | a) + (1 | b)", frame())
    ml = reml.refit(reml=False)
    out: dict[str, list] = {method: [] for method in ("profile", *TYPES)}
    for i in range(first, last):
        y = response(i)
        out["profile"].append(ml.refit(y).conf_int(LEVEL, "profile").loc[list(TRUTH)])
        drawn = reml.refit(y).bootstrap(replicates, rng=generator(i + 1_000_000))
        for kind in TYPES:
            out[kind].append(drawn.conf_int(LEVEL, kind).loc[list(TRUTH)])
    return {method: np.array(tables) for method, tables in out.items()}


def all_intervals(datasets: int, replicates: int, workers: int) -> dict[str, np.ndarray]:
    edges = [*range(0, datasets, CHUNK), datasets]
    with ProcessPoolExecutor(workers) as executor:
        jobs = [executor.submit(intervals_of, a, b, replicates) for a, b in pairwise(edges)]
        pieces = []
        for job in jobs:
            pieces.append(job.result())
            print(f"\r{len(pieces) * CHUNK} of {datasets}", end="", flush=True)
    print()
    return {method: np.concatenate([piece[method] for piece in pieces]) for method in pieces[0]}


def covered(intervals: np.ndarray) -> np.ndarray:
    """Whether each interval holds the truth, shape (data sets, parameters)."""
    truth = np.array(list(TRUTH.values()))
    return (intervals[..., 0] <= truth) & (truth <= intervals[..., 1])


def lme4_intervals(count: int) -> np.ndarray | None:
    """lme4's profile intervals of the first data sets, NaN where it gave none."""
    if not count or not shutil.which("Rscript"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        script, given, taken = (Path(folder) / name for name in ("run.R", "y.csv", "ci.csv"))
        script.write_text(R_SCRIPT.format(a=N_A, b=N_B))
        columns = np.column_stack([response(i) for i in range(count)])
        np.savetxt(given, columns, delimiter=",", fmt="%.17g")
        subprocess.run(["Rscript", script, given, taken], check=True)
        # R transposes: lower and upper of each parameter in turn
        return np.genfromtxt(taken, delimiter=",", missing_values="NA").reshape(count, 4, 2)


def estimates(SSa: np.ndarray, SSb: np.ndarray, SSe: np.ndarray) -> np.ndarray:
    """REML estimates of the balanced design from its sums of squares: sd_a, sd_b, sigma; shape (..., 3).

    A mean square below the residual one is pooled with it, its variance is zero.
    """
    df_a, df_b, df_e = N_A - 1, N_B - 1, (N_A - 1) * (N_B - 1)
    pool_a, pool_b = np.zeros(SSa.shape, bool), np.zeros(SSa.shape, bool)
    for _ in range(2):
        SS = SSe + np.where(pool_a, SSa, 0.0) + np.where(pool_b, SSb, 0.0)
        s2 = SS / (df_e + df_a * pool_a + df_b * pool_b)
        pool_a, pool_b = pool_a | (SSa / df_a < s2), pool_b | (SSb / df_b < s2)
    SS = SSe + np.where(pool_a, SSa, 0.0) + np.where(pool_b, SSb, 0.0)
    s2 = SS / (df_e + df_a * pool_a + df_b * pool_b)
    var_a = np.where(pool_a, 0.0, (SSa / df_a - s2) / N_B)
    var_b = np.where(pool_b, 0.0, (SSb / df_b - s2) / N_A)
    return np.sqrt(np.stack([np.maximum(var_a, 0), np.maximum(var_b, 0), s2], axis=-1))


def sums_of_squares(sd: np.ndarray, count: int, rng: np.random.Generator) -> tuple:
    """Draws of the three sums of squares given sd_a, sd_b, sigma."""
    expected = sd[2] ** 2 + np.array([N_B * sd[0] ** 2, N_A * sd[1] ** 2, 0.0])
    df = (N_A - 1, N_B - 1, (N_A - 1) * (N_B - 1))
    return tuple(e * rng.chisquare(d, count) for e, d in zip(expected, df, strict=True))


def theory(datasets: int, replicates: int) -> dict[str, np.ndarray]:
    """Bootstrap coverage of every parameter by type, from chi-square variables alone."""
    rng = np.random.default_rng(SEED)
    truth = np.array(list(TRUTH.values()))
    fitted = estimates(*sums_of_squares(truth[1:], datasets, rng))
    hits = {kind: np.zeros(4) for kind in TYPES}
    for own in fitted:
        center = truth[0] + _mean_sd(truth[1:]) * rng.standard_normal()
        drawn = estimates(*sums_of_squares(own, replicates, rng))
        means = center + _mean_sd(own) * rng.standard_normal(replicates)
        columns = [means, *drawn.T]
        for kind in TYPES:
            ends = interval_function(kind)
            for k, (values, estimate) in enumerate(zip(columns, [center, *own], strict=True)):
                lower, upper = ends(values, estimate, LEVEL)
                hits[kind][k] += lower <= truth[k] <= upper
    return {kind: own / datasets for kind, own in hits.items()}


def _mean_sd(sd: np.ndarray) -> float:
    """Standard deviation of the grand mean."""
    return float(np.sqrt(sd[0] ** 2 / N_A + sd[1] ** 2 / N_B + sd[2] ** 2 / (N_A * N_B)))


def report(intervals: dict, expected: dict, peer: np.ndarray | None, replicates: int) -> str:
    """The tables in Markdown."""
    datasets = len(intervals["profile"])
    error = 100 * np.sqrt(LEVEL * (1 - LEVEL) / datasets)
    names = _header()
    head = (
        f"Coverage in per cent of nominal {100 * LEVEL:g} % intervals, {datasets:,} data sets, {replicates} replicates "
        f"each (Monte-Carlo standard error at nominal coverage: {error:.1f}; theory from {10 * datasets:,} draws):"
    )
    rows = [
        head,
        "",
        f"| interval | {names} |",
        "|---|" + "--:|" * len(TRUTH),
        _row("profile", covered(intervals["profile"]).mean(axis=0)),
    ]
    for kind in TYPES:
        rows.append(_row(f"bootstrap, {kind}", covered(intervals[kind]).mean(axis=0)))
        rows.append(_row(f"theory, {kind}", expected[kind]))
    if peer is not None:
        rows += ["", *compare(intervals["profile"][: len(peer)], peer)]
    return "\n".join(rows) + "\n"


def _header() -> str:
    return " | ".join(name.replace("|", r"\|") for name in TRUTH)


def _row(name: str, shares: np.ndarray) -> str:
    return f"| {name} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |"


def compare(own: np.ndarray, peer: np.ndarray) -> list[str]:
    """Our profile intervals and lme4's on the same data."""
    whole = np.isfinite(peer).all(axis=2)
    names = _header()
    both = [
        (covered(own)[:, k] & whole[:, k], covered(peer)[:, k] & whole[:, k])
        for k in range(len(TRUTH))
    ]
    gap = np.where(whole[:, :, None], np.abs(own - peer), 0.0).max(axis=2)
    width = np.where(whole, own[:, :, 1] - own[:, :, 0], 1.0)
    head = f"The first {len(own)} data sets: profile intervals one by one against lme4's `confint`:"
    return [
        head,
        "",
        f"| | {names} |",
        "|---|" + "--:|" * len(TRUTH),
        "| lme4 gives an interval | " + " | ".join(str(n) for n in whole.sum(axis=0)) + " |",
        "| of these: ours holds the truth | " + " | ".join(str(a.sum()) for a, _ in both) + " |",
        "| of these: lme4's holds the truth | " + " | ".join(str(b.sum()) for _, b in both) + " |",
        "| the two disagree about that | "
        + " | ".join(str((a != b).sum()) for a, b in both)
        + " |",
        "| median difference of an end, share of the width | "
        + " | ".join(f"{np.median((gap / width)[whole[:, k], k]):.1e}" for k in range(len(TRUTH)))
        + " |",
        "| largest difference of an end, share of the width | "
        + " | ".join(f"{(gap / width)[:, k].max():.1e}" for k in range(len(TRUTH)))
        + " |",
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", type=int, default=2000)
    parser.add_argument("--compared", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=499)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(argv)
    intervals = all_intervals(options.datasets, options.replicates, options.workers)
    expected = theory(10 * options.datasets, options.replicates)
    peer = lme4_intervals(min(options.compared, options.datasets))
    tables = report(intervals, expected, peer, options.replicates)
    print(tables)
    if options.page.exists():
        text = options.page.read_text().split(MARKER)[0]
        options.page.write_text(f"{text}{MARKER}\n\n{tables}")


if __name__ == "__main__":
    main()
