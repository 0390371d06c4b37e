"""What each journal command does when it is appended: one module per kind, one function per command.

Every function has the form ``(turn, live, frame) -> None`` and is called after the command's frame was appended. A body
that does not decode raises google.protobuf's DecodeError, which fails the attempt.
"""

from collections.abc import Callable, Mapping

from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.entries import attach, awakeable, call, promise, run, signal, sleep, state
from holdfast_partition_processor.turn import Live, Turn
from holdfast_proto.framing import MessageType as M

Effect = Callable[[Turn, Live, StoredFrame], None]


def journal_only(turn: Turn, live: Live, frame: StoredFrame) -> None:
    """The command has no effect but to stand in the journal."""


EFFECTS: Mapping[int, Effect] = {
    M.OUTPUT: journal_only,
    M.GET_LAZY_STATE: state.get_lazy,
    M.SET_STATE: state.set_one,
    M.CLEAR_STATE: state.clear_one,
    M.CLEAR_ALL_STATE: state.clear_all,
    M.GET_LAZY_STATE_KEYS: state.get_lazy_keys,
    M.GET_EAGER_STATE: journal_only,
    M.GET_EAGER_STATE_KEYS: journal_only,
    M.GET_PROMISE: promise.get,
    M.PEEK_PROMISE: promise.peek,
    M.COMPLETE_PROMISE: promise.complete,
    M.SLEEP: sleep.sleep,
    M.CALL: call.call,
    M.ONE_WAY_CALL: call.one_way_call,
    M.SEND_SIGNAL: signal.send,
    M.RUN: journal_only,
    M.ATTACH_INVOCATION: attach.attach,
    M.GET_INVOCATION_OUTPUT: attach.get_output,
    M.COMPLETE_AWAKEABLE: awakeable.complete,
}
propose_run_completion = run.propose_completion
