"""A full disk: new work is refused clearly, nothing acknowledged is lost, and it goes on when there is room again."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.site import Site, create, eventually

pytestmark = pytest.mark.slow

DISK_MIB = 320  # room for two journal segments of 64 MiB and some tables, filled up by a ballast file
REQUESTS_MAX = 4_000
PAYLOAD = "x" * 60_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"a tmpfs can't be mounted here: {made.stderr.decode()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_full_disk_refuses_work_keeps_what_it_has_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    site = create(small_disk)
    site.node.log = tmp_path / "node.log"
    try:
        site.start_node()
        site.start_endpoint("tests.system.endpoint", EFFECTS=str(tmp_path / "effects"))
        accepted, refusal = fill(site)
        status, message = refusal
        assert status in (429, 503, 507), refusal
        assert "disk" in message.lower() or "full" in message.lower(), refusal

        health = site.client(seconds=10).request("GET", "/restate/health")
        assert health.status == 200, "a node with a full disk goes on serving what needs no room"

        (small_disk / "ballast").unlink()
        eventually(lambda: post(site, "other", "again")[0] == 200, "work is taken again once there is room", seconds=30)

        site.node.kill()
        site.start_node()
        held = site.client().request("GET", "/mailbox/last/text").json()
        assert held == f"{accepted - 1} {PAYLOAD}", "the last acknowledged write is there"
    finally:
        site.close()
        print(site.logs())


def fill(site: Site) -> tuple[int, tuple[int, str]]:
    """Take the room away, then write until the node refuses. Returns how many writes were acknowledged, and the
    status and message of the refusal."""
    free = os.statvfs(site.directory).f_bavail * os.statvfs(site.directory).f_frsize
    with (site.directory / "ballast").open("wb") as ballast:
        ballast.write(b"\0" * max(0, free - 8 * 1024 * 1024))
    for number in range(REQUESTS_MAX):
        status, message = post(site, "last", f"{number} {PAYLOAD}")
        if status != 200:
            return number, (status, message)
    raise AssertionError(f"{REQUESTS_MAX} writes of {len(PAYLOAD)} bytes went to a disk that has no room for them")


def post(site: Site, key: str, text: str) -> tuple[int, str]:
    """One attempt, not retried, so that the refusal is seen."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    try:
        connection.request("POST", f"/mailbox/{key}/put", json.dumps(text), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
