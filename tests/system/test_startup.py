"""What a node refuses to start on, with a message that tells an operator what to do."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from examples.demo.processes import node_process
from tests.system.site import Site

pytestmark = pytest.mark.slow

EXIT_SECONDS_MAX = 30


def refused(command: list[str]) -> str:
    """What the node says before it ends with a code other than 0."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=EXIT_SECONDS_MAX, check=False)
    assert ended.returncode not in (0, -11, -6), f"code {ended.returncode}: {ended.stdout}{ended.stderr}"
    output = ended.stdout + ended.stderr
    assert "Traceback" not in output, output
    return output


def test_two_nodes_on_one_data_directory(running: Site) -> None:
    second = node_process(running.directory, running.port + 4)
    output = refused(list(second.command))
    assert str(running.directory / "data") in output
    assert "another process" in output
    assert running.client(seconds=5).request("GET", "/restate/health").status == 200


def test_a_port_that_is_taken(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.port))
        taken.listen()
        assert str(site.port) in refused(list(site.node.command))


@pytest.mark.parametrize(("field", "value", "word"), [("format", 99, "99"), ("node", "somebody-else", "somebody-else")])
def test_data_of_a_newer_release_or_of_another_node(site: Site, field: str, value: object, word: str) -> None:
    site.start_node()
    site.node.stop()
    [identity] = (site.directory / "data").rglob("identity.json")
    identity.write_text(json.dumps({**json.loads(identity.read_text()), field: value}))
    assert word in refused(list(site.node.command))


def test_a_flipped_bit_in_the_journal_is_refused_with_file_and_offset(running: Site, tmp_path: Path) -> None:
    running.start_endpoint("tests.system.endpoint", EFFECTS=str(tmp_path / "effects"))
    client = running.client()
    for number in range(200):
        assert client.request("POST", f"/counter/k{number % 7}/add", 1).status == 200
    running.node.kill()

    segment, offset = first_entry(running.directory / "data", b"counter")
    data = bytearray(segment.read_bytes())
    data[offset] ^= 0x10
    segment.write_bytes(data)
    before = segment.read_bytes()

    output = refused(list(running.node.command))
    assert segment.name in output
    assert "offset" in output
    assert segment.read_bytes() == before, "what is damaged must not be changed"


def first_entry(directory: Path, text: bytes) -> tuple[Path, int]:
    """The journal segment that holds ``text``, and where: in the middle, with later flushes behind it."""
    for segment in sorted(directory.rglob("*.segment")):
        offset = segment.read_bytes().find(text)
        if offset >= 0:
            return segment, offset
    raise AssertionError(f"{text!r} is in no segment below {directory}")
