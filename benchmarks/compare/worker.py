"""Fits one problem in one Python package; runs alone in the interpreter of that package.

    python worker.py PEER FOLDER WARM_UP_FOLDER REPEAT

Prints one JSON object per line: the versions, then one result per timed fit, so that what was
measured before a timeout is kept. Imports nothing of its own package but the file `exchange`.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

Fit = Callable[[], Any]
Report = dict[str, Any]


class NotSupportedError(Exception):
    """The package cannot express the model."""


def sparselmm(data: pd.DataFrame, formula: str, reml: bool) -> tuple[Fit, Callable[[Any], Report]]:
    """This library."""
    import sparselmm as slm

    def report(fit: Any) -> Report:
        return {
            "deviance": fit.deviance,
            "converged": fit.converged,
            "evaluations": fit.optimum.evaluations,
        }

    return (lambda: slm.lmm(formula, data, reml=reml)), report


def statsmodels(data: pd.DataFrame, formula: str, reml: bool) -> tuple[Fit, Callable]:
    """statsmodels' MixedLM; crossed factors as variance components of a single group."""
    import statsmodels.formula.api as smf
    from exchange import fixed, terms

    random = terms(formula)
    if len(random) == 1:
        left, group = random[0]
        options: dict[str, Any] = {"groups": data[group], "re_formula": f"~ {left}"}
    else:
        if any(left != "1" for left, _ in random):
            raise NotSupportedError("correlated slopes of crossed factors")
        components = {group: f"0 + C({group})" for _, group in random}
        options = {"groups": pd.Series(1, index=data.index), "vc_formula": components}

    def fit() -> Any:
        return smf.mixedlm(fixed(formula), data, **options).fit(reml=reml)

    return fit, likelihood_report


def mixedlm_rs(data: pd.DataFrame, formula: str, reml: bool) -> tuple[Fit, Callable]:
    """mixedlm-rs (PyPI): statsmodels' interface, one grouping factor."""
    import mixedlm_rs as rs
    from exchange import fixed, terms

    random = terms(formula)
    if len(random) > 1:
        raise NotSupportedError("more than one grouping factor")
    left, group = random[0]

    def fit() -> Any:
        model = rs.mixedlm(fixed(formula), data, groups=group, re_formula=f"~ {left}")
        return model.fit(reml=reml)

    return fit, likelihood_report


def likelihood_report(fit: Any) -> Report:
    """Results with statsmodels' names."""
    return {"deviance": -2 * fit.llf, "converged": bool(fit.converged)}


def mixedlm(data: pd.DataFrame, formula: str, reml: bool) -> tuple[Fit, Callable]:
    """Mixedlm (PyPI): lme4's interface on a Rust core."""
    import mixedlm

    def report(fit: Any) -> Report:
        return {
            "deviance": fit.REMLcrit() if reml else fit.deviance,
            "converged": bool(fit.converged),
        }

    return (lambda: mixedlm.lmer(formula, data, REML=reml)), report


def gpboost(data: pd.DataFrame, formula: str, reml: bool) -> tuple[Fit, Callable]:  # noqa: ARG001
    """GPBoost: maximum likelihood only (`reml` changes nothing), no correlated slopes."""
    import gpboost as gpb
    import patsy
    from exchange import fixed, terms

    random = terms(formula)
    if any(left != "1" for left, _ in random):
        raise NotSupportedError("correlated slopes")
    codes = data[[group for _, group in random]].apply(lambda c: c.cat.codes).to_numpy()

    def fit() -> Any:
        y, X = patsy.dmatrices(fixed(formula), data)
        model = gpb.GPModel(group_data=codes, likelihood="gaussian")
        model.fit(y=y.ravel(), X=X.view(type=X.__class__.__mro__[1]))
        return model

    def report(model: Any) -> Report:
        return {"deviance": 2 * model.get_current_neg_log_likelihood(), "criterion": "ML"}

    return fit, report


PEERS = {f.__name__: f for f in (sparselmm, statsmodels, mixedlm, mixedlm_rs, gpboost)}


def emit(**fields: Any) -> None:
    """One line of the answer."""
    print(json.dumps(fields), flush=True)


def peak_megabytes() -> float:
    """Largest resident size of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def prepare(peer: str, folder: Path) -> tuple[Fit, Callable[[Any], Report]]:
    """Read the data and bind the model, untimed."""
    from exchange import read

    data, meta = read(folder)
    return PEERS[peer](data, meta["formula"], meta["reml"])


def measure(peer: str, folder: Path, warm_up: Path, repeat: int) -> None:
    """Warm up on the small problem, then time the large one."""
    fit, _ = prepare(peer, warm_up)
    version = importlib.import_module(peer).__version__
    emit(version=version, language=f"Python {platform.python_version()}")
    fit()
    fit, report = prepare(peer, folder)
    for _ in range(repeat):
        seconds, fitted = timed(fit)
        emit(seconds=seconds, peak_mb=peak_megabytes(), **report(fitted))


def timed(fit: Fit) -> tuple[float, Any]:
    """Wall time of a fit; of short ones the mean over half a second, as in lme4.R."""
    gc.collect()
    start = time.perf_counter()
    fitted = fit()
    seconds = time.perf_counter() - start
    if seconds >= 0.5:
        return seconds, fitted
    times = max(3, math.ceil(0.5 / max(seconds, 0.001)))
    start = time.perf_counter()
    for _ in range(times):
        fitted = fit()
    return (time.perf_counter() - start) / times, fitted


def main(peer: str, folder: str, warm_up: str, repeat: str) -> None:
    """Measure; failures become a line of the answer too."""
    warnings.simplefilter("ignore")
    try:
        measure(peer, Path(folder), Path(warm_up), int(repeat))
    except ImportError as error:
        emit(status="-", message=str(error))
    except (NotSupportedError, NotImplementedError) as error:
        emit(status="N/A", message=str(error))
    except Exception as error:
        emit(status="failed", message=f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main(*sys.argv[1:])
