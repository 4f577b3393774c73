"""The examples run, scaled down, and print what they promise."""

import importlib.util
import warnings
from pathlib import Path

import pytest

import sparselmm as slm

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = {
    "insteval": (
        ["--scale", "0.05"],
        ["* ", "(1 | dept:service)", "Fixed effects:", "lecturers differ", "highest"],
    ),
    "dietox_growth": (
        ["--scale", "0.5"],
        ["own rates, uncorrelated", "Satterthwaite's", "kg a week", "a new one", "F("],
    ),
    "crossed_million": (
        ["--scale", "0.005"],
        ["5,000 rows", "Certificate passed", "truth", "sd_Intercept|a", "peak memory"],
    ),
}


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_listed():
    assert {path.stem for path in FOLDER.glob("*.py")} >= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, capsys):
    arguments, expected = EXAMPLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slm.SingularFitWarning)
        fit = load(name).main(arguments)
    printed = capsys.readouterr().out
    assert fit.converged
    for text in expected:
        assert text in printed
