"""Handlers: functions that a service offers.

What ``@service.handler`` gives back is still the function (call it in a unit test with a context of your own), and
also a typed target for ``ctx.call``, ``ctx.send`` and clients. Handlers of keyed services become a target by their key:
``counter_add["my-key"]``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Generic, Literal, ParamSpec, TypedDict, TypeVar, get_type_hints

from holdfast._parameters import Parameters, handler_signature
from holdfast.errors import DefinitionError, InvalidValue
from holdfast.retry_policy import Duration, RetryPolicy, to_ms
from holdfast.serde import Serde, serde_for

P = ParamSpec("P")
R = TypeVar("R")

_SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")
_HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")
NAME_CHARACTERS_MAX = 256


class HandlerOptions(TypedDict, total=False):
    """What the node should do differently for a service or a handler; a handler's option goes before its service's.

    Durations are seconds or timedeltas.
    """

    inactivity_timeout: Duration
    """Without news from the handler for so long, it is asked to leave memory when it must wait. Default: a minute."""
    abort_timeout: Duration
    """So long after that a handler which still runs is taken for stuck and tried again. Default: ten minutes."""
    journal_retention: Duration
    """How long the journal of a completed invocation can be looked at. Default: a day."""
    idempotency_retention: Duration
    """How long an idempotency key is remembered after completion. Default: a day."""
    workflow_completion_retention: Duration
    """How long result, state and promises of a completed workflow are kept. Default: a day."""
    lazy_state: bool
    """Fetch state when it is read, instead of sending all of it with the start."""
    private: bool
    """Only other handlers may call this, nobody from outside."""
    retry: RetryPolicy
    """Back-off of an invocation that fails. Default: 70 attempts, then it is paused. (No max_duration here.)"""
    on_max_attempts: Literal["pause", "kill"]
    """What happens to an invocation after the last attempt."""
    metadata: dict[str, str]
    """Texts shown with the service."""


class HandlerType(Enum):
    SERVICE = "service"
    EXCLUSIVE = "exclusive"
    SHARED = "shared"
    WORKFLOW_RUN = "workflow run"

    @property
    def writes_state(self) -> bool:
        return self in (HandlerType.EXCLUSIVE, HandlerType.WORKFLOW_RUN)


class ServiceType(Enum):
    SERVICE = "service"
    VIRTUAL_OBJECT = "virtual object"
    WORKFLOW = "workflow"


class HandlerDefinition:
    """All there is to know about a handler: the function, where it is found, how its values travel."""

    def __init__(
        self,
        service: str,
        service_type: ServiceType,
        type: HandlerType,
        function: Callable[..., Any],
        name: str | None,
        options: HandlerOptions,
        serdes: tuple[Serde[Any] | None, Serde[Any] | None] = (None, None),
        local_names: Mapping[str, Any] | None = None,
    ) -> None:
        """``serdes`` are those of input and output, None for the type hint's. ``local_names`` help to resolve hints
        that are strings."""
        self.service = service
        self.service_type = service_type
        self.type = type
        self.function = function
        self.name = check_name(name if name is not None else function.__name__, _HANDLER_NAME, "handler")
        self.options = check_options(options, f"{service}/{self.name}")
        self.is_async = inspect.iscoroutinefunction(function)
        self.documentation = inspect.getdoc(function) or ""
        self._signature = handler_signature(function)
        self._serdes = serdes
        self._resolved: tuple[Parameters, Serde[Any]] | None = None
        try:
            self._resolved = self._resolve(local_names)
        except NameError:
            pass  # A type that is defined further down: resolved when it is needed, see `resolved`.

    def __repr__(self) -> str:
        return f"<{self.type.value} handler {self.path}>"

    @property
    def path(self) -> str:
        return f"{self.service}/{self.name}"

    @property
    def parameters(self) -> Parameters:
        return self.resolved()[0]

    @property
    def output(self) -> Serde[Any]:
        return self.resolved()[1]

    def resolved(self) -> tuple[Parameters, Serde[Any]]:
        """How input and output travel. Raises DefinitionError for a type hint that means nothing."""
        if self._resolved is None:
            try:
                self._resolved = self._resolve(None)
            except NameError as error:
                raise DefinitionError(f"handler {self.path}: {error} (needed to resolve its type hints)") from None
        return self._resolved

    def _resolve(self, local_names: Mapping[str, Any] | None) -> tuple[Parameters, Serde[Any]]:
        hints = get_type_hints(self.function, localns=dict(local_names) if local_names else None, include_extras=True)
        input_serde, output_serde = self._serdes
        try:
            parameters = Parameters(self._signature, hints, input_serde)
            return parameters, output_serde if output_serde is not None else serde_for(hints.get("return", Any))
        except InvalidValue as error:
            raise DefinitionError(f"handler {self.path}: {error}") from None


class Handler(Generic[P, R]):
    """A handler that can be called: one of a `Service`, or of a keyed service with its key."""

    __slots__ = ("__weakref__", "definition", "key")

    def __init__(self, definition: HandlerDefinition, key: str | None = None) -> None:
        self.definition = definition
        self.key = key
        """None for a `Service`."""

    def __repr__(self) -> str:
        key = "" if self.key is None else f"[{self.key!r}]"
        return f"<handler {self.definition.path}{key}>"

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The function itself, for unit tests: nothing durable happens, ``ctx`` is whatever the test passes."""
        return self.definition.function(ctx, *args, **kwargs)

    @property
    def service(self) -> str:
        return self.definition.service

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def content_type(self) -> str:
        """Of the request's body; empty when there is none."""
        return self.definition.parameters.content_type

    def encode_input(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """The request's body for these arguments. Raises InvalidValue for what can't be serialised."""
        return self.definition.parameters.encode(args, kwargs)

    def decode_output(self, body: bytes) -> R:
        """The result in a response's body. Raises InvalidValue."""
        result: R = self.definition.output.deserialize(body)
        return result


class Keyed(Generic[P, R]):
    """A handler of a virtual object or workflow. Say which one to call it: ``add["my-key"]``."""

    __slots__ = ("__weakref__", "definition")

    def __init__(self, definition: HandlerDefinition) -> None:
        self.definition = definition

    def __repr__(self) -> str:
        return f"<keyed handler {self.definition.path}>"

    def __getitem__(self, key: str) -> Handler[P, R]:
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the key of {self.definition.path} must be a str, not {type(key).__name__}")
        return Handler(self.definition, key)

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The function itself, for unit tests."""
        return self.definition.function(ctx, *args, **kwargs)

    @property
    def service(self) -> str:
        return self.definition.service

    @property
    def name(self) -> str:
        return self.definition.name


def check_service_name(name: str) -> str:
    check_name(name, _SERVICE_NAME, "service")
    if name.lower().startswith("restate") or name.lower() == "openapi":
        raise DefinitionError(f"service name {name!r} is reserved")
    return name


def check_name(name: str, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(
            f"{what} name {name!r} must match {pattern.pattern}, up to {NAME_CHARACTERS_MAX} characters"
        )
    return name


def check_options(options: HandlerOptions, owner: str) -> HandlerOptions:
    known = HandlerOptions.__annotations__
    for name, value in options.items():
        if name not in known:
            raise DefinitionError(f"{owner}: unknown option {name!r}; known are {', '.join(sorted(known))}")
        if name.endswith(("_timeout", "_retention")):
            try:
                to_ms(value, name)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            except (TypeError, ValueError) as error:
                raise DefinitionError(f"{owner}: {error}") from None
    policy = options.get("retry")
    if policy is not None and policy.max_duration is not None:
        raise DefinitionError(f"{owner}: retry of a handler has no max_duration; use max_attempts")
    return options
