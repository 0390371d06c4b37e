"""Every route of the ingress, and everything that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_cluster.ingress_routes import (
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Call,
    CompleteAwakeable,
    Find,
    Health,
    Look,
    Route,
    RouteError,
    parse_route,
)


def is_keyed(service: str) -> bool:
    return service in ("counter", "publish")


ROUTES: list[tuple[str, str, Route]] = [
    ("POST", "/greeter/greet", Call("greeter", None, "greet")),
    ("GET", "/greeter/greet", Call("greeter", None, "greet")),
    ("POST", "/greeter/greet/", Call("greeter", None, "greet")),
    ("POST", "/greeter/greet/send", Call("greeter", None, "greet", send=True)),
    ("POST", "/greeter/greet/send?delay=PT1S", Call("greeter", None, "greet", True, 1_000)),
    ("POST", "/greeter/greet/send?x=1&delay=1h%2030m", Call("greeter", None, "greet", True, 5_400_000)),
    ("POST", "/greeter/greet?x=1", Call("greeter", None, "greet")),
    ("POST", "/counter/ada/add", Call("counter", "ada", "add")),
    ("POST", "/counter/ada/add/send", Call("counter", "ada", "add", send=True)),
    ("POST", "/counter/ada/send", Call("counter", "ada", "send")),
    ("POST", "/counter/a%2Fb%20%C3%A9/add", Call("counter", "a/b é", "add")),
    ("POST", "/counter/\xc3\xa9/add", Call("counter", "é", "add")),
    ("POST", "/counter//add", Call("counter", "", "add")),
    ("POST", "/greeter/greet/oops", Call("greeter", "greet", "oops")),  # the catalog says that it has no keys
    ("POST", "/restate/call/greeter/greet", Call("greeter", None, "greet")),
    ("POST", "/restate/call/counter/ada/add", Call("counter", "ada", "add")),
    ("POST", "/restate/send/greeter/greet?delay=5s", Call("greeter", None, "greet", True, 5_000)),
    ("POST", "/holdfast/send/counter/ada/add", Call("counter", "ada", "add", True)),
    ("GET", "/restate/invocation/inv_1/attach", Find(Look.ATTACH, ById("inv_1"))),
    ("GET", "/restate/invocation/inv_1/output", Find(Look.OUTPUT, ById("inv_1"))),
    ("GET", "/restate/attach/inv_1", Find(Look.ATTACH, ById("inv_1"))),
    ("HEAD", "/holdfast/output/inv_1", Find(Look.OUTPUT, ById("inv_1"))),
    ("GET", "/restate/invocation/s/h/k/attach", Find(Look.ATTACH, ByIdempotencyKey("s", None, "h", "k"))),
    ("GET", "/restate/invocation/s/o/h/k/output", Find(Look.OUTPUT, ByIdempotencyKey("s", "o", "h", "k"))),
    ("GET", "/restate/workflow/publish/ep1/attach", Find(Look.ATTACH, ByWorkflow("publish", "ep1"))),
    ("GET", "/restate/workflow/publish/ep1/output", Find(Look.OUTPUT, ByWorkflow("publish", "ep1"))),
    ("POST", "/restate/attach", Find(Look.ATTACH, None)),
    ("POST", "/restate/output", Find(Look.OUTPUT, None)),
    ("POST", "/restate/lookup", Find(Look.LOOKUP, None)),
    ("POST", "/restate/awakeables/sign_1x/resolve", CompleteAwakeable("sign_1x", True)),
    ("POST", "/restate/a/sign_1x/reject", CompleteAwakeable("sign_1x", False)),
    ("GET", "/restate/health", Health()),
]

NO_ROUTES = [
    ("GET", "/", 404, "/service/handler"),
    ("GET", "/greeter", 404, "/service/handler"),
    ("POST", "/a/b/c/d", 404, "no route"),
    ("POST", "/a/b/c/send/e", 404, "no route"),
    ("GET", "/openapi", 404, "no route"),
    ("GET", "/restate", 404, "no route"),
    ("GET", "/restate/nothing", 404, "no route"),
    ("GET", "/restate/invocation/inv_1", 404, "no route"),
    ("GET", "/restate/workflow/publish/attach", 404, "no route"),
    ("PUT", "/greeter/greet", 405, "PUT"),
    ("DELETE", "/counter/ada/add/send", 405, "DELETE"),
    ("HEAD", "/greeter/greet", 405, "HEAD"),
    ("POST", "/restate/health", 405, "GET"),
    ("POST", "/restate/attach/inv_1", 405, "GET"),
    ("GET", "/restate/lookup", 405, "POST"),
    ("GET", "/restate/awakeables/sign_1x/resolve", 405, "POST"),
    ("POST", "/greeter/greet?delay=5s", 400, "/send"),
    ("POST", "/greeter/greet/send?delay=soon", 400, "'soon' is not a duration"),
    ("POST", "/greeter/greet/send?delay=", 400, "not a duration"),
    ("POST", "/greeter/greet/send?delay=-1s", 400, "not a duration"),
    ("POST", "/counter/%ff/add", 400, "UTF-8"),
    ("POST", "/restate/scope/s/call/greeter/greet", 400, "scopes"),
]


@pytest.mark.parametrize(("method", "target", "route"), ROUTES)
def test_routes(method: str, target: str, route: Route) -> None:
    assert parse_route(method.encode(), target.encode("latin-1"), is_keyed) == route


@pytest.mark.parametrize(("method", "target", "status", "words"), NO_ROUTES)
def test_what_is_no_route_says_why(method: str, target: str, status: int, words: str) -> None:
    with pytest.raises(RouteError) as caught:
        parse_route(method.encode(), target.encode("latin-1"), is_keyed)
    assert (caught.value.status, words in caught.value.message) == (status, True), caught.value.message
    assert (status == 405) == bool(caught.value.allowed)


@given(st.sampled_from([b"GET", b"POST", b"PUT"]), st.binary(max_size=60))
def test_any_target_is_a_route_or_refused(method: bytes, rest: bytes) -> None:
    for start in (b"/", b"/restate/", b""):
        try:
            parse_route(method, start + rest, is_keyed)
        except RouteError as error:
            assert error.status in (400, 404, 405)
