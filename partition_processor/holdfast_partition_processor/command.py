"""Commands: everything that may stand in a partition's log. Applying them is the only way state changes.

One log entry holds one `Batch`: all commands that arrived while the flush before was on its way to the disk, with
the leader's wall clock. They are MessagePack arrays; the number that leads each names its kind. A field may only be
added at the end and with a default, a number is never used again, so an older log stays readable.

Whatever needs the world outside the log (the clock, jitter, which deployment is the latest, what kind of handler a
name means) is looked up by the leader and written into the command, so that applying it is a pure function.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import msgspec

FORMAT_VERSION = 1


class HandlerType(IntEnum):
    SERVICE = 0
    EXCLUSIVE = 1
    SHARED = 2
    WORKFLOW_RUN = 3
    WORKFLOW_SHARED = 4


class Target(msgspec.Struct, frozen=True, array_like=True):
    """What is called. ``key`` is None exactly for a SERVICE."""

    service: str
    handler: str
    key: str | None
    type: HandlerType


class Failure(msgspec.Struct, frozen=True, array_like=True):
    code: int
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


class InvokedBy(IntEnum):
    INGRESS = 0
    SERVICE = 1
    RESTART = 2


class ResponseSink(msgspec.Struct, frozen=True, array_like=True):
    """Where a result goes durably: a completion of the calling invocation's journal."""

    caller: bytes
    completion_id: int
    notification: int  # 0x800D for a call, 0x8012 for an attach
    incarnation: int = 0  # of the caller, see Invocation: a later one with the same id did not ask


class Invoke(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Start an invocation, or attach to the one with this id if there is one already."""

    id: bytes
    target: Target
    input: bytes  # body of the InputCommand frame: headers and value
    by: InvokedBy = InvokedBy.INGRESS
    by_id: bytes = (
        b""  # the calling invocation; of an ingress what tells this call from others, if it may send it again
    )
    sink: ResponseSink | None = None
    idempotency_key: str | None = None
    execute_at_ms: int = 0  # 0: now
    completion_retention_ms: int = 0  # how long the result answers later calls
    journal_retention_ms: int = 0  # how long the journal can be looked at
    request: int = 0  # the leader's correlation number, 0: nobody waits for acceptance


class ResolvedCall(msgspec.Struct, frozen=True, array_like=True):
    """What the leader looked up for a Call, OneWayCall, Attach or GetOutput frame."""

    target: Target
    completion_retention_ms: int = 0
    journal_retention_ms: int = 0


class StoredFrame(msgspec.Struct, frozen=True, array_like=True):
    """A frame that an endpoint sent. ``resolved`` is set for Call and OneWayCall."""

    type: int
    body: bytes
    resolved: ResolvedCall | None = None


class Effects(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """What one attempt sent within one flush, in order. Ignored unless ``attempt`` is the current one."""

    id: bytes
    attempt: int
    frames: tuple[StoredFrame, ...]
    deployment: str = ""  # pins the invocation, when it is not yet
    incarnation: int = 0  # Invocation.incarnation of the attempt; 0: not compared


class Retry(msgspec.Struct, frozen=True, array_like=True, tag=1):
    at_ms: int


class Pause(msgspec.Struct, frozen=True, array_like=True, tag=2):
    pass


class GiveUp(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The invocation ends with the failure."""


class AttemptFailed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The attempt ended without result. The leader decided by policy, jitter included, what comes next."""

    id: bytes
    attempt: int
    failure: Failure
    then: Retry | Pause | GiveUp
    deployment: str = ""
    related_index: int = -1  # command index that the endpoint named, -1: none
    related_name: str = ""
    related_type: int = -1
    incarnation: int = 0  # as in Effects


class TimerFired(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A timer is due. Ignored when its row is gone."""

    due_ms: int
    timer: bytes  # rest of its key, see timer_key


class NotifySignal(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A signal for an invocation, as body of the Notification frame: index or name, and result."""

    id: bytes
    notification: bytes
    request: int = 0


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=6):
    id: bytes
    request: int = 0


class Kill(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """``parent``: only if that invocation called it, since an idempotency key may have led to somebody else's."""

    id: bytes
    request: int = 0
    parent: bytes = b""


class Purge(msgspec.Struct, frozen=True, array_like=True, tag=8):
    id: bytes
    request: int = 0


class EditState(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Applied at once, also while a handler holds the object: a handler that fails over and over because of what is
    stored must be curable. ``replace``: what is not in ``set`` goes."""

    service: str
    key: str
    set: tuple[tuple[bytes, bytes], ...]
    clear: tuple[bytes, ...]
    replace: bool
    request: int = 0


class InvocationResponse(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The result of a call, for the caller's journal: body of the Notification frame."""

    sink: ResponseSink
    notification: bytes


class Attach(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A handler wants the result of an invocation: now if it is there, else when it is (``wait``)."""

    id: bytes
    sink: ResponseSink
    wait: bool


Message: TypeAlias = Invoke | NotifySignal | Cancel | Kill | InvocationResponse | Attach
"""What one partition may send another. Within a partition it is applied in the same step."""


class Ingest(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A message from another partition's outbox. Applied once: a sequence number that is not above the highest
    one seen from ``source`` is ignored."""

    source: int
    sequence: int
    message: Message


class OutboxShipped(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """``target`` has everything up to ``sequence`` in its log."""

    target: int
    sequence: int


class HandlerOptions(msgspec.Struct, frozen=True, array_like=True):
    """None: the next wider setting is in force (handler, service, node)."""

    inactivity_timeout_ms: int | None = None
    abort_timeout_ms: int | None = None
    journal_retention_ms: int | None = None
    idempotency_retention_ms: int | None = None
    workflow_completion_retention_ms: int | None = None
    enable_lazy_state: bool | None = None
    ingress_private: bool | None = None
    retry_initial_interval_ms: int | None = None
    retry_max_interval_ms: int | None = None
    retry_factor: float | None = None
    retry_max_attempts: int | None = None
    retry_on_max_attempts: str | None = None  # "pause" or "kill"


class PayloadRule(msgspec.Struct, frozen=True, array_like=True):
    required: bool = False
    content_type: str | None = None
    json_schema: str = ""
    set_content_type_if_empty: bool = False


class Handler(msgspec.Struct, frozen=True, array_like=True):
    name: str
    type: HandlerType
    input: PayloadRule
    output: PayloadRule
    options: HandlerOptions = HandlerOptions()
    documentation: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


class ServiceType(IntEnum):
    SERVICE = 1
    VIRTUAL_OBJECT = 2
    WORKFLOW = 3


class Service(msgspec.Struct, frozen=True, array_like=True):
    name: str
    type: ServiceType
    handlers: tuple[Handler, ...]
    options: HandlerOptions = HandlerOptions()
    documentation: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


class Deployment(msgspec.Struct, frozen=True, array_like=True):
    """An endpoint and the services it was found to run. ``revisions[i]`` belongs to ``services[i]``."""

    id: str
    address: str
    created_at_ms: int
    sdk: str
    min_protocol_version: int
    max_protocol_version: int
    services: tuple[Service, ...]
    revisions: tuple[int, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


class RegisterDeployment(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Partition 0 only. A deployment with a known id replaces that one (forced registration). Its revisions are counted
    when it is applied; a second one with the same address is refused."""

    deployment: Deployment
    request: int = 0


class RemoveDeployment(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Partition 0 only."""

    id: str
    request: int = 0


Command: TypeAlias = (
    Invoke
    | Effects
    | AttemptFailed
    | TimerFired
    | NotifySignal
    | Cancel
    | Kill
    | Purge
    | EditState
    | InvocationResponse
    | Attach
    | Ingest
    | OutboxShipped
    | RegisterDeployment
    | RemoveDeployment
)


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The payload of one log entry."""

    version: int
    now_ms: int  # wall clock of the leader, milliseconds since the epoch
    commands: tuple[Command, ...]


class UnknownCommand(Exception):
    """The log holds something that this release does not know: a newer release wrote it."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)


def encode_batch(now_ms: int, commands: list[Command]) -> bytes:
    return _encoder.encode(Batch(FORMAT_VERSION, now_ms, tuple(commands)))


def decode_batch(payload: bytes) -> Batch:
    """Raises UnknownCommand. A partition that meets one must stop: to skip it would let replicas differ."""
    try:
        batch = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise UnknownCommand(f"log entry can't be read by this release: {error}") from error
    if batch.version > FORMAT_VERSION:
        raise UnknownCommand(f"log entry has format {batch.version}, this release knows up to {FORMAT_VERSION}")
    return batch


_command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def encode_command(command: Command) -> tuple[bytes, Command]:
    """The bytes of one command, and the command as every replica reads it from them. To read it back here means that
    nothing unreadable gets into a log, where it would stop the partition for good. Raises whatever msgspec does."""
    encoded = _encoder.encode(command)
    return encoded, _command_decoder.decode(encoded)


def join_batch(now_ms: int, encoded: list[bytes]) -> bytes:
    """The same bytes as `encode_batch` of the commands that were encoded."""
    return _encoder.encode((FORMAT_VERSION, now_ms, [msgspec.Raw(command) for command in encoded]))
