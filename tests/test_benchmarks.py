"""The benchmarks run, scaled down, and the comparison reads what its workers say."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.best import best_known, record_best
from benchmarks.compare import cold, exchange, table
from benchmarks.compare.__main__ import arguments
from benchmarks.compare.runner import Row, Settings, collect, run_one, summarise
from benchmarks.problems import PROBLEMS

ROOT = Path(__file__).parents[1]


def test_formula_splits_into_fixed_and_random() -> None:
    formula = "y ~ 1 + a * b + (1 + a * b | s) + (1 | i)"
    assert exchange.terms(formula) == [("1 + a * b", "s"), ("1", "i")]
    assert exchange.fixed(formula) == "y ~ 1 + a * b"
    assert exchange.fixed("y ~ (1 | g)") == "y ~ 1"


@pytest.mark.parametrize("name", PROBLEMS)
def test_exchange_keeps_every_number(name: str, tmp_path: Path) -> None:
    named = PROBLEMS[name]
    problem = named.make(named.small)
    exchange.write(tmp_path, problem.data, problem.formula, reml=True)
    data, meta = exchange.read(tmp_path)
    assert meta["formula"] == problem.formula
    assert len(data) == len(problem.data) <= 5_000
    for column in data:
        read, written = data[column], problem.data[column]
        if isinstance(read.dtype, pd.CategoricalDtype):
            assert len(pd.crosstab(read.cat.codes, written)) == written.nunique()
            assert (pd.crosstab(read.cat.codes, written) > 0).to_numpy().sum() == len(
                read.cat.categories
            )
        else:
            assert (read == written).all()


@pytest.fixture(scope="module")
def sleepstudy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problem = PROBLEMS["sleepstudy"].make(1.0)
    folder = tmp_path_factory.mktemp("sleepstudy")
    return exchange.write(folder, problem.data, problem.formula, reml=True)


SLOW_PEERS = [pytest.param(peer, marks=pytest.mark.slow) for peer in ("lme4", "statsmodels")]


@pytest.mark.parametrize("peer", ["sparselmm", *SLOW_PEERS])
def test_a_peer_finds_the_optimum_of_sleepstudy(peer: str, sleepstudy: Path) -> None:
    if peer == "lme4" and (shutil.which("Rscript") is None or not cold.has_lme4()):
        pytest.skip("needs Rscript with lme4")
    if peer == "statsmodels":
        pytest.importorskip("statsmodels")
    row = run_one("sleepstudy", peer, sleepstudy, sleepstudy, Settings(repeat=1, timeout=120))
    assert (row.status, row.message) == ("ok", "")
    assert row.deviance == pytest.approx(1743.6282719599653, abs=1e-4)
    assert row.seconds > 0


def test_a_missing_interpreter_is_not_installed(sleepstudy: Path) -> None:
    row = run_one("sleepstudy", "gpboost", sleepstudy, sleepstudy, Settings(python="no-python"))
    assert row.status == "-"


@pytest.mark.parametrize(
    ("lines", "state", "status"),
    [
        ([{"version": "1"}, {"seconds": 1.0, "converged": True}], "ok", "ok"),
        ([{"seconds": 1.0, "converged": False}], "ok", "NC"),
        ([{"seconds": 1.0, "converged": True}], "timeout", "ok"),
        ([{"version": "1"}], "timeout", "timeout"),
        ([{"status": "N/A", "message": "crossed"}], "ok", "N/A"),
        ([], "Killed", "failed"),
    ],
)
def test_status_of_a_worker(lines: list[dict[str, Any]], state: str, status: str) -> None:
    assert summarise("p", "lme4", lines, state, Settings()).status == status


def test_timeout_keeps_what_was_measured() -> None:
    command = ["python3", "-c", "print('{\"seconds\": 1}', flush=True); import time; time.sleep(9)"]
    lines, state = collect(command, {"PATH": "/usr/bin:/bin:/usr/local/bin"}, timeout=1.0)
    assert state == "timeout"
    assert lines == [{"seconds": 1}]


def test_table_shows_ratios_gaps_and_statuses(tmp_path: Path) -> None:
    rows = [
        Row("insteval", "sparselmm", "ok", "REML", 0.2, 3, 100.0, 6, version="1"),
        Row("insteval", "lme4", "ok", "REML", 7.0, 3, 100.01, 81),
        Row("insteval", "gpboost", "ok", "ML", 2.0, 3, 99.0),
        Row("insteval", "mixedlm_rs", "N/A", "REML"),
    ]
    text = table.markdown(rows, "sparselmm", {"threads": 2})
    assert (
        "| insteval | 200 ms, 6 evals | 7 s (35x), 81 evals, +0.01 | 2 s (10x), ML only | N/A |"
        in text
    )
    table.write_csv(tmp_path / "rows.csv", rows, {"threads": 2})
    assert pd.read_csv(tmp_path / "rows.csv", keep_default_na=False)["threads"].eq(2).all()


def test_best_known_is_kept_only_for_the_same_data(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    problem, other = PROBLEMS["sleepstudy"].make(1.0), PROBLEMS["nested_20k"].make(0.01)
    for deviance in (11.0, 10.0, 12.0):
        record_best("sleepstudy", problem, deviance, path)
    assert best_known("sleepstudy", problem, path) == 10.0
    renamed = replace(problem, data=problem.data.assign(Reaction=problem.data["Reaction"] + 1))
    assert np.isnan(best_known("sleepstudy", renamed, path))
    assert np.isnan(best_known("nested_20k", other, path))


def test_cold_table_has_ratios() -> None:
    found = {
        "import pandas, scipy.sparse": 0.5,
        "import sparselmm": 0.6,
        "Rscript lme4 summary": 1.2,
    }
    assert "| import sparselmm | 0.60 | 1.20 |" in cold.table(found)


def test_command_line_defaults() -> None:
    chosen = arguments(["--problems", "kb07"])
    assert chosen.problems == ["kb07"]
    assert chosen.base == "sparselmm"


@pytest.mark.parametrize("name", PROBLEMS)
def test_suite_runs_on_every_problem(name: str) -> None:
    from benchmarks.suite import Fit, Stages

    for suite in (Fit(), Stages()):
        suite.scale = None
        suite.setup(name)
        methods = [m for m in dir(suite) if m.startswith(("time_", "track_", "peakmem_"))]
        values = [getattr(suite, method)(name) for method in methods]
        assert all(value is None or isinstance(value, int | float | np.number) for value in values)
