"""Endpoints that crash, hang, lie or are not there: the invocation is retried or fails clearly, others go on."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import grpc
import pytest

from holdfast_proto import admin_pb2
from tests.system.site import Site, eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def hostile(running: Site, tmp_path: Path) -> Site:
    (tmp_path / "attempts").mkdir()
    running.start_endpoint("tests.system.hostile", ATTEMPTS=str(tmp_path / "attempts"))
    return running


def send(site: Site, handler: str, name: str) -> str:
    answer = site.client().request("POST", f"/hostile/{handler}/send", name)
    assert answer.status == 202, answer
    body = answer.json()
    assert isinstance(body, dict)
    return str(body["invocationId"])


def assert_others_are_fine(site: Site) -> None:
    answer = site.client(seconds=10).request("POST", "/hostile/fine", "Ada")
    assert (answer.status, answer.json()) == (200, "fine, Ada")


def test_a_crash_in_the_middle_of_a_handler_is_retried_where_it_was(hostile: Site, tmp_path: Path) -> None:
    invocation = send(hostile, "crash", "c")
    endpoint = hostile.endpoints[0]
    eventually(lambda: not endpoint.is_alive(), "the endpoint crashes")
    endpoint.kill()
    endpoint.start()
    answer = hostile.client().request("GET", f"/restate/invocation/{invocation}/attach")
    assert answer.status == 200, answer
    assert (tmp_path / "attempts" / "c").stat().st_size == 2, "the handler ran twice"


def test_a_hanging_handler_holds_up_nobody_and_can_be_killed(hostile: Site, tmp_path: Path) -> None:
    invocation = send(hostile, "hang", "h")
    eventually((tmp_path / "attempts" / "h").exists, "the handler hangs")
    assert_others_are_fine(hostile)
    answers = []
    path = f"/restate/invocation/{invocation}/attach"
    caller = threading.Thread(target=lambda: answers.append(hostile.client().request("GET", path)))
    caller.start()
    with hostile.admin() as admin:
        admin.KillInvocation(admin_pb2.InvocationRequest(id=invocation), timeout=10)
    caller.join(timeout=20)
    assert [answer.status for answer in answers] == [409]
    assert b"killed" in answers[0].body


def test_an_exception_is_retried_until_it_works(hostile: Site) -> None:
    answer = hostile.client().request("POST", "/hostile/raises_twice", "r")
    assert (answer.status, answer.json()) == (200, 3)


def test_a_terminal_error_reaches_the_caller_as_it_is(hostile: Site) -> None:
    answer = hostile.client().request("POST", "/hostile/gives_up", "Ada")
    assert answer.status == 418
    assert b"no way, Ada" in answer.body


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/hostile/unserialisable", ["object"]),
        ("/hostile/not_durable", ["hostile.py", "ctx.run"]),
        ("/hostile/changes_its_mind", ["fine_step", "sleep"]),
        ("/box/k/writes", ["set", "shared"]),
    ],
)
def test_what_a_handler_does_wrong_is_named(hostile: Site, path: str, words: list[str]) -> None:
    """Either the caller is told at once, or the invocation's last failure says it while it is retried."""
    sent = hostile.client().request("POST", f"{path}/send", "w")
    assert sent.status == 202, sent
    body = sent.json()
    assert isinstance(body, dict)

    def failure() -> str:
        found = hostile.invocation(str(body["invocationId"]))
        return found.last_failure or found.failure.message

    def missing() -> list[str]:
        return [word for word in words if word.lower() not in failure().lower()]

    try:
        eventually(lambda: not missing(), f"{path} fails with {words}")
    except AssertionError:
        pytest.fail(f"{path}: {missing()} not in {failure()!r}")
    assert_others_are_fine(hostile)


def test_registering_an_address_where_nobody_listens_says_so(running: Site) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with running.admin() as admin, pytest.raises(grpc.RpcError) as caught:
        admin.RegisterDeployment(admin_pb2.RegisterDeploymentRequest(address=address), timeout=30)
    assert address in str(caught.value.details())


def test_registering_something_that_is_no_endpoint_says_so(running: Site) -> None:
    """The node's own HTTP port speaks, but not the protocol."""
    request = admin_pb2.RegisterDeploymentRequest(address=f"127.0.0.1:{running.port}")
    with running.admin() as admin, pytest.raises(grpc.RpcError) as caught:
        admin.RegisterDeployment(request, timeout=30)
    assert str(running.port) in str(caught.value.details())
