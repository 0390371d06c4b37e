"""The SDK against a small node in memory, which can break the attempt off after every notification."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import Cancelled, Context, ObjectContext, Service, TerminalError, VirtualObject
from holdfast._replay import Attempt
from holdfast.handler import Handler
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M
from holdfast_proto.framing import completion_of, decode_frames, is_command

service = Service("tested")
thing = VirtualObject("thing")
executed: list[str] = []


async def double(n: int) -> int:
    executed.append(f"double {n}")
    return 2 * n


@service.handler
async def fan(ctx: Context, n: int) -> int:
    first, second = await asyncio.gather(ctx.run(double, n), ctx.run(double, n + 1))
    try:
        async with asyncio.timeout(5):
            await ctx.awakeable(str)
    except TimeoutError:
        second += 100
    async with asyncio.TaskGroup() as group:
        third = group.create_task(ctx.run(double, first))
    return first + second + third.result()


@thing.handler
async def count(ctx: ObjectContext, n: int) -> int:
    value = await ctx.get("v", int, 0) + n
    ctx.set("v", value)
    await ctx.sleep(1)
    return value + await ctx.get("v", int, 0)


@service.handler
async def compensates(ctx: Context) -> str:
    try:
        await ctx.sleep(1_000)
    except Cancelled:
        return f"undone {await ctx.run(double, 4)}"
    return "slept"


@service.handler
async def threads(ctx: Context) -> None:
    await asyncio.to_thread(print)


@service.handler
async def fails(ctx: Context, n: int) -> None:
    raise TerminalError("no", code=418)


class MemoryNode:
    """Keeps the journal, completes what can be completed, and starts the attempt again whenever ``always`` is set."""

    def __init__(self, handler: Handler[Any, Any], body: bytes, make: Any = Context, always: bool = False) -> None:
        self.handler, self.make, self.always = handler, make, always
        message = pb.InputCommandMessage(value=pb.Value(content=body))
        self.journal: list[tuple[int, bytes]] = [(M.INPUT, message.SerializeToString())]
        self.state: dict[bytes, bytes] = {}
        self.result: pb.OutputCommandMessage | None = None
        self.error: pb.ErrorMessage | None = None
        self.suspended = False
        self.threads = ThreadPoolExecutor(1)
        self.attempt: Attempt | None = None
        self.todo: list[tuple[int, bytes]] = []

    def start(self) -> None:
        self.suspended = False
        start = pb.StartMessage(id=b"i" * 24, debug_id="inv_1x", known_entries=len(self.journal), random_seed=7)
        for key, value in self.state.items():
            start.state_map.add(key=key, value=value)
        loop = asyncio.get_running_loop()
        self.attempt = Attempt(self.handler, self.make, start, 1, loop, self.threads, self.received, lambda: None)
        for code, body in self.journal:
            self.attempt.receive(code, body)
        loop.call_soon(self.attempt.advance)

    def received(self, data: bytes) -> None:
        for code, _, start, end in decode_frames(data):
            body = data[start:end]
            if is_command(code):
                self.journal.append((code, body))
                self.command(code, body)
            elif code == M.PROPOSE_RUN_COMPLETION:
                proposal = pb.ProposeRunCompletionMessage.FromString(body)
                found = pb.Notification(
                    completion_id=proposal.result_completion_id, value=pb.Value(content=proposal.value)
                )
                self.todo.append((M.RUN_COMPLETION, found.SerializeToString()))
            elif code == M.ERROR:
                self.error = pb.ErrorMessage.FromString(body)
            elif code == M.SUSPENSION:
                self.suspended = True

    def command(self, code: int, body: bytes) -> None:
        if code == M.OUTPUT:
            self.result = pb.OutputCommandMessage.FromString(body)
        elif code == M.SET_STATE:
            change = pb.SetStateCommandMessage.FromString(body)
            self.state[change.key] = change.value.content
        elif code == M.SLEEP and self.handler.name != "compensates":
            number = pb.SleepCommandMessage.FromString(body).result_completion_id
            slept = pb.Notification(completion_id=number, void=pb.Void())
            self.todo.append((completion_of(code), slept.SerializeToString()))

    async def run(self) -> pb.OutputCommandMessage:
        self.start()
        for _ in range(1_000):
            await asyncio.sleep(0)
            if self.error is not None:
                raise AssertionError(self.error.message)
            if self.result is not None:
                return self.result
            assert self.attempt is not None
            if self.todo:
                frame = self.todo.pop(0)
                self.journal.append(frame)
                if self.always:
                    self.attempt.abort()
                    self.start()
                else:
                    self.attempt.receive(*frame)
                    asyncio.get_running_loop().call_soon(self.attempt.advance)
        raise AssertionError("the handler does not come to an end")


async def test_gather_timeout_and_task_group_give_the_same_when_replayed_at_every_step() -> None:
    straight = await MemoryNode(fan, b"3").run()
    node = MemoryNode(fan, b"3", always=True)
    assert (await node.run()).value == straight.value
    assert straight.value.content == b"126"


async def test_state_that_was_read_is_the_same_in_a_replay() -> None:
    node = MemoryNode(count, b"5", ObjectContext, always=True)
    assert (await node.run()).value.content == b"10"


async def test_cancel_is_raised_at_the_await_and_can_be_compensated() -> None:
    node = MemoryNode(compensates, b"")
    signal = pb.Notification(signal_id=1, void=pb.Void())
    node.todo.append((M.SIGNAL, signal.SerializeToString()))
    assert (await node.run()).value.content == b'"undone 8"'


async def test_a_changed_handler_is_told_what_was_recorded_and_where_it_differs() -> None:
    node = MemoryNode(fan, b"3")
    await node.run()
    changed = pb.RunCommandMessage(result_completion_id=1, name="triple")
    node.journal[1] = (M.RUN, changed.SerializeToString())
    node.result = None
    with pytest.raises(AssertionError, match=r"triple(.|\n)*double(.|\n)*test_replay\.py"):
        await node.run()


async def test_what_is_not_durable_is_named_with_file_and_line() -> None:
    with pytest.raises(AssertionError, match=r"test_replay\.py:\d+(.|\n)*ctx\.run"):
        await MemoryNode(threads, b"").run()


async def test_terminal_errors_and_bad_input_are_results() -> None:
    assert (await MemoryNode(fails, b"1").run()).failure.code == 418
    refused = (await MemoryNode(fails, b'"x"').run()).failure
    assert refused.code == 400
    assert "tested/fails" in refused.message
