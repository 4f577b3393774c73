"""Bootstrap and refits against lme4's bootMer and against single fits, one after the other in one run.

    python -m benchmarks.refits [--insteval 20]

Prints seconds for both sides and their ratio. lme4 runs ``bootMer(parallel = "multicore", ncpus = 2)``, this library
two worker processes. ``--insteval`` is the number of replicates both sides make there, ``--sleepstudy`` that of lme4
there, from which 1,000 are extrapolated.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import sparselmm as slm
from sparselmm.datasets import simulate_design
from sparselmm.datasets.groupings import crossed

R_SCRIPT = """
suppressMessages(library(lme4)); set.seed(1)
f <- function(m) c(fixef(m), getME(m, "theta"), sigma(m))
m <- lmer({formula}, {data})
t <- system.time(suppressWarnings(suppressMessages(
  bootMer(m, f, nsim = {nsim}, parallel = "multicore", ncpus = 2))))
cat(t[["elapsed"]])
"""


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bootmer(formula: str, data: str, nsim: int) -> float:
    """Seconds of lme4 for `nsim` replicates on two cores."""
    script = R_SCRIPT.format(formula=formula, data=data, nsim=nsim)
    done = subprocess.run(["Rscript", "-e", script], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def line(what: str, own: float, other: float, note: str) -> None:
    print(f"{what:<44} {own:9.3f} s {other:9.2f} s {other / own:8.0f} x   {note}", flush=True)


def sleepstudy(nsim: int, executor: ProcessPoolExecutor) -> None:
    formula = "Reaction ~ Days + (Days | Subject)"
    fit = slm.lmm(formula, slm.load_dataset("sleepstudy"))
    fit.bootstrap(1000, rng=0, executor=executor)
    own = seconds(lambda: fit.bootstrap(1000, rng=1, executor=executor))
    other = bootmer(formula, "sleepstudy", nsim) * 1000 / nsim
    line("bootstrap, sleepstudy, 1,000 replicates", own, other, f"bootMer from {nsim}")


def insteval(nsim: int, executor: ProcessPoolExecutor) -> None:
    formula = "y ~ 1 + (1 | s) + (1 | d) + (1 | dept)"
    fit = slm.lmm(formula, slm.load_dataset("insteval"))
    fit.bootstrap(16, rng=0, executor=executor)
    own = seconds(lambda: fit.bootstrap(64, rng=1, executor=executor)) * nsim / 64
    other = bootmer(formula, "InstEval", nsim)
    line(f"bootstrap, InstEval, {nsim} replicates", own, other, "ours from 64")


def refits() -> None:
    rng = np.random.default_rng(1)
    problem = simulate_design(1000, {"a": crossed(50), "b": crossed(20)}, rng)
    fit = slm.lmm(problem.formula, problem.data)
    Y = fit.simulate(1000, rng)
    fit.refit_many(Y)
    own = seconds(lambda: fit.refit_many(Y))
    single = seconds(
        lambda: [slm.lmm(problem.formula, problem.data.assign(y=Y[i])) for i in range(100)]
    )
    line("refit_many, 50 x 20 crossed, 1,000 responses", own, 10 * single, "lmm from 100")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--insteval", type=int, default=20)
    parser.add_argument("--sleepstudy", type=int, default=200)
    options = parser.parse_args(argv)
    print(f"{'':<44} {'sparselmm':>11} {'other':>11} {'ratio':>10}")
    with ProcessPoolExecutor(2) as executor:
        sleepstudy(options.sleepstudy, executor)
        insteval(options.insteval, executor)
    refits()


if __name__ == "__main__":
    main()
