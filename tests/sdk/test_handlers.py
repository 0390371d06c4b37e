"""What a handler's author notices: errors, retries, cancellation, suspension, and advice about mistakes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import programs as p
import pytest
from conftest import MakeDriver
from driver import AttemptFailed, Driver, Record, check_every_prefix

from holdfast import (
    Cancelled,
    Context,
    Future,
    ObjectContext,
    RetryPolicy,
    Service,
    SharedContext,
    TerminalError,
    VirtualObject,
)
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M


def service(function: Callable[..., Any], **options: Any) -> tuple[Service, Any]:
    made = Service("made")
    return made, made.handler(**options)(function)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def failure(driver: Driver, handler: Any, *args: Any) -> pb.ErrorMessage:
    with pytest.raises(AttemptFailed) as failed:
        await driver.call(handler, *args)
    return failed.value.error


# -------------------------------------------------------------------- errors


async def test_an_exception_is_reported_with_its_trace_and_not_recorded(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        raise ValueError("out of luck")

    made, target = service(handler)
    driver = make_driver(made)
    error = await failure(driver, target)

    assert (error.code, error.message) == (500, "ValueError: out of luck")
    assert "test_handlers.py" in error.stacktrace
    assert [code for code, _ in next(iter(driver.records.values())).journal] == [M.INPUT]


async def test_a_failing_attempt_is_replayed_and_goes_on(make_driver: MakeDriver) -> None:
    runs: list[str] = []

    async def handler(ctx: Context) -> int:
        runs.append("handler")
        value = await ctx.run(lambda: runs.append("step") or 7)  # type: ignore[func-returns-value]
        if ctx.attempt < 3:
            raise OSError("try again")
        return value

    made, target = service(handler)
    assert await make_driver(made, retries=5).call(target) == 7
    assert runs == ["handler", "step", "handler", "handler"]


async def test_terminal_errors_in_a_task_group_are_terminal(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.run(p.broke, 1))

    made, target = service(handler)
    with pytest.raises(TerminalError, match="no 1") as error:
        await make_driver(made).call(target)
    assert error.value.code == 402
    assert error.value.metadata == {"reason": "poor"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"id": "1", "cents": "x"}', r"input of things/saga is not valid: `order`: .*\$\.cents"),
        (b"", "`order`"),
        (b"{", "`order`: "),
    ],
)
async def test_input_that_does_not_fit_is_a_400_that_names_the_field(
    make_driver: MakeDriver, body: bytes, words: str
) -> None:
    driver = make_driver(p.things)
    record = driver.begin_raw(p.saga.definition, "", body)
    with pytest.raises(TerminalError, match=words) as error:
        await driver.result(record)
    assert error.value.code == 400


async def test_a_result_that_cannot_be_serialised_is_a_clear_500(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> object:
        return object()

    made, target = service(handler)
    with pytest.raises(TerminalError, match="result of made/handler can't be serialised: .*object") as error:
        await make_driver(made).call(target)
    assert error.value.code == 500


async def test_a_step_result_that_cannot_be_serialised_names_the_step(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        await ctx.step(name="weird")(object)

    made, target = service(handler)
    with pytest.raises(TerminalError, match="result of step 'weird' can't be serialised"):
        await make_driver(made).call(target)


@pytest.mark.parametrize("write", ["set", "clear"])
async def test_a_shared_handler_that_writes_state_fails_at_the_call(make_driver: MakeDriver, write: str) -> None:
    things = VirtualObject("things")

    @things.shared
    async def sneak(ctx: SharedContext) -> None:
        getattr(ctx, write)(*(("x", 1) if write == "set" else ("x",)))

    with pytest.raises(TerminalError, match=rf"ctx\.{write} in things/sneak: a shared handler only reads"):
        await make_driver(things).call(sneak["k"])


async def test_a_service_has_no_state(make_driver: MakeDriver) -> None:
    async def handler(ctx: ObjectContext) -> None:
        await ctx.get("x", int)

    made, target = service(handler)
    with pytest.raises(TerminalError, match="a service has no state"):
        await make_driver(made).call(target)


async def test_sys_exit_in_a_handler_does_not_end_the_process(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        raise SystemExit(3)

    made, target = service(handler)
    assert "the handler raised SystemExit" in (await failure(make_driver(made), target)).message


# -------------------------------------------------------------------- steps


async def test_a_step_is_retried_by_its_policy_and_then_fails_for_good(make_driver: MakeDriver) -> None:
    runs = 0

    async def charge() -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError("card service is down")

    async def handler(ctx: Context) -> str:
        policy = RetryPolicy(initial_interval=1, factor=3, max_attempts=4)
        try:
            await ctx.step(name="charge", retry=policy)(charge)
        except TerminalError as error:
            return str(error)
        return "never"

    made, target = service(handler)
    driver = make_driver(made, retries=10)
    words = await driver.call(target)

    assert words == "step 'charge' failed 4 times, the last time with ConnectionError: card service is down"
    assert runs == 4
    errors = next(iter(driver.records.values())).errors
    assert [error.next_retry_delay for error in errors] == [1000, 3000, 9000]
    assert {(e.related_command_index, e.related_command_name, e.related_command_type) for e in errors} == {
        (1, "charge", M.RUN)
    }


async def test_a_step_gives_up_when_its_time_is_over(make_driver: MakeDriver) -> None:
    async def fails() -> None:
        raise ConnectionError("down")

    async def handler(ctx: Context) -> None:
        await ctx.step(retry=RetryPolicy(initial_interval=10, max_duration=35))(fails)

    made, target = service(handler)
    driver = make_driver(made, retries=10)
    with pytest.raises(TerminalError, match="step 'fails' failed 4 times"):
        await driver.call(target)


async def test_without_a_policy_the_node_decides_when_a_step_is_retried(make_driver: MakeDriver) -> None:
    async def fails() -> None:
        raise ConnectionError("down")

    async def handler(ctx: Context) -> None:
        await ctx.run(fails)

    made, target = service(handler)
    error = await failure(make_driver(made), target)
    assert error.message == "ConnectionError: down"
    assert not error.HasField("next_retry_delay")
    assert "in fails" in error.stacktrace


async def test_a_failing_step_does_not_disturb_its_siblings(make_driver: MakeDriver) -> None:
    runs = {"slow": 0, "flaky": 0}

    async def slow() -> str:
        runs["slow"] += 1
        await asyncio.sleep(0.05)
        return "slow"

    async def flaky() -> str:
        runs["flaky"] += 1
        if runs["flaky"] < 3:
            raise ConnectionError("not yet")
        return "flaky"

    async def handler(ctx: Context) -> list[str]:
        retried = ctx.step(retry=RetryPolicy(initial_interval=0.001))
        return list(await asyncio.gather(ctx.run(slow), retried(flaky)))

    made, target = service(handler)
    assert await make_driver(made).call(target) == ["slow", "flaky"]
    assert runs == {"slow": 1, "flaky": 3}


@pytest.mark.parametrize("replay", [False, True])
async def test_steps_may_be_functions_methods_lambdas_and_partials(make_driver: MakeDriver, replay: bool) -> None:
    import functools

    class Adder:
        def __call__(self, n: int) -> int:
            return n + 1

        async def method(self, n: int) -> int:
            return n + 2

    async def handler(ctx: Context) -> list[int]:
        return [
            await ctx.run(Adder(), 1),
            await ctx.run(Adder().method, 1),
            await ctx.run(lambda: p.double(2)),
            await ctx.run(functools.partial(p.triple, 3)),
            await ctx.run(max, 5, 6),
        ]

    made, target = service(handler)
    driver = make_driver(made, replay=replay)
    assert await driver.call(target) == [2, 3, 4, 9, 6]
    commands = next(iter(driver.records.values())).commands()
    names = [pb.RunCommandMessage.FromString(body).name for code, body in commands if code == M.RUN]
    assert names == ["Adder", "method", "<lambda>", "triple", "max"]


async def test_wrong_arguments_of_a_step_fail_the_attempt_clearly(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        await ctx.run(p.double, 1, 2)  # type: ignore[call-overload]

    made, target = service(handler)
    assert "takes 1 positional argument" in (await failure(make_driver(made), target)).message


async def test_a_plain_step_runs_beside_the_event_loop(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        await asyncio.gather(*(ctx.run(time.sleep, 0.1) for _ in range(5)))

    made, target = service(handler)
    before = time.monotonic()
    await make_driver(made).call(target)
    assert time.monotonic() - before < 0.4


async def test_a_step_that_uses_the_context_is_told_so(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        async def step() -> None:
            ctx.send(p.greet, "x")

        await ctx.run(step)

    made, target = service(handler)
    error = await failure(make_driver(made, p.things), target)
    assert "a context was used outside of its handler" in error.message
    assert "test_handlers.py" in error.message


# -------------------------------------------------------------------- cancellation


async def cancelled(driver: Driver, record: Record) -> str:
    await settle()
    driver.signal(record, 1)
    try:
        return (await driver.result(record)).decode()
    except TerminalError as error:
        return f"{error.code} {error.message}"


@pytest.mark.parametrize("replay", [False, True])
async def test_cancelling_reaches_the_child_and_lets_the_handler_compensate(
    make_driver: MakeDriver, replay: bool
) -> None:
    driver = make_driver(p.things, replay=replay)
    record = driver.begin(p.compensates)

    assert await cancelled(driver, record) == "409 cancelled"

    child = next(r for r in driver.records.values() if r.definition.name == "waits_long")
    with pytest.raises(TerminalError, match="cancelled"):
        await driver.result(child)
    codes = [code for code, _ in record.commands()]
    assert codes == [M.INPUT, M.CALL, M.SEND_SIGNAL, M.RUN, M.OUTPUT]
    await check_every_prefix(driver, record)


async def waits_in_sleep(ctx: Context) -> str:
    await asyncio.sleep(1000)
    return "never"


async def waits_in_gather(ctx: Context) -> str:
    await asyncio.gather(ctx.sleep(1000), ctx.sleep(2000))
    return "never"


async def waits_in_group(ctx: Context) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.sleep(1000))
        group.create_task(ctx.sleep(1000))
    return "never"


async def waits_in_timeout(ctx: Context) -> str:
    async with asyncio.timeout(10_000):
        await ctx.sleep(2000)
    return "never"


async def waits_for_an_event(ctx: Context) -> str:
    event = asyncio.Event()

    async def later() -> None:
        await ctx.sleep(1000)
        event.set()

    task = asyncio.create_task(later())
    await event.wait()
    await task
    return "never"


def waits_in_a_thread(ctx: Context) -> str:
    ctx.sleep(1000).result()
    return "never"


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize(
    "function",
    [waits_in_sleep, waits_in_gather, waits_in_group, waits_in_timeout, waits_for_an_event, waits_in_a_thread],
)
async def test_cancelling_ends_every_kind_of_wait(
    make_driver: MakeDriver, function: Callable[..., Any], replay: bool
) -> None:
    made, target = service(function)
    driver = make_driver(made, replay=replay)
    record = driver.begin(target)
    await asyncio.sleep(0.02)
    assert await cancelled(driver, record) == "409 cancelled"
    await check_every_prefix(driver, record)


async def test_a_handler_may_go_on_after_cancellation(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> str:
        try:
            await ctx.sleep(1000)
        except Cancelled as error:
            await ctx.sleep(1)
            return f"kept going after {error.code}"
        return "never"

    made, target = service(handler)
    driver = make_driver(made)
    assert await cancelled(driver, driver.begin(target)) == '"kept going after 409"'


# -------------------------------------------------------------------- suspension


async def test_a_suspension_names_all_that_is_awaited_and_the_cancel_signal(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        ctx.sleep(500)  # nobody waits for this one
        await asyncio.gather(ctx.awakeable(str), ctx.sleep(1000), ctx.call(p.waits_long))

    made, target = service(handler)
    driver = make_driver(made, p.things)
    record = driver.begin(target)
    await settle()
    driver.half_close(record)

    (suspension,) = record.suspensions
    assert list(suspension.waiting_signals) == [1, 17]
    assert list(suspension.waiting_completions) == [2, 4]


async def test_suspending_runs_no_code_of_the_handler_with_effect(make_driver: MakeDriver) -> None:
    seen: list[str] = []

    async def handler(ctx: Context) -> str:
        try:
            await ctx.sleep(10)
        except Exception:
            seen.append("except")
        finally:
            ctx.send(p.greet, "from finally")
            await ctx.run(p.double, 1)
            seen.append("finally")
        return "done"

    made, target = service(handler)
    driver = make_driver(made, p.things, replay=True)
    assert await driver.call(target) == "done"
    assert seen == ["finally"]
    record = next(iter(driver.records.values()))
    assert [code for code, _ in record.commands()] == [M.INPUT, M.SLEEP, M.ONE_WAY_CALL, M.RUN, M.OUTPUT]


async def test_a_step_that_runs_is_finished_before_the_handler_leaves(make_driver: MakeDriver) -> None:
    async def slow() -> str:
        await asyncio.sleep(0.03)
        return "done"

    async def handler(ctx: Context) -> str:
        return await ctx.run(slow)

    made, target = service(handler)
    driver = make_driver(made)
    record = driver.begin(target)
    await settle()
    driver.half_close(record)
    assert record.running is not None
    assert not record.suspensions
    assert await driver.result(record) == b'"done"'


async def test_handlers_that_wait_give_up_their_threads(make_driver: MakeDriver) -> None:
    made = Service("made")

    @made.handler
    def inner(ctx: Context, n: int) -> int:
        return ctx.run(p.double, n).result()

    @made.handler
    def outer(ctx: Context, n: int) -> int:
        return ctx.call(inner, n).result()

    driver = make_driver(made, handler_threads=2)
    results = await asyncio.gather(*(driver.call(outer, n) for n in range(10)))
    assert results == [2 * n for n in range(10)]
    suspended = [r for r in driver.records.values() if r.suspensions]
    assert suspended, "two threads can't hold ten handlers that wait"


# -------------------------------------------------------------------- advice


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: asyncio.to_thread(time.sleep, 0), "asyncio.to_thread"),
        (lambda: asyncio.open_connection("localhost", 1), "a network connection"),
        (lambda: asyncio.create_subprocess_exec("true"), "a subprocess"),
        (lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1), "a network connection"),
    ],
)
async def test_io_in_a_handler_is_refused_with_advice_and_place(
    make_driver: MakeDriver, function: Callable[[], Any], words: str
) -> None:
    async def handler(ctx: Context) -> None:
        await function()

    made, target = service(handler)
    error = await failure(make_driver(made), target)
    assert words in error.message
    assert "wrap this in ctx.run" in error.message
    assert "test_handlers.py:" in error.message


async def test_waiting_for_something_that_never_comes_is_found(make_driver: MakeDriver) -> None:
    async def handler(ctx: Context) -> None:
        await asyncio.get_running_loop().create_future()

    made, target = service(handler)
    error = await failure(make_driver(made), target)
    assert "the handler waits for something that will never come" in error.message
    assert "test_handlers.py:" in error.message
    assert "in handler" in error.message


async def test_a_future_of_another_loop_is_found(make_driver: MakeDriver) -> None:
    foreign: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handler(ctx: Context) -> None:
        await foreign

    made, target = service(handler)
    error = await failure(make_driver(made), target)
    assert "wrap this in ctx.run" in error.message
    assert "test_handlers.py" in error.stacktrace


async def test_await_in_a_plain_handler_is_explained(make_driver: MakeDriver) -> None:
    def handler(ctx: Context) -> None:
        future: Future[None] = ctx.sleep(1)
        future.send(None)

    made, target = service(handler)
    assert "waits with .result()" in (await failure(make_driver(made), target)).message
