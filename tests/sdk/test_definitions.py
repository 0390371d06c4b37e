"""Services that can't be served say so at once, in words that name what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast import (
    Context,
    DefinitionError,
    Endpoint,
    Keyed,
    ObjectContext,
    RetryPolicy,
    Service,
    SharedContext,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from holdfast.discovery import manifest
from holdfast_proto import endpoint_pb2 as ep


async def handler(ctx: Context, n: int) -> int:
    return n


def with_handler(name: str) -> Service:
    made = Service(name)
    made.handler(handler)
    return made


def duplicate_handler() -> None:
    made = with_handler("a")
    made.handler(handler)


def no_context() -> None:
    async def nothing() -> None: ...

    Service("a").handler(nothing)  # type: ignore[call-overload]


def variadic() -> None:
    async def many(ctx: Context, *names: str) -> None: ...

    Service("a").handler(many)


def unknown_type() -> None:
    made = Service("a")

    @made.handler
    async def odd(ctx: Context, x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    Endpoint([made])


def two_mains() -> None:
    made = Workflow("w")

    @made.main
    async def a(ctx: WorkflowContext) -> None: ...

    @made.main
    async def b(ctx: WorkflowContext) -> None: ...

    Endpoint([made])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Service("no spaces"), "service name 'no spaces' must match"),
        (lambda: Service("restate.x"), "reserved"),
        (lambda: Service(""), "service name ''"),
        (lambda: Service("a").handler(name="a-b")(handler), "handler name 'a-b' must match"),
        (lambda: Service("a", inactivity_timeout=-1), "a: inactivity_timeout must be zero or more seconds, not -1"),
        (lambda: Service("a", timeout=1), "a: unknown option 'timeout'; known are abort_timeout"),
        (lambda: Service("a", retry=RetryPolicy(max_duration=1)), "no max_duration"),
        (duplicate_handler, "service a has a handler 'handler' already"),
        (no_context, "must take the context as its first parameter"),
        (variadic, r"\*names can't be filled from a request"),
        (unknown_type, "handler a/odd: name 'Nowhere' is not defined"),
        (two_mains, "workflow w needs exactly one main handler, it has 2"),
        (lambda: Endpoint([]), "nothing to serve"),
        (lambda: Endpoint([Service("empty")]), "service empty has no handlers"),
        (lambda: Endpoint([with_handler("a"), with_handler("a")]), "two services are called 'a'"),
        (lambda: Endpoint([handler]), "a Service, VirtualObject or Workflow is needed"),  # type: ignore[list-item]
    ],
)
def test_definitions_that_can_not_be_served(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RetryPolicy(max_attempts=0), "max_attempts counts the first execution too"),
        (lambda: RetryPolicy(factor=0.5), "factor must be"),
        (lambda: RetryPolicy(initial_interval=float("nan")), "initial_interval must be"),
        (lambda: TerminalError("x", code=200), "must be an HTTP status from 400 to 599"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_the_key_of_a_virtual_object_is_needed_and_a_text() -> None:
    made = VirtualObject("v")

    @made.handler
    async def touch(ctx: ObjectContext) -> None: ...

    assert isinstance(touch, Keyed)
    assert touch["k"].key == "k"
    with pytest.raises(TypeError, match="the key of v/touch must be a str, not int"):
        touch[1]  # type: ignore[index]


def test_the_manifest_tells_types_limits_and_schemas() -> None:
    things = VirtualObject("things", documentation="Things.", private=True, lazy_state=True, journal_retention=60)

    @things.handler(retry=RetryPolicy(initial_interval=0.1, max_attempts=5), on_max_attempts="kill")
    async def change(ctx: ObjectContext, n: int) -> str:
        """Change it."""
        return str(n)

    @things.shared(name="look")
    async def shared(ctx: SharedContext) -> bytes:
        return b""

    (service,) = manifest([things]).services
    assert (service.name, service.type, service.documentation) == ("things", ep.VIRTUAL_OBJECT, "Things.")
    assert service.options.ingress_private
    assert service.options.enable_lazy_state
    assert service.options.journal_retention_ms == 60_000
    first, second = service.handlers
    assert (first.name, first.type, first.documentation) == ("change", ep.EXCLUSIVE, "Change it.")
    assert (first.input.required, first.input.content_type) == (True, "application/json")
    assert (first.input.json_schema, first.output.json_schema) == ('{"type":"integer"}', '{"type":"string"}')
    assert first.options.retry_initial_interval_ms == 100
    assert first.options.retry_max_attempts == 5
    assert first.options.retry_on_max_attempts == ep.KILL
    assert (second.name, second.type) == ("look", ep.SHARED)
    assert not second.input.HasField("content_type")
    assert second.output.content_type == "application/octet-stream"


def test_back_off_grows_to_its_limit() -> None:
    policy = RetryPolicy(initial_interval=0.5, factor=2, max_interval=3)
    assert [policy.delay_ms(n) for n in (1, 2, 3, 4, 5, 10_000)] == [500, 1000, 2000, 3000, 3000, 3000]
