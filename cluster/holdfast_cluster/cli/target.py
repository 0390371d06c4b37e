"""TARGET and BODY arguments of `call` and `send`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast_cluster.cli.failure import USAGE, CommandFailed

if TYPE_CHECKING:
    from holdfast_proto import ingress_pb2


def request_of(
    target: str, body: str | None, headers: Sequence[str], idempotency_key: str | None, raw: bool
) -> ingress_pb2.InvokeRequest:
    """Raises CommandFailed."""
    from holdfast_proto import ingress_pb2

    service, key, handler = split_target(target)
    content = body_bytes(body, raw)
    sent = dict(_header(text) for text in headers)
    if content and not raw:
        sent.setdefault("content-type", "application/json")
    return ingress_pb2.InvokeRequest(
        target=ingress_pb2.Target(service=service, handler=handler, key=key),
        body=content,
        headers=sent,
        idempotency_key=idempotency_key,
    )


def split_target(target: str) -> tuple[str, str | None, str]:
    """Service, key and handler. A key may hold slashes: the first part is the service, the last the handler."""
    parts = target.strip("/").split("/")
    if len(parts) < 2 or not all((parts[0], parts[-1])):
        raise CommandFailed(f"target {target!r} is neither SERVICE/HANDLER nor SERVICE/KEY/HANDLER", USAGE)
    key = "/".join(parts[1:-1]) if len(parts) > 2 else None
    return parts[0], key, parts[-1]


def body_bytes(body: str | None, raw: bool) -> bytes:
    """The bytes of BODY: "-" reads stdin, "@path" a file. Unless ``raw``, they must be JSON. Raises CommandFailed."""
    content = _read(body)
    if content and not raw:
        try:
            json.loads(content)
        except ValueError as error:
            shown = content[:60].decode(errors="replace")
            raise CommandFailed(
                f"BODY is not JSON ({error}): {shown}; a text needs quotes of its own, like '\"Ada\"'; "
                "--raw sends BODY as it is",
                USAGE,
            ) from None
    return content


def _read(body: str | None) -> bytes:
    if body is None:
        return b""
    if body == "-":
        return sys.stdin.buffer.read()
    if body.startswith("@"):
        try:
            return Path(body[1:]).read_bytes()
        except OSError as error:
            raise CommandFailed(f"can't read BODY from {body[1:]}: {error.strerror}", USAGE) from None
    return body.encode()


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise CommandFailed(f"header {text!r} is not of the form NAME=VALUE", USAGE)
    return name.strip().lower(), value
