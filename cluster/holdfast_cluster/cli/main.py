"""holdfast: durable functions on a replicated log."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

EXIT_FAILED, EXIT_NOT_FOUND, EXIT_UNAVAILABLE = 1, 3, 4
address_option = click.option(
    "--address", envvar="HOLDFAST_ADDRESS", default="127.0.0.1:8081", show_default=True, help="gRPC address of a node."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 unavailable.")
@click.version_option(package_name="holdfast")
def main() -> None:
    """Durable execution for ordinary Python functions.

    \b
    Example:
      holdfast server &
      holdfast deployments register 127.0.0.1:9080
    """


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the node keeps everything [.holdfast].")
@click.option("--node", help="Name of this node [node-1].")
@click.option("--host", help="Address to bind to [127.0.0.1].")
@click.option("--http-port", type=int, help="HTTP ingress [8080].")
@click.option("--grpc-port", type=int, help="gRPC ingress and admin [8081].")
@click.option("--port-base", type=int, help="N: HTTP on N, gRPC on N+1.")
@click.option("--partitions", type=int, help="Number of partitions, fixed at the first start [4].")
def server(port_base: int | None, **flags: Any) -> None:
    """Run a node.

    \b
    Example:
      holdfast server --data-dir /var/lib/holdfast
    """
    import uvloop

    from holdfast_cluster.config import ConfigError, load
    from holdfast_cluster.node import Node
    from holdfast_cluster.server import run_server
    from holdfast_log import LogError
    from holdfast_partition_processor.store import StoreError

    if port_base is not None:
        flags = {
            **flags,
            "http_port": flags["http_port"] or port_base,
            "grpc_port": flags["grpc_port"] or port_base + 1,
        }
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    def ready(node: Node) -> None:
        host = node.config.host
        click.echo(f"holdfast {node.config.node}: http://{host}:{node.http_port} grpc {host}:{node.grpc_port}")
        sys.stdout.flush()

    try:
        code = uvloop.run(run_server(load(dict(os.environ), flags), ready))
    except (ConfigError, LogError, StoreError, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


@main.command()
@click.argument("app", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the node keeps everything [.holdfast].")
@click.option("--port-base", type=int, help="N: HTTP on N, gRPC on N+1 [8080].")
def dev(app: Path, data_dir: Path | None, port_base: int | None) -> None:
    """Run a node and APP (a Python file that calls serve) beside it; the app is started again when a file changes.

    \b
    Example:
      holdfast dev app.py
    """
    import uvloop

    from holdfast_cluster.cli.dev import run_dev
    from holdfast_cluster.config import ConfigError, load
    from holdfast_log import LogError
    from holdfast_partition_processor.store import StoreError

    ports = {} if port_base is None else {"http_port": port_base, "grpc_port": port_base + 1}
    try:
        config = load(dict(os.environ), {"data_dir": data_dir, **ports})
        code = uvloop.run(run_dev(app, config, lambda text: click.echo(text)))
    except (ConfigError, LogError, StoreError, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


@main.group()
def deployments() -> None:
    """Endpoints that run your handlers.

    \b
    Example:
      holdfast deployments list --json
    """


@deployments.command("register")
@click.argument("endpoint")
@click.option("--force", is_flag=True, help="Discover again although the address is known.")
@click.option("--breaking", is_flag=True, help="Accept a changed service type.")
@click.option("--dry-run", is_flag=True, help="Say what would happen.")
@address_option
@json_option
def register(endpoint: str, force: bool, breaking: bool, dry_run: bool, address: str, as_json: bool) -> None:
    """Register the endpoint at ENDPOINT (host:port).

    \b
    Example:
      holdfast deployments register 127.0.0.1:9080
    """
    from holdfast_proto import admin_pb2 as ad

    request = ad.RegisterDeploymentRequest(address=endpoint, force=force, breaking=breaking, dry_run=dry_run)
    answer = _ask(address, "RegisterDeployment", request)
    outcome = ad.RegisterDeploymentResponse.Outcome.Name(answer.outcome).lower()
    names = ", ".join(f"{s.name} (revision {s.revision})" for s in answer.deployment.services)
    _show(answer, as_json, f"{answer.deployment.id} {outcome}: {names}")


@deployments.command("list")
@address_option
@json_option
def list_deployments(address: str, as_json: bool) -> None:
    """All deployments.

    \b
    Example:
      holdfast deployments list
    """
    from holdfast_proto import admin_pb2 as ad

    answer = _ask(address, "ListDeployments", ad.ListDeploymentsRequest())
    lines = [f"{d.id}  {d.address}  {', '.join(s.name for s in d.services)}" for d in answer.deployments]
    _show(answer, as_json, "\n".join(lines) or "no deployments")


@main.group()
def invocations() -> None:
    """What runs, ran and waits.

    \b
    Example:
      holdfast invocations list --service orders
    """


@invocations.command("list")
@click.option("--service", default="", help="Only of this service.")
@click.option("--limit", default=100, show_default=True, help="At most so many.")
@address_option
@json_option
def list_invocations(service: str, limit: int, address: str, as_json: bool) -> None:
    """Invocations, by partition and age.

    \b
    Example:
      holdfast invocations list --limit 20
    """
    from holdfast_proto import admin_pb2 as ad

    answer = _ask(address, "ListInvocations", ad.ListInvocationsRequest(service=service, page_size=limit))
    lines = []
    for row in answer.invocations:
        target = "/".join(part for part in (row.service, row.key, row.handler) if part)
        lines.append(f"{row.id}  {ad.InvocationStatus.Name(row.status).lower():12} {target}  {row.last_failure[:80]}")
    _show(answer, as_json, "\n".join(lines) or "no invocations")


@invocations.command("describe")
@click.argument("invocation_id")
@address_option
@json_option
def describe(invocation_id: str, address: str, as_json: bool) -> None:
    """One invocation with its journal as a timeline.

    \b
    Example:
      holdfast invocations describe inv_1...
    """
    from holdfast_proto import admin_pb2 as ad

    answer = _ask(address, "GetInvocation", ad.GetInvocationRequest(id=invocation_id))
    row = answer.invocation
    lines = [
        f"{row.id} {row.service}/{row.handler} {ad.InvocationStatus.Name(row.status).lower()} attempt {row.attempt}"
    ]
    if row.last_failure:
        lines.append(f"last failure: {row.last_failure}")
    for entry in answer.journal:
        lines.append(f"  {entry.index:4}  +{entry.appended_at_ms - row.created_at_ms:7} ms  {entry.type_name}")
    _show(answer, as_json, "\n".join(lines))


@invocations.command("cancel")
@click.argument("invocation_id")
@address_option
@json_option
def cancel(invocation_id: str, address: str, as_json: bool) -> None:
    """Ask an invocation to end; it may compensate.

    \b
    Example:
      holdfast invocations cancel inv_1...
    """
    from holdfast_proto import admin_pb2 as ad

    _show(_ask(address, "CancelInvocation", ad.InvocationRequest(id=invocation_id)), as_json, "cancelled")


@invocations.command("kill")
@click.argument("invocation_id")
@address_option
@json_option
def kill(invocation_id: str, address: str, as_json: bool) -> None:
    """End an invocation and what it called now, without compensation.

    \b
    Example:
      holdfast invocations kill inv_1...
    """
    from holdfast_proto import admin_pb2 as ad

    _show(_ask(address, "KillInvocation", ad.InvocationRequest(id=invocation_id)), as_json, "killed")


@main.group()
def services() -> None:
    """What can be called.

    \b
    Example:
      holdfast services list
    """


@services.command("list")
@address_option
@json_option
def list_services(address: str, as_json: bool) -> None:
    """Each service at its latest revision.

    \b
    Example:
      holdfast services list --json
    """
    from holdfast_proto import admin_pb2 as ad

    answer = _ask(address, "ListServices", ad.ListServicesRequest())
    lines = [
        f"{s.manifest.name}  revision {s.revision}  {s.deployment_id}  {', '.join(h.name for h in s.manifest.handlers)}"
        for s in answer.services
    ]
    _show(answer, as_json, "\n".join(lines) or "no services")


@main.group()
def state() -> None:
    """State of virtual objects and workflows.

    \b
    Example:
      holdfast state get counter Ada
    """


@state.command("get")
@click.argument("service")
@click.argument("key")
@address_option
@json_option
def get_state(service: str, key: str, address: str, as_json: bool) -> None:
    """All state of one key.

    \b
    Example:
      holdfast state get counter Ada
    """
    from holdfast_proto import admin_pb2 as ad

    answer = _ask(address, "ListState", ad.ListStateRequest(service=service, key=key))
    entries = [entry for found in answer.objects for entry in found.entries]
    lines = [f"{entry.name} = {entry.value.decode('utf-8', 'replace')}" for entry in entries]
    _show(answer, as_json, "\n".join(lines) or "no state")


@main.command()
@click.argument("target")
@click.argument("body", required=False)
@click.option("--ingress", envvar="HOLDFAST_INGRESS", default="http://127.0.0.1:8080", show_default=True)
@click.option("--idempotency-key", help="The same key gives the same invocation and result.")
def call(target: str, body: str | None, ingress: str, idempotency_key: str | None) -> None:
    """Call TARGET (SERVICE/HANDLER or SERVICE/KEY/HANDLER) with the JSON BODY and print the result.

    \b
    Example:
      holdfast call greeter/greet '"Ada"'
    """
    import urllib.error
    import urllib.request

    headers = {"content-type": "application/json"}
    if idempotency_key is not None:
        headers["idempotency-key"] = idempotency_key
    data = body.encode() if body is not None else b""
    request = urllib.request.Request(f"{ingress}/{target}", data, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=960) as answer:
            click.echo(answer.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        click.echo(f"holdfast: {error.read().decode('utf-8', 'replace')}", err=True)
        sys.exit(EXIT_NOT_FOUND if error.code == 404 else EXIT_UNAVAILABLE if error.code == 503 else EXIT_FAILED)
    except OSError as error:
        click.echo(f"holdfast: {ingress} can't be reached: {error}", err=True)
        sys.exit(EXIT_UNAVAILABLE)


@main.command()
@address_option
@json_option
def status(address: str, as_json: bool) -> None:
    """The node and its partitions.

    \b
    Example:
      holdfast status
    """
    from holdfast_proto import admin_pb2 as ad

    answer = _ask(address, "GetStatus", ad.GetStatusRequest())
    lines = [f"{answer.node} of {answer.cluster}, version {answer.version}"]
    for p in answer.partitions:
        role = "leads" if p.leader else "follows"
        lines.append(f"  partition {p.partition}: {role} in term {p.term}, applied {p.applied_index} of {p.last_index}")
    _show(answer, as_json, "\n".join(lines))


def _ask(address: str, method: str, request: Any) -> Any:
    import grpc

    from holdfast_proto.admin_pb2_grpc import AdminStub

    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            return getattr(AdminStub(channel), method)(request, timeout=30)
        except grpc.RpcError as error:
            failed: Any = error
            click.echo(f"holdfast: {failed.details()}", err=True)
            codes = {grpc.StatusCode.NOT_FOUND: EXIT_NOT_FOUND, grpc.StatusCode.UNAVAILABLE: EXIT_UNAVAILABLE}
            sys.exit(codes.get(failed.code(), EXIT_FAILED))


def _show(answer: Any, as_json: bool, text: str) -> None:
    if as_json:
        from google.protobuf.json_format import MessageToDict

        click.echo(json.dumps(MessageToDict(answer, preserving_proto_field_name=True)))
    else:
        click.echo(text)
