"""The class body of `Results` as an index: a line per question, answered by a function of `Fit`.

    params = quantity(estimates.params)    results.params      -> estimates.params(results.fit)
    ranef = question(ranef.ranef)          results.ranef(...)  -> ranef.ranef(results.fit, ...)

The functions never see `Results`: numbers are made of the frozen record below it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from sparselmm.fit import Fit

P = ParamSpec("P")
R = TypeVar("R")


class quantity(Generic[R]):  # noqa: N801  (reads as a decorator, like `property`)
    """A read-only attribute that a function of `Fit` answers anew each time it is asked for."""

    def __init__(self, function: Callable[[Fit], R]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, results: None, owner: type) -> quantity[R]: ...
    @overload
    def __get__(self, results: Any, owner: type) -> R: ...

    def __get__(self, results: Any, owner: type) -> quantity[R] | R:
        """The answer; the descriptor itself when asked of the class."""
        return self if results is None else self.function(results.fit)

    def __set__(self, results: Any, value: Any) -> None:
        """Refuse: results are frozen."""
        raise AttributeError("Results are read-only; make a new fit.")


def question(
    function: Callable[Concatenate[Fit, P], R],
) -> Callable[Concatenate[Any, P], R]:
    """A method that passes the `Fit` of its `Results`, and its arguments, to a function."""

    @functools.wraps(function)
    def ask(results: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(results.fit, *args, **kwargs)

    parameters = list(inspect.signature(function).parameters.values())
    me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ask.__signature__ = inspect.Signature([me, *parameters[1:]])  # type: ignore[attr-defined]
    return ask
