import inspect
import pickle

import pytest

from sparselmm import errors


def classes(base):
    return [
        value
        for name in errors.__all__
        if inspect.isclass(value := getattr(errors, name)) and issubclass(value, base)
    ]


def test_all_names_are_errors_or_warnings():
    assert set(errors.__all__) == {
        c.__name__ for c in [*classes(errors.SparseLMMError), *classes(errors.SparseLMMWarning)]
    }


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("FormulaError", ValueError),
        ("DataError", ValueError),
        ("PathError", ValueError),
        ("MemoryRefusedError", MemoryError),
        ("ConvergenceError", RuntimeError),
        ("InferenceError", ValueError),
        ("SparseLMMWarning", UserWarning),
    ],
)
def test_each_is_the_builtin_a_caller_expects(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


def test_errors_survive_pickle():
    error = pickle.loads(pickle.dumps(errors.FormulaError("found this")))
    assert isinstance(error, errors.FormulaError)
    assert str(error) == "found this"


def test_pointed_marks_a_range_and_flattens_lines():
    text = errors.pointed("here", "y ~\n(1 | g)", 4, 11)
    assert text.splitlines() == ["here", "    y ~ (1 | g)", "        ^^^^^^^"]
