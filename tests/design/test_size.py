"""What does not fit into memory is refused by its numbers, before it is made."""

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.covariance.model import count_theta, covariance_model
from sparselmm.design import build_design
from sparselmm.errors import IdentifiabilityWarning, MemoryRefusedError


@pytest.fixture
def data():
    rng, n = np.random.default_rng(1), 600
    columns = {name: rng.integers(0, levels, n) for name, levels in (("g", 40), ("id", 150))}
    return pd.DataFrame(columns | {"y": rng.normal(size=n), "x": rng.normal(size=n)})


@pytest.fixture
def free(monkeypatch):
    """Set the free memory, and look at it whatever the size."""

    def set_free(nbytes):
        monkeypatch.setattr("sparselmm.design.size.MODEST", 0.0)
        monkeypatch.setattr("sparselmm.design.size.available_memory", lambda *_: nbytes)

    return set_free


@pytest.mark.parametrize(
    ("formula", "as_text", "term", "needed"),
    [
        ("y ~ x + C(id) + (1 | g)", False, "C(id)", "2.01 MiB"),
        ("y ~ x + id + (1 | g)", True, "id", "2.01 MiB"),
        ("y ~ x * id + (1 | g)", True, "id", "3.98 MiB"),
        ("y ~ x + (0 + id | g)", True, "id", "1.98 MiB"),
    ],
)
def test_columns_that_do_not_fit_are_refused(data, free, formula, as_text, term, needed):
    free(1e6)
    if as_text:
        data = data.assign(id=data["id"].astype(str))
    with pytest.raises(MemoryRefusedError) as error:
        slm.lmm(formula, data)
    assert str(error.value) == (
        f"Found 977 KiB of free memory; the model needs {needed}, {needed} of it for "
        f"{data['id'].nunique() - 1} columns of `{term}` in 600 rows. Leave `{term}` out, merge levels, or make "
        "the factor a random effect. Or fit on a machine with more memory."
    )


def test_columns_that_fit_are_not(data, free):
    free(1e7)
    _, design = build_design("y ~ x + C(id) + (1 | g)", data)
    assert design.X.shape == (600, data["id"].nunique() + 1)


def test_a_wide_term_is_refused_before_anything_is_made_of_it(data, monkeypatch):
    monkeypatch.setattr("sparselmm.design.size.available_memory", lambda *_: 2.0**30)
    wide = data.assign(h=np.arange(600) // 2, f=[str(i) for i in np.arange(600) % 90])
    with pytest.warns(IdentifiabilityWarning, match="300 levels x 90 coefficients"):
        model = slm.LinearMixedModel("y ~ x + (0 + f | h)", wide)
    lines = str(model.describe()).splitlines()
    assert lines[1] == (
        "600 rows, 2 fixed effects, 27,000 random effects, 4,095 covariance parameters"
    )
    assert lines[-1] == (
        "Found 1 GiB of free memory; the model needs 5.6 GiB, 3.11 GiB of it for steps in 4,095 "
        "covariance parameters. Simplify what stands left of the bar, or group rare levels. Or fit "
        "on a machine with more memory."
    )
    with pytest.raises(MemoryRefusedError):
        model.fit()


def test_thousands_of_covariance_parameters_are_refused(data):
    """Order 150 would take 150^4 numbers to see whether it is confounded, and hours to fit."""
    wide = data.assign(f=[str(i) for i in np.arange(600) % 150])
    with (
        pytest.warns(IdentifiabilityWarning, match="40 levels x 150 coefficients"),
        pytest.raises(slm.DataError) as error,
    ):
        slm.lmm("y ~ x + (1 | id) + (0 + f || g)", wide)
    assert str(error.value) == (
        "Found 11,326 covariance parameters, 11,325 of them for the 150 columns of (0 + f | g); expected at most "
        "5,000, or steps take minutes each. Simplify what stands left of the bar: for the levels of a factor f, "
        "(1 | g) + (1 | g:f) takes 2."
    )


def test_cross_products_that_do_not_fit_are_refused(data, free):
    free(1e4)
    data = data.assign(z=data["x"] ** 2, w=data["x"] ** 3)
    with pytest.raises(MemoryRefusedError, match=r"levels of 'id' with 2 columns each"):
        slm.lmm("y ~ x + z + w + g + (x || id)", data)


def test_moves_of_many_random_effects_that_do_not_fit_are_refused(data, free):
    free(1e4)
    with pytest.raises(
        MemoryRefusedError, match=r"moves of \d+ random effects along 3 covariance parameters"
    ):
        slm.lmm("y ~ x + (x | id)", data)


@pytest.mark.parametrize(
    "formula", ["y ~ (x | g)", "y ~ (x || g) + (x + I(x**2) | id)", "y ~ (1 | g / id)"]
)
def test_parameters_are_counted_without_templates(data, formula):
    spec, design = build_design(formula, data)
    widths = [factor.Q.shape[1] for factor in design.factors]
    assert count_theta(spec.terms) == covariance_model(spec.terms, widths).n_theta


def test_two_columns_of_one_name_are_refused(data):
    with pytest.raises(slm.DataError) as error:
        slm.lmm("y ~ Intercept + (1 | g)", data.rename(columns={"x": "Intercept"}))
    assert str(error.value) == (
        "Found two columns named 'Intercept' in one sum of terms; expected one. Rename the column of the data."
    )
    fit = slm.lmm("y ~ 0 + Intercept + (1 | g)", data.rename(columns={"x": "Intercept"}))
    assert list(fit.params.index) == ["Intercept"]


@pytest.mark.parametrize("value", [None, True, 0, 2.0, "3"])
def test_numbers_of_evaluations_are_whole(value):
    with pytest.raises(ValueError, match=r"Found max_evaluations=.*; expected a positive integer"):
        slm.Options(max_evaluations=value)


def test_whole_numbers_of_numpy_will_do():
    assert slm.Options(max_evaluations=np.int64(7), threads=np.int32(1)).max_evaluations == 7
