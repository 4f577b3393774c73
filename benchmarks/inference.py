"""Inference against lme4 and pbkrtest, and refits against single fits, one after the other in one run.

    python -m benchmarks.inference [--only profile bootstrap kenward_roger refits]

Prints seconds for both sides and their ratio. lme4 runs ``bootMer(parallel = "multicore", ncpus = 2)``, this library
two worker processes. ``--insteval`` is the number of replicates both sides make there, ``--sleepstudy`` that of lme4
there, from which 1,000 are extrapolated. R must have lme4 and pbkrtest.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import sparselmm as slm
from sparselmm.datasets import simulate_design
from sparselmm.datasets.groupings import crossed

SLEEPSTUDY = "Reaction ~ Days + (Days | Subject)"
INSTEVAL = "y ~ 1 + (1 | s) + (1 | d) + (1 | dept)"
TESTED = {
    "sleepstudy": SLEEPSTUDY,
    "cake": "angle ~ recipe * temperature + (1 | recipe:replicate)",
    "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
}
R_PROFILE = """
suppressMessages(library(lme4))
m <- lmer({formula}, {data}, REML = FALSE)
cat(system.time(suppressWarnings(profile(m)))[["elapsed"]])
"""
R_BOOTSTRAP = """
suppressMessages(library(lme4)); set.seed(1)
f <- function(m) c(fixef(m), getME(m, "theta"), sigma(m))
m <- lmer({formula}, {data})
t <- system.time(suppressWarnings(suppressMessages(
  bootMer(m, f, nsim = {nsim}, parallel = "multicore", ncpus = 2))))
cat(t[["elapsed"]])
"""
R_KENWARD_ROGER = """
suppressMessages({{library(lme4); library(pbkrtest)}})
m <- lmer({formula}, {data})
run <- function() {{ V <- vcovAdj(m); for (i in seq_along(fixef(m))) {{
  L <- matrix(0, 1, length(fixef(m))); L[i] <- 1; Lb_ddf(L, vcov(m), V) }} }}
run()
cat(system.time(for (k in 1:5) run())[["elapsed"]] / 5)
"""


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median_seconds(run: Callable[[], object], repeat: int = 7) -> float:
    """After one warm-up."""
    run()
    return statistics.median(seconds(run) for _ in range(repeat))


def rscript(script: str, **fields: object) -> float:
    """Seconds that a script of R prints."""
    command = ["Rscript", "-e", script.format(**fields)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def profile(_: argparse.Namespace) -> None:
    """Whole profiles, theirs of theta, sigma and beta, ours of the same on the scale of standard deviations."""
    for formula, data, frame in (
        (SLEEPSTUDY, "sleepstudy", "sleepstudy"),
        (INSTEVAL, "insteval", "InstEval"),
    ):
        fit = slm.lmm(formula, slm.load_dataset(data), reml=False)
        own = median_seconds(fit.profile, 7 if data == "sleepstudy" else 1)
        line(f"profile, {data}", own, rscript(R_PROFILE, formula=formula, data=frame))


def kenward_roger(_: argparse.Namespace) -> None:
    """Adjusted covariance and degrees of freedom of all coefficients."""
    for data, formula in TESTED.items():
        frame = slm.load_dataset(data.lower())

        def run(formula=formula, frame=frame):
            fit = slm.lmm(formula, frame)
            return seconds(lambda: fit.ddf(method="kenward-roger"))

        run()
        own = statistics.median(run() for _ in range(7))
        theirs = rscript(R_KENWARD_ROGER, formula=formula, data=data)
        line(f"Kenward-Roger, {data}", own, theirs, "without the fits")


def bootstrap(options: argparse.Namespace) -> None:
    """Parametric bootstrap in two processes."""
    with ProcessPoolExecutor(2) as executor:
        sleepstudy(options.sleepstudy, executor)
        insteval(options.insteval, executor)


def line(what: str, own: float, other: float, note: str = "") -> None:
    print(f"{what:<44} {own:9.4f} s {other:9.3f} s {other / own:8.0f} x   {note}", flush=True)


def sleepstudy(nsim: int, executor: ProcessPoolExecutor) -> None:
    fit = slm.lmm(SLEEPSTUDY, slm.load_dataset("sleepstudy"))
    fit.bootstrap(1000, rng=0, executor=executor)
    own = seconds(lambda: fit.bootstrap(1000, rng=1, executor=executor))
    other = rscript(R_BOOTSTRAP, formula=SLEEPSTUDY, data="sleepstudy", nsim=nsim) * 1000 / nsim
    line("bootstrap, sleepstudy, 1,000 replicates", own, other, f"bootMer from {nsim}")


def insteval(nsim: int, executor: ProcessPoolExecutor) -> None:
    fit = slm.lmm(INSTEVAL, slm.load_dataset("insteval"))
    fit.bootstrap(16, rng=0, executor=executor)
    own = seconds(lambda: fit.bootstrap(64, rng=1, executor=executor)) * nsim / 64
    other = rscript(R_BOOTSTRAP, formula=INSTEVAL, data="InstEval", nsim=nsim)
    line(f"bootstrap, InstEval, {nsim} replicates", own, other, "ours from 64")


def refits(_: argparse.Namespace) -> None:
    """Many responses of one design."""
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


PARTS = {f.__name__: f for f in (profile, kenward_roger, bootstrap, refits)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--insteval", type=int, default=20)
    parser.add_argument("--sleepstudy", type=int, default=200)
    options = parser.parse_args(argv)
    print(f"{'':<44} {'sparselmm':>11} {'other':>11} {'ratio':>10}")
    for name in options.only:
        PARTS[name](options)


if __name__ == "__main__":
    main()
