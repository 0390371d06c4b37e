"""The user's app as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from holdfast_cluster.cli.failure import USAGE, CommandFailed

STOP_SECONDS_MAX = 2.0
"""What a handler has not finished by then is done again after the restart."""
LISTEN_SECONDS_MAX = 30.0
"""Imports of large libraries take their time."""
POLL_SECONDS = 0.05


FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
"""gRPC prepares for forks that use it afterwards, and says so on stderr each time. Ours only begin other programs."""


@dataclass(frozen=True)
class AppTarget:
    """APP of `holdfast dev`: a file that serves when it is run, or an attribute that holds services."""

    text: str
    command: tuple[str, ...]
    root: Path
    """Python files below it belong to the app."""

    @staticmethod
    def of(text: str) -> AppTarget:
        """Raises CommandFailed."""
        path, colon, attribute = text.rpartition(":")
        if not colon:
            return AppTarget(text, (sys.executable, text), _existing(text).parent)
        if not path or not attribute:
            raise _malformed(text)
        root = _existing(path).parent if path.endswith(".py") else Path.cwd()
        return AppTarget(text, (sys.executable, "-m", "holdfast", "serve", text), root)


def _existing(text: str) -> Path:
    path = Path(text)
    if path.is_file():
        return path.resolve()
    if path.suffix != ".py" and not path.exists():
        raise _malformed(text)
    raise CommandFailed(f"there is no file {text}", USAGE)


def _malformed(text: str) -> CommandFailed:
    return CommandFailed(f"{text!r} is neither a file like app.py nor an attribute like shop.app:services", USAGE)


class AppProcess:
    """One run of the app, listening on the unix socket ``path``."""

    def __init__(self, process: asyncio.subprocess.Process, path: Path) -> None:
        self._process = process
        self._path = path

    @staticmethod
    async def start(target: AppTarget, path: Path) -> AppProcess:
        environment = {**os.environ, "HOLDFAST_BIND": f"unix:{path}", "PYTHONUNBUFFERED": "1"}
        environment.pop(FORK_SUPPORT, None)
        # A session of its own: Ctrl-C is for us, and we stop the app in our own order.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "holdfast_cluster.cli.dev_child", str(os.getpid()), *target.command,
            env=environment, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        return AppProcess(process, path)

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> int:
        """The exit code; negative: the signal that ended it."""
        return await self._process.wait()

    async def listening(self) -> bool:
        """Wait until it takes connections. False: it ended before, or does not listen at all."""
        deadline = asyncio.get_running_loop().time() + LISTEN_SECONDS_MAX
        while not self.ended and asyncio.get_running_loop().time() < deadline:
            if _takes_connections(self._path):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def stop(self) -> None:
        if self.ended:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


def _takes_connections(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
