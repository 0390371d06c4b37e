"""Discovery believes nothing: each lie of a manifest is refused by name, value and limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from holdfast_partition_processor import discovery
from holdfast_partition_processor.command import HandlerType, ServiceType
from holdfast_partition_processor.discovery import DiscoveryError, discover, validate
from holdfast_proto import endpoint_pb2 as ep


def manifest() -> ep.DiscoverResponse:
    text = ep.Payload(content_type="application/json", json_schema='{"type": "string"}')
    return ep.DiscoverResponse(
        min_protocol_version=5,
        max_protocol_version=7,
        sdk="fake/1",
        services=[
            ep.ServiceManifest(
                name="greeter", type=ep.SERVICE, handlers=[ep.HandlerManifest(name="greet", input=text, output=text)]
            ),
            ep.ServiceManifest(
                name="counter",
                type=ep.VIRTUAL_OBJECT,
                handlers=[ep.HandlerManifest(name="add"), ep.HandlerManifest(name="value", type=ep.SHARED)],
                options=ep.Options(retry_max_attempts=3, retry_on_max_attempts=ep.KILL, inactivity_timeout_ms=0),
                metadata={"team": "a"},
            ),
            ep.ServiceManifest(
                name="publish",
                type=ep.WORKFLOW,
                handlers=[
                    ep.HandlerManifest(name="run", type=ep.WORKFLOW_RUN),
                    ep.HandlerManifest(name="approve", type=ep.SHARED),
                ],
            ),
        ],
    )


def test_a_manifest_becomes_services() -> None:
    found = validate(manifest())
    greeter, counter, publish = found.services
    assert (found.sdk, found.min_protocol_version, found.max_protocol_version) == ("fake/1", 5, 7)
    assert [h.type for h in (*greeter.handlers, *counter.handlers, *publish.handlers)] == [
        HandlerType.SERVICE,
        HandlerType.EXCLUSIVE,
        HandlerType.SHARED,
        HandlerType.WORKFLOW_RUN,
        HandlerType.WORKFLOW_SHARED,
    ]
    assert [s.type for s in found.services] == [ServiceType.SERVICE, ServiceType.VIRTUAL_OBJECT, ServiceType.WORKFLOW]
    assert greeter.handlers[0].input.content_type == "application/json"
    assert counter.options.retry_max_attempts == 3
    assert counter.options.retry_on_max_attempts == "kill"
    assert counter.options.inactivity_timeout_ms == 0  # set, though zero
    assert counter.options.abort_timeout_ms is None  # absent
    assert counter.metadata == (("team", "a"),)


Change = Callable[[ep.DiscoverResponse], Any]


def set_to(path: str, value: Any) -> Change:
    """services.0.handlers.0.name style."""

    def change(answer: ep.DiscoverResponse) -> None:
        *way, last = path.split(".")
        at: Any = answer
        for step in way:
            at = at[int(step)] if step.isdigit() else getattr(at, step)
        setattr(at, last, value)

    return change


def twice(answer: ep.DiscoverResponse) -> None:
    answer.services.append(answer.services[0])


def handler_twice(answer: ep.DiscoverResponse) -> None:
    answer.services[0].handlers.append(answer.services[0].handlers[0])


LIES: list[tuple[str, Change, str]] = [
    ("too old", set_to("max_protocol_version", 5), "max_protocol_version 5: this node speaks 6"),
    ("too new", set_to("min_protocol_version", 7), "min_protocol_version 7"),
    ("no services", lambda a: a.ClearField("services"), "services: there are 0, allowed are 1 to 1000"),
    ("service name", set_to("services.0.name", "1st"), "service name '1st' does not match"),
    ("empty name", set_to("services.0.name", ""), "service name '' does not match"),
    ("newline", set_to("services.0.name", "greeter\n"), "does not match"),
    ("long name", set_to("services.0.name", "x" * 129), "129 bytes"),
    ("reserved restate", set_to("services.0.name", "RestateThing"), "'RestateThing' is reserved"),
    ("reserved holdfast", set_to("services.0.name", "holdfast"), "is reserved"),
    ("reserved openapi", set_to("services.0.name", "openapi"), "is reserved"),
    ("handler name", set_to("services.0.handlers.0.name", "a.b"), "'a.b' does not match"),
    ("service twice", twice, "'greeter' is listed twice"),
    ("handler twice", handler_twice, "'greet' is listed twice"),
    ("unknown type", set_to("services.0.type", 9), "type 9 of service 'greeter' is unknown; there are 1 SERVICE"),
    ("no type", set_to("services.0.type", 0), "type 0 of service 'greeter' is unknown"),
    ("no handlers", lambda a: a.services[0].ClearField("handlers"), "handlers of service 'greeter': there are 0"),
    ("shared service", set_to("services.0.handlers.0.type", ep.SHARED), "type SHARED of handler 'greeter/greet'"),
    ("run of object", set_to("services.1.handlers.0.type", ep.WORKFLOW_RUN), "a VIRTUAL_OBJECT allows EXCLUSIVE"),
    ("unknown handler type", set_to("services.1.handlers.0.type", 77), "type 77 of handler 'counter/add'"),
    ("no run", set_to("services.2.handlers.0.type", ep.SHARED), "a workflow with 0 run handlers"),
    ("two runs", set_to("services.2.handlers.1.type", ep.WORKFLOW_RUN), "2 run handlers (run, approve)"),
    (
        "schema",
        set_to("services.0.handlers.0.input.json_schema", "{"),
        "json_schema of input of handler 'greeter/greet'",
    ),
    ("no attempts", set_to("services.0.options.retry_max_attempts", 0), "retry_max_attempts 0 of service 'greeter'"),
    (
        "shrinking",
        set_to("services.0.options.retry_factor", 0.5),
        "retry_factor 0.5 of service 'greeter': allowed are 1 to",
    ),
    ("not a number", set_to("services.0.options.retry_factor", float("nan")), "retry_factor nan"),
    ("ages", set_to("services.0.options.inactivity_timeout_ms", 2**63), "inactivity_timeout_ms 9223372036854775808"),
    ("never abort", set_to("services.0.handlers.0.options.abort_timeout_ms", 0), "abort_timeout_ms 0 of handler"),
    ("on max", set_to("services.0.options.retry_on_max_attempts", 5), "retry_on_max_attempts 5"),
    (
        "documents",
        set_to("services.0.documentation", "x" * 70_000),
        "documentation of service 'greeter' has 70000 bytes",
    ),
    (
        "idempotent run",
        set_to("services.2.handlers.0.options.idempotency_retention_ms", 5),
        "idempotency_retention_ms 5 of handler 'publish/run'",
    ),
    (
        "too many handlers",
        lambda a: a.services[0].handlers.extend(ep.HandlerManifest(name=f"h{i}") for i in range(1_000)),
        "there are 1001, allowed are 1 to 1000",
    ),
    (
        "too many services",
        lambda a: a.services.extend(ep.ServiceManifest(name=f"s{i}") for i in range(1_000)),
        "services: there are 1003",
    ),
    (
        "too much metadata",
        lambda a: a.services[0].metadata.update({str(i): "" for i in range(101)}),
        "metadata of service 'greeter' has 101 entries",
    ),
]


@pytest.mark.parametrize(("change", "words"), [(c, w) for _, c, w in LIES], ids=[name for name, _, _ in LIES])
def test_lies_are_refused_by_name_value_and_limit(change: Change, words: str) -> None:
    answer = manifest()
    change(answer)
    with pytest.raises(DiscoveryError) as refused:
        validate(answer)
    assert words in str(refused.value)


def says(answer: bytes) -> Callable[[], Awaitable[bytes]]:
    return lambda: asyncio.sleep(0, answer)


@asynccontextmanager
async def server_that(answers: Callable[[], Awaitable[Any]] | None) -> AsyncIterator[str]:
    server = grpc.aio.server()
    if answers is not None:

        async def unary(request: bytes, context: Any) -> bytes:
            result: bytes = await answers()
            return result

        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(unary)
        service = "holdfast.endpoint.v1.Endpoint"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Discover": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"grpc://127.0.0.1:{port}"
    await server.stop(None)


async def test_an_endpoint_is_discovered() -> None:
    async with server_that(says(manifest().SerializeToString())) as address:
        found = await discover(address, timeout_s=5.0)
    assert [service.name for service in found.services] == ["greeter", "counter", "publish"]


async def test_something_else_that_speaks_grpc() -> None:
    async with server_that(None) as address:
        with pytest.raises(DiscoveryError, match="is not a Holdfast endpoint"):
            await discover(address, timeout_s=5.0)


async def test_an_answer_that_is_none() -> None:
    async with server_that(says(b"\xff\xff\xff\xff")) as address:
        with pytest.raises(DiscoveryError, match="4 bytes that are not a DiscoverResponse"):
            await discover(address, timeout_s=5.0)


async def test_no_answer_in_time() -> None:
    async with server_that(lambda: asyncio.sleep(30)) as address:
        with pytest.raises(DiscoveryError, match=r"did not answer within 0\.2 s"):
            await discover(address, timeout_s=0.2)


async def test_nobody_there() -> None:
    async with server_that(None) as address:
        gone = address
    with pytest.raises(DiscoveryError, match="can't be reached"):
        await discover(gone, timeout_s=5.0)


async def test_a_manifest_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MANIFEST_BYTES_MAX", 10)
    async with server_that(says(manifest().SerializeToString())) as address:
        with pytest.raises(DiscoveryError, match="the limit is 10"):
            await discover(address, timeout_s=5.0)


async def test_an_address_that_is_none() -> None:
    with pytest.raises(DiscoveryError, match="host:port"):
        await discover("http://localhost:9080/x")
