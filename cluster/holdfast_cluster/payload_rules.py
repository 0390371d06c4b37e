"""What a handler says about its input and output: held against a request, and made into the headers of an answer."""

from __future__ import annotations

from typing import NamedTuple

from holdfast_cluster.ingress_error import bad_request
from holdfast_partition_processor.command import PayloadRule


def check_input(rule: PayloadRule, where: str, content_type: str | None, body: bytes) -> None:
    """Raises IngressError 400. ``where`` names the handler; ``content_type`` None: the request has none.

    No content type in the rule: the handler takes no body. ``required``: there must be a content type, and for JSON a
    body. Otherwise an empty body is fine whatever it is called, and a body whose type is not named is taken as right.
    """
    wanted = rule.content_type
    if body and content_type == wanted and wanted is not None:
        return
    if wanted is None:
        if body:
            raise bad_request(f"{where} takes no body, but {len(body)} bytes were sent")
        return
    if rule.required:
        if content_type is None:
            raise bad_request(f"{where} needs a body with content-type {wanted}; the request has no content-type")
        if not body and _is_json(content_type):
            raise bad_request(f"{where} needs a JSON body, but it is empty")
    if content_type is not None and (body or rule.required) and not _matches(content_type, wanted):
        raise bad_request(f"{where} takes content-type {wanted}, not {content_type[:80]!r}")


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _matches(content_type: str, wanted: str) -> bool:
    given, pattern = _essence(content_type), _essence(wanted)
    if pattern in (given, "*/*"):
        return True
    return pattern.endswith("/*") and given.startswith(pattern[:-1])


def _is_json(content_type: str) -> bool:
    essence = _essence(content_type)
    return essence == "application/json" or essence.endswith("+json")


class AnswerType(NamedTuple):
    """The content-type header of an answer, encoded; empty: none."""

    with_body: bytes = b""
    without_body: bytes = b""


def answer_type(rule: PayloadRule) -> AnswerType:
    if rule.content_type is None or not rule.content_type.isprintable() or not rule.content_type.isascii():
        return AnswerType()
    header = f"content-type: {rule.content_type}\r\n".encode()
    return AnswerType(header, header if rule.set_content_type_if_empty else b"")
