"""Everything about a node that can be set, each key with its type, default, range and meaning.

A key is ``section.name``. It is looked for in this order; the first that has it wins::

    flags (``--set section.name=value``)  >  HOLDFAST_SECTION_NAME  >  [section] name, in the file  >  the default

A field that ends in ``_ms`` is a duration and one that ends in ``_bytes`` a size: their keys leave that away, and their
values have units ("15m", "32MiB"). `config_loading.load` makes a Config, `config_loading.describe` lists the keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MIB = 1024 * 1024
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
DAY, YEAR = 24 * HOUR, 365 * 24 * HOUR

Port = Annotated[int, Meta(ge=0, le=65_535)]

HTTP_PORT, GRPC_PORT, ADMIN_PORT = 8080, 8081, 9070


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the configuration file."""


class NodeConfig(Section, frozen=True):
    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$",
            description="Name of this node in its cluster. Its data directory belongs to this name for good.",
        ),
    ] = "node-1"
    cluster: Annotated[
        str,
        Meta(
            pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$",
            description="Name of the cluster. Nodes and data of another cluster are refused.",
        ),
    ] = "holdfast"
    data_dir: Annotated[str, Meta(min_length=1, description="Where the journal and the tables are kept.")] = (
        "holdfast-data"
    )
    partitions: Annotated[
        int,
        Meta(ge=1, le=1_024, description="Number of partitions. Fixed when the data directory is first used."),
    ] = 4
    stop_grace_ms: Annotated[
        int, Meta(ge=0, le=HOUR, description="How long requests may finish when the node is asked to stop.")
    ] = 5 * SECOND


class ListenConfig(Section, frozen=True):
    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on. There is no authentication: keep it private.")
    ] = "127.0.0.1"
    port_base: Annotated[
        Port | None,
        Meta(description="N moves all ports together: HTTP ingress N, gRPC N+1, admin N+2. 0: any free port each."),
    ] = None
    http_port: Annotated[Port | None, Meta(description="HTTP ingress; 8080 unless port_base is set.")] = None
    grpc_port: Annotated[
        Port | None, Meta(description="gRPC: ingress, admin, health, reflection; 8081 unless port_base is set.")
    ] = None
    admin_port: Annotated[
        Port | None, Meta(description="Admin HTTP: health, metrics, version; 9070 unless port_base is set.")
    ] = None

    @property
    def http(self) -> int:
        return self._port(self.http_port, 0, HTTP_PORT)

    @property
    def grpc(self) -> int:
        return self._port(self.grpc_port, 1, GRPC_PORT)

    @property
    def admin(self) -> int:
        return self._port(self.admin_port, 2, ADMIN_PORT)

    def _port(self, own: int | None, offset: int, default: int) -> int:
        if own is not None:
            return own
        if self.port_base is not None:
            return self.port_base + offset if self.port_base else 0
        return default


class IngressConfig(Section, frozen=True):
    request_timeout_ms: Annotated[
        int,
        Meta(
            ge=100,
            le=YEAR,
            description="How long a call waits for its result. The answer then names the invocation, to attach to.",
        ),
    ] = 15 * MINUTE
    requests_outstanding_max: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Requests that wait on this node; more are answered with 429.")
    ] = 100_000
    body_max_bytes: Annotated[
        int,
        Meta(ge=1, le=32 * MIB, description="Largest body of a request (413). The protocol carries 32MiB at most."),
    ] = 32 * MIB
    header_max_bytes: Annotated[
        int, Meta(ge=1_024, le=MIB, description="URL and headers of one request, together (431).")
    ] = 32 * 1024
    header_count_max: Annotated[int, Meta(ge=10, le=10_000, description="Headers of one request (431).")] = 100
    connections_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="HTTP connections at once; more are answered with 503.")
    ] = 10_000
    head_timeout_ms: Annotated[
        int, Meta(ge=100, le=HOUR, description="From the first byte of a request to the end of its headers (408).")
    ] = 10 * SECOND
    body_timeout_ms: Annotated[
        int, Meta(ge=100, le=HOUR, description="For the body, beyond what 16 KiB/s allow for its size (408).")
    ] = 30 * SECOND
    idle_timeout_ms: Annotated[
        int, Meta(ge=100, le=DAY, description="A connection without requests is closed after this.")
    ] = 2 * MINUTE
    stream_requests_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Requests at once in one InvokeStream; then it is not read on.")
    ] = 4_096


class LogConfig(Section, frozen=True):
    segment_size_bytes: Annotated[
        int,
        Meta(ge=MIB, le=1024 * MIB, description="Size of the journal's files. A record may be larger than that."),
    ] = 64 * MIB


class TablesConfig(Section, frozen=True):
    checkpoint_interval_ms: Annotated[
        int,
        Meta(ge=10, le=MINUTE, description="How long a change may be in the log only: what a restart has to replay."),
    ] = 500
    pending_max_bytes: Annotated[
        int,
        Meta(ge=MIB, le=1024 * MIB, description="Changes per partition that wait for the disk; then work is refused."),
    ] = 64 * MIB


class InvokerConfig(Section, frozen=True):
    concurrent_attempts_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Handlers that run at once per partition; more wait their turn.")
    ] = 1_000
    eager_state_max_bytes: Annotated[
        int,
        Meta(ge=0, le=16 * MIB, description="State of an object that is sent with a call; the rest is read on demand."),
    ] = MIB


class ServicesConfig(Section, frozen=True):
    """Defaults for handlers; services and handlers can say otherwise."""

    inactivity_timeout_ms: Annotated[
        int, Meta(ge=0, le=YEAR, description="A handler that is silent for so long is asked to suspend.")
    ] = MINUTE
    abort_timeout_ms: Annotated[
        int, Meta(ge=0, le=YEAR, description="If it stays silent for so long after that, its attempt is cut.")
    ] = 10 * MINUTE
    journal_retention_ms: Annotated[
        int, Meta(ge=0, le=YEAR, description="How long the journal of a completed invocation can be looked at.")
    ] = DAY
    idempotency_retention_ms: Annotated[
        int, Meta(ge=0, le=YEAR, description="How long the result of a call with an idempotency key answers others.")
    ] = DAY
    workflow_completion_retention_ms: Annotated[
        int, Meta(ge=0, le=YEAR, description="How long a workflow's result, state and promises are kept.")
    ] = DAY
    retry_initial_interval_ms: Annotated[
        int, Meta(ge=1, le=DAY, description="Wait before the first retry of a failed attempt.")
    ] = 500
    retry_max_interval_ms: Annotated[int, Meta(ge=1, le=YEAR, description="Longest wait between retries.")] = MINUTE
    retry_factor: Annotated[float, Meta(ge=1, le=1_000, description="By how much each wait is longer.")] = 2.0
    retry_max_attempts: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="Attempts without progress before retry_on_max_attempts.")
    ] = 70
    retry_on_max_attempts: Annotated[
        Literal["pause", "kill"], Meta(description="pause: wait for an operator; kill: fail the invocation.")
    ] = "pause"


class LoggingConfig(Section, frozen=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe messages that are written.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="One line per message: for people, or for programs.")
    ] = "text"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: NodeConfig = NodeConfig()
    listen: ListenConfig = ListenConfig()
    ingress: IngressConfig = IngressConfig()
    log: LogConfig = LogConfig()
    tables: TablesConfig = TablesConfig()
    invoker: InvokerConfig = InvokerConfig()
    services: ServicesConfig = ServicesConfig()
    logging: LoggingConfig = LoggingConfig()
