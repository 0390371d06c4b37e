"""The type of a step's result, from the function's type hints."""

from __future__ import annotations

import collections.abc
import functools
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from holdfast.errors import DefinitionError
from holdfast.serde import ANY, Serde, serde_for

_AWAITABLES = (collections.abc.Awaitable, collections.abc.Coroutine)
_resolved: WeakKeyDictionary[Callable[..., Any], Serde[Any]] = WeakKeyDictionary()
"""Of functions whose hints are strings: to resolve them takes longer than everything else that a step costs."""


def result_serde(function: Callable[..., Any]) -> Serde[Any]:
    """Raises DefinitionError for a hint that means nothing, InvalidValue for a type that can't travel."""
    function = _plain(function)
    hint = getattr(function, "__annotations__", {}).get("return", Any)
    if hint is Any:
        return ANY
    if not isinstance(hint, str):
        return serde_for(_awaited(hint))
    serde = _resolved.get(function)
    if serde is None:
        try:
            hint = get_type_hints(function, include_extras=True)["return"]
        except NameError as error:
            raise DefinitionError(f"result of {function.__qualname__}: {error}; say ctx.step(type=...)") from None
        serde = _resolved[function] = serde_for(_awaited(hint))
    return serde


def _plain(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__annotations__"):  # an object that can be called, or something built in
        function = type(function).__call__
    return getattr(function, "__func__", function)


def _awaited(hint: Any) -> Any:
    return get_args(hint)[-1] if get_origin(hint) in _AWAITABLES else hint
