"""Runs a node as a process: signals, log lines, exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys

from holdfast_cluster.config import Config
from holdfast_cluster.node import Node
from holdfast_cluster.node_logging import set_up_logging
from holdfast_log.types import LogError
from holdfast_partition_processor.store_errors import StoreError

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
"""The node was running and could not go on."""
EXIT_REFUSED = 2
"""The node did not start: the directory, the ports or the configuration don't allow it."""

SWITCH_SECONDS = 0.0002
"""How long a worker thread may hold the interpreter while the event loop wants it; Python's own 5 ms cost a quarter of
the throughput."""


async def run_server(config: Config) -> int:
    """Run until SIGTERM, SIGINT or a fatal error; returns the exit code. After EXIT_FAILED the process must end at once
    (see `main`): threads may hang in the disk."""
    tune_interpreter()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        node = await _start(config, stop)
    except (LogError, StoreError, OSError) as error:
        logger.error("node %s does not start: %s", config.node.name, error)
        return EXIT_REFUSED
    if node is None:
        return EXIT_OK
    _announce(node)
    stopping = loop.create_task(stop.wait())
    await asyncio.wait((stopping, node.fatal), return_when=asyncio.FIRST_COMPLETED)
    if node.fatal.done():
        logger.critical("node %s stops at once: %s", node.name, node.fatal.result())
        return EXIT_FAILED
    logger.info("node %s is stopping", node.name)
    await node.stop()
    logger.info("node %s stopped", node.name)
    return EXIT_OK


def main(config: Config) -> int:
    """`run_server` on an event loop of its own. Does not return after a fatal error."""
    set_up_logging(config.logging)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        code = runner.run(run_server(config))
        if code == EXIT_FAILED:
            logging.shutdown()
            os._exit(code)  # waits for no thread
    return code


GC_THRESHOLDS = (20_000, 20, 50)
"""With Python's own (700, 10, 10) the cycle collector took 17 % of the CPU under load. Requests leave no cycles behind,
so it may come seldom; much higher numbers save nothing more, but make its longest pause longer."""


def tune_interpreter() -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()  # what was imported stays; the collector need not look at it again


async def _start(config: Config, stop: asyncio.Event) -> Node | None:
    """None: asked to stop before it was ready."""
    starting = asyncio.ensure_future(Node.start(config))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.wait((starting,))
    return None


def _announce(node: Node) -> None:
    host, partitions = node.config.listen.host, len(node.processors)
    logger.info("node %s of cluster %s is ready: %d partitions in %s", node.name, node.cluster, partitions,
                node.config.node.data_dir)  # fmt: skip
    logger.info(
        "HTTP ingress http://%s:%d, gRPC %s:%d, admin http://%s:%d",
        host, node.http.port, host, node.grpc.port, host, node.admin.port,
    )  # fmt: skip
    for number, processor in node.processors.items():
        if processor.failure is not None:
            logger.error("partition %d does not work: %s", number, processor.failure)


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
