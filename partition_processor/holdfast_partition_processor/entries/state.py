"""State of a virtual object or workflow key: read at the moment of apply, changed in the same step."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.turn import Live, Turn, completion
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def group_of(live: Live) -> bytes:
    return t.object_group(live.row.target.service, live.row.target.key or "")


def get_lazy(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.GetLazyStateCommandMessage.FromString(frame.body)
    value = turn.storage.get(t.STATE, group_of(live), command.key)
    live.complete(turn, MessageType.GET_LAZY_STATE_COMPLETION, completion(command.result_completion_id, value, None))


def get_lazy_keys(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.GetLazyStateKeysCommandMessage.FromString(frame.body)
    keys = [name for name, _ in turn.storage.scan(t.STATE, group_of(live))]
    found = pb.Notification(completion_id=command.result_completion_id, state_keys=pb.StateKeys(keys=keys))
    live.complete(turn, MessageType.GET_LAZY_STATE_KEYS_COMPLETION, found)


def set_one(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.SetStateCommandMessage.FromString(frame.body)
    turn.storage.put(t.STATE, group_of(live), command.key, command.value.content)


def clear_one(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.ClearStateCommandMessage.FromString(frame.body)
    turn.storage.delete(t.STATE, group_of(live), command.key)


def clear_all(turn: Turn, live: Live, frame: StoredFrame) -> None:
    turn.storage.delete_group(t.STATE, group_of(live))
