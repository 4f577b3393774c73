"""The class body of `Results` as an index: a line per question, answered by a function of `Fit`.

    params = quantity(estimates.params)    results.params      -> estimates.params(results.fit)
    ranef = question(ranef.ranef)          results.ranef(...)  -> ranef.ranef(results.fit, ...)

The functions never see `Results`: numbers are made of the frozen record below it. Modules named by
`later` are imported when the first of their questions is asked, so that a first fit does not wait
for profiles, bootstraps and tables that nobody wants yet.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from sparselmm.fit import Fit

P = ParamSpec("P")
R = TypeVar("R")


class Module:
    """A module by name; its attributes are functions by name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, function: str) -> Callable[[], Any]:
        """A loader of one function: calling it imports the module."""
        return Reference(self._name, function)


class Reference:
    """A function by name."""

    def __init__(self, module: str, function: str) -> None:
        self.module, self.function = module, function

    def __call__(self) -> Callable[..., Any]:
        """The function itself."""
        return getattr(import_module(self.module), self.function)


def later(package: str, *names: str) -> list[Module]:
    """Modules of a package that are imported when they are needed.

    Examples
    --------
    >>> [text] = later("sparselmm.report", "text")
    >>> text.count().__name__
    'count'
    """
    return [Module(f"{package}.{name}") for name in names]


def _resolve(function: Any) -> Any:
    return function() if isinstance(function, Reference) else function


class quantity(Generic[R]):  # noqa: N801  (reads as a decorator, like `property`)
    """A read-only attribute that a function of `Fit` answers anew each time it is asked for."""

    def __init__(self, function: Callable[[Fit], R]) -> None:
        self._function = function

    @functools.cached_property
    def function(self) -> Callable[[Fit], R]:
        """The function that answers."""
        return _resolve(self._function)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.function.__doc__

    @overload
    def __get__(self, results: None, owner: type) -> quantity[R]: ...
    @overload
    def __get__(self, results: Any, owner: type) -> R: ...

    def __get__(self, results: Any, owner: type) -> quantity[R] | R:
        """The answer; the descriptor itself when asked of the class."""
        return self if results is None else self.function(results.fit)


class question(Generic[P, R]):  # noqa: N801
    """A method that passes the `Fit` of its `Results`, and its arguments, to a function."""

    def __init__(self, function: Callable[Concatenate[Fit, P], R]) -> None:
        self._function = function

    @functools.cached_property
    def method(self) -> Callable[Concatenate[Any, P], R]:
        """The function as a method of `Results`."""
        function = _resolve(self._function)

        @functools.wraps(function)
        def ask(results: Any, *args: P.args, **kwargs: P.kwargs) -> R:
            return function(results.fit, *args, **kwargs)

        parameters = list(inspect.signature(function).parameters.values())
        me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ask.__signature__ = inspect.Signature([me, *parameters[1:]])  # type: ignore[attr-defined]
        return ask

    @overload
    def __get__(self, results: None, owner: type) -> Callable[Concatenate[Any, P], R]: ...
    @overload
    def __get__(self, results: Any, owner: type) -> Callable[P, R]: ...

    def __get__(self, results: Any, owner: type) -> Any:
        """The method, bound to the results."""
        return self.method if results is None else MethodType(self.method, results)
