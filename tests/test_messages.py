"""Errors a user can make, through the front door: what was found, what is expected, what to do."""

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.systems import choose

SLOPE = "Reaction ~ Days + (Days | Subject)"
EVERY_SECOND = np.arange(180) % 2 == 1


def sleep(**columns):
    return slm.load_dataset("sleepstudy").assign(**columns)


def message(error, call):
    """The text of the error that a call raises."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


MODELS = {
    "unknown column": (
        lambda: slm.lmm("Reaction ~ days + (Days | Subject)", sleep()),
        slm.DataError,
        (
            "The data have no column 'days'; did you mean 'Days'?\n"
            "    Reaction ~ days + (Days | Subject)\n"
            "               ^^^^"
        ),
    ),
    "bar outside parentheses": (
        lambda: slm.lmm("Reaction ~ Days + 1 | Subject", sleep()),
        slm.FormulaError,
        (
            "The bar `|` does not stand in parentheses; write `(1 | Subject)`.\n"
            "    Reaction ~ Days + 1 | Subject\n"
            "                        ^"
        ),
    ),
    "product with a random term": (
        lambda: slm.lmm("Reaction ~ Days * (1 | Subject)", sleep()),
        slm.FormulaError,
        (
            "A random-effects term can only be added, found `*`; write `+` before it, and the "
            "interaction left of the bar.\n"
            "    Reaction ~ Days * (1 | Subject)\n"
            "                    ^"
        ),
    ),
    "no random term": (
        lambda: slm.lmm("Reaction ~ Days", sleep()),
        slm.FormulaError,
        (
            "The formula has no random-effects term; add at least one, for example `+ (1 | group)`, "
            "or fit it by ordinary least squares.\n"
            "    Reaction ~ Days\n"
            "                   ^"
        ),
    ),
    "duplicate terms": (
        lambda: slm.lmm("Reaction ~ (1 | Subject) + (1 | Subject)", sleep()),
        slm.FormulaError,
        (
            "The random-effects term (1 | Subject) is there twice; remove one.\n"
            "    Reaction ~ (1 | Subject) + (1 | Subject)\n"
            "                               ^^^^^^^^^^^^^"
        ),
    ),
    "column twice on one factor": (
        lambda: slm.lmm("Reaction ~ (Days | Subject) + (1 | Subject)", sleep()),
        slm.FormulaError,
        (
            "(1 | Subject) has the column 'Intercept' a second time for grouping factor 'Subject'; "
            "every column can vary once by a factor; merge the terms, or remove the column with "
            "`0 +`.\n"
            "    Reaction ~ (Days | Subject) + (1 | Subject)\n"
            "                                  ^^^^^^^^^^^^^"
        ),
    ),
    "one level": (
        lambda: slm.lmm(SLOPE, sleep().query("Subject == '308'")),
        slm.DataError,
        (
            "Grouping factor 'Subject' has one level (308) for 10 rows; at least 2 are expected; "
            "remove its random effects or check the column and the rows kept."
        ),
    ),
    "as many levels as rows": (
        lambda: slm.lmm("Reaction ~ Days + (1 | row)", sleep(row=range(180))),
        slm.DataError,
        (
            "Grouping factor 'row' has 180 levels for 180 rows; the random effects of (1 | row) cannot "
            "be told from the residual. Drop the term, reduce it, or aggregate."
        ),
    ),
    "constant response": (
        lambda: slm.lmm(SLOPE, sleep(Reaction=3.0)),
        slm.DataError,
        (
            "Response 'Reaction' is constant (3 in all 180 rows); a mixed model needs a response that "
            "varies; check the column and the rows kept."
        ),
    ),
    "string response": (
        lambda: slm.lmm("Subject ~ Days + (1 | Subject)", sleep()),
        slm.DataError,
        (
            "Response 'Subject' holds text or categories ('308', '309', '310', ...), numbers are "
            "expected; convert the column first."
        ),
    ),
    "all rows missing": (
        lambda: slm.lmm(SLOPE, sleep(Days=np.nan)),
        slm.DataError,
        (
            "All 180 rows have a missing value in some variable of the model (missing: 'Days' 180); "
            "complete rows are expected; fill or leave out these variables."
        ),
    ),
    "missing weights": (
        lambda: slm.lmm(SLOPE, sleep(w=np.where(EVERY_SECOND, np.nan, 1.0)), weights="w"),
        slm.DataError,
        (
            "Weights 'w': 90 of 180 are missing, finite numbers of zero or more are expected; replace them, "
            "or give weight 0 to drop a row."
        ),
    ),
    "negative weights": (
        lambda: slm.lmm(SLOPE, sleep(w=np.where(EVERY_SECOND, -1.0, 1.0)), weights="w"),
        slm.DataError,
        (
            "Weights 'w': 90 of 180 are negative, finite numbers of zero or more are expected; replace them, "
            "or give weight 0 to drop a row."
        ),
    ),
    "weights of another length": (
        lambda: slm.lmm(SLOPE, sleep(), weights=[1.0, 2.0]),
        slm.DataError,
        (
            "weights has shape (2,), expected (180,), one value per row of the data; pass a column "
            "name or an array of that length."
        ),
    ),
    "infinite values": (
        lambda: slm.lmm(SLOPE, sleep(Days=np.where(EVERY_SECOND, np.inf, 1.0))),
        slm.DataError,
        (
            "'Days' holds 90 infinite values, first in row 1 (counted from 0), finite numbers are "
            "expected; replace them, or make them missing so that the rows are dropped."
        ),
    ),
    "no frame": (
        lambda: slm.lmm(SLOPE, 3),
        slm.DataError,
        (
            "The data are a builtins.int, expected a pandas, polars or pyarrow frame or a dictionary "
            "of arrays; convert it first."
        ),
    ),
    "wrong path": (
        lambda: slm.lmm(SLOPE, sleep(), path="dense"),
        slm.PathError,
        "Found path='dense'; expected 'auto' or one of grouped, crossed, sparse.",
    ),
    "start of another length": (
        lambda: slm.lmm(SLOPE, sleep(), start=[1.0, 2.0]),
        slm.DataError,
        (
            "Found start of shape (2,); expected 3 finite numbers, the lower triangles of the relative "
            "covariance factors of (Days | Subject), column by column."
        ),
    ),
    "start that is no number": (
        lambda: slm.lmm(SLOPE, sleep(), start=["a", "b", "c"]),
        slm.DataError,
        (
            "Found start of shape (3,) with values that are no finite numbers; expected 3 finite "
            "numbers, the lower triangles of the relative covariance factors of (Days | Subject), "
            "column by column."
        ),
    ),
    "data before formula": (
        lambda: slm.lmm(sleep(), SLOPE),
        slm.FormulaError,
        "Found a formula of type DataFrame, expected text; write it as a string.",
    ),
    "tolerance that is no number": (
        lambda: slm.Options(tolerance="1e-3"),  # type: ignore[arg-type]
        ValueError,
        (
            "Found tolerance='1e-3'; expected a number above 0 and at most 4.9e-07, beyond which no fit passes its "
            "certificate. Leave it out for the default."
        ),
    ),
    "tolerance beyond the certificate": (
        lambda: slm.Options(tolerance=1e-6),
        ValueError,
        (
            "Found tolerance=1e-06; expected a number above 0 and at most 4.9e-07, beyond which no fit passes its "
            "certificate. Leave it out for the default."
        ),
    ),
    "reml is no truth value": (
        lambda: slm.lmm(SLOPE, sleep(), reml="ML"),
        slm.DataError,
        "Found reml='ML'; expected True (REML) or False (maximum likelihood).",
    ),
    "options of another type": (
        lambda: slm.lmm(SLOPE, sleep(), options={"tolerance": 1e-3}),
        slm.DataError,
        (
            "Found options of type dict; expected sparselmm.Options, for example "
            "Options(max_evaluations=500)."
        ),
    ),
    "too many fixed effects": (
        lambda: slm.lmm("Reaction ~ a + b + (1 | Subject)", few_rows()),
        slm.DataError,
        (
            "Found 3 fixed effects for 3 rows; expected fewer fixed effects than rows, or no residual "
            "is left. Simplify the fixed part."
        ),
    ),
    "exact fixed effects": (
        lambda: slm.lmm("y ~ Days + (1 | Subject)", sleep(y=lambda d: 2.0 + 3 * d["Days"])),
        slm.DataError,
        (
            "The fixed effects reproduce all 180 values of 'y' exactly; expected something left for "
            "the random effects and the residual. Check whether the response was computed from the "
            "predictors."
        ),
    ),
}


def few_rows():
    return sleep().iloc[[0, 1, 10]].assign(a=[1.0, 5, 2], b=[2.0, 2, 7])


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    call, error, text = MODELS[name]
    assert message(error, call) == text


QUESTIONS = {
    "predict: new levels": (
        lambda fit: fit.predict({"Days": [1, 2, 3], "Subject": ["a", "b", "308"]}),
        (
            "Grouping factor 'Subject' has new levels 'a', 'b' in 2 of 3 rows; expected levels the "
            "model was fitted with. Pass new_levels='zero' to predict them at their expected random "
            "effects, or random='none'."
        ),
    ),
    "predict: unknown term": (
        lambda fit: fit.predict(random=["Item"]),
        (
            "Found random='Item'; expected 'all', 'none', or some of the terms 'Days | Subject' or of "
            "their grouping factors."
        ),
    ),
    "predict: unknown policy": (
        lambda fit: fit.predict(new_levels="drop"),
        "Found new_levels='drop'; expected 'raise' or 'zero'.",
    ),
    "hypothesis: unknown name": (
        lambda fit: fit.t_test("Dys = 0"),
        (
            "Found no coefficient 'Dys'; the fixed effects are 'Intercept', 'Days'.\n"
            "    Dys = 0\n"
            "    ^^^"
        ),
    ),
    "hypothesis: unknown name in a mapping": (
        lambda fit: fit.t_test({"Dys": 1}),
        "Found no coefficient 'Dys'; the fixed effects are 'Intercept', 'Days'.",
    ),
    "hypothesis: wrong width": (
        lambda fit: fit.wald_test([[1, 2, 3]]),
        (
            "Found an array of shape (1, 3) as hypothesis; expected finite numbers of shape (q, 2), one "
            "column for each fixed effect in `params`, or a text such as 'x1 - x2 = 0'."
        ),
    ),
    "hypothesis: not finite": (
        lambda fit: fit.wald_test([1, np.nan]),
        (
            "Found an array of shape (2,) with values that are not finite as hypothesis; expected "
            "finite numbers of shape (q, 2), one column for each fixed effect in `params`, or a text "
            "such as 'x1 - x2 = 0'."
        ),
    ),
    "hypothesis: unfinished": (
        lambda fit: fit.t_test("Days = "),
        (
            "Expected a coefficient or a number, found the end; correct the hypothesis.\n"
            "    Days = \n"
            "           ^"
        ),
    ),
    "hypothesis: not linear": (
        lambda fit: fit.t_test("Days * Intercept = 3"),
        (
            "Coefficients can only be multiplied or divided by numbers, found `*`; correct the "
            "hypothesis.\n"
            "    Days * Intercept = 3\n"
            "         ^"
        ),
    ),
    "hypothesis: nothing left": (
        lambda fit: fit.t_test("Days - Days = 1"),
        (
            "Hypothesis 'Days - Days = 1' holds no coefficient after simplification; expected at least "
            "one with a weight other than zero."
        ),
    ),
    "hypothesis: right sides": (
        lambda fit: fit.t_test(([0, 1], [1, 2])),
        "Found 2 right sides for 1 hypotheses; expected one for each row of L.",
    ),
    "hypothesis: contradiction": (
        lambda fit: fit.wald_test("Days = 1, Days = 2"),
        "Rows of the hypothesis contradict each other; expected rows that can hold together.",
    ),
    "interval: level": (
        lambda fit: fit.conf_int(level=95),
        "Found level=95; expected a number in (0, 1); write 0.95.",
    ),
    "interval: parameter": (
        lambda fit: fit.conf_int(parm=["Days", "x"]),
        "Found parm='x'; expected some of 'Intercept', 'Days'.",
    ),
    "interval: argument": (
        lambda fit: fit.conf_int(nsim=100),
        "Found nsim=100; expected for method='wald': ddf. Leave it out.",
    ),
    "interval: degrees of freedom of profiles": (
        lambda fit: fit.conf_int(method="profile", ddf="satterthwaite"),
        (
            "Found ddf='satterthwaite'; expected for method='profile': no further argument. Leave it "
            "out."
        ),
    ),
    "interval: argument of the bootstrap": (
        lambda fit: fit.conf_int(method="bootstrap", n=100),
        (
            "Found n=100; expected for method='bootstrap': executor, kind, nsim, progress, rng, "
            "statistic, type. Leave it out."
        ),
    ),
    "bootstrap: generator": (
        lambda fit: fit.bootstrap(10, "one"),
        (
            "Found rng='one'; expected a numpy.random.Generator, a seed (an integer of zero or more) "
            "or None. Write rng=np.random.default_rng(1)."
        ),
    ),
    "simulate: generator": (
        lambda fit: fit.simulate(10, -1),
        (
            "Found rng=-1; expected a numpy.random.Generator, a seed (an integer of zero or more) "
            "or None. Write rng=np.random.default_rng(1)."
        ),
    ),
    "degrees of freedom": (
        lambda fit: fit.t_test("Days", ddf=-1),
        "Found ddf=-1; expected None, a positive number, 'satterthwaite' or 'kenward-roger'.",
    ),
    "tidy: effects": (
        lambda fit: fit.tidy(effects="ran_pars"),
        "Found effects='ran_pars'; expected 'fixed', 'random_sd' or 'random'.",
    ),
}


@pytest.fixture(scope="module")
def fit():
    return slm.lmm(SLOPE, sleep())


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions(name, fit):
    call, text = QUESTIONS[name]
    assert message(slm.InferenceError, lambda: call(fit)) == text


def test_new_data_without_a_column(fit):
    text = message(slm.DataError, lambda: fit.predict({"Days": [1.0]}))
    assert text == "The data have no column 'Subject'; the columns are 'Days'."


def test_hypothesis_on_a_dropped_column():
    data = sleep(Hours=lambda d: 24.0 * d["Days"])
    with pytest.warns(slm.RankWarning):
        fit = slm.lmm("Reaction ~ Days + Hours + (1 | Subject)", data)
    assert message(slm.InferenceError, lambda: fit.t_test("Hours - Days")) == (
        "Hypothesis 'Hours - Days' uses a coefficient that was dropped because its column depends "
        "on earlier ones (Hours); expected coefficients that were estimated."
    )


def test_new_category_of_a_fixed_effect():
    fit = slm.lmm("effort ~ Type + (1 | Subject)", slm.load_dataset("ergostool"))
    new = pd.DataFrame({"Type": ["T9"], "Subject": ["A"]})
    assert "'Type' holds T9" in message(slm.DataError, lambda: fit.predict(new)).replace(
        "'T9'", "T9"
    )


def test_memory_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(choose, "available_memory", lambda *_: 100.0)
    text = message(
        slm.MemoryRefusedError,
        lambda: slm.lmm(
            "diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin")
        ),
    )
    assert text.startswith("Found 100 B of free memory; path 'grouped' needs ")
    assert "path 'crossed' needs " in text
    assert text.endswith(
        "Drop a random-effects term, group rare levels, or fit on a machine with more memory."
    )


def test_sparse_without_cholmod_names_the_commands(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sksparse", None)
    data = slm.load_dataset("penicillin")
    call = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    text = message(slm.PathError, lambda: slm.lmm(call, data, path="sparse"))
    assert "The sparse path needs CHOLMOD" in text
    assert 'pip install "sparselmm[cholmod]"' in text
    assert slm.lmm(call, data).converged


def test_not_converged_says_how_to_go_on():
    with pytest.warns(slm.ConvergenceWarning) as seen:
        slm.lmm(SLOPE, sleep(), options=slm.Options(max_evaluations=2))
    text = str(seen[0].message)
    assert text.startswith(
        "The fit is not converged: stopped at the largest number of evaluations; raise "
        "options.max_evaluations ("
    )
    assert text.endswith("Look at fit.optimum.log; go on with start=fit.theta.")
