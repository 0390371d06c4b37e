"""A client that does not give up: each request carries what makes it safe to send again."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass

ATTEMPT_SECONDS = 10.0
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> object:
        return json.loads(self.body) if self.body else None


class Client:
    """Sends one request after the other; a thread each has its own connection. ``retries`` counts over all threads."""

    def __init__(self, port: int, deadline: float) -> None:
        self._port = port
        self._deadline = deadline
        self._local = threading.local()
        self._lock = threading.Lock()
        self.retries = 0

    def give_up(self) -> None:
        """Requests under way raise TimeoutError instead of being sent again."""
        self._deadline = 0.0

    def request(self, method: str, path: str, body: object = None, *, idempotency_key: str = "") -> Answer:
        """The first answer that is not a refusal to be retried (429, 5xx of the ingress). A lost connection tells
        nothing about whether the request was accepted, so the request must be one that is safe to repeat."""
        headers = {"content-type": "application/json"} if body is not None else {}
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        payload = None if body is None else json.dumps(body).encode()
        while True:
            answer = self._attempt(method, path, payload, headers)
            if answer is not None:
                return answer
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"{method} {path} got no answer in time")
            with self._lock:
                self.retries += 1
            time.sleep(PAUSE_SECONDS)

    def _attempt(self, method: str, path: str, payload: bytes | None, headers: dict[str, str]) -> Answer | None:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ATTEMPT_SECONDS)
            self._local.connection = connection
        try:
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        from_ingress = response.getheader("x-restate-error-source") != "invocation"
        refused = from_ingress and (answer.status == 429 or answer.status >= 500)
        return None if refused else answer
