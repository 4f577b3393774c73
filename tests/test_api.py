"""The front door: two steps and one, kinds of frame, settings, warnings, interruption, progress."""

import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.datasets.problems import PROBLEMS
from sparselmm.optimum import Outcome
from sparselmm.problem import Problem

SLOPE = "Reaction ~ Days + (Days | Subject)"
CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"


def test_two_steps_are_one(sleepstudy):
    model = slm.LinearMixedModel(SLOPE, sleepstudy)
    for reml in (True, False):
        one, two = slm.lmm(SLOPE, sleepstudy, reml=reml), model.fit(reml)
        assert one.deviance == two.deviance
        np.testing.assert_array_equal(one.theta, two.theta)


def test_description_before_fitting():
    model = slm.LinearMixedModel(CROSSED, slm.load_dataset("penicillin"))
    text = str(model.describe())
    assert "144 rows, 1 fixed effect, 30 random effects, 2 covariance parameters" in text
    assert "Eliminated level by level: plate" in text
    assert "Order of what is left: 6" in text
    assert text.count(" * ") == 1
    assert "Threads: 2" in str(model.describe(slm.Options(threads=2))) or slm_threads() < 2
    assert repr(model) == f"<LinearMixedModel '{CROSSED}', 144 rows>"


def test_a_refused_model_can_be_described(monkeypatch):
    monkeypatch.setattr("sparselmm.systems.choose.available_memory", lambda *_: 100.0)
    model = slm.LinearMixedModel(CROSSED, slm.load_dataset("penicillin"))
    refusal = (
        "Found 100 B of free memory; path 'grouped' needs 768 B; path 'crossed' needs 576 B. Drop a "
        "random-effects term, group rare levels, or fit on a machine with more memory."
    )
    assert str(model.describe()).splitlines() == [
        CROSSED,
        "144 rows, 1 fixed effect, 30 random effects, 2 covariance parameters",
        "",
        "Random effects:",
        "Term         Levels Effects   Covariance",
        "(1 | plate)      24       1 one variance",
        "(1 | sample)      6       1 one variance",
        "",
        "Refused:",
        refusal,
    ]
    for refused in (model.fit, lambda: model.prepared):
        with pytest.raises(slm.MemoryRefusedError) as caught:
            refused()
        assert str(caught.value) == refusal


def test_the_log_numbers_evaluations(sleepstudy):
    fit = slm.lmm(SLOPE, sleepstudy)
    lines = str(fit.describe()).split("step\n")[1].splitlines()
    assert len(lines) == len(fit.optimum.log) == fit.optimum.evaluations + 1
    numbers = [line.split()[0] for line in lines if not line.endswith("closing")]
    assert numbers == [str(i + 1) for i in range(fit.optimum.evaluations)]
    assert lines[-1].split()[1:] == ["-", "closing"]


def slm_threads():
    import numba

    return numba.config.NUMBA_NUM_THREADS


@pytest.mark.parametrize("path", ["grouped", "crossed", "sparse"])
def test_paths_agree(path):
    if path == "sparse":
        pytest.importorskip("sksparse")
    data = slm.load_dataset("penicillin")
    auto, fit = slm.lmm(CROSSED, data), slm.lmm(CROSSED, data, path=path)
    assert f"* {path}" in str(fit.describe())
    assert fit.deviance == pytest.approx(auto.deviance, rel=1e-12)
    np.testing.assert_allclose(fit.ranef()["condsd"], auto.ranef()["condsd"], rtol=1e-6)


def test_polars_and_pyarrow_give_the_same(sleepstudy):
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    text = sleepstudy.assign(Subject=sleepstudy["Subject"].astype(str))
    text.loc[7, "Reaction"] = np.nan
    expected = slm.lmm(SLOPE, text)
    columns = {name: text[name].to_numpy() for name in text}
    frames = {
        "polars": pl.DataFrame({**columns, "Subject": text["Subject"].tolist()}),
        "pyarrow": pa.Table.from_pandas(text),
        "dictionary": columns,
    }
    for kind, data in frames.items():
        fit = slm.lmm(SLOPE, data)
        assert fit.deviance == expected.deviance, kind
        np.testing.assert_array_equal(fit.params, expected.params)
        np.testing.assert_array_equal(fit.ranef(), expected.ranef())
        np.testing.assert_array_equal(fit.fittedvalues, expected.fittedvalues)
        assert isinstance(fit.fittedvalues.index, pd.RangeIndex)
    np.testing.assert_allclose(
        expected.predict(frames["polars"].head(5)), expected.predict(text.head(5))
    )


def test_start_of_the_optimum_is_kept(sleepstudy):
    fit = slm.lmm(SLOPE, sleepstudy)
    again = slm.lmm(SLOPE, sleepstudy, start=fit.theta)
    assert again.optimum.evaluations <= 2
    assert again.deviance == pytest.approx(fit.deviance, rel=1e-13)


def test_contrasts_change_names_not_fit():
    data = slm.load_dataset("machines")
    formula = "score ~ Machine + (1 | Worker)"
    base = slm.lmm(formula, data, reml=False)
    coded = slm.lmm(formula, data, reml=False, contrasts={"Machine": "sum"})
    assert coded.deviance == pytest.approx(base.deviance, rel=1e-12)
    assert list(coded.params.index) != list(base.params.index)


def test_weights_and_offset_as_arrays(sleepstudy):
    w, shift = np.linspace(0.5, 2.0, 180), np.linspace(-3.0, 3.0, 180)
    named = slm.lmm(SLOPE, sleepstudy.assign(w=w, o=shift), weights="w", offset="o")
    given = slm.lmm(SLOPE, sleepstudy, weights=w, offset=shift)
    assert named.deviance == given.deviance
    assert "Weights: w" in str(named)
    assert "Weights" not in str(given)


class TestWarnings:
    def test_an_ordinary_fit_is_silent(self, sleepstudy):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            slm.lmm(SLOPE, sleepstudy)

    def test_each_once_and_at_the_callers_line(self, sleepstudy):
        data = sleepstudy.assign(Hours=24 * sleepstudy["Days"])
        formula = "Reaction ~ Days + Hours + (1 | Subject)"
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            slm.lmm(formula, data, options=slm.Options(max_evaluations=1), start=[9.0])
            slm.LinearMixedModel(formula, data).fit()
        found = [w.category for w in seen]
        assert found == [slm.RankWarning, slm.ConvergenceWarning, slm.RankWarning]
        assert {w.filename for w in seen} == {__file__}

    def test_singular_fit_is_converged(self):
        with pytest.warns(slm.SingularFitWarning) as seen:
            fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"))
        assert len(seen) == 1
        assert fit.converged
        assert fit.is_singular()
        assert fit.outcome is Outcome.SINGULAR


class TestInterruption:
    @pytest.fixture
    def interrupted_after(self, monkeypatch):
        """Ctrl-C during an evaluation."""

        def install(evaluations):
            original, count = Problem.evaluate, iter(range(1000))

            def evaluate(self, *theta):
                if next(count) >= evaluations:
                    raise KeyboardInterrupt
                return original(self, *theta)

            monkeypatch.setattr(Problem, "evaluate", evaluate)

        return install

    def test_the_last_iterate_is_kept(self, sleepstudy, interrupted_after, monkeypatch):
        expected = slm.lmm(SLOPE, sleepstudy)
        interrupted_after(2)
        with pytest.warns(slm.ConvergenceWarning, match="interrupted: the last iterate is kept"):
            fit = slm.lmm(SLOPE, sleepstudy)
        assert fit.outcome is Outcome.INTERRUPTED
        assert not fit.converged
        assert fit.optimum.evaluations == 2
        assert "Interrupted" in str(fit.summary())
        monkeypatch.undo()
        resumed = slm.lmm(SLOPE, sleepstudy, start=fit.theta)
        assert resumed.deviance == pytest.approx(expected.deviance, rel=1e-12)

    def test_nothing_to_keep(self, sleepstudy, interrupted_after):
        interrupted_after(0)
        with pytest.raises(KeyboardInterrupt):
            slm.lmm(SLOPE, sleepstudy)


class TestProgress:
    def test_bar(self, sleepstudy, capsys):
        pytest.importorskip("tqdm")
        fit = slm.lmm(SLOPE, sleepstudy, progress=True)
        assert fit.converged
        shown = capsys.readouterr().err
        assert "fitting" in shown
        assert "deviance 1743.6283" in shown

    def test_without_tqdm(self, sleepstudy, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        with pytest.raises(ImportError) as error:
            slm.lmm(SLOPE, sleepstudy, progress=True)
        assert str(error.value) == (
            "progress=True draws its bar with tqdm, which is not installed; "
            "`pip install tqdm`, or leave progress=False."
        )


def test_nothing_heavy_for_a_first_summary():
    from tests.test_import import loaded_after

    code = (
        "import sparselmm as slm; "
        "str(slm.lmm('Reaction ~ Days + (Days | Subject)', slm.load_dataset('sleepstudy')).summary())"
    )
    assert loaded_after(code).isdisjoint({"scipy.stats", "matplotlib", "formulaic", "tqdm"})


@pytest.mark.parametrize("name", ["crossed_1m", "nested_500k", "five_factors"])
def test_parameters_of_simulated_designs_are_found(name):
    problem = PROBLEMS[name](0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slm.SingularFitWarning)
        fit = slm.lmm(problem.formula, problem.data)
    assert fit.converged
    assert (np.abs(fit.params - problem.beta) < 5 * fit.bse).all()
    assert fit.sigma == pytest.approx(problem.sigma, rel=0.2)
