"""Runs a node until it is told to stop or can't go on."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

from holdfast_cluster.config import Config
from holdfast_cluster.node import Node

logger = logging.getLogger("holdfast.node")
SWITCH_SECONDS = 0.0002
"""How long a thread keeps the interpreter: short, because a worker that comes back from fdatasync must not wait."""


async def run_server(config: Config, ready: Callable[[Node], None]) -> int:
    """Exit code: 0 after SIGINT or SIGTERM, 1 after a fatal error. Raises what Node.start raises."""
    sys.setswitchinterval(SWITCH_SECONDS)
    stopped = asyncio.Event()
    fatal: list[BaseException] = []

    def on_fatal(error: BaseException) -> None:
        logger.critical("the node can't go on: %s", error, exc_info=error)
        fatal.append(error)
        stopped.set()

    node = await Node.start(config, on_fatal)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    ready(node)
    await stopped.wait()
    if fatal:
        return 1  # nothing may be written any more, not even a checkpoint
    await node.stop()
    return 0
