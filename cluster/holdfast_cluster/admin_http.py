"""The admin's HTTP listener, for probes and for Prometheus: GET /health, /metrics, /version."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

from holdfast_cluster.http_connection import Responder
from holdfast_cluster.http_message import JSON_TYPE, HttpLimits, Request
from holdfast_cluster.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from holdfast_cluster.node import Node

LIMITS = HttpLimits(body_bytes_max=64 * 1024, connections_max=256)
METRICS_TYPE = f"content-type: {CONTENT_TYPE}\r\n".encode()


class AdminHttp:
    """The handler of the listener."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._metrics = Metrics(node)

    def __call__(self, request: Request, responder: Responder) -> None:
        path = request.target.partition(b"?")[0].removesuffix(b"/")
        answer = {b"/health": self._health, b"/metrics": self._metrics_page, b"/version": self._version}.get(path)
        if answer is None:
            responder.refuse(404, "this listener has /health, /metrics and /version")
        elif request.method not in (b"GET", b"HEAD"):
            responder.refuse(405, f"method {request.method.decode('latin-1')} is not allowed here, use GET")
        else:
            answer(responder)

    def _health(self, responder: Responder) -> None:
        node = self._node
        partitions = {
            str(number): "leading" if processor.is_leading else str(processor.failure or "starting")
            for number, processor in node.processors.items()
        }
        ready = node.router.ready
        body = {"status": "ok" if ready else "not ready", "node": node.name, "partitions": partitions}
        responder.respond(200 if ready else 503, JSON_TYPE, json.dumps(body).encode())

    def _metrics_page(self, responder: Responder) -> None:
        responder.respond(200, METRICS_TYPE, self._metrics.page())

    def _version(self, responder: Responder) -> None:
        body = {"version": version("holdfast"), "node": self._node.name, "cluster": self._node.cluster}
        responder.respond(200, JSON_TYPE, json.dumps(body).encode())
