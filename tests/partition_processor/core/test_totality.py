"""Apply is total: any batch that can be decoded ends with rows that can be stored, the same ones on every replica."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast_partition_processor import command as c
from holdfast_partition_processor import tables as t
from holdfast_partition_processor import timer_key
from holdfast_partition_processor.memory_storage import MemoryStorage, digest
from holdfast_partition_processor.state_machine import StateMachine
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from holdfast_proto.identifiers import encode_awakeable_id, encode_invocation_id

IDS = [bytes([n]) * 24 for n in (0, 3, 0x80, 0xFF)]
ids = st.sampled_from(IDS) | st.binary(max_size=30)
numbers = st.sampled_from([0, 1, 2, 17, -1, 2**16, 2**32, 2**63 - 1, 2**64 - 1, -(2**63)]) | st.integers(0, 20)
texts = st.sampled_from(["", "a", "k"]) | st.text(max_size=5)
bodies = st.binary(max_size=12)
failures = st.builds(c.Failure, numbers, texts, st.just(()) | st.just((("k", "v"),)))
targets = st.builds(c.Target, texts, texts, st.none() | texts, st.sampled_from(c.HandlerType))
sinks = st.builds(c.ResponseSink, ids, numbers, st.sampled_from([0x800D, 0x8012]) | numbers, numbers)
resolved = st.none() | st.builds(c.ResolvedCall, targets, numbers, numbers)

small = st.integers(0, 5)
names = st.sampled_from([encode_invocation_id(raw) for raw in IDS] + ["", "inv_1x"])
messages = st.one_of(
    st.builds(lambda n: (MessageType.RUN, pb.RunCommandMessage(result_completion_id=n)), small),
    st.builds(
        lambda n: (
            MessageType.PROPOSE_RUN_COMPLETION,
            pb.ProposeRunCompletionMessage(result_completion_id=n, value=b""),
        ),
        small,
    ),
    st.builds(
        lambda n, at: (MessageType.SLEEP, pb.SleepCommandMessage(result_completion_id=n, wake_up_time=at)),
        small,
        st.sampled_from([0, 5, 2**64 - 1]),
    ),
    st.builds(
        lambda n, at: (
            MessageType.CALL,
            pb.CallCommandMessage(
                service_name="s", handler_name="h", invocation_id_notification_idx=n, result_completion_id=at
            ),
        ),
        small,
        small,
    ),
    st.builds(
        lambda n, at: (
            MessageType.ONE_WAY_CALL,
            pb.OneWayCallCommandMessage(
                service_name="s", handler_name="h", invocation_id_notification_idx=n, invoke_time=at
            ),
        ),
        small,
        st.sampled_from([0, 5, 2**64 - 1]),
    ),
    st.builds(
        lambda who, n: (MessageType.SEND_SIGNAL, pb.SendSignalCommandMessage(target_invocation_id=who, idx=n)),
        names,
        st.sampled_from([0, 1, 17, 2**32 - 1]),
    ),
    st.builds(
        lambda raw, n: (
            MessageType.COMPLETE_AWAKEABLE,
            pb.CompleteAwakeableCommandMessage(awakeable_id=encode_awakeable_id(raw, n), value=pb.Value()),
        ),
        st.sampled_from(IDS),
        st.sampled_from([1, 17, 2**32 - 1]),
    ),
    st.builds(
        lambda who, n: (
            MessageType.ATTACH_INVOCATION,
            pb.AttachInvocationCommandMessage(invocation_id=who, result_completion_id=n),
        ),
        names,
        small,
    ),
    st.builds(lambda n: (MessageType.GET_PROMISE, pb.GetPromiseCommandMessage(result_completion_id=n)), small),
    st.builds(
        lambda n: (
            MessageType.COMPLETE_PROMISE,
            pb.CompletePromiseCommandMessage(result_completion_id=n, completion_failure=pb.Failure()),
        ),
        small,
    ),
    st.builds(lambda n: (MessageType.SUSPENSION, pb.SuspensionMessage(waiting_completions=[n])), small),
    st.just((MessageType.SET_STATE, pb.SetStateCommandMessage(key=b"", value=pb.Value()))),
    st.just((MessageType.CLEAR_ALL_STATE, pb.ClearAllStateCommandMessage())),
    st.just((MessageType.OUTPUT, pb.OutputCommandMessage(failure=pb.Failure()))),
    st.just((MessageType.END, pb.EndMessage())),
)
frames = st.builds(lambda pair, r: c.StoredFrame(int(pair[0]), pair[1].SerializeToString(), r), messages, resolved) | (
    st.builds(c.StoredFrame, st.sampled_from([int(code) for code in MessageType]) | numbers, bodies, resolved)
)
invokes = st.builds(
    c.Invoke, ids, targets, bodies, st.sampled_from(c.InvokedBy), bodies, st.none() | sinks, st.none() | texts,
    numbers, numbers, numbers, small,
)  # fmt: skip
timers = st.builds(timer_key.encode, st.sampled_from(TimerKind), st.sampled_from(IDS), small) | bodies
notifications = bodies | st.builds(
    lambda n: pb.Notification(signal_id=n, void=pb.Void()).SerializeToString(), st.sampled_from([0, 1, 17, 2**32 - 1])
)
message_commands = st.one_of(
    invokes,
    st.builds(c.NotifySignal, ids, notifications, small),
    st.builds(c.Cancel, ids, small),
    st.builds(c.Kill, ids, small, bodies),
    st.builds(c.InvocationResponse, sinks, bodies),
    st.builds(c.Attach, ids, sinks, st.booleans()),
)
decisions = st.builds(c.Retry, numbers) | st.just(c.Pause()) | st.just(c.GiveUp())
deployments = st.builds(
    c.Deployment, texts, texts, numbers, texts, numbers, numbers,
    st.just((c.Service("s", c.ServiceType.SERVICE, ()),)), st.just(()) | st.tuples(small),
)  # fmt: skip
commands = st.one_of(
    message_commands,
    st.builds(c.Effects, ids, st.integers(0, 3), st.lists(frames, max_size=5).map(tuple), texts, st.integers(0, 2)),
    st.builds(c.AttemptFailed, ids, st.integers(0, 3), failures, decisions, texts, numbers, texts, numbers),
    st.builds(c.TimerFired, numbers, timers),
    st.builds(c.Purge, ids, small),
    st.builds(c.EditState, texts, texts, st.lists(st.tuples(bodies, bodies)).map(tuple), st.just(()), st.booleans()),
    st.builds(c.Ingest, numbers, numbers, message_commands),
    st.builds(c.OutboxShipped, numbers, numbers),
    st.builds(c.RegisterDeployment, deployments, small),
    st.builds(c.RemoveDeployment, texts, small),
)
invoked = st.builds(
    c.Invoke, st.sampled_from(IDS), targets, bodies, completion_retention_ms=numbers, journal_retention_ms=numbers
)
effects = st.builds(c.Effects, st.sampled_from(IDS), st.integers(1, 2), st.lists(frames, max_size=4).map(tuple))
logs = st.lists(st.tuples(numbers, st.lists(commands | invoked | effects, max_size=4)), max_size=12)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs)
def test_any_log_is_applied_and_alike_everywhere(log: list[tuple[int, list[c.Command]]]) -> None:
    replicas = [MemoryStorage(), MemoryStorage()]
    machines = [StateMachine(storage, 0, 2) for storage in replicas]
    for index, (now_ms, batch) in enumerate(log, 1):
        payload = c.encode_batch(now_ms, batch)
        first, second = (machine.apply(index, c.decode_batch(payload)) for machine in machines)
        assert first == second
    assert digest(replicas[0]) == digest(replicas[1])
    for table in t.ALL_TABLES:
        decode, encode = table.decoder().decode, table.encoder().encode
        for group in replicas[0].scan_groups(table, b""):
            for _, row in replicas[0].scan(table, group):
                assert decode(encode(row)) == row, "what is stored is what will be read"
