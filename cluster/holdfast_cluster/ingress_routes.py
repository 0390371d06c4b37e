"""The routes of the HTTP ingress: what a method and a target mean. Values in, values out.

Calls come in two spellings. The short one needs to know which services are keyed, because a key may be anything::

    /{service}/{handler}[/send]                       /restate/call/{service}[/{key}]/{handler}
    /{object or workflow}/{key}/{handler}[/send]      /restate/send/{service}[/{key}]/{handler}

Everything else stands below ``/restate``, or ``/holdfast``, which means the same (no service has such a name).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

from holdfast_cluster.quantity import BadQuantity, parse_duration

PREFIXES = ("restate", "holdfast")
READ_METHODS = (b"GET", b"HEAD")
CALL_METHODS = (b"GET", b"POST")


class RouteError(Exception):
    """No route. ``allowed``: the methods that there are, for a 405."""

    def __init__(self, status: int, message: str, allowed: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Call:
    """``delay_ms`` None: at once."""

    service: str
    key: str | None
    handler: str
    send: bool = False
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ById:
    invocation_id: str


@dataclass(frozen=True, slots=True)
class ByWorkflow:
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class ByIdempotencyKey:
    service: str
    key: str | None
    handler: str
    idempotency_key: str


Coordinates: TypeAlias = ById | ByWorkflow | ByIdempotencyKey
"""How a client names an invocation."""


class Look(Enum):
    ATTACH = "attach"  # wait for the result
    OUTPUT = "output"  # the result if it is there
    LOOKUP = "lookup"  # the id


@dataclass(frozen=True, slots=True)
class Find:
    """``coordinates`` None: they are in the body, as JSON."""

    look: Look
    coordinates: Coordinates | None


@dataclass(frozen=True, slots=True)
class CompleteAwakeable:
    awakeable_id: str
    resolve: bool


@dataclass(frozen=True, slots=True)
class Health:
    pass


Route: TypeAlias = Call | Find | CompleteAwakeable | Health
IsKeyed = Callable[[str], bool]
"""Whether a service is known as a virtual object or workflow."""


def parse_route(method: bytes, target: bytes, is_keyed: IsKeyed) -> Route:
    """Raises RouteError."""
    path, _, query = target.partition(b"?")
    segments = [_decode(segment) for segment in path.removesuffix(b"/").split(b"/")[1:]]
    if not segments:
        raise RouteError(404, "there is nothing at /; call a handler as /service/handler or /object/key/handler")
    if segments[0] in PREFIXES:
        return _own_route(method, segments[1:], query)
    return _short_call(method, segments, query, is_keyed)


def _decode(segment: bytes) -> str:
    if b"%" not in segment and segment.isascii():
        return segment.decode()
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise RouteError(400, f"the path is not UTF-8 when percent-decoded: {segment[:80]!r}") from None


def _short_call(method: bytes, segments: list[str], query: bytes, is_keyed: IsKeyed) -> Call:
    match segments:
        case [service, handler]:
            return _call(method, service, None, handler, False, query)
        case [service, handler, "send"] if not is_keyed(service):
            return _call(method, service, None, handler, True, query)
        case [service, key, handler]:
            return _call(method, service, key, handler, False, query)
        case [service, key, handler, "send"]:
            return _call(method, service, key, handler, True, query)
        case _:
            raise _no_route(segments)


def _own_route(method: bytes, segments: list[str], query: bytes) -> Route:
    match segments:
        case ["call" | "send" as verb, service, handler]:
            return _call(method, service, None, handler, verb == "send", query)
        case ["call" | "send" as verb, service, key, handler]:
            return _call(method, service, key, handler, verb == "send", query)
        case ["health"]:
            _check_method(method, READ_METHODS)
            return Health()
        case ["awakeables" | "a", awakeable_id, "resolve" | "reject" as verb]:
            _check_method(method, (b"POST",))
            return CompleteAwakeable(awakeable_id, verb == "resolve")
        case ["scope", *_]:
            raise RouteError(400, "scopes are not supported by this release")
        case _:
            return _find(method, segments)


def _find(method: bytes, segments: list[str]) -> Find:
    coordinates: Coordinates
    match segments:
        case ["attach" | "output" | "lookup" as verb]:
            _check_method(method, (b"POST",))
            return Find(Look(verb), None)
        case ["attach" | "output" as verb, invocation_id]:
            coordinates = ById(invocation_id)
        case ["invocation", invocation_id, "attach" | "output" as verb]:
            coordinates = ById(invocation_id)
        case ["invocation", service, handler, idempotency_key, "attach" | "output" as verb]:
            coordinates = ByIdempotencyKey(service, None, handler, idempotency_key)
        case ["invocation", service, key, handler, idempotency_key, "attach" | "output" as verb]:
            coordinates = ByIdempotencyKey(service, key, handler, idempotency_key)
        case ["workflow", name, key, "attach" | "output" as verb]:
            coordinates = ByWorkflow(name, key)
        case _:
            raise _no_route(["restate", *segments])
    _check_method(method, READ_METHODS)
    return Find(Look(verb), coordinates)


def _call(method: bytes, service: str, key: str | None, handler: str, send: bool, query: bytes) -> Call:
    _check_method(method, CALL_METHODS)
    delay_ms = _delay_ms(query) if query else None
    if delay_ms is not None and not send:
        raise RouteError(400, "a delay is for sends: nobody waits that long for an answer; add /send to the path")
    return Call(service, key, handler, send, delay_ms)


def _delay_ms(query: bytes) -> int | None:
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name == "delay":
            try:
                return parse_duration(value)
            except BadQuantity as error:
                raise RouteError(400, f"delay: {error}") from None
    return None


def _check_method(method: bytes, allowed: tuple[bytes, ...]) -> None:
    if method not in allowed:
        names = b" or ".join(allowed).decode()
        raise RouteError(405, f"method {method.decode('latin-1')} is not allowed here, use {names}", allowed)


def _no_route(segments: list[str]) -> RouteError:
    path = "/" + "/".join(segments)
    return RouteError(404, f"no route for {path[:200]!r}; calls are /service/handler or /object/key/handler")
