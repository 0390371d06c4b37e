"""The HTTP ingress: routes, status codes and bodies of docs/http-api.md."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from holdfast_cluster.http_server import Request
from holdfast_cluster.ingress import Ingress, IngressError
from holdfast_partition_processor.action import InvocationCompleted
from holdfast_partition_processor.catalog import Catalog, ResolvedHandler
from holdfast_partition_processor.command import ServiceType
from holdfast_partition_processor.entries.attach import idempotent_id, workflow_id
from holdfast_proto.identifiers import MalformedIdentifier, decode_invocation_id, encode_invocation_id

_CORS = ("access-control-allow-origin", "*")
_JSON = ("content-type", "application/json")
_NOT_FORWARDED = frozenset(
    {"connection", "host", "idempotency-key", "content-length", "transfer-encoding", "keep-alive", "expect"}
)
_ISO = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$")
_HUMAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class _Answer:
    """Waits for one invocation on behalf of one request."""

    __slots__ = ("_http", "_timer", "invocation_id", "request", "resolved")

    def __init__(self, http: IngressHttp, request: Request, resolved: ResolvedHandler | None) -> None:
        self._http = http
        self.request = request
        self.resolved = resolved
        self.invocation_id = b""
        self._timer: asyncio.TimerHandle | None = None

    def completed(self, result: InvocationCompleted) -> None:
        self._http.answer_result(self.request, result, self.resolved)

    def failed(self, error: IngressError) -> None:
        self._http.refuse(self.request, error.code, error.message)


class IngressHttp:
    def __init__(self, ingress: Ingress, catalog: Callable[[], Catalog], timeout_seconds: float) -> None:
        self._ingress = ingress
        self._catalog = catalog
        self._timeout = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[Request, float] = {}
        self._sweeper = self._loop.call_later(1.0, self._sweep)

    def close(self) -> None:
        self._sweeper.cancel()

    def handle(self, request: Request) -> None:
        try:
            path, _, query = request.url.partition(b"?")
            text = path.decode("ascii").rstrip("/")
            parts = [unquote(part, errors="strict") for part in text.split("/")[1:]]
            if request.method == "OPTIONS":
                self._preflight(request)
            else:
                self._route(request, parts, query.decode("ascii"))
        except IngressError as error:
            self.refuse(request, error.code, error.message)
        except UnicodeDecodeError:
            self.refuse(request, 400, "the path is not valid UTF-8")

    def refuse(self, request: Request, status: int, message: str, source: str = "ingress") -> None:
        body = msgspec.json.encode({"code": status, "message": message, "source": source})
        headers = [_JSON, ("x-restate-error-source", source), _CORS]
        if status in (429, 503):
            headers.append(("retry-after", "1"))
        request.respond(status, headers, body)

    def answer_result(self, request: Request, result: InvocationCompleted, resolved: ResolvedHandler | None) -> None:
        self._deadlines.pop(request, None)
        shown = ("x-restate-id", encode_invocation_id(result.id))
        failure = result.failure
        if failure is not None:
            code = failure.code if 400 <= failure.code <= 599 else 500
            body: dict[str, Any] = {"code": failure.code, "message": failure.message, "source": "invocation"}
            if failure.metadata:
                body["metadata"] = dict(failure.metadata)
            request.respond(
                code, [_JSON, shown, ("x-restate-error-source", "invocation"), _CORS], msgspec.json.encode(body)
            )
            return
        headers = [shown, _CORS]
        value = result.value or b""
        rule = resolved.handler.output if resolved else None
        if value or (rule and rule.set_content_type_if_empty):
            headers.insert(0, ("content-type", (rule.content_type if rule else None) or "application/json"))
        request.respond(200, headers, value)

    def _route(self, request: Request, parts: list[str], query: str) -> None:
        match parts:
            case ["restate" | "holdfast", "health"]:
                body = msgspec.json.encode({"services": sorted(self._catalog().services)})
                request.respond(200, [_JSON, _CORS], body)
            case ["restate" | "holdfast", "call", *target]:
                self._call(request, target, query)
            case ["restate" | "holdfast", "send", *target]:
                self._send(request, target, query)
            case ["restate" | "holdfast", "awakeables" | "a", awakeable_id, "resolve" | "reject" as verb]:
                self._awakeable(request, awakeable_id, verb)
            case ["restate" | "holdfast", "attach" | "output" as verb, invocation_id]:
                self._find(request, verb, _parsed_id(invocation_id))
            case ["restate" | "holdfast", "invocation", invocation_id, "attach" | "output" as verb]:
                self._find(request, verb, _parsed_id(invocation_id))
            case ["restate" | "holdfast", "invocation", service, handler, idempotency_key, "attach" | "output" as verb]:
                self._find(request, verb, idempotent_id(service, None, handler, idempotency_key))
            case [
                "restate" | "holdfast",
                "invocation",
                service,
                key,
                handler,
                idempotency,
                "attach" | "output" as verb,
            ]:
                self._find(request, verb, idempotent_id(service, key, handler, idempotency))
            case ["restate" | "holdfast", "workflow", name, key, "attach" | "output" as verb]:
                self._find(request, verb, workflow_id(name, key))
            case ["restate" | "holdfast", "attach" | "output" | "lookup" as verb] if request.method == "POST":
                self._find_by_body(request, verb)
            case [_, _, _, "send"] | [_, _, "send"] if not self._is_handler(parts):
                self._send(request, parts[:-1], query)
            case [_, _] | [_, _, _]:
                self._call(request, parts, query)
            case _:
                raise IngressError(
                    404, "no such route: call /SERVICE/HANDLER or /SERVICE/KEY/HANDLER, with /send to not wait"
                )

    def _is_handler(self, parts: list[str]) -> bool:
        """/obj/key/send names a handler 'send' when the object has one."""
        registered = self._catalog().services.get(parts[0])
        return (
            len(parts) == 3
            and registered is not None
            and registered.service.type is not ServiceType.SERVICE
            and any(handler.name == "send" for handler in registered.service.handlers)
        )

    def _target(self, request: Request, parts: list[str]) -> tuple[ResolvedHandler, str | None]:
        if request.method not in ("GET", "POST", "HEAD"):
            raise IngressError(405, f"method {request.method} is not allowed; use POST or GET")
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise IngressError(400, "a call goes to /SERVICE/HANDLER or /SERVICE/KEY/HANDLER")
        resolved = self._ingress.resolve(parts[0], parts[-1])
        _check_input(request, resolved)
        return resolved, parts[1] if len(parts) == 3 else None

    def _call(self, request: Request, parts: list[str], query: str) -> None:
        resolved, key = self._target(request, parts)
        if "delay" in query and "delay" in parse_qs(query):
            raise IngressError(400, "'delay' is only for /send: a call waits for its result")
        answer = _Answer(self, request, resolved)
        idempotency_key = request.header("idempotency-key")
        headers = _forwarded(request)
        self._ingress.invoke(resolved, key, request.body, headers, idempotency_key, answer)
        self._deadlines[request] = self._loop.time() + self._timeout
        request.on_disconnect = lambda: self._gone(request)

    def _send(self, request: Request, parts: list[str], query: str) -> None:
        resolved, key = self._target(request, parts)
        values = parse_qs(query).get("delay")
        delay_ms = parse_delay(values[0]) if values else 0

        def accepted(invocation_id: bytes, before: bool, execute_at_ms: int) -> None:
            shown = encode_invocation_id(invocation_id)
            body: dict[str, Any] = {"invocationId": shown}
            if execute_at_ms:
                moment = datetime.datetime.fromtimestamp(execute_at_ms / 1000, datetime.UTC)
                body["executionTime"] = moment.isoformat().replace("+00:00", "Z")
            body["status"] = "PreviouslyAccepted" if before else "Accepted"
            request.respond(202, [_JSON, ("x-restate-id", shown), _CORS], msgspec.json.encode(body))

        self._ingress.send(
            resolved,
            key,
            request.body,
            _forwarded(request),
            request.header("idempotency-key"),
            delay_ms,
            accepted,
            lambda error: self.refuse(request, error.code, error.message),
        )

    def _find(self, request: Request, verb: str, invocation_id: bytes) -> None:
        if verb == "attach":
            self._ingress.attach(invocation_id, _Answer(self, request, None))
            if request.answered is None:
                self._deadlines[request] = self._loop.time() + self._timeout
            return
        result = self._ingress.output(invocation_id)
        if result is None:
            raise IngressError(470, "the result is not ready yet")
        self.answer_result(request, result, None)

    def _find_by_body(self, request: Request, verb: str) -> None:
        try:
            body = msgspec.json.decode(request.body, type=dict[str, str])
            match body.get("target"):
                case "invocation":
                    invocation_id = _parsed_id(body["invocationId"])
                case "workflow":
                    invocation_id = workflow_id(body["workflowName"], body["workflowKey"])
                case "idempotentInvocation":
                    invocation_id = idempotent_id(
                        body["service"], body.get("key"), body["handler"], body["idempotencyKey"]
                    )
                case other:
                    allowed = "'invocation', 'workflow' or 'idempotentInvocation'"
                    raise IngressError(400, f"target is {other!r}, allowed are {allowed}")
        except msgspec.DecodeError as error:
            raise IngressError(400, f"the body is not the JSON expected here: {error}") from error
        except KeyError as error:
            raise IngressError(400, f"the body lacks {error}") from error
        if verb == "lookup":
            found = msgspec.json.encode({"invocationId": encode_invocation_id(invocation_id)})
            request.respond(200, [_JSON, _CORS], found)
        else:
            self._find(request, verb, invocation_id)

    def _awakeable(self, request: Request, awakeable_id: str, verb: str) -> None:
        if request.method != "POST":
            raise IngressError(405, f"method {request.method} is not allowed; use POST")
        rejection = None if verb == "resolve" else request.body.decode("utf-8", "replace")
        self._ingress.complete_awakeable(
            awakeable_id,
            request.body,
            rejection,
            lambda: request.respond(202, [_CORS], b""),
            lambda error: self.refuse(request, error.code, error.message),
        )

    def _preflight(self, request: Request) -> None:
        headers = [_CORS, ("access-control-allow-methods", "GET, POST, OPTIONS"), ("access-control-allow-headers", "*")]
        request.respond(204, headers, b"")

    def _gone(self, request: Request) -> None:
        self._deadlines.pop(request, None)

    def _sweep(self) -> None:
        now = self._loop.time()
        for request, deadline in list(self._deadlines.items()):
            if deadline > now:
                break  # they are in the order of their deadlines
            del self._deadlines[request]
            self.refuse(request, 504, f"no result within {self._timeout:g} s; the invocation goes on")
        self._sweeper = self._loop.call_later(1.0, self._sweep)


def parse_delay(text: str) -> int:
    """Milliseconds of "PT1M30S" or "90s". Raises IngressError."""
    iso = _ISO.match(text)
    if iso and any(iso.groups()):
        days, hours, minutes, seconds = (float(group or 0) for group in iso.groups())
        return int(((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1_000)
    pieces = _HUMAN.findall(text)
    if pieces and _HUMAN.sub("", text).strip() == "":
        return int(sum(float(number) * _UNIT_MS[unit] for number, unit in pieces))
    raise IngressError(400, f"delay is {text!r}; write it as PT1M30S or 90s")


def _parsed_id(text: str) -> bytes:
    try:
        return decode_invocation_id(text)
    except MalformedIdentifier as error:
        raise IngressError(400, str(error)) from error


def _forwarded(request: Request) -> list[tuple[str, str]]:
    headers = [(name, value) for name, value in request.headers if name not in _NOT_FORWARDED]
    headers.append(("x-restate-ingress-path", request.url.decode("latin-1")))
    return headers


def _check_input(request: Request, resolved: ResolvedHandler) -> None:
    rule = resolved.handler.input
    sent = request.header("content-type")
    if rule.content_type is None:
        if request.body:
            raise IngressError(400, f"'{resolved.handler.name}' takes no body, {len(request.body)} bytes were sent")
        return
    if rule.required and not request.body:
        raise IngressError(400, f"'{resolved.handler.name}' needs a body of type {rule.content_type}")
    if (request.body or rule.required) and not _matches(rule.content_type, sent):
        raise IngressError(400, f"content-type is {sent!r}, '{resolved.handler.name}' takes {rule.content_type}")


def _matches(pattern: str, sent: str | None) -> bool:
    if pattern == "*/*":
        return True
    if sent is None:
        return False
    kind, _, detail = sent.partition(";")[0].strip().lower().partition("/")
    wanted_kind, _, wanted_detail = pattern.lower().partition("/")
    return wanted_kind in ("*", kind) and wanted_detail in ("*", detail)
