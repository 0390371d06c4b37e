"""Requests, limits and answers of the node's HTTP listeners.

Header names are lower case. Headers of an answer are passed as bytes that end each line with CRLF, so that those which
never change are encoded once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one listener takes. Each limit is named in the answer to a request that breaks it."""

    header_bytes_max: int = 32 * 1024  # URL, names and values of one request: kept in memory until it is answered
    header_count_max: int = 100
    body_bytes_max: int = 32 * MIB  # the service protocol's own limit for a message
    connections_max: int = 10_000  # file descriptors, and about 20 KiB of memory each
    pipelined_requests_max: int = 64  # per connection handed to the handler at once; more wait, and reading pauses
    head_seconds_max: float = 10.0  # from the first byte of a request to the end of its headers
    body_seconds_max: float = 30.0  # for a body, beyond what `body_bytes_per_second_min` allows for its size
    body_bytes_per_second_min: int = 16 * 1024  # slower senders hold a connection and its memory for nothing
    idle_seconds_max: float = 120.0  # between two requests of a connection
    write_seconds_max: float = 60.0  # while the client does not read its answer
    half_closed_seconds_max: float = 5.0  # for answers after the client closed its side; then nobody waits
    linger_seconds: float = 2.0  # a refused sender is read and ignored so long, so that it sees why


@dataclass(slots=True)
class Request:
    """``headers`` joins a repeated name with a comma, as RFC 9110 allows."""

    method: bytes
    target: bytes  # path and query as they came
    headers: dict[bytes, bytes]
    body: bytes


JSON_TYPE = b"content-type: application/json\r\n"
ERROR_FROM_INGRESS = b"x-restate-error-source: ingress\r\n"
CORS = b"access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n"

STATUS_NOT_READY = 470
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {STATUS_NOT_READY: "Not Ready"}


def status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}\r\n".encode()


def error_body(code: int, message: str, source: str = "ingress", metadata: dict[str, str] | None = None) -> bytes:
    body: dict[str, object] = {"code": code, "message": message}
    if metadata:
        body["metadata"] = metadata
    return json.dumps(body | {"source": source}, ensure_ascii=False).encode("utf-8", "replace")


ERROR_HEADERS = JSON_TYPE + ERROR_FROM_INGRESS + CORS
