"""Profiles of functions: their ends where parameters end, and what is said of those that cannot be followed."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.errors import ConvergenceWarning, InferenceError
from sparselmm.options import Options

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")


@pytest.fixture(scope="module")
def slopes():
    return slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def singular():
    rng = np.random.default_rng(1)
    data = {"y": rng.normal(size=60), "x": np.tile(np.arange(6.0), 10), "g": np.arange(60) // 6}
    return slm.lmm("y ~ x + (x | g)", pd.DataFrame(data), reml=False)


FAILING = {
    "constant": (lambda _: 3.0, "Found a constant function 'f' (3 whatever the parameters)"),
    "text": (lambda _: "a", "Found 'a' from the function 'f' at the estimates; expected a finite"),
    "none": (lambda _: None, "Found None from the function 'f'"),
    "missing": (lambda _: np.nan, "Found nan from the function 'f'"),
    "several": (lambda p: np.array([1.0, p["sigma"]]), "Found array("),
    "name": (lambda p: p["sd_x"], "Found KeyError (no parameter 'sd_x') in the function 'f' at"),
    "zero": (lambda _: 1 / 0, "Found ZeroDivisionError (division by zero) in the function 'f'"),
    "jump": (lambda p: float(p["sigma"] > 25.0), "Found a jump, kink or turning point of the"),
    "steps": (lambda p: round(p["sigma"], 1), "Found a jump, kink or turning point of the"),
    "plateau": (lambda p: max(p["sigma"], 26.0), "Found a jump, kink or turning point of the"),
    "kink": (lambda p: abs(p["sigma"] - 25.59182), "Found a jump, kink or turning point of the"),
    "turn": (lambda p: (p["sigma"] - 25.59182) ** 2, "Found a jump, kink or turning point of the"),
    "no function": (3, "Found 3 as the function 'f'; expected a function that takes a dict"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_functions_that_cannot_be_followed(slopes, kind):
    function, message = FAILING[kind]
    with pytest.raises(InferenceError) as raised:
        slopes.profile("f", functions={"f": function})
    assert str(raised.value).startswith(message)
    assert "expected" in str(raised.value)


def test_functions_by_name(slopes):
    with pytest.raises(InferenceError, match="Found functions of type list; expected a mapping"):
        slopes.profile("f", functions=[len])


def test_an_end_that_is_not_found_is_said(slopes):
    with pytest.warns(ConvergenceWarning, match=r"Found no lower end of f \(the profile could not"):
        found = slopes.profile("f", functions={"f": lambda p: max(p["sigma"], 24.0)})
    sigma = slopes.profile("sigma").conf_int().loc["sigma"]
    assert found.conf_int().loc["f", "upper"] == pytest.approx(sigma["upper"], rel=1e-6)
    assert np.isnan(found.conf_int().loc["f", "lower"])
    assert any("has the function a kink" in note for note in found.notes)


def test_functions_of_singular_fits_end_where_the_parameters_do(singular):
    functions = {
        "variance": lambda p: p["sd_x|g"] ** 2,
        "root": lambda p: p["sd_x|g"],
        "ratio": lambda p: p["sd_Intercept|g"] / p["sigma"],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = singular.profile(["var_x|g", "sd_x|g"], functions=functions)
    ends = found.conf_int()
    np.testing.assert_allclose(ends.loc["variance"], ends.loc["var_x|g"], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(ends.loc["root"], ends.loc["sd_x|g"], rtol=1e-6, atol=1e-12)
    assert ends.loc["ratio", "lower"] == 0.0
    note = "lower end of ratio: its value without some random effects, which the cutoff allows"
    assert note in found.notes


def test_share_of_variance_ends_at_zero(singular):
    share = singular.profile("icc")
    assert share.conf_int().loc["icc", "lower"] == 0.0
    none = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"), reml=False)
    found = none.profile(["icc", "sd_Intercept|Batch"])
    assert found["icc"].estimate == 0.0
    assert found.conf_int().loc["icc", "lower"] == 0.0
    assert 0.0 < found.conf_int().loc["icc", "upper"] < 1.0


def test_parameters_that_are_not_identified():
    data = slm.load_dataset("sleepstudy")
    data = data.assign(twice=2.0 * data["Days"] + 1.0)
    with pytest.warns(slm.IdentifiabilityWarning):
        fit = slm.lmm("Reaction ~ Days + (Days + twice | Subject)", data)
    with pytest.raises(InferenceError) as raised:
        fit.profile()
    message = str(raised.value)
    assert message.startswith("Found dependent columns in (Days + twice | Subject), so that sd_")
    assert message.endswith("Drop one of them, or profile the others: parm=['sigma', ...].")
    plain = slm.lmm("Reaction ~ Days + (Days | Subject)", data)
    expected = plain.conf_int(method="profile", parm=["sigma", "Days"])
    found = fit.conf_int(method="profile", parm=["sigma", "Days"])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::sparselmm.SparseLMMWarning")
def test_fits_that_did_not_converge():
    data = slm.load_dataset("sleepstudy")
    stopped = slm.lmm(
        "Reaction ~ Days + (Days | Subject)", data, options=Options(max_evaluations=1)
    )
    with pytest.raises(InferenceError, match="expected a converged one to profile. Fit again with"):
        stopped.profile()
    two = data[data["Days"] < 2]
    full = slm.lmm(
        "Reaction ~ Days + (Days | Subject)",
        two,
        weights=np.linspace(0.5, 0.8, 36),
        options=Options(max_evaluations=1),
    )
    assert not full.converged
    advice = r"Reduce \(Days \| Subject\): as many random coefficients as the 36 rows."
    with pytest.raises(InferenceError, match=advice):
        full.profile()
