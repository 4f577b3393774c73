"""Functions of the parameters that a user wants profiled: called with care, and looked at before the walk.

A walk needs a function that changes with the parameters, and has derivatives, where it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.inference.profile.surface import Surface
from sparselmm.inference.profile.targets import Custom, Function

TINY = 1e-3  # a small step, in units of what the data can just show
STILL = 1e-12  # change, relative to the value, that is rounding
BENT = 0.1  # how far the changes either way may differ, relative to their size
LINEAR = 0.02  # share of the change over a whole unit that small steps must foretell
ADVICE = "Write it with what is smooth in the parameters, such as ratios, powers and logarithms."


def check_functions(functions: Any) -> Mapping[str, Function]:
    """Functions by name, or none.

    Raises
    ------
    InferenceError
        For something else than a mapping of functions.
    """
    if functions is None:
        return {}
    if not isinstance(functions, Mapping):
        raise InferenceError(
            f"Found functions of type {type(functions).__name__}; expected a mapping such as "
            "{'ratio': lambda p: p['sigma'] / p['sd_x|g']}."
        )
    for name, function in functions.items():
        if not callable(function):
            raise InferenceError(
                f"Found {function!r} as the function {name!r}; expected a function that takes a "
                "dict of all parameters and returns a number."
            )
    return functions


def check_smooth(surface: Surface, target: Custom, x: Array) -> None:
    """Refuse a function that cannot be followed from x.

    Raises
    ------
    InferenceError
        When it fails or gives no finite number there, is constant, or has a jump, kink or turning point.
    """
    value = _number(target, target.parameters_at(x))
    low = np.append(x[:-1] < 100.0 * surface.floor, False)  # mirror images of zero are no kinks
    x, small = np.where(low, surface.unit, x), np.diag(TINY * surface.unit)
    here = target.value(x)
    up = np.array([target.value(x + e) for e in small]) - here
    down = here - np.array([target.value(x - e) for e in small])
    whole = [target.value(x + e / TINY) - target.value(x - e / TINY) for e in small]
    far = 0.5 * float(np.linalg.norm(np.nan_to_num(whole)))
    near = float(np.linalg.norm(up + down)) / 2.0
    if max(far, near) <= STILL * max(abs(value), 1e-300):
        raise InferenceError(
            f"Found a constant function {target.name!r} ({value:.6g} whatever the parameters); expected one that "
            "changes with them. There is nothing to profile."
        )
    bent = float(np.linalg.norm(up - down)) > BENT * 2.0 * near
    if bent or not near > LINEAR * TINY * far:
        raise InferenceError(
            f"Found a jump, kink or turning point of the function {target.name!r} at the estimates (value "
            f"{value:.6g}); expected one that is smooth and rises or falls there. {ADVICE}"
        )


def _number(target: Custom, values: Mapping[str, float]) -> float:
    """The function's value at the estimates, any failure said."""
    try:
        with np.errstate(all="ignore"):
            found = target.function(values)
    except Exception as error:
        what = f"no parameter {error}" if isinstance(error, KeyError) else str(error)
        raise InferenceError(
            f"Found {type(error).__name__} ({what}) in the function {target.name!r} at the estimates; expected a "
            f"number from the parameters {', '.join(map(repr, values))}."
        ) from error
    value = _real(found)
    if not np.isfinite(value):
        raise InferenceError(
            f"Found {found!r} from the function {target.name!r} at the estimates; expected a finite number."
        )
    return value


def _real(found: Any) -> float:
    """A number of any library as a float; NaN for what is none."""
    if isinstance(found, str) or np.ndim(found):
        return np.nan
    try:
        return float(found)
    except (TypeError, ValueError):
        return np.nan
