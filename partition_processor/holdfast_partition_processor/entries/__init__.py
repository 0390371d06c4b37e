"""What each journal command does when it is appended: one module per command, and this table of them.

Each module has ``parse``, which reads a body and says what is wrong with it (InvalidFrame), and ``apply``, which
parses, appends the command to the journal unmodified, and then carries out its effect. So nothing of a frame that
can't be applied is stored. Who may send what:

=============  ==================================================================
state reads    handlers of virtual objects and workflows
state writes   exclusive handlers of virtual objects, and a workflow's run
promises       all handlers of workflows
the rest       every handler
=============  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from google.protobuf.message import Message

from holdfast_partition_processor.command import HandlerType, StoredFrame
from holdfast_partition_processor.entries import (
    attach_invocation,
    call,
    clear_all_state,
    clear_state,
    complete_awakeable,
    complete_promise,
    get_eager_state,
    get_eager_state_keys,
    get_invocation_output,
    get_lazy_state,
    get_lazy_state_keys,
    get_promise,
    one_way_call,
    output,
    peek_promise,
    run,
    send_signal,
    set_state,
    sleep,
)
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto.framing import MessageType as M


class Entry(NamedTuple):
    """``refusal`` completes the sentence that tells a handler not among ``handlers`` why."""

    parse: Callable[[bytes], Message]
    apply: Callable[[Turn, Live, StoredFrame], None]
    handlers: frozenset[HandlerType]
    refusal: str


_ALL = frozenset(HandlerType)
_KEYED = _ALL - {HandlerType.SERVICE}
_WRITERS = frozenset({HandlerType.EXCLUSIVE, HandlerType.WORKFLOW_RUN})
_WORKFLOW = frozenset({HandlerType.WORKFLOW_RUN, HandlerType.WORKFLOW_SHARED})
_NO_STATE = "a service without keys has no state"
_READ_ONLY = "state is written by exclusive handlers of virtual objects and by a workflow's run only"
_NO_PROMISES = "only workflows have promises"

ENTRIES: Mapping[int, Entry] = {
    M.OUTPUT: Entry(output.parse, output.apply, _ALL, ""),
    M.GET_LAZY_STATE: Entry(get_lazy_state.parse, get_lazy_state.apply, _KEYED, _NO_STATE),
    M.SET_STATE: Entry(set_state.parse, set_state.apply, _WRITERS, _READ_ONLY),
    M.CLEAR_STATE: Entry(clear_state.parse, clear_state.apply, _WRITERS, _READ_ONLY),
    M.CLEAR_ALL_STATE: Entry(clear_all_state.parse, clear_all_state.apply, _WRITERS, _READ_ONLY),
    M.GET_LAZY_STATE_KEYS: Entry(get_lazy_state_keys.parse, get_lazy_state_keys.apply, _KEYED, _NO_STATE),
    M.GET_EAGER_STATE: Entry(get_eager_state.parse, get_eager_state.apply, _KEYED, _NO_STATE),
    M.GET_EAGER_STATE_KEYS: Entry(get_eager_state_keys.parse, get_eager_state_keys.apply, _KEYED, _NO_STATE),
    M.GET_PROMISE: Entry(get_promise.parse, get_promise.apply, _WORKFLOW, _NO_PROMISES),
    M.PEEK_PROMISE: Entry(peek_promise.parse, peek_promise.apply, _WORKFLOW, _NO_PROMISES),
    M.COMPLETE_PROMISE: Entry(complete_promise.parse, complete_promise.apply, _WORKFLOW, _NO_PROMISES),
    M.SLEEP: Entry(sleep.parse, sleep.apply, _ALL, ""),
    M.CALL: Entry(call.parse, call.apply, _ALL, ""),
    M.ONE_WAY_CALL: Entry(one_way_call.parse, one_way_call.apply, _ALL, ""),
    M.SEND_SIGNAL: Entry(send_signal.parse, send_signal.apply, _ALL, ""),
    M.RUN: Entry(run.parse, run.apply, _ALL, ""),
    M.ATTACH_INVOCATION: Entry(attach_invocation.parse, attach_invocation.apply, _ALL, ""),
    M.GET_INVOCATION_OUTPUT: Entry(get_invocation_output.parse, get_invocation_output.apply, _ALL, ""),
    M.COMPLETE_AWAKEABLE: Entry(complete_awakeable.parse, complete_awakeable.apply, _ALL, ""),
}
