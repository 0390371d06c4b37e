"""The small parts of the ingress: input rules, headers, ids."""

from __future__ import annotations

import pytest

from holdfast_cluster.fresh_ids import POOL_BYTES, FreshIds
from holdfast_cluster.ingress_error import IngressError
from holdfast_cluster.input_headers import REMEMBERED_MAX, InputHeaders, of_grpc
from holdfast_cluster.payload_rules import AnswerType, answer_type, check_input
from holdfast_partition_processor.command import PayloadRule
from holdfast_proto import protocol_pb2 as pb

NOTHING = PayloadRule()
JSON = PayloadRule(required=True, content_type="application/json")
OPTIONAL_JSON = PayloadRule(content_type="application/json")
ANYTHING = PayloadRule(content_type="*/*")
TEXT = PayloadRule(content_type="text/*")
BYTES = PayloadRule(required=True, content_type="application/octet-stream")

TAKEN = [
    (NOTHING, None, b""),
    (NOTHING, "application/json", b""),
    (JSON, "application/json", b"1"),
    (JSON, "Application/JSON; charset=utf-8", b"1"),
    (OPTIONAL_JSON, None, b""),
    (OPTIONAL_JSON, "text/plain", b""),
    (OPTIONAL_JSON, None, b"1"),
    (ANYTHING, "image/png", b"1"),
    (TEXT, "text/csv", b"1"),
    (BYTES, "application/octet-stream", b""),
]
REFUSED = [
    (NOTHING, "application/json", b"1", "takes no body"),
    (JSON, None, b"1", "no content-type"),
    (JSON, "application/json", b"", "empty"),
    (JSON, "text/plain", b"1", "takes content-type application/json"),
    (JSON, "", b"1", "takes content-type application/json"),
    (OPTIONAL_JSON, "text/plain", b"1", "takes content-type application/json"),
    (TEXT, "application/json", b"1", "takes content-type text/*"),
    (BYTES, "text/plain", b"", "takes content-type application/octet-stream"),
]


@pytest.mark.parametrize(("rule", "content_type", "body"), TAKEN)
def test_input_that_a_handler_takes(rule: PayloadRule, content_type: str | None, body: bytes) -> None:
    check_input(rule, "greeter/greet", content_type, body)


@pytest.mark.parametrize(("rule", "content_type", "body", "words"), REFUSED)
def test_input_that_a_handler_refuses(rule: PayloadRule, content_type: str | None, body: bytes, words: str) -> None:
    with pytest.raises(IngressError) as caught:
        check_input(rule, "greeter/greet", content_type, body)
    assert caught.value.code == 400
    assert words in caught.value.message
    assert "greeter/greet" in caught.value.message


def test_the_answers_type_is_what_the_handler_says() -> None:
    header = b"content-type: application/json\r\n"
    assert answer_type(JSON) == AnswerType(header, b"")
    assert answer_type(PayloadRule(content_type="text/plain", set_content_type_if_empty=True)).without_body
    assert answer_type(NOTHING) == AnswerType()


def test_a_content_type_can_not_smuggle_headers_into_answers() -> None:
    assert answer_type(PayloadRule(content_type="text/plain\r\nset-cookie: a=b")) == AnswerType()


def headers_of(encoded: bytes) -> dict[str, str]:
    return {header.key: header.value for header in pb.InputCommandMessage.FromString(encoded).headers}


def test_headers_reach_the_handler_but_for_those_of_the_connection() -> None:
    headers = {
        b"host": b"h",
        b"connection": b"keep-alive",
        b"idempotency-key": b"k",
        b"content-type": b"text/plain",
        b"traceparent": b"00-1",
        b"x-name": b"Ad\xe8le",
        b"x-utf8": "Adèle".encode(),
    }
    for _ in range(2):  # the second time they are remembered
        assert headers_of(InputHeaders().of_http(headers, b"/greeter/greet?x=1")) == {
            "content-type": "text/plain",
            "traceparent": "00-1",
            "x-name": "Adèle",
            "x-utf8": "Adèle",
            "x-restate-ingress-path": "/greeter/greet?x=1",
        }


def test_headers_that_differ_each_time_are_not_remembered_without_end() -> None:
    headers = InputHeaders()
    for number in range(REMEMBERED_MAX + 10):
        headers.of_http({b"traceparent": b"%d" % number}, b"/a/b")
    assert len(headers._encoded) <= REMEMBERED_MAX
    headers.of_http({b"x": b"y" * 10_000}, b"/a/b")
    assert all(len(encoded) < 1_000 for encoded in headers._encoded.values())


def test_joined_parts_read_as_one_message() -> None:
    encoded = (
        of_grpc([("a", "1"), ("b", "2")]) + pb.InputCommandMessage(value=pb.Value(content=b"x")).SerializeToString()
    )
    message = pb.InputCommandMessage.FromString(encoded)
    assert [header.key for header in message.headers] == ["a", "b"]
    assert message.value.content == b"x"


def test_ids_are_unique_and_in_order_of_time_also_when_the_clock_goes_back() -> None:
    clock = iter([*([1_000] * 1_000), *([500] * 1_000), *([2_000] * 1_000)])
    ids = FreshIds(lambda: next(clock))
    made = [ids() for _ in range(3_000)]
    assert len(set(made)) == len(made)
    assert {len(each) for each in made} == {24}
    times = [each[8:16] for each in made]
    assert times == sorted(times)
    assert len(set(times)) == len(times)


def test_random_bytes_are_used_once() -> None:
    pools = iter([bytes(range(256)) * (POOL_BYTES // 256), b"\xff" * POOL_BYTES])
    ids = FreshIds(lambda: 0, lambda size: next(pools))
    made = [ids() for _ in range(POOL_BYTES // 16 + 1)]
    assert made[0][:8] + made[0][16:] == bytes(range(16))
    assert made[1][:8] == bytes(range(16, 24))
    assert made[-1][:8] == b"\xff" * 8
