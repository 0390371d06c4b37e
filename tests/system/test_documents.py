"""The documents' commands and client programs, run against a real node that serves the documents' handlers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo import processes
from tests.repository.documents import DOCUMENTS, Block, blocks, handlers
from tests.system.site import Site

pytestmark = pytest.mark.slow

SERVE = """
if __name__ == "__main__":
    from holdfast import Service, VirtualObject, Workflow, serve
    serve([thing for thing in list(globals().values()) if isinstance(thing, Service | VirtualObject | Workflow)])
"""
BLOCK_SECONDS_MAX = 60


def runnable(document: Path) -> list[Block]:
    return [b for b in blocks(document) if b.mark == "client" or (b.language == "sh" and b.mark == "")]


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if runnable(d)], ids=lambda document: document.name)
def test_commands_and_programs_of_a_document(document: Path, site: Site, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    background = start(document, site, work)
    printed = ""
    try:
        for block in blocks(document):
            if block in runnable(document):
                printed = run(block, site, work, handlers(document))
            elif block.mark == "output":
                assert "".join(printed.split()) == "".join(block.text.split()), block.place
    finally:
        for process in background:
            process.stop()


def start(document: Path, site: Site, work: Path) -> list[processes.Process]:
    """The node with the document's handlers: as the document itself starts them, or else by hand."""
    for block in blocks(document):
        if block.mark == "file":
            (work / block.argument).write_text(block.text)
    started = []
    for block in blocks(document):
        if block.mark == "background":
            command = [*block.text.split(), "--port-base", str(site.port)]
            command[0] = str(Path(sys.executable).with_name(command[0]))
            process = processes.Process("background", command, work / "background.log", cwd=work)
            process.start()
            started.append(process)
            processes.wait_until_healthy(process, site.port, services=1)
    if not started:
        site.start_node()
        if handlers(document):
            (work / "handlers.py").write_text(handlers(document) + SERVE)
            site.start_endpoint(str(work / "handlers.py"))
    return started


def run(block: Block, site: Site, work: Path, handlers_text: str) -> str:
    """What the block prints. Well-known ports become the site's."""
    text = block.text
    for offset, port in enumerate((8080, 8081, 9070)):
        text = text.replace(f":{port}", f":{site.port + offset}")
    if block.language == "python":
        (work / "client.py").write_text(handlers_text + text)
        command = [sys.executable, "client.py"]
    else:
        command = ["bash", "-euo", "pipefail", "-c", text]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOLDFAST_ADDRESS": f"127.0.0.1:{site.port + 1}",
    }
    ended = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, timeout=BLOCK_SECONDS_MAX, check=False
    )
    assert ended.returncode == 0, f"{block.place} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout
