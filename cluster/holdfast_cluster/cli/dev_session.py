"""What `holdfast dev` does while it runs: a node in this process, the app in another, and the two kept together.

::

              ┌─ file changed ──▶ stop the app, start it again, register it with force
    events ───┼─ app ended ─────▶ it had been registered: start it again, a little later each time
              │                   it had not: say so, wait for a change
              ├─ Ctrl-C ────────▶ stop the app, then the node
              └─ node failed ───▶ leave at once

The app listens on a unix socket in the data directory. Its address is thus the same in every run, so invocations that
were under way when everything was killed find their deployment again, and no port can be taken by somebody else.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from holdfast_cluster.admin_error import AdminError
from holdfast_cluster.cli.app_process import LISTEN_SECONDS_MAX, AppProcess, AppTarget
from holdfast_cluster.cli.failure import FAILED, CommandFailed
from holdfast_cluster.cli.sample_call import curl_line, sample_call
from holdfast_cluster.cli.source_watch import watch
from holdfast_cluster.config import GRPC_PORT, Config
from holdfast_cluster.node import Node
from holdfast_log.types import LogError
from holdfast_partition_processor.command import Deployment
from holdfast_partition_processor.store_errors import StoreError

PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 10.0
STABLE_SECONDS = 10.0
"""An app that ran for so long is started again at once when it ends."""
SOCKET_PATH_BYTES_MAX = 100
"""The operating system's limit is 103 to 107."""


@dataclass(frozen=True)
class Changed:
    files: list[str]


@dataclass(frozen=True)
class Ended:
    app: AppProcess
    code: int


@dataclass(frozen=True)
class StartAgain:
    pass


@dataclass(frozen=True)
class Stop:
    pass


@dataclass(frozen=True)
class NodeFailed:
    error: BaseException


Event = Changed | Ended | StartAgain | Stop | NodeFailed


class DevSession:
    def __init__(self, node: Node, target: AppTarget, socket_path: Path, say: Callable[[str], None]) -> None:
        self._node = node
        self._target = target
        self._socket_path = socket_path
        self._say = say
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._app: AppProcess | None = None
        self._registered = False
        self._greeted = False
        self._pause = PAUSE_SECONDS_MIN
        self._started = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def run(self) -> None:
        """Until asked to stop. Raises CommandFailed when the node fails."""
        self._node.fatal.add_done_callback(lambda done: self.post(NodeFailed(done.result())))
        self._begin(watch(self._target.root, lambda files: self.post(Changed(files))))
        try:
            await self._start_app()
            while await self._handle(await self._events.get()):
                pass
        finally:
            for task in self._tasks:
                task.cancel()
            if self._app is not None:
                await self._app.stop()

    async def _handle(self, event: Event) -> bool:
        """False: that was the end."""
        match event:
            case Stop():
                return False
            case NodeFailed(error=error):
                raise CommandFailed(f"the node can't go on: {error}", FAILED)
            case Changed(files=files):
                self._say(f"{', '.join(files)} changed")
                self._pause = PAUSE_SECONDS_MIN
                await self._restart()
            case StartAgain() if self._app is None or self._app.ended:
                await self._restart()
            case Ended(app=app, code=code) if app is self._app:
                self._app_ended(code)
            case _:
                pass  # about an app that was replaced meanwhile
        return True

    async def _restart(self) -> None:
        if self._app is not None:
            await self._app.stop()
        await self._start_app()

    async def _start_app(self) -> None:
        self._registered = False
        self._started = asyncio.get_running_loop().time()
        self._app = app = await AppProcess.start(self._target, self._socket_path)
        self._begin(self._tell_end(app))
        self._begin(self._register(app))

    async def _tell_end(self, app: AppProcess) -> None:
        self.post(Ended(app, await app.wait()))

    async def _register(self, app: AppProcess) -> None:
        if not await app.listening():
            if not app.ended and app is self._app:
                seconds = f"{LISTEN_SECONDS_MAX:g} s"
                self._say(
                    f"{self._target.text} does not listen after {seconds}: does it call serve([...]) without bind=?"
                )
            return
        try:
            done = await self._node.registry.register(f"unix:{self._socket_path}", force=True)
        except AdminError as error:
            if app is self._app and not app.ended:
                self._say(f"{self._target.text} can't be registered: {error.message}")
            return
        if app is self._app:
            self._registered = True
            self._show(done.deployment, done.notes)

    def _app_ended(self, code: int) -> None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if not self._registered:
            advice = "; it must call serve([...]), or say what to serve with FILE:ATTRIBUTE" if code == 0 else ""
            self._say(f"{self._target.text} {how} before it served anything{advice}. Waiting for a change.")
            return
        if asyncio.get_running_loop().time() - self._started > STABLE_SECONDS:
            self._pause = PAUSE_SECONDS_MIN
        self._say(f"{self._target.text} {how}; it starts again in {self._pause:g} s, and what it was doing goes on")
        asyncio.get_running_loop().call_later(self._pause, self.post, StartAgain())
        self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)

    def _begin(self, work: object) -> None:
        """In the background. An error there is one of ours: it ends the session."""
        assert asyncio.iscoroutine(work)
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.post(NodeFailed(error))

    # ------------------------------------------------------------ what it says

    def _show(self, deployment: Deployment, notes: tuple[str, ...]) -> None:
        services = ", ".join(
            f"{service.name} ({', '.join(handler.name for handler in service.handlers)})"
            for service in deployment.services
        )
        self._say(f"{self._target.text} serves {services}")
        if self._greeted:
            for note in notes:
                self._say(note)
            return
        self._greeted = True
        sample = sample_call(deployment.services)
        if sample is not None:
            grpc_port = self._node.grpc.port
            where = "" if grpc_port == GRPC_PORT else f" --address 127.0.0.1:{grpc_port}"
            body = f" '{sample[1]}'" if sample[1] else ""
            self._say(f"try   {curl_line(self._node.http.port, *sample)}")
            self._say(f"or    holdfast call {sample[0]}{body}{where}")


async def run_dev(config: Config, target: AppTarget, say: Callable[[str], None]) -> None:
    """Raises CommandFailed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        node = await Node.start(config)
    except (LogError, StoreError, OSError) as error:
        raise CommandFailed(f"the node does not start: {error}", FAILED) from error
    _tell_addresses(node, say)
    session = DevSession(node, target, _socket_path(Path(config.node.data_dir)), say)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, session, say)
    if stop.is_set():
        session.post(Stop())
    try:
        await session.run()
    finally:
        if not node.fatal.done():
            await node.stop()


def _on_signal(session: DevSession, say: Callable[[str], None]) -> None:
    say("stopping (Ctrl-C again: at once; nothing is lost either way)")
    session.post(Stop())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, os._exit, 130)


def _tell_addresses(node: Node, say: Callable[[str], None]) -> None:
    host = node.config.listen.host
    say(
        f"node on http://{host}:{node.http.port} (calls), {host}:{node.grpc.port} (gRPC), "
        f"http://{host}:{node.admin.port} (health, metrics); data in {node.config.node.data_dir}"
    )


def _socket_path(data_dir: Path) -> Path:
    """The same for the same data directory."""
    path = data_dir.resolve() / "app.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    import hashlib
    import tempfile

    name = hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()
    directory = Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / f"{name}.sock"


def main(config: Config, target: AppTarget, say: Callable[[str], None]) -> None:
    """`run_dev` on an event loop of its own. Raises CommandFailed."""
    import uvloop

    from holdfast_cluster.node_logging import set_up_logging
    from holdfast_cluster.server import tune_interpreter

    set_up_logging(config.logging)
    tune_interpreter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(KeyboardInterrupt):
        runner.run(run_dev(config, target, say))
