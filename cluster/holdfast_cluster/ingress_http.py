"""The HTTP ingress: requests of the listener become calls, and their results answers. Routes: `ingress_routes`.

::

    200  the result, with x-restate-id and the content-type that the handler says
    202  {"invocationId": ..., "status": "Accepted" | "PreviouslyAccepted", "executionTime": ...} for a send
    4xx, 5xx  {"code": ..., "message": ..., "source": "ingress" | "invocation"}; `ingress_error` lists the ingress' own

The source says who failed: the ingress (nothing was started, unless x-restate-id names an invocation) or the handler.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import formatdate
from typing import NamedTuple, assert_never

import msgspec

from holdfast_cluster import ingress_routes as routes
from holdfast_cluster.http_connection import Responder
from holdfast_cluster.http_message import CORS, ERROR_HEADERS, JSON_TYPE, Request, error_body
from holdfast_cluster.ingress import CALLEES_MAX, Callee, Ingress, parse_invocation_id
from holdfast_cluster.ingress_error import RETRY_SECONDS, IngressError, bad_request
from holdfast_cluster.input_headers import InputHeaders
from holdfast_cluster.pending import PendingCall, PendingSend, PendingSignal
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.command import Failure
from holdfast_proto.identifiers import encode_invocation_id

PREFLIGHT = (
    CORS + b"access-control-allow-methods: GET, POST, OPTIONS\r\naccess-control-allow-headers: *\r\n"
    b"access-control-max-age: 86400\r\n"
)
ERROR_FROM_INVOCATION = JSON_TYPE + b"x-restate-error-source: invocation\r\n" + CORS
ACCEPTED = JSON_TYPE + CORS


class Plan(NamedTuple):
    """What a target of a call means, as long as the catalog stays as it is."""

    callee: Callee
    send: bool
    delay_ms: int | None


class IngressHttp:
    """The handler of the ingress' listener."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self._headers = InputHeaders()
        self._plans: dict[bytes, Plan] = {}
        self._plans_of: Catalog | None = None

    def __call__(self, request: Request, responder: Responder) -> None:
        try:
            self._handle(request, responder)
        except routes.RouteError as error:
            allowed = b"allow: %b\r\n" % b", ".join(error.allowed) if error.allowed else b""
            responder.respond(error.status, allowed + ERROR_HEADERS, error_body(error.status, error.message))
        except IngressError as error:
            refuse(responder, error)

    def _handle(self, request: Request, responder: Responder) -> None:
        """Raises RouteError, IngressError."""
        catalog = self._ingress.catalog
        if catalog is not self._plans_of or len(self._plans) >= CALLEES_MAX:
            self._plans.clear()
            self._plans_of = catalog
        plan = self._plans.get(request.target)
        if plan is not None and request.method in routes.CALL_METHODS:
            self._start(plan, request, responder)
        elif request.method == b"OPTIONS":
            responder.respond(200, PREFLIGHT)
        else:
            self._route(request, responder)

    def _route(self, request: Request, responder: Responder) -> None:
        ingress = self._ingress
        route = routes.parse_route(request.method, request.target, ingress.is_keyed)
        match route:
            case routes.Call():
                callee = ingress.callee(route.service, route.handler, route.key)
                plan = self._plans[request.target] = Plan(callee, route.send, route.delay_ms)
                self._start(plan, request, responder)
            case routes.Find(look=look, coordinates=coordinates):
                self._find(look, coordinates or _coordinates(request.body), responder)
            case routes.CompleteAwakeable(awakeable_id=awakeable_id, resolve=resolve):
                signal = HttpSignal(ingress, responder)
                value = request.body if resolve else None
                reason = None if resolve else _utf8(request.body, "the reason")
                ingress.complete_awakeable(signal, awakeable_id, value, reason)
                responder.on_disconnect = signal.abandon
            case routes.Health():
                _health(ingress, responder)
            case _:
                assert_never(route)

    def _start(self, plan: Plan, request: Request, responder: Responder) -> None:
        """Raises IngressError."""
        headers = request.headers
        raw_type, raw_key = headers.get(b"content-type"), headers.get(b"idempotency-key")
        content_type = None if raw_type is None else raw_type.decode("latin-1")
        key = None if raw_key is None else _utf8(raw_key, "idempotency-key")
        forwarded = self._headers.of_http(headers, request.target)
        if plan.send:
            sent = HttpSend(self._ingress, responder)
            self._ingress.send(sent, plan.callee, forwarded, content_type, request.body, key, plan.delay_ms)
            responder.on_disconnect = sent.abandon
        else:
            call = HttpCall(self._ingress, responder)
            self._ingress.call(call, plan.callee, forwarded, content_type, request.body, key)
            responder.on_disconnect = call.abandon

    def _find(self, look: routes.Look, coordinates: routes.Coordinates, responder: Responder) -> None:
        """Raises IngressError."""
        ingress = self._ingress
        match coordinates:
            case routes.ById(invocation_id=text):
                invocation_id = parse_invocation_id(text)
            case routes.ByWorkflow(name=name, key=key):
                invocation_id = ingress.invocation_of_workflow(name, key)
            case routes.ByIdempotencyKey():
                invocation_id = ingress.invocation_of_key(
                    coordinates.service, coordinates.key, coordinates.handler, coordinates.idempotency_key
                )
            case _:
                assert_never(coordinates)
        if look is routes.Look.LOOKUP:
            ingress.has_result(invocation_id)  # or raises that it does not exist
            _respond_json(responder, 200, {"invocationId": encode_invocation_id(invocation_id)})
            return
        call = HttpCall(ingress, responder)
        if look is routes.Look.OUTPUT:
            ingress.output(call, invocation_id)
        else:
            ingress.attach(call, invocation_id)
        if not call.settled:
            responder.on_disconnect = call.abandon


# ---------------------------------------------------------------- those who wait


class HttpCall(PendingCall):
    __slots__ = ("responder",)

    def __init__(self, ingress: Ingress, responder: Responder) -> None:
        super().__init__(ingress)
        self.responder = responder

    def on_result(self, value: bytes | None, failure: Failure | None) -> None:
        head = b"x-restate-id: %b\r\n" % encode_invocation_id(self.id).encode()
        if self.stored and (expires_ms := self.ingress.expires_ms(self)):
            head += f"idempotency-expires: {formatdate(expires_ms / 1000, usegmt=True)}\r\n".encode()
        if failure is not None:
            status = failure.code if 400 <= failure.code <= 599 else 500
            body = error_body(status, failure.message, "invocation", dict(failure.metadata))
            self.responder.respond(status, head + ERROR_FROM_INVOCATION, body)
        elif value:
            self.responder.respond(200, head + self.answer_type.with_body + CORS, value)
        else:
            self.responder.respond(200, head + self.answer_type.without_body + CORS)

    def on_refused(self, error: IngressError) -> None:
        refuse(self.responder, error)


class HttpSend(PendingSend):
    __slots__ = ("responder",)

    def __init__(self, ingress: Ingress, responder: Responder) -> None:
        super().__init__(ingress)
        self.responder = responder

    def on_accepted(self, previously: bool) -> None:
        text = encode_invocation_id(self.id)
        answer = {"invocationId": text, "status": "PreviouslyAccepted" if previously else "Accepted"}
        if self.execute_at_ms:
            answer["executionTime"] = _rfc3339(self.execute_at_ms)
        _respond_json(self.responder, 202, answer, b"x-restate-id: %b\r\n" % text.encode())

    def on_refused(self, error: IngressError) -> None:
        refuse(self.responder, error)


class HttpSignal(PendingSignal):
    __slots__ = ("responder",)

    def __init__(self, ingress: Ingress, responder: Responder) -> None:
        super().__init__(ingress)
        self.responder = responder

    def on_accepted(self) -> None:
        self.responder.respond(202, CORS)

    def on_refused(self, error: IngressError) -> None:
        refuse(self.responder, error)


# ---------------------------------------------------------------- answers


def refuse(responder: Responder, error: IngressError) -> None:
    head = ERROR_HEADERS
    if error.retry_after_seconds is not None:
        head += b"retry-after: %d\r\n" % error.retry_after_seconds
    if error.invocation_id is not None:
        head += b"x-restate-id: %b\r\n" % encode_invocation_id(error.invocation_id).encode()
    responder.respond(error.code, head, error_body(error.code, error.message))


def _health(ingress: Ingress, responder: Responder) -> None:
    if not ingress.ready:
        refuse(responder, IngressError(503, "the node is starting or stopping", retry_after_seconds=RETRY_SECONDS))
        return
    _respond_json(responder, 200, {"services": list(ingress.catalog.services)})


def _respond_json(responder: Responder, status: int, answer: object, headers: bytes = b"") -> None:
    responder.respond(status, headers + ACCEPTED, json.dumps(answer).encode())


def _rfc3339(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---------------------------------------------------------------- bodies


def _utf8(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise bad_request(f"{what} is not UTF-8") from None


class _Invocation(msgspec.Struct, tag_field="target", tag="invocation", rename="camel"):
    invocation_id: str


class _Workflow(msgspec.Struct, tag_field="target", tag="workflow", rename="camel"):
    workflow_name: str
    workflow_key: str
    scope: str | None = None


class _IdempotentInvocation(msgspec.Struct, tag_field="target", tag="idempotentInvocation", rename="camel"):
    service: str
    handler: str
    idempotency_key: str
    key: str | None = None
    scope: str | None = None


_target_decoder: msgspec.json.Decoder[_Invocation | _Workflow | _IdempotentInvocation] = msgspec.json.Decoder(
    _Invocation | _Workflow | _IdempotentInvocation
)


def _coordinates(body: bytes) -> routes.Coordinates:
    """Raises IngressError 400."""
    try:
        target = _target_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise bad_request(f"the body must name an invocation, as JSON: {error}") from None
    if not isinstance(target, _Invocation) and target.scope is not None:
        raise bad_request("scopes are not supported by this release")
    match target:
        case _Invocation(invocation_id=invocation_id):
            return routes.ById(invocation_id)
        case _Workflow():
            return routes.ByWorkflow(target.workflow_name, target.workflow_key)
        case _IdempotentInvocation():
            return routes.ByIdempotencyKey(target.service, target.key, target.handler, target.idempotency_key)
