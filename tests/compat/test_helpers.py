"""Other packages on our results, storage, and life without statsmodels."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import MixedLM, load_dataset, mixedlm
from sparselmm.compat.statsmodels import MixedLMResults
from sparselmm.errors import DataError


@pytest.fixture(scope="module")
def machines():
    return load_dataset("machines")


@pytest.fixture
def fit(machines):
    components = {"Machine": "0 + C(Machine)"}
    arguments = {"groups": "Worker", "re_formula": "1", "vc_formula": components}
    return mixedlm("score ~ Machine", machines, **arguments).fit()


def statsmodels_fit(machines):
    from statsmodels.formula.api import mixedlm as theirs

    components = {"Machine": "0 + C(Machine)"}
    arguments = {"groups": "Worker", "re_formula": "1", "vc_formula": components}
    return theirs("score ~ Machine", machines, **arguments).fit(gtol=1e-8)


def test_type_is_recognised_as_statsmodels(fit):
    assert "statsmodels" in str(type(fit))


@pytest.mark.parametrize("question", ["avg_predictions", "avg_comparisons", "predictions"])
def test_marginaleffects(question, fit, machines):
    marginaleffects = pytest.importorskip("marginaleffects")
    from polars.exceptions import InvalidOperationError

    try:
        theirs = getattr(marginaleffects, question)(statsmodels_fit(machines))
    except InvalidOperationError as error:
        pytest.skip(
            f"marginaleffects does not work with this polars, not on statsmodels either: {error}"
        )
    ours = getattr(marginaleffects, question)(fit)
    for column in ("estimate", "std_error", "p_value", "conf_low"):
        left, right = ours[column].to_numpy(), theirs[column].to_numpy()
        assert_allclose(left, right, rtol=2e-3, atol=1e-6)


def test_mediation():
    mediation = pytest.importorskip("statsmodels.stats.mediation")
    from statsmodels.regression.mixed_linear_model import MixedLM as Theirs

    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 6)
    x = rng.normal(size=240)
    m = 0.5 * x + rng.normal(size=40)[g] + rng.normal(size=240)
    data = pd.DataFrame({"g": g, "x": x, "m": m})
    data["y"] = m + x + rng.normal(size=40)[g] + rng.normal(size=240)
    tables = []
    for cls in (MixedLM, Theirs):
        outcome = cls.from_formula("y ~ x + m", data, groups="g")
        mediator = cls.from_formula("m ~ x", data, groups="g")
        analysis = mediation.Mediation(outcome, mediator, "x", "m")
        tables.append(analysis.fit(n_rep=4, rng=1).summary().to_numpy())
    assert_allclose(*tables, rtol=1e-3, atol=1e-5)


def test_draws_have_the_variance_of_the_model(fit):
    distribution = fit.model.get_distribution(np.asarray(fit.params), fit.scale)
    rng = np.random.default_rng(0)
    draws = np.array([distribution.rvs(54, rng=rng) for _ in range(2000)])
    total = fit.cov_re.iloc[0, 0] + fit.vcomp[0] + fit.scale
    assert_allclose(draws.var(axis=0).mean(), total, rtol=0.05)
    assert_allclose(draws.mean(axis=0), fit.predict(), atol=0.6)
    assert_allclose(distribution.rvs(rng=7), distribution.rvs(random_state=7))


def test_tables_of_statsmodels(fit, machines):
    summary2 = pytest.importorskip("statsmodels.iolib.summary2")
    theirs = statsmodels_fit(machines)
    assert isinstance(fit.summary(), summary2.Summary)
    ours_table, their_table = fit.wald_test_terms().table, theirs.wald_test_terms().table
    assert list(ours_table.index) == list(their_table.index)
    assert_allclose(
        ours_table["statistic"].astype(float), their_table["statistic"].astype(float), rtol=1e-3
    )
    assert "Worker Var" in str(summary2.summary_col([fit], stars=True))
    pairs = fit.t_test_pairwise("Machine").result_frame
    assert list(pairs.index) == ["B-A", "C-A", "C-B"]
    assert_allclose(pairs["coef"], [7.966667, 13.916667, 5.95], rtol=1e-6)


def test_names_in_the_summary(fit):
    shown = fit.summary(
        yname="points", xname_fe=list("abc"), xname_re=["d", "e"], title="T", alpha=0.1
    )
    assert list(shown.tables[1].index) == list("abcde")
    assert shown.tables[1].columns[-1] == "0.95]"
    with pytest.raises(ValueError, match="xname_fe should be a list of length 3; found 1"):
        fit.summary(xname_fe=["a"])


def test_pickle_and_files(fit, tmp_path, machines):
    again = pickle.loads(pickle.dumps(fit))
    pd.testing.assert_series_equal(again.params, fit.params)
    pd.testing.assert_frame_equal(again.cov_params(), fit.cov_params())
    pd.testing.assert_series_equal(again.random_effects["1"], fit.random_effects["1"])
    assert_allclose(again.predict(machines), fit.predict(machines))
    fit.save(tmp_path / "fit.pickle")
    fit.save(str(tmp_path / "small.pickle"), remove_data=True)
    assert (tmp_path / "small.pickle").stat().st_size < (tmp_path / "fit.pickle").stat().st_size
    loaded = MixedLMResults.load(tmp_path / "fit.pickle")
    assert_allclose(loaded.fittedvalues, again.fittedvalues)
    small = MixedLMResults.load(tmp_path / "small.pickle")
    assert str(small.summary()) == str(loaded.summary())
    assert_allclose(small.predict(machines.head(3)), loaded.predict(machines.head(3)))
    with pytest.raises(DataError, match="rows of this model were removed"):
        _ = small.random_effects


def test_random_effects_are_a_dictionary(fit):
    effects = fit.random_effects
    assert isinstance(effects, dict)
    assert len(effects) == 6
    assert list(effects) == list(effects.keys()) == fit.model.group_labels
    assert all(isinstance(value, pd.Series) for value in effects.values())
    assert isinstance(dict(effects)["1"], pd.Series)
    assert isinstance({**effects}["1"], pd.Series)
    assert pd.DataFrame(effects).shape == (4, 6)
    assert effects.get("nobody") is None
    assert effects.get("1") is effects["1"]
    assert isinstance(pickle.loads(pickle.dumps(effects))["1"], pd.Series)
    assert "Machine[C(Machine)[A]]" in repr(effects)
    plain = effects.copy()
    assert type(plain) is dict
    effects["new"] = 1
    assert effects.pop("new") == 1
    assert "new" not in effects
    assert isinstance(effects.setdefault("1", 0), pd.Series)
    assert effects.setdefault("late", 2) == effects["late"] == 2
    effects.update(late=3)
    effects |= {"later": 4}
    assert (effects["late"], effects["later"]) == (3, 4)
    assert isinstance(effects.popitem()[1], pd.Series)
    assert len(effects) == len(effects.values()) == 7


def test_prediction(fit, machines):
    assert_allclose(fit.predict(), fit.predict(machines))
    assert_allclose(fit.predict({"Machine": ["B", "A"]}), [60.3222222, 52.3555556])
    assert_allclose(fit.predict(np.eye(3)), fit.fe_params)
    assert_allclose(fit.predict(pd.DataFrame(np.eye(3)), transform=False), fit.fe_params)
    plain = MixedLM(fit.model.endog, fit.model.exog, fit.model.groups).fit()
    assert_allclose(plain.predict([1.0, 0, 0]), plain.fe_params[0])


WITHOUT = """
import sys
sys.modules["statsmodels"] = sys.modules["patsy"] = None
import numpy as np
import sparselmm as slm
data = slm.load_dataset("machines")
data["x"] = np.arange(len(data))
square = lambda v: v ** 2
fit = slm.mixedlm("score ~ x + Machine*np.sqrt(x) + square(x)", data, groups="Worker").fit()
print(list(fit.params.index))
print(fit.summary())
print(fit.predict(data.head(1)).round(3).tolist(), round(fit.random_effects["1"].iloc[0], 3))
try:
    fit.predict({"x": [1.0], "Machine": ["Z"]})
except slm.errors.DataError as error:
    print(error)
try:
    fit.t_test("x = 0")
except ImportError as error:
    print(error)
"""


def test_without_statsmodels(machines):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "Mixed Linear Model Regression Results" in run.stdout
    assert "need statsmodels" in run.stdout
    assert "cannot be evaluated: Data has categories outside of the nominated levels" in run.stdout
    assert "Log-Likelihood:" in run.stdout
    names = run.stdout.splitlines()[0]
    square = lambda v: v**2  # noqa: E731, F841
    data = machines.assign(x=np.arange(len(machines)))
    expected = mixedlm("score ~ x + Machine*np.sqrt(x) + square(x)", data, groups="Worker")
    assert names == str(expected.data.param_names)


def test_benchmark_runs_its_problems():
    from benchmarks import compare_statsmodels as benchmark

    for _, levels, slope in benchmark.PROBLEMS.values():
        small = tuple(6 for _ in levels)
        data = benchmark.simulate(300, small, slope)
        assert np.isfinite(benchmark.call("sparselmm", data, small, slope))


@pytest.mark.slow
def test_suite_of_statsmodels():
    pytest.importorskip("statsmodels")
    script = Path(__file__).parent / "run_statsmodels_suite.py"
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
